//! Compiled filters, kept: a start reads one instead of compiling it.
//!
//! Compiling takes 0.1 to 0.4 ms, most of it in a process that has just been started and touches
//! every page for the first time; reading takes 0.01. A filter lies in a file whose name says all
//! that it depends on, in a directory of mode 0700 that only the user may enter. No container has
//! that directory, unless one is given the user's whole runtime directory.
//!
//! A file counts if it belongs to the user, nobody else may write to it, and its digest, which is
//! over its name too, is right. Whatever else is found is replaced: by a rename, so that a reader
//! has a whole file and writers need no lock. What can't be read or written only costs time.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use oci_spec::runtime::LinuxSeccomp;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest, Sha256};

use super::compile::MAX_INSTRUCTIONS;
use super::{Program, compiled_plan, default_key, default_profile, program_key};
use crate::capabilities::CapSet;
use crate::error::Error;

/// Bytes of the digest at a file's end.
const DIGEST: usize = 16;

/// No file is longer: magic, flags, instructions, digest.
const LONGEST: usize = 12 + 8 * MAX_INSTRUCTIONS + DIGEST;

/// So many filters are kept; who uses more profiles in a session starts over.
const MOST: usize = 64;

/// The filter of a container: of its profile, else of the default one for these capabilities; none
/// if there is nothing to filter. `directory` is where compiled ones are kept.
///
/// # Errors
/// [`Error::Spec`] for a profile that can't be.
pub fn plan_cached(
    profile: Option<&LinuxSeccomp>,
    default: Option<CapSet>,
    single_id: bool,
    directory: Option<&Path>,
) -> Result<Option<Program>, Error> {
    let default = default.filter(|_| profile.is_none());
    if profile.is_none() && default.is_none() && !single_id {
        return Ok(None);
    }
    let compile = || {
        let made = default.map(default_profile);
        compiled_plan(profile.or(made.as_ref()), single_id)
    };
    let Some(directory) = directory else {
        return compile().map(Some);
    };
    let key = match default {
        Some(caps) => default_key(caps, single_id),
        None => program_key(profile, single_id)?,
    };
    let opened = open(directory);
    let kept = opened.as_ref().ok().and_then(|at| read(at, &key));
    if let Some(program) = kept {
        return Ok(Some(program));
    }
    let program = compile()?;
    // Where it can't be kept, the next start compiles as this one did.
    let _ = opened
        .or_else(|_| make(directory))
        .and_then(|at| write(&at, &key, &program));
    Ok(Some(program))
}

/// The directory, if it is the user's alone. A link is not followed.
fn open(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&opened)?;
    if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(opened)
}

fn make(directory: &Path) -> io::Result<OwnedFd> {
    match rustix::fs::mkdir(directory, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => open(directory),
        Err(error) => Err(error.into()),
    }
}

/// What is kept by this name, if it may be trusted.
fn read(at: &OwnedFd, key: &str) -> Option<Program> {
    // Nothing that has to be waited for: a pipe.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(at, key, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let is_ours = stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & 0o022 == 0;
    let length = usize::try_from(stat.st_size).ok()?;
    if !is_file || !is_ours || length > LONGEST {
        return None;
    }
    let mut bytes = Vec::with_capacity(length + 1);
    let mut file = std::fs::File::from(file).take(length as u64 + 1);
    file.read_to_end(&mut bytes).ok()?;
    let (program, found) = bytes.split_last_chunk::<DIGEST>()?;
    (*found == digest(key, program)).then_some(())?;
    Program::from_bytes(program)
}

fn write(at: &OwnedFd, key: &str, program: &Program) -> io::Result<()> {
    make_room(at)?;
    let mut bytes = program.to_bytes();
    bytes.extend(digest(key, &bytes));
    let mut random = [0; 8];
    getrandom(&mut random, GetRandomFlags::empty())?;
    let temporary = format!(".{:016x}", u64::from_ne_bytes(random));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(at, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
    let written = std::fs::File::from(file)
        .write_all(&bytes)
        .and_then(|()| Ok(rustix::fs::renameat(at, &temporary, at, key)?));
    if written.is_err() {
        let _ = rustix::fs::unlinkat(at, &temporary, AtFlags::empty());
    }
    written
}

/// Removes all that is kept where it has become much, with what killed writers have left.
fn make_room(at: &OwnedFd) -> io::Result<()> {
    let entries: Vec<_> = Dir::read_from(at)?
        .flatten()
        .map(|entry| entry.file_name().to_owned())
        .filter(|name| !matches!(name.to_bytes(), b"." | b".."))
        .collect();
    if entries.len() < MOST {
        return Ok(());
    }
    for name in entries {
        let _ = rustix::fs::unlinkat(at, name, AtFlags::empty());
    }
    Ok(())
}

/// Of the name as well, so that a file under another's name is none.
fn digest(key: &str, program: &[u8]) -> [u8; DIGEST] {
    let mut hash = Sha256::new();
    hash.update(key);
    hash.update(program);
    let digest = hash.finalize();
    std::array::from_fn(|index| digest[index])
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
