//! `kelp stop`: containers are asked to stop, and killed if they don't.

use std::time::Duration;

use kelp_args::Signal;
use kelp_engine::container::signal::{StopRequest, Stopped};
use kelp_engine::{ContainerId, Engine, Kind};

use super::output;
use super::selection::{Selection, report};

/// Stop running containers
#[derive(clap::Args)]
pub struct Args {
    /// Stop every running container
    #[arg(short, long)]
    all: bool,
    /// It is no error if a container is missing
    #[arg(short, long)]
    ignore: bool,
    /// Seconds until a container is killed; -1 for never
    #[arg(short, long, visible_alias = "timeout", allow_negative_numbers = true)]
    time: Option<i64>,
    /// Those that fit, as in ps: KEY=VALUE
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    #[command(flatten)]
    fast: FastFlag,
    /// Until the next boot or login: what a restart policy asks for is started again then, as what has ended with
    /// its session is
    #[arg(long)]
    until_boot: bool,
    #[command(flatten)]
    selection: Selection,
}

/// Whether a container is not waited for that would not hear.
#[derive(clap::Args)]
pub struct FastFlag {
    /// Kill a container at once whose first process has no handler for the signal that asks it to stop
    #[arg(long)]
    pub stop_fast: bool,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    // One that is between two runs is stopped as well.
    let runs = |id: &_| engine.status(id).is_ok_and(|status| !status.can_remove());
    let chosen = args
        .selection
        .find_filtered(engine, &args.filter, args.all, args.ignore, runs)?;
    let request = StopRequest {
        timeout: args.time.map(timeout),
        fast: args.fast.stop_fast,
        until_boot: args.until_boot,
    };
    let named = !args.all && args.filter.is_empty();
    let errors = chosen.each_at_once(engine, |id| match engine.stop_container(id, request) {
        // A --rm container that has just ended.
        Err(error) if !named && error.kind() == Kind::NotFound => Ok(()),
        stopped => stopped.map(|stopped| tell(engine, id, &stopped)),
    })?;
    Ok(report(engine, errors))
}

/// Says why it took the whole time, if it did.
pub fn tell(engine: &Engine, id: &ContainerId, stopped: &Stopped) {
    let Stopped::Killed { time, signal, deaf } = stopped else {
        return;
    };
    let name = engine
        .config(id)
        .map_or_else(|_| id.short().to_owned(), |config| config.name);
    let seconds = time.as_secs();
    let signal =
        Signal::new(*signal).map_or_else(|| signal.to_string(), |signal| signal.to_string());
    let why = if *deaf {
        "its first process has no handler for it, and process 1 of a container ends by no signal that it does not \
         handle (--init and --stop-signal help; --stop-fast does not wait)"
    } else {
        "it had not ended by then"
    };
    output::note(format_args!(
        "Warning: container {name} was killed {seconds} s after {signal}: {why}"
    ));
}

/// A negative number of seconds means for ever, which the clock has no room for; 136 years do.
pub fn timeout(seconds: i64) -> Duration {
    let forever = i64::from(u32::MAX);
    let seconds = if seconds < 0 {
        forever
    } else {
        seconds.min(forever)
    };
    Duration::from_secs(seconds as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_time_is_for_ever() {
        assert_eq!(timeout(0), Duration::ZERO);
        assert_eq!(timeout(7), Duration::from_secs(7));
        assert_eq!(timeout(-1), timeout(i64::MAX));
    }
}
