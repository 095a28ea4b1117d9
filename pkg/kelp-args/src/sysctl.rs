//! `--sysctl`: a kernel parameter of one of the container's namespaces.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// A kernel parameter and its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sysctl {
    /// With dots: `net.ipv4.ip_forward`.
    pub name: String,
    /// As it is written to the file.
    pub value: String,
}

/// The namespace that a parameter belongs to. Without one of its own, the container can't have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Namespace {
    /// System V and POSIX queues.
    Ipc,
    /// The network.
    Network,
    /// The host's and the domain's name.
    Uts,
}

/// The parameters of an IPC namespace, besides those under fs.mqueue.
const IPC: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

impl Sysctl {
    /// The namespace that has it.
    pub fn namespace(&self) -> Option<Namespace> {
        match self.name.as_str() {
            name if name.starts_with("net.") => Some(Namespace::Network),
            name if name.starts_with("fs.mqueue.") || IPC.contains(&name) => Some(Namespace::Ipc),
            "kernel.domainname" | "kernel.hostname" => Some(Namespace::Uts),
            _ => None,
        }
    }
}

impl FromStr for Sysctl {
    type Err = Error;

    /// `NAME=VALUE`. A name is a path under /proc/sys once its dots are slashes, so what could
    /// lead out of there is no name.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |hint: &str| Error::invalid("sysctl", text, hint);
        let forms = || invalid("use NAME=VALUE, with dots in the name");
        let (name, value) = text.split_once('=').ok_or_else(forms)?;
        let (name, value) = (name.trim(), value.trim());
        let is_part = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        };
        if value.contains('\0') || !name.split('.').all(is_part) {
            return Err(forms());
        }
        let sysctl = Self {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        if sysctl.namespace().is_none() {
            return Err(invalid(
                "no namespace has it: use net.*, fs.mqueue.*, kernel.msg*, kernel.sem, \
                 kernel.shm* or kernel.domainname",
            ));
        }
        Ok(sysctl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_has_a_namespace() {
        for (text, namespace) in [
            ("net.ipv4.ip_forward=1", Namespace::Network),
            ("fs.mqueue.msg_max=100", Namespace::Ipc),
            ("kernel.sem=250 32000 100 128", Namespace::Ipc),
            ("kernel.shm_rmid_forced=1", Namespace::Ipc),
            ("kernel.domainname=example", Namespace::Uts),
        ] {
            let sysctl: Sysctl = text.parse().unwrap();
            assert_eq!(sysctl.namespace(), Some(namespace), "{text}");
            assert_eq!(format!("{}={}", sysctl.name, sysctl.value), text);
        }
        for text in [
            "",
            "net.x",
            "=1",
            "net..x=1",
            "net/ipv4/x=1",
            "net.../../x=1",
            "net.a b=1",
        ] {
            assert_eq!(
                text.parse::<Sysctl>().unwrap_err().to_string(),
                format!("invalid sysctl {text:?}: use NAME=VALUE, with dots in the name")
            );
        }
        for text in ["vm.swappiness=1", "kernel.panic=1", "kernel.shmx=1"] {
            assert_eq!(
                text.parse::<Sysctl>().unwrap_err().to_string(),
                format!(
                    "invalid sysctl {text:?}: no namespace has it: use net.*, fs.mqueue.*, \
                     kernel.msg*, kernel.sem, kernel.shm* or kernel.domainname"
                )
            );
        }
    }
}
