//! The hidden role `kelp internal podman-layer`: a layer's archive, made anew of what podman keeps of it.
//!
//! podman keeps tar-split's record of an archive: lines of JSON, each a run of raw bytes (headers and
//! padding) or the name of a file whose content follows. The files have the owners that they have in
//! containers, so this runs in the user namespace. What comes out is the archive to the byte, or another
//! archive: its reader compares the digest, and the checksums of single files are not looked at.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde::Deserialize;

use super::store::{Driver, check_id, open_beneath};
use crate::Error;
use crate::role::one_line;

/// The most bytes of one line: a run of headers, in base64.
const LINE_LIMIT: u64 = 64 << 20;

/// A line of the record.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(default)]
    name: Option<String>,
    /// A name that is no text.
    #[serde(default)]
    name_raw: Option<String>,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    payload: Option<String>,
}

/// Runs `kelp internal podman-layer ROOT overlay|vfs LAYER`; returns the exit code.
pub fn main(arguments: &[String]) -> i32 {
    let error = match arguments {
        [root, driver, layer] => match run(Path::new(root), driver, layer) {
            Ok(()) => return 0,
            Err(error) => error,
        },
        _ => Error::Invalid("podman-layer: arguments are missing".to_owned()),
    };
    let _ = writeln!(io::stderr(), "{}", one_line(&error));
    1
}

fn run(root: &Path, driver: &str, layer: &str) -> Result<(), Error> {
    let driver = Driver::of_name(driver)
        .ok_or_else(|| Error::Invalid(format!("podman-layer: {driver:?} is no driver")))?;
    check_id(layer)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let store = rustix::fs::open(root, flags, Mode::empty())
        .map_err(Error::io(format!("open {}", root.display())))?;
    let path = format!("{}-layers/{layer}.tar-split.gz", driver.name());
    let record = open_beneath(&store, &path)?.ok_or_else(|| {
        Error::Archive("podman has not noted how its layer was packed".to_owned())
    })?;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let files = rustix::fs::openat2(
        &store,
        driver.files(layer),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        within,
    )
    .map_err(Error::io("open the files of a layer of podman's"))?;
    let output = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 0)
        .map_err(Error::io("take standard output"))?;
    let mut output = BufWriter::with_capacity(1 << 20, File::from(output));
    assemble(record, &files, &mut output)?;
    output.flush().map_err(Error::io("write a layer's archive"))
}

/// Writes the archive that a record and the files beneath a directory make.
fn assemble(record: File, files: &OwnedFd, output: &mut impl Write) -> Result<(), Error> {
    let damaged =
        || Error::Archive("podman's note of how a layer was packed is damaged".to_owned());
    let mut lines = BufReader::new(MultiGzDecoder::new(BufReader::new(record)));
    let mut text = Vec::new();
    loop {
        text.clear();
        let count = (&mut lines)
            .take(LINE_LIMIT)
            .read_until(b'\n', &mut text)
            .map_err(|_| damaged())?;
        if count == 0 {
            return Ok(());
        }
        let line: Line = serde_json::from_slice(&text).map_err(|_| damaged())?;
        let payload = line.payload.as_deref().unwrap_or_default();
        match line.kind {
            1 if line.size > 0 => {
                let name = match (&line.name_raw, line.name) {
                    (Some(raw), _) => STANDARD.decode(raw).map_err(|_| damaged())?,
                    (None, Some(name)) => name.into_bytes(),
                    (None, None) => return Err(damaged()),
                };
                copy(files, &name, line.size, output)?;
            }
            // What has no content is in the headers alone.
            1 => {}
            2 => {
                let bytes = STANDARD.decode(payload).map_err(|_| damaged())?;
                output
                    .write_all(&bytes)
                    .map_err(Error::io("write a layer's archive"))?;
            }
            _ => return Err(damaged()),
        }
    }
}

/// Writes a file's content: whatever its name leads to, it is beneath the layer.
fn copy(files: &OwnedFd, name: &[u8], size: u64, output: &mut impl Write) -> Result<(), Error> {
    let shown = String::from_utf8_lossy(name).into_owned();
    let changed = || Error::Archive(format!("{shown:?} is not what was unpacked"));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    // A directory of a lower layer may be a link, and with vfs that is here too.
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(files, name, flags, Mode::empty(), within)
        .map(File::from)
        .map_err(|_| changed())?;
    let metadata = file.metadata().map_err(|_| changed())?;
    if !metadata.is_file() || metadata.len() != size {
        return Err(changed());
    }
    let mut content = file.take(size);
    let copied = io::copy(&mut content, output).map_err(Error::io(format!("read {shown:?}")))?;
    if copied != size {
        return Err(changed());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use serde_json::json;

    use super::*;
    use crate::tar::build::Archive;

    fn made(lines: &[serde_json::Value], root: &Path) -> Result<Vec<u8>, Error> {
        let path = root.join("record");
        let mut record = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
        for line in lines {
            writeln!(record, "{line}").unwrap();
        }
        record.finish().unwrap();
        let files = File::open(root.join("files")).unwrap().into();
        let mut archive = Vec::new();
        assemble(File::open(&path).unwrap(), &files, &mut archive)?;
        Ok(archive)
    }

    fn raw(bytes: &[u8]) -> serde_json::Value {
        json!({"type": 2, "payload": STANDARD.encode(bytes), "position": 0})
    }

    #[test]
    fn an_archive_is_made_of_its_record_and_the_files() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("files/usr/lib")).unwrap();
        symlink("/usr/lib", root.path().join("files/lib")).unwrap();
        std::fs::write(root.path().join("files/usr/lib/a"), "hello").unwrap();
        let archive = Archive::new().file("lib/a", b"hello").file("b", b"").end();
        let lines = [
            raw(&archive[..512]),
            json!({"type": 1, "name": "lib/a", "size": 5, "payload": "AA==", "position": 1}),
            raw(&archive[517..]),
            json!({"type": 1, "name": "b", "payload": null, "position": 3}),
        ];
        assert_eq!(made(&lines, root.path()).unwrap(), archive);
    }

    #[test]
    fn nothing_outside_of_the_layer_is_read() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("files")).unwrap();
        std::fs::write(root.path().join("secret"), "secret").unwrap();
        symlink("../secret", root.path().join("files/link")).unwrap();
        symlink("..", root.path().join("files/up")).unwrap();
        for name in [
            "../secret",
            "/../secret",
            "link",
            "up/secret",
            "up",
            "missing",
        ] {
            let line = json!({"type": 1, "name": name, "size": 6, "payload": "AA=="});
            assert!(made(&[line], root.path()).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_damaged_or_has_changed_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("files")).unwrap();
        std::fs::write(root.path().join("files/a"), "four").unwrap();
        for line in [
            json!({"type": 1, "name": "a", "size": 5}),
            json!({"type": 1, "size": 4}),
            json!({"type": 2, "payload": "?"}),
            json!({"type": 3}),
            json!([]),
        ] {
            assert!(
                made(std::slice::from_ref(&line), root.path()).is_err(),
                "{line}"
            );
        }
    }
}
