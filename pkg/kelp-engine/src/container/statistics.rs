//! `stats`: what containers use, from a few files of the kernel's each.

use std::time::{Duration, SystemTime};

use kelp_network::Mode;
use kelp_runtime::cgroup::Cgroup;
use kelp_runtime::statistics::network;
pub use kelp_runtime::statistics::{Pressure, Statistics, Traffic};
use kelp_state::{ContainerId, Record, RunRecord, record};

use crate::container::list::{Listed, Summary};
use crate::{Engine, Error};

/// What a container uses at one moment.
#[derive(Clone, Debug)]
pub struct Usage {
    /// Which moment.
    pub time: SystemTime,
    /// When its program was started.
    pub started: SystemTime,
    /// The counters of its cgroup; none of one without.
    pub statistics: Statistics,
    /// The bytes of its network; none of one that has the host's.
    pub network: Option<Traffic>,
}

/// A container, and what it uses if it runs.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// What it uses.
    pub usage: Option<Usage>,
}

impl Engine {
    /// What every container uses, or every one that runs; the oldest first.
    pub fn sample_containers(&self, all: bool) -> Vec<Sample> {
        self.list_containers(all).into_iter().map(sample).collect()
    }

    /// What one container uses.
    pub fn sample_container(&self, id: &ContainerId) -> Result<Sample, Error> {
        let record = Record::new(&self.paths, id.clone());
        let listed = self.listed(&record)?;
        listed
            .map(sample)
            .ok_or_else(|| kelp_state::Error::NotFound(id.to_string()).into())
    }
}

fn sample(listed: Listed) -> Sample {
    let Summary {
        id, name, options, ..
    } = listed.summary;
    let mode = options.namespaces.network.as_ref();
    Sample {
        id,
        name,
        usage: listed.run.map(|run| usage(&run, mode)),
    }
}

fn usage(run: &RunRecord, mode: Option<&Mode>) -> Usage {
    let cgroup = Some(&run.cgroup).filter(|path| !path.is_empty());
    let cgroup = cgroup.and_then(|path| Cgroup::open(path).ok());
    let mut statistics = cgroup.as_ref().map(Cgroup::statistics).unwrap_or_default();
    if statistics.memory.is_some() {
        // No container has more than there is.
        let total = memory_of_the_host();
        let limit = statistics.memory_limit.unwrap_or(total);
        statistics.memory_limit = Some(limit.min(total));
    }
    let traffic = match mode {
        None | Some(Mode::Host) => None,
        Some(_) => network(run.pid),
    };
    // Looked at after the file was read: it was this process's.
    let is_its_own = record::start_time(run.pid) == Some(run.start_time);
    Usage {
        time: SystemTime::now(),
        started: run.started,
        statistics,
        network: traffic.filter(|_| is_its_own),
    }
}

fn memory_of_the_host() -> u64 {
    let system = rustix::system::sysinfo();
    system.totalram.saturating_mul(system.mem_unit.into())
}

impl Usage {
    /// Percent of a processor that it used since an earlier look, or since its start where there was none
    /// at the same run.
    pub fn processor_percent(&self, before: Option<&Self>) -> Option<f64> {
        let before = before.filter(|before| before.started == self.started);
        match before {
            Some(before) => {
                let now = self.statistics.processor?;
                let used = now.checked_sub(before.statistics.processor?)?;
                percent(used, self.time.duration_since(before.time).ok()?)
            }
            None => self.average_percent(),
        }
    }

    /// Percent of a processor that it used since its start.
    pub fn average_percent(&self) -> Option<f64> {
        let passed = self.time.duration_since(self.started).ok()?;
        percent(self.statistics.processor?, passed)
    }

    /// Percent of the memory that it may have.
    pub fn memory_percent(&self) -> Option<f64> {
        let limit = self.statistics.memory_limit.filter(|&limit| limit > 0)?;
        Some(self.statistics.memory? as f64 / limit as f64 * 100.0)
    }
}

fn percent(used: Duration, passed: Duration) -> Option<f64> {
    (!passed.is_zero()).then(|| used.as_secs_f64() / passed.as_secs_f64() * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(started: u64, time: u64, processor: Option<u64>) -> Usage {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Usage {
            time: at(time),
            started: at(started),
            statistics: Statistics {
                processor: processor.map(Duration::from_secs),
                memory: Some(25),
                memory_limit: Some(100),
                ..Statistics::default()
            },
            network: None,
        }
    }

    #[test]
    fn percents_are_of_the_time_between_two_looks_or_since_the_start() {
        let (first, second) = (usage(0, 10, Some(1)), usage(0, 12, Some(5)));
        assert_eq!(first.processor_percent(None), Some(10.0));
        assert_eq!(second.processor_percent(Some(&first)), Some(200.0));
        assert_eq!(second.average_percent(), Some(5.0 / 12.0 * 100.0));
        // It was started again in between.
        let again = usage(11, 13, Some(1));
        assert_eq!(again.processor_percent(Some(&second)), Some(50.0));
        assert_eq!(usage(0, 12, None).processor_percent(Some(&first)), None);
        assert_eq!(first.memory_percent(), Some(25.0));
    }
}
