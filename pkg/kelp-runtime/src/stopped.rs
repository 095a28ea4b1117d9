//! The root of a container that does not run, for those who copy into and out of it.
//!
//! It is mounted in a mount namespace of the calling process's own, which ends with it: the host sees
//! nothing of it, and nothing is left to unmount.

use std::path::Path;

use oci_spec::runtime::Spec;
use rustix::mount::{MountPropagationFlags, mount_change};

use crate::error::Error;
use crate::mount_plan::{MountPlan, OF, Source};
use crate::plan::Rootfs;
use crate::rootfd::Root;
use crate::source::{Opened, open_source};
use crate::{mounts, rootfs};

/// Mounts a container's root, and in it the directories and files of the host that the container
/// has; `attach` is a directory of the container's own. The calling process has one thread and every
/// capability in its user namespace, becomes the container's root, and does nothing else afterwards.
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
    let parts = rootfs::open_parts(rootfs, attach).map_err(failed)?;
    let mut binds = Vec::new();
    for mount in spec.mounts().iter().flatten() {
        // What is another container's is that one's.
        let mut options = mount.options().iter().flatten();
        if options.any(|option| option.starts_with(OF)) {
            continue;
        }
        let mut plan = MountPlan::new(mount)?;
        // The other kinds are empty before the container runs, and gone after.
        if matches!(plan.source, Source::Bind { .. } | Source::Overlay { .. }) {
            (plan.copy_up, plan.chown) = (false, false);
            plan.forget_changes()?;
            let source = open_source(&plan).map_err(failed)?;
            binds.push((plan, source));
        }
    }
    crate::init::become_root().map_err(failed)?;
    let place = |(plan, opened): (MountPlan, Opened)| {
        Ok((plan, opened.mount(parts.place()).map_err(failed)?))
    };
    let binds: Vec<_> = binds.into_iter().map(place).collect::<Result<_, Error>>()?;
    let root = Root::new(rootfs::mount(parts).map_err(failed)?);
    for (plan, source) in binds {
        mounts::make(&root, &plan, source).map_err(failed)?;
    }
    Ok(root)
}

/// Makes the calling thread the root of its user namespace: in a namespace that lacks the user, only
/// one whose id is mapped can make files.
pub fn become_root() -> Result<(), Error> {
    crate::init::become_root().map_err(|failure| Error::Init(failure.text))
}
