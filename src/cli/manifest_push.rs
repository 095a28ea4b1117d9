//! `kelp manifest push`: a list to a registry.

use kelp_engine::Engine;

use super::push_flags::PushFlags;

/// Push a manifest list to a registry
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    push: PushFlags,
    /// Push the images of the list as well
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_name = "BOOL", action = clap::ArgAction::Set)]
    all: bool,
    /// Remove the list once it is pushed
    #[arg(long)]
    rm: bool,
    /// The list
    list: String,
    /// Where to: a name in a registry
    destination: Option<String>,
}

/// Pushes the list.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let request = args.push.request(None)?;
    let destination = args.destination.as_deref();
    let digest = engine.push_list(&args.list, destination, args.all, &request)?;
    args.push.write_digest(&digest)?;
    if args.rm {
        engine.remove_list(&args.list, false)?;
    }
    Ok(0)
}
