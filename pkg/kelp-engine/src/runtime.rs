//! Which OCI runtime makes a container: kelp's own, or another one by name or path.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use kelp_runtime::foreign::Foreign;
use rustix::fs::{Access, access};

use crate::Error;

/// kelp's own, as it is called.
pub const OWN: &str = "kelp";

/// Where a runtime is looked for that no configuration names (containers.conf(5), "engine.runtimes").
const DIRECTORIES: &[&str] = &[
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/sbin",
    "/bin",
    "/run/current-system/sw/bin",
];

/// Finds the runtime that `wanted` names; `None` for kelp's own. With a slash it is a path. Where
/// `configured` says where a runtime of that name is, it is nowhere else: the first that is there counts.
///
/// # Errors
/// One that is not there; the text says where it was looked for.
pub fn find(
    wanted: &str,
    flags: Vec<String>,
    configured: Option<&[String]>,
) -> Result<Option<Foreign>, Error> {
    if wanted == OWN {
        return match flags.first() {
            None => Ok(None),
            Some(flag) => Err(Error::invalid(format!(
                "--runtime-flag {}: kelp's own runtime has no flags; name another one with --runtime",
                flag.trim_start_matches('-')
            ))),
        };
    }
    let path = match configured {
        _ if wanted.contains('/') => by_path(wanted)?,
        Some(paths) => {
            let found = paths
                .iter()
                .map(PathBuf::from)
                .find(|path| is_program(path));
            found.ok_or_else(|| missing(wanted, &format!("at {}", paths.join(", "))))?
        }
        None => by_name(wanted)?,
    };
    let name = if wanted.contains('/') {
        let file = path.file_name().unwrap_or_default();
        file.to_string_lossy().into_owned()
    } else {
        wanted.to_owned()
    };
    Ok(Some(Foreign { name, path, flags }))
}

fn by_path(wanted: &str) -> Result<PathBuf, Error> {
    let path = std::path::absolute(wanted).map_err(Error::io(format!("find {wanted}")))?;
    if is_program(&path) {
        return Ok(path);
    }
    Err(Error::invalid(format!(
        "runtime {wanted:?}: there is no program at {}",
        path.display()
    )))
}

fn by_name(wanted: &str) -> Result<PathBuf, Error> {
    let search = env::var_os("PATH").unwrap_or_default();
    let usual = DIRECTORIES.iter().map(PathBuf::from);
    let places = usual.chain(env::split_paths(&search).filter(|path| path.is_absolute()));
    let mut places = places.map(|place| place.join(wanted));
    let found = places.find(|path| is_program(path));
    found.ok_or_else(|| {
        let places = DIRECTORIES.join(", ");
        missing(wanted, &format!("in {places} and $PATH"))
    })
}

fn missing(wanted: &str, places: &str) -> Error {
    Error::invalid(format!(
        "runtime {wanted:?} is not installed: it was looked for {places}; install it, name its path, or \
         put it into [engine.runtimes] of kelp.conf"
    ))
}

fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

/// A flag as its caller writes it, without dashes: `log=x` becomes `--log=x`.
pub fn flag(text: &str) -> String {
    if text.starts_with('-') {
        return text.to_owned();
    }
    format!("--{text}")
}

/// What a runtime says of its version, in one line; nothing where it says nothing.
pub fn version(runtime: &Foreign) -> String {
    let said = Command::new(&runtime.path)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let said = said.map(|said| said.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    said.lines().next().unwrap_or_default().trim().to_owned()
}

/// What the runtime of a container is called.
pub fn name(runtime: Option<&Foreign>) -> &str {
    runtime.map_or(OWN, |runtime| &runtime.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_found_by_name_path_or_configuration() {
        let found = |wanted: &str, configured: Option<&[String]>| {
            find(wanted, Vec::new(), configured).map(|found| found.map(|it| (it.name, it.path)))
        };
        assert_eq!(found("kelp", None).unwrap(), None);
        let sh = Some(("sh".to_owned(), PathBuf::from("/bin/sh")));
        assert_eq!(found("/bin/sh", None).unwrap(), sh);
        let places = ["/nowhere/x".to_owned(), "/bin/sh".to_owned()];
        let other = Some(("mine".to_owned(), PathBuf::from("/bin/sh")));
        assert_eq!(found("mine", Some(&places)).unwrap(), other);
        let line = found("sh", Some(&places[..1])).unwrap_err().line();
        assert!(line.contains("looked for at /nowhere/x;"), "{line}");
        let line = found("nosuch", None).unwrap_err().line();
        assert!(line.contains("in /usr/bin, /usr/sbin"), "{line}");
        assert!(found("/etc/passwd", None).is_err());
    }

    #[test]
    fn kelps_own_runtime_takes_no_flags() {
        let line = find("kelp", vec![flag("debug")], None).unwrap_err().line();
        assert!(line.starts_with("--runtime-flag debug: "), "{line}");
        assert_eq!(flag("log=x"), "--log=x");
        assert_eq!(flag("--log=x"), "--log=x");
    }
}
