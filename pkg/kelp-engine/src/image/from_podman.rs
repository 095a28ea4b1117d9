//! Images out of podman's store.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kelp_image::config_paths::ConfigPaths;
use kelp_image::load::Load;
use kelp_image::platform::Platform;
use kelp_image::progress::{Progress, Silent, Terminal};
use kelp_image::pull::Bring;
use kelp_image::transport::podman::store::{PodmanImage, PodmanStore};
use kelp_image::transport::podman::{bring, display, is_meant};
use kelp_image::trust::Trust;

use crate::container::config::UserMode;
use crate::image::load::{Brought, record};
use crate::image::pull::PullRequest;
use crate::image::start_role;
use crate::image::workshop::Workshop;
use crate::{Engine, Error, host, internal};

/// What was brought from podman's store.
#[derive(Debug, Default)]
pub struct FromPodman {
    /// The images, and the names that others have lost by them.
    pub brought: Brought,
    /// Each image that could not be brought, and why.
    pub failed: Vec<Error>,
}

impl Engine {
    /// Brings images of podman's: those that are named, or all.
    pub fn import_from_podman(
        &self,
        root: Option<&Path>,
        names: &[String],
        request: &PullRequest,
    ) -> Result<FromPodman, Error> {
        let theirs = PodmanStore::open(root, &ConfigPaths::from_env())?;
        let mut wanted: Vec<&PodmanImage> = Vec::new();
        for name in names {
            wanted.push(one(&theirs, name)?);
        }
        if names.is_empty() {
            for image in &theirs.images {
                // Lists are made again of images.
                if !theirs.is_list(image)? {
                    wanted.push(image);
                }
            }
        }
        // Two names may mean one image, and two drivers may have the same.
        let mut seen = HashSet::new();
        wanted.retain(|image| seen.insert(&image.id));
        self.bring_from_podman(&theirs, &wanted, request)
    }

    /// `pull containers-storage:NAME`: `[DRIVER@ROOT+RUNROOT]` may stand before the name.
    pub(super) fn pull_from_podman(
        &self,
        written: &str,
        request: &PullRequest,
    ) -> Result<Brought, Error> {
        let (root, name) = place(written);
        let names = [name.to_owned()];
        let result = self.import_from_podman(root.as_deref(), &names, request)?;
        match result.failed.into_iter().next() {
            Some(failed) => Err(failed),
            None => Ok(result.brought),
        }
    }

    fn bring_from_podman(
        &self,
        theirs: &PodmanStore,
        wanted: &[&PodmanImage],
        request: &PullRequest,
    ) -> Result<FromPodman, Error> {
        let store = self.store()?;
        let terminal = Terminal::default();
        let progress: &dyn Progress = if request.quiet { &Silent } else { &terminal };
        let access = request.access.options()?;
        let trust = Trust::load(&access.paths, access.signature_policy.as_deref())?;
        // podman's files have the ids of the same subordinate ranges.
        let userns = self.user_namespace(host::id_map(&UserMode::Host)?)?;
        let spawn = |role: &[String], fds: internal::Fds<'_>| start_role(role, fds, &userns);
        let workshop = Workshop {
            engine: self,
            store: &store,
            user: &UserMode::Host,
        };
        let mut result = FromPodman::default();
        workshop.bring(&mut |blobs, unpacker| {
            for image in wanted {
                // A new one each time, which knows the layers of the last.
                let load = Load {
                    store: &store,
                    blobs,
                    unpacker,
                    progress,
                    platform: Platform::host(),
                    known: OnceLock::new(),
                    data: &self.paths.data,
                    trust: &trust,
                };
                let found = bring(&load, theirs, image, &spawn);
                let found = found.and_then(|found| record(&store, &found, &mut result.brought));
                match found {
                    Ok(()) => {
                        if let Some(image) = result.brought.images.last() {
                            let name = image.names.first().unwrap_or(&image.id);
                            self.note_image("import", &image.id, name);
                        }
                    }
                    // What this one lacks, the next may have.
                    Err(
                        error @ (kelp_image::Error::Archive(_)
                        | kelp_image::Error::Conflict(_)
                        | kelp_image::Error::Rejected(_)
                        | kelp_image::Error::Reference(_)),
                    ) => result.failed.push(error.into()),
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })?;
        Ok(result)
    }
}

/// The one image that a name or the beginning of an id means.
fn one<'a>(theirs: &'a PodmanStore, name: &str) -> Result<&'a PodmanImage, Error> {
    let mut found = theirs.images.iter().filter(|image| is_meant(image, name));
    let Some(one) = found.next() else {
        return Err(Error::from(kelp_image::Error::NotFound(format!(
            "{name} in podman's store at {}",
            theirs.root.display()
        ))));
    };
    // Two drivers may have the same image.
    match found.find(|other| other.id != one.id) {
        None => Ok(one),
        Some(two) => Err(Error::invalid(format!(
            "{name} is ambiguous in podman's store: {}, {}",
            display(one),
            display(two)
        ))),
    }
}

/// Takes `[DRIVER@ROOT+RUNROOT:OPTIONS]NAME` apart. The driver is not looked at: whichever has the image is
/// read.
fn place(written: &str) -> (Option<PathBuf>, &str) {
    let Some((within, name)) = written
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    else {
        return (None, written);
    };
    let root = within.split_once('@').map_or(within, |(_, root)| root);
    let root = root.split(['+', ':']).next().unwrap_or_default();
    let root = Some(root).filter(|root| !root.is_empty());
    (root.map(PathBuf::from), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_may_stand_before_the_name() {
        for (written, root, name) in [
            ("alpine:3", None, "alpine:3"),
            ("[/a/b]alpine", Some("/a/b"), "alpine"),
            ("[overlay@/a+/run/x]r/x:1", Some("/a"), "r/x:1"),
            ("[overlay@/a:overlay.opt=1]x", Some("/a"), "x"),
        ] {
            assert_eq!(place(written), (root.map(PathBuf::from), name), "{written}");
        }
    }
}
