//! Which pods a command is about, and doing something to each.

use std::path::{Path, PathBuf};

use kelp_engine::pod::signal::Failed;
use kelp_engine::{ContainerId, Engine, Error, Kind};

use super::{exit, output, selection};

/// Pods named on the command line, or chosen by a flag.
#[derive(clap::Args, Debug, Default)]
pub struct PodSelection {
    /// Use the pod that was created last
    #[arg(short, long, conflicts_with = "pods")]
    pub latest: bool,
    /// Names or IDs of pods
    #[arg(value_name = "POD")]
    pub pods: Vec<String>,
}

/// Pods whose ids are in files.
#[derive(clap::Args, Debug, Default)]
pub struct PodIdFiles {
    /// Read a pod's ID from this file
    #[arg(long = "pod-id-file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// The pods that were found, and why others were not.
#[derive(Debug, Default)]
pub struct ChosenPods {
    /// What to act on.
    pub ids: Vec<ContainerId>,
    /// The files that told of them.
    pub told: Vec<(PathBuf, ContainerId)>,
    /// What could not be found.
    pub errors: Vec<Error>,
}

impl PodSelection {
    /// Finds them. With `all`, every one; with `ignore`, one that is missing is no error.
    pub fn find(
        &self,
        engine: &Engine,
        files: &[PathBuf],
        all: bool,
        ignore: bool,
    ) -> anyhow::Result<ChosenPods> {
        let named = !self.pods.is_empty() || !files.is_empty();
        selection::check(all, self.latest, named, &[])?;
        if self.latest && !files.is_empty() {
            anyhow::bail!("--latest and --pod-id-file cannot be used together");
        }
        let mut chosen = ChosenPods::default();
        if all {
            chosen.ids = engine.pods().into_iter().map(|pod| pod.id).collect();
        }
        if self.latest {
            chosen.ids.push(engine.latest_pod()?);
        }
        let given = files.iter().filter_map(|path| match read_id(path) {
            // Its pod was never made, or is gone.
            Err(_) if ignore => None,
            read => Some(read.map(|id| (Some(path), id))),
        });
        let names = given
            .collect::<anyhow::Result<Vec<_>>>()?
            .into_iter()
            .chain(self.pods.iter().map(|name| (None, name.clone())));
        for (path, name) in names {
            match engine.find_pod(&name) {
                Ok(id) => {
                    let told = path.map(|path| (path.clone(), id.clone()));
                    chosen.told.extend(told);
                    if !chosen.ids.contains(&id) {
                        chosen.ids.push(id);
                    }
                }
                Err(error) if ignore && error.kind() == Kind::NotFound => {}
                Err(error) => chosen.errors.push(error),
            }
        }
        Ok(chosen)
    }
}

impl ChosenPods {
    /// Acts on one after the other and prints the ids of those with which all went well; the exit code.
    pub fn each(
        self,
        engine: &Engine,
        verb: &str,
        mut act: impl FnMut(&ContainerId) -> Result<Vec<Failed>, Error>,
    ) -> anyhow::Result<i32> {
        let mut is_well = self.errors.is_empty();
        let tell = |what: String, error: Error| {
            let line = exit::line(&engine.explain_space(error).into());
            output::error(format_args!("{what}{line}"));
        };
        for id in &self.ids {
            let failed = match act(id) {
                Ok(failed) => failed,
                Err(error) => {
                    is_well = false;
                    tell(String::new(), error);
                    continue;
                }
            };
            if failed.is_empty() {
                output::line(id)?;
            }
            for (container, error) in failed {
                is_well = false;
                tell(format!("{verb} container {container}: "), error);
            }
        }
        for error in self.errors {
            tell(String::new(), error);
        }
        Ok(if is_well { 0 } else { 125 })
    }
}

/// Reads the id of a pod.
pub fn read_id(path: &Path) -> anyhow::Result<String> {
    selection::read_id(path, "pod ID file")
}
