//! `kelp manifest …`: lists of images for several platforms.

use clap::Subcommand;
use kelp_engine::{Engine, Kind};

use super::{
    manifest_add, manifest_annotate, manifest_create, manifest_inspect, manifest_push, output, rmi,
};

/// Manage manifest lists
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Add(manifest_add::Args),
    Annotate(manifest_annotate::Args),
    Create(manifest_create::Args),
    /// Tell by the exit code whether a manifest list is here
    Exists {
        /// The list
        list: String,
    },
    Inspect(manifest_inspect::Args),
    Push(manifest_push::Args),
    /// Take an image out of a manifest list
    Remove {
        /// The list
        list: String,
        /// The digest of the image's manifest
        digest: String,
    },
    /// Remove manifest lists; images that they name stay
    Rm {
        /// It is no error if a list is not here
        #[arg(short, long)]
        ignore: bool,
        /// The lists
        #[arg(required = true)]
        lists: Vec<String>,
    },
}

/// Runs the command of the group.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    match args.command {
        Command::Add(args) => manifest_add::run(engine, args),
        Command::Annotate(args) => manifest_annotate::run(engine, args),
        Command::Create(args) => manifest_create::run(engine, &args),
        Command::Exists { list } => Ok(i32::from(!engine.list_exists(&list)?)),
        Command::Inspect(args) => manifest_inspect::run(engine, &args),
        Command::Push(args) => manifest_push::run(engine, &args),
        Command::Remove { list, digest } => {
            output::line(engine.remove_from_list(&list, &digest)?)?;
            Ok(0)
        }
        Command::Rm { ignore, lists } => remove(engine, &lists, ignore),
    }
}

/// Removes each; 1 if one was not here, as `rmi` has it.
fn remove(engine: &Engine, lists: &[String], ignore: bool) -> anyhow::Result<i32> {
    let mut code = 0;
    for list in lists {
        match engine.remove_list(list, false) {
            Ok(Some(removal)) => rmi::tell(removal)?,
            Ok(None) if ignore => {}
            Ok(None) => {
                output::error(format!("{list}: no such manifest list"));
                code = code.max(1);
            }
            Err(error) => {
                let error = engine.explain_space(error);
                output::error(error.line());
                code = code.max(if error.kind() == Kind::Conflict {
                    2
                } else {
                    125
                });
            }
        }
    }
    Ok(code)
}

/// `KEY=VALUE`, as `--annotation` takes it.
pub(super) fn annotations(texts: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let pairs = texts.iter().map(|text| {
        let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) =
            pair.ok_or_else(|| anyhow::anyhow!("invalid annotation {text:?}: it is KEY=VALUE"))?;
        Ok((key.to_owned(), value.to_owned()))
    });
    pairs.collect()
}
