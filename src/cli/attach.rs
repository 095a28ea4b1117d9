//! `kelp attach`: the streams of a running container.

use kelp_args::DetachKeys;
use kelp_engine::container::CreateOptions;
use kelp_engine::terminal::{End, Options, Other, Session};
use kelp_engine::{ContainerId, Engine, Status};

use super::create_flags::defaults;

/// Attach to a running container
#[derive(clap::Args)]
pub struct Args {
    /// Don't pass standard input to the container
    #[arg(long)]
    no_stdin: bool,
    #[command(flatten)]
    streams: StreamFlags,
    /// Use the container that was created last
    #[arg(short, long, conflicts_with = "container")]
    latest: bool,
    /// The container
    #[arg(required_unless_present = "latest")]
    container: Option<String>,
}

/// What `attach` and `start` share.
#[derive(clap::Args)]
pub struct StreamFlags {
    /// Pass signals on to the container
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub sig_proxy: Option<bool>,
    /// The keys that detach from the container; none if empty
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<DetachKeys>,
}

impl StreamFlags {
    /// The keys that detach.
    pub fn keys(&self, created: &CreateOptions) -> anyhow::Result<Vec<u8>> {
        detach_keys(created.tty, self.detach_keys.as_ref(), created)
    }
}

/// The keys that detach from a terminal: the flag's, else the container's, else the configured ones.
pub fn detach_keys(
    tty: bool,
    flag: Option<&DetachKeys>,
    created: &CreateOptions,
) -> anyhow::Result<Vec<u8>> {
    if !tty {
        return Ok(Vec::new());
    }
    let keys = match (flag, &created.detach_keys) {
        (Some(keys), _) => keys.clone(),
        (None, Some(text)) => text.parse()?,
        (None, None) => defaults::detach_keys(defaults::load()?)?.unwrap_or_default(),
    };
    Ok(keys.0)
}

/// Runs it; the container's exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let id = match &args.container {
        Some(name) => engine.find_container(name)?,
        None => engine.latest_container()?,
    };
    if engine.status(&id)? != Status::Running {
        anyhow::bail!("you can only attach to running containers");
    }
    let created = engine.config(&id)?.options;
    let options = Options {
        stdin: created.interactive && !args.no_stdin,
        stdout: true,
        stderr: true,
        tty: created.tty,
        sig_proxy: args.streams.sig_proxy.unwrap_or(true),
        detach_keys: args.streams.keys(&created)?,
    };
    attach(engine, &id, options)
}

/// Connects this process's streams until the container ends; its exit code.
pub fn attach(engine: &Engine, id: &ContainerId, options: Options) -> anyhow::Result<i32> {
    let (session, pipes) = Session::new(options)?;
    let connection = engine.attach_container(id, pipes)?;
    match session.run(engine, Other::Container(id, &connection))? {
        End::Exited(code) => Ok(code),
        End::Detached => Ok(0),
        End::Lost => Ok(engine.wait_container(id)?),
    }
}
