//! `kelp quadlet …`: units of containers, which systemd starts.

use clap::Subcommand;
use kelp_engine::Engine;
use kelp_quadlet::{Environment, Finding, Host, Set, load, role};

use super::{output, quadlet_check, quadlet_install, quadlet_ls, quadlet_rm};

/// Manage Quadlet files, of which systemd makes services
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(quadlet_check::Args),
    Install(quadlet_install::Args),
    #[command(visible_alias = "ls")]
    List(quadlet_ls::Args),
    /// Print a unit's file
    #[command(visible_alias = "cat")]
    Print {
        /// The unit's file, by name
        quadlet: String,
    },
    Rm(quadlet_rm::Args),
}

/// Runs the command of the group.
pub fn run(engine: &Engine, kelp: &clap::Command, args: Args) -> anyhow::Result<i32> {
    match args.command {
        Command::Check(args) => quadlet_check::run(kelp, &args),
        Command::Install(args) => quadlet_install::run(engine, &args),
        Command::List(args) => quadlet_ls::run(engine, &args),
        Command::Print { quadlet } => print(&quadlet),
        Command::Rm(args) => quadlet_rm::run(engine, &args),
    }
}

fn print(name: &str) -> anyhow::Result<i32> {
    let (set, _) = units();
    let unit = set.get(name);
    let unit = unit.ok_or_else(|| anyhow::anyhow!("no such Quadlet: {name}"))?;
    output::text(std::fs::read(&unit.path)?)?;
    Ok(0)
}

/// Where the user's units are looked for; root's are the system's.
pub fn environment() -> Environment {
    Environment::of_process(!rustix::process::getuid().is_root())
}

/// The user's units.
pub fn units() -> (Set, Vec<Finding>) {
    let (directories, _) = environment().directories();
    load(&directories)
}

/// Calls `with` with the machine that kelp is on.
pub fn on_this_machine<T>(with: impl FnOnce(&Host<'_>) -> T) -> anyhow::Result<T> {
    let kelp = std::env::current_exe()?;
    let host = Host {
        program: &kelp.to_string_lossy(),
        user: &|name| role::account_id("/etc/passwd", name),
        group: &|name| role::account_id("/etc/group", name),
        exists: &|path| path.exists(),
    };
    Ok(with(&host))
}
