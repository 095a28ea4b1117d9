//! The config.json that cases begin with.

use std::ops::{Deref, DerefMut};

use serde_json::{Value, json};

/// What the container's root can do unless a case says something else.
pub(crate) const CAPABILITIES: [&str; 8] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
];

/// A configuration.
#[derive(Clone, Debug)]
pub(crate) struct Spec(pub(crate) Value);

impl Deref for Spec {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

impl DerefMut for Spec {
    fn deref_mut(&mut self) -> &mut Value {
        &mut self.0
    }
}

impl Spec {
    /// A whole container: every namespace but that of time, the usual file systems. With a user
    /// namespace of one id if the ids are there.
    pub(crate) fn new(own: Option<(u32, u32)>, cgroup: &str) -> Self {
        let flags = json!(["nosuid", "noexec", "nodev"]);
        let mut spec = Self(json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["/bin/true"],
                "env": ["PATH=/bin"],
                "cwd": "/",
                "capabilities": {
                    "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
                },
            },
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                    "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                    "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                    "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
                {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": flags},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs",
                    "options": ["nosuid", "noexec", "nodev", "ro"]},
            ],
            "linux": {
                "cgroupsPath": cgroup,
                "namespaces": [
                    {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                    {"type": "mount"}, {"type": "cgroup"},
                ],
            },
        }));
        if let Some((uid, gid)) = own {
            let one = |host: u32| json!([{"containerID": 0, "hostID": host, "size": 1}]);
            spec.namespace("user", None);
            spec["linux"]["uidMappings"] = one(uid);
            spec["linux"]["gidMappings"] = one(gid);
        }
        spec
    }

    /// Has the container run a shell command.
    pub(crate) fn script(&mut self, script: &str) {
        self["process"]["args"] = json!(["/bin/sh", "-c", script]);
    }

    /// Adds a mount after the others.
    pub(crate) fn mount(&mut self, mount: Value) {
        self.list("/mounts").push(mount);
    }

    /// Adds a namespace, or says another place for it.
    pub(crate) fn namespace(&mut self, kind: &str, path: Option<&str>) {
        self.without_namespace(kind);
        let mut entry = json!({"type": kind});
        if let Some(path) = path {
            entry["path"] = path.into();
        }
        self.list("/linux/namespaces").push(entry);
    }

    /// Leaves a namespace out.
    pub(crate) fn without_namespace(&mut self, kind: &str) {
        let all = self.list("/linux/namespaces");
        all.retain(|entry| entry["type"] != kind);
    }

    /// Leaves out what is mounted at or beneath a path.
    pub(crate) fn without_mount(&mut self, destination: &str) {
        let beneath = format!("{destination}/");
        self.list("/mounts").retain(|mount| {
            let path = mount["destination"].as_str().unwrap_or_default();
            path != destination && !path.starts_with(&beneath)
        });
    }

    /// Shows the host's /proc or /sys in place of a new one, which only who has its namespace can
    /// mount in a user namespace.
    pub(crate) fn bind_instead(&mut self, path: &str, rootless: bool) {
        if rootless {
            self.without_mount(path);
            self.mount(json!({"destination": path, "source": path, "options": ["rbind"]}));
        }
    }

    /// Gives the container exactly these capabilities.
    pub(crate) fn capabilities(&mut self, names: &[&str]) {
        self["process"]["capabilities"] = json!({
            "bounding": names, "effective": names, "permitted": names,
        });
    }

    /// Adds a hook: a shell command of the host's, or of the container's.
    pub(crate) fn hook(&mut self, name: &str, shell: &str, script: &str) {
        let hook = json!({
            "path": shell, "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"],
        });
        if self["hooks"][name].is_null() {
            self["hooks"][name] = json!([]);
        }
        self.list(&format!("/hooks/{name}")).push(hook);
    }

    fn list(&mut self, pointer: &str) -> &mut Vec<Value> {
        let list = self.0.pointer_mut(pointer).and_then(Value::as_array_mut);
        list.expect("a case changes lists that are there")
    }
}
