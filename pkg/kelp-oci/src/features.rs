//! `features`: what this runtime can do (runtime-spec, features.md and features-linux.md).

use kelp_runtime::seccomp::names;
use kelp_runtime::{OCI_VERSION, capabilities, hooks, mount_plan, scheduling};
use serde_json::{Value, json};

/// The document. Most names come from the tables that configurations are read with.
pub fn features() -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": hooks::names(),
        "mountOptions": mount_plan::option_names(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities::known_names(),
            "cgroup": {
                "v1": false,
                "v2": true,
                "systemd": true,
                "systemdUser": true,
                "rdma": false,
            },
            "seccomp": {
                "enabled": true,
                "actions": names::actions(),
                "operators": names::operators(),
                "archs": names::architectures(),
                "knownFlags": names::flags(),
                "supportedFlags": names::supported_flags(),
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": false},
            "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
            "memoryPolicy": {
                "modes": scheduling::memory_modes(),
                "flags": scheduling::memory_flags(),
            },
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
        },
        "annotations": {},
        "potentiallyUnsafeConfigAnnotations": [],
    })
}

#[cfg(test)]
mod tests {
    use super::features;
    use oci_spec::runtime::Features;

    #[test]
    fn the_document_is_the_specifications() {
        let read: Features = serde_json::from_value(features()).unwrap();
        let linux = read.linux().as_ref().unwrap();
        let seccomp = linux.seccomp().as_ref().unwrap();
        assert_eq!(seccomp.actions().as_ref().unwrap().len(), 9);
        assert!(seccomp.archs().as_ref().unwrap().len() >= 8);
        let policy = linux.memory_policy().as_ref().unwrap();
        assert_eq!(policy.modes().as_ref().unwrap().len(), 7);
        let devices = linux.net_devices().as_ref().unwrap();
        assert_eq!(*devices.enabled(), Some(true));
        // Nothing in it was passed over.
        assert_eq!(serde_json::to_value(read).unwrap(), features());
    }
}
