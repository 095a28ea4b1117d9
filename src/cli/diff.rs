//! `kelp diff`: what a container changed in its image.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use kelp_engine::Engine;
use kelp_engine::container::diff::ChangeKind;
use kelp_format::render;

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
    let mut stdout = io::stdout().lock();
    if args.format.is_none() {
        for change in &changes {
            let path = change.path.as_os_str().as_bytes();
            let letter = change.kind.letter() as u8;
            stdout.write_all(&[&[letter, b' '], path, b"\n"].concat())?;
        }
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
    writeln!(stdout, "{}", render::json(&lists)?)?;
    Ok(0)
}
