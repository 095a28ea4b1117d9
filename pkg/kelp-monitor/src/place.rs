//! Where a container's cgroup is, told before it is made: `place` in the runtime directory.
//!
//! A monitor that is killed between making the cgroup and saying in run.json where it is would leave
//! one that nobody finds, and that is in the way of the next start.

use std::fs;
use std::path::{Path, PathBuf};

use kelp_runtime::cgroup::Cgroup;
use kelp_state::Record;

use crate::error::Error;

const FILE: &str = "place";

/// The name of a container's cgroup.
pub(crate) fn cgroup_name(record: &Record) -> String {
    format!("kelp-{}", record.id)
}

/// Notes where this process is in the tree of cgroups: the container's is below that, or below one
/// of the cgroups above it.
pub(crate) fn note(record: &Record) -> Result<(), Error> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = text.lines().find_map(|line| line.strip_prefix("0::"));
    // A process of an outer cgroup namespace shows paths that begin with /../.
    let Some(own) = own.filter(|own| !own.split('/').any(|part| part == "..")) else {
        return Ok(());
    };
    let path = record.runtime.join(FILE);
    // No rename: who reads half of it finds no cgroup there, and none has been made yet.
    fs::write(&path, own).map_err(Error::io(format!("write {}", path.display())))
}

/// Kills and removes a cgroup that a killed monitor has left. The caller knows that no monitor lives,
/// or is the one that does.
pub fn clear(record: &Record) {
    let Ok(own) = fs::read_to_string(record.runtime.join(FILE)).map(PathBuf::from) else {
        return;
    };
    let name = cgroup_name(record);
    for place in own.ancestors().map(|place: &Path| place.join(&name)) {
        if let Ok(cgroup) = Cgroup::open(&place.to_string_lossy()) {
            let _ = cgroup.kill();
            cgroup.remove();
        }
    }
}
