//! `kelp rm`: containers are removed.

use kelp_engine::container::remove::RemoveOptions;
use kelp_engine::pod::remove::RemovePod;
use kelp_engine::{ContainerId, Engine, Error, Kind};

use super::selection::{Selection, report};
use super::stop::timeout;

/// Remove containers
#[derive(clap::Args)]
pub struct Args {
    /// Remove every container
    #[arg(short, long)]
    all: bool,
    /// Remove running and paused containers too, and don't mind missing ones
    #[arg(short, long)]
    force: bool,
    /// It is no error if a container is missing
    #[arg(short, long)]
    ignore: bool,
    /// Remove the anonymous volumes of the containers
    #[arg(short, long)]
    volumes: bool,
    /// With --force: seconds until a container that was asked to stop is killed; -1 for never
    #[arg(short, long, allow_negative_numbers = true, requires = "force")]
    time: Option<i64>,
    /// Remove containers that need these as well
    #[arg(long)]
    depend: bool,
    /// Those that fit, as in ps: KEY=VALUE
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    #[command(flatten)]
    selection: Selection,
}

/// The container is not there.
const MISSING: i32 = 1;
/// The container runs or is paused.
const IN_USE: i32 = 2;

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let ignore = args.ignore || args.force;
    let mut chosen =
        args.selection
            .find_filtered(engine, &args.filter, args.all, ignore, |_| true)?;
    if args.depend {
        chosen.add_dependents(engine);
    }
    let errors = chosen.each_at_once(engine, |id| remove(engine, id, args))?;
    let any = |kind| errors.iter().any(|error: &Error| error.kind() == kind);
    let code = match (any(Kind::NotFound), any(Kind::Conflict)) {
        (true, _) => Some(MISSING),
        (false, true) => Some(IN_USE),
        (false, false) => None,
    };
    let failed = report(engine, errors);
    Ok(code.unwrap_or(failed))
}

fn remove(engine: &Engine, id: &ContainerId, args: &Args) -> Result<(), Error> {
    let options = RemoveOptions {
        force: args.force,
        timeout: args.time.map(timeout),
        volumes: args.volumes,
        needed: false,
        with_pod: false,
    };
    if args.all
        && let Some(pod) = engine.pod_at_its_end(id)
    {
        let options = RemovePod {
            force: options.force,
            timeout: options.timeout,
        };
        return engine.remove_pod(&pod, &options);
    }
    engine.remove_container(id, &options)
}
