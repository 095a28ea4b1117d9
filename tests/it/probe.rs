//! What a process in a container sees, told by `kelp-probe`.

use serde_json::{Map, Value};

use crate::env::Env;

/// The report of one run.
#[derive(Debug)]
pub(crate) struct Report {
    subjects: Map<String, Value>,
}

impl Report {
    /// Runs the probe in a new container.
    pub(crate) fn of(env: &Env, flags: &[&str]) -> Self {
        let image = env.busybox();
        let mut arguments = vec!["run", "--rm"];
        arguments.extend(flags);
        arguments.extend([image.as_str(), "kelp-probe"]);
        Self::parse(&env.kelp(&arguments).succeeds())
    }

    /// Reads what the probe printed.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().map(|line| {
            let line: Map<String, Value> =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
            line
        });
        Self {
            subjects: lines.flatten().collect(),
        }
    }

    /// A subject, or a part of one: `/ids/uid/0`.
    pub(crate) fn get(&self, pointer: &str) -> &Value {
        let (subject, rest) = pointer[1..].split_once('/').unwrap_or((&pointer[1..], ""));
        let value = &self.subjects[subject];
        if rest.is_empty() {
            return value;
        }
        let part = value.pointer(&format!("/{rest}"));
        part.unwrap_or_else(|| panic!("no {pointer} in {self:#?}"))
    }

    /// A text of it.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        let value = self.get(pointer);
        value
            .as_str()
            .unwrap_or_else(|| panic!("{pointer} is {value}"))
    }

    /// A set of capabilities as bits.
    pub(crate) fn capabilities(&self, set: &str) -> u64 {
        u64::from_str_radix(self.text(&format!("/capabilities/{set}")), 16).unwrap()
    }

    /// The last mount on this path.
    pub(crate) fn mount(&self, target: &str) -> Option<&Value> {
        let mounts = self.get("/mounts").as_array().unwrap();
        mounts.iter().rev().find(|mount| mount["target"] == target)
    }

    /// The environment as sorted `NAME=value`.
    pub(crate) fn environment(&self) -> Vec<String> {
        let all = self.get("/environment").as_object().unwrap();
        all.iter()
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap()))
            .collect()
    }
}
