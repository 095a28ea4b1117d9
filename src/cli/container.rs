//! Commands on containers: each is both `kelp X` and `kelp container X`.

use clap::Subcommand;
use kelp_engine::Engine;

use super::runtime_flags::RuntimeFlags;
use super::{
    attach, commit, container_exists, container_prune, cp, create, diff, exec, export, inspect,
    kill, logs, mount, pause, port, ps, rename, restart, rm, run, start, stats, stop, top, unpause,
    update, wait,
};

/// A command on containers.
#[derive(Subcommand)]
pub enum Command {
    Attach(attach::Args),
    Commit(commit::Args),
    Create(create::Args),
    Cp(cp::Args),
    Diff(diff::Args),
    Exec(exec::Args),
    Export(export::Args),
    Kill(kill::Args),
    Logs(logs::Args),
    Mount(mount::Args),
    Pause(pause::Args),
    Port(port::Args),
    Ps(ps::Args),
    Rename(rename::Args),
    Restart(restart::Args),
    Rm(rm::Args),
    Run(run::Args),
    Start(start::Args),
    Stats(stats::Args),
    Stop(stop::Args),
    Top(top::Args),
    #[command(visible_alias = "umount")]
    Unmount(mount::UnmountArgs),
    Unpause(unpause::Args),
    Update(update::Args),
    Wait(wait::Args),
}

/// Manage containers
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: GroupCommand,
}

/// What `kelp container` has.
#[derive(Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one value in a process")]
enum GroupCommand {
    #[command(flatten)]
    Command(Command),
    Exists(container_exists::Args),
    Inspect(inspect::ContainerArgs),
    #[command(visible_alias = "list")]
    Ls(ps::Args),
    Prune(container_prune::Args),
}

/// Runs a command on containers; the exit code. `before` is what was said of the runtime before the command.
pub fn run(engine: &Engine, before: &RuntimeFlags, command: Command) -> anyhow::Result<i32> {
    match command {
        Command::Attach(args) => attach::run(engine, &args),
        Command::Commit(args) => commit::run(engine, args),
        Command::Create(args) => create::run(engine, before, &args),
        Command::Cp(args) => cp::run(engine, &args),
        Command::Diff(args) => diff::run(engine, &args),
        Command::Exec(args) => exec::run(engine, args),
        Command::Export(args) => export::run(engine, &args),
        Command::Kill(args) => kill::run(engine, &args),
        Command::Logs(args) => logs::run(engine, &args),
        Command::Mount(args) => mount::run(engine, &args),
        Command::Pause(args) => pause::run(engine, &args),
        Command::Port(args) => port::run(engine, &args),
        Command::Ps(args) => ps::run(engine, &args),
        Command::Rename(args) => rename::run(engine, &args),
        Command::Restart(args) => restart::run(engine, &args),
        Command::Rm(args) => rm::run(engine, &args),
        Command::Run(args) => run::run(engine, before, &args),
        Command::Start(args) => start::run(engine, &args),
        Command::Stats(args) => stats::run(engine, &args),
        Command::Stop(args) => stop::run(engine, &args),
        Command::Top(args) => top::run(engine, &args),
        Command::Unmount(args) => mount::unmount(engine, &args),
        Command::Unpause(args) => unpause::run(engine, &args),
        Command::Update(args) => update::run(engine, &args),
        Command::Wait(args) => wait::run(engine, args),
    }
}

/// Runs `kelp container …`; the exit code.
pub fn run_group(engine: &Engine, before: &RuntimeFlags, args: Args) -> anyhow::Result<i32> {
    match args.command {
        GroupCommand::Command(command) => run(engine, before, command),
        GroupCommand::Exists(args) => container_exists::run(engine, &args),
        GroupCommand::Inspect(args) => inspect::run(engine, args.into()),
        GroupCommand::Ls(args) => ps::run(engine, &args),
        GroupCommand::Prune(args) => container_prune::run(engine, &args),
    }
}
