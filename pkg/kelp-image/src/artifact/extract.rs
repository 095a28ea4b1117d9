//! `kelp artifact extract`: an artifact's files as files of the user's.
//!
//! A file is whole when it gets its name, and what had the name before is replaced, be it a link: nothing is
//! written through one that lies in the directory. Each is compared with its digest on the way.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::file::{ArtifactFile, Choice};
use super::missing;
use crate::Error;
use crate::blob::BlobStore;
use crate::descriptor;
use crate::temporary::Output;
use crate::transport::sink::Verified;

/// How much is copied at a time.
const BUFFER: usize = 1 << 20;

/// Writes the files that are meant: into a directory, by their names, or one to a path. A file that is replaced keeps
/// its mode; a new one gets `mode` (permission bits).
pub fn extract(
    blobs: &BlobStore,
    files: &[ArtifactFile],
    choice: Choice<'_>,
    target: &Path,
    mode: u32,
) -> Result<(), Error> {
    if target.is_dir() {
        // All names are looked at before anything is written.
        for (file, name) in files.iter().zip(choice.names(files)?) {
            write(blobs, file, target, &target.join(name), mode)?;
        }
        return Ok(());
    }
    let [file] = files else {
        return Err(Error::Invalid(format!(
            "the artifact has {} blobs, and {} is no directory: make it one, or choose a blob by --title or --digest",
            files.len(),
            target.display()
        )));
    };
    let failed = |error| Error::io(format!("write {}", target.display()))(error);
    if let Some(mut output) = descriptor::open_at(target).map_err(failed)? {
        return copy(blobs, file, &mut output, target);
    }
    match fs::metadata(target) {
        // A pipe or a terminal, or something else that has to stay what it is.
        Ok(found) if !found.is_file() => {
            let mut output = File::options().write(true).open(target).map_err(failed)?;
            copy(blobs, file, &mut output, target)
        }
        // What the user's own link leads to is meant.
        Ok(_) => {
            let failed = |error| Error::io(format!("find {}", target.display()))(error);
            let path = fs::canonicalize(target).map_err(failed)?;
            write(blobs, file, directory_of(&path), &path, mode)
        }
        Err(_) => write(blobs, file, directory_of(target), target, mode),
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    }
}

fn write(
    blobs: &BlobStore,
    file: &ArtifactFile,
    directory: &Path,
    path: &Path,
    mode: u32,
) -> Result<(), Error> {
    let mode = match fs::symlink_metadata(path) {
        Ok(older) if older.is_file() => older.permissions().mode() & 0o777,
        _ => mode,
    };
    let mut output = Output::with_mode(directory, mode)?;
    copy(blobs, file, output.file_mut(), path)?;
    output.persist(path)
}

fn copy(
    blobs: &BlobStore,
    file: &ArtifactFile,
    output: &mut File,
    path: &Path,
) -> Result<(), Error> {
    let digest = &file.digest;
    let mut blob = Verified::new(blobs.reader(digest).map_err(missing)?, digest);
    let mut buffer = vec![0; BUFFER];
    loop {
        match blob.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => output
                .write_all(&buffer[..count])
                .map_err(Error::io(format!("write {}", path.display())))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(match error.downcast::<Error>() {
                    Ok(error) => error,
                    Err(error) => Error::io(format!("read blob {digest}"))(error),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::digest::Digest;

    fn file(blobs: &BlobStore, content: &str, title: &str) -> ArtifactFile {
        ArtifactFile {
            digest: blobs.put(content.as_bytes(), None).unwrap(),
            size: content.len() as u64,
            title: Some(title.to_owned()),
        }
    }

    #[test]
    fn files_get_their_names_in_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(&directory.path().join("data")).unwrap();
        let target = directory.path().join("target");
        fs::create_dir(&target).unwrap();
        let outside = directory.path().join("outside");
        fs::write(&outside, "kept").unwrap();
        symlink(&outside, target.join("b")).unwrap();
        fs::write(target.join("a"), "older").unwrap();
        let files = [file(&blobs, "one", "a"), file(&blobs, "two", "b")];
        extract(&blobs, &files, Choice::default(), &target, 0o644).unwrap();
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "one");
        assert_eq!(fs::read_to_string(target.join("b")).unwrap(), "two");
        assert_eq!(fs::read_to_string(&outside).unwrap(), "kept");
        assert_eq!(fs::read_dir(&target).unwrap().count(), 2);
    }

    #[test]
    fn a_new_file_has_the_mode_that_is_asked_for_and_a_replaced_one_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(&directory.path().join("data")).unwrap();
        let files = [file(&blobs, "one", "a")];
        let path = directory.path().join("a");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        for target in [path.as_path(), directory.path()] {
            for asked in [0o600, 0o664] {
                extract(&blobs, &files, Choice::default(), target, asked).unwrap();
                assert_eq!(mode(), asked);
                for own in [0o600, 0o4755] {
                    fs::set_permissions(&path, fs::Permissions::from_mode(own)).unwrap();
                    extract(&blobs, &files, Choice::default(), target, asked).unwrap();
                    assert_eq!(mode(), own & 0o777);
                }
                fs::remove_file(&path).unwrap();
            }
        }
    }

    #[test]
    fn nothing_is_written_where_a_name_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(&directory.path().join("data")).unwrap();
        let target = directory.path().join("target");
        fs::create_dir(&target).unwrap();
        for title in ["../x", "/x", "a"] {
            let files = [file(&blobs, "one", "a"), file(&blobs, "two", title)];
            extract(&blobs, &files, Choice::default(), &target, 0o644).unwrap_err();
        }
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    }

    #[test]
    fn one_file_goes_to_a_path_and_a_link_of_the_users_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(&directory.path().join("data")).unwrap();
        let (path, link) = (directory.path().join("file"), directory.path().join("link"));
        let odd = [file(&blobs, "one", "../x")];
        extract(&blobs, &odd, Choice::default(), &path, 0o644).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        symlink(&path, &link).unwrap();
        let other = [file(&blobs, "two", "a")];
        extract(&blobs, &other, Choice::default(), &link, 0o644).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let two = [file(&blobs, "one", "a"), file(&blobs, "two", "b")];
        let error = extract(&blobs, &two, Choice::default(), &path, 0o644).unwrap_err();
        assert!(
            error.to_string().starts_with("the artifact has 2 blobs"),
            "{error}"
        );
    }

    #[test]
    fn a_blob_that_is_missing_is_said_to_be_one() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(&directory.path().join("data")).unwrap();
        let files = [file(&blobs, "one", "a")];
        fs::remove_file(blobs.path(&Digest::of(b"one"))).unwrap();
        let path = directory.path().join("file");
        let error = extract(&blobs, &files, Choice::default(), &path, 0o644).unwrap_err();
        let told = "of the artifact is missing on this machine: kelp system check says";
        assert!(error.to_string().contains(told), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn a_blob_that_is_damaged_becomes_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(&directory.path().join("data")).unwrap();
        let files = [file(&blobs, "one", "a")];
        fs::write(blobs.path(&Digest::of(b"one")), "two").unwrap();
        let path = directory.path().join("file");
        let error = extract(&blobs, &files, Choice::default(), &path, 0o644).unwrap_err();
        assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
        assert!(!path.exists());
    }
}
