//! `kelp pod top`: the processes of the containers of a pod.

use kelp_engine::{Engine, Status};
use kelp_format::table;

use super::output;

/// Show the processes of the containers of a pod
#[derive(clap::Args)]
pub struct Args {
    /// Use the pod that was created last
    #[arg(short, long)]
    latest: bool,
    /// The pod, and the columns to show, as for `kelp top`
    #[arg(
        value_name = "POD [COLUMN...]",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    words: Vec<String>,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let (id, columns) = match args.words.as_slice() {
        columns if args.latest => (engine.latest_pod()?, columns),
        [name, columns @ ..] => (engine.find_pod(name)?, columns),
        [] => anyhow::bail!("you must provide the name or id of a running pod"),
    };
    let pod = engine.inspect_pod(&id)?;
    let mut rows: Vec<Vec<String>> = Vec::new();
    for listed in pod.containers {
        if !matches!(listed.status, Status::Running | Status::Paused) {
            continue;
        }
        let of_container = match engine.top(&listed.summary.id, columns) {
            Ok(of_container) => of_container,
            // It has ended meanwhile.
            Err(_)
                if !engine
                    .status(&listed.summary.id)
                    .is_ok_and(Status::can_kill) =>
            {
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        // Each has the heading.
        let heading = usize::from(!rows.is_empty());
        rows.extend(of_container.into_iter().skip(heading));
    }
    output::text(table::layout(&rows))?;
    Ok(0)
}
