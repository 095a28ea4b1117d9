//! Volumes: directories that outlive containers.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use kelp_args::VolumesFrom;
use kelp_args::mount::{Mount as Asked, Source};
use kelp_state::file::{self, Durability};
use kelp_state::{name, record, trash};
use oci_spec::runtime::Mount;

use crate::layered::{Layer, Mounting, SUBDIRECTORY, plain};
use crate::volumes::VolumeRecord;
use crate::{ContainerId, Engine, Error};

impl Engine {
    /// A volume's directory; made if it is missing.
    pub fn volume(&self, volume: &str) -> Result<PathBuf, Error> {
        name::validate(volume)?;
        let directory = self.paths.volumes().join(volume);
        let data = directory.join("_data");
        let is_new = !data.exists();
        match fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&data)
        {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(Error::io(format!("create volume {volume}"))(error))
            }
            _ => {
                if is_new {
                    self.note_volume("create", volume);
                }
                Ok(data)
            }
        }
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

    /// Makes a volume that goes with its container. It has its mark before it has its name: nobody would
    /// take it away otherwise if the maker is killed.
    fn anonymous_volume(&self, name: &str) -> Result<(), Error> {
        let what = || format!("create volume {name}");
        let volumes = self.paths.volumes();
        let new = volumes.join(format!(".{name}"));
        // Held until it has its name, so that a collector leaves it alone; one that was quicker has taken
        // the directory away. A hundred times is no collector.
        for attempt in 1.. {
            let made = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(new.join("_data"));
            let gave_up = attempt == 100;
            match made {
                Err(error) if gave_up || !was_taken_away(&error) => {
                    return Err(Error::io(what())(error));
                }
                Err(_) => continue,
                Ok(()) => {}
            }
            match record::making(&new) {
                Ok(Some(_lock)) => {
                    let record = VolumeRecord {
                        anonymous: true,
                        ..VolumeRecord::default()
                    };
                    let named =
                        file::write_json(&new.join("volume.json"), &record, Durability::None)
                            .map_err(Error::from)
                            .and_then(|()| {
                                fs::rename(&new, volumes.join(name)).map_err(Error::io(what()))
                            });
                    match named {
                        Err(error) if gave_up => return Err(error),
                        Err(_) => {}
                        Ok(()) => break,
                    }
                }
                Err(error) if gave_up => return Err(error.into()),
                Ok(None) if gave_up => {
                    return Err(Error::conflict(format!("{}: somebody else has it", what())));
                }
                // A collector deletes it.
                Ok(None) => record::wait_until_unlocked(&new),
                Err(_) => {}
            }
        }
        self.note_volume("create", name);
        Ok(())
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
                    self.anonymous_volume(&volume)?;
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

/// Whether a directory could not be made with its parents because somebody removed one of them meanwhile:
/// one that was there a moment ago is reported as existing and no directory.
fn was_taken_away(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists
    )
}

/// 64 digits that only this container and place have.
fn anonymous_name(id: &ContainerId, target: &str) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in target.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    format!("{}{hash:016x}", &id.as_str()[..48])
}

/// Whether something is mounted at a place already.
pub(crate) fn is_taken(mounts: &[Mount], target: &str) -> bool {
    mounts
        .iter()
        .any(|mount| mount.destination().as_path() == Path::new(target))
}
