//! What to say where a file system is full: which one, what is left on it, and what it takes.

use std::error::Error as Cause;
use std::io;
use std::path::Path;

use crate::Error;

/// What is said of a full file system begins so, behind where it is mounted.
const FULL: &str = "is full: ";

/// Whether an error's cause is that a file system, or the user's quota of it, is full.
pub fn is_full(error: &(dyn Cause + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let found = error.downcast_ref::<io::Error>().is_some_and(|error| {
            let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
            // One that was made of another crate's error has that for its content, not for its source.
            let inner = error.get_ref().is_some_and(|inner| is_full(inner));
            full.contains(&error.kind()) || inner
        });
        if found {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The file system of a path, that it is full, what is left, and what is needed; nothing if `told` says so
/// already.
pub fn explanation(told: &str, place: &Path, need: &str) -> Option<String> {
    if told.contains(FULL) {
        return None;
    }
    let mount = mount_point(place);
    let left = left(mount).unwrap_or_default();
    Some(format!(
        "the file system at {} {FULL}{left}{need}; free some space (kelp system prune removes what nothing \
         needs), or use another file system",
        mount.display()
    ))
}

/// Explains an error of this crate, if a full file system is its cause.
pub fn explain(error: Error, place: &Path, need: &str) -> Error {
    match error {
        Error::Io { what, source } if is_full(&source) => {
            let more = explanation(&what, place, need);
            let what = more.map_or(what.clone(), |more| format!("{what}: {more}"));
            Error::Io { what, source }
        }
        other => other,
    }
}

/// An amount of bytes as it is told: whole kilobytes, or megabytes with one digit.
pub fn amount(bytes: u64) -> String {
    if bytes < 1_000_000 {
        return format!("{} kB", bytes.div_ceil(1000));
    }
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn left(mount: &Path) -> Option<String> {
    let found = rustix::fs::statvfs(mount).ok()?;
    if found.f_files > 0 && found.f_favail == 0 {
        return Some("it has room for no more files; ".to_owned());
    }
    let free = amount(found.f_bavail.saturating_mul(found.f_frsize));
    Some(format!("{free} are left (the user's quota aside); "))
}

/// The directory that the file system of a path is mounted at.
fn mount_point(path: &Path) -> &Path {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).ok().map(|found| found.dev());
    let mut point = path;
    while device(point).is_none()
        || point
            .parent()
            .is_some_and(|parent| device(parent) == device(point))
    {
        match point.parent() {
            Some(parent) => point = parent,
            None => break,
        }
    }
    point
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_system_is_named_once() {
        let directory = tempfile::tempdir().unwrap();
        let full = Error::Io {
            what: "write a blob".to_owned(),
            source: io::Error::from(io::ErrorKind::StorageFull),
        };
        let need = "the image takes 2.5 MB more";
        let told = explain(full, directory.path(), need);
        let text = told.to_string();
        let mount = mount_point(directory.path()).display().to_string();
        assert!(text.contains(&format!("at {mount} is full")), "{text}");
        assert!(text.contains(need), "{text}");
        assert_eq!(explain(told, directory.path(), "more").to_string(), text);
        assert_eq!(mount_point(Path::new("/")), Path::new("/"));
        let proc = mount_point(Path::new("/proc/self"));
        assert_eq!(proc, Path::new("/proc"), "procfs is mounted there");
    }

    #[test]
    fn a_cause_is_found_at_any_depth() {
        let full = Error::io("inner")(io::Error::from_raw_os_error(122));
        let wrapped = Error::io("outer")(io::Error::other(full));
        assert!(is_full(&wrapped));
        assert!(!is_full(&Error::io("x")(io::Error::from_raw_os_error(5))));
    }

    #[test]
    fn amounts_are_rounded_up_where_they_are_small() {
        for (bytes, text) in [
            (0, "0 kB"),
            (1, "1 kB"),
            (1001, "2 kB"),
            (2_500_000, "2.5 MB"),
        ] {
            assert_eq!(amount(bytes), text);
        }
    }
}
