//! `kelp artifact …`: files from a registry that are no images.

use std::path::PathBuf;

use clap::Subcommand;
use kelp_engine::Engine;
use kelp_engine::artifact::Choice;

use super::{
    artifact_add, artifact_inspect, artifact_ls, artifact_pull, artifact_push, artifact_rm,
};

/// Manage OCI artifacts
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

/// What `kelp artifact` has.
#[derive(Subcommand)]
pub enum Command {
    Add(artifact_add::Args),
    /// Write the files of an artifact to a file or into a directory
    Extract {
        /// The file with this digest alone
        #[arg(long, conflicts_with = "title")]
        digest: Option<String>,
        /// The file with this title alone
        #[arg(long)]
        title: Option<String>,
        /// The artifact
        artifact: String,
        /// A directory that is there, or a file
        path: PathBuf,
    },
    Inspect(artifact_inspect::Args),
    #[command(visible_alias = "list")]
    Ls(artifact_ls::Args),
    Pull(artifact_pull::Args),
    Push(artifact_push::Args),
    #[command(visible_alias = "remove")]
    Rm(artifact_rm::Args),
}

/// Runs the command of the group.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    match args.command {
        Command::Add(args) => artifact_add::run(engine, args),
        Command::Extract {
            digest,
            title,
            artifact,
            path,
        } => {
            let choice = Choice {
                digest: digest.as_deref(),
                title: title.as_deref(),
            };
            engine.extract_artifact(&artifact, choice, &path)?;
            Ok(0)
        }
        Command::Inspect(args) => artifact_inspect::run(engine, &args),
        Command::Ls(args) => artifact_ls::run(engine, &args),
        Command::Pull(args) => artifact_pull::run(engine, &args),
        Command::Push(args) => artifact_push::run(engine, &args),
        Command::Rm(args) => artifact_rm::run(engine, &args),
    }
}
