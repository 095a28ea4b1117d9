//! The command line: one file a command, each with its arguments and one function.

mod create_flags;
mod exec;
mod exit;
mod image;
mod login;
mod pull;
mod pull_flags;
mod rmi;
mod run;
mod tag;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kelp_engine::Engine;

/// Rootless containers for one user, with no daemon.
#[derive(Parser)]
#[command(
    name = "kelp",
    version,
    disable_help_subcommand = true,
    infer_long_args = false
)]
struct Kelp {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Exec(exec::Args),
    Image(image::Args),
    Login(login::LoginArgs),
    Logout(login::LogoutArgs),
    Pull(pull::Args),
    Rmi(rmi::Args),
    Run(run::Args),
    Tag(tag::TagArgs),
    Untag(tag::UntagArgs),
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let kelp = match Kelp::try_parse() {
        Ok(kelp) => kelp,
        Err(error) => return exit::usage(&error),
    };
    let result = Engine::open()
        .map_err(anyhow::Error::from)
        .and_then(|engine| match kelp.command {
            Command::Exec(args) => exec::run(&engine, args),
            Command::Image(args) => image::run(&engine, args),
            Command::Login(args) => login::login(&engine, args),
            Command::Logout(args) => login::logout(&engine, &args),
            Command::Pull(args) => pull::run(&engine, args),
            Command::Rmi(args) => rmi::run(&engine, args),
            Command::Run(args) => run::run(&engine, args),
            Command::Tag(args) => tag::tag(&engine, &args),
            Command::Untag(args) => tag::untag(&engine, &args),
        });
    exit::code(result)
}
