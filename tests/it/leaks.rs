//! What a test may have left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A monitor publishes the exit before it ends itself.
const GRACE: Duration = Duration::from_secs(5);

/// Processes with anything of this directory: environment, working directory, open files, mounts; and
/// those whose arguments name one of the store's containers. They are killed, so that one test's leak
/// is not the next one's.
///
/// An ordinary user may look at all of that for processes in the user namespaces that it made. Of one
/// that is not dumpable and outside of these, only the arguments can be seen.
pub(crate) fn processes(root: &Path) -> Vec<String> {
    let end = Instant::now() + GRACE;
    let own = containers_of(&root.join("d/kelp"));
    let mut found = scan(root, &own);
    while !found.is_empty() && Instant::now() < end {
        // Nothing tells when somebody else's child ends, short of a pidfd for each.
        std::thread::sleep(Duration::from_millis(10));
        found = scan(root, &own);
    }
    for (pid, _) in &found {
        let _ = kill_process(*pid, Signal::KILL);
    }
    found
        .into_iter()
        .map(|(pid, command)| format!("process {}: {command}", pid.as_raw_nonzero()))
        .collect()
}

fn scan(root: &Path, containers: &[String]) -> Vec<(Pid, String)> {
    let root = root.to_string_lossy();
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let number = entry.file_name().to_string_lossy().parse::<u32>();
        let Some(number) = number.ok().filter(|&number| number != own) else {
            continue;
        };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let names_own = command.contains("internal")
            && containers.iter().any(|id| command.contains(id.as_str()));
        if names_own || has_part_of(&entry.path(), &root) {
            found.extend(Pid::from_raw(number as i32).map(|pid| (pid, command)));
        }
    }
    found
}

fn has_part_of(process: &Path, root: &str) -> bool {
    let text_has = |name: &str| {
        let text = fs::read(process.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&text).contains(root)
    };
    let link_has = |path: &Path| {
        fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with(root))
    };
    let descriptors = fs::read_dir(process.join("fd"));
    text_has("environ")
        || text_has("mountinfo")
        || link_has(&process.join("cwd"))
        || descriptors.is_ok_and(|all| all.flatten().any(|entry| link_has(&entry.path())))
}

/// What is in kelp's runtime directory apart from empty directories.
pub(crate) fn runtime_files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // A container's directory is there as long as the container is started.
            if directory.ends_with("c") {
                found.push(format!("directory {}", path.display()));
            }
            found.extend(runtime_files(&path));
        } else if !["kelp/overlay", "kelp/pause"]
            .iter()
            .any(|end| path.ends_with(end))
            && !directory.ends_with("kelp/seccomp")
        {
            // What the host can do, what kelp's image is, and compiled filters, which stay until the boot.
            found.push(format!("file {}", path.display()));
        }
    }
    found
}

/// Containers, names and half-made things in the store.
pub(crate) fn containers(store: &Path) -> Vec<String> {
    ["containers", "names", "tmp"]
        .iter()
        .flat_map(|name| {
            fs::read_dir(store.join(name))
                .into_iter()
                .flatten()
                .flatten()
        })
        .map(|entry| format!("record {}", entry.path().display()))
        .collect()
}

/// Cgroups of this store's containers, which are emptied and removed, so that one test's leak is not
/// the bed's as well. Whose they are the journal of events tells.
pub(crate) fn cgroups(store: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for name in cgroups_of(store) {
        let cgroup = cgroup_parent().join(&name);
        if !ends(&cgroup, false) {
            let inside = fs::read_to_string(cgroup.join("cgroup.procs"));
            found.push(format!("cgroup {name}, processes: {inside:?}"));
            ends(&cgroup, true);
        }
    }
    found
}

/// The ids of the containers that the store's journal of events tells of.
pub(crate) fn containers_of(store: &Path) -> Vec<String> {
    let events = fs::read_to_string(store.join("events")).unwrap_or_default();
    let words = events.split(|c: char| !c.is_ascii_hexdigit());
    words
        .filter(|word| word.len() == 64)
        .map(str::to_owned)
        .collect()
}

/// The names of the cgroups of this store's containers.
pub(crate) fn cgroups_of(store: &Path) -> Vec<String> {
    let events = fs::read_to_string(store.join("events")).unwrap_or_default();
    let of_store = |name: &String| {
        let id = name.strip_prefix("kelp-").filter(|id| id.len() == 64);
        id.is_some_and(|id| events.contains(id))
    };
    fs::read_dir(cgroup_parent())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(of_store)
        .collect()
}

fn cgroup_parent() -> PathBuf {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    Path::new("/sys/fs/cgroup").join(own.unwrap_or("nowhere"))
}

/// Whether the cgroup goes away, by itself or killed and removed.
fn ends(cgroup: &Path, kill: bool) -> bool {
    let end = Instant::now() + GRACE;
    while cgroup.exists() && Instant::now() < end {
        if kill {
            let _ = fs::write(cgroup.join("cgroup.kill"), "1");
            let _ = fs::remove_dir(cgroup);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    !cgroup.exists()
}
