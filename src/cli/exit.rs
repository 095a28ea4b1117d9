//! Exit codes: the one table from the engine's kinds of error to them.

use std::process::ExitCode;

use clap::error::ErrorKind;
use kelp_engine::Kind;

use super::command_line::Fault;
use super::output;
use super::usage_error;

/// As shells tell of the signal SIGPIPE, which ends programs whose reader has gone.
const HANGUP: u8 = 141;

/// The code for a command's result; an error is printed as one line.
pub fn code(result: anyhow::Result<i32>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code as u8),
        Err(error) if error.downcast_ref().is_some_and(output::Failure::is_hangup) => {
            ExitCode::from(HANGUP)
        }
        Err(error) => {
            output::error(line(&error));
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
    output::error(fault);
    ExitCode::from(125)
}

/// What clap has to say: help and version go to standard output with 0, the rest is an error of the
/// command that is named.
pub fn usage(error: &clap::Error, command: &str) -> ExitCode {
    if !error.use_stderr() {
        let help = output::text(error.render().to_string());
        return code(help.map(|()| 0).map_err(anyhow::Error::from));
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        output::note(error.render());
    }
    output::error(usage_error::line(error));
    // What is wrong with a value is told with what is right.
    if !matches!(
        error.kind(),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue
    ) {
        output::note(format_args!("See '{command} --help'"));
    }
    ExitCode::from(125)
}
