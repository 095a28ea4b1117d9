//! `kelp top`: the processes of a container.

use kelp_engine::Engine;
use kelp_format::table;

use super::output;

/// Show the processes of a container
#[derive(clap::Args)]
pub struct Args {
    /// Use the container that was created last
    #[arg(short, long)]
    latest: bool,
    /// The container, and the columns to show: args, capeff, comm, etime, group, hpid, huser, nice,
    /// pcpu, pgid, pid, ppid, rss, seccomp, state, time, tty, user, vsz and others; or as ps would show
    /// them: aux, -ef, -o LIST
    #[arg(
        value_name = "CONTAINER [COLUMN...]",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    words: Vec<String>,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let (id, columns) = match args.words.as_slice() {
        columns if args.latest => (engine.latest_container()?, columns),
        [name, columns @ ..] => (engine.find_container(name)?, columns),
        [] => anyhow::bail!("you must provide the name or id of a running container"),
    };
    let rows = engine.top(&id, columns)?;
    output::text(table::layout(&rows))?;
    Ok(0)
}
