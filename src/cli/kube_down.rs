//! `kelp kube down`: what a play has made is taken away.

use kelp_engine::pod::Service;
use kelp_engine::pod::remove::RemovePod;
use kelp_engine::{Engine, Kind};
use kelp_kube::{Documents, Sources};

use super::{kube_input, output};

/// Stop and remove the pods of Kubernetes YAML
#[derive(clap::Args)]
pub struct Args {
    /// Remove the volumes of its claims as well
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, value_name = "BOOL", action = clap::ArgAction::Set)]
    force: bool,
    /// Files, - for standard input, or URLs
    #[arg(required = true, value_name = "FILE|-|URL")]
    files: Vec<String>,
}

/// What was taken away.
#[derive(Debug, Default)]
pub struct Removed {
    pods: Vec<String>,
    volumes: Vec<String>,
    /// What could not be.
    errors: Vec<kelp_engine::Error>,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    // Config maps may have been in files that are not named here.
    let known = Sources {
        others: true,
        ..Sources::default()
    };
    let documents = kube_input::read(engine, &args.files, &known)?;
    let removed = take_down(engine, &documents, args.force);
    removed.tell()
}

/// Removes the pods of documents, and with `force` the volumes of their claims.
pub fn take_down(engine: &Engine, documents: &Documents, force: bool) -> Removed {
    let mut removed = Removed::default();
    let mut services: Vec<Service> = Vec::new();
    for pod in &documents.pods {
        let name = &pod.metadata.name;
        let found = engine.find_pod(name).and_then(|id| engine.pod(&id));
        let config = match found {
            // Not the beginning of another one's id.
            Ok(config) if config.name == *name => config,
            Ok(_) => continue,
            Err(error) if error.kind() == Kind::NotFound => continue,
            Err(error) => {
                removed.errors.push(error);
                continue;
            }
        };
        match engine.remove_pod(&config.id, &RemovePod::FORCE) {
            Ok(()) => removed.pods.push(config.id.to_string()),
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => removed.errors.push(error),
        }
        services.extend(config.service);
    }
    services.dedup();
    for service in &services {
        removed.errors.extend(engine.remove_service(service).err());
    }
    if force {
        let names: Vec<_> = documents
            .claims
            .iter()
            .map(|it| it.metadata.name.clone())
            .collect();
        removed.remove_volumes(engine, &names);
    }
    removed
}

impl Removed {
    /// Removes volumes that are there.
    pub fn remove_volumes(&mut self, engine: &Engine, names: &[String]) {
        for name in names {
            let removed = match engine.volume_named(name) {
                Ok(Some(volume)) => engine.remove_volume(&volume, None),
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            match removed {
                Ok(()) => self.volumes.push(name.clone()),
                Err(error) => self.errors.push(error),
            }
        }
    }

    /// Says what podman says; the exit code.
    pub fn tell(self) -> anyhow::Result<i32> {
        for (heading, list) in [
            ("Pods stopped:", &self.pods),
            ("Pods removed:", &self.pods),
            ("Secrets removed:", &Vec::new()),
            ("Volumes removed:", &self.volumes),
        ] {
            output::line(heading)?;
            for line in list {
                output::line(line)?;
            }
        }
        Ok(self.check())
    }

    /// Says what could not be taken away; the exit code.
    pub fn check(self) -> i32 {
        let code = if self.errors.is_empty() { 0 } else { 125 };
        for error in self.errors {
            output::error(super::exit::line(&error.into()));
        }
        code
    }
}
