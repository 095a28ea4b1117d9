//! `kelp kube …`: pods of Kubernetes YAML.

use clap::Subcommand;
use kelp_engine::Engine;

use super::runtime_flags::RuntimeFlags;
use super::{kube_down, kube_play};

/// Make pods of Kubernetes YAML
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

/// What `kelp kube` has.
#[derive(Subcommand)]
pub enum Command {
    Down(kube_down::Args),
    Play(Box<kube_play::Args>),
}

/// Make pods of Kubernetes YAML
#[derive(clap::Args)]
pub struct PlayArgs {
    #[command(subcommand)]
    command: PlayCommand,
}

#[derive(Subcommand)]
enum PlayCommand {
    Kube(Box<kube_play::Args>),
}

/// Runs the command of the group.
pub fn run(engine: &Engine, before: &RuntimeFlags, args: Args) -> anyhow::Result<i32> {
    match args.command {
        Command::Down(args) => kube_down::run(engine, &args),
        Command::Play(args) => kube_play::run(engine, before, &args),
    }
}

/// Runs `kelp play kube`.
pub fn play(engine: &Engine, before: &RuntimeFlags, args: PlayArgs) -> anyhow::Result<i32> {
    let PlayCommand::Kube(args) = args.command;
    kube_play::run(engine, before, &args)
}
