//! `kelp pod logs`: what the containers of a pod wrote.

use kelp_engine::Engine;

use super::logs::{self, LogFlags};

/// Show the output of the containers of a pod
#[derive(clap::Args)]
pub struct Args {
    /// Only that of this container
    #[arg(short, long, value_name = "CONTAINER")]
    container: Option<String>,
    #[command(flatten)]
    flags: LogFlags,
    /// Use the pod that was created last
    #[arg(short, long, conflicts_with = "pod")]
    latest: bool,
    /// The pod
    #[arg(required_unless_present = "latest")]
    pod: Option<String>,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let id = match &args.pod {
        Some(name) => engine.find_pod(name)?,
        None => engine.latest_pod()?,
    };
    let members = engine.members_of_pod(&id);
    let ids = match &args.container {
        None => members.into_iter().map(|config| config.id).collect(),
        Some(name) => {
            let wanted = members
                .into_iter()
                .find(|config| config.name == *name || config.id.as_str() == name);
            let Some(config) = wanted else {
                let pod = args.pod.as_deref().unwrap_or(id.short());
                anyhow::bail!("container {name} is not in pod {pod}: no such container");
            };
            vec![config.id]
        }
    };
    logs::show(engine, &args.flags, &ids)
}
