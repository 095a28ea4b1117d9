//! `--mount type=artifact`: an artifact's files in a container.
//!
//! A container that may mount could make a bind of a blob writable, and so change the store. So each file is shown
//! through an overlay that has no place for changes: below it is a directory in the container's record with hard
//! links to the blobs, under numbers, and an empty one, because the kernel wants two. The links keep the content as
//! long as the container is there, whatever becomes of the artifact's name.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use kelp_args::mount::ArtifactMount;
use kelp_image::artifact::file::{ArtifactFile, Choice, check_given_name};
use kelp_image::artifact::missing;
use kelp_image::store::Store;
use kelp_runtime::mount_plan::WITHIN;
use kelp_state::file::sync_directory;
use oci_spec::runtime::Mount;
use rustix::io::Errno;

use crate::layered::{Layer, Mounting, SUBDIRECTORY};
use crate::{Engine, Error, Kind};

/// The directory of a container's record that has the links.
const ARTIFACTS: &str = "artifacts";

/// The empty directory beside those of the mounts.
const EMPTY: &str = "empty";

/// How the layers of a mount of an artifact's file end, among the options of that mount.
pub const ARTIFACTS_END: &str = "/artifacts/empty";

impl Engine {
    /// The mounts that show an artifact's files: one for each.
    pub(crate) fn artifact_mounts(
        &self,
        asked: &ArtifactMount,
        target: &str,
        of: &mut Mounting<'_>,
    ) -> Result<Vec<Mount>, Error> {
        let store = self.store()?;
        let source = &asked.source;
        let (artifact, _) = self.find_artifact(&store, source).map_err(|error| {
            if error.kind() != Kind::NotFound {
                return error;
            }
            let line = error.line();
            Error::new(
                Kind::NotFound,
                format!("{line}: pull it first (kelp artifact pull {source})"),
            )
        })?;
        let choice = Choice {
            digest: asked.digest.as_deref(),
            title: asked.title.as_deref(),
        };
        let manifest = store.artifact_document(&artifact.record.manifest)?;
        let files = choice.of(ArtifactFile::all(&manifest)?)?;
        // What the layers do not tell is known when the root is there: one file is the target, or is in it.
        let mut within = None;
        let targets = match (files.as_slice(), of.base.is_directory(target)?) {
            ([_], None | Some(false)) => {
                // A title that is no name can be in no directory.
                within = names(asked, &files, choice)
                    .ok()
                    .and_then(|names| names.into_iter().next());
                vec![target.to_owned()]
            }
            (_, Some(false)) => {
                return Err(Error::invalid(format!(
                    "artifact {:?} has more than one blob, and {target} is a file in the container: choose one \
                     with title= or digest=",
                    asked.source
                )));
            }
            _ => inside(target, &names(asked, &files, choice)?),
        };
        let (directory, empty) = self.link_files(&store, &files, of)?;
        of.artifacts.push(artifact.record.manifest.to_string());
        let mut mounts = Vec::with_capacity(files.len());
        for (number, target) in targets.iter().enumerate() {
            let mut options = vec![format!("{SUBDIRECTORY}/{number}"), "ro".to_owned()];
            options.extend(within.iter().map(|name| format!("{WITHIN}{name}")));
            let lower = [directory.clone(), empty.clone()];
            let mut mount = self.overlay_mount(target, &lower, Layer::None, options, of)?;
            mount.set_source(Some(PathBuf::from(&asked.source)));
            mounts.push(mount);
        }
        Ok(mounts)
    }

    /// Makes the directory with links to blobs, and the empty one.
    fn link_files(
        &self,
        store: &Store,
        files: &[ArtifactFile],
        of: &Mounting<'_>,
    ) -> Result<(PathBuf, PathBuf), Error> {
        let root = of.record.join(ARTIFACTS);
        let directory = root.join(of.artifacts.len().to_string());
        let empty = root.join(EMPTY);
        for path in [&root, &directory, &empty] {
            make(path)?;
        }
        for (number, file) in files.iter().enumerate() {
            let link = directory.join(number.to_string());
            // One that is not here says so, and how to find out what can be done.
            store.blobs().reader(&file.digest).map_err(missing)?;
            link_blob(&store.blobs().path(&file.digest), &link, of.volatile)?;
        }
        if !of.volatile {
            for path in [&directory, &root, of.record] {
                let what = || format!("sync {}", path.display());
                sync_directory(path).map_err(Error::io(what()))?;
            }
        }
        Ok((directory, empty))
    }
}

/// Makes a directory that is there for everybody, whatever the mode mask; its parents are the user's alone.
fn make(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .mode(0o755)
        .create(path)
        .map_err(Error::io(format!("create {}", path.display())))
}

/// Links a blob, which every user of the container may read: the directories around it are the user's alone.
fn link_blob(blob: &Path, link: &Path, is_volatile: bool) -> Result<(), Error> {
    let failed = |error| Error::io(format!("link {}", blob.display()))(error);
    fs::set_permissions(blob, fs::Permissions::from_mode(0o644)).map_err(failed)?;
    match fs::hard_link(blob, link) {
        // On another file system, or with as many links as there can be.
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::XDEV | Errno::MLINK | Errno::PERM)
            ) =>
        {
            fs::copy(blob, link).map_err(failed)?;
            if is_volatile {
                return Ok(());
            }
            // A blob is on the disk, and its copy has to be as well.
            File::open(link)
                .and_then(|copy| copy.sync_all())
                .map_err(Error::io(format!("sync {}", link.display())))
        }
        linked => linked.map_err(failed),
    }
}

/// What the files are called in the container's directory.
fn names(
    asked: &ArtifactMount,
    files: &[ArtifactFile],
    choice: Choice<'_>,
) -> Result<Vec<String>, Error> {
    let Some(name) = &asked.name else {
        return Ok(choice.names(files)?);
    };
    let names: Vec<_> = match files.len() {
        1 => vec![name.clone()],
        several => (0..several)
            .map(|number| format!("{name}-{number}"))
            .collect(),
    };
    for name in &names {
        check_given_name(name)?;
    }
    Ok(names)
}

fn inside(directory: &str, names: &[String]) -> Vec<String> {
    let directory = directory.trim_end_matches('/');
    names
        .iter()
        .map(|name| format!("{directory}/{name}"))
        .collect()
}
