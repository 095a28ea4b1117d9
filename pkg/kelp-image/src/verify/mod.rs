//! Whether an extracted layer is what its blob says.
//!
//! The archive is read once and becomes a tree in memory (`expected`), by the extractor's rules; then
//! the tree on disk is walked beside it (`found`): kinds, modes, owners, sizes, contents, link targets,
//! attributes, whiteouts, which names are of one file, and what is there that should not be. Times are
//! not compared, since file systems round and clamp them.
//!
//! This happens in the hidden role `kelp internal verify`, in the namespace of the usual map, like every
//! work on trees. It writes nothing but a scratch file where an attribute is missing.

mod attributes;
mod content;
mod expected;
mod found;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use kelp_sys::process::wait_pidfd;
use kelp_userns::IdMap;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::digest::Digest;
use crate::layer::LayerInfo;
use crate::role::SpawnRole;
use crate::tar::{Entry, TarReader};
use crate::unpack::path::show;
use crate::unpack::pipeline::Pipeline;
use crate::unpack::translate::Translation;
use crate::unpack::{Ownership, archive_error};
use attributes::Attributes;
use expected::Tree;

/// How many differences of one layer are told one by one.
const TOLD: usize = 20;

/// What a comparison has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// SHA-256 of the uncompressed archive.
    pub diff_id: Digest,
    /// What is to be known of the layer without walking it.
    pub info: LayerInfo,
    /// What is not as the archive has it.
    pub differences: Differences,
}

/// What is not as the archive has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differences {
    /// The first ones.
    pub first: Vec<Difference>,
    /// How many more there are.
    pub more: u64,
}

/// Something that is not as the archive has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Where, from the layer's root on.
    pub path: String,
    /// What, as the rest of a sentence.
    pub what: String,
}

impl Differences {
    /// Whether all is as it should be.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    fn add(&mut self, path: &[u8], what: String) {
        if self.first.len() < TOLD {
            let path = show(path);
            self.first.push(Difference { path, what });
        } else {
            self.more += 1;
        }
    }
}

/// Whose files are, as the process that looks sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids {
    ownership: Ownership,
    /// Who owns what the archive says nothing of.
    root: (u64, u64),
}

impl Ids {
    fn owner(&self, entry: &Entry) -> (u64, u64) {
        match self.ownership {
            Ownership::Mapped => (entry.uid, entry.gid),
            Ownership::Single => self.root,
        }
    }
}

/// A layer that is to be compared with its blob.
#[derive(Clone, Debug)]
pub struct Extracted<'a> {
    /// Its directory.
    pub directory: &'a Path,
    /// A directory for temporary things, on the same file system.
    pub tmp: &'a Path,
    /// How its owners are kept.
    pub ownership: Ownership,
    /// Which id each of the archive's is, for another map than that of the process.
    pub ids: Option<&'a IdMap>,
}

/// Compares a layer with its archive, compressed or not.
pub fn verify<R: Read + Send + 'static>(
    layer: &Extracted<'_>,
    archive: R,
) -> Result<Verdict, Error> {
    let translation = layer.ids.map(Translation::new).transpose()?;
    let process = (
        u64::from(rustix::process::geteuid().as_raw()),
        u64::from(rustix::process::getegid().as_raw()),
    );
    let ids = Ids {
        ownership: layer.ownership,
        root: match (&translation, layer.ownership) {
            (Some(translation), _) => translation.root(),
            (None, Ownership::Mapped) => (0, 0),
            (None, Ownership::Single) => process,
        },
    };
    let pipeline = Pipeline::start(archive).map_err(Error::io("start to read the archive"))?;
    let mut reader = TarReader::new(pipeline);
    let mut tree = Tree::new(ids);
    let mut entry = Entry::default();
    while reader.next(&mut entry).map_err(archive_error)? {
        if let Some(translation) = &translation {
            translation.apply(&mut entry)?;
        }
        tree.add(&entry, &mut reader)?;
    }
    tree.finish();
    let stream = reader
        .into_inner()
        .finish()
        .map_err(|error| archive_error(error.into()))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root: OwnedFd = rustix::fs::open(layer.directory, flags, Mode::empty())
        .map_err(Error::io(format!("open {}", layer.directory.display())))?;
    let mut differences = Differences::default();
    let mut attributes = Attributes::new(layer.tmp.to_owned());
    found::compare(&tree, root, &mut attributes, &mut differences)?;
    Ok(Verdict {
        diff_id: stream.digest,
        info: LayerInfo::new(tree.size, tree.files),
        differences,
    })
}

/// Compares a layer with its blob in a process of the hidden role.
pub fn verify_in_role(
    layer: &Extracted<'_>,
    blob: &File,
    spawn: &SpawnRole<'_>,
) -> Result<Verdict, Error> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let arguments = [
        "verify".to_owned(),
        text(layer.directory),
        text(layer.tmp),
        crate::role::ownership_word(layer.ownership).to_owned(),
        layer.ids.map_or_else(|| "-".to_owned(), IdMap::to_word),
    ];
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::io("make a pipe"))?;
    let what = "start `kelp internal verify`";
    let child =
        spawn(&arguments, vec![(blob.as_fd(), 0), (write.as_fd(), 1)]).map_err(Error::io(what))?;
    drop(write);
    let mut answer = Vec::new();
    let received = File::from(read).read_to_end(&mut answer);
    let exit = wait_pidfd(child.pidfd.as_fd()).map_err(Error::io("wait for a role"))?;
    received.map_err(Error::io("read an answer"))?;
    if exit.code() != 0 {
        let text = String::from_utf8_lossy(&answer);
        let text = if text.is_empty() {
            "`kelp internal verify` ended without an answer".into()
        } else {
            text
        };
        return Err(Error::Archive(text.into_owned()));
    }
    serde_json::from_slice(&answer).map_err(Error::json("read a verdict"))
}

/// Runs `kelp internal verify DIRECTORY TMP mapped|single MAP|-` on the archive that is standard input: the
/// verdict on standard output, or an error's text and exit code 1.
pub fn verify_main(arguments: &[String]) -> i32 {
    let (answer, code) = match try_verify(arguments) {
        Ok(verdict) => (serde_json::to_vec(&verdict).unwrap_or_default(), 0),
        Err(error) => (crate::role::one_line(&error).into_bytes(), 1),
    };
    match io::stdout().write_all(&answer) {
        Ok(()) => code,
        Err(_) => 1,
    }
}

fn try_verify(arguments: &[String]) -> Result<Verdict, Error> {
    let [directory, tmp, ownership, ids] = arguments else {
        return Err(Error::Invalid("verify: arguments are missing".to_owned()));
    };
    let ids = crate::role::parse_ids(ids)?;
    let ownership = crate::role::parse_ownership(ownership)?;
    crate::role::become_root(ownership);
    let source = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 0)
        .map_err(Error::io("take standard input"))?;
    let (directory, tmp) = (PathBuf::from(directory), PathBuf::from(tmp));
    let layer = Extracted {
        directory: &directory,
        tmp: &tmp,
        ownership,
        ids: ids.as_ref(),
    };
    verify(&layer, File::from(source))
}

#[cfg(test)]
mod tests;
