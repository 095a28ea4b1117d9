//! Container names: one symbolic link each, whose creation is the reservation.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;

use crate::error::Error;
use crate::id::ContainerId;
use crate::paths::Paths;
use crate::record::Record;

/// Checks `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
pub fn validate(name: &str) -> Result<(), Error> {
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if first && rest && name.len() <= 255 {
        return Ok(());
    }
    Err(Error::InvalidName(name.to_owned()))
}

/// Reserves `name` for `id`. A link whose container is gone is taken over.
pub fn reserve(paths: &Paths, name: &str, id: &ContainerId) -> Result<(), Error> {
    validate(name)?;
    let link = paths.names().join(name);
    let what = || format!("create {}", link.display());
    for _ in 0..16 {
        match symlink(id.as_str(), &link) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(paths.names()).map_err(Error::io(what()))?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                match owner(paths, name) {
                    Some(owner) if !Record::new(paths, owner.clone()).is_abandoned() => {
                        return Err(Error::NameInUse {
                            name: name.to_owned(),
                            id: owner.to_string(),
                        });
                    }
                    // Left by a kill: while the record was made, or between its removal and the
                    // name's.
                    _ => drop(fs::remove_file(&link)),
                }
            }
            Err(error) => return Err(Error::io(what())(error)),
        }
    }
    Err(Error::NameInUse {
        name: name.to_owned(),
        id: "a container that is being removed".to_owned(),
    })
}

/// Gives `name` up, if it is `id`'s.
pub fn release(paths: &Paths, name: &str, id: &ContainerId) {
    if owner(paths, name).as_ref() == Some(id) {
        let _ = fs::remove_file(paths.names().join(name));
    }
}

/// Whose `name` is.
pub fn owner(paths: &Paths, name: &str) -> Option<ContainerId> {
    validate(name).ok()?;
    let target = fs::read_link(paths.names().join(name)).ok()?;
    target.to_str()?.parse().ok()
}

/// The container that a user means by a name, an id, or the beginning of one.
pub fn find(paths: &Paths, text: &str) -> Result<ContainerId, Error> {
    if let Some(id) = owner(paths, text)
        && paths.container(&id).is_dir()
    {
        return Ok(id);
    }
    if let Ok(id) = text.parse::<ContainerId>()
        && paths.container(&id).is_dir()
    {
        return Ok(id);
    }
    let mut found = None;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits && text.len() < 64 {
        for entry in fs::read_dir(paths.containers())
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.starts_with(text)) else {
                continue;
            };
            let Ok(id) = name.parse::<ContainerId>() else {
                continue;
            };
            if found.replace(id).is_some() {
                return Err(Error::Ambiguous(text.to_owned()));
            }
        }
    }
    found.ok_or_else(|| Error::NotFound(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(root: &std::path::Path) -> Paths {
        Paths {
            data: root.join("data"),
            runtime: root.join("run"),
            config: root.join("config"),
        }
    }

    #[test]
    fn names_have_a_grammar() {
        for good in ["a", "0", "web_1.x-y"] {
            validate(good).unwrap();
        }
        for bad in ["", "-a", ".a", "a/b", "ä", "a b", "../x"] {
            assert!(validate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_has_one_owner_and_dead_owners_lose_it() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        let (first, second) = (ContainerId::random(), ContainerId::random());
        fs::create_dir_all(paths.container(&first)).unwrap();
        let making = crate::record::making(&paths.container(&first)).unwrap();
        assert!(making.is_some());
        reserve(&paths, "web", &first).unwrap();
        let error = reserve(&paths, "web", &second).unwrap_err();
        assert!(matches!(error, Error::NameInUse { .. }));
        assert_eq!(find(&paths, "web").unwrap(), first);
        assert_eq!(find(&paths, first.short()).unwrap(), first);
        // The maker is killed before the record is whole.
        drop(making);
        reserve(&paths, "web", &second).unwrap();
        release(&paths, "web", &first);
        assert_eq!(owner(&paths, "web"), Some(second));
    }
}
