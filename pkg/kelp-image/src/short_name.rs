//! Which registries a name without one may mean (containers-registries.conf(5), "Short-name
//! resolution").

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::Error;
use crate::access::AccessOptions;
use crate::config_paths::ConfigPaths;
use crate::progress::{Event, Progress};
use crate::reference::{ImageName, Reference};
use crate::registries_conf::{RegistriesConf, ShortNameMode};

/// The full names that a name stands for, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates {
    /// In the order in which they are tried; at least one.
    pub references: Vec<Reference>,
    /// The file whose alias decided.
    pub alias_file: Option<PathBuf>,
}

/// Asks a person which of several full names a short one means: its place, one that there is none of
/// for an answer that chooses nothing, or nothing where nobody can be asked.
pub type Ask = fn(&str, &[String]) -> Option<usize>;

/// Finds the full names that a name may stand for.
pub fn candidates(name: &ImageName, conf: &RegistriesConf) -> Result<Candidates, Error> {
    let short = match name {
        ImageName::Full(reference) => {
            return Ok(Candidates {
                references: vec![reference.clone()],
                alias_file: None,
            });
        }
        ImageName::Short(short) => short,
    };
    if conf.short_name_mode != ShortNameMode::Disabled
        && let Some(alias) = conf.alias(short.path())
    {
        return Ok(Candidates {
            references: vec![short.with_repository_of(&alias.target)],
            alias_file: Some(alias.file.clone()),
        });
    }
    let references = conf
        .search()
        .iter()
        .map(|registry| short.beneath(registry))
        .collect::<Result<Vec<_>, _>>()?;
    if references.is_empty() {
        return Err(Error::Invalid(format!(
            "short name {short}: no registry is configured for short names: write it in front, or \
             set unqualified-search-registries in registries.conf"
        )));
    }
    Ok(Candidates {
        references,
        alias_file: None,
    })
}

/// Makes one of several where the mode asks for that, and tells by which file a name stands for another;
/// whether a person has chosen.
pub(crate) fn choose(
    name: &ImageName,
    candidates: &mut Candidates,
    conf: &RegistriesConf,
    options: &AccessOptions,
    ask: Option<Ask>,
    progress: &dyn Progress,
) -> Result<bool, Error> {
    let chosen = settle(name, candidates, conf, ask)?;
    check_credentials(name, candidates, options)?;
    if let (ImageName::Short(short), Some(file)) = (name, &candidates.alias_file) {
        progress.event(Event::Resolved {
            name: short.path(),
            file,
        });
    }
    Ok(chosen)
}

/// Makes one of several where the mode asks for that; whether a person has chosen.
fn settle(
    name: &ImageName,
    candidates: &mut Candidates,
    conf: &RegistriesConf,
    ask: Option<Ask>,
) -> Result<bool, Error> {
    let [first, _, ..] = candidates.references.as_slice() else {
        return Ok(false);
    };
    if conf.short_name_mode == ShortNameMode::Disabled {
        return Ok(false);
    }
    let names: Vec<_> = candidates
        .references
        .iter()
        .map(|reference| reference.clone().or_latest().to_string())
        .collect();
    let question = format!("{name} is a short name. Which one is meant?");
    match ask.and_then(|ask| ask(&question, &names)) {
        Some(place) if place < candidates.references.len() => {
            candidates.references = vec![candidates.references.swap_remove(place)];
            Ok(true)
        }
        Some(_) => Err(Error::Invalid(format!(
            "short name {name}: no registry was chosen"
        ))),
        None if conf.short_name_mode == ShortNameMode::Enforcing => Err(Error::Invalid(format!(
            "short name {name}: it could come from {}: write the registry in front, for example \
             {first}, or add an alias to registries.conf",
            conf.search().join(", ")
        ))),
        None => Ok(false),
    }
}

/// The full names to ask registries for, where nobody is there to choose one.
pub(crate) fn to_ask(
    name: &ImageName,
    conf: &RegistriesConf,
    options: &AccessOptions,
) -> Result<Candidates, Error> {
    let mut candidates = candidates(name, conf)?;
    settle(name, &mut candidates, conf, None)?;
    check_credentials(name, &candidates, options)?;
    Ok(candidates)
}

/// `--creds` goes to one registry, and not to each that a short name may mean.
fn check_credentials(
    name: &ImageName,
    candidates: &Candidates,
    options: &AccessOptions,
) -> Result<(), Error> {
    if options.credentials.is_some() && candidates.references.len() > 1 {
        return Err(Error::Invalid(format!(
            "--creds is for one registry, and {name} may come from several: put the registry before it"
        )));
    }
    Ok(())
}

/// Keeps what a person has chosen for the next time.
pub(crate) fn keep_choice(name: &ImageName, candidates: &Candidates, paths: &ConfigPaths) {
    if let (ImageName::Short(short), [reference]) = (name, &*candidates.references) {
        // An answer that can't be kept is asked for again.
        let _ = remember(short.path(), &reference.name(), paths);
    }
}

/// Writes a name and what it stands for where podman keeps its own.
fn remember(short: &str, full: &str, paths: &ConfigPaths) -> io::Result<()> {
    let Some(file) = paths.short_name_aliases() else {
        return Ok(());
    };
    let text = fs::read_to_string(&file).unwrap_or_default();
    let mut document: toml::Table = toml::from_str(&text).map_err(io::Error::other)?;
    let aliases = document
        .entry("aliases")
        .or_insert_with(|| toml::Value::Table(toml::Table::new()));
    let Some(aliases) = aliases.as_table_mut() else {
        return Err(io::Error::other("aliases is no table"));
    };
    aliases.insert(short.to_owned(), full.into());
    let mut text = "[aliases]\n".to_owned();
    for (short, full) in aliases.iter() {
        // Both are grammar-checked names: nothing in them needs to be escaped.
        if let Some(full) = full.as_str() {
            let _ = writeln!(text, "\"{short}\" = \"{full}\"");
        }
    }
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    let new = file.with_extension("conf.new");
    fs::write(&new, text)?;
    fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn resolved(conf: &str, name: &str) -> Result<Vec<String>, String> {
        let mut registries = RegistriesConf::default();
        registries.merge(conf, Path::new("conf")).unwrap();
        let name = ImageName::parse(name).unwrap();
        let resolve = || {
            let mut found = candidates(&name, &registries)?;
            settle(&name, &mut found, &registries, None)?;
            Ok::<_, Error>(found)
        };
        match resolve() {
            Ok(candidates) => Ok(candidates
                .references
                .iter()
                .map(Reference::to_string)
                .collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    const TWO: &str = "unqualified-search-registries = [\"a.example\", \"docker.io\"]\n";

    #[test]
    fn names_are_resolved_by_mode() {
        let alias = "[aliases]\nfoo = \"quay.io/org/foo\"\n";
        for (mode, rest, name, expected) in [
            ("", "", "docker.io/x", &["docker.io/library/x"][..]),
            ("", "", "x:t", &["a.example/x:t", "docker.io/library/x:t"]),
            ("", alias, "foo:t", &["quay.io/org/foo:t"]),
            ("enforcing", alias, "foo", &["quay.io/org/foo"]),
            (
                "disabled",
                alias,
                "foo",
                &["a.example/foo", "docker.io/library/foo"],
            ),
            ("permissive", "", "o/x", &["a.example/o/x", "docker.io/o/x"]),
        ] {
            let mode = match mode {
                "" => String::new(),
                mode => format!("short-name-mode = \"{mode}\"\n"),
            };
            let found = resolved(&format!("{TWO}{mode}{rest}"), name).unwrap();
            assert_eq!(found, expected, "{mode} {name}");
        }
    }

    #[test]
    fn without_configuration_the_docker_hub_is_meant() {
        assert_eq!(resolved("", "x").unwrap(), ["docker.io/library/x"]);
    }

    #[test]
    fn an_unclear_name_says_the_way_out() {
        let error = resolved(&format!("{TWO}short-name-mode = \"enforcing\""), "x").unwrap_err();
        assert!(error.contains("a.example, docker.io"), "{error}");
        assert!(error.contains("for example a.example/x"), "{error}");
        let error = resolved("unqualified-search-registries = []", "x").unwrap_err();
        assert!(error.contains("unqualified-search-registries"), "{error}");
    }
}
