//! `kelp pod stop`, `kill`, `pause` and `unpause`.

use kelp_args::Signal;
use kelp_engine::pod::list::PodStatus;
use kelp_engine::{Engine, Status};

use super::pod_selection::{PodIdFiles, PodSelection};
use super::stop::{self, timeout};

/// Stop the containers of pods
#[derive(clap::Args)]
pub struct StopArgs {
    /// Stop every pod
    #[arg(short, long)]
    all: bool,
    /// It is no error if a pod is missing
    #[arg(short, long)]
    ignore: bool,
    /// Seconds until a container is killed; -1 for never
    #[arg(short, long, visible_alias = "timeout", allow_negative_numbers = true)]
    time: Option<i64>,
    #[command(flatten)]
    files: PodIdFiles,
    #[command(flatten)]
    selection: PodSelection,
}

/// Send a signal to the containers of pods
#[derive(clap::Args)]
pub struct KillArgs {
    /// Signal every pod
    #[arg(short, long)]
    all: bool,
    /// The signal, by name or number
    #[arg(short, long, default_value = "KILL")]
    signal: Signal,
    #[command(flatten)]
    selection: PodSelection,
}

/// Freeze the containers of pods
#[derive(clap::Args)]
pub struct PauseArgs {
    /// Pause every pod
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    selection: PodSelection,
}

/// Let the paused containers of pods go on
#[derive(clap::Args)]
pub struct UnpauseArgs {
    /// Unpause every pod
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    selection: PodSelection,
}

/// Runs `pod stop`; the exit code.
pub fn stop(engine: &Engine, args: &StopArgs) -> anyhow::Result<i32> {
    let selection = &args.selection;
    let chosen = selection.find(engine, &args.files.files, args.all, args.ignore)?;
    chosen.each(engine, "stopping", |id| {
        engine.stop_pod(id, args.time.map(timeout), |container, stopped| {
            stop::tell(engine, container, stopped);
        })
    })
}

/// Runs `pod kill`; the exit code.
pub fn kill(engine: &Engine, args: &KillArgs) -> anyhow::Result<i32> {
    let chosen = args.selection.find(engine, &[], args.all, false)?;
    chosen.each(engine, "killing", |id| {
        engine.kill_pod(id, args.signal.number())
    })
}

/// Runs `pod pause`; the exit code.
pub fn pause(engine: &Engine, args: &PauseArgs) -> anyhow::Result<i32> {
    let chosen = args.selection.find(engine, &[], args.all, false)?;
    chosen.each(engine, "pausing", |id| engine.pause_pod(id, true))
}

/// Runs `pod unpause`, which passes over pods of which nothing is paused, but for those that run in part: podman
/// names them as well; the exit code.
pub fn unpause(engine: &Engine, args: &UnpauseArgs) -> anyhow::Result<i32> {
    let mut chosen = args.selection.find(engine, &[], args.all, false)?;
    chosen.ids.retain(|id| {
        engine.inspect_pod(id).is_ok_and(|pod| {
            let mut containers = pod.containers.iter();
            pod.status == PodStatus::Degraded || containers.any(|it| it.status == Status::Paused)
        })
    });
    chosen.each(engine, "unpausing", |id| engine.pause_pod(id, false))
}
