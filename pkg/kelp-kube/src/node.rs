//! A stream of YAML documents as trees that know their lines.
//!
//! Scalars stay the text that they are: what `0644` or `yes` is depends on who reads it. Aliases are resolved here
//! and so are merge keys (`<<`), and both nesting and what aliases may grow to are bounded: a stream may come from
//! anywhere.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::Error;

/// How deep a document may be.
const DEPTH: usize = 64;

/// How many nodes aliases may add.
const ALIASED: usize = 20_000;

/// A value and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// From 1.
    pub line: usize,
    /// What it is.
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A scalar: its text, and whether it was quoted, and so can be nothing but text.
    Scalar(String, bool),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// Whether nothing was said.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(text, false) if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    fn size(&self) -> usize {
        match &self.kind {
            Kind::Scalar(..) => 1,
            Kind::List(list) => 1 + list.iter().map(Self::size).sum::<usize>(),
            Kind::Map(map) => 1 + map.iter().map(|(_, node)| node.size()).sum::<usize>(),
        }
    }
}

/// Reads the documents of a stream. Empty ones are left out, and yet count; the numbers are from 1.
pub(crate) fn load(text: &str) -> Result<Vec<(usize, Node)>, Error> {
    let mut loader = Loader::default();
    for event in Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        let (event, span) =
            event.map_err(|error| fault(error.marker().line(), error.info().to_owned()))?;
        loader.take(event, span.start.line())?;
    }
    Ok(loader.documents)
}

fn fault(line: usize, text: impl Into<String>) -> Error {
    Error {
        document: String::new(),
        line,
        path: String::new(),
        text: text.into(),
    }
}

/// A list or mapping that is being read.
struct Open {
    line: usize,
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    /// And the key whose value comes next.
    Map(Vec<(String, Node)>, Option<String>),
}

#[derive(Default)]
struct Loader {
    documents: Vec<(usize, Node)>,
    number: usize,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    aliased: usize,
}

impl Loader {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), Error> {
        match event {
            Event::DocumentStart(_) => {
                self.number += 1;
                self.anchors.clear();
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_text =
                    tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                let quoted = style != ScalarStyle::Plain || is_text;
                let kind = Kind::Scalar(text.into_owned(), quoted);
                self.add(Node { line, kind }, anchor)?;
            }
            Event::SequenceStart(anchor, _) => {
                self.begin(line, anchor, OpenKind::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, _) => {
                self.begin(line, anchor, OpenKind::Map(Vec::new(), None))?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end()?,
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node =
                    node.ok_or_else(|| fault(line, "an alias of something that it is in"))?;
                self.aliased += node.size();
                if self.aliased > ALIASED {
                    return Err(fault(line, "aliases make too much of this stream"));
                }
                self.add(node, 0)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn begin(&mut self, line: usize, anchor: usize, kind: OpenKind) -> Result<(), Error> {
        if self.open.len() >= DEPTH {
            return Err(fault(
                line,
                format!("it is nested deeper than {DEPTH} levels"),
            ));
        }
        if let Some(Open {
            kind: OpenKind::Map(_, None),
            ..
        }) = self.open.last()
        {
            return Err(fault(line, "a key has to be text"));
        }
        self.open.push(Open { line, anchor, kind });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        let Some(Open { line, anchor, kind }) = self.open.pop() else {
            return Ok(());
        };
        let kind = match kind {
            OpenKind::List(list) => Kind::List(list),
            OpenKind::Map(map, _) => Kind::Map(merge(map)?),
        };
        self.add(Node { line, kind }, anchor)
    }

    /// Adds a whole node to what is open.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Error> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None if node.is_null() => {}
            None => self.documents.push((self.number, node)),
            Some(OpenKind::List(list)) => list.push(node),
            Some(OpenKind::Map(map, key)) => match (key.take(), node) {
                (Some(name), node) => map.push((name, node)),
                (
                    None,
                    Node {
                        line,
                        kind: Kind::Scalar(name, _),
                    },
                ) => {
                    if map.iter().any(|(known, _)| *known == name) {
                        return Err(fault(line, format!("{name} is said twice")));
                    }
                    *key = Some(name);
                }
                (None, Node { line, .. }) => return Err(fault(line, "a key has to be text")),
            },
        }
        Ok(())
    }
}

/// Adds what a merge key brings and the mapping does not say itself.
fn merge(mut map: Vec<(String, Node)>) -> Result<Vec<(String, Node)>, Error> {
    let Some(place) = map.iter().position(|(key, _)| key == "<<") else {
        return Ok(map);
    };
    let (_, node) = map.remove(place);
    let sources = match node {
        Node {
            kind: Kind::List(list),
            ..
        } => list,
        one => vec![one],
    };
    for source in sources {
        let Kind::Map(entries) = source.kind else {
            return Err(fault(source.line, "<< merges mappings, and this is none"));
        };
        for (key, node) in entries {
            if !map.iter().any(|(known, _)| *known == key) {
                map.push((key, node));
            }
        }
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_keep_their_numbers_and_lines() {
        let documents =
            load("---\n# nothing\n---\na: 1\nb:\n  - x\n  - 'y'\n---\nc: {d: e}\n").unwrap();
        let numbers: Vec<_> = documents.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [2, 3]);
        let Kind::Map(map) = &documents[0].1.kind else {
            panic!("no mapping")
        };
        assert_eq!(map[1].0, "b");
        let Kind::List(list) = &map[1].1.kind else {
            panic!("no list")
        };
        assert_eq!(
            (list[1].line, &list[1].kind),
            (7, &Kind::Scalar("y".to_owned(), true))
        );
    }

    #[test]
    fn aliases_and_merge_keys_are_resolved() {
        let documents = load("a: &x {k: 1, l: 2}\nb: {<<: *x, l: 3}\n").unwrap();
        let Kind::Map(map) = &documents[0].1.kind else {
            panic!("no mapping")
        };
        let Kind::Map(merged) = &map[1].1.kind else {
            panic!("no mapping")
        };
        let texts: Vec<_> = merged
            .iter()
            .map(|(key, node)| (key.as_str(), node.kind.clone()))
            .collect();
        let scalar = |text: &str| Kind::Scalar(text.to_owned(), false);
        assert_eq!(texts, [("l", scalar("3")), ("k", scalar("1"))]);
    }

    #[test]
    fn what_is_no_document_is_told_with_its_line() {
        for (text, line, said) in [
            ("a: 1\na: 2\n", 2, "a is said twice"),
            ("a: [\n", 2, ""),
            ("[a]: 1\n", 1, "a key has to be text"),
            ("a: *b\n", 1, ""),
            ("<<: 1\n", 1, "<< merges mappings, and this is none"),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.text.contains(said), "{text:?}: {error}");
            assert_eq!(error.line, line, "{text:?}: {error}");
        }
        assert!(load(&"[".repeat(1000)).is_err());
        let mut laughs = "a: &a [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
        for (before, now) in ["ab", "bc", "cd", "de", "ef"]
            .iter()
            .map(|pair| pair.split_at(1))
        {
            let aliases = vec![format!("*{before}"); 10].join(",");
            laughs.extend([now, ": &", now, " [", &aliases, "]\n"]);
        }
        assert!(load(&laughs).unwrap_err().text.contains("aliases"));
    }
}
