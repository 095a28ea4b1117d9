//! Holds a low-level runtime against the OCI runtime specification, from outside.
//!
//! `kelp-runtime-suite [--list] [--quiet] [--table NAME=PATH]... [FILTER...]` runs the cases whose
//! names begin with a filter, `RUNTIME` being the runtime's path (else `KELP_BIN`, else kelp beside this
//! program). It prints a line a case and fails if one does, or for kelp-runtime if those that do are not
//! the ones in which it is known to differ; with `--table` it runs them for several runtimes and prints
//! Markdown. It is single-threaded and adopts what containers leave behind.
#![allow(clippy::print_stdout)]

mod case;
mod cases;
mod command;
mod container;
mod deviations;
mod left;
mod mountinfo;
mod outcome;
mod report;
mod runtime;
mod socket;
mod spec;
mod stage;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use case::Result as Passed;
use runtime::Runtime;

/// What the command line asks for.
#[derive(Default)]
struct Arguments {
    list: bool,
    quiet: bool,
    table: Vec<(String, PathBuf)>,
    filters: Vec<String>,
}

fn main() -> ExitCode {
    match parse().and_then(|arguments| act(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("kelp-runtime-suite: {error}");
            ExitCode::from(2)
        }
    }
}

fn parse() -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--list" => arguments.list = true,
            "--quiet" => arguments.quiet = true,
            "--table" => {
                let value = words.next().unwrap_or_default();
                let parts = value.split_once('=');
                let (name, path) = parts.ok_or("--table wants NAME=PATH")?;
                arguments.table.push((name.to_owned(), path.into()));
            }
            flag if flag.starts_with("--") => return Err(format!("no flag {flag}")),
            filter => arguments.filters.push(filter.to_owned()),
        }
    }
    Ok(arguments)
}

/// Whether every case passes for the runtime in question.
fn act(arguments: &Arguments) -> Result<bool, String> {
    let chosen = case::chosen(&arguments.filters);
    if chosen.is_empty() {
        return Err("no case of that name: see --list".to_owned());
    }
    if arguments.list {
        report::list(&chosen);
        return Ok(true);
    }
    own_mounts()?;
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))
        .map_err(|error| format!("become a subreaper: {error}"))?;
    if arguments.table.is_empty() {
        let runtime = Runtime::new(&default_runtime())?;
        let results = case::run_all(&runtime, &chosen, |case, result| {
            if !arguments.quiet || matches!(result, Passed::Failed(_)) {
                report::line(case, result);
            }
        });
        report::sum(&results);
        if runtime.is_kelp() {
            return Ok(deviations::are_as_listed(&results));
        }
        return Ok(!results.iter().any(|(_, result)| result.is_failure()));
    }
    let mut columns = Vec::new();
    for (name, path) in &arguments.table {
        let runtime = Runtime::new(path)?;
        let results = case::run_all(&runtime, &chosen, |_, _| ());
        columns.push((name.clone(), runtime.version(), results));
    }
    report::table(&columns);
    let own = |(name, _, _): &&report::Column| name == "kelp-runtime";
    let own = columns.iter().find(own);
    Ok(own.is_none_or(|(_, _, results)| deviations::are_as_listed(results)))
}

/// Root's cases mount, and look for what is left mounted: the program goes on in a mount namespace
/// that nobody else is in, another suite that runs at the same time least of all.
fn own_mounts() -> Result<(), String> {
    const MARK: &str = "KELP_SUITE_OWN_MOUNTS";
    if !rustix::process::geteuid().is_root() || std::env::var_os(MARK).is_some() {
        return Ok(());
    }
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let error = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .exec();
    Err(format!("unshare: {error}"))
}

/// `RUNTIME`, else the kelp that tests are to use, else the one that was built beside this program.
fn default_runtime() -> PathBuf {
    let named = std::env::var_os("RUNTIME").or_else(|| std::env::var_os("KELP_BIN"));
    named.map_or_else(
        || {
            let own = std::env::current_exe().unwrap_or_default();
            own.parent().unwrap_or(Path::new(".")).join("kelp")
        },
        PathBuf::from,
    )
}
