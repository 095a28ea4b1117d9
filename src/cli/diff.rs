//! `kelp diff`: what a container changed in its image.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;

use kelp_engine::Engine;
use kelp_engine::container::diff::ChangeKind;
use kelp_format::render;

use super::output;

/// Show what a container changed in its image
#[derive(clap::Args)]
pub struct Args {
    /// json
    #[arg(long, value_parser = ["json"])]
    format: Option<String>,
    /// Use the container that was created last
    #[arg(short, long, conflicts_with = "container")]
    latest: bool,
    /// The container
    #[arg(required_unless_present = "latest")]
    container: Option<String>,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let id = match &args.container {
        Some(name) => engine.find_container(name)?,
        None => engine.latest_container()?,
    };
    let changes = engine.diff_container(&id)?;
    if args.format.is_none() {
        let mut lines = Vec::new();
        for change in &changes {
            let path = change.path.as_os_str().as_bytes();
            let letter = change.kind.letter() as u8;
            lines.extend_from_slice(&[&[letter, b' '], path, b"\n"].concat());
        }
        output::text(lines)?;
        return Ok(0);
    }
    let mut lists: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for change in &changes {
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
