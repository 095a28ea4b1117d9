//! Where a container's cgroup is: chosen, and told before it is made.
//!
//! A monitor that is killed between making the cgroup and saying in run.json where it is would leave
//! one that nobody finds, and that is in the way of the next start. So `place` in the runtime
//! directory names the cgroup below which it is.

use std::fs;
use std::path::{Path, PathBuf};

use kelp_runtime::cgroup::{self, Cgroup, Parent};
use kelp_state::Record;
use kelp_systemd::{Job, Manager, Scope};

use crate::error::Error;
use crate::launch::{CgroupMode, Launch};

const FILE: &str = "place";

/// Seconds that the monitor has beyond those of the container before systemd kills both.
const SLACK: u64 = 5;

/// The name of the container's cgroup in its scope.
const IN_SCOPE: &str = "container";

/// A container's cgroup to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) parent: Parent,
    pub(crate) name: String,
}

/// A choice that may have to be waited for.
#[derive(Debug)]
pub(crate) enum Choice {
    /// No cgroup.
    None,
    /// This one.
    Place(Place),
    /// One in a scope that systemd is making.
    Scope(Result<Job, kelp_systemd::Error>),
}

impl Choice {
    /// Chooses, and asks systemd for a scope where it comes to that: the answer takes a while, in
    /// which there is other work to do.
    pub(crate) fn begin(record: &Record, launch: &Launch, runtime: &Path) -> Result<Self, Error> {
        let wanted = &launch.cgroups;
        let is_slice = Path::new(&wanted.parent)
            .extension()
            .is_some_and(|kind| kind == "slice");
        let place = |parent| {
            Self::Place(Place {
                parent,
                name: name(record),
            })
        };
        let refuse = |text: &str| {
            Err(Error::Failed {
                kind: crate::protocol::FailureKind::Setup,
                text: text.to_owned(),
            })
        };
        match wanted.mode {
            CgroupMode::Disabled if launch.extras.system => {
                return refuse(
                    "--cgroups=disabled: systemd in the container needs a cgroup; leave that out, or \
                     run it as any other program with --systemd=false",
                );
            }
            CgroupMode::Disabled if launch.resources.is_empty() => return Ok(Self::None),
            CgroupMode::Disabled => {
                return refuse(
                    "--cgroups=disabled: limits need a cgroup; leave out one or the other",
                );
            }
            CgroupMode::Cgroupfs if is_slice => {
                return refuse("--cgroup-parent: a slice needs --cgroup-manager=systemd");
            }
            CgroupMode::Split => {
                return match delegated_unit(runtime) {
                    Some(unit) => Ok(place(Parent::At(unit))),
                    None => refuse(
                        "--cgroups=split needs a unit with Delegate=yes around kelp: put that into \
                         the unit, or leave the flag out",
                    ),
                };
            }
            CgroupMode::Enabled if wanted.parent.is_empty() => {
                if let Some(unit) = delegated_unit(runtime) {
                    return Ok(place(Parent::At(unit)));
                }
            }
            _ => {}
        }
        if !wanted.parent.is_empty() && !is_slice {
            return Ok(place(Parent::At(below(&wanted.parent, runtime))));
        }
        if wanted.mode == CgroupMode::Cgroupfs {
            return Ok(place(Parent::Nearest));
        }
        match begin_scope(record, launch, runtime) {
            // No systemd, or not one of this user.
            Err(kelp_systemd::Error::Io(_)) if wanted.mode == CgroupMode::Enabled && !is_slice => {
                Ok(place(Parent::Nearest))
            }
            Err(error) if wanted.mode == CgroupMode::Systemd || is_slice => Err(error.into()),
            begun => Ok(Self::Scope(begun)),
        }
    }

    /// Waits for the scope, and notes where it is. Without limits a scope that can't be had is no
    /// obstacle.
    pub(crate) fn finish(
        self,
        record: &Record,
        launch: &Launch,
        runtime: &Path,
    ) -> Result<Option<Place>, Error> {
        let job = match self {
            Self::None => return Ok(None),
            Self::Place(place) => {
                match &place.parent {
                    Parent::At(path) => note(record, path)?,
                    Parent::Nearest => note(record, &cgroup::own().unwrap_or_default())?,
                }
                return Ok(Some(place));
            }
            Self::Scope(job) => job,
        };
        match job.and_then(|job| wait_for(job, record, launch, runtime)) {
            Ok(()) => {}
            Err(error) if launch.cgroups.mode == CgroupMode::Systemd => return Err(error.into()),
            Err(error) if !launch.resources.is_empty() || launch.extras.system => {
                return Err(error.into());
            }
            Err(_) => return Ok(None),
        }
        let own = cgroup::own().unwrap_or_default();
        note(record, &own)?;
        Ok(Some(Place {
            parent: Parent::At(own),
            name: IN_SCOPE.to_owned(),
        }))
    }
}

/// A parent's path below the mount. One that does not begin there begins in what may be divided: in the
/// unit around kelp, or in the nearest cgroup.
fn below(parent: &str, runtime: &Path) -> String {
    if parent.starts_with('/') {
        return parent.to_owned();
    }
    let base = delegated_unit(runtime).or_else(cgroup::nearest);
    format!("{}/{parent}", base.unwrap_or_default())
}

/// The cgroup of the unit around this process, where that is delegated to the user. For a unit of the
/// system's a mark on the cgroup says so; for one of the user's the user's manager does.
fn delegated_unit(runtime: &Path) -> Option<String> {
    if let Some(unit) = cgroup::delegated_unit() {
        return Some(unit);
    }
    let own = PathBuf::from(cgroup::own()?);
    let units = own.ancestors().take_while(|path| !is_manager(path));
    let mut units = units.filter(|path| {
        let kind = path.extension().unwrap_or_default();
        kind == "service" || kind == "scope"
    });
    let unit = units.next()?;
    if !unit.ancestors().any(is_manager) {
        return None;
    }
    let mut manager = Manager::connect(runtime).ok()?;
    let delegates = manager.delegates(unit.file_name()?.to_str()?).ok()?;
    delegates.then(|| unit.to_string_lossy().into_owned())
}

/// Whether a cgroup is that of a user's manager.
fn is_manager(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().starts_with("user@")
}

fn begin_scope(
    record: &Record,
    launch: &Launch,
    runtime: &Path,
) -> Result<Job, kelp_systemd::Error> {
    let name = scope_name(record);
    let description = format!("container {} of kelp", launch.name);
    Manager::connect(runtime)?.start_scope(&Scope {
        name: &name,
        description: &description,
        slice: &launch.cgroups.parent,
        pid: std::process::id(),
        stop_timeout: launch
            .stop_timeout
            .saturating_add(SLACK)
            .saturating_mul(1_000_000),
    })
}

/// Waits for a scope; if one of that name is left from the last start, that is stopped first.
fn wait_for(
    job: Job,
    record: &Record,
    launch: &Launch,
    runtime: &Path,
) -> Result<(), kelp_systemd::Error> {
    match job.wait() {
        Err(error) if error.is_unit_exists() => {}
        result => return result,
    }
    Manager::connect(runtime)?.stop(&scope_name(record))?;
    begin_scope(record, launch, runtime)?.wait()
}

fn name(record: &Record) -> String {
    format!("kelp-{}", record.id)
}

fn scope_name(record: &Record) -> String {
    format!("kelp-{}.scope", record.id)
}

/// Notes the cgroup below which the container's is, or below one of the cgroups above it.
fn note(record: &Record, below: &str) -> Result<(), Error> {
    let path = record.runtime.join(FILE);
    // No rename: who reads half of it finds no cgroup there, and none has been made yet.
    fs::write(&path, below).map_err(Error::io(format!("write {}", path.display())))
}

/// Kills and removes a cgroup that a killed monitor has left. The caller knows that no monitor lives,
/// or is the one that does.
pub fn clear(record: &Record) {
    if let Ok(own) = fs::read_to_string(record.runtime.join(FILE)) {
        clear_above(record, Path::new(&own));
    }
}

/// The same where the runtime directory is gone, which would say where it is: beside the caller's or the
/// cgroups above that, as far as can be known.
pub fn clear_beside(record: &Record) {
    if let Some(own) = cgroup::own() {
        clear_above(record, Path::new(&own));
    }
}

fn clear_above(record: &Record, own: &Path) {
    let (name, scope) = (name(record), scope_name(record));
    for place in own.ancestors() {
        // systemd removes a scope when its last process is gone.
        let left = if place.ends_with(&scope) {
            place.join(IN_SCOPE)
        } else {
            place.join(&name)
        };
        if let Ok(cgroup) = Cgroup::open(&left.to_string_lossy()) {
            let _ = cgroup.kill();
            cgroup.remove();
        }
    }
}
