//! `update`: other limits, environment, health checks or restart policy for a container, whether it runs or not.
//!
//! All of a request, or nothing: limits are written to the cgroup of a container that runs before its
//! record says so, and what the kernel refuses leaves both as they were. A container that is being
//! started meanwhile gets them from its monitor, which looks at the record once more when it has written
//! what runs.

use std::collections::BTreeSet;

use kelp_args::RestartPolicy;
use kelp_monitor::Launch;
use kelp_monitor::attach::Connection;
use kelp_monitor::launch::variable_name;
use kelp_runtime::cgroup::{self, Cgroup, Undo};
use kelp_runtime::resources::Setting;
use kelp_state::file::{self, Durability};
use kelp_state::liveness::{self, Changing};
use kelp_state::{ContainerId, Record, RunRecord};
use oci_spec::runtime::LinuxResources;
use serde_json::Value;

use crate::container::config::{CgroupMode, Config, HealthOptions};
use crate::container::limits::{self, Limits};
use crate::container::{create, environment, health};
use crate::{Engine, Error, spec};

/// What is to change; the rest stays as it is.
#[derive(Clone, Debug, Default)]
pub struct UpdateRequest {
    /// Limits of its cgroup.
    pub limits: Limits,
    /// Limits by name, soft and hard, of the processes that its next start begins with.
    pub ulimits: Vec<(String, u64, u64)>,
    /// What happens when it has ended by itself.
    pub restart: Option<RestartPolicy>,
    /// `KEY=VALUE`, for the next start.
    pub env: Vec<String>,
    /// Variables that are taken away, for the next start.
    pub unset_env: Vec<String>,
    /// Health checks; a container that runs is checked anew.
    pub health: HealthOptions,
}

/// What a container is asked to be, and what its monitor starts it from.
#[derive(Clone)]
struct Documents {
    config: Config,
    launch: Launch,
}

impl Engine {
    /// Changes what a container may use, and what it is started with.
    ///
    /// # Errors
    /// Also if the kernel refuses a limit; then nothing has changed.
    pub fn update_container(&self, id: &ContainerId, request: &UpdateRequest) -> Result<(), Error> {
        // One whose monitor was killed has nothing left that could change.
        self.status(id)?;
        let record = Record::new(&self.paths, id.clone());
        let _changing = self.changing(&record)?;
        let before = Documents {
            config: self.config(id)?,
            launch: launch(&record)?,
        };
        let mut after = before.clone();
        let settings = after.change(request)?;
        let runs = put(&record, &before, &after, &settings)?;
        let is_checked_anew = before.launch.health != after.launch.health;
        if runs
            && (!settings.is_empty() || is_checked_anew)
            && let Ok(monitor) = Connection::open(&record.runtime)
        {
            monitor.updated();
        }
        self.note("update", &after.config);
        Ok(())
    }

    /// Keeps others from changing the container's record.
    pub(crate) fn changing(&self, record: &Record) -> Result<Changing, Error> {
        let changing = liveness::changing(&record.runtime)?;
        if !record.data.exists() {
            // It was removed meanwhile, and to lock it has made the directory again.
            let _ = std::fs::remove_dir_all(&record.runtime);
            return Err(kelp_state::Error::NotFound(record.id.to_string()).into());
        }
        Ok(changing)
    }
}

impl Documents {
    /// Changes them; what is to be written to the cgroup of a container that runs.
    fn change(&mut self, request: &UpdateRequest) -> Result<Vec<Setting>, Error> {
        let options = &mut self.config.options;
        let settings = match request.limits.to_oci()? {
            Some(_) if options.cgroups.mode == CgroupMode::Disabled => {
                return Err(Error::invalid(
                    "--cgroups=disabled leaves no place for limits of memory, processors and the like",
                ));
            }
            Some(asked) => {
                let before = options.resources.as_ref();
                let all = merged(before, &asked)?;
                let before = before.map_or_else(|| Ok(Vec::new()), limits::settings)?;
                let list = limits::settings(&all)?;
                let settings = changed(&list, &before, &asked)?;
                self.launch.resources = limits::of_new_cgroup(list);
                options.resources = Some(all);
                settings
            }
            None => Vec::new(),
        };
        if let Some(policy) = request.restart {
            if options.remove && policy != RestartPolicy::No {
                return Err(Error::invalid(
                    "--rm and --restart exclude each other: a container that is gone can't start again",
                ));
            }
            options.restart = policy;
            self.launch.restart = create::restart(policy);
        }
        self.launch.health = request.health.over(self.launch.health.take())?;
        if options.remove
            && health::starts_again(self.launch.health.as_ref())
            && !health::starts_again(self.config.health.as_ref())
        {
            return Err(Error::invalid(
                "what a --rm container has written is gone with its first run: create it anew for health checks that \
                 start it again",
            ));
        }
        self.config.health.clone_from(&self.launch.health);
        for (name, soft, hard) in &request.ulimits {
            options.ulimits.retain(|(known, _, _)| known != name);
            options.ulimits.push((name.clone(), *soft, *hard));
        }
        if let Some(process) = self.launch.spec.process_mut() {
            if !request.ulimits.is_empty() {
                process.set_rlimits(Some(spec::rlimits(options)?));
            }
            let env = process.env().clone().unwrap_or_default();
            let env = environment::changed(&env, &request.env, &request.unset_env);
            process.set_env(Some(env));
            // What is said of a variable by name counts, also where that was a secret.
            let said = request.env.iter().chain(&request.unset_env);
            let said: Vec<_> = said.map(|entry| variable_name(entry)).collect();
            let secrets = &mut self.launch.secrets;
            secrets.retain(|secret| !said.contains(&variable_name(secret)));
        }
        Ok(settings)
    }

    fn write(&self, record: &Record) -> Result<(), Error> {
        let durability = if self.config.options.remove {
            Durability::None
        } else {
            Durability::Synced
        };
        // The monitor's goes first, as it is made: config.json is what others read.
        file::write_json(&record.data.join("launch.json"), &self.launch, durability)?;
        file::write_json(&record.data.join("config.json"), &self.config, durability)?;
        Ok(())
    }
}

/// Puts a change in force: in the cgroup of what runs, then in the record, and again if something else
/// runs by then; whether anything does.
fn put(
    record: &Record,
    before: &Documents,
    after: &Documents,
    settings: &[Setting],
) -> Result<bool, Error> {
    let mut running = alive(record)?;
    let mut is_first = true;
    loop {
        let undo = match running.as_ref().map(|run| set(run, settings)).transpose() {
            Ok(undo) => undo.flatten(),
            Err(error) => {
                if !is_first {
                    before.write(record)?;
                }
                return Err(error);
            }
        };
        if let Err(error) = after.write(record) {
            if let Some(undo) = undo {
                undo.restore();
            }
            // One of the two may have been written.
            let _ = before.write(record);
            return Err(error);
        }
        let now = alive(record)?;
        let identity = |run: &Option<RunRecord>| run.as_ref().map(|run| (run.pid, run.start_time));
        if now.is_none() || identity(&now) == identity(&running) {
            return Ok(now.is_some());
        }
        running = now;
        is_first = false;
    }
}

/// Sets limits of what runs.
fn set(run: &RunRecord, settings: &[Setting]) -> Result<Option<Undo>, Error> {
    let Some(first) = settings.first() else {
        return Ok(None);
    };
    if run.cgroup.is_empty() {
        return Err(cgroup::refusal(first).into());
    }
    match Cgroup::open(&run.cgroup) {
        Ok(cgroup) => Ok(Some(cgroup.change(settings)?)),
        // It ends at this moment.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("open cgroup {}", run.cgroup))(error)),
    }
}

/// What runs, of a container whose monitor lives.
fn alive(record: &Record) -> Result<Option<RunRecord>, Error> {
    Ok(record.run()?.filter(|_| record.is_alive()))
}

fn launch(record: &Record) -> Result<Launch, Error> {
    let launch = file::read_json(&record.data.join("launch.json"))?;
    launch.ok_or_else(|| kelp_state::Error::NotFound(record.id.to_string()).into())
}

/// Of all settings those that are new, and those of files that were asked for: somebody else may have
/// written there.
fn changed(
    all: &[Setting],
    before: &[Setting],
    asked: &LinuxResources,
) -> Result<Vec<Setting>, Error> {
    let asked = kelp_runtime::resources::settings(asked)?;
    let files: BTreeSet<_> = asked.iter().map(|setting| &setting.file).collect();
    let is_meant = |setting: &&Setting| files.contains(&setting.file) || !before.contains(setting);
    // What is asked of the kernel once, as by memory.reclaim, is not asked again.
    let is_limit = |setting: &&Setting| setting.option != "--cgroup-conf";
    let list = all.iter().filter(is_limit).filter(is_meant);
    Ok(list.cloned().collect())
}

/// Resources with those that are asked for in their places, a device's in that of the same device.
fn merged(
    before: Option<&LinuxResources>,
    asked: &LinuxResources,
) -> Result<LinuxResources, Error> {
    let document = |value| serde_json::to_value(value).map_err(Error::io("write limits as JSON"));
    let mut all = document(before)?;
    merge(&mut all, document(Some(asked))?);
    serde_json::from_value(all).map_err(Error::io("read limits as JSON"))
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (_, Value::Null) => {}
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => {
            let device = |value: &Value| (value["major"].clone(), value["minor"].clone());
            for value in from {
                into.retain(|known| device(known) != device(&value));
                into.push(value);
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> LinuxResources {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_asked_for_takes_its_place_and_the_rest_stays() {
        let before = resources(
            r#"{"memory":{"limit":5,"reservation":3},"cpu":{"quota":1,"period":9},"blockIO":
               {"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1},{"major":8,"minor":1,"rate":1}]}}"#,
        );
        let asked = resources(
            r#"{"memory":{"limit":7},"pids":{"limit":2},"cpu":{"quota":4},"blockIO":
               {"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":6}]}}"#,
        );
        let all = merged(Some(&before), &asked).unwrap();
        let expected = resources(
            r#"{"memory":{"limit":7,"reservation":3},"pids":{"limit":2},"cpu":{"quota":4,"period":9},
               "blockIO":{"throttleReadBpsDevice":
               [{"major":8,"minor":1,"rate":1},{"major":8,"minor":0,"rate":6}]}}"#,
        );
        assert_eq!(all, expected);
        assert_eq!(merged(None, &asked).unwrap(), asked);
    }

    #[test]
    fn only_what_changes_is_written() {
        let before = resources(
            r#"{"memory":{"limit":7},"pids":{"limit":5},"unified":{"memory.reclaim":"1M"}}"#,
        );
        let asked = resources(r#"{"memory":{"limit":7}}"#);
        let all = limits::settings(&merged(Some(&before), &asked).unwrap()).unwrap();
        let before = limits::settings(&before).unwrap();
        let list = changed(&all, &before, &asked).unwrap();
        let files: Vec<_> = list.iter().map(|setting| setting.file.as_str()).collect();
        assert_eq!(files, ["memory.max"]);
    }
}
