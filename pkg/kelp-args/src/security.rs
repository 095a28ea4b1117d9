//! `--security-opt`: confinement.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, scalar};

/// One option of a container's confinement.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecurityOption {
    /// The AppArmor profile, or `unconfined`.
    AppArmor(String),
    /// SELinux.
    Label(Label),
    /// Paths that can't be seen.
    Mask(Vec<PathBuf>),
    /// Paths that can be, though they can't by default.
    Unmask(Unmask),
    /// Whether exec gives no privilege.
    NoNewPrivileges(bool),
    /// The filter of system calls.
    Seccomp(Seccomp),
    /// Options of /proc's mount.
    ProcOptions(Vec<String>),
}

/// Part of an SELinux label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Label {
    /// No label.
    Disable,
    /// Labels can be changed inside.
    Nested,
    /// The processes' user.
    User(String),
    /// Their role.
    Role(String),
    /// Their type.
    Type(String),
    /// Their level.
    Level(String),
    /// The files' type.
    FileType(String),
}

/// What is not masked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unmask {
    /// Everything.
    All,
    /// These, which may have wildcards.
    Paths(Vec<String>),
}

/// The filter of system calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seccomp {
    /// None.
    Unconfined,
    /// A JSON file's.
    Profile(PathBuf),
}

impl FromStr for SecurityOption {
    type Err = Error;

    /// `KEY=VALUE`; as with docker, a colon may stand for the equals sign.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |hint: &str| Error::invalid("security option", text, hint);
        let (key, value) = match text.split_once(['=', ':']) {
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        match (key, value) {
            ("no-new-privileges", None) => Ok(Self::NoNewPrivileges(true)),
            ("no-new-privileges", Some(value)) => scalar::boolean(value)
                .map(Self::NoNewPrivileges)
                .ok_or_else(|| invalid("no-new-privileges is true or false")),
            ("apparmor", Some(value)) if !value.is_empty() => Ok(Self::AppArmor(value.to_owned())),
            ("label", Some(value)) => label(value).map(Self::Label).ok_or_else(|| {
                invalid(
                    "a label is disable, nested, user:USER, role:ROLE, type:TYPE, level:LEVEL or \
                     filetype:TYPE",
                )
            }),
            ("mask", Some(value)) => {
                let paths = absolute_paths(value).map_err(invalid)?;
                Ok(Self::Mask(paths.into_iter().map(PathBuf::from).collect()))
            }
            ("unmask", Some(value)) if value.eq_ignore_ascii_case("all") => {
                Ok(Self::Unmask(Unmask::All))
            }
            ("unmask", Some(value)) => {
                let paths = absolute_paths(value).map_err(invalid)?;
                Ok(Self::Unmask(Unmask::Paths(paths)))
            }
            // Docker's word for it.
            ("systempaths", Some("unconfined")) => Ok(Self::Unmask(Unmask::All)),
            ("seccomp", Some("unconfined")) => Ok(Self::Seccomp(Seccomp::Unconfined)),
            ("seccomp", Some(path)) if !path.is_empty() => {
                Ok(Self::Seccomp(Seccomp::Profile(PathBuf::from(path))))
            }
            ("proc-opts", Some(value)) if !value.is_empty() => Ok(Self::ProcOptions(
                value.split(',').map(str::to_owned).collect(),
            )),
            _ => Err(invalid(
                "use apparmor=, label=, mask=, unmask=, no-new-privileges, seccomp= or proc-opts=",
            )),
        }
    }
}

fn label(text: &str) -> Option<Label> {
    let (key, value) = text.split_once(':').unwrap_or((text, ""));
    let part = (!value.is_empty()).then(|| value.to_owned());
    match key {
        "disable" if text == key => Some(Label::Disable),
        "nested" if text == key => Some(Label::Nested),
        "user" => part.map(Label::User),
        "role" => part.map(Label::Role),
        "type" => part.map(Label::Type),
        "level" => part.map(Label::Level),
        "filetype" => part.map(Label::FileType),
        _ => None,
    }
}

fn absolute_paths(text: &str) -> Result<Vec<String>, &'static str> {
    let paths: Vec<_> = text.split(':').map(str::to_owned).collect();
    if paths.iter().all(|path| path.starts_with('/')) {
        return Ok(paths);
    }
    Err("paths are absolute, with colons between them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_parsed() {
        let paths = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect();
        for (text, option) in [
            ("no-new-privileges", SecurityOption::NoNewPrivileges(true)),
            (
                "no-new-privileges:true",
                SecurityOption::NoNewPrivileges(true),
            ),
            (
                "no-new-privileges=false",
                SecurityOption::NoNewPrivileges(false),
            ),
            (
                "apparmor=unconfined",
                SecurityOption::AppArmor("unconfined".to_owned()),
            ),
            ("label=disable", SecurityOption::Label(Label::Disable)),
            ("label:disable", SecurityOption::Label(Label::Disable)),
            (
                "label=level:s0:c1,c2",
                SecurityOption::Label(Label::Level("s0:c1,c2".to_owned())),
            ),
            (
                "mask=/a:/b",
                SecurityOption::Mask(vec!["/a".into(), "/b".into()]),
            ),
            ("unmask=ALL", SecurityOption::Unmask(Unmask::All)),
            (
                "systempaths=unconfined",
                SecurityOption::Unmask(Unmask::All),
            ),
            (
                "unmask=/proc/*:/sys/firmware",
                SecurityOption::Unmask(Unmask::Paths(paths(&["/proc/*", "/sys/firmware"]))),
            ),
            (
                "seccomp=unconfined",
                SecurityOption::Seccomp(Seccomp::Unconfined),
            ),
            (
                "seccomp=/a=b.json",
                SecurityOption::Seccomp(Seccomp::Profile("/a=b.json".into())),
            ),
            (
                "proc-opts=hidepid=2,subset=pid",
                SecurityOption::ProcOptions(paths(&["hidepid=2", "subset=pid"])),
            ),
        ] {
            assert_eq!(text.parse(), Ok(option), "{text}");
        }
    }

    #[test]
    fn others_are_errors() {
        let forms =
            "use apparmor=, label=, mask=, unmask=, no-new-privileges, seccomp= or proc-opts=";
        let labels = "a label is disable, nested, user:USER, role:ROLE, type:TYPE, level:LEVEL or \
                      filetype:TYPE";
        for (text, hint) in [
            ("", forms),
            ("seccomp", forms),
            ("seccomp=", forms),
            ("systempaths=confined", forms),
            ("privileged", forms),
            (
                "no-new-privileges=maybe",
                "no-new-privileges is true or false",
            ),
            ("label=disable:x", labels),
            ("label=user", labels),
            ("mask=a", "paths are absolute, with colons between them"),
            ("unmask=", "paths are absolute, with colons between them"),
        ] {
            assert_eq!(
                text.parse::<SecurityOption>().unwrap_err().to_string(),
                format!("invalid security option {text:?}: {hint}")
            );
        }
    }
}
