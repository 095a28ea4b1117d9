//! A container that another OCI runtime makes: the same life, with that runtime's verbs in it.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use kelp_runtime::cgroup::Cgroup;
use kelp_runtime::foreign::{Around, Foreign, Made, Stage, stage};
use kelp_runtime::launch::Guarded;
use kelp_runtime::plan::Plan;
use kelp_state::Record;
use kelp_sys::fd::wait_input;
use kelp_sys::process::wait_pidfd;
use oci_spec::runtime::Spec;
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open, set_child_subreaper};

use crate::error::Error;
use crate::guard::Guard;
use crate::launch::Launch;
use crate::life::Starter;
use crate::protocol::FailureKind;
use crate::start::{Ends, OwnCgroup, Ready, ends, set_up_network};

/// How long one of the runtime's processes may live on without the container.
const HELPERS_END: Duration = Duration::from_secs(2);

/// What another runtime keeps of a container. Dropping it has that removed.
#[derive(Debug)]
pub(crate) struct Kept {
    runtime: Foreign,
    stage: Stage,
    id: String,
    /// Takes the container along when the monitor is killed.
    guard: Option<Guard>,
    /// Processes that the runtime has beside the container's first one.
    helpers: Vec<OwnedFd>,
}

impl Kept {
    /// The container, as the runtime knows it.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The mount namespace in which the runtime is called, for others who call it.
    pub(crate) fn stage(&self) -> &Stage {
        &self.stage
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.guard = None;
        // runsc's end with the container, and its `delete` waits for that as long as nobody has waited for them.
        for helper in &self.helpers {
            if let Ok(true) = wait_input(helper.as_fd(), HELPERS_END) {
                let _ = wait_pidfd(helper.as_fd());
            }
        }
        // What it can't remove goes with the mount namespace, and the cgroup is kelp's to remove.
        let _ = self.stage.delete(&self.runtime, &self.id);
    }
}

/// A container that another runtime has created. It is gone with this, unless that one starts it.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) child: Guarded,
    kept: Kept,
    program: String,
}

impl Created {
    /// Has it started.
    pub(crate) fn start(self) -> Result<(Guarded, Kept), Error> {
        // What ends the process, where it fails, comes before what has the rest removed.
        let (kept, child) = (self.kept, self.child);
        kept.stage.start(&kept.runtime, &kept.id, &self.program)?;
        Ok((child, kept))
    }
}

/// Has it created, as [`crate::start::prepare`] does.
pub(crate) fn prepare(
    config: &Launch,
    (spec, plan): (&Spec, &Plan),
    runtime: &Foreign,
    record: &Record,
    cgroup: OwnCgroup,
    starter: Option<&Starter>,
) -> Result<Ready, Error> {
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
        helpers: Vec::new(),
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
    let others = children();
    let made = kept.stage.create(runtime, &kept.id, &program, around);
    set_child_subreaper(None).map_err(Error::io("be a sub-reaper no longer"))?;
    let Made { child, terminal } = made?;
    let child = Guarded::new(child);
    let helpers = children().into_iter();
    let helpers = helpers.filter(|pid| *pid != child.pid && !others.contains(pid));
    kept.helpers = helpers
        .filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        .collect();
    guard.watch(child.pidfd.as_fd());
    limit(config, runtime, cgroup.get())?;
    let streams = ends.streams(config, terminal, starter)?;
    let network = set_up_network(config, &child)?;
    let created = Created {
        child,
        kept,
        program,
    };
    Ok(Ready::new(created, network, streams, cgroup))
}

/// This process's children (proc_pid_task(5), "children"); none where the kernel does not tell.
fn children() -> Vec<Pid> {
    let list = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    let numbers = list.split_ascii_whitespace();
    numbers
        .filter_map(|number| Pid::from_raw(number.parse().ok()?))
        .collect()
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
