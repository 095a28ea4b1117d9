//! `kelp inspect`: everything about a container, an image, a volume or a pod, as JSON or by a template.

use kelp_engine::{Engine, Error, Kind};
use kelp_format::render::{json, object};
use serde_json::Value;

use super::{container_inspect, exit, image_inspect, output, pod_inspect, volume_inspect};

/// Show everything about containers, images, volumes and pods
#[derive(clap::Args)]
pub struct Args {
    /// json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// Use the container that was created last
    #[arg(short, long, conflicts_with = "names")]
    latest: bool,
    /// Show the size of containers as well
    #[arg(short, long)]
    size: bool,
    /// What the names are of
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "all")]
    kind: ObjectKind,
    /// Names or ids
    #[arg(value_name = "NAME", required_unless_present = "latest")]
    names: Vec<String>,
}

/// Show everything about containers
#[derive(clap::Args)]
pub struct ContainerArgs {
    /// json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// Use the container that was created last
    #[arg(short, long, conflicts_with = "names")]
    latest: bool,
    /// Show the size of the containers as well
    #[arg(short, long)]
    size: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required_unless_present = "latest")]
    names: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ObjectKind {
    All,
    Container,
    Image,
    Pod,
    Volume,
}

impl From<ContainerArgs> for Args {
    fn from(args: ContainerArgs) -> Self {
        Self {
            format: args.format,
            latest: args.latest,
            size: args.size,
            kind: ObjectKind::Container,
            names: args.names,
        }
    }
}

/// Prints each; what is not here is told of at the end.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    let mut names = args.names;
    if args.latest {
        names.push(engine.latest_container()?.to_string());
    }
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for name in &names {
        match describe(engine, name, args.kind, args.size) {
            Ok(value) => found.push(value),
            Err(error) => errors.push(error),
        }
    }
    print(args.format.as_deref(), &found)?;
    for error in &errors {
        output::error(exit::line(error));
    }
    Ok(if errors.is_empty() { 0 } else { 125 })
}

/// Prints objects as one list, or by a template.
pub fn print(format: Option<&str>, found: &[Value]) -> anyhow::Result<()> {
    match format.map(str::trim) {
        None | Some("json" | "") => output::line(json(&found)?)?,
        Some(template) => {
            for value in found {
                output::line(object(value, template)?)?;
            }
        }
    }
    Ok(())
}

fn describe(engine: &Engine, name: &str, kind: ObjectKind, size: bool) -> anyhow::Result<Value> {
    let container = || container_inspect::describe(engine, name, size);
    let image = || image_inspect::describe(engine, name);
    let volume = || volume(engine, name);
    let pod = || pod_inspect::describe(engine, name);
    match kind {
        ObjectKind::Container => container(),
        ObjectKind::Image => image(),
        ObjectKind::Pod => pod(),
        ObjectKind::Volume => volume(),
        ObjectKind::All => {
            let kinds: [&dyn Fn() -> anyhow::Result<Value>; 4] =
                [&container, &image, &volume, &pod];
            for describe in kinds {
                match describe() {
                    Err(error) if is_absent(&error) => {}
                    result => return result,
                }
            }
            anyhow::bail!("no such object: \"{name}\"")
        }
    }
}

fn volume(engine: &Engine, name: &str) -> anyhow::Result<Value> {
    Ok(volume_inspect::describe(&engine.find_volume(name)?))
}

/// Whether something of another kind may have the name.
fn is_absent(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Error>()
        .is_some_and(|error| matches!(error.kind(), Kind::NotFound | Kind::Invalid))
}
