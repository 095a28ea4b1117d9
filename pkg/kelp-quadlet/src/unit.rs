//! Unit files: sections of assignments, with the line of each (systemd.syntax(7)).
//!
//! A file is read to its end whatever is wrong in it, so that a check can tell all at once. What is not
//! changed is written as it was read, comments and continued lines included: systemd reads those itself.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The longest line that systemd reads (its `LONG_LINE_MAX`); bytes.
const LONGEST_LINE: usize = 1 << 20;

/// Where an assignment stands: which of the unit's files, and the line in it, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// An index into [`Unit::files`].
    pub file: usize,
    /// The line.
    pub line: usize,
}

/// `KEY=VALUE`.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The key.
    pub key: String,
    /// The value, its lines joined; the spaces around it are gone.
    pub value: String,
    /// Where it stands; nothing for what was added.
    pub place: Option<Place>,
    /// The lines as they were read, if those are more than one.
    raw: Option<String>,
}

#[derive(Clone, Debug)]
enum Item {
    /// A comment, or an empty line.
    Note(String),
    Set(Assignment),
}

#[derive(Clone, Debug)]
struct Section {
    name: String,
    /// Comments above the header.
    lead: Vec<String>,
    place: Option<Place>,
    items: Vec<Item>,
}

/// A unit: one file, or one with what drop-ins add to it.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    /// The files that it is read from.
    pub files: Vec<PathBuf>,
    sections: Vec<Section>,
}

/// A line that can't be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub text: String,
}

impl Unit {
    /// Reads a file's bytes. What can be read is there even where something is at fault.
    pub fn parse(path: &Path, bytes: &[u8]) -> (Self, Vec<Fault>) {
        let mut reader = Reader {
            unit: Self {
                files: vec![path.to_owned()],
                sections: Vec::new(),
            },
            current: None,
            notes: Vec::new(),
            faults: Vec::new(),
        };
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut lines = Lines(bytes).zip(1..);
        while let Some((line, number)) = lines.next() {
            let Some(text) = reader.text(number, line) else {
                continue;
            };
            if text.is_empty() || text.starts_with(['#', ';']) {
                reader.notes.push(text.trim_end().to_owned());
                continue;
            }
            let (mut value, mut raw) = (text.to_owned(), None::<String>);
            while is_continued(&value) && !value.starts_with('[') {
                value.pop();
                let Some((line, number)) = lines.next() else {
                    break;
                };
                let raw = raw.get_or_insert_with(|| text.to_owned());
                let Some(next) = reader.text(number, line) else {
                    continue;
                };
                if next.starts_with(['#', ';']) {
                    // As if it was not there.
                    let _ = write!(raw, "\n{}", next.trim_end());
                    value.push('\\');
                    continue;
                }
                let _ = write!(raw, "\n{next}");
                if next.is_empty() {
                    // The end, in systemd as well.
                    break;
                }
                value.push_str(next);
            }
            reader.line(number, &value, raw);
        }
        reader.finish()
    }

    /// Adds the assignments of a drop-in after those that are there.
    pub fn merge(&mut self, other: Self) {
        let base = self.files.len();
        self.files.extend(other.files);
        let moved = |place: Option<Place>| {
            place.map(|place| Place {
                file: place.file + base,
                ..place
            })
        };
        for section in other.sections {
            let place = moved(section.place);
            let into = self.section_or_new(&section.name);
            if into.items.is_empty() && into.place.is_none() {
                into.lead = section.lead;
                into.place = place;
            }
            into.items
                .extend(section.items.into_iter().map(|item| match item {
                    Item::Set(set) => Item::Set(Assignment {
                        place: moved(set.place),
                        ..set
                    }),
                    note @ Item::Note(_) => note,
                }));
        }
    }

    /// The names of the sections in their order, with where each begins.
    pub fn sections(&self) -> impl Iterator<Item = (&str, Option<Place>)> {
        self.sections
            .iter()
            .map(|section| (section.name.as_str(), section.place))
    }

    /// Whether there is such a section.
    pub fn has_section(&self, name: &str) -> bool {
        self.sections.iter().any(|section| section.name == name)
    }

    /// All assignments of a section, in their order.
    pub fn assignments(&self, section: &str) -> impl Iterator<Item = &Assignment> {
        let sections = self.sections.iter().filter(move |it| it.name == section);
        sections
            .flat_map(|section| &section.items)
            .filter_map(|item| match item {
                Item::Set(set) => Some(set),
                Item::Note(_) => None,
            })
    }

    /// The last assignment to a key, an empty one as well.
    pub fn last(&self, section: &str, key: &str) -> Option<&Assignment> {
        self.assignments(section)
            .filter(|set| set.key == key)
            .last()
    }

    /// The assignments to a key that count: an empty one takes those before it back.
    pub fn all(&self, section: &str, key: &str) -> Vec<&Assignment> {
        let mut found = Vec::new();
        for set in self.assignments(section).filter(|set| set.key == key) {
            if set.value.is_empty() {
                found.clear();
            } else {
                found.push(set);
            }
        }
        found
    }

    /// Adds an assignment at the end of a section.
    pub fn add(&mut self, section: &str, key: &str, value: impl Into<String>) {
        let set = Assignment {
            key: key.to_owned(),
            value: value.into(),
            place: None,
            raw: None,
        };
        let items = &mut self.section_or_new(section).items;
        // Before what only separates it from the next section.
        let notes = items
            .iter()
            .rev()
            .take_while(|item| matches!(item, Item::Note(text) if text.is_empty()));
        let at = items.len() - notes.count();
        items.insert(at, Item::Set(set));
    }

    /// Gives a key one value: where it stands, or at the end.
    pub fn set(&mut self, section: &str, key: &str, value: &str) {
        let sections = self.sections.iter_mut().filter(|it| it.name == section);
        let items = sections.flat_map(|section| &mut section.items);
        let mut found = items.filter_map(|item| match item {
            Item::Set(set) if set.key == key => Some(set),
            _ => None,
        });
        match found.next_back() {
            Some(set) => {
                value.clone_into(&mut set.value);
                set.raw = None;
            }
            None => self.add(section, key, value),
        }
    }

    /// Adds an assignment if the key has none.
    pub fn add_default(&mut self, section: &str, key: &str, value: &str) {
        if self.last(section, key).is_none() {
            self.add(section, key, value);
        }
    }

    /// Changes the values of a key that this gives another value for.
    pub fn rewrite(&mut self, section: &str, change: impl Fn(&Assignment) -> Option<String>) {
        for section in self.sections.iter_mut().filter(|it| it.name == section) {
            for item in &mut section.items {
                if let Item::Set(set) = item
                    && let Some(value) = change(set)
                {
                    set.value = value;
                    set.raw = None;
                }
            }
        }
    }

    /// Gives a section another name, and its assignments to a section that has that name already.
    pub fn rename(&mut self, section: &str, name: &str) {
        let Some(from) = self.sections.iter().position(|it| it.name == section) else {
            return;
        };
        if self.has_section(name) {
            let moved = self.sections.remove(from);
            self.section_or_new(name).items.extend(moved.items);
        } else {
            name.clone_into(&mut self.sections[from].name);
        }
    }

    /// The file.
    pub fn write(&self) -> String {
        let mut out = String::new();
        for section in &self.sections {
            if !out.is_empty() && section.lead.first().is_none_or(|line| !line.is_empty()) {
                out.push('\n');
            }
            for line in &section.lead {
                let _ = writeln!(out, "{line}");
            }
            let _ = writeln!(out, "[{}]", section.name);
            for item in &section.items {
                let _ = match item {
                    Item::Note(line) => writeln!(out, "{line}"),
                    Item::Set(set) => match &set.raw {
                        Some(raw) => writeln!(out, "{raw}"),
                        // A space after the backslash, or the next line would go on with this one.
                        None if is_continued(&set.value) => {
                            writeln!(out, "{}={} ", set.key, set.value)
                        }
                        None => writeln!(out, "{}={}", set.key, set.value),
                    },
                };
            }
        }
        out
    }

    fn section_or_new(&mut self, name: &str) -> &mut Section {
        let found = self.sections.iter().position(|it| it.name == name);
        let index = found.unwrap_or_else(|| {
            self.sections.push(Section {
                name: name.to_owned(),
                lead: Vec::new(),
                place: None,
                items: Vec::new(),
            });
            self.sections.len() - 1
        });
        &mut self.sections[index]
    }
}

/// The lines of a file as systemd reads them: a line feed ends one, or a carriage return, or each of both in either
/// order. Who took the first alone would not see what stands behind the other.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let end = self.0.iter().position(is_end).unwrap_or(self.0.len());
        let (line, rest) = self.0.split_at(end);
        self.0 = match rest {
            [b'\n', b'\r', rest @ ..] | [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
            [] => rest,
        };
        Some(line)
    }
}

struct Reader {
    unit: Unit,
    /// The section that is read, by its index.
    current: Option<usize>,
    /// Comments that nothing has followed yet.
    notes: Vec<String>,
    faults: Vec<Fault>,
}

impl Reader {
    /// A line without the spaces before it.
    fn text<'a>(&mut self, number: usize, line: &'a [u8]) -> Option<&'a str> {
        let fault = if line.len() > LONGEST_LINE {
            format!("the line is longer than {LONGEST_LINE} bytes, which systemd does not read")
        } else if line.contains(&0) {
            "a zero byte: this is no text".into()
        } else if let Ok(text) = std::str::from_utf8(line) {
            return Some(text.trim_start_matches(|char: char| char.is_ascii_whitespace()));
        } else {
            "not UTF-8: write the file anew in that encoding".into()
        };
        self.fault(number, fault);
        None
    }

    fn fault(&mut self, line: usize, text: impl Into<String>) {
        let text = text.into();
        self.faults.push(Fault { line, text });
    }

    fn line(&mut self, number: usize, text: &str, raw: Option<String>) {
        let place = Some(Place {
            file: 0,
            line: number,
        });
        let text = text.trim_end_matches(|char: char| char.is_ascii_whitespace());
        if let Some(rest) = text.strip_prefix('[') {
            let Some(name) = rest.strip_suffix(']') else {
                return self.fault(number, format!("{text:?} is no section: it is [NAME]"));
            };
            let forbidden = |char: char| char.is_ascii_control() || matches!(char, '[' | ']');
            if name.is_empty() || name.contains(forbidden) {
                return self.fault(number, format!("[{name}] is no name of a section"));
            }
            let notes = std::mem::take(&mut self.notes);
            let sections = &mut self.unit.sections;
            self.current = sections.iter().position(|it| it.name == name);
            if let Some(index) = self.current {
                sections[index]
                    .items
                    .extend(notes.into_iter().map(Item::Note));
            } else {
                self.current = Some(sections.len());
                sections.push(Section {
                    name: name.to_owned(),
                    lead: notes,
                    place,
                    items: Vec::new(),
                });
            }
            return;
        }
        let Some((key, value)) = text
            .split_once('=')
            .filter(|(key, _)| !key.trim().is_empty())
        else {
            let shown: String = text.chars().take(60).collect();
            let what = format!("{shown:?} is neither KEY=VALUE, nor a section, nor a comment");
            return self.fault(number, what);
        };
        let Some(index) = self.current else {
            let what = format!("{}= stands before the first section", key.trim_end());
            return self.fault(number, what);
        };
        let items = &mut self.unit.sections[index].items;
        items.extend(self.notes.drain(..).map(Item::Note));
        items.push(Item::Set(Assignment {
            key: key.trim_end().to_owned(),
            value: value
                .trim_matches(|char: char| char.is_ascii_whitespace())
                .to_owned(),
            place,
            raw,
        }));
    }

    fn finish(mut self) -> (Unit, Vec<Fault>) {
        if let Some(section) = self.unit.sections.last_mut() {
            section.items.extend(self.notes.drain(..).map(Item::Note));
        }
        (self.unit, self.faults)
    }
}

/// Whether a line goes on in the next one: an odd number of backslashes at its end.
fn is_continued(text: &str) -> bool {
    let backslashes = text.bytes().rev().take_while(|byte| *byte == b'\\').count();
    backslashes % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: impl AsRef<[u8]>) -> (Unit, Vec<Fault>) {
        Unit::parse(Path::new("/q/t.container"), text.as_ref())
    }

    /// The assignments of `[S]`, each with its line.
    fn sets(text: impl AsRef<[u8]>) -> Vec<(String, String, usize)> {
        let (unit, faults) = parse(text);
        assert_eq!(faults, []);
        let sets = unit.assignments("S");
        sets.map(|set| (set.key.clone(), set.value.clone(), set.place.unwrap().line))
            .collect()
    }

    #[test]
    fn lines_are_joined_and_known() {
        for (text, expected) in [
            ("[S]\nA=b", &[("A", "b", 2)][..]),
            ("  [S]  \n\tA = b c  \n", &[("A", "b c", 2)]),
            ("[S]\r\nA=b\r\nC=\r\n", &[("A", "b", 2), ("C", "", 3)]),
            ("[S]\rA=b\rC=d", &[("A", "b", 2), ("C", "d", 3)]),
            (
                "[S]\n\rA=b\n\r\nC=d\r\r\nE=f",
                &[("A", "b", 2), ("C", "d", 4), ("E", "f", 6)],
            ),
            ("[S]\n# x\rA=b\n", &[("A", "b", 3)]),
            ("[S]\nA=b \\\rc\n", &[("A", "b c", 2)]),
            ("[S]\nA=b \\ \nC=d\n", &[("A", "b \\", 2), ("C", "d", 3)]),
            ("\u{feff}[S]\nA=b\n", &[("A", "b", 2)]),
            ("[S]\nA=b \\\n  c\nD=e\n", &[("A", "b c", 2), ("D", "e", 4)]),
            ("[S]\nA=b,\\\n  c\n", &[("A", "b,c", 2)]),
            ("[S]\nA=b \\\r\n  c\r\n", &[("A", "b c", 2)]),
            ("[S]\nA=b \\\n# x\n ; y\nc\n", &[("A", "b c", 2)]),
            ("[S]\nA=b \\\n\nC=d\n", &[("A", "b", 2), ("C", "d", 4)]),
            ("[S]\nA=b \\\\\nC=d\n", &[("A", "b \\\\", 2), ("C", "d", 3)]),
            ("[S]\nA=b \\", &[("A", "b", 2)]),
            ("[S]\nA=b \\\n[T]\n", &[("A", "b [T]", 2)]),
            ("[S]\n# A=b \\\nC=d\n", &[("C", "d", 3)]),
            (
                "[S]\nA=b # c\nA=a=b\n",
                &[("A", "b # c", 2), ("A", "a=b", 3)],
            ),
            (
                "[S]\nA=1\n[T]\nB=2\n[S]\nC=3\n",
                &[("A", "1", 2), ("C", "3", 6)],
            ),
        ] {
            let expected = expected.iter();
            let expected: Vec<_> = expected
                .map(|(key, value, line)| ((*key).into(), (*value).into(), *line))
                .collect();
            assert_eq!(sets(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_unit_is_told_with_its_line_and_the_rest_is_read() {
        let long = [&b"[S]\nA="[..], &vec![b'x'; LONGEST_LINE]].concat();
        for (text, line, said) in [
            (
                &b"A=b\n[S]\nC=d"[..],
                1,
                "A= stands before the first section",
            ),
            (b"[S\n[S]\nC=d", 1, "\"[S\" is no section: it is [NAME]"),
            (
                b"[S] x\n[S]\nC=d",
                1,
                "\"[S] x\" is no section: it is [NAME]",
            ),
            (b"[]\n[S]\nC=d", 1, "[] is no name of a section"),
            (
                b"[S]\nFoo\nC=d",
                2,
                "\"Foo\" is neither KEY=VALUE, nor a section, nor a comment",
            ),
            (
                b"[S]\n=x\nC=d",
                2,
                "\"=x\" is neither KEY=VALUE, nor a section, nor a comment",
            ),
            (b"[S]\nA=\0\nC=d", 2, "a zero byte: this is no text"),
            (
                b"[S]\nA=\xff\nC=d",
                2,
                "not UTF-8: write the file anew in that encoding",
            ),
            (
                b"[S]\nA=b \\\n\xff\nC=d",
                3,
                "not UTF-8: write the file anew in that encoding",
            ),
            (
                &[&long[..], b"\nC=d"].concat(),
                2,
                "the line is longer than 1048576 bytes, which systemd does not read",
            ),
        ] {
            let (unit, faults) = parse(text);
            let text = said.to_owned();
            assert_eq!(faults, [Fault { line, text }]);
            assert_eq!(
                unit.last("S", "C").map(|set| &*set.value),
                Some("d"),
                "{said}"
            );
        }
    }

    #[test]
    fn an_empty_value_takes_back_what_was_before() {
        let (unit, _) = parse("[S]\nA=1\nA=2\nA=\nA=3\nB=1\nB=\n");
        let values = |key| {
            let sets = unit.all("S", key).into_iter();
            sets.map(|set| &*set.value).collect::<Vec<_>>()
        };
        assert_eq!(values("A"), ["3"]);
        assert_eq!(values("B"), [""; 0]);
        assert_eq!(unit.last("S", "B").map(|set| &*set.value), Some(""));
    }

    #[test]
    fn what_is_not_changed_is_written_as_it_was() {
        let text = "\
# top

[Unit]
# kept
Description=a \\
b \\
# inside
c

; above
[S]
A=1
";
        let (mut unit, _) = parse(text);
        assert_eq!(unit.write(), text);
        unit.add("Unit", "After", "x");
        unit.set("S", "A", "2");
        unit.add_default("S", "A", "3");
        unit.add("T", "B", "4");
        unit.rename("S", "X-S");
        let expected = text.replace("c\n", "c\nAfter=x\n");
        let expected = expected.replace("[S]\nA=1\n", "[X-S]\nA=2\n\n[T]\nB=4\n");
        assert_eq!(unit.write(), expected);
    }

    #[test]
    fn what_is_written_has_the_lines_that_were_read() {
        for (text, written) in [
            ("[S]\rA=b\r# c\rD=e", "[S]\nA=b\n# c\nD=e\n"),
            ("[S]\nA=b \\\rc \r\nD=e", "[S]\nA=b \\\nc \nD=e\n"),
            ("[S]\nA=b \\ \nD=e", "[S]\nA=b \\ \nD=e\n"),
            ("[S]\nA=b \\", "[S]\nA=b\n"),
        ] {
            let (unit, _) = parse(text);
            assert_eq!(unit.write(), written, "{text:?}");
            assert_eq!(parse(written).0.write(), written);
        }
    }

    #[test]
    fn a_drop_in_keeps_its_own_lines() {
        let (mut unit, _) = parse("[S]\nA=1\n");
        let (more, _) = Unit::parse(Path::new("/q/t.conf"), b"\n[S]\nA=2\n[T]\nB=3\n");
        unit.merge(more);
        let last = unit.last("S", "A").unwrap();
        assert_eq!(last.place, Some(Place { file: 1, line: 3 }));
        assert_eq!(unit.files[1], Path::new("/q/t.conf"));
        assert_eq!(unit.write(), "[S]\nA=1\nA=2\n\n[T]\nB=3\n");
    }
}
