//! `kelp version`.

use std::env::consts::{ARCH, OS};

use kelp_format::render::{json, object};
use serde_json::{Value, json as value};

use super::output;

/// The level of podman's API that kelp answers to.
pub const API: &str = "5.8.0";

/// Show the version
#[derive(clap::Args)]
pub struct Args {
    /// json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
}

/// Prints it.
pub fn run(args: &Args) -> anyhow::Result<i32> {
    let version = describe();
    match args.format.as_deref() {
        None => {
            let field = |name: &str| version[name].as_str().unwrap_or_default().to_owned();
            output::line("Client:       kelp")?;
            for (title, name) in [
                ("Version:", "Version"),
                ("API Version:", "APIVersion"),
                ("OS/Arch:", "OsArch"),
            ] {
                output::line(format_args!("{title:<14}{}", field(name)))?;
            }
        }
        Some("json") => output::line(json(&value!({ "Client": version }))?)?,
        Some(template) => {
            // There is no server apart from the client: who asks for one gets the same answer.
            let both = value!({ "Client": version, "Server": version });
            output::line(object(&both, template)?)?;
        }
    }
    Ok(0)
}

/// The fields of podman's version.
pub fn describe() -> Value {
    let arch = match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    value!({
        "APIVersion": API,
        "Version": env!("CARGO_PKG_VERSION"),
        "GoVersion": "",
        "GitCommit": "",
        "BuiltTime": "",
        "Built": 0,
        "BuildOrigin": "",
        "OsArch": format!("{OS}/{arch}"),
        "Os": OS,
    })
}
