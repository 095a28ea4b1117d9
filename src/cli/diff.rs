//! `kelp diff`: what a container changed in its image, or an image in the one it was made from.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;

use kelp_engine::container::diff::{Change, ChangeKind};
use kelp_engine::{Engine, Kind};
use kelp_format::{render, table};

use super::output;

/// Show what a container changed in its image, or the topmost layer of an image in the others
#[derive(clap::Args)]
pub struct Args {
    /// json
    #[arg(long, value_parser = ["json"])]
    format: Option<String>,
    /// Use the container that was created last
    #[arg(short, long, conflicts_with = "container")]
    latest: bool,
    /// The container, or an image
    #[arg(required_unless_present = "latest")]
    container: Option<String>,
}

/// Show what the topmost layer of an image changed in the others
#[derive(clap::Args)]
pub struct ImageArgs {
    /// json
    #[arg(long, value_parser = ["json"])]
    format: Option<String>,
    /// The image
    image: String,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let changes = changes(engine, args.container.as_deref())?;
    print(args.format.is_some(), &changes)
}

/// Runs it for an image; the exit code.
pub fn run_on_image(engine: &Engine, args: &ImageArgs) -> anyhow::Result<i32> {
    let changes = engine.diff_image(&engine.image(&args.image)?)?;
    print(args.format.is_some(), &changes)
}

/// Of a container, or else of an image that has the name.
fn changes(engine: &Engine, name: Option<&str>) -> anyhow::Result<Vec<Change>> {
    let Some(name) = name else {
        return Ok(engine.diff_container(&engine.latest_container()?)?);
    };
    match engine.find_container(name) {
        Ok(id) => Ok(engine.diff_container(&id)?),
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Invalid) => {
            match engine.image(name) {
                Ok(image) => Ok(engine.diff_image(&image)?),
                Err(_) => anyhow::bail!("no container or image is called {name:?}"),
            }
        }
        Err(error) => Err(error.into()),
    }
}

fn print(as_json: bool, changes: &[Change]) -> anyhow::Result<i32> {
    if !as_json {
        let mut lines = Vec::new();
        for change in changes {
            let path = change.path.as_os_str().as_bytes();
            lines.extend_from_slice(&[change.kind.letter() as u8, b' ']);
            for chunk in path.utf8_chunks() {
                lines.extend_from_slice(table::printable(chunk.valid()).as_bytes());
                lines.extend(chunk.invalid().escape_ascii());
            }
            lines.push(b'\n');
        }
        output::text(lines)?;
        return Ok(0);
    }
    let mut lists: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for change in changes {
        let list = match change.kind {
            ChangeKind::Changed => "changed",
            ChangeKind::Added => "added",
            ChangeKind::Deleted => "deleted",
        };
        let path = change.path.to_string_lossy().into_owned();
        lists.entry(list).or_default().push(path);
    }
    output::line(render::json(&lists)?)?;
    Ok(0)
}
