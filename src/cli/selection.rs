//! Which containers a command is about, and doing something to each.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kelp_engine::{ContainerId, Engine, Error, Kind};

use super::{container_filter, exit, output};

/// Containers named on the command line, or chosen by a flag.
#[derive(clap::Args, Debug, Default)]
pub struct Selection {
    /// Use the container that was created last
    #[arg(short, long, conflicts_with = "containers")]
    pub latest: bool,
    /// Read a container's ID from this file
    #[arg(long, value_name = "FILE")]
    pub cidfile: Vec<PathBuf>,
    /// Names or IDs of containers
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// A container, and what the user called it.
#[derive(Debug)]
pub struct Target {
    /// What is printed when it is done.
    pub given: String,
    /// Its id.
    pub id: ContainerId,
}

/// The containers that were found, and why others were not.
#[derive(Debug, Default)]
pub struct Chosen {
    /// What to act on.
    pub targets: Vec<Target>,
    /// What could not be found.
    pub errors: Vec<Error>,
}

impl Selection {
    /// Finds them. With `all`, those for which `is_meant`; with `ignore`, one that is missing is no
    /// error.
    pub fn find(
        &self,
        engine: &Engine,
        all: bool,
        ignore: bool,
        is_meant: impl Fn(&ContainerId) -> bool,
    ) -> anyhow::Result<Chosen> {
        self.find_filtered(engine, &[], all, ignore, is_meant)
    }

    /// The same, and with filters those that fit them.
    pub fn find_filtered(
        &self,
        engine: &Engine,
        filters: &[String],
        all: bool,
        ignore: bool,
        is_meant: impl Fn(&ContainerId) -> bool,
    ) -> anyhow::Result<Chosen> {
        let named = !self.containers.is_empty() || !self.cidfile.is_empty();
        check(all, self.latest, named, filters)?;
        let mut chosen = Chosen::default();
        if !filters.is_empty() {
            let mut list = engine.list_containers(true);
            let filters = container_filter::parse(filters)?;
            container_filter::retain(engine, &filters, &mut list, SystemTime::now())?;
            let ids = list.into_iter().map(|listed| listed.summary.id);
            let targets = ids.filter(is_meant).map(|id| Target {
                given: id.to_string(),
                id,
            });
            chosen.targets.extend(targets);
        } else if all {
            let ids = engine.containers().into_iter().map(|config| config.id);
            let targets = ids.filter(is_meant).map(|id| Target {
                given: id.to_string(),
                id,
            });
            chosen.targets.extend(targets);
        }
        if self.latest {
            let id = engine.latest_container()?;
            chosen.targets.push(Target {
                given: id.to_string(),
                id,
            });
        }
        let files = self
            .cidfile
            .iter()
            .filter_map(|path| match read_id(path, "CIDFile") {
                Err(_) if ignore => None,
                result => Some(result),
            });
        let names = files
            .collect::<anyhow::Result<Vec<_>>>()?
            .into_iter()
            .chain(self.containers.iter().cloned());
        for given in names {
            match engine.find_container(&given) {
                Ok(id) => chosen.targets.push(Target { given, id }),
                Err(error) if ignore && error.kind() == Kind::NotFound => {}
                Err(error) => chosen.errors.push(error),
            }
        }
        Ok(chosen)
    }
}

impl Chosen {
    /// Acts on one after the other and prints what was done.
    pub fn each(
        self,
        mut act: impl FnMut(&ContainerId) -> Result<(), Error>,
    ) -> Result<Vec<Error>, output::Failure> {
        let mut errors = self.errors;
        for target in self.targets {
            match act(&target.id) {
                Ok(()) => output::line(&target.given)?,
                Err(error) => errors.push(error),
            }
        }
        Ok(errors)
    }

    /// Adds the containers that need these, and those that need them.
    pub fn add_dependents(&mut self, engine: &Engine) {
        let mut next = 0;
        while let Some(target) = self.targets.get(next) {
            let dependents = engine.dependents(&target.id);
            for id in dependents {
                if !self.targets.iter().any(|target| target.id == id) {
                    let given = id.to_string();
                    self.targets.push(Target { given, id });
                }
            }
            next += 1;
        }
    }

    /// Acts on all at the same time, since each may take its seconds, but on those first that need others of them,
    /// and prints what was done.
    pub fn each_at_once(
        self,
        engine: &Engine,
        act: impl Fn(&ContainerId) -> Result<(), Error> + Sync,
    ) -> Result<Vec<Error>, output::Failure> {
        let mut errors = self.errors;
        let mut left = self.targets;
        let ids: Vec<_> = left.iter().map(|target| target.id.clone()).collect();
        let mut printed = Ok(());
        engine.each_dependent_first(&ids, act, |id, done| {
            // One that was named twice is acted on twice.
            let at = left.iter().position(|target| target.id == *id);
            let given = at.map_or_else(|| id.to_string(), |at| left.remove(at).given);
            match done {
                Ok(()) if printed.is_ok() => printed = output::line(given),
                Ok(()) => {}
                Err(error) => errors.push(error),
            }
        });
        match printed {
            Ok(()) => Ok(errors),
            Err(failure) => {
                report(engine, errors);
                Err(failure)
            }
        }
    }
}

/// Prints all errors; the exit code.
pub fn report(engine: &Engine, errors: Vec<Error>) -> i32 {
    let code = i32::from(!errors.is_empty()) * 125;
    for error in errors {
        output::error(exit::line(&engine.explain_space(error).into()));
    }
    code
}

/// Refuses what names nothing, or says twice what is meant.
pub fn check(all: bool, latest: bool, named: bool, filters: &[String]) -> anyhow::Result<()> {
    if all && latest {
        anyhow::bail!("--all and --latest cannot be used together");
    }
    if all && named {
        anyhow::bail!("no arguments are needed with --all");
    }
    if !filters.is_empty() && (named || latest) {
        anyhow::bail!("--filter leaves no room for names or --latest");
    }
    if !all && !latest && !named && filters.is_empty() {
        anyhow::bail!("you must provide at least one name or id");
    }
    Ok(())
}

/// Reads the id in a file, which errors call `what`.
pub fn read_id(path: &Path, what: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string(path).map_err(|error| {
        let cause = Error::io(format!("reading {what} {}", path.display()))(error);
        anyhow::Error::from(cause)
    })?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
