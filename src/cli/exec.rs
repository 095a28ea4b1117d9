//! `kelp exec`: another process in a running container.

use std::path::PathBuf;

use kelp_engine::Engine;
use kelp_engine::container::exec::ExecOptions;
use kelp_engine::terminal::Options;

/// Run a process in a running container
#[derive(clap::Args)]
pub struct Args {
    /// Leave the process running in the background
    #[arg(short, long)]
    detach: bool,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Allocate a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set an environment variable
    #[arg(short, long)]
    env: Vec<String>,
    /// The user, by name or number: USER[:GROUP]
    #[arg(short, long)]
    user: Option<String>,
    /// The working directory
    #[arg(short, long)]
    workdir: Option<PathBuf>,
    /// Give the process every capability
    #[arg(long)]
    privileged: bool,
    /// The container
    container: String,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs it; the process's exit code.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    let id = engine.find_container(&args.container)?;
    let options = ExecOptions {
        command: args.command,
        env: args.env,
        workdir: args.workdir,
        user: args.user,
        privileged: args.privileged,
        streams: Options {
            stdin: args.interactive,
            stdout: true,
            stderr: true,
            tty: args.tty,
            sig_proxy: false,
            detach_keys: vec![16, 17],
        },
        detach: args.detach,
    };
    let code = engine.exec_container(&id, options)?;
    if args.detach {
        println!("{}", kelp_engine::ContainerId::random());
    }
    Ok(code)
}
