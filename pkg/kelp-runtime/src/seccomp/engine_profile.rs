//! Seccomp profiles as engines ship them: those of the specification, with rules that depend on the
//! machine, the kernel and the capabilities of the container.
//!
//! A rule for a capability that the container does not have must not be read as one for everybody:
//! what is known of such a document is read strictly, and a condition that is not known is an error.
//! Comments and keys of other programs beside the rules are passed over.

use std::path::PathBuf;

use oci_spec::runtime::{
    Arch as OciArch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompFilterFlag as Flag, LinuxSyscall,
};
use serde::Deserialize;
use serde_json::Value;

use super::arch::Arch;
use super::errno;
use crate::capabilities::{Cap, CapSet};
use crate::error::Error;

/// The document.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: Action,
    default_errno_ret: Option<u32>,
    default_errno: Option<String>,
    architectures: Option<Vec<OciArch>>,
    arch_map: Option<Vec<ArchEntry>>,
    syscalls: Option<Vec<Rule>>,
    flags: Option<Vec<Flag>>,
    listener_path: Option<PathBuf>,
    listener_metadata: Option<String>,
}

/// The architectures that go with one; those of other machines may have names that nobody knows here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchEntry {
    architecture: Value,
    sub_architectures: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    /// As older documents have it, a rule a call.
    name: Option<String>,
    names: Option<Vec<String>>,
    action: Action,
    errno_ret: Option<u32>,
    errno: Option<String>,
    args: Option<Vec<LinuxSeccompArg>>,
    includes: Option<Conditions>,
    excludes: Option<Conditions>,
}

/// What has to hold, all of it, or must not, none of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Conditions {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Whom a profile is read for.
struct Reader<'a> {
    caps: CapSet,
    native: Arch,
    kernel: &'a str,
}

/// The specification's profile for a container with these capabilities; a profile in the
/// specification's own form is as it is.
///
/// # Errors
/// [`Error::Spec`] for what is no profile.
pub fn read(profile: &Value, caps: CapSet) -> Result<LinuxSeccomp, Error> {
    let release = rustix::system::uname();
    Reader {
        caps,
        native: super::native()?,
        kernel: &release.release().to_string_lossy(),
    }
    .read(profile)
    .map_err(Error::Spec)
}

impl Reader<'_> {
    fn read(&self, document: &Value) -> Result<LinuxSeccomp, String> {
        if !document.is_object() {
            return Err("it is no JSON object".to_owned());
        }
        let file = File::deserialize(document).map_err(|error| error.to_string())?;
        let mut profile = LinuxSeccomp::default();
        let mut rules = Vec::new();
        for rule in file.syscalls.iter().flatten() {
            let what = || format!("the rule for {}", rule.called());
            // One that is not for this container has to be a rule as well.
            let plain = rule
                .plain()
                .map_err(|error| format!("{}: {error}", what()))?;
            if self
                .meets(rule)
                .map_err(|error| format!("{}: {error}", what()))?
            {
                rules.extend(plain);
            }
        }
        let path = file
            .listener_path
            .filter(|path| !path.as_os_str().is_empty());
        let errno = file.default_errno.as_deref();
        profile
            .set_default_action(file.default_action)
            .set_default_errno_ret(number(errno, file.default_errno_ret)?)
            .set_architectures(self.architectures(file.architectures, file.arch_map)?)
            .set_syscalls(Some(rules))
            .set_flags(file.flags)
            .set_listener_path(path)
            .set_listener_metadata(file.listener_metadata);
        Ok(profile)
    }

    fn architectures(
        &self,
        list: Option<Vec<OciArch>>,
        map: Option<Vec<ArchEntry>>,
    ) -> Result<Option<Vec<OciArch>>, String> {
        let (list, map) = (list.unwrap_or_default(), map.unwrap_or_default());
        if !list.is_empty() && !map.is_empty() {
            return Err("it has architectures and archMap: leave one of them out".to_owned());
        }
        if map.is_empty() {
            return Ok((!list.is_empty()).then_some(list));
        }
        let native = self.native.to_oci();
        let is_own = |entry: &ArchEntry| {
            OciArch::deserialize(&entry.architecture).is_ok_and(|arch| arch == native)
        };
        let own = map.into_iter().find(is_own);
        let all = own.map(|entry| {
            let below = entry.sub_architectures.into_iter().flatten();
            let all = std::iter::once(entry.architecture).chain(below);
            let all = all.map(OciArch::deserialize).collect::<Result<Vec<_>, _>>();
            all.map_err(|error| format!("archMap: {error}"))
        });
        all.transpose()
    }

    /// Whether a rule is for this container.
    fn meets(&self, rule: &Rule) -> Result<bool, String> {
        let includes = rule.includes.iter().flat_map(|it| self.each(it));
        let excludes = rule.excludes.iter().flat_map(|it| self.each(it));
        let mut all = true;
        for holds in includes {
            all &= holds?;
        }
        for holds in excludes {
            all &= !holds?;
        }
        Ok(all)
    }

    /// Whether each of the conditions holds; the machine is one of several.
    fn each(&self, conditions: &Conditions) -> Vec<Result<bool, String>> {
        let mut each = Vec::new();
        if let Some(arches) = conditions.arches.as_ref().filter(|list| !list.is_empty()) {
            each.push(Ok(arches.iter().any(|arch| arch == machine(self.native))));
        }
        // A capability that this kernel does not have is one that nobody has.
        let has = |name: &String| Cap::parse(name).is_ok_and(|cap| self.caps.contains(cap));
        each.extend(conditions.caps.iter().flatten().map(|name| Ok(has(name))));
        if let Some(least) = conditions
            .min_kernel
            .as_deref()
            .filter(|text| !text.is_empty())
        {
            each.push(self.is_from(least));
        }
        each
    }

    /// Whether the kernel is of this version, `4.8`, or a newer one.
    fn is_from(&self, least: &str) -> Result<bool, String> {
        let numbers = least.split_once('.');
        let numbers = numbers.and_then(|(one, two)| Some((one.parse().ok()?, two.parse().ok()?)));
        let least = numbers.ok_or_else(|| format!("minKernel {least:?} is no version like 4.8"))?;
        Ok(version(self.kernel) >= least)
    }
}

impl Rule {
    /// The calls, for a message.
    fn called(&self) -> &str {
        let names = self.names.iter().flatten();
        let mut all = names.chain(&self.name).map(String::as_str);
        all.next().unwrap_or("no call")
    }

    /// The rule in the specification's words; none if it is for no call.
    fn plain(&self) -> Result<Option<LinuxSyscall>, String> {
        let name = self.name.as_ref().filter(|name| !name.is_empty());
        let names = match (name, self.names.clone().unwrap_or_default()) {
            (Some(_), names) if !names.is_empty() => {
                return Err("it has name and names: leave one of them out".to_owned());
            }
            (Some(name), _) => vec![name.clone()],
            (None, names) => names,
        };
        let errno = number(self.errno.as_deref(), self.errno_ret)?;
        let mut syscall = LinuxSyscall::default();
        syscall
            .set_names(names)
            .set_action(self.action)
            .set_errno_ret(errno)
            .set_args(self.args.clone());
        Ok((!syscall.names().is_empty()).then_some(syscall))
    }
}

/// An error's number: its name or number as text where there is one, else the number beside it.
fn number(text: Option<&str>, number: Option<u32>) -> Result<Option<u32>, String> {
    match text.filter(|text| !text.is_empty()) {
        None => Ok(number),
        Some(text) => {
            let known = text.parse().ok().or_else(|| errno::number(text));
            known
                .map(Some)
                .ok_or_else(|| format!("{text:?} is no error number"))
        }
    }
}

/// A machine, as conditions name it: in Go's words.
fn machine(native: Arch) -> &'static str {
    match native {
        Arch::X86_64 => "amd64",
        Arch::X86 => "x86",
        Arch::X32 => "x32",
        Arch::Aarch64 => "arm64",
        Arch::Arm => "arm",
        Arch::Riscv64 => "riscv64",
        Arch::S390x => "s390x",
        Arch::Ppc64le => "ppc64le",
    }
}

/// The first two numbers of a kernel's version.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    let mut next = || {
        let number = numbers.next().and_then(|text| text.parse().ok());
        number.unwrap_or(0)
    };
    (next(), next())
}

#[cfg(test)]
#[path = "engine_profile_tests.rs"]
mod tests;
