//! `kelp secret rm`.

use kelp_engine::{Engine, Kind};

use super::{output, selection};

/// Remove secrets; containers that have one keep what they got
#[derive(clap::Args)]
pub struct Args {
    /// Remove every secret
    #[arg(short, long)]
    all: bool,
    /// It is no error if a secret is not here
    #[arg(short, long)]
    ignore: bool,
    /// The secrets: names, ids or the beginning of those
    secrets: Vec<String>,
}

/// Removes each and prints its id; what could not be removed is told of, and keeps no other.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    selection::check(args.all, false, !args.secrets.is_empty(), &[])?;
    let removed = if args.all {
        engine.remove_secrets()?
    } else {
        let names = args.secrets.iter();
        names.map(|name| engine.remove_secret(name)).collect()
    };
    let mut code = 0;
    for removed in removed {
        match removed {
            Ok(id) => output::line(id)?,
            Err(error) if args.ignore && error.kind() == Kind::NotFound => {}
            Err(error) => {
                output::error(engine.explain_space(error).line());
                code = 125;
            }
        }
    }
    Ok(code)
}
