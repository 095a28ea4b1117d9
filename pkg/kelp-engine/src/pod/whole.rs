//! A pod with its volumes and containers, made in one go: all of it, or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use kelp_state::file::{self, Durability};
use kelp_state::{ContainerId, name, record};

use crate::container::CreateOptions;
use crate::pod::place::{HostPlace, MadePlaces};
use crate::pod::remove::RemovePod;
use crate::pod::{Membership, PodOptions, Role, Said};
use crate::volumes::{Volume, VolumeRecord};
use crate::{Engine, Error};

/// The label of a volume that goes with a pod: the pod's id.
pub const POD_LABEL: &str = "io.kelp.pod";

/// A request for a pod and all that is in it.
#[derive(Clone, Debug, Default)]
pub struct WholePod {
    /// The pod.
    pub options: PodOptions,
    /// Volumes that its containers name, and that go with it.
    pub volumes: Vec<PodVolume>,
    /// Places of the host that its containers are given.
    pub places: Vec<HostPlace>,
    /// Its containers.
    pub members: Vec<Member>,
}

/// A container of such a pod.
#[derive(Clone, Debug)]
pub struct Member {
    /// What it is there.
    pub role: Role,
    /// What it says by itself, instead of having it from the pod.
    pub said: Vec<Said>,
    /// What it is to be.
    pub options: CreateOptions,
}

/// A volume of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodVolume {
    /// Its name.
    pub name: String,
    /// What is in it from the beginning; nothing for an empty one, in which everybody may write.
    pub files: Option<Vec<VolumeFile>>,
}

/// A file in such a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeFile {
    /// Where: relative, and not upwards.
    pub path: String,
    /// Its mode.
    pub mode: u32,
    /// What is in it.
    pub content: Vec<u8>,
}

/// A pod that was made.
#[derive(Clone, Debug)]
pub struct MadePod {
    /// Its id.
    pub id: ContainerId,
    /// Its containers, without the infra container, in the order of the request.
    pub members: Vec<ContainerId>,
    /// What was made at places of the host; it stays, unless its maker finds that all of it has failed.
    pub places: MadePlaces,
}

impl Engine {
    /// Makes a pod, its volumes and its containers. Images have to be here.
    pub fn create_whole_pod(&self, whole: WholePod) -> Result<MadePod, Error> {
        let id = self.create_pod(whole.options)?;
        let mut places = MadePlaces::default();
        let mut asked = whole.places.iter();
        let made = asked
            .try_for_each(|place| places.settle(place))
            .and_then(|()| self.fill_pod(&id, &whole.volumes, whole.members));
        match made {
            Ok(members) => Ok(MadePod {
                id,
                members,
                places,
            }),
            Err(error) => {
                // What is said is why it could not be made.
                let _ = self.remove_pod(&id, &RemovePod::FORCE);
                places.take_away();
                Err(error)
            }
        }
    }

    fn fill_pod(
        &self,
        pod: &ContainerId,
        volumes: &[PodVolume],
        members: Vec<Member>,
    ) -> Result<Vec<ContainerId>, Error> {
        for volume in volumes {
            self.make_pod_volume(pod, volume)?;
        }
        let mut ids = Vec::new();
        for mut member in members {
            member.options.pod = Some(Membership {
                role: member.role,
                said: member.said,
                ..Membership::of(pod.as_str())
            });
            ids.push(self.create_container(member.options)?);
        }
        Ok(ids)
    }

    fn make_pod_volume(&self, pod: &ContainerId, volume: &PodVolume) -> Result<(), Error> {
        name::validate(&volume.name)?;
        // What a killed command has left of a pod of the same name.
        if let Some(found) = self.volume_named(&volume.name)?
            && let Some(owner) = found.record.labels.get(POD_LABEL)
            && owner
                .parse()
                .is_ok_and(|id| record::is_abandoned(&self.paths.pod(&id)))
        {
            self.remove_volume(&found, None)?;
        }
        let labels = [(POD_LABEL.to_owned(), pod.to_string())];
        let record = VolumeRecord {
            labels: BTreeMap::from(labels),
            ..VolumeRecord::default()
        };
        let fill = |data: &Path| fill(data, volume.files.as_deref());
        if self.make_filled_volume(&volume.name, &record, Durability::Synced, &fill)? {
            return Ok(());
        }
        Err(Error::conflict(format!(
            "volume {} of the pod already exists: remove it first (kelp volume rm {})",
            volume.name, volume.name
        )))
    }

    /// Removes the volumes that go with a pod, whose containers are gone.
    pub(crate) fn remove_pod_volumes(&self, pod: &ContainerId) -> Result<(), Error> {
        for volume in self.volumes() {
            if volume.record.labels.get(POD_LABEL).map(String::as_str) == Some(pod.as_str()) {
                let users = self.discard_volume(&volume.name, Durability::Synced)?;
                if !users.is_empty() {
                    self.leave_volume(volume)?;
                }
            }
        }
        Ok(())
    }

    /// Leaves a volume to the containers of others that use it: no pod has it any more.
    fn leave_volume(&self, mut volume: Volume) -> Result<(), Error> {
        volume.record.labels.remove(POD_LABEL);
        let record = self.paths.volumes().join(&volume.name).join("volume.json");
        match file::write_json(&record, &volume.record, Durability::Synced) {
            // They may have removed it meanwhile.
            Err(_) if !volume.data.exists() => Ok(()),
            written => Ok(written?),
        }
    }
}

/// Puts what a volume begins with into its directory, and has it on disk.
fn fill(data: &Path, files: Option<&[VolumeFile]>) -> io::Result<()> {
    let mut directories = BTreeSet::from([data.to_owned()]);
    match files {
        None => fs::set_permissions(data, Permissions::from_mode(0o777))?,
        Some(files) => {
            for file in files {
                let path = data.join(&file.path);
                let above = path.ancestors().skip(1);
                directories.extend(above.take_while(|it| *it != data).map(Path::to_owned));
                write(&path, file)?;
            }
        }
    }
    directories
        .iter()
        .try_for_each(|directory| file::sync_directory(directory))
}

fn write(path: &Path, file: &VolumeFile) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)?;
    }
    let mut options = OpenOptions::new();
    let mut written = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    written.write_all(&file.content)?;
    // Whatever the umask is.
    written.set_permissions(Permissions::from_mode(file.mode))?;
    written.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_volume_have_their_places_and_modes() {
        let data = tempfile::tempdir().unwrap();
        let data = data.path();
        let file = |path: &str, mode| VolumeFile {
            path: path.to_owned(),
            mode,
            content: path.as_bytes().to_vec(),
        };
        let files = [file("a/./b/c", 0o640), file("a/d", 0o400), file("e", 0)];
        fill(data, Some(&files)).unwrap();
        for file in &files {
            let metadata = fs::metadata(data.join(&file.path)).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o7777, file.mode);
            assert_eq!(metadata.len(), file.content.len() as u64, "{file:?}");
        }
        fill(data, None).unwrap();
        let metadata = fs::metadata(data).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o777);
    }
}
