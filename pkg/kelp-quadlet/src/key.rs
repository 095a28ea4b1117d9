//! Keys: a row of a table says how a key is read, what its values look like, and which words of a command
//! line it becomes. Generation and check read the same rows.
//!
//! The rows of a table stand in the order in which their words stand on the command line.

use crate::quote;
use crate::shape::Shape;
use crate::unit::{Assignment, Unit};

/// How the assignments to a key become values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// The last one counts.
    Last,
    /// Each is a value.
    Each,
    /// Each is a list of words, and each word a value.
    Words,
    /// The last one counts, and is a list of words.
    LastWords,
    /// Words that are `NAME=VALUE`: the last one on a name counts, and they are sorted.
    Pairs,
}

/// What values become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The flag and the value, two words.
    Flag(&'static str),
    /// A flag, and a word that is the prefix and the value.
    Option(&'static str, &'static str),
    /// One word: this and the value.
    Joined(&'static str),
    /// `--flag`, or `--flag=false`.
    Switch(&'static str),
    /// These words where the value is true.
    When(&'static [&'static str]),
    /// The words themselves.
    Bare,
    /// The kind's own code puts it on the command line, with this flag; empty if it is none.
    Own(&'static str),
}

/// A key of a section.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// How it is read.
    pub take: Take,
    /// What it becomes.
    pub form: Form,
    /// What a value looks like.
    pub shape: Shape,
}

impl Key {
    /// The flag that it needs, if any.
    pub fn flag(&self) -> Option<&'static str> {
        let flag = match self.form {
            Form::Flag(flag) | Form::Option(flag, _) | Form::Switch(flag) | Form::Own(flag) => flag,
            Form::Joined(word) => word.split('=').next().unwrap_or(word),
            Form::When(words) => words.first().copied().unwrap_or_default(),
            Form::Bare => "",
        };
        let flag = flag.split('=').next().unwrap_or(flag);
        Some(flag).filter(|flag| !flag.is_empty())
    }
}

/// One value, the flag before it.
pub(crate) const fn text(name: &'static str, flag: &'static str, shape: Shape) -> Key {
    row(name, Take::Last, Form::Flag(flag), shape)
}

/// A value for each assignment, each with the flag before it.
pub(crate) const fn list(name: &'static str, flag: &'static str, shape: Shape) -> Key {
    row(name, Take::Each, Form::Flag(flag), shape)
}

/// A value for each word, each with the flag before it.
pub(crate) const fn words(name: &'static str, flag: &'static str, shape: Shape) -> Key {
    row(name, Take::Words, Form::Flag(flag), shape)
}

/// `NAME=VALUE` for each word.
pub(crate) const fn pairs(name: &'static str, flag: &'static str) -> Key {
    row(name, Take::Pairs, Form::Flag(flag), Shape::Any)
}

/// True or false.
pub(crate) const fn switch(name: &'static str, flag: &'static str) -> Key {
    row(name, Take::Last, Form::Switch(flag), Shape::Boolean)
}

/// Whatever else.
pub(crate) const fn row(name: &'static str, take: Take, form: Form, shape: Shape) -> Key {
    Key {
        name,
        take,
        form,
        shape,
    }
}

/// `GlobalArgs=`, `ContainersConfModule=` and `ServiceName=`, which every section has.
pub(crate) const COMMON: &[Key] = &[
    row(
        "ContainersConfModule",
        Take::Each,
        Form::Own("--module"),
        Shape::Path,
    ),
    row("GlobalArgs", Take::Words, Form::Own(""), Shape::Any),
    row("ServiceName", Take::Last, Form::Own(""), Shape::ServiceName),
];

/// The keys of `[Quadlet]`.
pub(crate) const QUADLET: &[Key] = &[row(
    "DefaultDependencies",
    Take::Last,
    Form::Own(""),
    Shape::Boolean,
)];

/// `PodmanArgs=`, where a table has it.
pub(crate) const PODMAN_ARGS: Key = row("PodmanArgs", Take::Words, Form::Bare, Shape::Any);

/// A value with the assignment that it is from.
pub(crate) struct Value<'a> {
    pub text: String,
    pub set: &'a Assignment,
}

/// The values of a key, or the assignment that can't be split and why.
pub(crate) fn values<'a>(
    unit: &'a Unit,
    section: &str,
    name: &str,
    take: Take,
) -> Result<Vec<Value<'a>>, (&'a Assignment, String)> {
    let whole = |set: &'a Assignment, text: &str| Value {
        text: text.to_owned(),
        set,
    };
    match take {
        Take::Last => {
            let last = unit.last(section, name);
            Ok(last
                .map(|set| whole(set, quote::whole(&set.value)))
                .into_iter()
                .collect())
        }
        Take::Each => {
            let all = unit.all(section, name).into_iter();
            Ok(all.map(|set| whole(set, &set.value)).collect())
        }
        Take::Words | Take::LastWords | Take::Pairs => {
            let mut found = Vec::new();
            let mut sets = unit.all(section, name);
            if take == Take::LastWords {
                sets.drain(..sets.len().saturating_sub(1));
            }
            for set in sets {
                let words = quote::split(&set.value).map_err(|why| (set, why))?;
                found.extend(words.into_iter().map(|text| Value { text, set }));
            }
            if take == Take::Pairs {
                // The last on a name counts: seen from the end, the first.
                found.reverse();
                let name = |value: &Value<'_>| {
                    let name = value.text.split('=').next();
                    name.unwrap_or_default().to_owned()
                };
                found.sort_by_key(name);
                found.dedup_by_key(|value| name(value));
            }
            Ok(found)
        }
    }
}

/// A boolean of systemd's (systemd.syntax(7)).
pub(crate) fn boolean(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    match text {
        _ if is(&["1", "yes", "true", "on"]) => Some(true),
        _ if is(&["0", "no", "false", "off"]) => Some(false),
        _ => None,
    }
}
