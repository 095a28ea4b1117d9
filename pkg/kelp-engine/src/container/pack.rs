//! What a container has as an archive: the hidden role `pack`, and reading from it.
//!
//! The files belong to the container's ids, and the archive is to speak of those: the role runs in a user
//! namespace with the container's map, where owners, access control lists and file capabilities read as
//! the container sees them. It reads the container's directories on the host's side, mounts nothing and
//! sees nothing of what is mounted in the container; a container may run meanwhile.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use kelp_image::merged::Merged;
use kelp_image::pack::Style;
use kelp_image::pack::changes::pack_changes;
use kelp_image::pack::paths::pack_paths;
use kelp_image::pack::shown::pack_shown;
use kelp_image::tar::write::TarWriter;
use kelp_monitor::Launch;
use kelp_runtime::plan::Rootfs;
use kelp_state::{ContainerId, Record, file};
use kelp_sys::clone::Child;
use kelp_sys::process::wait_pidfd;
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::container::diff;
use crate::{Engine, Error, Kind, host, image, internal};

/// Where the role says what went wrong.
const REPLY: RawFd = 3;

/// The most bytes of that.
const REPLY_LIMIT: u64 = 64 << 10;

/// What is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// What the container has changed in its image, as a layer.
    Changes,
    /// All that the container shows, as a layer.
    Layer,
    /// The same, as an archive that any program reads.
    Tree,
}

/// An archive that is being made.
pub(crate) struct Packing {
    child: Child,
    reply: File,
    what: String,
}

impl Engine {
    /// Starts to pack what a container has, into `archive`.
    pub(crate) fn pack(
        &self,
        id: &ContainerId,
        what: What,
        archive: BorrowedFd<'_>,
    ) -> Result<Packing, Error> {
        let config = self.config(id)?;
        let map = host::map_of(&config.options.namespaces)?;
        let single = image::ownership(&map) == kelp_image::unpack::Ownership::Single;
        let userns = self.user_namespace(map)?;
        let words = serde_json::to_string(&(what, single))
            .map_err(|error| Error::invalid(error.to_string()))?;
        let (reply, reply_writer) =
            pipe_with(PipeFlags::CLOEXEC).map_err(Error::io("make a pipe"))?;
        let fds = vec![(archive, 1), (reply_writer.as_fd(), REPLY)];
        let role = ["pack", id.as_str(), &words];
        Ok(Packing {
            child: internal::spawn_until(&role, &userns, fds, Some(Signal::KILL))?,
            reply: reply.into(),
            what: format!("read the files of container {}", id.short()),
        })
    }
}

impl Packing {
    /// Waits for its end.
    pub(crate) fn end(mut self) -> Result<(), Error> {
        self.wait()
    }

    fn wait(&mut self) -> Result<(), Error> {
        let mut text = String::new();
        let failed = |error| Error::io(self.what.clone())(error);
        (&mut self.reply)
            .take(REPLY_LIMIT)
            .read_to_string(&mut text)
            .map_err(failed)?;
        let exit = wait_pidfd(self.child.pidfd.as_fd()).map_err(failed)?;
        match (exit.code(), text.as_str()) {
            (0, _) => Ok(()),
            (_, "") => Err(Error::new(
                Kind::Failed,
                format!("{}: the process that does it was killed", self.what),
            )),
            (_, text) => Err(Error::new(Kind::Failed, format!("{}: {text}", self.what))),
        }
    }
}

/// Reads an archive while it is packed. Its end is one only if the packing went well: an archive that was
/// cut is an error.
pub(crate) struct Archive {
    pipe: File,
    packing: Packing,
    ended: Option<Result<(), Error>>,
}

impl Archive {
    /// Starts to pack.
    pub(crate) fn start(engine: &Engine, id: &ContainerId, what: What) -> Result<Self, Error> {
        let (pipe, writer): (OwnedFd, OwnedFd) =
            pipe_with(PipeFlags::CLOEXEC).map_err(Error::io("make a pipe"))?;
        let packing = engine.pack(id, what, writer.as_fd())?;
        Ok(Self {
            pipe: pipe.into(),
            packing,
            ended: None,
        })
    }

    /// What the packing failed with, whatever its reader has made of it.
    pub(crate) fn failure(&mut self) -> Option<Error> {
        self.ended.take().and_then(Result::err)
    }
}

impl Read for &mut Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.pipe.read(buffer)?;
        if count > 0 || buffer.is_empty() {
            return Ok(count);
        }
        if self.ended.is_none() {
            self.ended = Some(self.packing.wait());
        }
        match &self.ended {
            Some(Err(error)) => Err(io::Error::other(error.line())),
            _ => Ok(0),
        }
    }
}

/// Runs `kelp internal pack ID WHAT`; the exit code.
pub(crate) fn role(engine: &Engine, id: &ContainerId, what: &str) -> i32 {
    let Ok(mut reply) = kelp_sys::fd::inherited(REPLY).map(File::from) else {
        return 125;
    };
    // Nothing in a container may look into it: it has every capability in the namespace.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let packed = serde_json::from_str(what)
        .map_err(|error| Error::invalid(error.to_string()))
        .and_then(|(what, single)| pack(engine, id, what, single));
    match packed {
        Ok(()) => 0,
        Err(error) => {
            let _ = reply.write_all(error.line().as_bytes());
            1
        }
    }
}

fn pack(engine: &Engine, id: &ContainerId, what: What, single: bool) -> Result<(), Error> {
    let record = Record::new(&engine.paths, id.clone());
    let launch: Launch = file::read_json(&record.data.join("launch.json"))?
        .ok_or_else(|| Error::new(Kind::NotFound, format!("no such container: {id}")))?;
    let stdout = rustix::stdio::stdout()
        .try_clone_to_owned()
        .map_err(Error::io("take standard output"))?;
    let sink = BufWriter::with_capacity(64 << 10, File::from(stdout));
    let mut writer = TarWriter::new(sink);
    let style = Style {
        acls: true,
        recorded: Some(if single {
            kelp_image::unpack::Ownership::Single
        } else {
            kelp_image::unpack::Ownership::Mapped
        }),
        sparse: what != What::Tree,
    };
    let parts = Parts::open(&launch, what)?;
    kelp_runtime::stopped::become_root()?;
    parts
        .pack(&mut writer, what, style)
        .and_then(|()| writer.finish())
        .map_err(Error::io("pack"))?;
    Ok(())
}

/// What is packed, opened by the user's own rights: what leads there is closed to the container's root.
enum Parts {
    Upper {
        upper: OwnedFd,
        image: OwnedFd,
    },
    Copy {
        root: OwnedFd,
        changes: Vec<diff::Change>,
    },
    Shown(Merged),
}

impl Parts {
    fn open(launch: &Launch, what: What) -> Result<Self, Error> {
        let failed = || Error::io("open the container's files");
        let directory = |path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            open(path, flags, Mode::empty()).map_err(Error::io("open the container's files"))
        };
        if what != What::Changes {
            let parts = match &launch.rootfs {
                Rootfs::Overlay { lower, upper, .. } => {
                    [std::slice::from_ref(upper), lower.as_slice()].concat()
                }
                Rootfs::Copied { root, .. } => vec![root.clone()],
                Rootfs::Directory(path) => vec![path.clone()],
            };
            return Merged::open_overlay(&parts)
                .map(Self::Shown)
                .map_err(failed());
        }
        match &launch.rootfs {
            Rootfs::Overlay { lower, upper, .. } => Ok(Self::Upper {
                upper: directory(upper)?,
                image: directory(lower.first().unwrap_or(upper))?,
            }),
            Rootfs::Copied { root, layers } => {
                let mut changes = diff::copied_changes(root, layers, launch).map_err(failed())?;
                changes.sort();
                Ok(Self::Copy {
                    root: directory(root)?,
                    changes,
                })
            }
            Rootfs::Directory(_) => Err(Error::invalid("the container has no image")),
        }
    }

    fn pack<W: Write>(
        &self,
        writer: &mut TarWriter<W>,
        what: What,
        style: Style,
    ) -> io::Result<()> {
        match self {
            Self::Upper { upper, image } => pack_changes(upper, &fstat(image)?, writer, style),
            Self::Copy { root, changes } => {
                let paths = changes.iter().map(|change| {
                    (
                        change.path.as_path(),
                        change.kind == diff::ChangeKind::Deleted,
                    )
                });
                pack_paths(root, paths, writer, style)
            }
            Self::Shown(tree) => pack_shown(tree, what == What::Layer, writer, style),
        }
    }
}
