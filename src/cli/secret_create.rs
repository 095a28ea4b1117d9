//! `kelp secret create`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;

use anyhow::bail;
use kelp_engine::secret::{MAX_SIZE, SecretOptions};
use kelp_engine::{Engine, Error};

use super::output;

/// Create a secret of a file, of standard input or of a variable
#[derive(clap::Args)]
pub struct Args {
    /// Where its value is: file is all there is
    #[arg(short, long, default_value = "file")]
    driver: String,
    /// Options of the driver, as KEY=VALUE; file has none
    #[arg(long, value_name = "OPTION", value_delimiter = ',')]
    driver_opts: Vec<String>,
    /// FILE is the name of a variable that has the value
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    env: bool,
    /// It is no error if the secret exists, and it stays as it is
    #[arg(long)]
    ignore: bool,
    /// A label, as KEY[=VALUE]
    #[arg(short, long)]
    label: Vec<String>,
    /// Give a secret that exists the new value
    #[arg(long)]
    replace: bool,
    /// Its name
    name: String,
    /// The file that has the value, or - for standard input
    #[arg(value_name = "FILE|-")]
    file: OsString,
}

/// Makes it and prints its id.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    if args.driver != "file" {
        bail!("there is no secret driver {:?}: use file", args.driver);
    }
    if let Some(option) = args.driver_opts.first() {
        bail!(
            "the secret driver file has no option {option:?}: values are in {}",
            engine.secrets_directory().display()
        );
    }
    let labels = args.label.iter().map(|label| {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        (key.to_owned(), value.to_owned())
    });
    let options = SecretOptions {
        labels: labels.collect(),
        replace: args.replace,
        ignore: args.ignore,
    };
    // Before anything is waited for.
    options.check(&args.name)?;
    let value = if args.env {
        variable(&args.file)?
    } else {
        content(&args.file)?
    };
    output::line(engine.create_secret(&args.name, &value, &options)?)?;
    Ok(0)
}

fn variable(name: &OsStr) -> anyhow::Result<Vec<u8>> {
    match std::env::var_os(name) {
        Some(value) if !value.is_empty() => Ok(value.into_vec()),
        _ => bail!(
            "there is no variable {}, or it is empty: set it, or leave --env out",
            name.display()
        ),
    }
}

/// At most one byte more than a value may have.
fn content(file: &OsStr) -> anyhow::Result<Vec<u8>> {
    let limit = MAX_SIZE as u64 + 1;
    let mut value = Vec::new();
    if file == "-" || file == "/dev/stdin" {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            bail!("standard input is a terminal: give the value by a pipe or a file");
        }
        stdin
            .lock()
            .take(limit)
            .read_to_end(&mut value)
            .map_err(Error::io("read standard input"))?;
    } else {
        let what = || format!("read {}", file.display());
        let opened = File::open(file).map_err(Error::io(what()))?;
        opened
            .take(limit)
            .read_to_end(&mut value)
            .map_err(Error::io(what()))?;
    }
    Ok(value)
}
