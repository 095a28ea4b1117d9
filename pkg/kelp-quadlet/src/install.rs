//! `[Install]`: the links by which systemd starts a service, made as `systemctl enable` would. A generator has to
//! make them itself: what is generated can't be enabled.

use crate::finding::{Finding, Severity};
use crate::quote;
use crate::set::Source;
use crate::shape;

/// A link to be made beside the services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its path beneath the directory of the services.
    pub path: String,
    /// Where it leads to.
    pub target: String,
}

/// The links of a unit whose service has this name (with `.service`).
pub(crate) fn links(source: &Source, service: &str, findings: &mut Vec<Finding>) -> Vec<Link> {
    let mut links = Vec::new();
    let mut names = |key: &str| {
        let mut found = Vec::new();
        for set in source.unit.all("Install", key) {
            let mut tell = |text: String| {
                let (file, line) = source.at(set.place);
                findings.push(Finding {
                    severity: Severity::Warning,
                    ..Finding::error(file, line, format!("{key}=: {text}"))
                });
            };
            let words = quote::split(&set.value).unwrap_or_else(|why| {
                tell(why);
                Vec::new()
            });
            for word in words {
                match expand(&word, source, service).and_then(|name| is_unit(&name).map(|()| name))
                {
                    Ok(name) if key == "Alias" && name == service => {
                        tell(format!("{name} is the service itself"));
                    }
                    Ok(name) if key == "Alias" && instance(&name) != instance(service) => {
                        tell(format!(
                            "{name} can't be an alias: {service} is another instance"
                        ));
                    }
                    Ok(name) => found.push(name),
                    Err(why) => tell(why),
                }
            }
        }
        found
    };
    for alias in names("Alias") {
        links.push(Link {
            path: alias,
            target: service.to_owned(),
        });
    }
    let wanted = [
        ("WantedBy", "wants"),
        ("RequiredBy", "requires"),
        ("UpheldBy", "upholds"),
    ];
    let wanted = wanted.map(|(key, directory)| (names(key), directory));
    // A template is started as an instance.
    let name = match service.strip_suffix("@.service") {
        None => Some(service.to_owned()),
        Some(prefix) => {
            let instance = source.unit.last("Install", "DefaultInstance");
            let instance = instance
                .map(|set| &*set.value)
                .filter(|name| !name.is_empty());
            instance.map(|instance| format!("{prefix}@{instance}.service"))
        }
    };
    let Some(name) = name.filter(|name| !name.contains('/')) else {
        return links;
    };
    for (units, directory) in wanted {
        for unit in units {
            links.push(Link {
                path: format!("{unit}.{directory}/{name}"),
                target: format!("../{service}"),
            });
        }
    }
    links
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

/// Whether something can be the name of a unit, and so no path that leads elsewhere.
fn is_unit(name: &str) -> Result<(), String> {
    match name.rsplit_once('.') {
        Some((stem, kind)) if !kind.is_empty() => match shape::service_name(stem) {
            None => Ok(()),
            Some(why) => Err(why),
        },
        _ => Err(format!(
            "{name:?} is no unit: its name ends in .target, .service or the like"
        )),
    }
}
