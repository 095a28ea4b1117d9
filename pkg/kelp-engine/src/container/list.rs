//! The list of containers: read-only, cheap, and never waiting for a container's lock.
//!
//! What was started and has not ended has a link in its record ([`Record::had_begun`]): of what does not
//! run, a list of what runs reads that link and nothing else; and a record is read only for the few
//! fields that a list shows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use kelp_args::RestartPolicy;
use kelp_network::{Mode, PublishedPort};
use kelp_state::{ContainerId, ExitRecord, Health, Record, RunRecord, Status, file, record};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::container::find::{KILLED, is_lost};
use crate::pod::Membership;
use crate::{Engine, Error};

/// What a list shows of a container's `config.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Summary {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: SystemTime,
    /// The image's full name.
    pub image_name: String,
    /// The image's id; empty for a directory.
    pub image_id: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Labels of image and request.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Ports that it serves, by image and request.
    #[serde(default)]
    pub exposed: Vec<String>,
    /// Its health checks, of which a list tells no more than that there are some.
    #[serde(default)]
    pub health: Option<IgnoredAny>,
    /// What was asked for.
    #[serde(default)]
    pub options: SummaryOptions,
}

/// What a list shows of a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SummaryOptions {
    /// Whether it is removed once it has ended.
    pub remove: bool,
    /// Published ports.
    pub publish: Vec<PublishedPort>,
    /// Bind mounts, volumes and tmpfs.
    pub mounts: Vec<SummaryMount>,
    /// The ids of images that are mounted.
    pub mounted_images: Vec<String>,
    /// Namespaces.
    pub namespaces: SummaryNamespaces,
    /// What happens when it has ended.
    pub restart: RestartPolicy,
    /// The pod that it is in.
    pub pod: Option<Membership>,
    /// A file with its id.
    pub cid_file: Option<PathBuf>,
}

/// A mount, as far as a list shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct SummaryMount {
    /// Where it is in the container.
    pub destination: PathBuf,
    /// What is there.
    #[serde(default)]
    pub source: Option<PathBuf>,
}

/// The network, as far as a list shows it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SummaryNamespaces {
    /// Which one; none is known of a container that was never made whole.
    pub network: Option<Mode>,
}

/// A container in the list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What it is.
    pub summary: Summary,
    /// What it does.
    pub status: Status,
    /// What runs, of one that does.
    pub run: Option<RunRecord>,
    /// How it ended last, of one that does not run.
    pub exit: Option<ExitRecord>,
    /// Whether it works, of one that has health checks.
    pub health: Option<Health>,
}

impl Engine {
    /// Containers, the oldest first: every one, or those that run. Those that are being made or
    /// removed are left out, and those whose record is damaged: one of them hides no other.
    pub fn list_containers(&self, all: bool) -> Vec<Listed> {
        let records = Record::all(&self.paths);
        let mut list: Vec<_> = records
            .iter()
            .filter(|record| all || record.had_begun)
            .filter_map(|record| self.listed(record).ok().flatten())
            .filter(|listed| all || matches!(listed.status, Status::Running | Status::Paused))
            .collect();
        list.sort_by(|one, other| {
            let (one, other) = (&one.summary, &other.summary);
            (one.created, &one.id).cmp(&(other.created, &other.id))
        });
        list
    }

    /// One container as a list shows it. A container whose monitor was killed is settled first; while
    /// somebody works on it, it is shown as it will be.
    pub(crate) fn listed(&self, record: &Record) -> Result<Option<Listed>, Error> {
        let mut run = if record.had_begun {
            record.run()?
        } else {
            None
        };
        let lost = record.had_begun && is_lost(record, run.as_ref());
        let mut last = None;
        if lost {
            self.try_settle(record)?;
            // Or it was settled, and started again, by who was quicker.
            last = record.run()?;
            run = last.clone().filter(|_| record.is_alive());
        }
        let unsettled = match last {
            Some(last) if run.is_none() => Some(ExitRecord {
                code: KILLED,
                oom_killed: last.oom_killed,
                started: Some(last.started),
                finished: SystemTime::now(),
                error: "the container's monitor was killed".to_owned(),
                stopped: false,
                interrupted: last.boot_id != record::boot_id(),
                restarts: last.restarts,
            }),
            _ => None,
        };
        let is_unsettled = unsettled.is_some();
        let exit = match (&run, unsettled) {
            (Some(_), _) => None,
            (None, Some(exit)) => Some(exit),
            (None, None) => record.exit()?,
        };
        let status = match (&run, &exit) {
            (Some(run), _) if run.paused => Status::Paused,
            (Some(_), _) => Status::Running,
            (None, Some(_)) => Status::Exited,
            (None, None) if lost => Status::Exited,
            (None, None) => Status::Created,
        };
        let Some(summary) = file::read_json::<Summary>(&record.data.join("config.json"))? else {
            return Ok(None);
        };
        if is_unsettled && summary.options.remove {
            return Ok(None);
        }
        let health = summary.health.as_ref().map(|_| record.health());
        Ok(Some(Listed {
            health: health
                .transpose()?
                .map(|found| found.unwrap_or_default().status),
            summary,
            status,
            run,
            exit,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use kelp_state::Paths;
    use kelp_state::file::Durability;
    use kelp_state::liveness;

    use super::*;
    use crate::container::config::CgroupMode;
    use crate::container::{Config, CreateOptions};

    fn config() -> Config {
        Config {
            id: ContainerId::random(),
            name: "web".to_owned(),
            created: SystemTime::UNIX_EPOCH,
            image_name: "localhost/a:latest".to_owned(),
            image_id: String::new(),
            command: vec!["sh".to_owned()],
            entrypoint: Vec::new(),
            labels: BTreeMap::new(),
            exposed: vec!["80/tcp".to_owned()],
            stop_signal: 15,
            stop_timeout: 10,
            health: None,
            options: CreateOptions {
                remove: true,
                mounts: vec![oci_spec::runtime::Mount::default()],
                ..CreateOptions::default()
            },
        }
    }

    #[test]
    fn a_summary_is_part_of_a_config() {
        let config = config();
        let text = serde_json::to_string(&config).unwrap();
        let summary: Summary = serde_json::from_str(&text).unwrap();
        assert_eq!(summary.id, config.id);
        assert_eq!(summary.command, ["sh"]);
        assert_eq!(summary.exposed, ["80/tcp"]);
        assert!(summary.options.remove);
        assert_eq!(summary.options.mounts.len(), 1);
    }

    /// Its monitor was killed, and somebody works on it.
    #[test]
    fn a_container_that_is_worked_on_is_listed_at_once() {
        let root = tempfile::tempdir().unwrap();
        let engine = Engine {
            paths: Paths {
                data: root.path().join("data"),
                runtime: root.path().join("run"),
                config: root.path().join("config"),
            },
            cgroup_mode: CgroupMode::Enabled,
            storage: None,
            additional_stores: None,
            tell: None,
        };
        let mut config = config();
        config.options.remove = false;
        let record = Record::new(&engine.paths, config.id.clone());
        std::fs::create_dir_all(&record.data).unwrap();
        let path = record.data.join("config.json");
        file::write_json(&path, &config, Durability::None).unwrap();
        let working = liveness::offline(&record.runtime).unwrap().unwrap();
        let run = RunRecord {
            pid: i32::MAX as u32,
            start_time: 0,
            monitor: 0,
            boot_id: record::boot_id(),
            started: SystemTime::UNIX_EPOCH,
            cgroup: String::new(),
            paused: false,
            restarts: 0,
            oom_killed: false,
        };
        record.begin(Durability::None).unwrap();
        record.write_run(&run).unwrap();
        let (sender, receiver) = mpsc::channel();
        let other = engine.clone();
        std::thread::spawn(move || sender.send(other.list_containers(true)));
        let list = receiver.recv_timeout(Duration::from_mins(1)).unwrap();
        let shown = |list: &[Listed]| {
            let listed = &list[0];
            let code = listed.exit.as_ref().map(|exit| exit.code);
            (list.len(), listed.status, listed.run.is_some(), code)
        };
        assert_eq!(shown(&list), (1, Status::Exited, false, Some(137)));
        assert!(engine.list_containers(false).is_empty());
        drop(working);
        let list = engine.list_containers(true);
        assert_eq!(shown(&list), (1, Status::Exited, false, Some(137)));
    }
}
