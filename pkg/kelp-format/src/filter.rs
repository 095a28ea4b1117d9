//! `--filter key=value`: what a list keeps.
//!
//! Several values of one key are alternatives, different keys must all hold; labels alone must all
//! hold even among themselves. What a key means is the list's business: it names its keys and answers
//! for one row and one value.

use std::collections::BTreeMap;
use std::fmt;

use regex_lite::Regex;

/// A filter that can't be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// How the value of a key is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The whole value.
    Exact,
    /// The beginning, as of an id.
    Prefix,
    /// A regular expression that may match anywhere.
    Regex,
    /// `KEY` or `KEY=VALUE` in a map.
    Label,
    /// Decided by the list itself.
    Own,
}

/// A key of a list, and how it is compared.
pub type Key = (&'static str, Match);

/// What a row has for a key.
#[derive(Clone, Debug)]
pub enum Field<'a> {
    /// A text.
    Text(&'a str),
    /// Texts, of which one must fit.
    Texts(Vec<&'a str>),
    /// A map, for labels.
    Map(&'a BTreeMap<String, String>),
    /// The answer, for [`Match::Own`].
    Answer(bool),
}

/// Parsed filters.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    groups: Vec<Group>,
}

#[derive(Clone, Debug)]
struct Group {
    key: &'static str,
    negated: bool,
    values: Vec<Value>,
}

#[derive(Clone, Debug)]
struct Value {
    text: String,
    how: Match,
    regex: Option<Regex>,
}

impl Filters {
    /// Parses `KEY=VALUE` and `KEY!=VALUE`; a key that is not in `keys` is an error.
    pub fn parse<S: AsRef<str>>(texts: &[S], keys: &[Key]) -> Result<Self, Error> {
        let mut filters = Self::default();
        for text in texts {
            filters.add(text.as_ref(), keys)?;
        }
        Ok(filters)
    }

    fn add(&mut self, text: &str, keys: &[Key]) -> Result<(), Error> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| Error(format!("invalid filter \"{text}\": it must be KEY=VALUE")))?;
        let (name, negated) = match key.strip_suffix('!') {
            Some(name) => (name, true),
            None => (key, false),
        };
        let Some(&(key, how)) = keys
            .iter()
            .find(|(known, how)| *known == name && (!negated || *how == Match::Label))
        else {
            let known: Vec<_> = keys.iter().map(|(key, _)| *key).collect();
            return Err(Error(format!(
                "{key} is an invalid filter: use {}",
                known.join(", ")
            )));
        };
        let regex = match how {
            Match::Regex => Some(Regex::new(value).map_err(|error| {
                Error(format!(
                    "invalid regular expression in filter \"{text}\": {error}"
                ))
            })?),
            _ => None,
        };
        let value = Value {
            text: value.to_owned(),
            how,
            regex,
        };
        let same = |group: &&mut Group| group.key == key && group.negated == negated;
        match self.groups.iter_mut().find(same) {
            Some(group) => group.values.push(value),
            None => self.groups.push(Group {
                key,
                negated,
                values: vec![value],
            }),
        }
        Ok(())
    }

    /// Whether there is no filter.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether a key is among them.
    pub fn has(&self, key: &str) -> bool {
        self.groups.iter().any(|group| group.key == key)
    }

    /// The values of a key.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.groups
            .iter()
            .filter(move |group| group.key == key)
            .flat_map(|group| group.values.iter().map(|value| value.text.as_str()))
    }

    /// Whether a row is kept; `field` gives what the row has for a key, and for [`Match::Own`] the
    /// answer for a value.
    pub fn matches<'a>(&self, field: impl Fn(&str, &str) -> Field<'a>) -> bool {
        self.groups.iter().all(|group| {
            let fits = |value: &Value| value.fits(&field(group.key, &value.text));
            let all = group
                .values
                .first()
                .is_some_and(|value| value.how == Match::Label);
            match (group.negated, all) {
                (true, _) => !group.values.iter().any(fits),
                (false, true) => group.values.iter().all(fits),
                (false, false) => group.values.iter().any(fits),
            }
        })
    }
}

impl Value {
    fn fits(&self, field: &Field<'_>) -> bool {
        match field {
            Field::Answer(answer) => *answer,
            Field::Map(map) => has_label(map, &self.text),
            Field::Text(text) => self.fits_text(text),
            Field::Texts(texts) => texts.iter().any(|text| self.fits_text(text)),
        }
    }

    fn fits_text(&self, text: &str) -> bool {
        match (self.how, &self.regex) {
            (_, Some(regex)) => regex.is_match(text),
            (Match::Prefix, _) => text.starts_with(&self.text),
            _ => text == self.text,
        }
    }
}

/// Whether a map has `KEY`, or `KEY=VALUE`.
pub fn has_label(map: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => map.get(key).is_some_and(|own| own == value),
        None => map.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[Key] = &[
        ("id", Match::Prefix),
        ("name", Match::Regex),
        ("status", Match::Exact),
        ("label", Match::Label),
        ("until", Match::Own),
    ];

    fn kept(filters: &[&str]) -> Result<bool, Error> {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let filters = Filters::parse(filters, KEYS)?;
        Ok(filters.matches(|key, value| match key {
            "id" => Field::Text("0123"),
            "name" => Field::Texts(vec!["web", "www"]),
            "status" => Field::Text("running"),
            "label" => Field::Map(&labels),
            _ => Field::Answer(value == "now"),
        }))
    }

    #[test]
    fn one_key_is_alternatives_and_several_must_hold() {
        for (filters, expected) in [
            (&[][..], true),
            (&["id=01"], true),
            (&["id=12"], false),
            (&["name=^w.b$"], true),
            (&["name=ww"], true),
            (&["name=x", "name=web"], true),
            (&["name=web", "status=exited"], false),
            (&["status=exited", "status=running", "name=web"], true),
            (&["status=run"], false),
            (&["label=a"], true),
            (&["label=a=1"], true),
            (&["label=a=2"], false),
            (&["label=a", "label=b"], false),
            (&["label!=b"], true),
            (&["label!=a"], false),
            (&["label!=b", "label!=a=1"], false),
            (&["until=now"], true),
            (&["until=then"], false),
        ] {
            assert_eq!(kept(filters), Ok(expected), "{filters:?}");
        }
    }

    #[test]
    fn what_is_no_filter_is_an_error() {
        for (filter, said) in [
            ("name", "invalid filter \"name\": it must be KEY=VALUE"),
            (
                "color=red",
                "color is an invalid filter: use id, name, status, label, until",
            ),
            (
                "status!=x",
                "status! is an invalid filter: use id, name, status, label, until",
            ),
        ] {
            assert_eq!(kept(&[filter]).unwrap_err().to_string(), said);
        }
        let error = kept(&["name=("]).unwrap_err().to_string();
        assert!(error.starts_with("invalid regular expression in filter \"name=(\": "));
    }
}
