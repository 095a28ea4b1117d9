//! `doctor`: what this host offers to rootless containers, and how to get what it lacks.

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use kelp_network::program::Program;
use kelp_userns::subid::user_name;
use kelp_userns::{UserNamespace, own};
use rustix::fs::{Access, access};

use crate::container::config::UserMode;
use crate::{Engine, doctor_overlay, host};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Something is lost, and containers run.
    Warn,
    /// Containers don't run.
    Fail,
}

/// A check and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it came out.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do; empty where nothing is to be done.
    pub fix: String,
}

impl Check {
    pub(crate) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            level: Level::Ok,
            found: found.into(),
            fix: String::new(),
        }
    }

    pub(crate) fn bad(
        level: Level,
        name: &'static str,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            name,
            level,
            found: found.into(),
            fix: fix.into(),
        }
    }
}

/// The first kernel whose overlay a user namespace may mount.
const KERNEL: (u32, u32) = (5, 11);
/// The first kernel with mount_setattr(2).
const KERNEL_WHOLE: (u32, u32) = (5, 12);

impl Engine {
    /// Looks at everything that rootless containers need.
    pub fn doctor(&self) -> Vec<Check> {
        let mut checks = vec![kernel()];
        checks.extend(sub_ids());
        checks.push(mapper("newuidmap"));
        checks.push(mapper("newgidmap"));
        let namespace = host::id_map(&UserMode::Host)
            .map_err(|error| error.line())
            .and_then(|map| {
                let made = own::inner(&map).and_then(UserNamespace::create);
                made.map_err(|error| error.to_string())
            });
        match namespace {
            Ok(namespace) => {
                let ids: u64 = namespace
                    .map()
                    .uids
                    .iter()
                    .map(|line| u64::from(line.size))
                    .sum();
                checks.push(Check::ok("user namespace", format!("made, with {ids} ids")));
                checks.push(doctor_overlay::check(self, &namespace));
            }
            Err(why) => checks.push(Check::bad(Level::Fail, "user namespace", "refused", why)),
        }
        checks.push(cgroup());
        checks.extend(linger());
        checks.push(runtime_directory());
        checks.push(pasta());
        checks.push(tun());
        checks.push(seccomp());
        checks
    }
}

fn kernel() -> Check {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let version = version(&release);
    if version < KERNEL {
        let fix = "5.11 is the first whose overlay works without root: install a newer one";
        return Check::bad(Level::Fail, "kernel", release, fix);
    }
    if version < KERNEL_WHOLE {
        let fix = "5.12 is the first with mount_setattr: read-only mounts need it";
        return Check::bad(Level::Warn, "kernel", release, fix);
    }
    Check::ok("kernel", release)
}

/// `6.12.5-amd64`
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn sub_ids() -> [Check; 2] {
    let uid = own::ids().0;
    let name = user_name(uid).unwrap_or_else(|| uid.to_string());
    let ranges = own::subordinate().unwrap_or_default();
    let check = |file: &'static str, ids: Vec<u32>| {
        let total: u64 = ids.iter().copied().map(u64::from).sum();
        if uid == 0 || total >= 65536 {
            return Check::ok(file, format!("{total} ids for {name}"));
        }
        let found = format!("{total} ids for {name}");
        let option = if file == "/etc/subuid" {
            "--add-subuids"
        } else {
            "--add-subgids"
        };
        let fix = format!(
            "usermod {option} 100000-165535 {name} (or another range that is free in {file}); \
             without one, images with several users are extracted with one owner"
        );
        Check::bad(Level::Warn, file, found, fix)
    };
    [
        check(
            "/etc/subuid",
            ranges.uids.iter().map(|range| range.size).collect(),
        ),
        check(
            "/etc/subgid",
            ranges.gids.iter().map(|range| range.size).collect(),
        ),
    ]
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/bin".into(), "/usr/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|file| access(file, Access::EXEC_OK).is_ok())
}

fn mapper(name: &'static str) -> Check {
    let Some(path) = in_path(name) else {
        let fix = "install it (Debian and Ubuntu: apt install uidmap; Fedora: dnf install \
                   shadow-utils)";
        return Check::bad(Level::Warn, name, "not found", fix);
    };
    let shown = path.display().to_string();
    let setuid = fs::metadata(&path)
        .is_ok_and(|metadata| metadata.uid() == 0 && metadata.permissions().mode() & 0o4000 != 0);
    let mut value = [0_u8; 32];
    let capable = rustix::fs::getxattr(&path, "security.capability", &mut value[..]).is_ok();
    if setuid || capable {
        let how = if setuid {
            "setuid root"
        } else {
            "with file capabilities"
        };
        return Check::ok(name, format!("{shown}, {how}"));
    }
    let capability = if name == "newuidmap" {
        "cap_setuid"
    } else {
        "cap_setgid"
    };
    let fix = format!("chmod u+s {shown}, or setcap {capability}+ep {shown}");
    Check::bad(Level::Warn, name, format!("{shown} has no privilege"), fix)
}

/// Whether systemd is this user's manager: it makes scopes, and delegates them.
pub(crate) fn has_manager() -> bool {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    runtime.is_some_and(|runtime| runtime.join("systemd/private").exists())
}

/// Where containers' cgroups are made, and the controllers there: below the user's manager, or in the
/// nearest cgroup that this user may write to.
pub(crate) fn delegated() -> Option<(PathBuf, Vec<String>)> {
    let root = Path::new("/sys/fs/cgroup");
    if has_manager() {
        let uid = own::ids().0;
        let place = root.join(format!("user.slice/user-{uid}.slice/user@{uid}.service"));
        if let Ok(list) = fs::read_to_string(place.join("cgroup.controllers")) {
            return Some((place, list.split_whitespace().map(str::to_owned).collect()));
        }
    }
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mut place = root.join(own);
    loop {
        if access(place.join("cgroup.procs"), Access::WRITE_OK).is_ok()
            && access(&place, Access::WRITE_OK).is_ok()
        {
            let list = fs::read_to_string(place.join("cgroup.controllers")).ok()?;
            return Some((place, list.split_whitespace().map(str::to_owned).collect()));
        }
        if place == root || !place.pop() {
            return None;
        }
    }
}

fn cgroup() -> Check {
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        let fix = "limits need cgroup v2: boot with systemd.unified_cgroup_hierarchy=1";
        return Check::bad(Level::Warn, "cgroup v2", "not mounted", fix);
    }
    let fix = "start kelp in a systemd user session, and delegate all controllers: in \
               /etc/systemd/system/user@.service.d/delegate.conf write [Service] and \
               Delegate=cpu cpuset io memory pids";
    let Some((place, controllers)) = delegated() else {
        return Check::bad(Level::Warn, "cgroup v2", "no cgroup is delegated", fix);
    };
    let found = if controllers.is_empty() {
        format!("{} has no controllers", place.display())
    } else {
        format!("{} has {}", place.display(), controllers.join(" "))
    };
    let lacks = |wanted: &&str| !controllers.iter().any(|name| name == wanted);
    if ["cpu", "memory", "pids"].iter().any(lacks) {
        return Check::bad(Level::Warn, "cgroup v2", found, fix);
    }
    Check::ok("cgroup v2", found)
}

/// Without a lingering manager the containers end with the last session.
fn linger() -> Option<Check> {
    const NAME: &str = "linger";
    if !has_manager() {
        return None;
    }
    let user = user_name(own::ids().0)?;
    if Path::new("/var/lib/systemd/linger").join(&user).exists() {
        return Some(Check::ok(
            NAME,
            format!("{user}'s containers outlive the session"),
        ));
    }
    let found = "containers end when you log out";
    let fix = format!("loginctl enable-linger {user}");
    Some(Check::bad(Level::Warn, NAME, found, fix))
}

impl Engine {
    /// Says once that services, or containers with a restart policy, end with the session, if they do.
    pub fn tell_of_linger(&self) {
        let told = self.paths.data.join("told-of-linger");
        if let Some(check) = linger()
            && check.level == Level::Warn
            && !told.exists()
            && fs::write(told, "").is_ok()
        {
            // Nobody may read it.
            let _ = writeln!(
                std::io::stderr(),
                "kelp: what should always run ends when you log out; {} changes that (said once)",
                check.fix
            );
        }
    }
}

fn runtime_directory() -> Check {
    const NAME: &str = "XDG_RUNTIME_DIR";
    let fix = "log in through PAM with systemd (for a service account: loginctl enable-linger)";
    match env::var_os(NAME).map(PathBuf::from) {
        None => Check::bad(
            Level::Warn,
            NAME,
            "not set: kelp uses /run/user or /tmp",
            fix,
        ),
        Some(path) if !path.is_dir() => {
            let found = format!("{} is no directory", path.display());
            Check::bad(Level::Warn, NAME, found, fix)
        }
        Some(path) => Check::ok(NAME, path.display().to_string()),
    }
}

fn pasta() -> Check {
    match Program::find(None) {
        Ok(program) if program.maps_addresses => {
            let version = program.version().unwrap_or_default();
            let found = format!("{} {version}", program.path.display());
            Check::ok("pasta", found.trim_end())
        }
        Ok(program) => Check::bad(
            Level::Warn,
            "pasta",
            format!("{} is older than 2024-08", program.path.display()),
            "install a newer passt: the host has no address of its own in containers",
        ),
        Err(error) => Check::bad(Level::Warn, "pasta", "not found", error.to_string()),
    }
}

fn tun() -> Check {
    let device = "/dev/net/tun";
    if access(device, Access::READ_OK | Access::WRITE_OK).is_ok() {
        return Check::ok(device, "can be opened");
    }
    let fix = "modprobe tun, and chmod 666 /dev/net/tun; containers have no network otherwise";
    Check::bad(Level::Warn, device, "can't be opened", fix)
}

fn seccomp() -> Check {
    let path = "/proc/sys/kernel/seccomp/actions_avail";
    let actions = fs::read_to_string(path).unwrap_or_default();
    if actions.split_whitespace().any(|action| action == "errno") {
        return Check::ok("seccomp", actions.trim());
    }
    let fix = "the kernel needs CONFIG_SECCOMP_FILTER";
    Check::bad(Level::Fail, "seccomp", "no filters", fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_by_two_numbers() {
        assert_eq!(version("6.12.5-amd64"), (6, 12));
        assert_eq!(version("5.4"), (5, 4));
        assert_eq!(version("x"), (0, 0));
        assert!(version("5.10.0") < KERNEL);
    }
}
