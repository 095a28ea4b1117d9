//! Tests of profiles with conditions, in the shapes that engines and their users write.

use serde_json::json;

use super::*;

fn reader(caps: CapSet, native: Arch, kernel: &str) -> Reader<'_> {
    Reader {
        caps,
        native,
        kernel,
    }
}

fn read_here(document: &Value) -> Result<LinuxSeccomp, String> {
    reader(CapSet::EMPTY, Arch::X86_64, "6.1.0-13-amd64").read(document)
}

fn names(document: &Value, caps: CapSet, native: Arch, kernel: &str) -> Vec<String> {
    let read = reader(caps, native, kernel).read(document).unwrap();
    let rules = read.syscalls().iter().flatten();
    rules.flat_map(|rule| rule.names().clone()).collect()
}

/// One rule, for mkdir, with these keys more.
fn with(more: Value) -> Value {
    let mut rule = json!({ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" });
    let Value::Object(more) = more else { panic!() };
    rule.as_object_mut().unwrap().extend(more);
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] })
}

#[test]
fn rules_are_for_those_who_have_what_they_ask_for() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            { "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"] },
            { "architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null },
            { "architecture": "SCMP_ARCH_OF_TOMORROW", "subArchitectures": ["SCMP_ARCH_MORE"] },
        ],
        "syscalls": [
            { "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "" },
            { "name": "write", "action": "SCMP_ACT_ALLOW", "includes": {}, "excludes": null },
            { "names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_ADMIN"] } },
            { "names": ["both"], "action": "SCMP_ACT_ALLOW",
              "includes": { "caps": ["CAP_SYS_ADMIN", "CAP_BPF"] } },
            { "names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": { "caps": ["CAP_SYS_ADMIN"] } },
            { "names": ["neither"], "action": "SCMP_ACT_ALLOW",
              "excludes": { "caps": ["CAP_SYS_ADMIN", "CAP_BPF"] } },
            { "names": ["nobody"], "action": "SCMP_ACT_ALLOW",
              "includes": { "caps": ["CAP_OF_TOMORROW"] } },
            { "names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW",
              "includes": { "arches": ["amd64", "x32"] } },
            { "names": ["elsewhere"], "action": "SCMP_ACT_ALLOW", "excludes": { "arches": ["amd64"] } },
            { "names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "4.8" } },
            { "names": ["later"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "6.10" } },
            { "names": ["until"], "action": "SCMP_ACT_ALLOW", "excludes": { "minKernel": "6.10" } },
            { "names": [], "action": "SCMP_ACT_ALLOW" },
        ],
    });
    let admin = CapSet::EMPTY.with(Cap::SYS_ADMIN);
    let (x86, arm) = (Arch::X86_64, Arch::Aarch64);
    assert_eq!(
        names(&profile, CapSet::EMPTY, x86, "6.1.0-13-amd64"),
        [
            "read",
            "write",
            "clone",
            "neither",
            "arch_prctl",
            "ptrace",
            "until"
        ]
    );
    assert_eq!(
        names(&profile, admin, arm, "6.10-rc1"),
        ["read", "write", "mount", "elsewhere", "ptrace", "later"]
    );
    assert_eq!(
        names(&profile, admin.with(Cap::BPF), x86, "4.4.0"),
        ["read", "write", "mount", "both", "arch_prctl", "until"]
    );
    let architectures = |native| {
        let read = reader(admin, native, "6.1").read(&profile).unwrap();
        read.architectures().clone()
    };
    assert_eq!(
        architectures(x86).unwrap(),
        [OciArch::ScmpArchX86_64, OciArch::ScmpArchX86]
    );
    assert_eq!(architectures(arm).unwrap(), [OciArch::ScmpArchAarch64]);
    // The machine's own is in every filter.
    assert_eq!(architectures(Arch::Riscv64), None);
}

#[test]
fn error_numbers_have_names() {
    let errno = |more: Value| {
        let read = read_here(&with(more)).unwrap();
        read.syscalls().as_ref().unwrap()[0].errno_ret()
    };
    assert_eq!(errno(json!({})), None);
    assert_eq!(errno(json!({ "errnoRet": 13 })), Some(13));
    assert_eq!(errno(json!({ "errnoRet": null, "errno": "" })), None);
    assert_eq!(errno(json!({ "errno": "ENOSYS" })), Some(38));
    assert_eq!(errno(json!({ "errno": "95" })), Some(95));
    // The text is the newer key.
    assert_eq!(errno(json!({ "errnoRet": 1, "errno": "EPERM" })), Some(1));
    assert_eq!(errno(json!({ "errnoRet": 1, "errno": "ENOSYS" })), Some(38));
    let document = json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSYS" });
    assert_eq!(read_here(&document).unwrap().default_errno_ret(), Some(38));
    let document = json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 2 });
    assert_eq!(read_here(&document).unwrap().default_errno_ret(), Some(2));
}

#[test]
fn the_specifications_own_form_is_as_it_is() {
    let document = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "listenerPath": "/run/agent",
        "listenerMetadata": "some",
        "syscalls": [{
            "names": ["clone", "fork"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{ "index": 0, "value": 2_114_060_288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }],
        }, {
            "names": ["read"],
            "action": "SCMP_ACT_TRACE",
            "errnoRet": 7,
            "args": [{ "index": 5, "value": u64::MAX, "op": "SCMP_CMP_GE" }],
        }],
    });
    let straight: LinuxSeccomp = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(read_here(&document).unwrap(), straight);
    let unset = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "" });
    assert_eq!(read_here(&unset).unwrap().listener_path(), &None);
}

#[test]
fn what_is_no_profile_is_an_error() {
    for (document, wanted) in [
        (json!([]), "it is no JSON object"),
        (json!("unconfined"), "it is no JSON object"),
        (json!({}), "missing field `defaultAction`"),
        (
            json!({ "defaultAction": "SCMP_ACT_SOMETHING" }),
            "unknown variant `SCMP_ACT_SOMETHING`",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": {} }),
            "expected a sequence",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["a"] }] }),
            "missing field `action`",
        ),
        (
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64"],
                "archMap": [{ "architecture": "SCMP_ARCH_X86_64", "subArchitectures": [] }],
            }),
            "it has architectures and archMap: leave one of them out",
        ),
        (
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "archMap": [{ "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["X"] }],
            }),
            "archMap: unknown variant `X`",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOTHING" }),
            "\"ENOTHING\" is no error number",
        ),
        (
            with(json!({ "name": "rmdir" })),
            "the rule for mkdir: it has name and names: leave one of them out",
        ),
        (
            with(json!({ "errno": "-1" })),
            "the rule for mkdir: \"-1\" is no error number",
        ),
        // A condition that is not understood does not hold for everybody.
        (
            with(json!({ "includes": { "caps": "CAP_SYS_ADMIN" } })),
            "expected a sequence",
        ),
        (
            with(json!({ "includes": { "cap": ["CAP_SYS_ADMIN"] } })),
            "unknown field `cap`",
        ),
        (
            with(json!({ "excludes": { "maxKernel": "6.1" } })),
            "unknown field `maxKernel`",
        ),
        (
            with(json!({ "includes": { "minKernel": "new" } })),
            "the rule for mkdir: minKernel \"new\" is no version like 4.8",
        ),
        (
            with(json!({ "includes": { "minKernel": "4.8.1" } })),
            "the rule for mkdir: minKernel \"4.8.1\" is no version like 4.8",
        ),
        (
            with(json!({ "includes": { "minKernel": 4.8 } })),
            "expected a string",
        ),
        // Nor in a rule that is for others.
        (
            with(json!({ "errno": "X", "includes": { "caps": ["CAP_SYS_ADMIN"] } })),
            "the rule for mkdir: \"X\" is no error number",
        ),
        (
            with(json!({ "args": [{ "index": 0, "value": -1, "op": "SCMP_CMP_EQ" }] })),
            "u64",
        ),
        (
            with(json!({ "args": [{ "index": 0, "value": 1, "op": "==" }] })),
            "unknown variant `==`",
        ),
    ] {
        let said = read_here(&document).unwrap_err();
        assert!(said.contains(wanted), "{document}: {said}");
        assert!(!said.contains('\n'), "{said}");
    }
}
