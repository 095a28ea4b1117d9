//! Who a container's process runs as: a user and groups, looked up in the container's own files.
//!
//! `/etc/passwd` and `/etc/group` of an image are hostile input. They are read by descriptor beneath
//! the root, only if regular and of bounded size, and parsed here as bytes: name services would
//! load libraries (CVE-2019-14271). A line that is not of passwd(5)'s or group(5)'s form is passed
//! over; an id that is not a number never becomes 0.
//!
//! What is asked for is `user[:group]`, each a name or a number. Text of digits only is always the
//! number, also if a user is named so: an image could otherwise call its user 0 "1000", and a check
//! that the image's user is not root, made on the number, would be worth nothing. A number need not
//! be in the files. Numbers above 2147483647 are errors (CVE-2024-40635).
//!
//! Groups are exact (CVE-2022-2989): the primary group, those that list the user as a member unless
//! a group was given, and those added by name; none of the caller's.

pub(crate) mod file;

use std::ffi::CString;
use std::io;
use std::path::Path;

use crate::error::Error;
use crate::rootfd::Root;

/// The most that is read of passwd and of group, in bytes.
const MAX_FILE: usize = 1 << 20;
/// The largest id that is taken; beyond it are -1 and what some file systems can't store.
const MAX_ID: u64 = i32::MAX as u64;
/// As the kernel's `NGROUPS_MAX` (getgroups(2)).
const MAX_GROUPS: usize = 65_536;

/// A resolved user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user id.
    pub uid: u32,
    /// The primary group id.
    pub gid: u32,
    /// The supplementary groups, the primary one first, none twice.
    pub groups: Vec<u32>,
    /// The home directory; `/` for a user that passwd does not have.
    pub home: CString,
    /// The user's name, if passwd has one.
    pub name: Option<Vec<u8>>,
}

/// Looks up `user` (`user[:group]`; empty means user 0) and `more` groups in the container.
///
/// A file that is missing counts as empty, and so does one that can't be read where no name of it is
/// needed: for root, and for numbers.
///
/// # Errors
/// [`Error::Spec`] for a name that is not there, a number out of range, and a passwd or group that a
/// name is needed of and that is not a regular file of at most 1 MiB.
pub fn resolve(root: &Root, user: &str, more: &[impl AsRef<str>]) -> Result<User, Error> {
    let passwd = read(root, "etc/passwd");
    let group = read(root, "etc/group");
    look_up(passwd, group, user, more)
}

/// The home directory of a number, if the container's passwd can be read and has one.
pub(crate) fn home(root: &Root, uid: u32) -> Option<Vec<u8>> {
    let passwd = read(root, "etc/passwd").ok()?;
    let entry = file::users(&passwd).find(|entry| entry.uid == uid)?;
    Some(User::from(entry).home.into_bytes())
}

/// Checks the numbers of a specification's user: -1 is no id, but what leaves the caller's in place
/// (setresuid(2)), which is root's (CVE-2024-40635).
pub(crate) fn check_numbers(user: &oci_spec::runtime::User) -> Result<(), Error> {
    let more = user.additional_gids().iter().flatten().copied();
    if [user.uid(), user.gid()]
        .into_iter()
        .chain(more)
        .any(|id| id == u32::MAX)
    {
        return Err(Error::Spec(format!(
            "process.user: {} is no id: ids end before it",
            u32::MAX
        )));
    }
    Ok(())
}

pub(crate) fn read(root: &Root, path: &str) -> Result<Vec<u8>, Error> {
    match root.read_file(Path::new(path), MAX_FILE) {
        Ok(content) => Ok(content),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(Vec::new()),
            _ => Err(Error::Spec(format!(
                "read the container's /{path}: {}",
                crate::error::plain(&error)
            ))),
        },
    }
}

/// [`resolve`] on the content of passwd and group.
pub fn resolve_in(
    passwd: &[u8],
    group: &[u8],
    user: &str,
    more: &[impl AsRef<str>],
) -> Result<User, Error> {
    look_up(Ok(passwd.to_vec()), Ok(group.to_vec()), user, more)
}

/// The same where one of them may not be readable.
fn look_up(
    passwd: Result<Vec<u8>, Error>,
    group: Result<Vec<u8>, Error>,
    user: &str,
    more: &[impl AsRef<str>],
) -> Result<User, Error> {
    let (user, explicit_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let wanted = Wanted::parse(if user.is_empty() { "0" } else { user })?;
    let is_name = |text: &str| matches!(Wanted::parse(text), Ok(Wanted::Name(_)));
    let needs_group = match explicit_group {
        Some(name) => is_name(name),
        None => matches!(wanted, Wanted::Name(name) if name != "root"),
    };
    let group = if needs_group || more.iter().any(|name| is_name(name.as_ref())) {
        group?
    } else {
        group.unwrap_or_default()
    };
    let mut found = match wanted {
        Wanted::Name("root") if passwd.is_err() => User::without_name(0),
        Wanted::Name(name) => {
            let passwd = passwd?;
            let entry = file::users(&passwd).find(|entry| entry.name == name.as_bytes());
            let entry = entry.ok_or_else(|| {
                Error::Spec(format!(
                    "unable to find user {name}: no matching entries in passwd file"
                ))
            })?;
            entry.into()
        }
        Wanted::Id(uid) => {
            let passwd = passwd.unwrap_or_default();
            let entry = file::users(&passwd).find(|entry| entry.uid == uid);
            entry.map_or_else(|| User::without_name(uid), Into::into)
        }
    };
    let mut groups = Vec::new();
    if let Some(name) = explicit_group {
        found.gid = find_group(&group, name)?;
        groups.push(found.gid);
    } else {
        groups.push(found.gid);
        if let Some(name) = &found.name {
            groups.extend(
                file::groups(&group)
                    .filter(|entry| entry.has_member(name))
                    .map(|entry| entry.gid),
            );
        }
    }
    for name in more {
        groups.push(find_group(&group, name.as_ref())?);
    }
    // Keeps the order and the first of each.
    let mut seen = std::collections::HashSet::new();
    groups.retain(|gid| seen.insert(*gid));
    if groups.len() > MAX_GROUPS {
        return Err(Error::Spec(format!(
            "the user is in more than {MAX_GROUPS} groups"
        )));
    }
    found.groups = groups;
    Ok(found)
}

fn find_group(group: &[u8], name: &str) -> Result<u32, Error> {
    match Wanted::parse(name)? {
        Wanted::Id(gid) => Ok(gid),
        Wanted::Name(name) => file::groups(group)
            .find(|entry| entry.name == name.as_bytes())
            .map(|entry| entry.gid)
            .ok_or_else(|| {
                Error::Spec(format!(
                    "unable to find group {name}: no matching entries in group file"
                ))
            }),
    }
}

/// What an argument names.
enum Wanted<'a> {
    Id(u32),
    Name(&'a str),
}

impl<'a> Wanted<'a> {
    fn parse(text: &'a str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::Spec("a user or group name is empty".to_owned()));
        }
        // A sign makes it no name either: useradd(8) refuses such names, and "-1" is an id that
        // setresuid(2) would take as "leave it".
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::Name(text));
        }
        match text.parse::<u64>() {
            Ok(id) if id <= MAX_ID && digits.len() == text.len() => Ok(Self::Id(id as u32)),
            _ => Err(Error::Spec(format!(
                "user or group id {text} is out of range: it must be between 0 and {MAX_ID}"
            ))),
        }
    }
}

impl User {
    /// One that passwd does not have.
    fn without_name(uid: u32) -> Self {
        Self {
            uid,
            gid: 0,
            groups: Vec::new(),
            home: c"/".to_owned(),
            name: None,
        }
    }
}

impl From<file::UserEntry<'_>> for User {
    fn from(entry: file::UserEntry<'_>) -> Self {
        Self {
            uid: entry.uid,
            gid: entry.gid,
            groups: Vec::new(),
            // A null byte in the file ends the text, as it would for a C library.
            home: match entry.home.split(|&byte| byte == 0).next() {
                Some(home) if !home.is_empty() => CString::new(home).unwrap_or(c"/".to_owned()),
                _ => c"/".to_owned(),
            },
            name: Some(entry.name.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests;
