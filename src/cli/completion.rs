//! `kelp completion`: what a shell needs to complete kelp's words.

use std::path::PathBuf;

use clap::{Command, ValueEnum};
use clap_complete::Shell;

use super::output;

/// Print a shell's completion script
#[derive(clap::Args)]
pub struct Args {
    /// Write it to this file
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// Leave descriptions out; taken for compatibility
    #[arg(long)]
    no_desc: bool,
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Known,
}

/// The shells.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script for `command`, which is all of kelp.
pub fn run(mut command: Command, args: &Args) -> anyhow::Result<i32> {
    let _ = args.no_desc;
    let shell = match args.shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "kelp", &mut script);
    match &args.file {
        Some(path) => std::fs::write(path, script)?,
        None => output::text(script)?,
    }
    Ok(0)
}
