//! Services from units.

use std::collections::{BTreeMap, BTreeSet};

use crate::draft::{Argument, Draft, Host};
use crate::finding::{Finding, Severity};
use crate::install::{self, Link};
use crate::key;
use crate::kind;
use crate::set::{Set, Source};
use crate::shape;
use crate::suggest;

/// A service, or a unit beside one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The file's name, with `.service`, or what else it is.
    pub name: String,
    /// What is in the file.
    pub text: String,
    /// The links to it.
    pub links: Vec<Link>,
}

/// What has come of a unit.
#[derive(Clone, Debug)]
pub struct Outcome<'a> {
    /// The unit.
    pub source: &'a Source,
    /// The service; nothing if something is wrong.
    pub service: Option<Service>,
    /// The socket unit beside it, if it has sockets.
    pub socket: Option<Service>,
    /// What a person should know.
    pub findings: Vec<Finding>,
    /// The flags that its keys become, of [`crate::Kind::command`].
    pub arguments: Vec<Argument>,
}

/// Makes the services of all units, those first that others refer to.
pub fn generate<'a>(set: &'a Set, host: &Host<'_>) -> Vec<Outcome<'a>> {
    let mut outcomes = Vec::new();
    let mut taken: BTreeMap<String, &Source> = BTreeMap::new();
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let none = Vec::new();
    for source in set.iter() {
        let mut draft = Draft::new(host, set, source);
        check_keys(&mut draft);
        let name = source.service();
        if let Some(why) = shape::service_name(&name) {
            match draft.last("ServiceName") {
                Some(set) => draft.error(set.place, format!("ServiceName=: {why}")),
                None => draft.error(None, format!("no service can have this name: {why}")),
            }
        }
        let name = format!("{name}.service");
        if let Some(other) = taken.get(&name) {
            let what = format!(
                "{} has the service {name} already: give one of them a ServiceName=",
                other.path.display()
            );
            draft.error(None, what);
        }
        kind::convert(&mut draft, members.get(&source.name).unwrap_or(&none));
        let links = install::links(source, &name, &mut draft.findings);
        let mut seen = BTreeSet::new();
        draft
            .findings
            .retain(|finding| seen.insert(finding.clone()));
        let failed = draft.findings.iter().any(Finding::is_error);
        if !failed {
            taken.insert(name.clone(), source);
            if let Some(pod) = draft.pod.take()
                && let Some(service) = member(set, &pod, source, &name)
            {
                members.entry(pod).or_default().push(service);
            }
        }
        outcomes.push(Outcome {
            source,
            service: (!failed).then(|| Service {
                name,
                text: draft.unit.write(),
                links,
            }),
            socket: draft.extra.filter(|_| !failed),
            findings: draft.findings,
            arguments: draft.arguments,
        });
    }
    part(set, &mut outcomes);
    outcomes
}

/// Takes away the links that would be in the place of a service, or of a link to another one: the generator that
/// writes them all would put the last one there.
fn part(set: &Set, outcomes: &mut [Outcome<'_>]) {
    let services = set.iter();
    let services = services.map(|source| (format!("{}.service", source.service()), source));
    let services: BTreeMap<String, &Source> = services.collect();
    let mut taken: BTreeMap<String, (String, &Source)> = BTreeMap::new();
    for outcome in outcomes {
        let (source, findings) = (outcome.source, &mut outcome.findings);
        let Some(service) = &mut outcome.service else {
            continue;
        };
        service.links.retain(|link| {
            let other = services.get(&link.path).copied();
            let other = other.or_else(|| {
                let (target, other) = taken.get(&link.path)?;
                (*target != link.target).then_some(*other)
            });
            let Some(other) = other else {
                let target = (link.target.clone(), source);
                taken.insert(link.path.clone(), target);
                return true;
            };
            let (file, line) = source.at(link.place);
            let what = format!("{} is taken by {}", link.path, other.path.display());
            findings.push(Finding {
                severity: Severity::Warning,
                ..Finding::error(file, line, what)
            });
            false
        });
    }
}

/// What a pod wants where a container is started with it: of a template the instance that both have, or the
/// one that is the default; of neither there is nothing to start.
fn member(set: &Set, pod: &str, container: &Source, service: &str) -> Option<String> {
    let Some(prefix) = service.strip_suffix("@.service") else {
        return Some(service.to_owned());
    };
    let instance = match set.get(pod)?.template() {
        (_, Some(_)) => "%i",
        (_, None) => &*container.unit.last("Install", "DefaultInstance")?.value,
    };
    let name = format!("{prefix}@{instance}.service");
    let is_right = !instance.is_empty() && shape::service_with_specifiers(&name).is_none();
    is_right.then_some(name)
}

/// Keys that the unit's own sections don't have.
fn check_keys(draft: &mut Draft<'_>) {
    let source = draft.source;
    let own: Vec<_> = source.kind.keys().map(|key| key.name).collect();
    let quadlet: Vec<_> = key::QUADLET.iter().map(|key| key.name).collect();
    for (section, known) in [(source.kind.section(), own), ("Quadlet", quadlet)] {
        for set in source.unit.assignments(section) {
            if known.contains(&&*set.key) {
                continue;
            }
            let nearest = suggest::nearest(&set.key, known.iter().copied());
            let nearest = nearest.map(|key| format!("; did you mean {key}=?"));
            let what = format!(
                "{}= is no key of [{section}]{}",
                set.key,
                nearest.unwrap_or_default()
            );
            draft.error(set.place, what);
        }
    }
}
