//! The `pasta` program of the host: where it is and what it can do.
//!
//! What differs between versions that matters here is whether `--map-guest-addr` and
//! `--map-host-loopback` exist (passt of 2024-08-21 and later; Debian 12 has one of 2023-03). Asking
//! the program does not work everywhere: that of Debian 13 loses what it prints to a pipe beyond
//! 4,096 bytes of `--help`, and all of `--version`. So its file is searched for the option's name,
//! which takes a tenth of the time of running it, and needs no cache.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Access, access};

use crate::Error;

/// Larger files are not searched; the largest build of pasta known has half a megabyte.
const LARGEST: u64 = 32 << 20;

/// A pasta that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its absolute path.
    pub path: PathBuf,
    /// Whether it has `--map-guest-addr` and `--map-host-loopback`; a sign of 2024-08 or later.
    pub maps_addresses: bool,
}

impl Program {
    /// Finds the program: the configured file, or the first `pasta` in PATH and the usual places.
    pub fn find(configured: Option<&Path>) -> Result<Self, Error> {
        let path = match configured {
            Some(path) => is_program(path).then(|| path.to_owned()).ok_or_else(|| {
                Error::Unavailable(format!(
                    "{} is not a program: check the path of pasta in the configuration",
                    path.display()
                ))
            })?,
            None => in_path(std::env::var_os("PATH").as_deref()).ok_or_else(|| {
                Error::Unavailable(
                    "pasta is not installed, and containers get their network from it: install \
                     the package passt, or use --network none or --network host"
                        .to_owned(),
                )
            })?,
        };
        let maps_addresses = knows(&path, "map-guest-addr");
        Ok(Self {
            path,
            maps_addresses,
        })
    }

    /// What `pasta --version` says, for reports; nothing where it says nothing to a pipe.
    pub fn version(&self) -> Option<String> {
        let output = Command::new(&self.path).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().next()?.trim();
        Some(line.strip_prefix("pasta ").unwrap_or(line).to_owned())
    }
}

fn in_path(path: Option<&OsStr>) -> Option<PathBuf> {
    let usual = ["/usr/bin", "/usr/local/bin", "/bin"];
    std::env::split_paths(path.unwrap_or_default())
        .chain(usual.iter().map(PathBuf::from))
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join("pasta"))
        .find(|file| is_program(file))
}

fn is_program(path: &Path) -> bool {
    path.is_absolute() && path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

fn knows(program: &Path, option: &str) -> bool {
    let small = fs::metadata(program).is_ok_and(|metadata| metadata.len() <= LARGEST);
    let Some(bytes) = small.then(|| fs::read(program).ok()).flatten() else {
        return false;
    };
    if bytes.starts_with(b"\x7fELF") {
        return contains(&bytes, option.as_bytes());
    }
    // A script around the program: all that is left is to ask.
    let help = Command::new(program)
        .arg("--help")
        .stdin(Stdio::null())
        .output();
    help.is_ok_and(|help| {
        contains(&help.stdout, option.as_bytes()) || contains(&help.stderr, option.as_bytes())
    })
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn program(directory: &Path, content: &str) -> PathBuf {
        let path = directory.join("pasta");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn features_are_found_in_a_program_and_asked_of_a_script() {
        let directory = tempfile::tempdir().unwrap();
        for (content, expected) in [
            ("\x7fELF...map-guest-addr\0", true),
            ("\x7fELF...no-map-gw\0", false),
            ("#!/bin/sh\necho '  --map-guest-addr ADDR'\n", true),
            ("#!/bin/sh\necho '  --no-map-gw' >&2\n", false),
        ] {
            let path = program(directory.path(), content);
            let found = Program::find(Some(&path)).unwrap();
            assert_eq!(found.maps_addresses, expected, "{content}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_the_fix() {
        let error = Program::find(Some(Path::new("/nothing/pasta"))).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("/nothing/pasta is not a program")
        );
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("pasta"), "not executable").unwrap();
        assert_eq!(
            in_path(Some(directory.path().as_os_str()))
                .filter(|found| found.starts_with(directory.path())),
            None
        );
    }
}
