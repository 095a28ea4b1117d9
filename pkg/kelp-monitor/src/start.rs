//! Starting the container: cgroup, pipes, init, network, program.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kelp_network::Network;
use kelp_runtime::cgroup::{Cgroup, Parent};
use kelp_runtime::delegation;
use kelp_runtime::launch::{Guarded, Starting, Stdio, Surroundings, launch};
use kelp_runtime::plan::{Extras, Plan};
use kelp_state::Paths;
use kelp_sys::clone::Child;
use kelp_sys::fd::has_gone;
use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::ioctl_fionbio;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use crate::error::Error;
use crate::input::Input;
use crate::launch::Launch;
use crate::life::Starter;
use crate::log::Stream;
use crate::place::Place;
use crate::protocol::FailureKind;
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

/// Starts it, by its specification as it is today, for `starter` if that is not a restart. `attach` is a
/// directory of the container's own to attach its root to.
pub(crate) fn start(
    paths: &Paths,
    launch_config: &Launch,
    spec: &Spec,
    place: Option<&Place>,
    attach: &Path,
    starter: Option<&Starter>,
) -> Result<Running, Error> {
    let plan = Plan::new(
        spec,
        launch_config.rootfs.clone(),
        attach,
        Extras {
            seccomp_cache: Some(paths.seccomp()),
            ..launch_config.extras.clone()
        },
    )?;
    let cgroup = match place {
        Some(place) => Cgroup::create(&place.parent, &place.name, &launch_config.resources)?,
        None => None,
    };
    let cgroup = OwnCgroup(cgroup);
    let payload = if launch_config.extras.system {
        // The nearest cgroup is one of the user's, in which kelp is a guest.
        let moves = place.is_some_and(|place| place.parent != Parent::Nearest);
        Some(delegation::payload(cgroup.get(), moves)?)
    } else {
        None
    };
    let payload = payload.as_ref().map(AsFd::as_fd);
    let inner = payload.or_else(|| cgroup.get().map(AsFd::as_fd));
    let (child, streams, network) = start_in(launch_config, &plan, inner, starter)?;
    Ok(Running {
        network,
        child,
        cgroup,
        outputs: streams.outputs,
        input: streams.input,
        terminal: streams.terminal,
    })
}

struct Streams {
    outputs: Vec<Output>,
    input: Input,
    terminal: Option<OwnedFd>,
}

fn start_in(
    config: &Launch,
    plan: &Plan,
    cgroup: Option<BorrowedFd<'_>>,
    starter: Option<&Starter>,
) -> Result<(Guarded, Streams, Network), Error> {
    let around = Surroundings {
        cgroup,
        ..Surroundings::default()
    };
    let with = |stdio| Surroundings {
        stdio: Some(stdio),
        ..around
    };
    let terminal = config
        .spec
        .process()
        .as_ref()
        .and_then(oci_spec::runtime::Process::terminal)
        .unwrap_or(false);
    if terminal {
        let starting = launch(plan, around)?;
        let master = starting
            .terminal
            .as_ref()
            .ok_or(Error::MonitorGone)?
            .try_clone()
            .map_err(Error::io("copy the terminal's descriptor"))?;
        // Before the program can ask for it.
        if let Some(size) = starter.and_then(|starter| starter.streams.size) {
            let _ = kelp_runtime::console::set_size(&master, size);
        }
        let streams = terminal_streams(config, master)?;
        let (child, network) = go(config, starting, starter)?;
        return Ok((child, streams, network));
    }
    if config.log.driver.passes_streams() {
        let own = Stdio {
            stdin: rustix::stdio::stdin(),
            stdout: rustix::stdio::stdout(),
            stderr: rustix::stdio::stderr(),
        };
        let (child, network) = go(config, launch(plan, with(own))?, starter)?;
        return Ok((child, no_streams(), network));
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
    let (out_read, out_write) = output_pipe().map_err(Error::io(what))?;
    let (err_read, err_write) = output_pipe().map_err(Error::io(what))?;
    let stdio = Stdio {
        stdin: stdin.as_fd(),
        stdout: out_write.as_fd(),
        stderr: err_write.as_fd(),
    };
    let mut starting = launch(plan, with(stdio))?;
    let mut outputs = vec![
        Output::new(out_read, Stream::Stdout, false),
        Output::new(err_read, Stream::Stderr, false),
    ];
    if let Some(console) = starting.terminal.take() {
        ioctl_fionbio(&console, true).map_err(Error::io("read the container's console"))?;
        outputs.push(Output::new(console, Stream::Stdout, true));
    }
    let (child, network) = go(config, starting, starter)?;
    let streams = Streams {
        outputs,
        input: Input::to_pipe(sink),
        terminal: None,
    };
    Ok((child, streams, network))
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

/// Does what has to be done before the program runs, and lets it run, unless whoever waits for that has
/// given up.
fn go(
    config: &Launch,
    starting: Starting,
    starter: Option<&Starter>,
) -> Result<(Guarded, Network), Error> {
    let network = match set_up_network(config, &starting.child) {
        Ok(network) => network,
        // An init that has failed meanwhile has no namespace left to set up: its own reason counts.
        Err(error) => return Err(starting.failure().map_or(error, Error::from)),
    };
    let pid = starting.child.pid.as_raw_nonzero().get().unsigned_abs();
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
    Ok((starting.execute()?, network))
}

/// The init waits for the word to go on: what it runs finds its network ready.
fn set_up_network(config: &Launch, child: &Child) -> Result<Network, Error> {
    let path = format!("/proc/{}/ns/net", child.pid.as_raw_nonzero());
    let namespace = open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::io(format!("open {path}")))?;
    Ok(config.network.set_up(namespace.as_fd())?)
}
