//! Seccomp profiles as engines ship them: those of the specification, with rules that depend on the
//! machine, the kernel and the capabilities of the container.
//!
//! A rule for a capability that the container does not have must not be read as one for everybody.

use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Map, Value, json};

use crate::capabilities::{Cap, CapSet};
use crate::error::Error;

/// The specification's profile for a container with these capabilities; a profile in the
/// specification's own form is as it is.
///
/// # Errors
/// [`Error::Spec`] for what is no profile.
pub fn read(profile: &Value, caps: CapSet) -> Result<LinuxSeccomp, Error> {
    let arch = machine();
    read_for(profile, caps, arch, &kernel())
}

fn read_for(
    profile: &Value,
    caps: CapSet,
    arch: &str,
    kernel: &str,
) -> Result<LinuxSeccomp, Error> {
    let invalid = |what: &str| Error::Spec(format!("seccomp profile: {what}"));
    let Value::Object(mut file) = profile.clone() else {
        return Err(invalid("it is no JSON object"));
    };
    if let Some(map) = file.remove("archMap") {
        let entries = map.as_array().into_iter().flatten();
        let mut own = entries.filter(|entry| entry["architecture"] == oci_arch(arch));
        if let Some(entry) = own.next() {
            let mut all = vec![entry["architecture"].clone()];
            all.extend(
                entry["subArchitectures"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .cloned(),
            );
            file.insert("architectures".to_owned(), all.into());
        }
    }
    let mut rules = Vec::new();
    let calls = file.get("syscalls").and_then(Value::as_array);
    for rule in calls.into_iter().flatten() {
        if applies(rule, caps, arch, kernel) {
            rules.push(plain(rule).ok_or_else(|| invalid("a rule names no system call"))?);
        }
    }
    file.insert("syscalls".to_owned(), rules.into());
    // Names beside the numbers that say the same.
    file.remove("defaultErrno");
    let profile = serde_json::from_value(file.into());
    profile.map_err(|error| invalid(&error.to_string()))
}

/// Whether a rule is for this container.
fn applies(rule: &Value, caps: CapSet, arch: &str, kernel: &str) -> bool {
    let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
    let arches = texts(includes, "arches");
    if !arches.is_empty() && !arches.contains(&arch) || texts(excludes, "arches").contains(&arch) {
        return false;
    }
    if let Some(least) = includes["minKernel"].as_str()
        && version(kernel) < version(least)
    {
        return false;
    }
    for (condition, wanted) in [(includes, true), (excludes, false)] {
        for name in texts(condition, "caps") {
            // A capability that this kernel does not have is one that nobody has.
            let has = Cap::parse(name).is_ok_and(|cap| caps.contains(cap));
            if has != wanted {
                return false;
            }
        }
    }
    true
}

/// A rule in the specification's words.
fn plain(rule: &Value) -> Option<Value> {
    let mut plain = Map::new();
    for key in ["names", "action", "args", "errnoRet"] {
        if let Some(value) = rule.get(key).filter(|value| !value.is_null()) {
            plain.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(name) = rule.get("name").filter(|name| name.is_string()) {
        plain.entry("names").or_insert_with(|| json!([name]));
    }
    plain.contains_key("names").then_some(Value::Object(plain))
}

fn texts<'a>(value: &'a Value, key: &str) -> Vec<&'a str> {
    let list = value[key].as_array().into_iter().flatten();
    list.filter_map(Value::as_str).collect()
}

/// This machine, as profiles name it: in Go's words.
fn machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "x86",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn oci_arch(arch: &str) -> &'static str {
    match arch {
        "amd64" => "SCMP_ARCH_X86_64",
        "x86" => "SCMP_ARCH_X86",
        "arm64" => "SCMP_ARCH_AARCH64",
        "arm" => "SCMP_ARCH_ARM",
        "ppc64le" => "SCMP_ARCH_PPC64LE",
        "riscv64" => "SCMP_ARCH_RISCV64",
        "s390x" => "SCMP_ARCH_S390X",
        _ => "",
    }
}

fn kernel() -> String {
    let name = rustix::system::uname();
    name.release().to_string_lossy().into_owned()
}

/// The first two numbers of a kernel's version.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    let mut next = || {
        numbers
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    };
    (next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(profile: &Value, caps: CapSet, arch: &str) -> Vec<String> {
        let read = read_for(profile, caps, arch, "6.1.0-13-amd64").unwrap();
        let rules = read.syscalls().iter().flatten();
        rules.flat_map(|rule| rule.names().clone()).collect()
    }

    #[test]
    fn rules_are_for_those_who_have_what_they_ask_for() {
        let profile = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "archMap": [
                { "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"] },
                { "architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null },
            ],
            "syscalls": [
                { "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "" },
                { "name": "write", "action": "SCMP_ACT_ALLOW" },
                { "names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_ADMIN"] } },
                { "names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": { "caps": ["CAP_SYS_ADMIN"] } },
                { "names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["amd64"] } },
                { "names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "4.8" } },
                { "names": ["later"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "6.10" } },
            ],
        });
        let admin = CapSet::EMPTY.with(Cap::SYS_ADMIN);
        assert_eq!(
            names(&profile, CapSet::EMPTY, "amd64"),
            ["read", "write", "clone", "arch_prctl", "ptrace"]
        );
        assert_eq!(
            names(&profile, admin, "arm64"),
            ["read", "write", "mount", "ptrace"]
        );
        let read = read_for(&profile, admin, "amd64", "6.1").unwrap();
        assert_eq!(read.architectures().as_ref().unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_profile_is_an_error() {
        for profile in [
            json!([]),
            json!({}),
            json!({ "defaultAction": "SCMP_ACT_SOMETHING" }),
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "action": "SCMP_ACT_ERRNO" }] }),
        ] {
            assert!(read(&profile, CapSet::EMPTY).is_err(), "{profile}");
        }
    }
}
