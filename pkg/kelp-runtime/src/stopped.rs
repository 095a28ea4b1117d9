//! The root of a container that does not run, for those who copy into and out of it.
//!
//! It is mounted in a mount namespace of the calling process's own, which ends with it: the host sees
//! nothing of it, and nothing is left to unmount.

use std::path::Path;

use oci_spec::runtime::Spec;
use rustix::mount::{MountPropagationFlags, mount_change};

use crate::error::Error;
use crate::mount_plan::{MountPlan, Source};
use crate::plan::Rootfs;
use crate::rootfd::Root;
use crate::{mounts, rootfs};

/// Mounts a container's root, and in it the directories and files of the host that the container
/// has; `attach` is a directory of the container's own. The calling process has one thread and every
/// capability in its user namespace, and does nothing else afterwards.
///
/// No other process may have the root mounted: what an overlay shows whose upper directory is in use
/// twice is undefined (overlayfs, "Non-standard behavior").
pub fn mount(spec: &Spec, rootfs: &Rootfs, attach: &Path) -> Result<Root, Error> {
    kelp_sys::namespace::unshare_mounts().map_err(Error::io("make a mount namespace"))?;
    mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
    .map_err(|error| Error::io("make the mounts private")(error.into()))?;
    let failed = |failure: crate::error::Failure| Error::Init(failure.text);
    let root = Root::new(rootfs::mount(rootfs, attach).map_err(failed)?);
    for mount in spec.mounts().iter().flatten() {
        let mut plan = MountPlan::new(mount)?;
        // The other kinds are empty before the container runs, and gone after.
        if matches!(plan.source, Source::Bind { .. }) {
            (plan.copy_up, plan.chown) = (false, false);
            mounts::make(&root, &plan).map_err(failed)?;
        }
    }
    Ok(root)
}
