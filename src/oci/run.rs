//! `run`: a whole life in one command.

use kelp_oci::{CreateOptions, Error, Root, Signals};

use super::log::Log;

/// Creates a container, starts it, and unless it is left running waits for its end; its exit code.
pub fn run(
    root: &Root,
    id: &str,
    options: &CreateOptions,
    detach: bool,
    keep: bool,
    log: &Log,
) -> anyhow::Result<i32> {
    let signals = (!detach).then(Signals::hold).transpose()?;
    let mut container = root.run(id, options)?;
    log.warn(&container.notes);
    let Some(signals) = signals else {
        return Ok(0);
    };
    let terminal = container.terminal.take();
    let code = container.wait(&signals, terminal)?;
    if !keep {
        match container.delete(true) {
            Err(Error::NotFound(_)) => {}
            result => log.warn(&result?),
        }
    }
    Ok(code)
}
