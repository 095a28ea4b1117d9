//! `kelp volume rm`.

use kelp_engine::container::remove::RemoveOptions;
use kelp_engine::{Engine, Error, Kind};

use super::exit;
use super::output;
use super::stop::timeout;

/// Remove volumes
#[derive(clap::Args)]
pub struct Args {
    /// Remove every volume
    #[arg(short, long, conflicts_with = "volumes")]
    all: bool,
    /// Remove the containers that use a volume, too; it is no error if a volume is missing
    #[arg(short, long)]
    force: bool,
    /// With --force: seconds until a container that was asked to stop is killed; -1 for never
    #[arg(
        short,
        long,
        visible_alias = "timeout",
        requires = "force",
        allow_negative_numbers = true
    )]
    time: Option<i64>,
    /// The volumes
    #[arg(required_unless_present = "all")]
    volumes: Vec<String>,
}

/// Removes them: 1 if one is missing, 2 if one is in use.
pub fn run(engine: &Engine, args: &Args) -> Result<i32, output::Failure> {
    let options = args.force.then(|| RemoveOptions {
        timeout: args.time.map(timeout),
        ..RemoveOptions::FORCE
    });
    let mut names = args.volumes.clone();
    if args.all {
        names.extend(engine.volumes().into_iter().map(|volume| volume.name));
    }
    let mut code = 0;
    for name in names {
        let result = engine
            .find_volume(&name)
            .and_then(|volume| engine.remove_volume(&volume, options.as_ref()));
        match result {
            Ok(()) => output::line(name)?,
            Err(error) if args.force && error.kind() == Kind::NotFound => {}
            Err(error) => {
                code = code.max(code_of(&error));
                output::error(exit::line(&engine.explain_space(error).into()));
            }
        }
    }
    Ok(code)
}

fn code_of(error: &Error) -> i32 {
    match error.kind() {
        Kind::NotFound => 1,
        Kind::Conflict => 2,
        _ => 125,
    }
}
