//! Hostile input: what is done with it, and what holds whatever it is.
//!
//! Each function here is a fuzz target, and takes any bytes; a property that does not hold is a panic.
//! `seeds` has a directory for each with files made by hand, valid, odd and hostile, and with what
//! fuzzing has found; tests/seeds.rs gives all of them to the same functions. To fuzz one, with
//! what it finds in a directory of its own:
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz --features fuzzer -s none seccomp /tmp/found
//! tests/fuzz/seeds/seccomp -- -max_total_time=300`
#![forbid(unsafe_code)]

pub mod archive;
mod archives;
mod chunked;
pub mod differential;
mod filter;
#[path = "../../../pkg/kelp-runtime/src/seccomp/interpreter.rs"]
mod interpreter;
pub mod tree;

use std::path::Path;

use kelp_oci::parse_document;
use kelp_runtime::capabilities::CapSet;
use kelp_runtime::mount_plan::{MountPlan, Source};
use kelp_runtime::plan::{Extras, Plan, ProcessPlan, Rootfs};
use kelp_runtime::seccomp::{self, Arch, Program, engine_profile};
use kelp_runtime::user;
use oci_spec::runtime::{LinuxSeccomp, Mount, Process, Spec};
use serde_json::Value;

pub use archives::{decompress, layer, tar};
pub use chunked::chunked;
pub use differential::gnu_tar;

/// A target's name, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("config", config),
    ("process", process),
    ("accounts", accounts),
    ("mount", mount),
    ("seccomp", seccomp),
    ("kept", kept),
    ("decompress", decompress),
    ("tar", tar),
    ("layer", layer),
    ("gnu_tar", gnu_tar),
    ("chunked", chunked),
];

/// A config.json: parsed, and planned as far as nothing of the machine is touched.
pub fn config(input: &[u8]) {
    let Ok((mut spec, notes)) = parse_document::<Spec>(input) else {
        return;
    };
    let strict = serde_json::from_slice::<Spec>(input);
    assert!(
        !notes.is_empty() || strict.is_ok() || renames(input),
        "an error was passed over"
    );
    forget_paths(&mut spec);
    let rootfs = Rootfs::Directory("/nowhere".into());
    let extras = Extras {
        default_seccomp: true,
        ..Extras::default()
    };
    if let Ok(plan) = Plan::new(&spec, rootfs, Path::new("/nowhere"), extras) {
        let process = spec.process().as_ref().expect("a plan has a process");
        check_process(process, plan.process());
    }
}

/// Whether a flag is in it that the specification calls otherwise than the types do.
fn renames(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    // With escapes a name has many forms.
    text.contains("SCHED_FLAG") || text.contains('\\')
}

/// Namespaces that are joined are opened, whatever they are: not here.
fn forget_paths(spec: &mut Spec) {
    let Some(mut linux) = spec.linux().clone() else {
        return;
    };
    let mut namespaces = linux.namespaces().clone();
    for namespace in namespaces.iter_mut().flatten() {
        namespace.set_path(None);
    }
    linux.set_namespaces(namespaces);
    spec.set_linux(Some(linux));
}

/// A process.json, as `exec` has it.
pub fn process(input: &[u8]) {
    let Ok((process, _)) = parse_document::<Process>(input) else {
        return;
    };
    if let Ok(plan) = ProcessPlan::new(&process, None, Extras::default()) {
        check_process(&process, &plan);
    }
}

fn check_process(process: &Process, plan: &ProcessPlan) {
    let args = process.args().as_ref().expect("a plan has a program");
    assert_eq!(plan.program(), args[0], "the program is another one");
    assert!(process.cwd().is_absolute(), "the directory is relative");
    let user = process.user();
    let more = user.additional_gids().iter().flatten().copied();
    let mut ids = more.chain([user.uid(), user.gid()]);
    assert!(
        ids.all(|id| id != u32::MAX),
        "an id leaves the caller's in place"
    );
    let texts = args.iter().chain(process.env().iter().flatten());
    assert!(
        texts.into_iter().all(|text| !text.contains('\0')),
        "a text was cut"
    );
    for limit in process.rlimits().iter().flatten() {
        assert!(limit.soft() <= limit.hard(), "a limit is above itself");
    }
}

/// A user and a group, a line each, and then passwd, a line `--`, and group.
pub fn accounts(input: &[u8]) {
    let mut lines = input.splitn(3, |&byte| byte == b'\n');
    let mut text = || String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let (user, more) = (text(), text());
    let rest = lines.next().unwrap_or_default();
    let middle = b"\n--\n";
    let at = rest
        .windows(middle.len())
        .position(|window| window == middle);
    let (passwd, group) = match at {
        Some(at) => (&rest[..=at], &rest[at + middle.len()..]),
        None => (rest, &[][..]),
    };
    let more = Some(more).filter(|more| !more.is_empty());
    let Ok(found) = user::resolve_in(passwd, group, &user, more.as_slice()) else {
        return;
    };
    let largest = i32::MAX as u32;
    let ids = found.groups.iter().chain([&found.uid, &found.gid]);
    assert!(
        ids.into_iter().all(|id| *id <= largest),
        "an id is out of range"
    );
    assert_eq!(
        found.groups.first(),
        Some(&found.gid),
        "the primary group is another"
    );
    let mut groups = found.groups.clone();
    groups.sort_unstable();
    groups.dedup();
    assert_eq!(groups.len(), found.groups.len(), "a group is there twice");
    let name = user.split(':').next().unwrap_or_default();
    let digits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    if digits {
        assert_eq!(name.parse(), Ok(found.uid), "a number is another one");
    } else if found.uid == 0 && !name.is_empty() && name != "root" {
        // Nobody is root but by a line that says so.
        let says_so = passwd.split(|&byte| byte == b'\n').any(|line| {
            let fields: Vec<_> = line.trim_ascii().split(|&byte| byte == b':').collect();
            let zero = |text: &[u8]| !text.is_empty() && text.iter().all(|&byte| byte == b'0');
            fields.len() > 3 && fields[0] == name.as_bytes() && zero(fields[2])
        });
        assert!(says_so, "a name became root");
    }
}

/// A mount's type, source and destination, a line each, and then its options.
pub fn mount(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.split('\n');
    let mut line = || {
        lines
            .next()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
    };
    let (kind, source, target) = (line(), line(), line());
    let mut mount = Mount::default();
    mount
        .set_typ(kind)
        .set_source(source.map(Into::into))
        .set_destination(target.unwrap_or_default().into())
        .set_options(Some(lines.map(str::to_owned).collect()));
    let Ok(plan) = MountPlan::new(&mount) else {
        return;
    };
    assert!(plan.target.is_absolute(), "the target is relative");
    assert_eq!(plan.attr.set & plan.attr.clear & 1, 0, "read-only and not");
    if let Source::FileSystem { kind, .. } = &plan.source {
        assert_eq!(
            Some(kind.to_string_lossy().as_ref()),
            mount.typ().as_deref()
        );
    }
}

/// A seccomp profile, in the specification's form and in that of engines.
pub fn seccomp(input: &[u8]) {
    let Ok(document) = serde_json::from_slice::<Value>(input) else {
        return;
    };
    let straight = serde_json::from_value::<LinuxSeccomp>(document.clone()).ok();
    let conditional = [CapSet::EMPTY, CapSet::DEFAULT, CapSet::NAMED];
    let conditional = conditional.map(|caps| engine_profile::read(&document, caps).ok());
    for profile in conditional.iter().chain([&straight]).flatten() {
        for native in [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::S390x] {
            for single_id in [false, true] {
                if let Ok(compiled) = seccomp::compile(Some(profile), single_id, native) {
                    filter::check(&compiled.program, native == Arch::S390x);
                    let bytes = compiled.program.to_bytes();
                    let again = Program::from_bytes(&bytes);
                    assert_eq!(
                        again,
                        Some(compiled.program),
                        "a program is kept as another"
                    );
                }
            }
        }
        if let Ok(Some(program)) = seccomp::plan(Some(profile), false) {
            let asked = profile.listener_path().is_some();
            assert!(asked || !program.notifies(), "nobody listens");
        }
    }
}

/// A file in which a filter is kept, without its digest.
pub fn kept(input: &[u8]) {
    if let Some(program) = Program::from_bytes(input) {
        assert_eq!(program.to_bytes(), input, "a program is kept as another");
        let length = program.instructions().len();
        assert!((1..=filter::MAX_INSTRUCTIONS).contains(&length));
    }
}
