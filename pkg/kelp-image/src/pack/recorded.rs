//! What kelp keeps in attributes because the file itself can't have it, told as what it stands for.
//!
//! They are in trees that containers write: a value that is none of kelp's is an error of the tree, and
//! nothing is guessed.

use std::io;

use crate::tar::{Entry, Kind};
use crate::unpack::{CAPABILITY_XATTR, DEVICE_XATTR, MODE_XATTR, OWNER_XATTR, Ownership};

/// The bits that are recorded because the file can't have them.
const SET_ID: u32 = 0o6000;

/// Takes one attribute in; owners and modes are recorded only where the user's id is the only one.
pub(super) fn apply(
    entry: &mut Entry,
    ownership: Ownership,
    name: &[u8],
    value: &[u8],
) -> io::Result<()> {
    let single = ownership == Ownership::Single;
    let bad = || {
        let path = String::from_utf8_lossy(&entry.path);
        let name = String::from_utf8_lossy(name);
        io::Error::other(format!(
            "{path}: the attribute {name} has no value of kelp's"
        ))
    };
    let text = || std::str::from_utf8(value).map_err(|_| bad());
    if name == OWNER_XATTR.as_bytes() && single {
        let (uid, gid) = text()?.split_once(':').ok_or_else(bad)?;
        let id = |text: &str| text.parse::<u32>().map(u64::from).map_err(|_| bad());
        (entry.uid, entry.gid) = (id(uid)?, id(gid)?);
    } else if name == MODE_XATTR.as_bytes() && single {
        let mode = u32::from_str_radix(text()?, 8).map_err(|_| bad())? & 0o7777;
        // Otherwise the file has got another one since.
        if mode & !SET_ID == entry.mode {
            entry.mode = mode;
        }
    } else if name == CAPABILITY_XATTR.as_bytes() && single {
        entry
            .xattrs
            .push((b"security.capability".to_vec(), value.to_vec()));
    } else if name == DEVICE_XATTR.as_bytes() && entry.kind == Kind::File && entry.size == 0 {
        let text = text()?;
        let mut parts = text.split(':');
        let kind = match parts.next() {
            Some("c") => Kind::CharacterDevice,
            Some("b") => Kind::BlockDevice,
            _ => return Err(bad()),
        };
        let mut number = || {
            let part = parts.next().ok_or_else(bad)?;
            part.parse::<u32>().map_err(|_| bad())
        };
        let (major, minor) = (number()?, number()?);
        entry.kind = kind;
        (entry.major, entry.minor) = (major, minor);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_told_as_what_it_stands_for() {
        let mut entry = Entry {
            mode: 0o755,
            ..Entry::default()
        };
        for (name, value) in [(OWNER_XATTR, "5:6"), (MODE_XATTR, "4755")] {
            let before = entry.clone();
            apply(
                &mut entry,
                Ownership::Mapped,
                name.as_bytes(),
                value.as_bytes(),
            )
            .unwrap();
            assert_eq!(entry, before);
            apply(
                &mut entry,
                Ownership::Single,
                name.as_bytes(),
                value.as_bytes(),
            )
            .unwrap();
            assert_ne!(entry, before);
        }
        assert_eq!((entry.uid, entry.gid, entry.mode), (5, 6, 0o4755));
        let name = CAPABILITY_XATTR.as_bytes();
        apply(&mut entry, Ownership::Single, name, b"\x01").unwrap();
        assert_eq!(entry.xattrs, [(b"security.capability".to_vec(), vec![1])]);
        let name = DEVICE_XATTR.as_bytes();
        apply(&mut entry, Ownership::Mapped, name, b"b:8:1").unwrap();
        assert_eq!(entry.kind, Kind::BlockDevice);
        assert_eq!((entry.major, entry.minor), (8, 1));
    }

    #[test]
    fn a_file_that_was_changed_since_is_what_it_is() {
        let mut entry = Entry {
            mode: 0o700,
            size: 1,
            ..Entry::default()
        };
        let before = entry.clone();
        for (name, value) in [(MODE_XATTR, "4755"), (DEVICE_XATTR, "c:1:3")] {
            let name = name.as_bytes();
            apply(&mut entry, Ownership::Single, name, value.as_bytes()).unwrap();
        }
        assert_eq!(entry, before);
    }

    #[test]
    fn what_a_container_has_put_there_is_an_error() {
        for (name, value) in [
            (OWNER_XATTR, "5"),
            (OWNER_XATTR, "4294967296:0"),
            (MODE_XATTR, "9"),
            (DEVICE_XATTR, "x:1:1"),
            (DEVICE_XATTR, "c:1"),
        ] {
            let mut entry = Entry::default();
            let name = name.as_bytes();
            let applied = apply(&mut entry, Ownership::Single, name, value.as_bytes());
            assert!(applied.is_err(), "{value}");
        }
    }
}
