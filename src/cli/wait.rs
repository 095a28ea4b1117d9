//! `kelp wait`: until containers are in a state, by default that of having ended.

use kelp_engine::container::wait::Condition;
use kelp_engine::{ContainerId, Engine, Error, Kind};
use kelp_format::units;

use super::output;
use super::selection::{Selection, report};

/// Block until containers stop, then print their exit codes
#[derive(clap::Args)]
pub struct Args {
    /// Wait for this state instead
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = condition)]
    condition: Vec<Condition>,
    /// It is no error if a container is missing: its code is -1
    #[arg(long)]
    ignore: bool,
    /// End with the first container that is in the state
    #[arg(long)]
    exit_first_match: bool,
    /// Taken for compatibility: kelp is told of changes and does not look at intervals
    #[arg(short, long, value_parser = interval)]
    interval: Option<()>,
    #[command(flatten)]
    selection: Selection,
}

fn condition(text: &str) -> Result<Condition, String> {
    text.parse().map_err(|error: Error| error.line())
}

fn interval(text: &str) -> Result<(), String> {
    if text.parse::<u64>().is_ok() || units::parse_span(text).is_some() {
        return Ok(());
    }
    Err(format!(
        "invalid interval {text:?}: it is a time such as 250ms or 1m30s, or a number of milliseconds"
    ))
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    let _: Option<()> = args.interval;
    let mut conditions = args.condition;
    if conditions.is_empty() {
        conditions.push(Condition::Exited);
    }
    let chosen = args.selection.find(engine, false, false, |_| true)?;
    let mut errors = Vec::new();
    if args.exit_first_match && chosen.errors.is_empty() {
        let ids: Vec<_> = chosen.targets.into_iter().map(|target| target.id).collect();
        output::line(first(engine, &ids, &conditions)?)?;
        return Ok(0);
    }
    for target in chosen.targets {
        match engine.wait_for(&target.id, &conditions) {
            Ok(code) => output::line(code)?,
            Err(error) => errors.push(error),
        }
    }
    for error in chosen.errors {
        if args.ignore && error.kind() == Kind::NotFound {
            output::line("-1")?;
        } else {
            errors.push(error);
        }
    }
    Ok(report(engine, errors))
}

/// The code of the container that is there first. The others' waits end with this process.
fn first(engine: &Engine, ids: &[ContainerId], conditions: &[Condition]) -> anyhow::Result<i32> {
    let (sender, codes) = std::sync::mpsc::channel();
    for id in ids {
        let (engine, sender) = (engine.clone(), sender.clone());
        let (id, conditions) = (id.clone(), conditions.to_vec());
        std::thread::spawn(move || sender.send(engine.wait_for(&id, &conditions)));
    }
    Ok(codes.recv()??)
}
