//! `kelp volume inspect`.

use kelp_engine::Engine;
use kelp_engine::volumes::Volume;
use kelp_format::units;
use serde_json::{Value, json};

use super::{exit, inspect, output};

/// Show everything about volumes
#[derive(clap::Args)]
pub struct Args {
    /// Every volume
    #[arg(short, long, conflicts_with = "volumes")]
    all: bool,
    /// json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// The volumes
    #[arg(required_unless_present = "all")]
    volumes: Vec<String>,
}

/// Prints each; what is not here is told of at the end.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let mut found = Vec::new();
    let mut code = 0;
    if args.all {
        found.extend(engine.volumes().iter().map(describe));
    }
    let mut errors = Vec::new();
    for name in &args.volumes {
        match engine.find_volume(name) {
            Ok(volume) => found.push(describe(&volume)),
            Err(error) => errors.push(error),
        }
    }
    inspect::print(args.format.as_deref(), &found)?;
    for error in errors {
        output::error(exit::line(&error.into()));
        code = 125;
    }
    Ok(code)
}

/// In podman's words.
pub fn describe(volume: &Volume) -> Value {
    json!({
        "Name": volume.name,
        "Driver": "local",
        "Mountpoint": volume.data.display().to_string(),
        "CreatedAt": units::rfc3339_local(volume.created),
        "Labels": volume.record.labels,
        "Scope": "local",
        "Options": {},
        "Anonymous": volume.record.anonymous,
        "MountCount": 0,
        "NeedsCopyUp": false,
        "NeedsChown": false,
    })
}
