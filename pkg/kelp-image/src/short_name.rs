//! Which registries a name without one may mean (containers-registries.conf(5), "Short-name
//! resolution").

use std::path::PathBuf;

use crate::Error;
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

/// Finds the full names that a name stands for.
///
/// Nobody is asked: what podman would ask on a terminal is an error that says what to write.
pub fn resolve(name: &ImageName, conf: &RegistriesConf) -> Result<Candidates, Error> {
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
    let unclear = |reason: String| Err(Error::Invalid(format!("short name {short}: {reason}")));
    match references.as_slice() {
        [] => unclear(
            "no registry is configured for short names: write it in front, or set \
             unqualified-search-registries in registries.conf"
                .to_owned(),
        ),
        [first, _, ..] if conf.short_name_mode == ShortNameMode::Enforcing => unclear(format!(
            "it could come from {}: write the registry in front, for example {first}, or add an \
             alias to registries.conf",
            conf.search().join(", ")
        )),
        _ => Ok(Candidates {
            references,
            alias_file: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn resolved(conf: &str, name: &str) -> Result<Vec<String>, String> {
        let mut registries = RegistriesConf::default();
        registries.merge(conf, Path::new("conf")).unwrap();
        let name = ImageName::parse(name).unwrap();
        match resolve(&name, &registries) {
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
