//! Reading the files, and putting what they say together.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::keys::{self, Kind};
use crate::{Conf, Place, Setting, Sources, Value};

/// Why the configuration can't be used: one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error("read {}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What a line says is not what the key means, or no TOML.
    #[error("{place}: {what}")]
    Value {
        /// File and line.
        place: String,
        /// What is wrong.
        what: String,
    },
}

impl Conf {
    /// Reads every file that is there.
    pub fn load(sources: &Sources) -> Result<Self, Error> {
        let mut conf = Self::default();
        for (file, needed) in sources.files() {
            match fs::read_to_string(&file) {
                Ok(text) => conf.add(&file, &text)?,
                Err(error)
                    if !needed
                        && matches!(
                            error.kind(),
                            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                        ) => {}
                Err(source) => return Err(Error::Read { file, source }),
            }
        }
        Ok(conf)
    }

    /// Adds what a file says over what was said before.
    pub(crate) fn add(&mut self, file: &Path, text: &str) -> Result<(), Error> {
        // Most files are a long comment: there is nothing to parse.
        let says = |line: &str| !line.is_empty() && !line.starts_with('#');
        if !text.lines().map(str::trim_start).any(says) {
            return Ok(());
        }
        let file = Arc::new(file.to_owned());
        let place = |span: Range<usize>| Place {
            file: file.clone(),
            line: text[..span.start.min(text.len())].matches('\n').count() + 1,
        };
        let document = DeTable::parse(text).map_err(|error| Error::Value {
            place: place(error.span().unwrap_or_default()).to_string(),
            what: error.message().replace('\n', " "),
        })?;
        for (table, value) in document.get_ref() {
            let name: &str = table.get_ref();
            if keys::is_others(name) {
                continue;
            }
            let (true, DeValue::Table(entries)) = (keys::is_table(name), value.get_ref()) else {
                let place = place(table.span());
                self.warnings
                    .push(format!("{place}: unknown table {name:?}"));
                continue;
            };
            for (key, value) in entries {
                let place = place(key.span());
                match keys::find(name, key.get_ref()) {
                    Some((_, _, Kind::Ignored)) => {}
                    Some((table, key, kind)) => self.set((table, key), kind, value, place)?,
                    None => {
                        let key: &str = key.get_ref();
                        let line = format!("{place}: unknown key {key:?} in table {name:?}");
                        self.warnings.push(line);
                    }
                }
            }
        }
        Ok(())
    }

    fn set(
        &mut self,
        key: (&'static str, &'static str),
        kind: Kind,
        value: &Spanned<DeValue<'_>>,
        place: Place,
    ) -> Result<(), Error> {
        let wrong = |is: &str| Error::Value {
            place: place.to_string(),
            what: format!("{} is {}, not {is}", key.1, kind.name()),
        };
        let value = match (kind, value.get_ref()) {
            (Kind::Truth, DeValue::Boolean(value)) => Value::Truth(*value),
            (Kind::Number, DeValue::Integer(value)) => {
                let number = i64::from_str_radix(value.as_str(), value.radix());
                Value::Number(number.map_err(|_| wrong("one so large"))?)
            }
            (Kind::Text, DeValue::String(value)) => Value::Text(value.to_string()),
            (Kind::List, DeValue::Array(entries)) => {
                let before = match self.settings.get(&key).map(|setting| &setting.value) {
                    Some(Value::List(before, append)) => (before.clone(), *append),
                    _ => (Vec::new(), false),
                };
                let (all, append) = list(before, entries).map_err(wrong)?;
                Value::List(all, append)
            }
            (Kind::Lists, DeValue::Table(entries)) => {
                let before = self.settings.get(&key).map(|setting| &setting.value);
                let mut lists = match before {
                    Some(Value::Lists(before)) => before.clone(),
                    _ => BTreeMap::new(),
                };
                for (name, value) in entries {
                    let name: &str = name.get_ref();
                    let DeValue::Array(entries) = value.get_ref() else {
                        return Err(wrong(type_name(value.get_ref())));
                    };
                    let before = lists.get(name).cloned().unwrap_or_default();
                    let all = list(before, entries).map_err(wrong)?;
                    lists.insert(name.to_owned(), all);
                }
                Value::Lists(lists)
            }
            (_, other) => return Err(wrong(type_name(other))),
        };
        self.settings.insert(key, Setting { value, place });
        Ok(())
    }
}

/// A list over what was said before, and whether the next one comes behind it; or what is in it that is
/// no text.
fn list(
    before: (Vec<String>, bool),
    entries: &DeArray<'_>,
) -> Result<(Vec<String>, bool), &'static str> {
    let (before, mut append) = before;
    let mut own = Vec::new();
    for entry in entries {
        match entry.get_ref() {
            DeValue::String(text) => own.push(text.to_string()),
            DeValue::Table(attributes) => append = attribute(attributes, append),
            _ => return Err("a list of anything else"),
        }
    }
    let mut all = if append { before } else { Vec::new() };
    all.extend(own);
    Ok((all, append))
}

/// `{append=true}` in a list.
fn attribute(attributes: &DeTable<'_>, before: bool) -> bool {
    let append = attributes
        .iter()
        .find(|(name, _)| name.get_ref().as_ref() == "append");
    match append.map(|(_, value)| value.get_ref()) {
        Some(DeValue::Boolean(append)) => *append,
        _ => before,
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
