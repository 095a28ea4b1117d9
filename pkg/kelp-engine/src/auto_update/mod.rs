//! `auto-update`: containers get the images that their names have come to stand for, by a restart of the unit of
//! systemd's that makes them.
//!
//! One unit after the other: what there is to do is decided for each of its containers ([`decide`]), images are
//! pulled, the unit is started again once, and then it has to be seen that it works ([`restart`]). Where it does not,
//! the names get their old images back, which were kept all the while ([`pin`]), the unit is started again with those,
//! and the image is remembered ([`failed`]), so that the next run does not do the same.

mod decide;
mod failed;
mod pin;
pub(crate) mod policy;
mod restart;
mod unit;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::PathBuf;

use kelp_image::platform::Platform;
use kelp_state::{ContainerId, Status};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

pub(crate) use decide::UnitState;
pub use policy::{Policy, UNIT};

use crate::container::Config;
use crate::container::config::UserMode;
use crate::events::{Event, append};
use crate::image::registry::AccessRequest;
use crate::{Engine, Error};
use unit::Run;

/// What an update may be told.
#[derive(Clone, Debug, Default)]
pub struct UpdateRequest {
    /// Whether it is only said what there is to update.
    pub dry_run: bool,
    /// Whether a unit that does not work with its new image gets the old one back.
    pub rollback: bool,
    /// How registries are reached; a container's label can name another file of credentials.
    pub access: AccessRequest,
}

/// What has come of all containers that ask for updates.
#[derive(Debug, Default)]
pub struct Updates {
    /// Those that run, by their units.
    pub containers: Vec<Update>,
    /// What a person may want to know, a line each: what was left as it is, and why something was taken back.
    pub told: Vec<String>,
    /// What went wrong. None of it keeps another unit's containers from their update.
    pub errors: Vec<Error>,
}

/// What has come of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The unit that it runs in.
    pub unit: String,
    /// Its id, from before the update.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// Its image, as whoever made it named that.
    pub image: String,
    /// How a new image is found.
    pub policy: Policy,
    /// What was done.
    pub updated: Updated,
}

/// Whether a container was updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updated {
    /// It was.
    Yes,
    /// There was nothing to do.
    No,
    /// It would be, if this was no dry run.
    Pending,
    /// Its unit did not work with the new image, and has the old one again.
    RolledBack,
    /// Something went wrong.
    Failed,
}

/// In podman's words.
impl fmt::Display for Updated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes => "true",
            Self::No => "false",
            Self::Pending => "pending",
            Self::RolledBack => "rolled back",
            Self::Failed => "failed",
        })
    }
}

/// A container that asks for updates.
#[derive(Debug)]
struct Candidate {
    unit: String,
    id: ContainerId,
    name: String,
    /// As whoever made it named it.
    image: String,
    image_id: String,
    policy: Policy,
    authfile: Option<PathBuf>,
    user: UserMode,
}

impl Candidate {
    /// One of a container that runs; `None` for one that asks for no updates.
    fn of(config: Config) -> Result<Option<Self>, Error> {
        let Some(policy) = Policy::of(&config.labels)? else {
            return Ok(None);
        };
        let Some(unit) = config.labels.get(UNIT) else {
            return Err(Error::invalid(format!(
                "it has no label {UNIT}: a unit of systemd's has to make it, with Environment={UNIT}=%n as Quadlet's \
                 have it"
            )));
        };
        Ok(Some(Self {
            unit: unit.clone(),
            id: config.id,
            name: config.name,
            image: config.options.image,
            image_id: config.image_id,
            policy,
            authfile: policy::authfile(&config.labels),
            user: config.options.namespaces.user,
        }))
    }

    fn update(&self, updated: Updated) -> Update {
        Update {
            unit: self.unit.clone(),
            id: self.id.clone(),
            name: self.name.clone(),
            image: self.image.clone(),
            policy: self.policy,
            updated,
        }
    }
}

impl Engine {
    /// Updates all containers that run, ask for it, and are made by a unit of systemd's.
    ///
    /// # Errors
    /// Where another update is at work; whatever else goes wrong is part of what is told.
    pub fn auto_update(&self, request: &UpdateRequest) -> Result<Updates, Error> {
        let _lock = if request.dry_run {
            None
        } else {
            Some(self.lock_updates()?)
        };
        let mut run = Run {
            engine: self,
            request,
            updates: Updates::default(),
            since: BTreeMap::new(),
        };
        let mut units: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
        for listed in self.list_containers(false) {
            if listed.status != Status::Running {
                continue;
            }
            let summary = listed.summary;
            let read = Config::read(&self.paths, &summary.id);
            let candidate = read.and_then(|config| config.map_or(Ok(None), Candidate::of));
            match candidate {
                Ok(Some(candidate)) => {
                    let unit = units.entry(candidate.unit.clone());
                    unit.or_default().push(candidate);
                }
                Ok(None) => {}
                Err(error) => run.updates.errors.push(about(&summary.name, &error)),
            }
        }
        if !units.is_empty() && !request.dry_run {
            append(&self.paths, &Event::now("system", "auto-update", "", ""));
        }
        for (unit, containers) in units {
            run.update(&unit, &containers);
        }
        Ok(run.updates)
    }

    /// Keeps two updates from starting the same unit again at the same time.
    fn lock_updates(&self) -> Result<File, Error> {
        let directory = self.updates();
        kelp_state::paths::make_private(&directory)?;
        let path = directory.join("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(Error::io(format!("open {}", path.display())))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file.into()),
            Err(Errno::WOULDBLOCK) => Err(Error::conflict(
                "another kelp auto-update is at work: wait for its end",
            )),
            Err(error) => Err(Error::io(format!("lock {}", path.display()))(error)),
        }
    }
}

/// The platform whose image a container of this one gets: the host's where that may be it, because an index may say
/// more of an image than the image itself.
fn platform_of(image: Platform) -> Platform {
    let host = Platform::host();
    if host.is_met_by(&image) { host } else { image }
}

/// An error with the container that it is about.
fn about(name: &str, error: &Error) -> Error {
    Error::new(
        error.kind(),
        format!("update container {name}: {}", error.line()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_it_is_told_in_podmans_words() {
        for (updated, word) in [
            (Updated::Yes, "true"),
            (Updated::No, "false"),
            (Updated::Pending, "pending"),
            (Updated::RolledBack, "rolled back"),
            (Updated::Failed, "failed"),
        ] {
            assert_eq!(updated.to_string(), word);
        }
    }

    #[test]
    fn an_image_of_the_host_is_looked_for_as_the_hosts() {
        let host = Platform::host();
        let plain = Platform {
            variant: None,
            ..host.clone()
        };
        assert_eq!(platform_of(plain), host);
        let other = Platform {
            architecture: "s390x".to_owned(),
            ..host
        };
        assert_eq!(platform_of(other.clone()), other);
    }
}
