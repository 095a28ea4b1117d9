//! `kelp quadlet check`: all that is wrong with a unit, and not only what keeps it from becoming a service.

use std::collections::BTreeSet;

use crate::draft::{Argument, Host};
use crate::finding::{Finding, Severity};
use crate::generate::generate;
use crate::key::{self, Key, Take};
use crate::quote;
use crate::set::{Kind, Set, Source};
use crate::suggest;
use crate::unit::Assignment;

/// What a command has against these flags, in a line.
type Refuses<'a> = &'a dyn Fn(&[&str], &[String]) -> Option<String>;

/// kelp's command line.
pub struct Grammar<'a> {
    /// Whether it has a command, or a flag of it.
    pub knows: &'a dyn Fn(&[&str], Option<&str>) -> bool,
    /// What a command has against these flags, in a line.
    pub refuses: Refuses<'a>,
}

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
    grammar: &Grammar<'_>,
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
        checker.keys(grammar);
        checker.install();
        checker.service();
        checker.arguments(outcome.arguments, grammar);
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

    fn keys(&mut self, grammar: &Grammar<'_>) {
        let (source, knows) = (self.source, grammar.knows);
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

    /// What kelp says of the flags: those that it refuses one by one, each in its line, and then those that
    /// don't go together. A value with a specifier or a variable is known to systemd alone.
    fn arguments(&mut self, mut arguments: Vec<Argument>, grammar: &Grammar<'_>) {
        let source = self.source;
        let command = source.kind.command();
        if !(grammar.knows)(command, None) {
            return;
        }
        let mut is_whole = true;
        arguments.retain(|argument| {
            let mut keys = source.kind.keys();
            let key = keys.find(|key| key.name == argument.key);
            let flag = key.and_then(Key::flag);
            // It was told already if it is not there.
            let is_known = flag.is_none_or(|flag| (grammar.knows)(command, Some(flag)));
            let is_open = argument.words.iter().any(|word| word.contains(['%', '$']));
            is_whole &= is_known && (!is_open || argument.place.is_none());
            is_known && !is_open
        });
        let line = |arguments: &[Argument]| {
            let words = arguments.iter().flat_map(|argument| argument.words.clone());
            let words: Vec<_> = words.collect();
            (grammar.refuses)(command, &words)
        };
        let usual = line(&[]);
        while let Some(why) = line(&arguments).filter(|why| usual.as_ref() != Some(why)) {
            let own =
                |argument: &Argument| line(std::slice::from_ref(argument)).as_ref() == Some(&why);
            let Some(index) = arguments.iter().position(own) else {
                if is_whole {
                    self.tell(None, Severity::Error, why);
                }
                break;
            };
            let argument = arguments.remove(index);
            let (file, line) = source.at(argument.place);
            let is_told = |finding: &Finding| {
                finding.file == file && finding.line == line && finding.is_error()
            };
            if !self.findings.iter().any(is_told) {
                let text = format!("{}=: {why}", argument.key);
                self.tell(argument.place, Severity::Error, text);
            }
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
            if set.key.starts_with("Exec") {
                self.command(set);
            }
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

    /// A command of `[Service]`, which is systemd's to split.
    fn command(&mut self, set: &Assignment) {
        let key = &set.key;
        if quote::is_open(&set.value) {
            let text = format!(
                "{key}=: a quote is open to the end of the value: systemd loads no such service"
            );
            self.tell(set.place, Severity::Error, text);
        } else if let Err(why) = quote::split(&set.value) {
            let text = format!("{key}=: {why}: systemd leaves it as it stands");
            self.tell(set.place, Severity::Warning, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::unit::Unit;

    /// What is said of `[Container]` with these lines by a kelp that refuses words with "bad" in them, and two of
    /// "apart".
    fn said(lines: &str) -> Vec<String> {
        let text = format!("[Container]\nImage=quay.io/a/b:1\n{lines}\n");
        let path = Path::new("/q/a.container");
        let (unit, faults) = Unit::parse(path, text.as_bytes());
        assert_eq!(faults, []);
        let mut set = Set::default();
        set.add(Source {
            name: "a.container".into(),
            path: path.into(),
            kind: Kind::Container,
            unit,
            findings: Vec::new(),
        });
        let host = Host {
            program: "/usr/bin/kelp",
            user: &|_| None,
            group: &|_| None,
            exists: &|_| false,
        };
        let grammar = Grammar {
            knows: &|_, flag| flag != Some("--tz"),
            refuses: &|_, words| {
                let bad = words.iter().find(|word| word.contains("bad"));
                let apart = words.iter().filter(|word| word.contains("apart"));
                let apart = (apart.count() > 1).then(|| "they stay apart".to_owned());
                bad.map(|word| format!("{word} is refused")).or(apart)
            },
        };
        let findings = check(&set, &|_| true, &host, &grammar);
        let lines = findings.iter().map(ToString::to_string);
        lines
            .map(|line| line.strip_prefix("/q/a.container:").unwrap().to_owned())
            .collect()
    }

    #[test]
    fn what_kelp_refuses_is_told_in_its_line() {
        let expected = |lines: &[&str]| {
            lines
                .iter()
                .map(|&line| line.to_owned())
                .collect::<Vec<_>>()
        };
        for (lines, told) in [
            ("HostName=good", &[][..]),
            ("HostName=bad", &["3: error: HostName=: bad is refused"]),
            (
                "Volume=/a:/a\nVolume=/bad:/b\nVolume=/c:/bad",
                &[
                    "4: error: Volume=: /bad:/b is refused",
                    "5: error: Volume=: /c:/bad is refused",
                ],
            ),
            ("LogOpt=a=1 b=bad", &["3: error: LogOpt=: b=bad is refused"]),
            (
                "PodmanArgs=--good x\nPodmanArgs=--flag bad y",
                &["4: error: PodmanArgs=: bad is refused"],
            ),
            ("SubUIDMap=bad", &["3: error: SubUIDMap=: bad is refused"]),
            ("RunInit=yes\nExec=-bad --bad", &[]),
            // systemd replaces it.
            ("HostName=%H-bad", &[]),
            // That it is not there is told, and no more.
            (
                "Timezone=bad",
                &["3: warning: Timezone=: kelp run has no --tz yet: the service can't start"],
            ),
            // Its shape was told already.
            (
                "Memory=bad",
                &["3: error: Memory=: \"bad\" is not a size as 512m or 2g"],
            ),
            (
                "HostName=apart\nUserNS=keep-id:apart",
                &[" error: they stay apart"],
            ),
            // What is not seen may be what they need.
            ("HostName=apart\nUserNS=keep-id:apart\nAppArmor=%i", &[]),
        ] {
            assert_eq!(said(lines), expected(told), "{lines}");
        }
    }

    #[test]
    fn commands_of_the_service_are_read_as_systemd_reads_them() {
        for (line, told) in [
            ("ExecStartPre=/bin/true \"a b\" \\x41", None),
            (
                "ExecStartPre=/bin/true \\x4g",
                Some(
                    "4: warning: ExecStartPre=: \\x is followed by no code of 2 digits: systemd leaves it as it stands",
                ),
            ),
            (
                "ExecStopPost=/bin/true 'a",
                Some(
                    "4: error: ExecStopPost=: a quote is open to the end of the value: systemd loads no such service",
                ),
            ),
        ] {
            let told: Vec<_> = told.into_iter().map(str::to_owned).collect();
            assert_eq!(said(&format!("[Service]\n{line}")), told);
        }
    }
}
