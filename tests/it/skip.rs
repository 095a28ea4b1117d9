//! What a test needs of the machine.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// The name of the running test, as the runner knows it.
pub(crate) fn test_name() -> String {
    let thread = std::thread::current();
    thread.name().unwrap_or("unnamed").to_owned()
}

/// Says that the test does not run here. Goes past the runner's capture, which hides what a test
/// that passes has to say.
pub(crate) fn skip(missing: &str) {
    let line = format!("SKIP: {}: {missing}\n", test_name());
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// What the machine lacks for containers of an ordinary user, if anything.
pub(crate) fn missing() -> Option<&'static str> {
    if rustix::process::geteuid().is_root() {
        return Some("an ordinary user (tests/bed makes one)");
    }
    if !runs("unshare", &["--user", "--map-root-user", "true"]) {
        return Some("user namespaces");
    }
    if !runs(
        "unshare",
        &["--user", "--map-auto", "--map-root-user", "true"],
    ) {
        return Some("a range in /etc/subuid and /etc/subgid, and newuidmap");
    }
    if crate::image::static_busybox().is_none() {
        return Some("a static busybox");
    }
    if !has_program("docker-registry") {
        return Some("docker-registry");
    }
    None
}

/// Whether a program is in PATH.
pub(crate) fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

/// Whether a program is not there, which is said then.
pub(crate) fn lacks(program: &str) -> bool {
    let lacks = !has_program(program);
    if lacks {
        skip(&format!("the program {program}"));
    }
    lacks
}

/// Whether strace(1) can't trace here, which is said then.
pub(crate) fn no_strace() -> bool {
    let lacks = !runs("strace", &["-f", "-o", "/dev/null", "true"]);
    if lacks {
        skip("strace");
    }
    lacks
}

/// Why a container can't have a network of its own here, if it can't.
pub(crate) fn no_pasta() -> Option<&'static str> {
    if !has_program("pasta") {
        return Some("pasta");
    }
    let tun = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(Path::new("/dev/net/tun"));
    tun.is_err().then_some("write access to /dev/net/tun")
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
