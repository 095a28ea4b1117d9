//! What kelp runs on, and how much of it there is: for `info` and `system df`.

use std::fs;
use std::path::Path;

use kelp_network::program::Program;
use kelp_state::Status;
pub use kelp_userns::IdMapping;

use crate::container::config::{CgroupMode, UserMode};
use crate::storage::Storage;
use crate::{Engine, Error, doctor, host};

/// What `info` shows.
#[derive(Clone, Debug)]
pub struct Info {
    /// The processor's architecture, as images name it.
    pub architecture: String,
    /// The kernel's release.
    pub kernel: String,
    /// The host's name.
    pub hostname: String,
    /// ID, `VERSION_ID` and `VERSION_CODENAME` of os-release(5).
    pub distribution: [String; 3],
    /// How many processors there are.
    pub cpus: usize,
    /// Bytes of memory: all, and free.
    pub memory: (u64, u64),
    /// Bytes of swap: all, and free.
    pub swap: (u64, u64),
    /// Seconds since the boot.
    pub uptime: u64,
    /// The controllers that kelp may use.
    pub controllers: Vec<String>,
    /// Whether systemd makes the containers' cgroups.
    pub systemd_cgroups: bool,
    /// Whether only cgroup v2 is mounted.
    pub cgroup_v2: bool,
    /// The user's and group's ids in containers.
    pub id_map: (Vec<IdMapping>, Vec<IdMapping>),
    /// pasta's path and version.
    pub pasta: Option<(String, String)>,
    /// Whether SELinux is in force.
    pub selinux: bool,
    /// How many containers there are: all, running, paused, stopped.
    pub containers: [usize; 4],
    /// How many images there are.
    pub images: usize,
    /// How containers get their root file systems.
    pub storage: Storage,
    /// The file system of the data directory.
    pub file_system: String,
    /// Its bytes: all, and used.
    pub space: (u64, u64),
}

impl Engine {
    /// Looks at the host and at what is kept.
    pub fn info(&self) -> Result<Info, Error> {
        let uname = rustix::system::uname();
        let system = rustix::system::sysinfo();
        let unit = u64::from(system.mem_unit);
        let containers = self.list_containers(true);
        let count = |status| {
            containers
                .iter()
                .filter(|listed| listed.status == status)
                .count()
        };
        let (running, paused) = (count(Status::Running), count(Status::Paused));
        let map = host::id_map(&UserMode::Host)?;
        let space = rustix::fs::statvfs(&self.paths.data)
            .map(|fs| {
                (
                    fs.f_blocks * fs.f_frsize,
                    (fs.f_blocks - fs.f_bfree) * fs.f_frsize,
                )
            })
            .unwrap_or_default();
        Ok(Info {
            architecture: architecture(&uname.machine().to_string_lossy()),
            kernel: uname.release().to_string_lossy().into_owned(),
            hostname: uname.nodename().to_string_lossy().into_owned(),
            distribution: distribution(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory: (system.totalram as u64 * unit, system.freeram as u64 * unit),
            swap: (
                system.totalswap as u64 * unit,
                system.freeswap as u64 * unit,
            ),
            uptime: system.uptime as u64,
            controllers: doctor::delegated()
                .map(|(_, list)| list)
                .unwrap_or_default(),
            systemd_cgroups: match self.cgroup_mode {
                CgroupMode::Systemd => true,
                CgroupMode::Cgroupfs => false,
                _ => doctor::has_manager(),
            },
            cgroup_v2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            id_map: (map.uids, map.gids),
            pasta: Program::find(None).ok().map(|program| {
                let version = program.version().unwrap_or_default();
                (program.path.display().to_string(), version)
            }),
            selinux: fs::read_to_string("/sys/fs/selinux/enforce")
                .is_ok_and(|text| text.trim() == "1"),
            containers: [
                containers.len(),
                running,
                paused,
                containers.len() - running - paused,
            ],
            images: self.images()?.len(),
            storage: self.storage()?,
            file_system: file_system(&self.paths.data),
            space,
        })
    }
}

/// An architecture as images name it (GOARCH).
fn architecture(machine: &str) -> String {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i686" | "i386" => "386",
        "armv7l" | "armv6l" => "arm",
        other => other,
    }
    .to_owned()
}

fn distribution(text: &str) -> [String; 3] {
    ["ID", "VERSION_ID", "VERSION_CODENAME"].map(|wanted| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        let value = lines
            .find(|(key, _)| *key == wanted)
            .map(|(_, value)| value);
        value
            .unwrap_or_default()
            .trim_matches(['"', '\''])
            .to_owned()
    })
}

/// The type of the file system that holds `path`: that of the mount with the longest fitting place
/// in mountinfo (proc_pid_mountinfo(5)).
fn file_system(path: &Path) -> String {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut best = ("unknown", 0);
    for line in table.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let place = before.split(' ').nth(4).unwrap_or_default();
        // Of two mounts at one place the later one shows.
        if path.starts_with(place) && place.len() >= best.1 {
            best = (after.split(' ').next().unwrap_or("unknown"), place.len());
        }
    }
    best.0.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_may_be_quoted() {
        let text = "NAME=\"A B\"\nID=debian\nVERSION_ID=\"13\"\n";
        assert_eq!(distribution(text), ["debian", "13", ""].map(str::to_owned));
        assert_eq!(architecture("aarch64"), "arm64");
    }
}
