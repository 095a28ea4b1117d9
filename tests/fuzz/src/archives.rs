//! The targets that read and extract archives.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Cursor};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use kelp_image::Error;
use kelp_image::decompress::Decompressor;
use kelp_image::tar::write::TarWriter;
use kelp_image::tar::{BLOCK, Entry, Kind, TarError, TarReader};
use kelp_image::unpack::{Options, Ownership, unpack};
use kelp_image::verify::{Extracted, verify};
use rustix::fs::{Mode, OFlags};

use crate::archive::{Choice, encode, hostile, with_checksums};
use crate::tree;

/// Whatever is compressed in some way, and read as far as 8 MB.
pub fn decompress(input: &[u8]) {
    let Ok(mut source) = Decompressor::new(input) else {
        return;
    };
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    while total < 8 << 20 {
        match source.fill(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => total += count,
        }
    }
}

/// An archive: read in small and in large pieces, as it is and with checksums that are right.
pub fn tar(input: &[u8]) {
    for bytes in [input.to_vec(), with_checksums(input)] {
        let small = read(&bytes, 61);
        let large = read(&bytes, 1 << 16);
        assert_eq!(small.entries, large.entries, "pieces make a difference");
        assert_eq!(small.error, large.error, "pieces make a difference");
        check(&large, bytes.len());
        write_again(&large.entries);
    }
}

#[derive(Debug, Default)]
struct Archive {
    entries: Vec<(Entry, Vec<u8>)>,
    error: Option<String>,
}

fn read(bytes: &[u8], piece: usize) -> Archive {
    let mut reader = TarReader::new(BufReader::with_capacity(piece, bytes));
    let mut archive = Archive::default();
    let result = read_into(&mut reader, &mut archive.entries);
    archive.error = result.err().map(|error| error.to_string());
    archive
}

fn read_into(
    reader: &mut TarReader<BufReader<&[u8]>>,
    entries: &mut Vec<(Entry, Vec<u8>)>,
) -> Result<(), TarError> {
    let mut entry = Entry::default();
    while reader.next(&mut entry)? {
        entries.push((entry.clone(), Vec::new()));
        while reader.remaining() > 0 {
            let part = reader.content()?;
            let count = part.len();
            assert!(count > 0, "content without an end");
            if let Some((_, content)) = entries.last_mut() {
                content.extend_from_slice(part);
            }
            reader.consume(count);
        }
    }
    Ok(())
}

fn check(archive: &Archive, length: usize) {
    assert!(
        archive.entries.len() <= length / BLOCK,
        "entries from nowhere"
    );
    let mut stored = 0;
    for (index, (entry, content)) in archive.entries.iter().enumerate() {
        stored += content.len();
        // Nothing is remembered that was not there.
        let xattrs = entry
            .xattrs
            .iter()
            .map(|(name, value)| name.len() + value.len());
        let told = entry.path.len() + entry.link.len() + xattrs.sum::<usize>();
        assert!(told <= length, "metadata from nowhere");
        assert!(
            !entry.path.contains(&0) && !entry.link.contains(&0),
            "a name with a NUL"
        );
        assert!(entry.mode <= 0o7777, "a mode out of range");
        assert!(
            entry.mtime_nanoseconds < 1_000_000_000,
            "a time out of range"
        );
        assert!(i64::try_from(entry.size).is_ok(), "a size out of range");
        let whole = archive.error.is_none() || index + 1 < archive.entries.len();
        if let Some(segments) = &entry.sparse {
            let (mut end, mut total) = (0, 0);
            for segment in segments {
                assert!(segment.offset >= end, "segments overlap");
                end = segment.offset + segment.length;
                total += segment.length;
            }
            assert!(end <= entry.size, "a segment beyond the end");
            assert!(
                !whole || total == content.len() as u64,
                "a sparse file is cut"
            );
            // Two digits and two separators are the least that a segment takes.
            assert!(segments.len() <= length / 2, "segments from nowhere");
        } else if entry.kind == Kind::File && whole {
            assert_eq!(entry.size, content.len() as u64, "a size that lies");
        }
    }
    assert!(stored <= length, "content from nowhere");
}

/// What was read, written and read again is the same, so far as a file system can have it.
fn write_again(entries: &[(Entry, Vec<u8>)]) {
    let representable = |(entry, content): &&(Entry, Vec<u8>)| {
        let directory = entry.kind == Kind::Directory;
        entry.sparse.is_none()
            && !entry.path.is_empty()
            && entry.path.ends_with(b"/") == directory
            && entry.major.max(entry.minor) < 1 << 21
            && (entry.kind != Kind::File || entry.size == content.len() as u64)
    };
    let entries: Vec<_> = entries.iter().filter(representable).collect();
    let mut writer = TarWriter::new(Vec::new());
    for (entry, content) in &entries {
        writer.entry(entry).expect("memory takes everything");
        writer.content(content).expect("memory takes everything");
    }
    let bytes = writer.finish().expect("memory takes everything");
    let again = read(&bytes, 1 << 16);
    assert_eq!(again.error, None, "what was written can't be read");
    assert_eq!(again.entries.len(), entries.len(), "an entry was lost");
    for ((again, bytes), (entry, content)) in again.entries.iter().zip(entries) {
        let mut entry = entry.clone();
        let mut content = content.as_slice();
        if entry.kind != Kind::File {
            // That of a dump's directory is a list of names.
            (entry.size, content) = (0, &[]);
        }
        assert_eq!(
            (again, bytes.as_slice()),
            (&entry, content),
            "an entry was changed"
        );
    }
}

/// One archive or several layers, extracted beside a canary: nothing outside of the root changes,
/// whatever comes of it comes of it again, and a layer is what the check of layers takes it for.
///
/// The first byte says which: an even one that the rest is an archive as it is, an odd one that the
/// rest chooses entries.
pub fn layer(input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else {
        return;
    };
    let mut ownerships = vec![Ownership::Single];
    if rustix::process::geteuid().is_root() {
        ownerships.push(Ownership::Mapped);
    }
    let ownership = ownerships[usize::from(first >> 2) % ownerships.len()];
    let options = if first & 2 == 0 {
        Options::layer(ownership)
    } else {
        Options::copy(ownership)
    };
    let layers = |canary: &Path| {
        if first & 1 == 0 {
            return vec![with_checksums(rest)];
        }
        let mut choice = Choice::new(rest);
        let canary = canary.as_os_str().as_encoded_bytes();
        (0..3)
            .map(|_| encode(&hostile(&mut choice, canary)))
            .collect()
    };
    let (one, other) = (Site::new(), Site::new());
    // Names that are told in a message are the canary's here and there.
    assert_eq!(one.apply(&layers, options), other.apply(&layers, options));
    let differences = tree::differences(&one.tree(), &other.tree());
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    if options.whiteouts {
        for archive in layers(Path::new("/canary")) {
            verified(&archive, options);
        }
    }
}

/// Extracts a layer by itself, and holds against it what the archive says by the other reading of it.
fn verified(archive: &[u8], options: Options) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let [root, tmp] = ["root", "tmp"].map(|name| directory.path().join(name));
    for directory in [&root, &tmp] {
        fs::create_dir(directory).expect("a directory");
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&root, flags, Mode::empty()).expect("the root");
    rustix::fs::fchmod(&opened, Mode::from_raw_mode(0o755)).expect("the root's mode");
    let unpacked = unpack(Cursor::new(archive.to_vec()), opened, options, None);
    if let Ok(summary) = unpacked {
        let layer = Extracted {
            directory: &root,
            tmp: &tmp,
            ownership: options.ownership,
            ids: None,
        };
        match verify(&layer, Cursor::new(archive.to_vec())) {
            Ok(verdict) => {
                assert!(verdict.differences.is_empty(), "{:?}", verdict.differences);
                assert_eq!(verdict.diff_id, summary.diff_id, "another digest");
                let read = (verdict.info.size, verdict.info.files);
                assert_eq!(read, (summary.size, summary.files), "another count");
            }
            // Whoever is not root in any namespace can't read files without the right to.
            Err(Error::Io { source, .. })
                if source.kind() == std::io::ErrorKind::PermissionDenied => {}
            Err(error) => panic!("it was extracted, and is not read: {error}"),
        }
    }
    let _ = kelp_image::remove::remove_trees(&[root]);
}

/// A root with links that lead out of it to a canary.
struct Site {
    directory: tempfile::TempDir,
    begin: i64,
}

impl Site {
    fn new() -> Self {
        let begin = SystemTime::now().duration_since(UNIX_EPOCH);
        let site = Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
            begin: begin.map_or(0, |time| time.as_secs() as i64 - 1),
        };
        let make = || -> std::io::Result<()> {
            fs::create_dir_all(site.canary().join("sub"))?;
            fs::write(site.canary().join("file"), "canary")?;
            symlink("file", site.canary().join("link"))?;
            fs::create_dir(site.root())?;
            symlink(site.canary(), site.root().join("escape"))?;
            symlink("../canary", site.root().join("up"))?;
            symlink("loop", site.root().join("loop"))
        };
        make().expect("a root");
        site
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn canary(&self) -> PathBuf {
        self.directory.path().join("canary")
    }

    /// Extracts layers one after another; how each of them ended.
    fn apply(
        &self,
        layers: &dyn Fn(&Path) -> Vec<Vec<u8>>,
        options: Options,
    ) -> Vec<Result<(u64, u64), Vec<u8>>> {
        let before = tree::read(&self.canary());
        let parent = fs::metadata(self.directory.path())
            .expect("the parent")
            .ctime_nsec();
        let extract = |archive: Vec<u8>| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            // An archive may have taken the rights to the root away.
            let _ = rustix::fs::chmod(self.root(), Mode::RWXU);
            let root = rustix::fs::open(self.root(), flags, Mode::empty()).expect("the root");
            let length = archive.len() as u64;
            match unpack(Cursor::new(archive), root, options, None) {
                Ok(summary) => {
                    assert!(summary.size <= summary.archive_size, "content from nowhere");
                    let raw = summary.archive_size == length;
                    let files = summary.files;
                    assert!(!raw || files <= length / 512, "entries from nowhere");
                    Ok((summary.size, files))
                }
                Err(error) => {
                    let text = self.placeless(error.to_string().into_bytes());
                    // A long one is cut, within the place where it is perhaps.
                    Err(text[..text.len().min(100)].to_vec())
                }
            }
        };
        let results = layers(&self.canary()).into_iter().map(extract).collect();
        let differences = tree::differences(&before, &tree::read(&self.canary()));
        assert!(
            differences.is_empty(),
            "outside: {}",
            differences.join("\n")
        );
        let names = fs::read_dir(self.directory.path())
            .expect("the parent")
            .count();
        let after = fs::metadata(self.directory.path())
            .expect("the parent")
            .ctime_nsec();
        assert_eq!((names, after), (2, parent), "something was made outside");
        results
    }

    /// What is there now, without the times at which it was made and the place where it is.
    fn tree(&self) -> BTreeMap<Vec<u8>, tree::Node> {
        let tree = tree::read(&self.root()).into_iter();
        tree.map(|(path, mut node)| {
            if node.mtime.0 >= self.begin {
                node.mtime = (0, 0);
            }
            node.link = self.placeless(node.link);
            node.first_name = self.placeless(node.first_name);
            (self.placeless(path), node)
        })
        .collect()
    }

    /// A text that may name the place where the root is, with the same name for all places.
    fn placeless(&self, mut text: Vec<u8>) -> Vec<u8> {
        let name = self.directory.path().file_name();
        let own = name.map_or(&b""[..], |name| name.as_encoded_bytes());
        for at in 0..=text.len().saturating_sub(own.len()) {
            if text[at..].starts_with(own) {
                text[at..at + own.len()].fill(b'_');
            }
        }
        text
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Also what nobody may write to.
        let _ = kelp_image::remove::remove_trees(&[self.root()]);
    }
}
