//! Where a case plays: a bundle, a state root, a place in the cgroups, and the runtime.

use std::cell::{Cell, RefCell};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::command::{self, Done};
use crate::container::Container;
use crate::left;
use crate::outcome::{Outcome, fails, holds, same};
use crate::runtime::Runtime;
use crate::spec::Spec;

/// What scripts may call.
const APPLETS: &str = "[ awk cat chmod chown cmp cp cut date dd df dirname echo env expr false find \
    getty grep head hostname id ionice ip kill ln ls mkdir mkfifo mknod mount mountpoint nice nproc \
    nsenter od ping printf ps pwd readlink rm rmdir sed seq setsid sh sleep sort stat stty su sync \
    sysctl tail taskset test time timeout touch tr true tty uname unshare umount wc xargs yes";

/// What is at hand for one case. Dropped, it removes all of it.
pub(crate) struct Stage<'a> {
    runtime: &'a Runtime,
    /// Beneath it is everything that the case has.
    directory: TempDir,
    /// How many commands there were, for the names of their files.
    commands: Cell<u32>,
    /// Whether cgroups are systemd's to make: the runtime is told so, and configurations say which scope.
    by_systemd: bool,
    /// Containers that may be there.
    ids: RefCell<Vec<String>>,
    /// The case's own part of every name.
    prefix: String,
}

impl<'a> Stage<'a> {
    /// Sets the stage.
    pub(crate) fn new(runtime: &'a Runtime, number: usize, by_systemd: bool) -> Outcome<Self> {
        let directory = tempfile::Builder::new().prefix("rs-").tempdir()?;
        // Whoever the container's root is gets to its files.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let stage = Self {
            runtime,
            directory,
            commands: Cell::new(0),
            by_systemd,
            ids: RefCell::default(),
            prefix: format!("rs-{}-{number}", std::process::id()),
        };
        stage.make_rootfs("rootfs")?;
        Ok(stage)
    }

    /// Makes a root file system in the bundle: busybox, and empty directories.
    pub(crate) fn make_rootfs(&self, name: &str) -> Outcome {
        let root = self.bundle().join(name);
        for directory in ["bin", "dev", "etc", "proc", "sys", "tmp", "m", "n"] {
            fs::create_dir_all(root.join(directory))?;
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
        fs::hard_link(self.runtime.busybox(), root.join("bin/busybox"))?;
        for applet in APPLETS.split_whitespace() {
            symlink("busybox", root.join("bin").join(applet))?;
        }
        Ok(())
    }

    /// The runtime under test.
    pub(crate) fn runtime(&self) -> &Runtime {
        self.runtime
    }

    /// The bundle's directory.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.directory.path().join("bundle")
    }

    /// A path in the container's root, seen from outside.
    pub(crate) fn rootfs(&self, path: &str) -> PathBuf {
        self.bundle().join("rootfs").join(path)
    }

    /// A path of the host's for this case.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A directory of the host's with a file `file` in it, for binds.
    pub(crate) fn source(&self, name: &str) -> Outcome<String> {
        let path = self.path(name);
        fs::create_dir_all(&path)?;
        fs::write(path.join("file"), format!("of {name}\n"))?;
        Ok(path.display().to_string())
    }

    /// Where the state of containers is.
    pub(crate) fn state_root(&self) -> PathBuf {
        self.path("state")
    }

    /// The first container's id.
    pub(crate) fn id(&self) -> String {
        self.other_id("a")
    }

    /// Another container's id.
    pub(crate) fn other_id(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// What `cgroupsPath` says for an id.
    pub(crate) fn cgroup(&self, id: &str) -> String {
        format!("{}/{id}", self.runtime.own_cgroup().trim_end_matches('/'))
    }

    /// Where that is.
    pub(crate) fn cgroup_directory(&self, id: &str) -> PathBuf {
        PathBuf::from(format!("/sys/fs/cgroup{}", self.cgroup(id)))
    }

    /// What `cgroupsPath` says for the first container where systemd makes the cgroups.
    pub(crate) fn scope(&self) -> String {
        format!(":rs:{}", self.id())
    }

    /// Whether containers are an ordinary user's.
    pub(crate) fn rootless(&self) -> bool {
        self.runtime.own_ids().0 != 0
    }

    /// The configuration to begin with.
    pub(crate) fn spec(&self) -> Spec {
        let own = self.rootless().then(|| self.runtime.own_ids());
        let cgroup = if self.by_systemd {
            self.scope()
        } else {
            self.cgroup(&self.id())
        };
        Spec::new(own, &cgroup)
    }

    /// The same with 65536 ids in a user namespace, also as root.
    pub(crate) fn wide_spec(&self) -> Outcome<Spec> {
        let (uid, gid) = self.runtime.own_ids();
        let mut spec = Spec::new(Some((uid, gid)), &self.cgroup(&self.id()));
        let (uids, gids) = self.runtime.wide_maps()?;
        spec["linux"]["uidMappings"] = uids;
        spec["linux"]["gidMappings"] = gids;
        Ok(spec)
    }

    /// Writes config.json.
    pub(crate) fn write(&self, spec: &Value) -> Outcome {
        let path = self.bundle().join("config.json");
        Ok(fs::write(path, serde_json::to_vec(spec)?)?)
    }

    /// A command of the runtime's.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.runtime.path());
        self.furnish(&mut command);
        command.arg("--root").arg(self.state_root());
        if self.by_systemd {
            let session = self.runtime.session();
            let bus = format!("unix:path={}", session.join("bus").display());
            command
                .arg("--systemd-cgroup")
                .env("XDG_RUNTIME_DIR", session)
                .env("DBUS_SESSION_BUS_ADDRESS", bus);
        }
        command.args(words);
        command
    }

    /// Gives a command the environment that runtimes get.
    pub(crate) fn furnish(&self, command: &mut Command) {
        command
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("XDG_RUNTIME_DIR", self.directory.path())
            .env("KELP_TEST_CANARY", "of the host")
            .current_dir(self.bundle());
    }

    /// Runs a command of the runtime's to its end.
    pub(crate) fn call(&self, words: &[&str]) -> Outcome<Done> {
        self.finish(self.command(words))
    }

    /// Runs a command of the runtime's that a shell becomes after `first`.
    pub(crate) fn call_after(&self, first: &str, words: &[&str]) -> Outcome<Done> {
        let runtime = self.command(words);
        let mut command = Command::new("/bin/sh");
        self.furnish(&mut command);
        command
            .args(["-c", &format!("{first}; exec \"$0\" \"$@\"")])
            .arg(runtime.get_program())
            .args(runtime.get_args());
        self.finish(command)
    }

    /// Runs a command of the runtime's about a container, which is deleted at the end.
    pub(crate) fn call_on(&self, verb: &str, id: &str) -> Outcome<Done> {
        self.remember(id);
        self.call(&[verb, id])
    }

    /// Runs any command to its end.
    pub(crate) fn finish(&self, command: Command) -> Outcome<Done> {
        let number = self.commands.get();
        self.commands.set(number + 1);
        command::run(command, self.directory.path(), &format!("command{number}"))
    }

    /// Remembers an id, so that it is deleted at the end.
    pub(crate) fn remember(&self, id: &str) {
        self.ids.borrow_mut().push(id.to_owned());
    }

    /// `run` in the foreground.
    pub(crate) fn run(&self, spec: &Spec) -> Outcome<Done> {
        self.run_with(spec, &[])
    }

    /// `run` in the foreground, with flags.
    pub(crate) fn run_with(&self, spec: &Spec, flags: &[&str]) -> Outcome<Done> {
        self.write(spec)?;
        self.remember(&self.id());
        self.call(&[&["run"], flags, &[&self.id()]].concat())
    }

    /// What a shell command in the container prints.
    pub(crate) fn shell(&self, spec: &mut Spec, script: &str) -> Outcome<String> {
        spec.script(script);
        self.run(spec)?.succeeds()
    }

    /// Asserts what a shell command prints.
    pub(crate) fn prints(&self, spec: &mut Spec, script: &str, expected: &str) -> Outcome {
        let out = self.shell(spec, script)?;
        same(&format!("`{script}`"), out.as_str(), expected)
    }

    /// `create`.
    pub(crate) fn create(&self, spec: &Spec) -> Outcome<Container<'_>> {
        self.create_as(&self.id(), spec)
    }

    /// `create` of another container.
    pub(crate) fn create_as(&self, id: &str, spec: &Spec) -> Outcome<Container<'_>> {
        self.write(spec)?;
        Container::create(self, id, &["create"])
    }

    /// `create` and `start` of a shell command that prints "ready" and then stays.
    pub(crate) fn running(&self, spec: &mut Spec) -> Outcome<Container<'_>> {
        spec.script("echo ready; exec sleep 1000");
        let container = self.create(spec)?;
        container.start()?;
        container.reads("ready\n")?;
        Ok(container)
    }

    /// Asserts that `create` fails, says why, and leaves nothing.
    pub(crate) fn refuses(&self, spec: &Spec) -> Outcome<String> {
        self.write(spec)?;
        self.refuses_call(&["create", &self.id()])
    }

    /// Asserts that neither `create` nor `start` takes it; what `start` refuses is deleted.
    pub(crate) fn refuses_late(&self, spec: &Spec) -> Outcome<String> {
        self.write(spec)?;
        let id = self.id();
        self.remember(&id);
        let done = self.call(&["create", &id])?;
        if done.code != 0 {
            self.says_why(&done.err)?;
            return Ok(done.err);
        }
        let said = self.call(&["start", &id])?.refused()?;
        self.says_why(&said)?;
        self.call(&["delete", "--force", &id])?.succeeds()?;
        Ok(said)
    }

    /// Asserts that a command fails, says why, and leaves nothing.
    pub(crate) fn refuses_call(&self, words: &[&str]) -> Outcome<String> {
        let said = self.call(words)?.refused()?;
        if let Some(id) = words.last() {
            self.remember(id);
        }
        self.says_why(&said)?;
        self.left_nothing()?;
        Ok(said)
    }

    /// An error is said; kelp-runtime says it in one line.
    pub(crate) fn says_why(&self, said: &str) -> Outcome {
        let lines = said.lines().filter(|line| !line.trim().is_empty()).count();
        holds(lines > 0, "it fails and does not say why")?;
        if self.runtime.is_kelp() {
            return holds(lines == 1, format!("more than one line: {said:?}"));
        }
        Ok(())
    }

    /// Asserts that nothing is left of any container: state, cgroup, process.
    pub(crate) fn left_nothing(&self) -> Outcome {
        let mut left = left::entries(&self.state_root());
        left.extend(left::cgroups(self.runtime.own_cgroup(), &self.prefix));
        left.extend(left::processes());
        if left.is_empty() {
            return Ok(());
        }
        fails(format!("left behind: {}", left.join(", ")))
    }

    /// Deletes what containers there are, and says what stays.
    pub(crate) fn clear(&self) -> Outcome {
        for id in self.ids.borrow().iter() {
            if !left::entries(&self.state_root()).is_empty() {
                self.call(&["delete", "--force", id])?;
            }
        }
        let left = self.left_nothing();
        left::remove_cgroups(self.runtime.own_cgroup(), &self.prefix);
        left
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if fs::remove_dir_all(self.directory.path()).is_err() && self.rootless() {
            remove_as_root_inside(self.directory.path());
        }
    }
}

/// Subordinate ids may own some of it: it takes a user namespace to delete that.
fn remove_as_root_inside(directory: &Path) {
    let _ = Command::new("unshare")
        .args(["--user", "--map-auto", "--map-root-user", "rm", "-rf"])
        .arg(directory)
        .status();
}
