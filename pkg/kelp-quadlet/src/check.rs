//! `kelp quadlet check`: all that is wrong with a unit, and not only what keeps it from becoming a service.

use std::collections::BTreeSet;

use crate::draft::Host;
use crate::finding::{Finding, Severity};
use crate::generate::generate;
use crate::key::{self, Key, Take};
use crate::quote;
use crate::set::{Kind, Set, Source};
use crate::suggest;
use crate::unit::Assignment;

/// What kelp's command line has: a command, or a flag of it.
pub type Knows<'a> = &'a dyn Fn(&[&str], Option<&str>) -> bool;

/// Sections that systemd has for a service.
const SYSTEMD: &[&str] = &["Unit", "Service", "Install"];

/// Keys of `[Install]`.
const INSTALL: &[&str] = &[
    "Alias",
    "WantedBy",
    "RequiredBy",
    "UpheldBy",
    "Also",
    "DefaultInstance",
];

/// The findings about units that `asked` says yes to, in the order of files and lines.
pub fn check(
    set: &Set,
    asked: &dyn Fn(&Source) -> bool,
    host: &Host<'_>,
    knows: Knows<'_>,
) -> Vec<Finding> {
    let mut findings = BTreeSet::new();
    for outcome in generate(set, host)
        .into_iter()
        .filter(|outcome| asked(outcome.source))
    {
        findings.extend(outcome.findings);
        let mut checker = Checker {
            source: outcome.source,
            findings: &mut findings,
        };
        checker.sections();
        checker.keys(knows);
        checker.install();
        checker.service();
    }
    findings.into_iter().collect()
}

struct Checker<'a> {
    source: &'a Source,
    findings: &'a mut BTreeSet<Finding>,
}

impl Checker<'_> {
    fn tell(&mut self, place: Option<crate::unit::Place>, severity: Severity, text: String) {
        let (file, line) = self.source.at(place);
        self.findings.insert(Finding {
            file: file.to_owned(),
            line,
            severity,
            text,
        });
    }

    /// Sections that nobody reads.
    fn sections(&mut self) {
        let source = self.source;
        let own = source.kind.section();
        let known: Vec<_> = SYSTEMD.iter().copied().chain([own, "Quadlet"]).collect();
        for (name, place) in source.unit.sections() {
            if known.contains(&name) || name.starts_with("X-") {
                continue;
            }
            let other = Kind::ALL.into_iter().find(|kind| kind.section() == name);
            let text = match (other, suggest::nearest(name, known.iter().copied())) {
                (Some(kind), _) => format!(
                    "[{name}] is for .{} files: nothing here reads it",
                    kind.extension()
                ),
                (None, Some(near)) => {
                    format!("there is no section [{name}]; did you mean [{near}]?")
                }
                (None, None) => format!("there is no section [{name}]: systemd passes over it"),
            };
            self.tell(place, Severity::Error, text);
        }
        if !source.unit.has_section(own) {
            self.tell(
                None,
                Severity::Warning,
                format!("there is no section [{own}]"),
            );
        }
    }

    fn keys(&mut self, knows: Knows<'_>) {
        let source = self.source;
        let (section, command) = (source.kind.section(), source.kind.command());
        let has_command = knows(command, None);
        if !has_command {
            let place = source.unit.sections().find(|(name, _)| *name == section);
            let text = format!(
                "kelp {} is not there yet: the service can't start",
                command.join(" ")
            );
            self.tell(place.and_then(|(_, place)| place), Severity::Warning, text);
        }
        for key in source.kind.keys() {
            self.values(section, key);
            let Some(flag) = key.flag().filter(|_| has_command) else {
                continue;
            };
            let command = if flag == "--module" { &[][..] } else { command };
            if knows(command, Some(flag)) {
                continue;
            }
            for set in source.unit.all(section, key.name) {
                let command = [&["kelp"], command].concat().join(" ");
                let text = format!(
                    "{}=: {command} has no {flag} yet: the service can't start",
                    key.name
                );
                self.tell(set.place, Severity::Warning, text);
            }
        }
        for key in key::QUADLET {
            self.values("Quadlet", key);
        }
    }

    /// What the values of a key look like.
    fn values(&mut self, section: &str, key: &Key) {
        let source = self.source;
        let sets: Vec<_> = source
            .unit
            .assignments(section)
            .filter(|set| set.key == key.name)
            .collect();
        if let (Take::Last | Take::LastWords, [before @ .., last]) = (key.take, &sets[..]) {
            for set in before.iter().filter(|set| !set.value.is_empty()) {
                let same = set
                    .place
                    .zip(last.place)
                    .filter(|(set, last)| set.file == last.file);
                if let Some((_, last)) = same {
                    let text = format!(
                        "{}= stands again in line {}, and that one counts",
                        key.name, last.line
                    );
                    self.tell(set.place, Severity::Warning, text);
                }
            }
        }
        for set in sets {
            self.value(key, set);
        }
    }

    fn value(&mut self, key: &Key, set: &Assignment) {
        let values = match key.take {
            Take::Last => vec![quote::whole(&set.value).to_owned()],
            Take::Each => vec![set.value.clone()],
            Take::Words | Take::LastWords | Take::Pairs => {
                if quote::is_open(&set.value) {
                    let text = format!("{}=: a quote is open to the end of the value", key.name);
                    self.tell(set.place, Severity::Error, text);
                }
                quote::split(&set.value).unwrap_or_default()
            }
        };
        for value in values {
            if key.take == Take::Each && value.len() > 1 && value.starts_with(['"', '\'']) {
                let text = format!(
                    "{}=: quotes are part of this value: leave them out",
                    key.name
                );
                self.tell(set.place, Severity::Error, text);
            } else if let Some(why) = key.shape.problem(&value) {
                self.tell(set.place, Severity::Error, format!("{}=: {why}", key.name));
            }
        }
    }

    /// `[Install]`, which the generator applies itself.
    fn install(&mut self) {
        let source = self.source;
        for set in source.unit.assignments("Install") {
            if set.key == "Also" {
                let text =
                    "Also= is not applied: what is generated is not enabled by anybody".to_owned();
                self.tell(set.place, Severity::Warning, text);
            } else if !INSTALL.contains(&&*set.key) && !set.key.starts_with("X-") {
                let nearest = suggest::nearest(&set.key, INSTALL.iter().copied());
                let nearest = nearest
                    .map(|key| format!("; did you mean {key}=?"))
                    .unwrap_or_default();
                self.tell(
                    set.place,
                    Severity::Error,
                    format!("{}= is no key of [Install]{nearest}", set.key),
                );
            }
        }
        let wanted = ["WantedBy", "RequiredBy", "UpheldBy"];
        let wanted = wanted
            .iter()
            .find_map(|key| source.unit.last("Install", key));
        let is_template = source.template().1 == Some("");
        if let Some(set) = wanted.filter(|_| is_template)
            && source.unit.last("Install", "DefaultInstance").is_none()
        {
            let text = format!(
                "{}=: a template is started by nothing without DefaultInstance=",
                set.key
            );
            self.tell(set.place, Severity::Warning, text);
        }
    }

    /// What in `[Service]` does not go with a service that is generated.
    fn service(&mut self) {
        let source = self.source;
        for set in source
            .unit
            .assignments("Service")
            .filter(|set| !set.value.is_empty())
        {
            let text = match &*set.key {
                "ExecStart" => format!(
                    "ExecStart=: the section [{}] says what is started",
                    source.kind.section()
                ),
                "User" | "Group" => format!(
                    "{}=: a service of kelp's runs as who has it: put the file where that user's units are",
                    set.key
                ),
                "DynamicUser" if key::boolean(&set.value) == Some(true) => {
                    "DynamicUser=: kelp needs a user who has a home and ids of its own".to_owned()
                }
                _ => continue,
            };
            self.tell(set.place, Severity::Error, text);
        }
    }
}
