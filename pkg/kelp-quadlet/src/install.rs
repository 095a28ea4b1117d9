//! `[Install]`: the links by which systemd starts a service, made as `systemctl enable` would. A generator has to
//! make them itself: what is generated can't be enabled.

use crate::finding::{Finding, Severity};
use crate::quote;
use crate::set::Source;
use crate::shape;
use crate::unit::{Assignment, Place};

/// A link to be made beside the services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its path beneath the directory of the services.
    pub path: String,
    /// Where it leads to.
    pub target: String,
    /// Where the unit asks for it.
    pub place: Option<Place>,
}

/// The links of a unit whose service has this name (with `.service`).
pub(crate) fn links(source: &Source, service: &str, findings: &mut Vec<Finding>) -> Vec<Link> {
    let mut tell = |set: &Assignment, text: String| {
        let (file, line) = source.at(set.place);
        findings.push(Finding {
            severity: Severity::Warning,
            ..Finding::error(file, line, format!("{}=: {text}", set.key))
        });
    };
    let mut links = Vec::new();
    for (name, place) in names(source, "Alias", service, &mut tell) {
        links.push(Link {
            path: name,
            target: service.to_owned(),
            place,
        });
    }
    let wanted = [
        ("WantedBy", "wants"),
        ("RequiredBy", "requires"),
        ("UpheldBy", "upholds"),
    ];
    let wanted = wanted.map(|(key, directory)| (names(source, key, service, &mut tell), directory));
    // A template is started as an instance.
    let name = match service.strip_suffix("@.service") {
        None => service.to_owned(),
        Some(prefix) => {
            let instance = source.unit.last("Install", "DefaultInstance");
            let Some(set) = instance.filter(|set| !set.value.is_empty()) else {
                return links;
            };
            let name = format!("{prefix}@{}.service", set.value);
            if let Some(why) = shape::unit_name(&name) {
                tell(set, why);
                return links;
            }
            name
        }
    };
    for (units, directory) in wanted {
        for (unit, place) in units {
            links.push(Link {
                path: format!("{unit}.{directory}/{name}"),
                target: format!("../{service}"),
                place,
            });
        }
    }
    links
}

/// The units that a key names, each with where it stands. What can't be one is told.
fn names(
    source: &Source,
    key: &str,
    service: &str,
    tell: &mut dyn FnMut(&Assignment, String),
) -> Vec<(String, Option<Place>)> {
    let mut found = Vec::new();
    for set in source.unit.all("Install", key) {
        let words = quote::split(&set.value).unwrap_or_else(|why| {
            tell(set, why);
            Vec::new()
        });
        for word in words {
            let name = expand(&word, source, service);
            match name.and_then(|name| usable(key, name, service)) {
                Ok(name) => found.push((name, set.place)),
                Err(why) => tell(set, why),
            }
        }
    }
    found
}

/// The name, if a link can have it: it is a unit's, so no path that leads elsewhere.
fn usable(key: &str, name: String, service: &str) -> Result<String, String> {
    if let Some(why) = shape::unit_name(&name) {
        return Err(why);
    }
    if key != "Alias" {
        return Ok(name);
    }
    if name == service {
        return Err(format!("{name} is the service itself"));
    }
    // systemd takes no alias of another type (systemd.unit(5)).
    if name.strip_suffix(".service").is_none() {
        return Err(format!("{name} can't be an alias: {service} is a service"));
    }
    if instance(&name) != instance(service) {
        return Err(format!(
            "{name} can't be an alias: {service} is another instance"
        ));
    }
    Ok(name)
}

/// The instance that a name is of, empty of a template: systemd takes no alias that is another one.
fn instance(name: &str) -> Option<&str> {
    let (stem, _) = name.rsplit_once('.')?;
    stem.split_once('@').map(|(_, instance)| instance)
}

/// The specifiers that are known before the service runs.
fn expand(word: &str, source: &Source, service: &str) -> Result<String, String> {
    let stem = service.strip_suffix(".service").unwrap_or(service);
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    let mut out = String::new();
    let mut rest = word.chars();
    while let Some(char) = rest.next() {
        if char != '%' {
            out.push(char);
            continue;
        }
        match rest.next() {
            Some('n') => out.push_str(service),
            Some('N') => out.push_str(stem),
            Some('p') => out.push_str(prefix),
            Some('i')
                if source
                    .template()
                    .1
                    .is_some_and(|instance| !instance.is_empty()) =>
            {
                out.push_str(instance);
            }
            Some('%') => out.push('%'),
            other => {
                let letter = other.map(String::from).unwrap_or_default();
                return Err(format!("%{letter} in {word:?} has no value here"));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::set::Kind;
    use crate::unit::Unit;

    fn source(name: &str, text: &str) -> Source {
        let path = Path::new("/q").join(name);
        let (unit, faults) = Unit::parse(&path, text.as_bytes());
        assert_eq!(faults, []);
        Source {
            name: name.into(),
            path,
            kind: Kind::Container,
            unit,
            findings: Vec::new(),
        }
    }

    #[test]
    fn links_are_made_of_names_of_units_alone() {
        let web = "web.service";
        let path = "can't be in \"../notify.service\"";
        for (line, links, said) in [
            ("Alias=www.service", &["www.service"][..], ""),
            ("Alias=../notify", &[], "\"../notify\" is no unit"),
            ("Alias=../notify.service", &[], path),
            ("Alias=x./../y", &[], "is no unit"),
            ("Alias=x.service/..", &[], "is no unit"),
            ("Alias=x.wants", &[], "is no unit"),
            (
                "Alias=www.target",
                &[],
                "www.target can't be an alias: web.service is a service",
            ),
            (
                "Alias=web.service",
                &[],
                "web.service is the service itself",
            ),
            ("WantedBy=a.target", &["a.target.wants/web.service"], ""),
            ("WantedBy=../a.target", &[], "can't be in \"../a.target\""),
            ("RequiredBy=../../a", &[], "is no unit"),
            ("UpheldBy=a.socket", &["a.socket.upholds/web.service"], ""),
        ] {
            let source = source("web.container", &format!("[Install]\n{line}\n"));
            let mut findings = Vec::new();
            let made = super::links(&source, web, &mut findings);
            let made: Vec<_> = made.into_iter().map(|link| link.path).collect();
            assert_eq!(made, links, "{line}");
            let told: Vec<_> = findings.iter().map(ToString::to_string).collect();
            assert_eq!(told.is_empty(), said.is_empty(), "{line}: {told:?}");
            assert!(told.iter().all(|text| text.contains(said)), "{told:?}");
        }
    }

    #[test]
    fn an_instance_that_is_no_name_is_told() {
        let text = "[Install]\nDefaultInstance=a b\nWantedBy=a.target\n";
        let mut findings = Vec::new();
        let links = links(&source("w@.container", text), "w@.service", &mut findings);
        assert_eq!(links, []);
        assert_eq!(findings.len(), 1);
        let said = findings[0].to_string();
        let expected =
            "/q/w@.container:2: warning: DefaultInstance=: ' ' can't be in \"w@a b.service\"";
        assert!(said.starts_with(expected), "{said}");
    }
}
