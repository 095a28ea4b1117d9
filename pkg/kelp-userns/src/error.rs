//! Why a user namespace can't be had, and what to do about it.

use std::fs;
use std::io;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel or its configuration forbids user namespaces.
    #[error("user namespaces are not available: {hint}")]
    Forbidden {
        /// The setting that forbids them and how to change it.
        hint: String,
    },
    /// newuidmap or newgidmap is missing, lacks its privilege, or refused the map.
    #[error("{0}")]
    Newidmap(String),
    /// A map that can't be: overlapping, out of range, or outside of what the user owns.
    #[error("{0}")]
    Map(String),
    /// Any other failed operation.
    #[error("{what}")]
    Io {
        /// The operation and its object.
        what: String,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            what: what.into(),
            source,
        }
    }
}

/// Finds out which setting forbids user namespaces, for a failed clone(2) or unshare(2).
pub fn forbidden(error: &io::Error) -> Error {
    Error::Forbidden {
        hint: forbidden_hint(error, &|path| fs::read_to_string(path).ok()),
    }
}

fn forbidden_hint(error: &io::Error, read: &dyn Fn(&str) -> Option<String>) -> String {
    let value = |path: &str| read(path).map(|text| text.trim().to_owned());
    if value("/proc/sys/user/max_user_namespaces").as_deref() == Some("0") {
        return "set the sysctl user.max_user_namespaces=15000".to_owned();
    }
    if value("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        return "set the sysctl kernel.unprivileged_userns_clone=1".to_owned();
    }
    if value("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        return "AppArmor restricts them: install kelp's profile (contrib/apparmor/kelp) as \
                /etc/apparmor.d/kelp and reload it, or set the sysctl \
                kernel.apparmor_restrict_unprivileged_userns=0"
            .to_owned();
    }
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "the kernel refuses them here: kelp may be running in a chroot, or in a container whose \
             seccomp profile forbids unshare(2)"
                .to_owned()
        }
        io::ErrorKind::StorageFull => {
            "too many of them exist: raise the sysctl user.max_user_namespaces, or nest less"
                .to_owned()
        }
        _ => format!("{error}; the kernel needs CONFIG_USER_NS"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_that_forbids_is_named() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        for (file, content, expected) in [
            (
                "/proc/sys/user/max_user_namespaces",
                "0\n",
                "user.max_user_namespaces",
            ),
            (
                "/proc/sys/kernel/unprivileged_userns_clone",
                "0\n",
                "kernel.unprivileged_userns_clone=1",
            ),
            (
                "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
                "1\n",
                "contrib/apparmor/kelp",
            ),
            ("/nothing", "", "chroot"),
        ] {
            let hint = forbidden_hint(&denied, &|path| (path == file).then(|| content.to_owned()));
            assert!(hint.contains(expected), "{hint}");
        }
    }
}
