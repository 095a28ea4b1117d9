//! passwd(5) and group(5), a line at a time, without copies.

use super::MAX_ID;

/// A line of passwd.
pub(crate) struct UserEntry<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) comment: &'a [u8],
    pub(crate) home: &'a [u8],
}

/// A line of group.
pub(crate) struct GroupEntry<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) gid: u32,
    members: &'a [u8],
}

impl GroupEntry<'_> {
    pub(crate) fn has_member(&self, name: &[u8]) -> bool {
        self.members
            .split(|&byte| byte == b',')
            .any(|member| member.trim_ascii() == name)
    }
}

/// The users, in the file's order.
pub(crate) fn users(content: &[u8]) -> impl Iterator<Item = UserEntry<'_>> {
    lines(content).filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        let name = fields.next()?;
        let (_password, uid, gid) = (fields.next()?, fields.next()?, fields.next()?);
        Some(UserEntry {
            name,
            uid: id(uid)?,
            gid: id(gid)?,
            // Lines that end before one of these are in use.
            comment: fields.next().unwrap_or_default(),
            home: fields.next().unwrap_or_default(),
        })
    })
}

/// The groups, in the file's order.
pub(crate) fn groups(content: &[u8]) -> impl Iterator<Item = GroupEntry<'_>> {
    lines(content).filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        let name = fields.next()?;
        let (_password, gid) = (fields.next()?, fields.next()?);
        Some(GroupEntry {
            name,
            gid: id(gid)?,
            members: fields.next().unwrap_or_default(),
        })
    })
}

/// Lines with a name; `+` and `-` at the start are directions to a name service (nsswitch.conf(5)).
fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content
        .split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !matches!(line.first(), None | Some(b':' | b'#' | b'+' | b'-')))
}

/// A decimal number in range; anything else is none, and never 0.
fn id(field: &[u8]) -> Option<u32> {
    if field.is_empty() || field.len() > 20 {
        return None;
    }
    let mut value = 0_u64;
    for byte in field {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
    }
    (value <= MAX_ID).then_some(value as u32)
}
