//! A service that is being made from a unit: what every kind of unit does the same way.

use std::path::{Component, Path, PathBuf};

use crate::finding::{Finding, Severity};
use crate::key::{self, Form, Key, Take, Value, boolean};
use crate::quote;
use crate::set::{Kind, Set, Source};
use crate::unit::{Assignment, Place, Unit};

/// What of the machine a service depends on.
pub struct Host<'a> {
    /// The absolute path of kelp.
    pub program: &'a str,
    /// The id of a user, by name.
    pub user: &'a dyn Fn(&str) -> Option<u32>,
    /// The id of a group, by name.
    pub group: &'a dyn Fn(&str) -> Option<u32>,
    /// Whether there is such a file.
    pub exists: &'a dyn Fn(&Path) -> bool,
}

/// Keys of `[Unit]` that name other units.
const DEPENDENCIES: &[&str] = &[
    "Wants",
    "Requires",
    "Requisite",
    "BindsTo",
    "PartOf",
    "Upholds",
    "Conflicts",
    "Before",
    "After",
    "OnFailure",
    "OnSuccess",
    "PropagatesReloadTo",
    "ReloadPropagatedFrom",
    "PropagatesStopTo",
    "StopPropagatedFrom",
];

/// Words of a command line that go together, and the assignment that they are of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// The key.
    pub key: &'static str,
    /// A flag, and its value if that is a word of its own; or all flags of one assignment.
    pub words: Vec<String>,
    /// Where the assignment stands; nothing of what every unit has.
    pub place: Option<Place>,
}

/// A unit of systemd's beside the service.
pub(crate) type Extra = crate::generate::Service;

pub(crate) struct Draft<'a> {
    pub host: &'a Host<'a>,
    pub set: &'a Set,
    pub source: &'a Source,
    /// The service.
    pub unit: Unit,
    pub findings: Vec<Finding>,
    /// The pod that it is started with.
    pub pod: Option<String>,
    /// The flags of the keys' command.
    pub arguments: Vec<Argument>,
    /// What there is beside the service.
    pub extra: Option<Extra>,
}

impl<'a> Draft<'a> {
    /// The unit's own sections go aside, dependencies get services' names, and what every service says is
    /// added.
    pub fn new(host: &'a Host<'a>, set: &'a Set, source: &'a Source) -> Self {
        let mut draft = Self {
            host,
            set,
            source,
            unit: source.unit.clone(),
            findings: source.findings.clone(),
            pod: None,
            arguments: Vec::new(),
            extra: None,
        };
        let section = source.kind.section();
        draft.unit.rename(section, &format!("X-{section}"));
        draft.unit.rename("Quadlet", "X-Quadlet");
        draft.translate_dependencies();
        // It is shown and no more: one that can't be written is left out.
        let path = source.path.to_str().map(quote::plain);
        if let Some(path) = path.and_then(|path| quote::only_path(&path)) {
            draft.unit.add("Unit", "SourcePath", path);
        }
        draft.unit.add("Unit", "RequiresMountsFor", "%t/kelp");
        draft
    }

    /// Names of units in `[Unit]` become those of their services; what stands around them stays as it is.
    fn translate_dependencies(&mut self) {
        let (set, source) = (self.set, self.source);
        let mut wrong = Vec::new();
        for key in DEPENDENCIES {
            for dependency in source.unit.all("Unit", key) {
                let place = dependency.place;
                let Some(names) = quote::names(&dependency.value) else {
                    let text = format!("{key}=: a quote is open to the end of the value");
                    wrong.push((place, text));
                    continue;
                };
                let units = names.iter().filter(|(_, name)| Kind::of(name).is_some());
                let missing = units.filter_map(|(_, name)| set.resolve(name, source).err());
                wrong.extend(missing.map(|why| (place, format!("{key}=: {why}"))));
            }
        }
        for (place, text) in wrong {
            self.error(place, text);
        }
        self.unit.rewrite("Unit", |dependency| {
            if !DEPENDENCIES.contains(&dependency.key.as_str()) {
                return None;
            }
            let mut value = dependency.value.clone();
            for (range, name) in quote::names(&dependency.value)?.into_iter().rev() {
                let unit = Kind::of(&name).and_then(|_| set.resolve(&name, source).ok());
                if let Some(unit) = unit {
                    value.replace_range(range, &unit.service);
                }
            }
            (value != dependency.value).then_some(value)
        });
    }

    /// The section with the unit's keys.
    pub fn section(&self) -> &'static str {
        self.source.kind.section()
    }

    /// Tells of something that there can be no service with.
    pub fn error(&mut self, place: Option<Place>, text: impl Into<String>) {
        self.find(place, Severity::Error, text.into());
    }

    /// Tells of something that a person should know.
    pub fn warn(&mut self, place: Option<Place>, text: impl Into<String>) {
        self.find(place, Severity::Warning, text.into());
    }

    fn find(&mut self, place: Option<Place>, severity: Severity, text: String) {
        let (file, line) = self.source.at(place);
        self.findings.push(Finding {
            file: file.to_owned(),
            line,
            severity,
            text,
        });
    }

    /// Where the unit's own section begins.
    pub fn header(&self) -> Option<Place> {
        let mut sections = self.source.unit.sections();
        sections
            .find(|(name, _)| *name == self.section())
            .and_then(|(_, place)| place)
    }

    /// The last assignment to a key of the unit's own section, if it is not empty.
    pub fn last(&self, key: &str) -> Option<&'a Assignment> {
        let set = self.source.unit.last(self.section(), key);
        set.filter(|set| !set.value.is_empty())
    }

    /// The value of a key that has one.
    pub fn text(&self, key: &str) -> Option<String> {
        self.source.text(key)
    }

    /// The values of a key; an error is told.
    pub fn values(&mut self, key: &str, take: Take) -> Vec<Value<'a>> {
        match key::values(&self.source.unit, self.section(), key, take) {
            Ok(values) => values,
            Err((set, why)) => {
                self.error(set.place, format!("{key}=: {why}"));
                Vec::new()
            }
        }
    }

    /// The value of a boolean key.
    pub fn truth(&mut self, key: &str) -> Option<bool> {
        let set = self.last(key)?;
        let truth = boolean(quote::whole(&set.value));
        if truth.is_none() {
            let what = format!("{key}=: {:?} is not true or false", set.value);
            self.error(set.place, what);
        }
        truth
    }

    /// The beginning of each command line: kelp, what is meant for it as a whole, and the command.
    pub fn command(&mut self, command: &[&str]) -> Vec<String> {
        let mut words = vec![self.host.program.replace('%', "%%")];
        let modules = self.values("ContainersConfModule", Take::Each);
        words.extend(
            modules
                .into_iter()
                .map(|module| format!("--module={}", module.text)),
        );
        let arguments = self.values("GlobalArgs", Take::Words);
        words.extend(arguments.into_iter().map(|argument| argument.text));
        words.extend(command.iter().map(|&word| word.to_owned()));
        words
    }

    /// What the keys of a table put on a command line, each in its turn; `own` does so for those that are a
    /// matter of their own.
    pub fn arguments(
        &mut self,
        keys: &[Key],
        words: &mut Vec<String>,
        own: &mut dyn FnMut(&mut Self, &str, &mut Vec<String>),
    ) {
        for key in keys {
            let (before, noted) = (words.len(), self.arguments.len());
            match key.form {
                Form::Own(_) => own(self, key.name, words),
                Form::Switch(flag) => match self.truth(key.name) {
                    Some(true) => words.push(flag.to_owned()),
                    Some(false) => words.push(format!("{flag}=false")),
                    None => {}
                },
                Form::When(shown) => {
                    if self.truth(key.name) == Some(true) {
                        words.extend(shown.iter().map(|&word| word.to_owned()));
                    }
                }
                form => {
                    for value in self.values(key.name, key.take) {
                        if value.text.is_empty() && value.set.value.is_empty() {
                            continue;
                        }
                        push(words, form, &value.text);
                    }
                }
            }
            // Unless its own code has done so.
            if self.arguments.len() == noted {
                self.note(key, &words[before..]);
            }
        }
    }

    /// Keeps in mind which assignments these words are of. What is no flag is nothing to be understood.
    pub fn note(&mut self, key: &Key, words: &[String]) {
        let is_flag = words.first().is_some_and(|word| word.starts_with('-'));
        if !is_flag || key.form == Form::Own("") {
            return;
        }
        let unit = &self.source.unit;
        let values = key::values(unit, self.section(), key.name, key.take);
        let values = values.unwrap_or_default().into_iter();
        let mut places: Vec<_> = values.map(|value| value.set.place).collect();
        if places.is_empty() || !words.len().is_multiple_of(places.len()) {
            places = vec![places.last().copied().flatten()];
        }
        let each = words.len() / places.len();
        for (words, place) in words.chunks(each).zip(places) {
            match self.arguments.last_mut() {
                // The words of one assignment may be a flag and its value.
                Some(last)
                    if key.form == Form::Bare && last.key == key.name && last.place == place =>
                {
                    last.words.extend_from_slice(words);
                }
                _ => self.arguments.push(Argument {
                    key: key.name,
                    words: words.to_vec(),
                    place,
                }),
            }
        }
    }

    /// Another unit that this one needs: it is started first. What it makes or runs.
    pub fn require(&mut self, place: Option<Place>, key: &str, name: &str) -> Option<String> {
        match self.set.resolve(name, self.source) {
            Ok(unit) => {
                self.unit.add("Unit", "Requires", &*unit.service);
                self.unit.add("Unit", "After", &*unit.service);
                Some(unit.resource)
            }
            Err(why) => {
                self.error(place, format!("{key}=: {why}"));
                None
            }
        }
    }

    /// A path that may be relative to the unit's file; one that begins with a specifier is not.
    pub fn absolute(&self, path: &str) -> String {
        if path.starts_with(['/', '%']) {
            return path.to_owned();
        }
        clean(&Path::new(&self.directory()).join(path))
            .to_string_lossy()
            .into_owned()
    }

    /// The directory of the unit's file, as systemd reads it.
    pub fn directory(&self) -> String {
        quote::plain(&self.source.directory().to_string_lossy())
    }

    /// `WorkingDirectory=`, unless the unit has its own.
    pub fn working_directory(&mut self, place: Option<Place>, directory: &str) {
        if let Some(path) = quote::only_path(directory) {
            self.unit.add_default("Service", "WorkingDirectory", &path);
        } else {
            let what = format!("{directory:?} can't be WorkingDirectory=: rename it");
            self.error(place, what);
        }
    }

    /// Has systemd mount what a path is on.
    pub fn wait_for(&mut self, place: Option<Place>, path: &str) {
        match quote::path(path) {
            Some(path) => self.unit.add("Unit", "RequiresMountsFor", path),
            None => self.error(place, format!("{path:?} can't be waited for: rename it")),
        }
    }

    /// The source of a mount or a volume: a path is made absolute and waited for, and a unit's name becomes what
    /// that makes.
    pub fn storage(
        &mut self,
        place: Option<Place>,
        key: &str,
        source: &str,
        units: &[Kind],
    ) -> Option<String> {
        if source.starts_with('.') {
            let path = self.absolute(source);
            self.wait_for(place, &path);
            return Some(path);
        }
        if source.starts_with('/') {
            self.wait_for(place, source);
            return Some(source.to_owned());
        }
        match Kind::of(source) {
            Some(kind) if units.contains(&kind) => self.require(place, key, source),
            _ => Some(source.to_owned()),
        }
    }

    /// `Volume=`.
    pub fn volumes(&mut self, words: &mut Vec<String>) {
        for value in self.values("Volume", Take::Each) {
            let text = match value.text.split_once(':') {
                Some((source, rest)) => {
                    let Some(source) =
                        self.storage(value.set.place, "Volume", source, &[Kind::Volume])
                    else {
                        continue;
                    };
                    if source.is_empty() {
                        rest.to_owned()
                    } else {
                        format!("{source}:{rest}")
                    }
                }
                None => value.text,
            };
            words.extend(["-v".to_owned(), text]);
        }
    }

    /// `Network=`.
    pub fn networks(&mut self, words: &mut Vec<String>) {
        for value in self.values("Network", Take::Each) {
            let place = value.set.place;
            let (name, options) = match value.text.split_once(':') {
                Some((name, options)) => (name, Some(options)),
                None => (&*value.text, None),
            };
            let text = match Kind::of(name) {
                Some(Kind::Network) => {
                    let Some(network) = self.require(place, "Network", name) else {
                        continue;
                    };
                    match options {
                        Some(options) => format!("{network}:{options}"),
                        None => network,
                    }
                }
                Some(Kind::Container) => {
                    if options.is_some() {
                        let what =
                            "Network=: a container's network is joined as it is, without options";
                        self.error(place, what);
                        continue;
                    }
                    let Some(container) = self.require(place, "Network", name) else {
                        continue;
                    };
                    format!("container:{container}")
                }
                _ => value.text,
            };
            words.extend(["--network".to_owned(), text]);
        }
    }

    /// An image's name, or what a unit pulls or builds.
    pub fn image(&mut self, set: &Assignment, key: &str) -> Option<String> {
        let name = quote::whole(&set.value);
        match Kind::of(name) {
            Some(Kind::Image | Kind::Build) => self.require(set.place, key, name),
            _ => Some(self.image_name(set, key)),
        }
    }

    /// An image's name.
    pub fn image_name(&mut self, set: &Assignment, key: &str) -> String {
        let name = quote::whole(&set.value);
        if !is_qualified(name) {
            let what = format!(
                "{key}=: {name} does not say its registry, as docker.io/library/{name} does"
            );
            self.warn(set.place, what);
        }
        name.to_owned()
    }

    /// A command of the service.
    pub fn run(&mut self, key: &str, words: &[String]) {
        self.unit.add("Service", key, quote::line(words));
    }

    /// What a service that ends by itself says; and that it counts as started then, if so.
    pub fn oneshot(&mut self, remains: bool) {
        self.unit.add_default("Service", "SyslogIdentifier", "%N");
        self.unit.add_default("Service", "Type", "oneshot");
        if remains {
            self.unit.add_default("Service", "RemainAfterExit", "yes");
        }
    }

    /// `KillMode=` of a service whose processes kelp looks after.
    pub fn kill_mode(&mut self) {
        let mode = self.source.unit.last("Service", "KillMode");
        if let Some(set) = mode
            && !matches!(&*set.value, "" | "mixed" | "control-group")
        {
            let what = format!(
                "KillMode=: {} leaves processes behind: use mixed or control-group",
                set.value
            );
            self.error(set.place, what);
        }
        if mode.is_none_or(|set| set.value.is_empty()) {
            self.unit.set("Service", "KillMode", "mixed");
        }
    }

    /// `Type=` of a service that runs containers: notify, which is the default, or oneshot. Whether it is
    /// the first.
    pub fn notifies(&mut self) -> bool {
        let service_type = self.source.unit.last("Service", "Type");
        match service_type.map(|set| (set, &*set.value)) {
            None | Some((_, "notify")) => true,
            Some((_, "oneshot")) => false,
            Some((set, other)) => {
                self.error(
                    set.place,
                    format!("Type=: {other:?} is not one of notify, oneshot"),
                );
                true
            }
        }
    }
}

/// Writes a value down as a key has it.
fn push(words: &mut Vec<String>, form: Form, value: &str) {
    match form {
        Form::Flag(flag) => words.extend([flag.to_owned(), value.to_owned()]),
        Form::Option(flag, prefix) => words.extend([flag.to_owned(), format!("{prefix}{value}")]),
        Form::Joined(prefix) => words.push(format!("{prefix}{value}")),
        Form::Bare => words.push(value.to_owned()),
        Form::Switch(_) | Form::When(_) | Form::Own(_) => {}
    }
}

/// A path without `.` and `..`, as text: nothing is looked at.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                if !clean.pop() {
                    clean.push("..");
                }
            }
            part => clean.push(part),
        }
    }
    clean
}

/// Whether an image is named so that one place alone is meant: with a registry or a transport, or by id.
fn is_qualified(name: &str) -> bool {
    let id = name.strip_prefix("sha256:").unwrap_or(name);
    if id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) || name.contains('%') {
        return true;
    }
    match name.split_once('/') {
        Some((registry, _)) => registry.contains(['.', ':']) || registry == "localhost",
        None => false,
    }
}
