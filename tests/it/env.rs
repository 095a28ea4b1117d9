//! A user's world of its own for one test.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use crate::image::Image;
use crate::kelp::{Kelp, beside};
use crate::leaks;
use crate::registry::Registry;
use crate::skip;

/// Private directories in place of the user's, and the registry that all tests share.
///
/// Dropping it fails the test if a process, a file or a container is left.
pub(crate) struct Env {
    root: TempDir,
    runtime: PathBuf,
    registry: Arc<Registry>,
    pulled: Mutex<BTreeSet<String>>,
    /// Of every command's environment.
    variables: Vec<(&'static str, &'static str)>,
}

impl Env {
    /// A fresh world; nothing, and a SKIP line, where the machine can't run containers.
    pub(crate) fn new() -> Option<Self> {
        Some(Self::private(Self::in_directory(
            &std::env::temp_dir(),
            None,
        )?))
    }

    /// Makes the runtime directory.
    fn private(env: Self) -> Self {
        fs::create_dir(&env.runtime).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&env.runtime, private).unwrap();
        env
    }

    /// A fresh world whose files are on an overlay, where no overlay of kelp's can be.
    pub(crate) fn overlaid() -> Option<Self> {
        let parent = Path::new("/var/tmp");
        let filesystem = rustix::fs::statfs(parent).unwrap();
        // OVERLAYFS_SUPER_MAGIC of statfs(2).
        if filesystem.f_type != 0x794c_7630 {
            skip::skip("an overlay on /var/tmp (tests/bed as root makes one)");
            return None;
        }
        Some(Self::private(Self::in_directory(parent, None)?))
    }

    /// A fresh world on a file system where files can share blocks.
    pub(crate) fn of_reflinks() -> Option<Self> {
        let parent = Path::new("/srv");
        // XFS_SUPER_MAGIC of statfs(2).
        if rustix::fs::statfs(parent).unwrap().f_type != 0x5846_5342 {
            skip::skip("XFS on /srv (tests/bed as root mounts one)");
            return None;
        }
        Some(Self::private(Self::in_directory(parent, None)?))
    }

    /// A fresh world in which overlays are mounted as on kernels before Linux 6.5.
    pub(crate) fn of_old_kernel() -> Option<Self> {
        let mut env = Self::new()?;
        env.variables.push(("KELP_TEST_OLD_OVERLAY", "1"));
        Some(env)
    }

    /// The usual world, that on an overlay, and that of an older kernel unless the kernel is one.
    pub(crate) fn each() -> impl Iterator<Item = Self> {
        let makers: &[fn() -> Option<Self>] = if is_old_kernel() {
            &[Self::new, Self::overlaid]
        } else {
            &[Self::new, Self::overlaid, Self::of_old_kernel]
        };
        makers.iter().filter_map(|make| make())
    }

    /// A fresh world that shares the user's runtime directory, where the user's systemd is.
    pub(crate) fn of_session() -> Option<Self> {
        let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) else {
            skip::skip("XDG_RUNTIME_DIR");
            return None;
        };
        if !runtime.join("systemd/private").exists() {
            skip::skip("a systemd for the user");
            return None;
        }
        Self::in_directory(&std::env::temp_dir(), Some(runtime))
    }

    fn in_directory(parent: &Path, runtime: Option<PathBuf>) -> Option<Self> {
        if let Some(missing) = skip::missing() {
            skip::skip(missing);
            return None;
        }
        // Short: a unix socket's path has 107 bytes, and a container's id takes 64 of them.
        let root = tempfile::Builder::new()
            .prefix("k")
            .rand_bytes(5)
            .tempdir_in(parent)
            .unwrap();
        let registry = Registry::shared();
        let runtime = runtime.unwrap_or_else(|| root.path().join("r"));
        let env = Self {
            root,
            runtime,
            registry,
            pulled: Mutex::default(),
            variables: Vec::new(),
        };
        for directory in ["h", "d", "c/containers"] {
            fs::create_dir_all(env.path(directory)).unwrap();
        }
        let registries = format!(
            "[[registry]]\nlocation = \"{}\"\ninsecure = true\n",
            env.registry.address
        );
        fs::write(env.path("c/containers/registries.conf"), registries).unwrap();
        Some(env)
    }

    /// Makes the link by whose name kelp is a low-level runtime.
    pub(crate) fn link_runtime(&self) {
        symlink(kelp_program(), self.path("h/kelp-runtime")).unwrap();
    }

    /// Another program in this world.
    pub(crate) fn program(&self, name: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(name);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("h"))
            .env("XDG_RUNTIME_DIR", &self.runtime)
            .current_dir(self.path("h"))
            .stdin(Stdio::null());
        command
    }

    /// A path in this world as a word of a command line.
    pub(crate) fn word(&self, name: &str) -> String {
        self.path(name).into_os_string().into_string().unwrap()
    }

    /// A file or directory of this world.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The shared registry.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The image that most tests use, busybox and the probe, in the store; its name.
    pub(crate) fn busybox(&self) -> String {
        self.image("busybox", &Image::busybox)
    }

    /// An image in the store; its name.
    pub(crate) fn image(&self, name: &str, make: &dyn Fn() -> Image) -> String {
        let reference = self.push(name, make);
        if self.pulled.lock().unwrap().insert(name.to_owned()) {
            self.kelp(&["pull", "-q", &reference]).succeeds();
        }
        reference
    }

    /// An image in the registry, made once for all tests; its name.
    pub(crate) fn push(&self, name: &str, make: &dyn Fn() -> Image) -> String {
        self.registry.push_once(name, make);
        format!("{}/{name}:latest", self.registry.address)
    }

    /// Its $XDG_RUNTIME_DIR.
    pub(crate) fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// A kelp command in this world.
    pub(crate) fn kelp(&self, arguments: &[&str]) -> Kelp {
        let mut command = self.program(kelp_program());
        command
            .args(arguments)
            .env("XDG_DATA_HOME", self.path("d"))
            .env("XDG_CONFIG_HOME", self.path("c"))
            .env("LANG", "C.UTF-8")
            // Nothing of this must show in a container (podman 2026-57231, CVE-2020-14370).
            .env("KELP_TEST_CANARY", "of the host")
            .envs(self.variables.iter().copied());
        Kelp::new(command)
    }

    /// A kelp command that a shell becomes after `first`, which changes limits or the umask.
    pub(crate) fn kelp_after(&self, first: &str, arguments: &[&str]) -> Kelp {
        let kelp = self.kelp(arguments).into_command();
        let mut command = beside(&kelp, "sh");
        command
            .args(["-c", &format!("{first}; exec \"$0\" \"$@\"")])
            .arg(kelp.get_program())
            .args(kelp.get_args());
        Kelp::new(command)
    }

    /// Starts a container that waits; its id.
    pub(crate) fn waiting(&self, name: &str, flags: &[&str]) -> String {
        let image = self.busybox();
        let program = [image.as_str(), "sleep", "1000"];
        let words = [&["run", "-d", "--name", name], flags, &program].concat();
        self.kelp(&words).succeeds().trim().to_owned()
    }

    /// `kelp run --rm` of the busybox image with a shell command; what it prints.
    pub(crate) fn shell(&self, flags: &[&str], script: &str) -> String {
        let image = self.busybox();
        let mut arguments = vec!["run", "--rm"];
        arguments.extend(flags);
        arguments.extend([image.as_str(), "sh", "-c", script]);
        self.kelp(&arguments).succeeds()
    }

    /// Removes everything, by whoever owns it.
    fn clean(&self) {
        // Layers belong to subordinate ids, so it takes a user namespace to delete them; not kelp's
        // own remover, which is under test.
        let _ = mapped("rm")
            .arg("-rf")
            .args(["d", "r", "h", "c"].map(|name| self.path(name)))
            .stdin(Stdio::null())
            .status();
    }
}

/// Puts kelp under another name. By a process of its own: what this one has open to be written, another
/// test's child may hold a moment longer, and until then nobody can execute it (`ETXTBSY`, execve(2)).
pub(crate) fn copy_kelp(to: &Path) {
    let status = Command::new("cp").arg(kelp_program()).arg(to).status();
    assert!(status.unwrap().success());
}

/// What is in a directory, sorted; nothing of one that is not there.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        entries => entries.unwrap(),
    };
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A program that is root of a user namespace with all ids that the user has.
pub(crate) fn mapped(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-auto", "--map-root-user", program]);
    command
}

impl Drop for Env {
    fn drop(&mut self) {
        let mut left = leaks::processes(self.root.path());
        let mut files = leaks::runtime_files(&self.runtime.join("kelp"));
        if !self.runtime.starts_with(self.root.path()) {
            // Others have theirs there.
            let own = leaks::containers_of(&self.path("d/kelp"));
            files.retain(|file| own.iter().any(|id| file.contains(id)));
        }
        left.extend(files);
        left.extend(leaks::containers(&self.path("d/kelp")));
        left.extend(leaks::cgroups(&self.path("d/kelp")));
        self.clean();
        if !std::thread::panicking() {
            assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
        }
    }
}

/// The binary under test.
pub(crate) fn kelp_program() -> PathBuf {
    std::env::var_os("KELP_BIN").map_or_else(
        || Path::new(env!("CARGO_BIN_EXE_kelp")).to_owned(),
        PathBuf::from,
    )
}

/// Whether overlayfs takes no descriptors for layers, as before Linux 6.5.
pub(crate) fn is_old_kernel() -> bool {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let mut numbers = release.split('.').map(str::parse::<u32>);
    let mut number = || numbers.next().unwrap().unwrap();
    (number(), number()) < (6, 5)
}
