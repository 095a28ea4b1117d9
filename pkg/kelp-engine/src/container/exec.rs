//! `exec`: another process in a running container.

use std::os::fd::AsFd;
use std::path::PathBuf;

use kelp_monitor::Launch;
use kelp_runtime::cgroup::Cgroup;
use kelp_runtime::exec::{Target, exec};
use kelp_runtime::launch::{Starting, Stdio};
use kelp_runtime::plan::{Extras, ProcessPlan};
use kelp_state::{ContainerId, Record, file};
use kelp_sys::clone::Child;

use crate::terminal::{End, Options, Other, Session};
use crate::{Engine, Error, Kind};

/// A request for another process.
#[derive(Clone, Debug, Default)]
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
}

impl Engine {
    /// Runs a process in a running container until it ends; its exit code.
    pub fn exec_container(&self, id: &ContainerId, options: ExecOptions) -> Result<i32, Error> {
        let (run, pidfd) = self.init_of(id).map_err(|_| {
            Error::new(
                Kind::Conflict,
                format!("can only create exec sessions on running containers: container {} is not running: container state improper", id.short()),
            )
        })?;
        if run.paused {
            return Err(Error::conflict(format!(
                "container {} is paused: unpause it first",
                id.short()
            )));
        }
        let plan = self.exec_plan(id, &options)?;
        let cgroup = if run.cgroup.is_empty() {
            None
        } else {
            Cgroup::open(&run.cgroup).ok()
        };
        let target = Target {
            init: pidfd.as_fd(),
            pid: run.pid,
            cgroup: cgroup.as_ref().map(AsFd::as_fd),
        };
        if options.streams.tty {
            let mut starting = start(&plan, &target, None)?;
            let master = starting
                .terminal
                .take()
                .ok_or_else(|| Error::new(Kind::Failed, "the container gave no terminal"))?;
            let session = Session::over_terminal(options.streams, &master)?;
            let child = starting.execute()?;
            return self.follow(id, session, &child, Some(&master), options.detach);
        }
        let null = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(Error::io("open /dev/null"))?;
        let streams = if options.detach {
            Options::default()
        } else {
            options.streams
        };
        let (session, pipes) = Session::new(streams)?;
        let child = {
            let or_null = |pipe| Option::map_or(pipe, null.as_fd(), AsFd::as_fd);
            let stdio = Stdio {
                stdin: or_null(pipes.stdin.as_ref()),
                stdout: or_null(pipes.stdout.as_ref()),
                stderr: or_null(pipes.stderr.as_ref()),
            };
            start(&plan, &target, Some(stdio))?.execute()?
        };
        drop(pipes);
        self.follow(id, session, &child, None, options.detach)
    }

    fn follow(
        &self,
        id: &ContainerId,
        session: Session,
        child: &Child,
        terminal: Option<&std::os::fd::OwnedFd>,
        detach: bool,
    ) -> Result<i32, Error> {
        self.note_id("exec", id, None);
        if detach {
            return Ok(0);
        }
        let other = Other::Process(child.pidfd.as_fd(), terminal.map(AsFd::as_fd));
        match session.run(self, other)? {
            End::Exited(code) => {
                self.note_id("exec_died", id, Some(code));
                Ok(code)
            }
            End::Detached | End::Lost => Ok(0),
        }
    }

    fn exec_plan(&self, id: &ContainerId, options: &ExecOptions) -> Result<ProcessPlan, Error> {
        let record = Record::new(&self.paths, id.clone());
        let launch: Launch = file::read_json(&record.data.join("launch.json"))?
            .ok_or_else(|| Error::new(Kind::NotFound, format!("no such container: {id}")))?;
        let mut process = launch.spec.process().clone().unwrap_or_default();
        process.set_terminal(Some(options.streams.tty));
        process.set_args(Some(options.command.clone()));
        if let Some(workdir) = &options.workdir {
            process.set_cwd(workdir.clone());
        }
        let mut env = process.env().clone().unwrap_or_default();
        let mut more = options.env.clone();
        if options.streams.tty && !env.iter().any(|entry| entry.starts_with("TERM=")) {
            more.insert(0, "TERM=xterm".to_owned());
        }
        for entry in more {
            let key = entry
                .split_inclusive('=')
                .next()
                .unwrap_or_default()
                .to_owned();
            env.retain(|old| !old.starts_with(&key));
            env.push(entry);
        }
        process.set_env(Some(env));
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
            ..launch.extras
        };
        Ok(ProcessPlan::new(
            &process,
            launch
                .spec
                .linux()
                .as_ref()
                .and_then(|linux| linux.seccomp().as_ref()),
            extras,
        )?)
    }
}

fn start(
    plan: &ProcessPlan,
    target: &Target<'_>,
    stdio: Option<Stdio<'_>>,
) -> Result<Starting, Error> {
    Ok(exec(plan, target, stdio)?)
}
