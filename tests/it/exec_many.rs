//! `exec` very often: nothing of it stays, whether its program runs, is missing or is none.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::env::Env;
use crate::kelp::{wait, wait_until};
use crate::steps::is_nightly;

/// How often each is tried.
fn rounds() -> usize {
    if is_nightly() { 10_000 } else { 100 }
}

/// Every file and directory beneath this one that the user may see.
fn tree(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        found.push(path.display().to_string());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            tree(&path, found);
        }
    }
}

/// What an exec could leave.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    /// Of the container's record and of the runtime directory.
    files: Vec<String>,
    /// The descriptors of the monitor, and what they are of.
    descriptors: Vec<String>,
    /// The monitor's children, also those that nobody has waited for.
    children: String,
    /// The processes of the container's cgroup.
    inside: String,
}

impl Traces {
    fn of(env: &Env, id: &str) -> Self {
        let shown = |format: &str| {
            let shown = env.kelp(&["inspect", "-f", format, "c"]).succeeds();
            shown.trim_end().to_owned()
        };
        let monitor = shown("{{.State.ConmonPid}}");
        let cgroup = shown("{{.State.CgroupPath}}");
        let mut files = Vec::new();
        tree(&env.runtime().join("kelp"), &mut files);
        tree(&env.path("d/kelp/containers").join(id), &mut files);
        files.sort();
        let descriptors = fs::read_dir(format!("/proc/{monitor}/fd")).unwrap();
        let descriptors = descriptors.map(|entry| {
            let path = entry.unwrap().path();
            let target = fs::read_link(&path).unwrap();
            format!("{} {}", path.display(), target.display())
        });
        let mut descriptors: Vec<_> = descriptors.collect();
        descriptors.sort();
        let children = fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children"));
        let inside = fs::read_to_string(format!("/sys/fs/cgroup{cgroup}/cgroup.procs"));
        Self {
            files,
            descriptors,
            children: children.unwrap(),
            inside: inside.unwrap(),
        }
    }
}

#[test]
fn thousands_of_them_leave_nothing() {
    let Some(env) = Env::new() else { return };
    let id = env.waiting("c", &["--network=none"]);
    // What the first one makes for good, such as a compiled filter.
    env.kelp(&["exec", "c", "true"]).succeeds();
    let before = Traces::of(&env, &id);
    assert_eq!(before.inside.lines().count(), 1, "{before:?}");
    let kinds = [("true", 0), ("no-such-program", 127), ("/etc", 126)];
    let mut codes = [0; 3];
    for round in 0..rounds() {
        // Some have another parent, or a terminal.
        let flag = ["-i", "-i=false", "-d", "-t"][round % 4];
        for (index, (program, expected)) in kinds.iter().enumerate() {
            let mut exec = env.kelp(&["exec", flag, "c", program]).into_command();
            exec.stdout(Stdio::null()).stderr(Stdio::null());
            let mut exec = exec.spawn().unwrap();
            let code = wait(&mut exec, program);
            codes[index] += usize::from(code == *expected);
        }
    }
    assert_eq!(codes, [rounds(); 3]);
    // Those in the background may be there a moment longer.
    wait_until("all have ended", || {
        Traces::of(&env, &id).inside == before.inside
    });
    assert_eq!(Traces::of(&env, &id), before);
    // Process 1 reaps nothing; there are it and the shell.
    let count = "until set -- /proc/[0-9]*; test $# = 2; do sleep 0.05; done";
    env.kelp(&["exec", "c", "sh", "-c", count]).succeeds();
    env.kelp(&["rm", "-f", "-t0", "c"]).succeeds();
}
