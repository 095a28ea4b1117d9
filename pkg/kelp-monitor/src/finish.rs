//! The end of a container: exit record, cgroup, and for `--rm` the record itself.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use kelp_runtime::cgroup::Cgroup;
use kelp_state::file::Durability;
use kelp_state::{ExitRecord, Paths, Record, name};

use crate::launch::Launch;

/// Writes how it ended, then takes away what is no longer needed.
pub(crate) fn finish(
    paths: &Paths,
    record: &Record,
    launch: &Launch,
    exit: &ExitRecord,
    cgroup: Option<&Cgroup>,
) {
    if launch.remove {
        remove(paths, record, launch, cgroup);
        return;
    }
    // The record says the end before anything else is done: a kill from here on leaves garbage.
    let _ = record.write_exit(exit, Durability::Synced);
    if let Some(cgroup) = cgroup {
        cgroup.remove();
    }
}

/// Removes a `--rm` container: the record's directory is renamed first, so that nobody sees half.
fn remove(paths: &Paths, record: &Record, launch: &Launch, cgroup: Option<&Cgroup>) {
    if let Some(cgroup) = cgroup {
        cgroup.remove();
    }
    let _ = kelp_state::trash::discard(paths, record);
    name::release(paths, &launch.name, &record.id);
    for volume in &launch.anonymous_volumes {
        let _ = fs::remove_dir_all(volume);
    }
    if let Some(file) = &launch.cid_file {
        let _ = fs::remove_file(file);
    }
}

/// The exit record of a container that ended now.
pub(crate) fn exit_record(
    code: i32,
    oom_killed: bool,
    started: Option<SystemTime>,
    error: &str,
) -> ExitRecord {
    ExitRecord {
        code,
        oom_killed,
        started,
        finished: SystemTime::now(),
        error: error.to_owned(),
    }
}

/// Writes a process id for whoever asked for a --pidfile.
pub(crate) fn write_pid_file(path: &Path, pid: u32) -> std::io::Result<()> {
    fs::write(path, pid.to_string())
}
