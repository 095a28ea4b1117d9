//! Mounts whose files have other owners than on the host (runtime-spec, config.md, "Mounts", `uidMappings`;
//! mount_setattr(2), `MOUNT_ATTR_IDMAP`).
//!
//! It takes a privilege over the file system that only the machine's root has. So these are made before
//! any namespace is.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kelp_sys::mount_attr::{IDMAP, MountAttr, mount_setattr};
use kelp_userns::{IdMap, UserNamespace};
use rustix::io::Errno;

use crate::error::Error;
use crate::mount_plan::{MountPlan, Source};
use crate::plan::Plan;
use crate::source::bind;

/// How the owners of a mount's files are mapped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Idmap {
    /// By this, or as in the container's own user namespace.
    pub(crate) map: Option<IdMap>,
    /// And of what is mounted below.
    pub(crate) recursive: bool,
}

impl Plan {
    /// Whether there are idmapped mounts to be opened.
    pub fn has_idmapped(&self) -> bool {
        self.mounts.iter().any(|mount| mount.idmap.is_some())
    }

    /// Opens the idmapped mounts. `own` is the container's user namespace, if it has one.
    pub fn open_idmapped(&mut self, own: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        for mount in &mut self.mounts {
            if let Some(idmap) = mount.idmap.take() {
                mount.opened = Some(open(mount, idmap, own)?);
            }
        }
        Ok(())
    }
}

fn open(mount: &MountPlan, idmap: Idmap, own: Option<BorrowedFd<'_>>) -> Result<OwnedFd, Error> {
    let target = mount.target.display();
    let failed = |why: &str| Error::Spec(format!("mount {target}: {why}"));
    let Source::Bind {
        path, recursive, ..
    } = &mount.source
    else {
        return Err(failed("only a bind mount can be idmapped"));
    };
    let tree = bind(path, *recursive).map_err(|failure| Error::Init(failure.text))?;
    let made = idmap.map.map(UserNamespace::create).transpose();
    let made = made.map_err(|error| failed(&error.to_string()))?;
    let namespace = made.as_ref().map(AsFd::as_fd).or(own).ok_or_else(|| {
        failed("idmap takes uidMappings and gidMappings, its own or the container's")
    })?;
    let attr = MountAttr {
        set: IDMAP,
        ..MountAttr::default()
    };
    match mount_setattr(tree.as_fd(), idmap.recursive, attr, Some(namespace)) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Err(failed(
            "its file system can't be idmapped: leave the mappings out",
        )),
        result => {
            result.map_err(Error::io(format!("idmap the mount {target}")))?;
            Ok(tree)
        }
    }
}
