//! A volume gets what the image has from one container, and gets all of it.
//!
//! The file `filling` lies beside a volume's files. Who mounts the volume locks it and so waits for who
//! fills it; it says something as long as a copy has not come to its end. What a copy that was cut has
//! left is removed by whoever comes next, to whom the volume is new again. No container sees the file.
//!
//! It is opened by the user's own rights: the container's root may have none in the volume's directory,
//! and needs none to write to what is open.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{
    FlockOperation, Mode, OFlags, flock, fstat, fsync, ftruncate, open, openat, syncfs,
};
use rustix::io::{Errno, pwrite};

use crate::error::{Failure, Step};
use crate::mount_plan::{MARK, Volume};

/// The right to fill a volume, if it is locked.
#[derive(Debug)]
pub(crate) struct Filling {
    mark: OwnedFd,
    data: OwnedFd,
    volume: PathBuf,
    synced: bool,
}

impl Filling {
    /// Opens what belongs to it.
    pub(crate) fn open(volume: &Volume) -> Result<Self, Failure> {
        let what = || format!("open volume {}", volume.directory.display());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(&volume.directory, flags, Mode::empty()).step(what)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mark = openat(&directory, MARK, flags, Mode::from_raw_mode(0o644)).step(what)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let data = openat(&directory, "_data", flags, Mode::empty()).step(what)?;
        Ok(Self {
            mark,
            data,
            volume: volume.directory.clone(),
            synced: volume.synced,
        })
    }

    /// Waits until nobody else fills the volume, and removes what a copy that was cut has left. Until this
    /// is dropped the others wait.
    pub(crate) fn wait(&self) -> Result<(), Failure> {
        let what = || format!("wait for volume {}", self.volume.display());
        loop {
            match flock(&self.mark, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                result => break result.step(what)?,
            }
        }
        if fstat(&self.mark).step(what)?.st_size == 0 {
            return Ok(());
        }
        kelp_copy::empty(self.data.as_fd()).step(|| {
            format!(
                "remove what a copy that was cut has left in volume {} (kelp volume rm removes it \
                 whole)",
                self.volume.display()
            )
        })?;
        self.end()
    }

    /// Notes that a copy begins.
    pub(crate) fn begin(&self) -> Result<(), Failure> {
        let what = || format!("begin to fill volume {}", self.volume.display());
        pwrite(&self.mark, b"1", 0).step(what)?;
        if self.synced {
            fsync(&self.mark).step(what)?;
        }
        Ok(())
    }

    /// Notes that a copy is whole. That must be on the disk before the container writes: a power cut that
    /// brought the note of its beginning back would have what was written taken for half a copy.
    pub(crate) fn end(&self) -> Result<(), Failure> {
        let what = || format!("finish filling volume {}", self.volume.display());
        if self.synced {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            // Where the user has made a link of it, it is on another file system.
            let data = openat(&self.data, ".", flags, Mode::empty()).step(what)?;
            syncfs(&data).step(what)?;
        }
        ftruncate(&self.mark, 0).step(what)?;
        if self.synced {
            fsync(&self.mark).step(what)?;
        }
        Ok(())
    }
}
