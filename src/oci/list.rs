//! `list` and `ps`.

use std::process::Command;

use anyhow::{Context, bail};
use kelp_format::table;
use kelp_oci::{Container, Root};

use crate::cli::output;

#[derive(clap::Args)]
pub struct Args {
    /// How: table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: String,
    /// Print ids alone
    #[arg(short, long)]
    quiet: bool,
}

/// Prints the containers of a root.
pub fn run(root: &Root, args: &Args) -> anyhow::Result<()> {
    let mut states = Vec::new();
    for container in root.containers()? {
        states.extend(container.state());
    }
    if args.quiet {
        for state in states {
            output::line(state.id)?;
        }
        return Ok(());
    }
    match args.format.as_str() {
        "json" => output::line(serde_json::to_string(&states)?)?,
        "table" => {
            let heading = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
            let mut rows = vec![heading.map(str::to_owned).to_vec()];
            rows.extend(states.into_iter().map(|state| {
                vec![
                    state.id,
                    state.pid.to_string(),
                    state.status.to_string(),
                    state.bundle.display().to_string(),
                    state.created,
                    state.owner,
                ]
            }));
            output::text(table::layout(&rows))?;
        }
        other => bail!("invalid --format {other:?}: use table or json"),
    }
    Ok(())
}

/// Prints a container's processes: their numbers, or what ps(1) has on them.
pub fn ps(container: &Container, format: &str, options: Vec<String>) -> anyhow::Result<i32> {
    let processes = container.processes()?;
    match format {
        "json" => output::line(serde_json::to_string(&processes)?)?,
        "table" => {
            let options = if options.is_empty() {
                vec!["-ef".to_owned()]
            } else {
                options
            };
            let done = Command::new("ps")
                .args(&options)
                .output()
                .context("run ps: is procps installed?")?;
            if !done.status.success() {
                bail!("ps: {}", String::from_utf8_lossy(&done.stderr).trim());
            }
            let text = String::from_utf8_lossy(&done.stdout);
            let mut lines = text.lines();
            let heading = lines.next().unwrap_or_default();
            let column = heading
                .split_whitespace()
                .position(|word| word == "PID")
                .context("ps prints no column PID: choose other options")?;
            output::line(heading)?;
            let is_ours = |line: &&str| {
                let pid = line.split_whitespace().nth(column);
                pid.and_then(|pid| pid.parse().ok())
                    .is_some_and(|pid| processes.contains(&pid))
            };
            for line in lines.filter(is_ours) {
                output::line(line)?;
            }
        }
        other => bail!("invalid --format {other:?}: use table or json"),
    }
    Ok(0)
}
