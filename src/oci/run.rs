//! `run`: a whole life in one command.

use kelp_oci::{CreateOptions, Error, Root};

/// Creates a container, starts it, and unless it is left running waits for its end; its exit code.
pub fn run(
    root: &Root,
    id: &str,
    options: &CreateOptions,
    detach: bool,
    keep: bool,
) -> anyhow::Result<i32> {
    let container = root.create(id, options)?;
    if let Err(error) = container.start() {
        let _ = root.delete(id, true);
        return Err(error.into());
    }
    if detach {
        return Ok(0);
    }
    let code = container.wait()?;
    if !keep {
        match root.delete(id, true) {
            Err(Error::NotFound(_)) => {}
            result => result?,
        }
    }
    Ok(code)
}
