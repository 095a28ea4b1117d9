//! The config of an image that is being made.
//!
//! It is edited as JSON: what a base image says beyond what kelp knows stays (Healthcheck, OnBuild and
//! Shell are docker's alone).

use kelp_args::Change;
use kelp_args::change::{HealthCheck, Invocation};
use serde_json::{Map, Value, json};

use crate::Error;
use crate::container::environment::changed;

/// The shell of commands that are no lists, where the image names none.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// A config.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    document: Map<String, Value>,
}

impl Draft {
    /// Of an image from nothing.
    pub(crate) fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let mut document = Map::new();
        document.insert("os".to_owned(), os.into());
        document.insert("architecture".to_owned(), architecture.into());
        if let Some(variant) = variant {
            document.insert("variant".to_owned(), variant.into());
        }
        Self { document }
    }

    /// Of an image that is made from another one.
    pub(crate) fn from_config(bytes: &[u8]) -> Result<Self, Error> {
        let mut document: Map<String, Value> = serde_json::from_slice(bytes).map_err(|error| {
            Error::invalid(format!("the config of the image it is made from: {error}"))
        })?;
        // Of the container and the program that made the other one.
        for name in [
            "id",
            "parent",
            "container",
            "container_config",
            "docker_version",
            "comment",
        ] {
            document.remove(name);
        }
        Ok(Self { document })
    }

    /// What containers are made with.
    pub(crate) fn run(&mut self) -> &mut Map<String, Value> {
        object(self.document.entry("config").or_insert(Value::Null))
    }

    /// Sets what containers are made with; an empty value takes it away.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        let is_empty = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        if is_empty {
            self.run().remove(name);
        } else {
            self.run().insert(name.to_owned(), value);
        }
    }

    /// Sets a member of the document itself.
    pub(crate) fn describe(&mut self, name: &str, text: &str) {
        self.document.insert(name.to_owned(), text.into());
    }

    /// Adds members to one that is an object.
    pub(crate) fn add(&mut self, name: &str, members: impl IntoIterator<Item = (String, Value)>) {
        let mut members = members.into_iter().peekable();
        if members.peek().is_some() {
            object(self.run().entry(name).or_insert(Value::Null)).extend(members);
        }
    }

    /// The variables, `KEY=VALUE`.
    pub(crate) fn environment(&self) -> Vec<String> {
        strings(
            self.document
                .get("config")
                .and_then(|config| config.get("Env")),
        )
    }

    /// Sets a variable in its place, or behind the others.
    pub(crate) fn set_variable(&mut self, key: &str, value: &str) {
        let set = [format!("{key}={value}")];
        self.set("Env", changed(&self.environment(), &set, &[]));
    }

    /// Adds a step of the image's making.
    pub(crate) fn add_step(&mut self, step: Value) {
        let history = self.document.entry("history").or_insert(Value::Null);
        match history {
            Value::Array(steps) => steps.push(step),
            other => *other = Value::Array(vec![step]),
        }
    }

    /// Forgets how the image was made.
    pub(crate) fn forget_steps(&mut self) {
        self.document.remove("history");
    }

    /// Makes changes in their order. As in a Dockerfile a new entrypoint takes the command away that was
    /// made for another one.
    pub(crate) fn apply(&mut self, changes: &[Change]) {
        let sets_command = changes
            .iter()
            .any(|change| matches!(change, Change::Cmd(_)));
        for change in changes {
            match change {
                Change::Cmd(command) => {
                    let command = self.words(command);
                    self.set("Cmd", command);
                }
                Change::Entrypoint(entrypoint) => {
                    let entrypoint = self.words(entrypoint);
                    self.set("Entrypoint", entrypoint);
                    if !sets_command {
                        self.set("Cmd", Value::Null);
                    }
                }
                Change::Env(variables) => {
                    for (key, value) in variables {
                        self.set_variable(key, value);
                    }
                }
                Change::Expose(ports) => self.add("ExposedPorts", members(ports)),
                Change::HealthCheck(check) => self.set("Healthcheck", health_check(check)),
                Change::Label(labels) => {
                    let labels = labels.iter();
                    let labels: Vec<_> = labels
                        .map(|(key, value)| (key.clone(), value.clone().into()))
                        .collect();
                    self.add("Labels", labels);
                }
                Change::OnBuild(instruction) => {
                    let mut list = strings(self.run().get("OnBuild"));
                    list.push(instruction.clone());
                    self.set("OnBuild", list);
                }
                Change::Shell(words) => self.set("Shell", words.clone()),
                Change::StopSignal(signal) => self.set("StopSignal", signal.clone()),
                Change::User(user) => self.set("User", user.clone()),
                Change::Volume(places) => self.add("Volumes", members(places)),
                Change::Workdir(directory) => {
                    let before = self.run().get("WorkingDir").and_then(Value::as_str);
                    let directory = std::path::Path::new("/")
                        .join(before.unwrap_or_default())
                        .join(directory);
                    self.set("WorkingDir", directory.to_string_lossy());
                }
            }
        }
    }

    /// Merges what a file has, member by member: lists of variables, labels, ports and volumes are added to,
    /// the rest is replaced by what is not empty.
    pub(crate) fn merge(&mut self, config: &Value) -> Result<(), Error> {
        let Value::Object(fields) = config else {
            return Err(Error::invalid("the config is no JSON object"));
        };
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("Env", Value::Array(_)) => {
                    for entry in strings(Some(value)) {
                        let (key, value) = entry.split_once('=').ok_or_else(|| {
                            Error::invalid(format!(
                                "the config's variable {entry:?} is no KEY=VALUE"
                            ))
                        })?;
                        self.set_variable(key, value);
                    }
                }
                ("Labels" | "ExposedPorts" | "Volumes", Value::Object(members)) => {
                    self.add(name, members.clone());
                }
                (_, Value::Null | Value::Bool(false)) => {}
                (_, Value::String(text)) if text.is_empty() => {}
                (_, Value::Array(list)) if list.is_empty() => {}
                (name, value) => self.set(name, value.clone()),
            }
        }
        Ok(())
    }

    pub(crate) fn into_value(self) -> Value {
        Value::Object(self.document)
    }

    fn words(&mut self, invocation: &Invocation) -> Vec<String> {
        match invocation {
            Invocation::Exec(words) => words.clone(),
            Invocation::Shell(line) => {
                let mut shell = strings(self.run().get("Shell"));
                if shell.is_empty() {
                    shell = SHELL.map(str::to_owned).to_vec();
                }
                shell.push(line.clone());
                shell
            }
        }
    }
}

/// The object that a member is to be.
fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(fields) => fields,
        _ => unreachable!("it has just been made an object"),
    }
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

/// What JSON has for a set.
pub(crate) fn members(names: &[String]) -> Vec<(String, Value)> {
    names.iter().map(|name| (name.clone(), json!({}))).collect()
}

/// In docker's words, where spans are nanoseconds.
fn health_check(check: &HealthCheck) -> Value {
    let mut value = json!({ "Test": check.test });
    for (name, span) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ] {
        if let Some(span) = span {
            value[name] = json!(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
        }
    }
    if let Some(retries) = check.retries {
        value["Retries"] = json!(retries);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(config: &Value, changes: &[&str]) -> Value {
        let document = json!({ "os": "linux", "config": config }).to_string();
        let mut draft = Draft::from_config(document.as_bytes()).unwrap();
        let changes: Vec<Change> = changes.iter().map(|text| text.parse().unwrap()).collect();
        draft.apply(&changes);
        draft.into_value()["config"].clone()
    }

    #[test]
    fn changes_are_made_in_their_order() {
        let config = json!({
            "Env": ["A=1", "B=2"], "Cmd": ["old"], "Labels": {"l": "1"}, "WorkingDir": "/w",
            "Healthcheck": {"Test": ["NONE"]}, "ExposedPorts": null,
        });
        let changed = applied(
            &config,
            &[
                "ENV A=3 C=4",
                "LABEL m=2",
                "WORKDIR x",
                "ENTRYPOINT [\"/e\"]",
                "EXPOSE 80",
                "VOLUME /v",
                "USER u",
                "STOPSIGNAL 9",
                "ONBUILD RUN x",
                "HEALTHCHECK CMD true",
            ],
        );
        let expected = json!({
            "Env": ["A=3", "B=2", "C=4"], "Entrypoint": ["/e"], "Labels": {"l": "1", "m": "2"},
            "WorkingDir": "/w/x", "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}},
            "User": "u", "StopSignal": "9", "OnBuild": ["RUN x"],
            "Healthcheck": {"Test": ["CMD-SHELL", "true"]},
        });
        assert_eq!(changed, expected);
    }

    #[test]
    fn the_shell_is_the_images_own() {
        let changed = applied(&json!({}), &["CMD a b"]);
        assert_eq!(changed["Cmd"], json!(["/bin/sh", "-c", "a b"]));
        let changed = applied(
            &json!({}),
            &["SHELL [\"ash\"]", "CMD a", "ENTRYPOINT [\"x\"]"],
        );
        assert_eq!(changed["Cmd"], json!(["ash", "a"]));
    }

    #[test]
    fn a_file_is_merged() {
        let mut draft = Draft::new("linux", "amd64", None);
        draft.set("Cmd", vec!["a"]);
        draft.set_variable("A", "1");
        let file = json!({
            "Env": ["A=2", "B=3"], "Cmd": [], "User": "u", "Tty": false, "Labels": {"l": "1"},
        });
        draft.merge(&file).unwrap();
        let expected = json!({
            "Cmd": ["a"], "Env": ["A=2", "B=3"], "User": "u", "Labels": {"l": "1"},
        });
        assert_eq!(draft.into_value()["config"], expected);
        let mut draft = Draft::new("linux", "amd64", None);
        assert!(draft.merge(&json!({ "Env": ["A"] })).is_err());
        assert!(draft.merge(&json!([])).is_err());
    }
}
