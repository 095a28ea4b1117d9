//! containers.conf(5) and kelp.conf, which has its shape: defaults that a machine and a user have for containers.
//!
//! Every file is read to its end before anything is made of it. A value that is not of its key's
//! type is an error with file and line; a key that nobody knows is told of, since a newer podman may
//! know it. What a value means is the caller's business, who reads it through [`Setting::read`], so
//! that what is wrong with it is told with its place as well.
#![forbid(unsafe_code)]

mod keys;
mod read;
mod sources;
pub mod storage;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

pub use read::Error;
pub use sources::Sources;

/// What all files together say.
#[derive(Clone, Debug, Default)]
pub struct Conf {
    settings: BTreeMap<(&'static str, &'static str), Setting<Value>>,
    /// A line for each key that nobody knows.
    pub warnings: Vec<String>,
}

/// A value, and where it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    /// What was said.
    pub value: T,
    place: Place,
}

/// A line of a file, the first one being 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    file: Arc<PathBuf>,
    line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.file.display(), self.line)
    }
}

/// A value as TOML has it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Truth(bool),
    Number(i64),
    Text(String),
    /// Texts, and whether those of later files come behind them instead of in their place.
    List(Vec<String>, bool),
    /// The same, by name.
    Lists(BTreeMap<String, (Vec<String>, bool)>),
}

impl<T> Setting<T> {
    /// Makes something of the value; what is wrong with it is told with its place.
    pub fn read<R, E: fmt::Display>(
        &self,
        parse: impl FnOnce(&T) -> Result<R, E>,
    ) -> Result<R, Error> {
        parse(&self.value).map_err(|error| Error::Value {
            place: self.place.to_string(),
            what: error.to_string(),
        })
    }
}

impl Setting<Vec<String>> {
    /// Each of the texts, with the place of all.
    pub fn each(self) -> Vec<Setting<String>> {
        let place = self.place;
        let one = |value| Setting {
            value,
            place: place.clone(),
        };
        self.value.into_iter().map(one).collect()
    }
}

impl Conf {
    /// A truth value of a table.
    pub fn truth(&self, table: &str, key: &str) -> Option<bool> {
        match self.get(table, key)?.value {
            Value::Truth(value) => Some(value),
            _ => None,
        }
    }

    /// A number of a table.
    pub fn number(&self, table: &str, key: &str) -> Option<Setting<i64>> {
        let setting = self.get(table, key)?;
        match setting.value {
            Value::Number(value) => Some(setting.with(value)),
            _ => None,
        }
    }

    /// A text of a table; an empty one is none.
    pub fn text(&self, table: &str, key: &str) -> Option<Setting<String>> {
        let setting = self.get(table, key)?;
        match &setting.value {
            Value::Text(value) if !value.is_empty() => Some(setting.with(value.clone())),
            _ => None,
        }
    }

    /// The texts of a list of a table.
    pub fn list(&self, table: &str, key: &str) -> Option<Setting<Vec<String>>> {
        let setting = self.get(table, key)?;
        match &setting.value {
            Value::List(values, _) => Some(setting.with(values.clone())),
            _ => None,
        }
    }

    /// The texts of one list among those that a table has by name.
    pub fn entry(&self, table: &str, key: &str, name: &str) -> Option<Setting<Vec<String>>> {
        let setting = self.get(table, key)?;
        match &setting.value {
            Value::Lists(lists) => Some(setting.with(lists.get(name)?.0.clone())),
            _ => None,
        }
    }

    fn get(&self, table: &str, key: &str) -> Option<&Setting<Value>> {
        let (table, key, _) = keys::find(table, key)?;
        self.settings.get(&(table, key))
    }
}

impl Setting<Value> {
    fn with<T>(&self, value: T) -> Setting<T> {
        Setting {
            value,
            place: self.place.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
