//! `exec`: another process in a running container.

mod foreign;
pub(crate) mod keeper;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use kelp_monitor::Launch;
use kelp_runtime::cgroup::{self, Cgroup};
use kelp_runtime::console::Size;
use kelp_runtime::delegation;
use kelp_runtime::exec::{Target, exec};
use kelp_runtime::foreign::Foreign;
use kelp_runtime::launch::Stdio;
use kelp_runtime::plan::{Extras, ProcessPlan};
use kelp_runtime::sockets;
use kelp_state::{ContainerId, Record, RunRecord, file};
use kelp_systemd::Manager;
use oci_spec::runtime::{LinuxSeccomp, Process};
use serde::{Deserialize, Serialize};

use crate::container::environment;
use crate::container::exec::foreign::Entered;
use crate::container::signal::ends_within;
use crate::terminal::{End, Options, Other, Session};
use crate::{Engine, Error, Kind, host};

/// A request for another process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ExecOptions {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// `KEY=VALUE`, over the container's.
    pub env: Vec<String>,
    /// The working directory, instead of the container's.
    pub workdir: Option<PathBuf>,
    /// The user, instead of the container's.
    pub user: Option<String>,
    /// Every capability.
    pub privileged: bool,
    /// How the calling process's streams are connected.
    pub streams: Options,
    /// Leave it running and return at once.
    pub detach: bool,
    /// How many descriptors of this process after standard error it gets.
    pub preserved_fds: u16,
}

impl Engine {
    /// Runs a process in a running container until it ends; its exit code.
    pub fn exec_container(&self, id: &ContainerId, options: ExecOptions) -> Result<i32, Error> {
        let preserved = options.preserved_fds.into();
        if let Some(number) = sockets::closed(preserved) {
            return Err(Error::invalid(format!(
                "descriptor {number} is not open: --preserve-fds counts from 3 on"
            )));
        }
        if options.detach || options.streams.tty {
            if preserved > 0 {
                return Err(Error::invalid(
                    "--preserve-fds can't be combined with --detach or --tty: another process keeps the program then",
                ));
            }
            return self.exec_kept(id, options);
        }
        let target = self.exec_target(id)?;
        let null = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(Error::io("open /dev/null"))?;
        let (session, pipes) = Session::new(options.streams.clone())?;
        let child = {
            let or_null = |pipe| Option::map_or(pipe, null.as_fd(), AsFd::as_fd);
            let stdio = Stdio {
                stdin: or_null(pipes.stdin.as_ref()),
                stdout: or_null(pipes.stdout.as_ref()),
                stderr: or_null(pipes.stderr.as_ref()),
            };
            self.begin_exec(id, &options, &target, (Some(stdio), None))?
                .execute()?
        };
        drop(pipes);
        self.note_id("exec", id, None);
        let code = match session.run(self, Other::Process(child.pidfd.as_fd()))? {
            End::Exited(code) => code,
            End::Detached | End::Lost => return Ok(0),
        };
        self.note_id("exec_died", id, Some(code));
        Ok(code)
    }

    /// Has a keeper run it: a process in the background, or one with a terminal, lives on when the
    /// calling process ends.
    fn exec_kept(&self, id: &ContainerId, options: ExecOptions) -> Result<i32, Error> {
        let (keeper, terminal) = keeper::start(id, &options)?;
        let Some(terminal) = terminal.filter(|_| !options.detach) else {
            return Ok(0);
        };
        let session = Session::over_terminal(options.streams, &terminal)?;
        match session.run(self, Other::Kept(keeper.as_fd(), terminal.as_fd()))? {
            End::Exited(code) => Ok(code),
            End::Detached => Ok(0),
            End::Lost => Err(keeper::killed()),
        }
    }

    /// The first process of a container that can have another one. This program may be executed anew for it, so
    /// this comes before anything that can't be done twice.
    fn exec_target(&self, id: &ContainerId) -> Result<(RunRecord, OwnedFd), Error> {
        let (run, pidfd) = self.init_of(id).map_err(|_| not_running(id))?;
        if run.paused {
            return Err(Error::conflict(format!(
                "container {} is paused: unpause it first",
                id.short()
            )));
        }
        host::check_reach(id, run.pid)?;
        // The monitor's is another one where kelp was replaced since.
        kelp_runtime::program::protect(Some(run.monitor))?;
        Ok((run, pidfd))
    }

    /// Starts the process up to where it waits to be let go, with its streams, or with a terminal of a size.
    fn begin_exec(
        &self,
        id: &ContainerId,
        options: &ExecOptions,
        target: &(RunRecord, OwnedFd),
        streams: (Option<Stdio<'_>>, Option<Size>),
    ) -> Result<Entered, Error> {
        let begun = self.enter(id, options, target, streams);
        // What was there a moment ago goes with the container.
        begun.map_err(|error| {
            if is_ending(target) {
                not_running(id)
            } else {
                error
            }
        })
    }

    /// From a session's cgroup there is no way into the container's but by systemd.
    fn enter(
        &self,
        id: &ContainerId,
        options: &ExecOptions,
        target: &(RunRecord, OwnedFd),
        (stdio, size): (Option<Stdio<'_>>, Option<Size>),
    ) -> Result<Entered, Error> {
        let (run, pidfd) = target;
        let mut wanted = self.wanted(id, options)?;
        let delegated = Delegated::of(&run.cgroup).filter(|_| !cgroup::may_enter(&run.cgroup));
        let (place, cgroup) = if run.cgroup.is_empty() {
            (String::new(), None)
        } else {
            let place = delegation::of_init(run.pid, &run.cgroup);
            // Outside of it the process would have no limits, and not be paused.
            let cgroup = Cgroup::open(&place).map_err(Error::io("open the container's cgroup"))?;
            (place, Some(cgroup))
        };
        // One that an init has made may be none of the user's; the container's own is.
        let others = cgroup
            .as_ref()
            .filter(|cgroup| place != run.cgroup && !cgroup.is_writable());
        let own = cgroup.as_ref().filter(|_| others.is_none());
        if let Some(runtime) = wanted.runtime.take() {
            if options.preserved_fds > 0 {
                return Err(Error::invalid(
                    "--preserve-fds: descriptors are passed on by kelp's own runtime alone",
                ));
            }
            if let Some(size) = size {
                foreign::set_size(&mut wanted.process, size);
            }
            let place = (own.filter(|_| delegated.is_none()), delegated);
            let made = self.enter_by(&runtime, id, wanted, target, place, stdio)?;
            return Ok(Entered::Running(made));
        }
        let plan = ProcessPlan::new(&wanted.process, wanted.seccomp.as_ref(), wanted.extras)?;
        let attach = delegated.map(|delegated| {
            let below = match place.strip_prefix(&run.cgroup) {
                Some(rest) if others.is_none() => format!("{}{rest}", delegated.below),
                _ => cgroup::beside(&run.cgroup, delegated.below).to_owned(),
            };
            move |pid| {
                self.attach(delegated.unit, &below, pid)
                    .map_err(|error| error.line())
            }
        });
        let target = Target {
            init: pidfd.as_fd(),
            pid: run.pid,
            cgroup: own.filter(|_| delegated.is_none()).map(AsFd::as_fd),
            enter_cgroup: attach.as_ref().map(|attach| attach as _),
            joins_mounts: false,
            lasts: true,
        };
        let starting = exec(&plan, &target, stdio)?;
        if let Some(cgroup) = others {
            let what = "move the process into the container's cgroup";
            delegation::enter(pidfd.as_fd(), cgroup.path(), starting.child.pid)
                .map_err(Error::io(what))?;
        }
        Ok(Entered::Waiting(starting))
    }

    /// Has systemd move a process into a unit.
    fn attach(&self, unit: &str, below: &str, pid: u32) -> Result<(), Error> {
        Manager::connect(self.paths.session())
            .and_then(|mut manager| manager.attach(unit, below, pid))
            .map_err(|error| Error::caused_by(&format!("enter {unit}"), error))
    }

    /// The process as the container and the request say.
    fn wanted(&self, id: &ContainerId, options: &ExecOptions) -> Result<Wanted, Error> {
        let record = Record::new(&self.paths, id.clone());
        let mut launch: Launch = file::read_json(&record.data.join("launch.json"))?
            .ok_or_else(|| Error::new(Kind::NotFound, format!("no such container: {id}")))?;
        let mut process = launch.process();
        process.set_terminal(Some(options.streams.tty));
        process.set_args(Some(options.command.clone()));
        if let Some(workdir) = &options.workdir {
            process.set_cwd(workdir.clone());
        }
        let env = process.env().clone().unwrap_or_default();
        let mut more = options.env.clone();
        if options.streams.tty && !env.iter().any(|entry| entry.starts_with("TERM=")) {
            more.insert(0, "TERM=xterm".to_owned());
        }
        process.set_env(Some(environment::changed(&env, &more, &[])));
        if options.privileged {
            let known = kelp_runtime::capabilities::CapSet::known()
                .map_err(Error::io("read /proc/sys/kernel/cap_last_cap"))?;
            let sets = kelp_runtime::capabilities::CapSets::for_user(
                true,
                known,
                kelp_runtime::capabilities::CapSet::EMPTY,
            );
            process.set_capabilities(Some(sets.to_oci()));
        }
        let privileged_seccomp = options.privileged && launch.extras.default_seccomp;
        let extras = Extras {
            default_seccomp: launch.extras.default_seccomp && !privileged_seccomp,
            user: options.user.clone().or(launch.extras.user),
            init: false,
            preserved_fds: options.preserved_fds.into(),
            seccomp_cache: Some(self.paths.seccomp()),
            ..launch.extras
        };
        let linux = launch.spec.linux_mut().as_mut();
        Ok(Wanted {
            process,
            seccomp: linux.and_then(|linux| linux.seccomp_mut().take()),
            extras,
            runtime: launch.runtime,
        })
    }
}

/// A process that is wanted in a container.
struct Wanted {
    process: Process,
    seccomp: Option<LinuxSeccomp>,
    extras: Extras,
    /// The runtime that has made the container, if that is not kelp's own.
    runtime: Option<Foreign>,
}

/// Whether the init is on its way out: its namespaces go a little before its end can be waited for.
fn is_ending((run, pidfd): &(RunRecord, OwnedFd)) -> bool {
    let namespace = std::fs::metadata(format!("/proc/{}/ns/mnt", run.pid));
    let is_gone = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
    namespace.is_err_and(is_gone) || ends_within(pidfd, Duration::ZERO).unwrap_or(false)
}

fn not_running(id: &ContainerId) -> Error {
    Error::conflict(format!(
        "can only create exec sessions on running containers: container {} is not running: container \
         state improper",
        id.short()
    ))
}

/// A unit that a cgroup is in, of a manager that may be asked to move processes there: a scope, or a service of the
/// user's own manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Delegated<'a> {
    unit: &'a str,
    /// The cgroup in it.
    below: &'a str,
}

impl<'a> Delegated<'a> {
    fn of(cgroup: &'a str) -> Option<Self> {
        let end_of = |kind: &str| cgroup.rfind(kind).map(|at| at + kind.len() - 1);
        // The manager itself is a service of another one.
        let (_, units) = cgroup.split_once("/user@").unwrap_or_default();
        let is_users = units.matches(".service/").count() > 1;
        let service = end_of(".service/").filter(|_| is_users);
        let (path, below) = cgroup.split_at(end_of(".scope/").max(service)?);
        let unit = path.rsplit('/').next()?;
        Some(Self { unit, below })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_found_in_the_path_of_a_cgroup() {
        let scope = Delegated::of("/user.slice/user@1.service/app.slice/kelp-1.scope/container");
        let expected = Delegated {
            unit: "kelp-1.scope",
            below: "/container",
        };
        assert_eq!(scope, Some(expected));
        let service = Delegated::of("/user.slice/user@1.service/app.slice/web.service/kelp-1");
        let expected = Delegated {
            unit: "web.service",
            below: "/kelp-1",
        };
        assert_eq!(service, Some(expected));
        for other in [
            "/a.service/kelp-1",
            "/a.scope",
            "/user@1.service/kelp-1",
            "/user@1.service/web.service",
        ] {
            assert_eq!(Delegated::of(other), None, "{other}");
        }
    }
}
