//! kelp's own files: state directories, logs, sockets, digests as names.

use std::fs;
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recv, sendmsg, socket_with,
};

use crate::env::Env;
use crate::kelp::wait_until;

/// Directories that others may enter (CVE-2024-25621).
#[test]
fn cve_2024_25621_state_is_closed_to_others() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let flags = ["run", "-d", "--name", "box", &image, "sleep", "100000"];
    let id = env.kelp(&flags).succeeds();
    let id = id.trim();
    let mode = |path: &str| fs::metadata(env.path(path)).unwrap().permissions().mode() & 0o777;
    for path in ["d/kelp", "r/kelp", &format!("d/kelp/containers/{id}")] {
        assert_eq!(mode(path), 0o700, "{path}");
    }
    for file in ["config.json", "launch.json", "ctr.log"] {
        let path = format!("d/kelp/containers/{id}/{file}");
        assert_eq!(mode(&path) & 0o077, 0, "{path}");
    }
    env.kelp(&["rm", "-f", "-t", "0", "box"]).succeeds();
    for path in ["d/kelp", "r/kelp"] {
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(env.path(path), open).unwrap();
        let line = env.kelp(&["ps"]).fails(125);
        let directory = env.path(path).display().to_string();
        assert!(line.contains(&format!("chmod 700 {directory}")), "{line}");
        let closed = fs::Permissions::from_mode(0o700);
        fs::set_permissions(env.path(path), closed).unwrap();
    }
    env.kelp(&["ps"]).succeeds();
}

/// A log that is a link by the time it is opened (containerd 2026-53489).
#[test]
fn a_log_that_is_a_link_is_neither_written_nor_read() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let create = ["create", "--name", "box", &image, "echo", "said"];
    let id = env.kelp(&create).succeeds();
    let victim = env.path("h/victim");
    fs::write(&victim, "untouched\n").unwrap();
    let log = env.path(&format!("d/kelp/containers/{}/ctr.log", id.trim()));
    let _ = fs::remove_file(&log);
    symlink(&victim, &log).unwrap();
    assert_ne!(env.kelp(&["start", "-a", "box"]).done().code, 0);
    let logs = env.kelp(&["logs", "box"]).done();
    assert!(logs.code != 0 && logs.stdout.is_empty(), "{logs:#?}");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched\n");
    fs::remove_file(&log).unwrap();
    assert_eq!(env.kelp(&["start", "-a", "box"]).succeeds(), "said\n");
    assert_eq!(env.kelp(&["logs", "box"]).succeeds(), "said\n");
    env.kelp(&["rm", "box"]).succeeds();
}

/// A digest that is a path (CVE-2024-3727).
#[test]
fn cve_2024_3727_a_digest_is_no_path() {
    let Some(env) = Env::new() else { return };
    let registry = &env.registry().address;
    for digest in [
        "sha256:../../../../etc/passwd",
        "sha256:..",
        "sha256:",
        "sha256:ABCDEF",
        "sha256:0123456789abcdef/../../../../../../../../../../../../../../etc/hostname",
        "../../../x:0000",
    ] {
        for command in ["pull", "rmi"] {
            let name = format!("{registry}/busybox@{digest}");
            let done = env.kelp(&[command, &name]).done();
            assert_ne!(done.code, 0, "{name}: {done:#?}");
            assert_eq!(done.stderr.lines().count(), 1, "{done:#?}");
        }
        assert_ne!(env.kelp(&["image", "inspect", digest]).done().code, 0);
    }
    env.busybox();
    let format = "{{index .RepoDigests 0}}";
    let name = env.busybox();
    let full = env
        .kelp(&["image", "inspect", "--format", format, &name])
        .succeeds();
    env.kelp(&["pull", "-q", full.trim()]).succeeds();
}

/// Who is connected to a monitor keeps nothing of it (containerd 2025-64329), and no socket of it is
/// in the abstract namespace, which has no owner (CVE-2020-15257).
#[test]
fn cve_2020_15257_sockets_are_files_and_connections_leave_nothing() {
    const ROUNDS: usize = 10_000;
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let flags = [
        "run",
        "-d",
        "-i",
        "--name",
        "box",
        "--network",
        "none",
        &image,
        "cat",
    ];
    let id = env.kelp(&flags).succeeds();
    let format = "{{.State.ConmonPid}}";
    let monitor = env.kelp(&["inspect", "--format", format, "box"]).succeeds();
    let monitor = monitor.trim();
    let descriptors = || {
        let entries = fs::read_dir(format!("/proc/{monitor}/fd")).unwrap();
        let links = entries.map(|entry| fs::read_link(entry.unwrap().path()).unwrap());
        links.collect::<Vec<_>>()
    };
    let before = descriptors();
    let table = fs::read_to_string(format!("/proc/{monitor}/net/unix")).unwrap();
    for line in table.lines().filter(|line| line.contains(" @")) {
        let inode = format!("socket:[{}]", line.split_whitespace().nth(6).unwrap());
        assert!(
            before.iter().all(|link| link.to_string_lossy() != inode),
            "{line}"
        );
    }
    let memory = || {
        let text = fs::read_to_string(format!("/proc/{monitor}/smaps_rollup")).unwrap();
        let line = text.lines().find(|line| line.starts_with("Private_Dirty:"));
        let words: Vec<_> = line.unwrap().split_whitespace().collect();
        words[1].parse::<u64>().unwrap()
    };
    let directory = env.path(&format!("r/kelp/c/{}", id.trim()));
    attach_and_leave(&directory, ROUNDS / 10);
    let settled = memory();
    attach_and_leave(&directory, ROUNDS);
    // It has noticed the end of the last one when it has answered the next.
    attach_and_leave(&directory, 1);
    assert!(
        descriptors().len() <= before.len() + 4,
        "{:?}",
        descriptors()
    );
    assert!(
        memory() <= settled + 64,
        "{} kB, was {settled} kB",
        memory()
    );
    // It still does what it is for.
    let exec = ["exec", "box", "sh", "-c", "echo heard >/proc/1/fd/1"];
    env.kelp(&exec).succeeds();
    wait_until("the log has what was written", || {
        env.kelp(&["logs", "box"]).succeeds() == "heard\n"
    });
    env.kelp(&["rm", "-f", "-t", "0", "box"]).succeeds();
}

/// Attaches standard output, hears that it is done, and goes away; every other one says nonsense.
fn attach_and_leave(directory: &std::path::Path, times: usize) {
    let directory = fs::File::open(directory).unwrap();
    let path = format!(
        "/proc/self/fd/{}/sock",
        std::os::fd::AsRawFd::as_raw_fd(&directory)
    );
    let address = SocketAddrUnix::new(path).unwrap();
    let attach = br#"{"attach":{"stdin":false,"stdout":true,"stderr":false}}"#;
    for round in 0..times {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let socket = socket_with(AddressFamily::UNIX, kind, flags, None).unwrap();
        connect(&socket, &address).unwrap();
        let (_read, write) = std::io::pipe().unwrap();
        let fds = [write.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let text: &[u8] = if round % 2 == 1 { b"{nonsense" } else { attach };
        sendmsg(
            &socket,
            &[IoSlice::new(text)],
            &mut control,
            SendFlags::empty(),
        )
        .unwrap();
        let mut reply = [0; 256];
        let (_, length) = recv(&socket, &mut reply, RecvFlags::empty()).unwrap();
        let expected: &[u8] = if round % 2 == 1 { b"" } else { b"\"done\"" };
        assert_eq!(&reply[..length], expected);
    }
}
