//! pasta(1): the network of one container, carried by a process between its namespace and the host.
//!
//! # How it is started, and why so
//!
//! The monitor starts it, inside the container's user namespace and the host's network namespace.
//!
//! - The network namespace is pasta's descriptor 0, given as `--netns /proc/self/fd/0` with
//!   `--netns-only`. A path such as `/proc/<pid>/ns/net` does not work everywhere: opening it needs
//!   ptrace access to that process, and pasta has by then dropped all capabilities but a few
//!   (ptrace(2): the caller needs every capability that the target has). Any other number does not
//!   either: pasta of 2024 and later closes what it inherits beyond 2.
//! - It stays a child (`--foreground`) with a parent-death signal. By itself it would not end: it
//!   holds the network namespace open, what it watches is the namespace's path, and no path of a
//!   nameless namespace tells. So whoever started it ends it, by [`Running::tear_down`], by `Drop`,
//!   or by being killed. There is no pid file, no process that outlives its container, and no port
//!   that stays taken. pasta drops capabilities and never changes its user id here, which would make
//!   the kernel forget the signal (prctl(2), PR_SET_PDEATHSIG).
//! - `--pid /proc/self/fd/1` makes it write its number to a pipe once everything stands: ports
//!   bound, interface configured, sandbox closed. Until then the start waits in poll(2); an end of
//!   file without a number means that it failed, and standard error says why.
//! - It has its own session, an empty environment, and descriptors 0, 1 and 2.
//!
//! # What it lets through
//!
//! `--no-map-gw` and `-T none -U none`: nothing inside reaches a service on the host's loopback.
//! Where `--map-guest-addr` exists, [`HOST`] leads to the host's own address, whose services listen
//! to the network anyhow; that is what `host.containers.internal` is then.
//! [`PastaOptions::host_loopback`] makes [`HOST`] the host's loopback instead.
//! [`FORWARDER`] answers name queries by asking the host's first resolver, wherever that listens:
//! one on the host's loopback (systemd-resolved) too, with each of the versions below.
//!
//! Measured on Debian 12 (2 cores, Linux 6.18), one published port, medians of 20 starts until ready,
//! and anonymous memory: 17 ms and 29 MB for Debian 12's pasta, 11 ms and 16 MB for Debian 13's, 9 ms
//! and 12 MB for that of late 2026. Planning takes 0.2 to 0.3 ms.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use kelp_sys::clone::Child;
use kelp_sys::exec::CStringArray;
use kelp_sys::process::wait_pidfd;
use kelp_sys::spawn::Spawn;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, Mode, access};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::ports::{Protocol, PublishedPort, find_taken};
use crate::program::Program;
use crate::{Error, text};

/// The address inside that answers name queries.
pub const FORWARDER: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
/// The address inside that is the host.
pub const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 2));

/// pasta stands within milliseconds; longer than this is an error.
const START_LIMIT: Duration = Duration::from_secs(20);
/// What is kept of what it says, in bytes.
const SAID_LIMIT: u64 = 64 << 10;

/// What can be asked of a private pasta.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastaOptions {
    /// The program, if not the one in PATH.
    pub program: Option<PathBuf>,
    /// Whether [`HOST`] leads to the host's loopback, and so to services meant for the host alone.
    pub host_loopback: bool,
    /// Which Internet protocols the container has.
    pub families: Families,
    /// The interface's name inside; the host's own by default.
    pub interface: Option<String>,
    /// The interface's MTU in bytes; pasta's choice by default.
    pub mtu: Option<u32>,
    /// More of pasta's own options, as the user wrote them.
    pub extra: Vec<String>,
}

/// Internet protocols.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Families {
    /// As many as the host has.
    #[default]
    Both,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A pasta that can be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastaPlan {
    program: PathBuf,
    arguments: Vec<String>,
    ports: Vec<PublishedPort>,
    /// Whether it becomes the root of its user namespace.
    #[serde(default)]
    pub(crate) as_root: bool,
    /// The address inside that is the host, if one is.
    pub host: Option<IpAddr>,
    /// The address inside that answers name queries, if one does.
    pub forwarder: Option<IpAddr>,
}

/// Options that would take from kelp what it relies on.
const REFUSED: &[&str] = &[
    "-f",
    "--foreground",
    "-P",
    "--pid",
    "--netns",
    "--netns-only",
    "--userns",
    "--runas",
    "--no-netns-quit",
    "-h",
    "--help",
    "--version",
    "-F",
    "--fd",
    "-s",
    "--socket",
    "-1",
    "--one-off",
];

impl PastaOptions {
    /// Checks the request against the program that is there. The ports have to be allocated.
    pub fn plan(&self, ports: &[PublishedPort]) -> Result<PastaPlan, Error> {
        let program = Program::find(self.program.as_deref())?;
        check_tun()?;
        self.plan_for(&program, ports)
    }

    fn plan_for(&self, program: &Program, ports: &[PublishedPort]) -> Result<PastaPlan, Error> {
        if let Some(refused) = self.refused() {
            return Err(Error::Invalid(format!(
                "the pasta option {refused} is kelp's own to set"
            )));
        }
        if !program.maps_addresses {
            check_udp(ports)?;
        }
        let mut arguments: Vec<String> = [
            "--foreground",
            "--quiet",
            "--netns",
            "/proc/self/fd/0",
            "--netns-only",
            "--no-netns-quit",
            "--pid",
            "/proc/self/fd/1",
            "--config-net",
            "--tcp-ns",
            "none",
            "--udp-ns",
            "none",
        ]
        .map(str::to_owned)
        .to_vec();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|&word| word.to_owned()));
        if rustix::process::geteuid().is_root() {
            // As nobody, which it would become, it may not enter the namespace. It is confined to
            // the container's user namespace all the same.
            add(&["--runas", "0:0"]);
        }
        let own_mapping = self.extra.iter().any(|word| word.starts_with("--map-"));
        let host = match (self.host_loopback, program.maps_addresses) {
            _ if own_mapping => None,
            // Both addresses are of IPv4.
            _ if self.families == Families::V6 => {
                add(&["--no-map-gw"]);
                None
            }
            (false, true) => {
                add(&["--no-map-gw", "--map-guest-addr", &HOST.to_string()]);
                Some(HOST)
            }
            (true, true) => {
                add(&["--map-host-loopback", &HOST.to_string()]);
                Some(HOST)
            }
            (false, false) => {
                add(&["--no-map-gw"]);
                None
            }
            // The gateway's address leads there by default.
            (true, false) => default_gateway(),
        };
        let forwarder = (self.families != Families::V6).then_some(FORWARDER);
        if let Some(forwarder) = forwarder {
            add(&["--dns-forward", &forwarder.to_string()]);
        }
        match self.families {
            Families::Both => {}
            Families::V4 => add(&["--ipv4-only"]),
            Families::V6 => add(&["--ipv6-only"]),
        }
        if let Some(interface) = &self.interface {
            add(&["--ns-ifname", interface]);
        }
        if let Some(mtu) = self.mtu {
            add(&["--mtu", &mtu.to_string()]);
        }
        for (option, protocol) in [
            ("--tcp-ports", Protocol::Tcp),
            ("--udp-ports", Protocol::Udp),
        ] {
            let specs: Vec<String> = ports
                .iter()
                .filter(|port| port.protocol == protocol)
                .map(port_spec)
                .collect::<Result<_, _>>()?;
            match specs.is_empty() {
                true if self.sets(option) => {}
                true => add(&[option, "none"]),
                false => specs.iter().for_each(|spec| add(&[option, spec])),
            }
        }
        // podman's word for leaving out --no-map-gw; pasta does not know it.
        let extra = self
            .extra
            .iter()
            .filter(|word| *word != "--map-gw")
            .cloned();
        arguments.extend(extra);
        Ok(PastaPlan {
            program: program.path.clone(),
            arguments,
            ports: ports.to_vec(),
            as_root: false,
            host,
            forwarder,
        })
    }

    fn refused(&self) -> Option<&str> {
        self.extra
            .iter()
            .map(|word| word.split_once('=').map_or(word.as_str(), |(name, _)| name))
            .find(|name| REFUSED.contains(name))
    }

    fn sets(&self, option: &str) -> bool {
        let short = match option {
            "--tcp-ports" => "-t",
            _ => "-u",
        };
        self.extra
            .iter()
            .any(|word| word == short || word.starts_with(option))
    }
}

/// pasta before 2024-08 loses the answers to the host's own datagrams on a port whose number differs
/// inside: they leave with the inner number.
fn check_udp(ports: &[PublishedPort]) -> Result<(), Error> {
    let shifted = ports
        .iter()
        .find(|port| port.protocol == Protocol::Udp && port.host_port != Some(port.container_port));
    match shifted {
        None => Ok(()),
        Some(port) => Err(Error::Unavailable(format!(
            "this host's pasta publishes a udp port under its own number only: use --publish \
             {0}:{0}/udp, or install passt of 2024-08-21 or later",
            port.container_port
        ))),
    }
}

/// `address/first-last:first-last`, as pasta(1) takes it.
fn port_spec(port: &PublishedPort) -> Result<String, Error> {
    let host_port = port.host_port.ok_or_else(|| {
        Error::Invalid(format!(
            "no host port was chosen for port {}",
            port.container_port
        ))
    })?;
    let run = |first: u16| match port.range {
        0 | 1 => first.to_string(),
        count => format!("{first}-{}", first.saturating_add(count - 1)),
    };
    let ports = format!("{}:{}", run(host_port), run(port.container_port));
    Ok(match port.host_ip {
        Some(ip) => format!("{ip}/{ports}"),
        None => ports,
    })
}

/// A pasta that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl PastaPlan {
    /// Starts pasta for this network namespace, and returns once all of it stands.
    ///
    /// The caller has capabilities in the user namespace that owns the network namespace, is in the
    /// host's network namespace, and has one thread: when that ends, so does pasta.
    pub fn start(&self, netns: BorrowedFd<'_>) -> Result<Running, Error> {
        let what = "make pasta's pipes";
        let (ready, ready_write) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::io(what))?;
        let (said, said_write) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::io(what))?;
        let program = c_string(&self.program.to_string_lossy())?;
        if self.as_root {
            // It opens the pipe again, by /proc, as somebody else than who made it.
            rustix::fs::fchmod(&ready_write, Mode::from_raw_mode(0o622))
                .map_err(Error::io(what))?;
        }
        let as_root: &[&str] = if self.as_root {
            &["--runas", "0:0"]
        } else {
            &[]
        };
        let argv = std::iter::once("pasta")
            .chain(as_root.iter().copied())
            .chain(self.arguments.iter().map(String::as_str))
            .map(c_string)
            .collect::<Result<_, _>>()?;
        let spawn = Spawn {
            program,
            argv: CStringArray::new(argv),
            envp: CStringArray::new(Vec::new()),
            fds: vec![
                (netns, 0),
                (ready_write.as_fd(), 1),
                (said_write.as_fd(), 2),
            ],
            userns: None,
            session: true,
            death_signal: Some(Signal::KILL),
        };
        let child = spawn
            .start()
            .map_err(Error::io(format!("run {}", self.program.display())))?;
        drop((ready_write, said_write));
        let running = Running { child };
        if is_ready(&ready)? {
            return Ok(running);
        }
        // It has ended or is made to: then its side of the pipe is closed and the text complete.
        running.tear_down()?;
        let mut bytes = Vec::new();
        let _ = File::from(said).take(SAID_LIMIT).read_to_end(&mut bytes);
        Err(self.explain(&String::from_utf8_lossy(&bytes)))
    }

    fn explain(&self, said: &str) -> Error {
        if let Err(error) = check_tun() {
            return error;
        }
        if let Some(error) = find_taken(&self.ports) {
            return error;
        }
        let said = essence(said);
        if said.contains("external") && said.contains("interface") {
            return Error::Unavailable(format!(
                "the host has no default route, and this pasta needs one ({said}): connect the \
                 host, or use --network none or --network host"
            ));
        }
        Error::Unavailable(format!("pasta did not start: {said}"))
    }
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.child.pid
    }

    /// Readable once it has ended, which it does not do by itself.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// Ends it and waits for that: the ports are free afterwards.
    pub fn tear_down(self) -> Result<(), Error> {
        self.end().map_err(Error::io("end pasta"))
    }

    fn end(&self) -> std::io::Result<()> {
        match pidfd_send_signal(&self.child.pidfd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            // A security module may keep the two apart; then there is nothing to wait for.
            Err(error) => return Err(error.into()),
        }
        match wait_pidfd(self.child.pidfd.as_fd()) {
            // It has been reaped.
            Err(error) if error.raw_os_error() == Some(Errno::CHILD.raw_os_error()) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Waits for a line on the pipe; `false` if it ends without one or nothing comes for too long.
fn is_ready(ready: &OwnedFd) -> Result<bool, Error> {
    let limit = Timespec {
        tv_sec: START_LIMIT.as_secs() as i64,
        tv_nsec: 0,
    };
    let what = "wait for pasta";
    let count =
        rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(ready, PollFlags::IN)], Some(&limit)))
            .map_err(Error::io(what))?;
    if count == 0 {
        return Ok(false);
    }
    let mut number = [0_u8; 16];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(ready, &mut number))
        .map_err(Error::io(what))?;
    Ok(length > 0)
}

fn check_tun() -> Result<(), Error> {
    let path = "/dev/net/tun";
    match access(path, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => Err(Error::Unavailable(format!(
            "{path} is missing, and pasta needs it: load the kernel module tun (modprobe tun)"
        ))),
        Err(_) => Err(Error::Unavailable(format!(
            "{path} may not be opened, and pasta needs it: make it mode 0666, as udev does \
             (chmod 0666 {path})"
        ))),
    }
}

/// The last lines that say something: old versions put their log's own troubles in between.
fn essence(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("Failed to send "))
        .take_while(|line| !line.starts_with("Usage:"))
        .collect();
    match lines.as_slice() {
        [] => "it said nothing".to_owned(),
        [.., before, last] => format!("{before}; {last}"),
        [only] => (*only).to_owned(),
    }
}

/// The gateway of the host's first IPv4 default route.
fn default_gateway() -> Option<IpAddr> {
    let routes = text::read("/proc/net/route".as_ref()).ok()?;
    gateway_in(&routes)
}

fn gateway_in(routes: &str) -> Option<IpAddr> {
    routes.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (destination, gateway) = (fields.next()?, fields.next()?);
        let address = u32::from_str_radix(gateway, 16).ok()?;
        // The kernel prints the address as it is in memory.
        let address = Ipv4Addr::from(address.to_ne_bytes());
        (destination == "00000000" && !address.is_unspecified()).then_some(IpAddr::V4(address))
    })
}

fn c_string(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Invalid("a null byte in an option of pasta".to_owned()))
}

#[cfg(test)]
mod tests;
