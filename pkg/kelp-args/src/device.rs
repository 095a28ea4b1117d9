//! `--device`: a device of the host, or one that a specification names.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, path};

/// What --device asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// A node of the host, or a directory of them.
    Node {
        /// On the host.
        source: PathBuf,
        /// In the container.
        target: PathBuf,
        /// What may be done with it.
        permissions: Permissions,
    },
    /// A device of the Container Device Interface: `vendor.com/class=name`.
    Cdi(String),
}

/// What may be done with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Permissions {
    /// Read from it.
    pub read: bool,
    /// Write to it.
    pub write: bool,
    /// Make a node for it.
    pub mknod: bool,
}

impl Permissions {
    /// Everything.
    pub const ALL: Self = Self {
        read: true,
        write: true,
        mknod: true,
    };

    /// From letters of `rwm`, each once.
    fn parse(text: &str) -> Option<Self> {
        let mut permissions = Self {
            read: false,
            write: false,
            mknod: false,
        };
        if text.is_empty() {
            return None;
        }
        for letter in text.bytes() {
            let permission = match letter {
                b'r' => &mut permissions.read,
                b'w' => &mut permissions.write,
                b'm' => &mut permissions.mknod,
                _ => return None,
            };
            if std::mem::replace(permission, true) {
                return None;
            }
        }
        Some(permissions)
    }
}

impl FromStr for Device {
    type Err = Error;

    /// `SOURCE[:TARGET][:PERMISSIONS]` or `VENDOR/CLASS=NAME`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |hint: &str| Error::invalid("device", text, hint);
        if is_cdi(text) {
            return Ok(Self::Cdi(text.to_owned()));
        }
        let fields: Vec<_> = text.split(':').collect();
        let (source, target, permissions) = match fields.as_slice() {
            [source] => (*source, None, None),
            [source, second] if second.starts_with('/') => (*source, Some(*second), None),
            [source, second] => (*source, None, Some(*second)),
            [source, target, permissions] => (*source, Some(*target), Some(*permissions)),
            _ => {
                return Err(invalid(
                    "use SOURCE[:TARGET][:PERMISSIONS] or VENDOR/CLASS=NAME",
                ));
            }
        };
        if !source.starts_with('/') {
            return Err(invalid("the path on the host must be absolute"));
        }
        let target = target.unwrap_or(source);
        Ok(Self::Node {
            source: PathBuf::from(source),
            target: path::mount_point(target).map_err(invalid)?,
            permissions: match permissions {
                None => Permissions::ALL,
                Some(letters) => Permissions::parse(letters)
                    .ok_or_else(|| invalid("permissions are letters of rwm, each once"))?,
            },
        })
    }
}

/// Whether the text is a qualified name: a vendor with the look of a domain, a class, and a name.
fn is_cdi(text: &str) -> bool {
    let Some((vendor, (class, name))) = text
        .split_once('/')
        .and_then(|(vendor, rest)| Some((vendor, rest.split_once('=')?)))
    else {
        return false;
    };
    let starts = |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric());
    let of = |part: &str, extra: &str| {
        starts(part)
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
    };
    of(vendor, "._-") && of(class, "_-") && of(name, "._-:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(source: &str, target: &str, letters: &str) -> Device {
        Device::Node {
            source: source.into(),
            target: target.into(),
            permissions: Permissions::parse(letters).unwrap(),
        }
    }

    #[test]
    fn a_device_has_a_source_a_target_and_permissions() {
        for (text, device) in [
            ("/dev/fuse", node("/dev/fuse", "/dev/fuse", "rwm")),
            ("/dev/sda:/dev/x", node("/dev/sda", "/dev/x", "rwm")),
            ("/dev/sda:r", node("/dev/sda", "/dev/sda", "r")),
            ("/dev/sda:/dev/x:mr", node("/dev/sda", "/dev/x", "rm")),
            (
                "nvidia.com/gpu=0:1",
                Device::Cdi("nvidia.com/gpu=0:1".to_owned()),
            ),
        ] {
            assert_eq!(text.parse(), Ok(device), "{text}");
        }
        for (text, hint) in [
            ("", "the path on the host must be absolute"),
            ("fuse", "the path on the host must be absolute"),
            ("/dev/a:x", "permissions are letters of rwm, each once"),
            (
                "/dev/a:/dev/b:",
                "permissions are letters of rwm, each once",
            ),
            ("/dev/a:rr", "permissions are letters of rwm, each once"),
            ("/dev/a:b:r", "the path in the container must be absolute"),
            (
                "/a:/b:r:w",
                "use SOURCE[:TARGET][:PERMISSIONS] or VENDOR/CLASS=NAME",
            ),
        ] {
            assert_eq!(
                text.parse::<Device>().unwrap_err().to_string(),
                format!("invalid device {text:?}: {hint}")
            );
        }
    }
}
