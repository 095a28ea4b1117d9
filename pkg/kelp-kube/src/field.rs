//! Reading fields: each with its path, and none that nobody has looked at.

use std::collections::BTreeMap;

use crate::Error;
use crate::node::{Kind, Node};

/// A value in a document.
#[derive(Clone, Debug)]
pub(crate) struct Value<'a> {
    node: &'a Node,
    path: String,
    document: &'a str,
}

/// A mapping whose fields are taken one after the other; what is left at the end is refused.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    of: Value<'a>,
    left: Vec<(&'a str, &'a Node)>,
}

impl<'a> Value<'a> {
    /// A whole document, by what it is called in errors.
    pub(crate) fn document(node: &'a Node, document: &'a str) -> Self {
        Self {
            node,
            path: String::new(),
            document,
        }
    }

    /// What was read.
    pub(crate) fn node(&self) -> &'a Node {
        self.node
    }

    /// An error about it.
    pub(crate) fn error(&self, text: impl Into<String>) -> Error {
        Error {
            document: self.document.to_owned(),
            line: self.node.line,
            path: self.path.clone(),
            text: text.into(),
        }
    }

    /// The fields of a mapping.
    pub(crate) fn fields(&self) -> Result<Fields<'a>, Error> {
        match &self.node.kind {
            Kind::Map(map) => Ok(Fields {
                of: self.clone(),
                left: map
                    .iter()
                    .map(|(name, node)| (name.as_str(), node))
                    .collect(),
            }),
            _ => Err(self.error("it has to be a mapping")),
        }
    }

    /// The items of a list.
    pub(crate) fn items(&self) -> Result<Vec<Self>, Error> {
        let Kind::List(list) = &self.node.kind else {
            return Err(self.error("it has to be a list"));
        };
        let items = list.iter().enumerate().map(|(place, node)| Self {
            node,
            path: format!("{}[{place}]", self.path),
            document: self.document,
        });
        Ok(items.collect())
    }

    /// Text. What YAML takes for a number or a boolean is text here only if it can't be meant in another way.
    pub(crate) fn text(&self) -> Result<String, Error> {
        let Kind::Scalar(text, quoted) = &self.node.kind else {
            return Err(self.error("it has to be text"));
        };
        if *quoted {
            return Ok(text.clone());
        }
        let other = match text.as_str() {
            "true" | "false" => None,
            "" | "~" => Some("nothing"),
            text if truth(text).is_some() => Some("a boolean"),
            text if is_odd_number(text) => Some("a number"),
            _ => None,
        };
        match other {
            Some(kind) => Err(self.error(format!(
                "{text} is {kind} in YAML, and text is wanted: write \"{text}\""
            ))),
            None => Ok(text.clone()),
        }
    }

    /// A boolean.
    pub(crate) fn truth(&self) -> Result<bool, Error> {
        match &self.node.kind {
            Kind::Scalar(text, false) => truth(text),
            _ => None,
        }
        .ok_or_else(|| self.error("it has to be true or false"))
    }

    /// A whole number; `0644` and `0o644` are octal, as in YAML 1.1 and 1.2.
    pub(crate) fn number(&self) -> Result<i64, Error> {
        let number = match &self.node.kind {
            Kind::Scalar(text, false) => number(text),
            _ => None,
        };
        number.ok_or_else(|| self.error("it has to be a whole number"))
    }

    /// A whole number that has to fit.
    pub(crate) fn fitting<T: TryFrom<i64>>(&self) -> Result<T, Error> {
        let number = self.number()?;
        T::try_from(number).map_err(|_| self.error(format!("{number} is out of range")))
    }

    /// A quantity's text, which may be written as a number.
    pub(crate) fn literal(&self) -> Result<&'a str, Error> {
        match &self.node.kind {
            Kind::Scalar(text, _) => Ok(text),
            _ => Err(self.error("it has to be a number or text")),
        }
    }

    /// Whether it was written as a whole number, and not as text.
    pub(crate) fn is_number(&self) -> bool {
        matches!(&self.node.kind, Kind::Scalar(text, false) if number(text).is_some())
    }

    /// A list of texts.
    pub(crate) fn texts(&self) -> Result<Vec<String>, Error> {
        self.items()?.iter().map(Self::text).collect()
    }

    /// A mapping of texts.
    pub(crate) fn text_map(&self) -> Result<BTreeMap<String, String>, Error> {
        let mut map = BTreeMap::new();
        let mut fields = self.fields()?;
        for (name, value) in fields.rest() {
            let text = if value.node.is_null() {
                String::new()
            } else {
                value.text()?
            };
            map.insert(name.to_owned(), text);
        }
        Ok(map)
    }
}

impl<'a> Fields<'a> {
    /// A field; one that is null is not there.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value<'a>> {
        let place = self.left.iter().position(|(known, _)| *known == name)?;
        let (name, node) = self.left.remove(place);
        (!node.is_null()).then(|| self.value(name, node))
    }

    /// A field that has to be there.
    pub(crate) fn need(&mut self, name: &str) -> Result<Value<'a>, Error> {
        self.take(name)
            .ok_or_else(|| self.of.error(format!("{name} is missing")))
    }

    /// A field, read.
    pub(crate) fn get<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Value<'a>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        self.take(name).map(|value| read(&value)).transpose()
    }

    /// Text.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, Error> {
        self.get(name, Value::text)
    }

    /// A boolean; false where nothing is said.
    pub(crate) fn truth(&mut self, name: &str) -> Result<bool, Error> {
        Ok(self.get(name, Value::truth)?.unwrap_or_default())
    }

    /// Each item of a list, read.
    pub(crate) fn each<T>(
        &mut self,
        name: &str,
        read: impl FnMut(&Value<'a>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        match self.take(name) {
            Some(list) => list.items()?.iter().map(read).collect(),
            None => Ok(Vec::new()),
        }
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> Vec<(&'a str, Value<'a>)> {
        let left = std::mem::take(&mut self.left);
        left.into_iter()
            .map(|(name, node)| (name, self.value(name, node)))
            .collect()
    }

    /// Passes over fields that mean nothing here.
    pub(crate) fn pass_over(&mut self, names: &[&str]) {
        self.left.retain(|(name, _)| !names.contains(name));
    }

    /// Refuses fields that ask for something, and say why; empty where there is nothing to say.
    pub(crate) fn refuse(&mut self, fields: &[(&str, &str)]) -> Result<(), Error> {
        for (name, why) in fields {
            let Some(value) = self.take(name) else {
                continue;
            };
            let asks = match &value.node.kind {
                Kind::Scalar(text, false) => truth(text) != Some(false),
                Kind::List(list) => !list.is_empty(),
                Kind::Scalar(..) | Kind::Map(_) => true,
            };
            if asks {
                let colon = if why.is_empty() { "" } else { ": " };
                return Err(value.error(format!("it is not supported by kelp{colon}{why}")));
            }
        }
        Ok(())
    }

    /// Refuses what nobody has taken.
    pub(crate) fn end(mut self) -> Result<(), Error> {
        match self.rest().first() {
            Some((_, value)) => {
                Err(value.error("there is no such field, or kelp does not know it"))
            }
            None => Ok(()),
        }
    }

    fn value(&self, name: &str, node: &'a Node) -> Value<'a> {
        let path = match self.of.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        Value {
            node,
            path,
            document: self.of.document,
        }
    }
}

/// The booleans of YAML 1.1, which Kubernetes reads.
fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn number(text: &str) -> Option<i64> {
    let (minus, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let parse = |digits: &str, radix| {
        let all = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
        all.then(|| i64::from_str_radix(digits, radix).ok())?
    };
    let number = match digits.as_bytes() {
        [b'0', b'x', ..] => parse(&digits[2..], 16),
        [b'0', b'o', ..] => parse(&digits[2..], 8),
        [b'0', _, ..] => parse(&digits[1..], 8),
        _ => parse(digits, 10),
    }?;
    number.checked_mul(minus)
}

/// Whether it is a number that could as well be written in another way.
fn is_odd_number(text: &str) -> bool {
    let starts = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !starts.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return false;
    }
    if let Some(number) = number(text) {
        return number.to_string() != text;
    }
    text.parse::<f64>()
        .is_ok_and(|number| number.to_string() != text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::load;

    fn with<T>(text: &str, read: impl Fn(&Value<'_>) -> T) -> T {
        let documents = load(text).unwrap();
        read(&Value::document(&documents[0].1, "document 1"))
    }

    #[test]
    fn scalars_are_what_yaml_makes_of_them() {
        for (text, expected) in [
            ("a", Some("a")),
            ("8080", Some("8080")),
            ("1.5", Some("1.5")),
            ("'0644'", Some("0644")),
            ("true", Some("true")),
            ("1.2.3", Some("1.2.3")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("64Mi", Some("64Mi")),
            ("0644", None),
            ("1.10", None),
            ("0x1f", None),
            ("1e3", None),
            ("yes", None),
            ("Off", None),
            ("[a]", None),
        ] {
            let found = with(&format!("- {text}"), |value| {
                value.items().unwrap()[0].text().ok()
            });
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        for (text, expected) in [
            ("0", Some(0)),
            ("0644", Some(0o644)),
            ("0o644", Some(0o644)),
            ("0x10", Some(16)),
            ("-5", Some(-5)),
            ("420", Some(420)),
            ("'1'", None),
            ("1.5", None),
            ("08", None),
            ("x", None),
        ] {
            let found = with(&format!("- {text}"), |value| {
                value.items().unwrap()[0].number().ok()
            });
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn what_nobody_takes_is_told_with_its_place() {
        let error = with("a: 1\nb:\n  c: 2\n  d: 3\n", |value| {
            let mut fields = value.fields().unwrap();
            fields.pass_over(&["a"]);
            let mut inner = fields.take("b").unwrap().fields().unwrap();
            assert_eq!(inner.get("c", Value::number), Ok(Some(2)));
            inner.end().unwrap_err()
        });
        assert_eq!(
            error.to_string(),
            "document 1, line 4, b.d: there is no such field, or kelp does not know it"
        );
    }

    #[test]
    fn a_field_that_asks_for_nothing_is_not_refused() {
        for (text, refused) in [
            ("x: false", false),
            ("x: []", false),
            ("x: null", false),
            ("x: true", true),
            ("x: [1]", true),
            ("x: {}", true),
        ] {
            let found = with(text, |value| {
                value
                    .fields()
                    .unwrap()
                    .refuse(&[("x", "so it is")])
                    .is_err()
            });
            assert_eq!(found, refused, "{text}");
        }
    }
}
