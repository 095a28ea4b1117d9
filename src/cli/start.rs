//! `kelp start`: containers that do not run are started.

use kelp_engine::container::CreateOptions;
use kelp_engine::sockets::Sockets;
use kelp_engine::terminal::{End, Options, Other, Session};
use kelp_engine::{ContainerId, Engine, Error, Kind, Status};

use super::attach;
use super::selection::{Selection, report};

/// Start containers
#[derive(clap::Args)]
pub struct Args {
    /// Start every container that does not run
    #[arg(long)]
    all: bool,
    /// Show the container's output until it ends
    #[arg(short, long)]
    attach: bool,
    /// Pass standard input to the container
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    streams: attach::StreamFlags,
    /// Those that fit, as in ps: KEY=VALUE
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    #[command(flatten)]
    selection: Selection,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let can_start = |id: &_| engine.status(id).is_ok_and(Status::can_start);
    let mut chosen =
        args.selection
            .find_filtered(engine, &args.filter, args.all, false, can_start)?;
    if !args.attach && !args.interactive {
        // Those that may wait for long keep no others waiting.
        chosen
            .targets
            .sort_by_cached_key(|target| engine.waits_for_others(&target.id));
        return Ok(report(engine, chosen.each(|id| start(engine, id))?));
    }
    if let Some(error) = chosen.errors.into_iter().next() {
        return Err(error.into());
    }
    let [target] = chosen.targets.as_slice() else {
        anyhow::bail!("you cannot start and attach multiple containers at once");
    };
    let created = engine.config(&target.id)?.options;
    let keys = args.streams.keys(&created)?;
    while engine.settled_status(&target.id)? == Status::Running {
        let options = streams(args, &created, keys.clone());
        match attach::attach(engine, &target.id, options) {
            // It has just ended, and so it can be started.
            Err(error)
                if error
                    .downcast_ref::<Error>()
                    .is_some_and(|error| error.kind() == Kind::Conflict) => {}
            done => return done,
        }
    }
    let (session, mut pipes) = Session::new(streams(args, &created, keys))?;
    pipes.sockets = Sockets::of_this_process();
    pipes.is_main = true;
    let started = engine.start_container(&target.id, pipes)?;
    match session.run(engine, Other::Container(&target.id, &started.connection))? {
        End::Exited(code) => Ok(code),
        End::Detached => Ok(0),
        End::Lost => Ok(engine.wait_container(&target.id)?),
    }
}

fn streams(args: &Args, created: &CreateOptions, detach_keys: Vec<u8>) -> Options {
    Options {
        stdin: args.interactive && created.interactive,
        stdout: true,
        stderr: true,
        tty: created.tty,
        sig_proxy: args.streams.sig_proxy.unwrap_or(true),
        detach_keys,
    }
}

/// Starts one in the background; one that runs already is fine.
fn start(engine: &Engine, id: &ContainerId) -> Result<(), Error> {
    if engine.settled_status(id)? == Status::Running {
        return Ok(());
    }
    let (_, mut pipes) = Session::new(Options::default())?;
    pipes.sockets = Sockets::of_this_process();
    pipes.is_main = true;
    engine.start_container(id, pipes).map(drop)
}
