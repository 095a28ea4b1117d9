//! Exit codes: the one table from the engine's kinds of error to them.

use std::process::ExitCode;

use clap::error::ErrorKind;
use kelp_engine::Kind;

use super::command_line::Fault;

/// The code for a command's result; an error is printed as one line.
pub fn code(result: anyhow::Result<i32>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code as u8),
        Err(error) => {
            eprintln!("Error: {}", line(&error));
            ExitCode::from(of(&error))
        }
    }
}

fn of(error: &anyhow::Error) -> u8 {
    match error
        .downcast_ref::<kelp_engine::Error>()
        .map(kelp_engine::Error::kind)
    {
        Some(Kind::ProgramNotFound) => 127,
        Some(Kind::ProgramNotExecutable) => 126,
        _ => 125,
    }
}

/// An error in one line.
pub fn line(error: &anyhow::Error) -> String {
    match error.downcast_ref::<kelp_engine::Error>() {
        Some(error) => error.line(),
        None => format!("{error:#}"),
    }
}

/// An option that a command has not.
pub fn fault(fault: &Fault) -> ExitCode {
    eprintln!("Error: {fault}");
    ExitCode::from(125)
}

/// What clap has to say: help and version go to standard output with 0, the rest is an error.
pub fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    if error.kind() == ErrorKind::ValueValidation {
        // A parser of ours names the value itself.
        let cause = std::error::Error::source(error).map(ToString::to_string);
        let own = cause.filter(|cause| cause.starts_with("invalid "));
        let line = own
            .as_deref()
            .filter(|line| !line.starts_with("invalid digit"));
        eprintln!(
            "Error: {}",
            line.unwrap_or(first.trim_start_matches("error: "))
        );
        return ExitCode::from(125);
    }
    eprintln!("Error: {}", first.trim_start_matches("error: "));
    let hints = text.lines().skip(1).filter(|line| !line.trim().is_empty());
    for hint in hints {
        eprintln!("{hint}");
    }
    ExitCode::from(125)
}
