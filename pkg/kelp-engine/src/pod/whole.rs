//! A pod with its volumes and containers, made in one go: all of it, or nothing.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use kelp_state::file::Durability;
use kelp_state::{ContainerId, name, record};

use crate::container::CreateOptions;
use crate::pod::remove::RemovePod;
use crate::pod::{Membership, PodOptions, Role, Said};
use crate::volumes::VolumeRecord;
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
}

impl Engine {
    /// Makes a pod, its volumes and its containers. Images have to be here.
    pub fn create_whole_pod(&self, whole: WholePod) -> Result<MadePod, Error> {
        let id = self.create_pod(whole.options)?;
        let made = self.fill_pod(&id, &whole.volumes, whole.members);
        match made {
            Ok(members) => Ok(MadePod { id, members }),
            Err(error) => {
                // What is said is why it could not be made.
                let _ = self.remove_pod(&id, &RemovePod::FORCE);
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
        if let Ok(found) = self.find_volume(&volume.name)
            && found.name == volume.name
            && let Some(owner) = found.record.labels.get(POD_LABEL)
            && owner
                .parse()
                .is_ok_and(|id| !record::is_finished(&self.paths.pod(&id)))
        {
            self.remove_volume(&found, None)?;
        }
        let labels = [(POD_LABEL.to_owned(), pod.to_string())];
        let record = VolumeRecord {
            labels: BTreeMap::from(labels),
            ..VolumeRecord::default()
        };
        if !self.make_volume(&volume.name, &record, Durability::Synced)? {
            return Err(Error::conflict(format!(
                "volume {} of the pod already exists: remove it first (kelp volume rm {})",
                volume.name, volume.name
            )));
        }
        let data = self.paths.volumes().join(&volume.name).join("_data");
        let what = || format!("fill volume {}", volume.name);
        match &volume.files {
            None => fs::set_permissions(&data, Permissions::from_mode(0o777)),
            Some(files) => files.iter().try_for_each(|file| write(&data, file)),
        }
        .map_err(Error::io(what()))
    }

    /// Removes the volumes that go with a pod, whose containers are gone.
    pub(crate) fn remove_pod_volumes(&self, pod: &ContainerId) -> Result<(), Error> {
        for volume in self.volumes() {
            if volume.record.labels.get(POD_LABEL).map(String::as_str) == Some(pod.as_str()) {
                // One that containers of others use stays, as theirs.
                self.discard_volume(&volume.name, Durability::Synced)?;
            }
        }
        Ok(())
    }
}

fn write(data: &Path, file: &VolumeFile) -> std::io::Result<()> {
    let path = data.join(&file.path);
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
        .open(&path)?;
    written.write_all(&file.content)?;
    // Whatever the umask is.
    fs::set_permissions(&path, Permissions::from_mode(file.mode))
}
