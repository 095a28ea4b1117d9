//! `kelp unshare`: a command with the ids that containers have.

use kelp_engine::{Engine, Error, Kind};

/// Run a command in the user namespace of containers: it is root there, and mounts end with it
#[derive(clap::Args)]
pub struct Args {
    /// The command and its arguments; the shell if there is none
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND [ARG...]"
    )]
    command: Vec<String>,
}

/// Runs the command with this process as its parent; returns only if that can't begin.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    let mut command = args.command;
    if command.is_empty() {
        let shell = std::env::var("SHELL")
            .map_err(|_| Error::new(Kind::Invalid, "no command is given, and SHELL is not set"))?;
        command.push(shell);
    }
    match engine.unshare(&command)? {}
}
