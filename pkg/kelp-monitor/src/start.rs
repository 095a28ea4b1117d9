//! Starting the container: all but its program ([`prepare`]: cgroup, pipes, init, network), and that ([`Ready::run`]).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kelp_network::Network;
use kelp_runtime::cgroup::{Cgroup, Parent};
use kelp_runtime::delegation;
use kelp_runtime::launch::{Guarded, Starting, Stdio, Surroundings, User, launch};
use kelp_runtime::plan::{Extras, Plan};
use kelp_sys::clone::Child;
use kelp_sys::fd::has_gone;
use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::ioctl_fionbio;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use crate::error::Error;
use crate::foreign::{self, Created, Kept};
use crate::input::Input;
use crate::launch::Launch;
use crate::life::{Life, Starter};
use crate::log::Stream;
use crate::protocol::FailureKind;
use crate::shown;
use crate::stream::Output;

/// A container whose program runs. Dropping it ends the program: a monitor that fails leaves nothing
/// that nobody watches, and starts no second one beside it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) child: Guarded,
    pub(crate) cgroup: OwnCgroup,
    pub(crate) outputs: Vec<Output>,
    pub(crate) input: Input,
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) network: Network,
    /// Where another runtime has made it: what that keeps. The last to go.
    pub(crate) kept: Option<Kept>,
}

/// The container's cgroup, where it has one. What is left in it is killed, and it is removed, when
/// this is dropped.
#[derive(Debug)]
pub(crate) struct OwnCgroup(Option<Cgroup>);

impl OwnCgroup {
    /// The cgroup, as long as it is this one's.
    pub(crate) fn get(&self) -> Option<&Cgroup> {
        self.0.as_ref()
    }

    /// Leaves it to the caller.
    pub(crate) fn release(mut self) -> Option<Cgroup> {
        self.0.take()
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        if let Some(cgroup) = &self.0 {
            cgroup.remove();
        }
    }
}

/// A container that is all but its program. Dropping it takes it away again.
#[derive(Debug)]
pub(crate) struct Ready {
    first: First,
    network: Network,
    streams: Streams,
    cgroup: OwnCgroup,
}

/// What becomes the program.
#[derive(Debug)]
pub(crate) enum First {
    /// kelp's own init.
    Own(Starting),
    /// What another runtime has created.
    Foreign(Created),
}

/// Makes it, by its specification as it is today, for `starter` if that is not a restart.
pub(crate) fn prepare(
    life: &Life<'_>,
    launch_config: &Launch,
    spec: &Spec,
    starter: Option<&Starter>,
) -> Result<Ready, Error> {
    let Life { paths, record, .. } = life;
    let place = life.place.as_ref();
    // The overlay has its scratch directory open by the time the root is attached over it.
    let attach = &record.data.join("work");
    if starter.is_none() {
        // Nobody is there to be told that the last run's root is still looked at.
        shown::hide(paths, record);
    }
    let plan = Plan::new(
        spec,
        shown::root(paths, record, &launch_config.rootfs)?,
        attach,
        Extras {
            seccomp_cache: Some(paths.seccomp()),
            preserved_fds: life.handed.preserved,
            sockets: life.handed.sockets.clone(),
            executes_init: life.handed.enters,
            watchdog: life.proxy.as_ref().and(life.handed.watchdog),
            ..launch_config.extras.clone()
        },
    )?;
    let cgroup = match place {
        Some(place) => Cgroup::create(&place.parent, &place.name, &launch_config.resources)?,
        None => None,
    };
    let cgroup = OwnCgroup(cgroup);
    if let Some(runtime) = &launch_config.runtime {
        return foreign::prepare(
            launch_config,
            (spec, &plan),
            runtime,
            record,
            cgroup,
            starter,
        );
    }
    let payload = if launch_config.extras.system {
        // The nearest cgroup is one of the user's, in which kelp is a guest.
        let moves = place.is_some_and(|place| place.parent != Parent::Nearest);
        Some(delegation::payload(cgroup.get(), moves)?)
    } else {
        None
    };
    let payload = payload.as_ref().map(AsFd::as_fd);
    let inner = payload.or_else(|| cgroup.get().map(AsFd::as_fd));
    let around = Surroundings {
        cgroup: inner,
        user: life.handed.enters.then_some(User::Entered),
        ..Surroundings::default()
    };
    let (mut starting, streams) = launch_in(launch_config, &plan, around, starter)?;
    let network = match starting.network.take() {
        Some(namespace) => (launch_config.network.set_up(namespace.as_fd())).map_err(Error::from),
        None => set_up_network(launch_config, &starting.child),
    };
    match network {
        Ok(network) => Ok(Ready {
            first: First::Own(starting),
            network,
            streams,
            cgroup,
        }),
        // An init that has failed meanwhile has no namespace left to set up: its own reason counts.
        Err(error) => Err(starting.failure().map_or(error, Error::from)),
    }
}

impl Ready {
    /// What is still to be made of it.
    pub(crate) fn new(
        created: Created,
        network: Network,
        streams: Streams,
        cgroup: OwnCgroup,
    ) -> Self {
        Self {
            first: First::Foreign(created),
            network,
            streams,
            cgroup,
        }
    }

    /// Runs the program, unless whoever waits for that has given up.
    pub(crate) fn run(self, config: &Launch, starter: Option<&Starter>) -> Result<Running, Error> {
        let child = match &self.first {
            First::Own(starting) => &starting.child,
            First::Foreign(created) => &created.child,
        };
        let pid = child.pid.as_raw_nonzero().get().unsigned_abs();
        for (path, pid) in [
            (&config.pid_file, pid),
            (&config.monitor_pid_file, std::process::id()),
        ] {
            if let Some(path) = path {
                kelp_state::file::write_pid(path, pid)?;
            }
        }
        if starter.is_some_and(|starter| has_gone(starter.socket.as_fd())) {
            return Err(Error::Failed {
                kind: FailureKind::Setup,
                text: "whoever started the container has gone before it ran".to_owned(),
            });
        }
        let (child, kept) = match self.first {
            First::Own(starting) => (starting.execute()?, None),
            First::Foreign(created) => {
                let (child, kept) = created.start()?;
                (child, Some(kept))
            }
        };
        Ok(Running {
            child,
            cgroup: self.cgroup,
            outputs: self.streams.outputs,
            input: self.streams.input,
            terminal: self.streams.terminal,
            network: self.network,
            kept,
        })
    }
}

/// The program's ends of its streams, and the monitor's.
pub(crate) enum Ends {
    /// A terminal, which the container has and the monitor gets.
    Terminal,
    /// Those of whoever started the monitor.
    Own,
    /// Pipes.
    Pipes(Pipes),
}

/// Both ends of the streams of a program without a terminal.
pub(crate) struct Pipes {
    stdin: OwnedFd,
    sink: Option<OwnedFd>,
    stdout: (OwnedFd, OwnedFd),
    stderr: (OwnedFd, OwnedFd),
}

/// The monitor's ends.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) outputs: Vec<Output>,
    pub(crate) input: Input,
    pub(crate) terminal: Option<OwnedFd>,
}

/// Makes what the program's streams are made of.
pub(crate) fn ends(config: &Launch) -> Result<Ends, Error> {
    let process = config.spec.process().as_ref();
    let terminal = process.and_then(oci_spec::runtime::Process::terminal);
    if terminal.unwrap_or(false) {
        return Ok(Ends::Terminal);
    }
    if config.log.driver.passes_streams() {
        return Ok(Ends::Own);
    }
    let what = "make the container's pipes";
    let (stdin, sink) = if config.stdin {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::io(what))?;
        ioctl_fionbio(&write, true).map_err(Error::io(what))?;
        (read, Some(write))
    } else {
        let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(Error::io("open /dev/null"))?;
        (null, None)
    };
    Ok(Ends::Pipes(Pipes {
        stdin,
        sink,
        stdout: output_pipe().map_err(Error::io(what))?,
        stderr: output_pipe().map_err(Error::io(what))?,
    }))
}

impl Ends {
    /// The program's.
    pub(crate) fn stdio(&self) -> Option<Stdio<'_>> {
        match self {
            Self::Terminal => None,
            Self::Own => Some(Stdio {
                stdin: rustix::stdio::stdin(),
                stdout: rustix::stdio::stdout(),
                stderr: rustix::stdio::stderr(),
            }),
            Self::Pipes(pipes) => Some(Stdio {
                stdin: pipes.stdin.as_fd(),
                stdout: pipes.stdout.1.as_fd(),
                stderr: pipes.stderr.1.as_fd(),
            }),
        }
    }

    /// Where what is written to standard error can be read, though nobody has it yet.
    pub(crate) fn complaints(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Terminal | Self::Own => None,
            Self::Pipes(pipes) => Some(pipes.stderr.0.as_fd()),
        }
    }

    /// The monitor's, once the program has its own; the program's are closed here. `terminal` is the
    /// outer end of its terminal.
    pub(crate) fn streams(
        self,
        config: &Launch,
        terminal: Option<OwnedFd>,
        starter: Option<&Starter>,
    ) -> Result<Streams, Error> {
        match self {
            Self::Terminal => {
                let master = terminal.ok_or(Error::MonitorGone)?;
                // Before the program can ask for it.
                if let Some(size) = starter.and_then(|starter| starter.streams.size) {
                    let _ = kelp_runtime::console::set_size(&master, size);
                }
                terminal_streams(config, master)
            }
            Self::Own => Ok(no_streams()),
            Self::Pipes(pipes) => {
                let mut outputs = vec![
                    Output::new(pipes.stdout.0, Stream::Stdout, false),
                    Output::new(pipes.stderr.0, Stream::Stderr, false),
                ];
                if let Some(console) = terminal {
                    ioctl_fionbio(&console, true)
                        .map_err(Error::io("read the container's console"))?;
                    outputs.push(Output::new(console, Stream::Stdout, true));
                }
                Ok(Streams {
                    outputs,
                    input: Input::to_pipe(pipes.sink),
                    terminal: None,
                })
            }
        }
    }
}

fn launch_in(
    config: &Launch,
    plan: &Plan,
    around: Surroundings<'_>,
    starter: Option<&Starter>,
) -> Result<(Starting, Streams), Error> {
    let ends = ends(config)?;
    let around = Surroundings {
        stdio: ends.stdio(),
        ..around
    };
    let mut starting = launch(plan, around)?;
    let terminal = starting.terminal.take();
    let streams = ends.streams(config, terminal, starter)?;
    Ok((starting, streams))
}

/// A pipe whose reading end does not block, with room for a burst.
fn output_pipe() -> Result<(OwnedFd, OwnedFd), rustix::io::Errno> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    ioctl_fionbio(&read, true)?;
    // At the user's limit of pipe memory (pipe(7)) the usual size has to do.
    let _ = fcntl_setpipe_size(&write, 256 * 1024);
    Ok((read, write))
}

fn terminal_streams(config: &Launch, master: OwnedFd) -> Result<Streams, Error> {
    let what = "copy the terminal's descriptor";
    ioctl_fionbio(&master, true).map_err(Error::io(what))?;
    let sink = if config.stdin {
        Some(master.try_clone().map_err(Error::io(what))?)
    } else {
        None
    };
    let source = master.try_clone().map_err(Error::io(what))?;
    Ok(Streams {
        outputs: vec![Output::new(source, Stream::Stdout, true)],
        input: Input::to_terminal(sink),
        terminal: Some(master),
    })
}

fn no_streams() -> Streams {
    Streams {
        outputs: Vec::new(),
        input: Input::to_pipe(None),
        terminal: None,
    }
}

/// The init waits for the word to go on: what it runs finds its network ready.
pub(crate) fn set_up_network(config: &Launch, child: &Child) -> Result<Network, Error> {
    let path = format!("/proc/{}/ns/net", child.pid.as_raw_nonzero());
    let namespace = open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::io(format!("open {path}")))?;
    Ok(config.network.set_up(namespace.as_fd())?)
}
