//! `diff`: what a container changed in its image.
//!
//! The changes are what the overlay's upper directory holds, or how a copy of the layers differs from
//! them. The files belong to the container's
//! users, so it is walked by the hidden role `diff` inside a user namespace.

mod copied;
mod walk;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use kelp_monitor::Launch;
use kelp_runtime::plan::Rootfs;
use kelp_state::{ContainerId, Record, file};

use crate::container::config::UserMode;
use crate::image::list::Image;
use crate::{Engine, Error, Kind, host, internal, volume};

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is another one, or something in it is.
    Changed,
    /// The image has none.
    Added,
    /// The image's is gone.
    Deleted,
}

impl ChangeKind {
    /// `C`, `A` or `D`.
    pub fn letter(self) -> char {
        match self {
            Self::Changed => 'C',
            Self::Added => 'A',
            Self::Deleted => 'D',
        }
    }
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Where, from the container's root.
    pub path: PathBuf,
    /// What.
    pub kind: ChangeKind,
}

impl Engine {
    /// What a container changed in its image, by path; places where something is mounted are left
    /// out.
    pub fn diff_container(&self, id: &ContainerId) -> Result<Vec<Change>, Error> {
        let config = self.config(id)?;
        if config.options.rootfs.is_some() && !config.options.rootfs_overlay {
            return Err(Error::invalid(format!(
                "container {} has no image: its root is a directory, whose changes are not kept \
                 apart",
                id.short()
            )));
        }
        self.changes(&["diff", id.as_str()])
    }

    /// What an image's topmost layer changed in those beneath it, by path.
    pub fn diff_image(&self, image: &Image) -> Result<Vec<Change>, Error> {
        let map = host::id_map(&UserMode::Host)?;
        let (_, layers) = self.image_layers(image.record.id.hex(), &map)?;
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| layer.to_string_lossy().into_owned())
            .collect();
        let mut words = vec!["diff-layers"];
        words.extend(layers.iter().map(String::as_str));
        self.changes(&words)
    }

    /// What a role finds, by path.
    fn changes(&self, role: &[&str]) -> Result<Vec<Change>, Error> {
        // The namespace that has every id of the user's, whatever the container has.
        let userns = self.user_namespace(host::id_map(&UserMode::Host)?)?;
        let (exit, output) = internal::run_role_said(role, &userns)?;
        if exit.code() != 0 {
            let text = String::from_utf8_lossy(&output).into_owned();
            return Err(Error::new(Kind::Failed, format!("find changes: {text}")));
        }
        let mut changes: Vec<_> = output.split(|&byte| byte == 0).filter_map(parse).collect();
        changes.sort();
        Ok(changes)
    }
}

fn parse(line: &[u8]) -> Option<Change> {
    let (letter, path) = line.split_first()?;
    Some(Change {
        path: PathBuf::from(OsString::from_vec(path.to_vec())),
        kind: match letter {
            b'C' => ChangeKind::Changed,
            b'A' => ChangeKind::Added,
            b'D' => ChangeKind::Deleted,
            _ => return None,
        },
    })
}

/// Runs `kelp internal diff ID`: changes on standard output, each with a null byte behind it, or an
/// error's text and exit code 1.
pub(crate) fn role(engine: &Engine, id: &ContainerId) -> i32 {
    tell(|stdout| walk(engine, id, stdout))
}

/// Runs `kelp internal diff-layers TOP LOWER…` in the same way.
pub(crate) fn layers_role(top: &str, lower: &[&str]) -> i32 {
    let lower: Vec<_> = lower.iter().map(PathBuf::from).collect();
    tell(|stdout| {
        let changes = walk::changes(Path::new(top), &lower, &BTreeSet::new());
        write(changes.map_err(Error::io("walk the changes"))?, stdout)
    })
}

fn tell(walk: impl FnOnce(&mut dyn Write) -> Result<(), Error>) -> i32 {
    let mut stdout = io::stdout().lock();
    match walk(&mut stdout) {
        Ok(()) => 0,
        Err(error) => {
            // What was found so far ends with a null byte, and the text is taken whole.
            let _ = stdout.write_all(error.line().as_bytes());
            1
        }
    }
}

fn walk(engine: &Engine, id: &ContainerId, output: &mut dyn Write) -> Result<(), Error> {
    let record = Record::new(&engine.paths, id.clone());
    let launch: Launch = file::read_json(&record.data.join("launch.json"))?
        .ok_or_else(|| Error::new(Kind::NotFound, format!("no such container: {id}")))?;
    let mounted = mounted(&launch);
    let changes = match &launch.rootfs {
        Rootfs::Overlay { lower, upper, .. } => walk::changes(upper, lower, &mounted),
        Rootfs::Copied { root, layers } => copied::changes(root, layers, &mounted),
        Rootfs::Directory(_) => return Err(Error::invalid("the container has no image")),
    }
    .map_err(Error::io("walk the changes"))?;
    write(changes, output)
}

/// How a copy of layers, topmost first, differs from them.
pub(crate) fn copied_changes(
    root: &Path,
    layers: &[PathBuf],
    launch: &Launch,
) -> io::Result<Vec<Change>> {
    copied::changes(root, layers, &mounted(launch))
}

fn write(changes: Vec<Change>, output: &mut dyn Write) -> Result<(), Error> {
    for change in changes {
        let line = [
            &[change.kind.letter() as u8],
            change.path.as_os_str().as_bytes(),
            &[0],
        ];
        output
            .write_all(&line.concat())
            .map_err(Error::io("write the changes"))?;
    }
    Ok(())
}

/// Where something is mounted: the runtime makes an empty file or directory there if the image has
/// none, which is no change of the container's.
fn mounted(launch: &Launch) -> BTreeSet<PathBuf> {
    let own = ["/dev/console", "/etc/mtab"].map(PathBuf::from);
    let mounts = launch.spec.mounts().iter().flatten();
    mounts
        .flat_map(volume::places)
        .map(|place| Path::new("/").join(place))
        .chain(own)
        .collect()
}
