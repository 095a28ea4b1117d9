//! `kelp exec`: another process in a running container.

use std::path::PathBuf;

use anyhow::{Context, bail};
use kelp_args::DetachKeys;
use kelp_engine::container::exec::ExecOptions;
use kelp_engine::terminal::Options;
use kelp_engine::{ContainerId, Engine};

use super::attach::detach_keys;
use super::create_flags::{host_variables, variables};
use super::output;

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
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// The keys that detach from the process; none if empty
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
    /// Read the container's id from this file
    #[arg(long, value_name = "FILE", conflicts_with = "latest")]
    cidfile: Option<PathBuf>,
    /// Use the container that was created last
    #[arg(short, long)]
    latest: bool,
    /// The user, by name or number: USER[:GROUP]
    #[arg(short, long)]
    user: Option<String>,
    /// The working directory
    #[arg(short, long)]
    workdir: Option<PathBuf>,
    /// Give the process every capability
    #[arg(long)]
    privileged: bool,
    /// Pass so many descriptors after standard error on to the process
    #[arg(long, value_name = "NUMBER", default_value_t)]
    preserve_fds: u16,
    /// The container, unless a flag says which; the program and its arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CONTAINER COMMAND [ARG...]"
    )]
    words: Vec<String>,
}

impl Args {
    /// The container, and the command to run in it.
    fn target(&self, engine: &Engine) -> anyhow::Result<(ContainerId, Vec<String>)> {
        let (id, command) = match (&self.cidfile, self.words.as_slice()) {
            (Some(path), command) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("read {}", path.display()))?;
                (engine.find_container(text.trim())?, command)
            }
            (None, command) if self.latest => (engine.latest_container()?, command),
            (None, [name, command @ ..]) => (engine.find_container(name)?, command),
            (None, []) => {
                bail!("exec requires the name or ID of a container or the --latest flag")
            }
        };
        if command.is_empty() {
            bail!("must provide a non-empty command to start an exec session");
        }
        Ok((id, command.to_vec()))
    }
}

/// Runs it; the process's exit code.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    let (id, command) = args.target(engine)?;
    let created = engine.config(&id)?.options;
    let keys = detach_keys(args.tty, args.detach_keys.as_ref(), &created)?;
    let options = ExecOptions {
        command,
        env: variables(&args.env_file, &args.env, &host_variables())?,
        workdir: args.workdir,
        user: args.user,
        privileged: args.privileged,
        streams: Options {
            stdin: args.interactive,
            stdout: true,
            stderr: true,
            tty: args.tty,
            sig_proxy: false,
            detach_keys: keys,
        },
        detach: args.detach,
        preserved_fds: args.preserve_fds,
    };
    output::warn_without_terminal(args.interactive && !args.detach, args.tty);
    let code = engine.exec_container(&id, options)?;
    if args.detach {
        output::line(ContainerId::random())?;
    }
    Ok(code)
}
