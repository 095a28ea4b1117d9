//! Volumes: directories that outlive containers.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use kelp_args::VolumesFrom;
use kelp_args::mount::{Mount as Asked, Source};
use kelp_runtime::mount_plan::WITHIN;
use kelp_state::file::{self, Durability};
use kelp_state::{name, record, trash};
use oci_spec::runtime::Mount;

use crate::container::copy::clean;
use crate::layered::{Layer, Mounting, SUBDIRECTORY, plain};
use crate::volumes::VolumeRecord;
use crate::{ContainerId, Engine, Error};

impl Engine {
    /// A volume's directory; made if it is missing.
    pub fn volume(&self, volume: &str) -> Result<PathBuf, Error> {
        name::validate(volume)?;
        let data = self.paths.volumes().join(volume).join("_data");
        if !data.exists()
            && !self.make_volume(volume, &VolumeRecord::default(), Durability::Synced)?
        {
            // Somebody has made it meanwhile, or has taken away what was in it.
            match fs::DirBuilder::new().mode(0o755).create(&data) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::io(format!("create volume {volume}"))(error));
                }
                _ => {}
            }
        }
        Ok(data)
    }

    /// Keeps a volume that goes with its container from going with it: another has it by its name. One
    /// that is gone already is made anew.
    fn share(&self, volume: &str) -> Result<(), Error> {
        let directory = self.paths.volumes().join(volume);
        let record: VolumeRecord =
            file::read_json(&directory.join("volume.json"))?.unwrap_or_default();
        if record.anonymous && !trash::share_volume(&directory)? {
            self.volume(volume)?;
        }
        Ok(())
    }

    /// Makes a volume in one step; false if there is one of this name. It is whole before it has its name:
    /// half of one would be in the way of another, and nobody would take away one that goes with its container
    /// and has no mark.
    pub(crate) fn make_volume(
        &self,
        name: &str,
        record: &VolumeRecord,
        durability: Durability,
    ) -> Result<bool, Error> {
        self.make_filled_volume(name, record, durability, &|_| Ok(()))
    }

    /// The same of one that has files from the beginning: `fill` puts them into its directory, and has them on disk
    /// where that is wanted.
    pub(crate) fn make_filled_volume(
        &self,
        name: &str,
        record: &VolumeRecord,
        durability: Durability,
        fill: &dyn Fn(&Path) -> io::Result<()>,
    ) -> Result<bool, Error> {
        let what = || format!("create volume {name}");
        let volumes = self.paths.volumes();
        fs::create_dir_all(&volumes).map_err(Error::io(what()))?;
        // A hundred times is no collector.
        for attempt in 1.. {
            let made = make_in(&volumes, name, record, durability, fill);
            match made.map_err(Error::io(what())) {
                Ok(Made::New) => break,
                Ok(Made::Exists) if trash::is_closed(&volumes.join(name)) => {
                    return Err(Error::conflict(format!(
                        "volume {name} is being removed: if no command does so any more, \
                         `kelp image prune` deletes what is left of it"
                    )));
                }
                Ok(Made::Exists) => return Ok(false),
                Ok(Made::TakenAway) if attempt < 100 => {}
                Ok(Made::TakenAway) => {
                    return Err(Error::conflict(format!("{}: somebody else has it", what())));
                }
                Err(error) => return Err(error),
            }
        }
        if durability == Durability::Synced
            && let Err(error) = file::sync_directory(&volumes)
        {
            // What was not made is not there, unless somebody has taken it into use, or has put something
            // in it: then rmdir(2) refuses.
            let volume = volumes.join(name);
            if !self.volume_users().contains_key(name)
                && fs::remove_dir(volume.join("_data")).is_ok()
            {
                let _ = fs::remove_file(volume.join("volume.json"));
                let _ = fs::remove_dir(&volume);
            }
            return Err(Error::io(what())(error));
        }
        self.note_volume("create", name);
        Ok(true)
    }

    /// The volumes and bind mounts of another container. One of its volumes that has no name is from
    /// now on nobody's alone: its maker's end does not remove it.
    pub(crate) fn volumes_of(&self, from: &VolumesFrom) -> Result<Vec<Mount>, Error> {
        let id = self.find_container(&from.container)?;
        let mut mounts = self.config(&id)?.options.mounts;
        mounts.retain(|mount| mount.typ().as_deref() == Some("bind"));
        for mount in &mut mounts {
            if let Some(volume) = mount.source().as_deref().and_then(Path::parent)
                && volume.parent() == Some(&self.paths.volumes())
                && !trash::share_volume(volume)?
            {
                return Err(Error::conflict(format!(
                    "container {} has just been removed with its volumes",
                    id.short()
                )));
            }
            if let Some(read_only) = from.read_only {
                let mut options = mount.options().clone().unwrap_or_default();
                options.retain(|option| !matches!(option.as_str(), "ro" | "rw"));
                options.push(if read_only { "ro" } else { "rw" }.to_owned());
                mount.set_options(Some(options));
            }
        }
        Ok(mounts)
    }

    /// The specification's mount for one that was asked for; a volume without a name gets that of
    /// its container and place.
    pub(crate) fn mount(&self, asked: &Asked, of: &mut Mounting<'_>) -> Result<Mount, Error> {
        let mut options = asked.options.clone();
        let (kind, source) = match &asked.source {
            Source::Image(image) => return self.image_mount(image, &asked.target, options, of),
            // It is several mounts: `artifact_mounts`.
            Source::Artifact(artifact) => {
                return Err(Error::invalid(format!(
                    "artifact {} is no single mount",
                    artifact.source
                )));
            }
            Source::Tmpfs => ("tmpfs", PathBuf::from("tmpfs")),
            Source::Devpts => {
                options.extend(
                    ["nosuid", "noexec", "newinstance", "ptmxmode=0666"].map(str::to_owned),
                );
                ("devpts", PathBuf::from("devpts"))
            }
            Source::Bind(path) => {
                let path = PathBuf::from(path);
                if !path.exists() {
                    return Err(Error::invalid(format!(
                        "statfs {}: no such file or directory",
                        path.display()
                    )));
                }
                if !asked.overlay && !options.iter().any(|option| option == "bind") {
                    options.push("rbind".to_owned());
                }
                ("bind", path)
            }
            Source::Volume(given) => {
                let volume = match given {
                    Some(volume) => volume.clone(),
                    None => anonymous_name(of.id, &asked.target),
                };
                let directory = self.paths.volumes().join(&volume);
                let path = directory.join("_data");
                if given.is_some() {
                    self.volume(&volume)?;
                    self.share(&volume)?;
                } else {
                    let record = VolumeRecord {
                        anonymous: true,
                        ..VolumeRecord::default()
                    };
                    self.make_volume(&volume, &record, Durability::None)?;
                    of.anonymous.push(directory.clone());
                }
                options.push(format!("X-kelp.volume={}", plain(&directory)?));
                if given.is_some() || !of.volatile {
                    options.push("X-kelp.synced".to_owned());
                }
                options.extend(["nosuid", "nodev"].map(str::to_owned));
                if !asked.overlay {
                    options.push("rbind".to_owned());
                }
                if asked.copy != Some(false) && asked.subpath.is_none() {
                    options.push("tmpcopyup".to_owned());
                }
                ("bind", path)
            }
        };
        if asked.overlay {
            if asked.chown {
                options.push("U".to_owned());
            }
            let layer = match &asked.layer {
                None => Layer::Fresh,
                Some((upper, work)) => Layer::Kept(upper.into(), work.into()),
            };
            return self.overlay_mount(&asked.target, &[source], layer, options, of);
        }
        if let Some(place) = &asked.subpath {
            options.push(format!("{SUBDIRECTORY}{place}"));
        }
        if asked.source == Source::Tmpfs && asked.copy == Some(true) {
            options.push("tmpcopyup".to_owned());
        }
        if asked.chown {
            options.push("U".to_owned());
        }
        let propagates = options.iter().any(|option| {
            let plain = option.strip_prefix('r').unwrap_or(option);
            matches!(plain, "private" | "shared" | "slave" | "unbindable")
        });
        if kind == "bind" && !propagates {
            options.push("rprivate".to_owned());
        }
        let mut mount = Mount::default();
        mount
            .set_destination(PathBuf::from(&asked.target))
            .set_typ(Some(kind.to_owned()))
            .set_source(Some(source))
            .set_options(Some(options));
        Ok(mount)
    }
}

/// What a try to make a volume came to.
enum Made {
    New,
    /// There is one of this name.
    Exists,
    /// A collector took it for what a killed command has left.
    TakenAway,
}

/// Makes a volume's directory under another name, which is locked as long, and renames it; the new name is
/// the caller's to sync. One that is empty is no volume, and is replaced.
fn make_in(
    volumes: &Path,
    name: &str,
    record: &VolumeRecord,
    durability: Durability,
    fill: &dyn Fn(&Path) -> io::Result<()>,
) -> io::Result<Made> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let new = volumes.join(format!(".{}.{count}", std::process::id()));
    let make = |path: &Path| fs::DirBuilder::new().mode(0o755).create(path);
    match make(&new) {
        // A killed process of this number has left one.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Made::TakenAway),
        made => made?,
    }
    let Ok(Some(_lock)) = record::making(&new) else {
        return Ok(Made::TakenAway);
    };
    let data = new.join("_data");
    let filled = make(&data).and_then(|()| fill(&data)).and_then(|()| {
        if *record != VolumeRecord::default() {
            let path = new.join("volume.json");
            file::write_json(&path, record, durability).map_err(io::Error::other)?;
        }
        if durability == Durability::Synced {
            file::sync_directory(&new)?;
        }
        Ok(())
    });
    let made = match filled.map(|()| fs::rename(&new, volumes.join(name))) {
        Ok(Ok(())) => return Ok(Made::New),
        Ok(Err(error)) if is_taken_name(&error) => Ok(Made::Exists),
        Ok(Err(error)) | Err(error) if new.exists() => Err(error),
        _ => Ok(Made::TakenAway),
    };
    let _ = fs::remove_dir_all(&new);
    made
}

/// Whether rename(2) says that there is a directory of the name that is not empty.
fn is_taken_name(error: &io::Error) -> bool {
    let kinds = [
        io::ErrorKind::DirectoryNotEmpty,
        io::ErrorKind::AlreadyExists,
    ];
    kinds.contains(&error.kind())
}

/// 64 digits that only this container and place have.
fn anonymous_name(id: &ContainerId, target: &str) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in target.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    format!("{}{hash:016x}", &id.as_str()[..48])
}

/// Whether something is mounted at a place already, however the place is written.
pub(crate) fn is_taken(mounts: &[Mount], target: &str) -> bool {
    let target = clean(Path::new(target));
    let mut taken = mounts.iter().flat_map(places);
    taken.any(|place| clean(&place) == target)
}

/// Where a mount is, and where it may be instead if that is a directory.
pub(crate) fn places(mount: &Mount) -> impl Iterator<Item = PathBuf> {
    let destination = mount.destination().clone();
    let mut options = mount.options().iter().flatten();
    let within = options.find_map(|option| option.strip_prefix(WITHIN));
    let within = within.map(|name| destination.join(name));
    [destination].into_iter().chain(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_filled_before_it_has_its_name() {
        let volumes = tempfile::tempdir().unwrap();
        let volumes = volumes.path();
        let record = VolumeRecord::default();
        let make = |fill: &dyn Fn(&Path) -> io::Result<()>| {
            make_in(volumes, "v", &record, Durability::Synced, fill)
        };
        // What goes wrong with its files is no sign of another volume.
        let error = make(&|data| {
            fs::write(data.join("half"), "")?;
            Err(io::ErrorKind::AlreadyExists.into())
        });
        let error = error.err().map(|error| error.kind());
        assert_eq!(error, Some(io::ErrorKind::AlreadyExists));
        assert_eq!(fs::read_dir(volumes).unwrap().count(), 0);
        let made = make(&|data| {
            assert!(!volumes.join("v").exists());
            fs::write(data.join("file"), "x")
        });
        assert!(matches!(made, Ok(Made::New)));
        let file = volumes.join("v/_data/file");
        assert_eq!(fs::read_to_string(&file).unwrap(), "x");
        assert!(matches!(make(&|_| Ok(())), Ok(Made::Exists)));
        assert_eq!(fs::read_to_string(&file).unwrap(), "x");
        assert_eq!(fs::read_dir(volumes).unwrap().count(), 1);
    }
}
