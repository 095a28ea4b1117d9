//! `kelp export`: all that a container shows as an archive.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::bail;
use kelp_engine::{Engine, Error};
use rustix::termios::isatty;

/// Write all that a container shows as an archive
#[derive(clap::Args)]
pub struct Args {
    /// Write to a file, not to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The container
    container: String,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let id = engine.find_container(&args.container)?;
    let Some(path) = &args.output else {
        let stdout = rustix::stdio::stdout();
        if isatty(stdout) {
            bail!("refusing to export to terminal. Use -o flag or redirect");
        }
        engine.export_container(&id, stdout)?;
        return Ok(0);
    };
    let file = File::create(path).map_err(Error::io(format!("create {}", path.display())))?;
    if let Err(error) = engine.export_container(&id, file.as_fd()) {
        // Half an archive is none; what is no plain file is left as it is.
        if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            let _ = fs::remove_file(path);
        }
        return Err(error.into());
    }
    Ok(0)
}
