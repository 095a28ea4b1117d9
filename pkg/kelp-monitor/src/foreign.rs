//! A container that another OCI runtime makes: the same life, with that runtime's verbs in it.

use std::fs;
use std::os::fd::AsFd;

use kelp_runtime::cgroup::Cgroup;
use kelp_runtime::foreign::{Around, Foreign, Made, Stage, stage};
use kelp_runtime::launch::Guarded;
use kelp_runtime::plan::Plan;
use kelp_state::Record;
use oci_spec::runtime::Spec;
use rustix::process::{getpid, set_child_subreaper};

use crate::error::Error;
use crate::guard::Guard;
use crate::launch::Launch;
use crate::life::Starter;
use crate::protocol::FailureKind;
use crate::start::{Ends, OwnCgroup, Running, ends, surround};

/// What another runtime keeps of a container. Dropping it has that removed.
#[derive(Debug)]
pub(crate) struct Kept {
    runtime: Foreign,
    stage: Stage,
    id: String,
    /// Takes the container along when the monitor is killed.
    guard: Option<Guard>,
}

impl Kept {
    /// The mount namespace in which the runtime is called, for others who call it.
    pub(crate) fn stage(&self) -> &Stage {
        &self.stage
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.guard = None;
        // What it can't remove goes with the mount namespace, and the cgroup is kelp's to remove.
        let _ = self.stage.delete(&self.runtime, &self.id);
    }
}

/// Starts it as [`crate::start::start`] does.
pub(crate) fn start(
    config: &Launch,
    (spec, plan): (&Spec, &Plan),
    runtime: &Foreign,
    record: &Record,
    cgroup: OwnCgroup,
    starter: Option<&Starter>,
) -> Result<Running, Error> {
    let place = match cgroup.get() {
        Some(cgroup) => make_way(cgroup, runtime, config.unmapped_user)?,
        None => Place::Callers,
    };
    let path = match &place {
        Place::Runtimes(path) => Some(path.as_str()),
        Place::Callers | Place::Made(_) => None,
    };
    let mut kept = Kept {
        stage: stage(runtime, spec, plan, path)?,
        runtime: runtime.clone(),
        id: record.id.to_string(),
        guard: None,
    };
    let guard = kept.guard.insert(Guard::start(cgroup.get())?);
    let program = plan.process().program();
    let ends = ends(config)?;
    let around = Around {
        stdio: ends.stdio(),
        complaints: ends.complaints(),
        terminal: matches!(ends, Ends::Terminal),
        cgroup: match &place {
            Place::Made(cgroup) => Some(cgroup.as_fd()),
            Place::Callers | Place::Runtimes(_) => None,
        },
        ..Around::default()
    };
    // The container's first process becomes a child of the monitor's when the runtime ends. What is left
    // behind later, by a container in the host's pid namespace, is not for the monitor to reap.
    set_child_subreaper(Some(getpid())).map_err(Error::io("become a sub-reaper"))?;
    let made = kept.stage.create(runtime, &kept.id, &program, around);
    set_child_subreaper(None).map_err(Error::io("be a sub-reaper no longer"))?;
    let Made { child, terminal } = made?;
    let child = Guarded::new(child);
    guard.watch(child.pidfd.as_fd());
    limit(config, runtime, cgroup.get())?;
    let streams = ends.streams(config, terminal, starter)?;
    let network = surround(config, &child, starter)?;
    kept.stage.start(runtime, &kept.id, &program)?;
    Ok(Running {
        child,
        cgroup,
        outputs: streams.outputs,
        input: streams.input,
        terminal: streams.terminal,
        network,
        kept: Some(kept),
    })
}

/// How the container gets into its cgroup.
enum Place {
    /// It stays in that of the runtime's caller.
    Callers,
    /// The runtime makes it, by this path.
    Runtimes(String),
    /// The runtime is called in it.
    Made(Cgroup),
}

/// Takes back the cgroup that has been made to find out that it can be, with its limits: some runtimes
/// make it, and a limit of the container's is none of those who set it up.
fn make_way(cgroup: &Cgroup, runtime: &Foreign, unmapped_user: bool) -> Result<Place, Error> {
    let path = cgroup.path();
    let what = |verb: &str| format!("{verb} cgroup {}", path.display());
    fs::remove_dir(path).map_err(Error::io(what("remove")))?;
    let relative = cgroup.relative_path();
    // Where the cgroup is only the user's to make, the container stays in the one that it is called in: a
    // runtime that is told of none goes on without.
    if !runtime.inherits_cgroup() && !unmapped_user {
        return Ok(Place::Runtimes(relative));
    }
    fs::create_dir(path).map_err(Error::io(what("create")))?;
    let made = Cgroup::open(&relative).map_err(Error::io(what("open")))?;
    Ok(Place::Made(made))
}

/// Puts the limits into the cgroup that the runtime has made; before the program runs.
fn limit(config: &Launch, runtime: &Foreign, cgroup: Option<&Cgroup>) -> Result<(), Error> {
    let Some(cgroup) = cgroup.filter(|_| !config.resources.is_empty()) else {
        return Ok(());
    };
    if !cgroup.path().is_dir() {
        return Err(Error::Failed {
            kind: FailureKind::Setup,
            text: format!(
                "{} can't be set: the runtime {} has not made the cgroup {}",
                config.resources[0].option,
                runtime.name,
                cgroup.path().display()
            ),
        });
    }
    Ok(cgroup.apply(&config.resources)?)
}
