//! Who may import whom.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use toml::{Table, Value};

use crate::root;

/// The table of ARCHITECTURE.md: a crate, and those of kelp's that it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("kelp-sys", &[]),
    ("kelp-systemd", &[]),
    ("kelp-userns", &["kelp-sys"]),
    ("kelp-state", &["kelp-sys"]),
    ("kelp-network", &["kelp-sys"]),
    ("kelp-image", &["kelp-copy", "kelp-userns", "kelp-sys"]),
    ("kelp-runtime", &["kelp-copy", "kelp-userns", "kelp-sys"]),
    (
        "kelp-monitor",
        &[
            "kelp-runtime",
            "kelp-network",
            "kelp-state",
            "kelp-systemd",
            "kelp-userns",
            "kelp-sys",
        ],
    ),
    (
        "kelp-oci",
        &[
            "kelp-runtime",
            "kelp-state",
            "kelp-systemd",
            "kelp-userns",
            "kelp-sys",
        ],
    ),
    // Copies files and knows no other crate.
    ("kelp-copy", &[]),
    // Reads files and knows no other crate.
    ("kelp-config", &[]),
    // Parses values; spans of time as kelp-format does.
    ("kelp-args", &["kelp-format"]),
    (
        "kelp-engine",
        &[
            "kelp-args",
            "kelp-copy",
            "kelp-image",
            "kelp-monitor",
            "kelp-network",
            "kelp-runtime",
            "kelp-state",
            "kelp-sys",
            "kelp-systemd",
            "kelp-userns",
        ],
    ),
    // Text in, text out.
    ("kelp-format", &[]),
    // Unit files in, services out.
    ("kelp-quadlet", &[]),
    // Documents in, types out.
    ("kelp-kube", &[]),
    (
        "kelp",
        &[
            "kelp-engine",
            "kelp-args",
            "kelp-config",
            "kelp-format",
            "kelp-kube",
            "kelp-oci",
            "kelp-quadlet",
        ],
    ),
    ("kelp-probe", &[]),
    // Knows a runtime by its command line alone.
    ("kelp-runtime-suite", &[]),
    (
        "kelp-fuzz",
        &["kelp-image", "kelp-oci", "kelp-runtime", "kelp-sys"],
    ),
];

/// Dependencies that few may have, and who may.
const RESTRICTED: &[(&str, &[&str])] = &[
    ("libc", &["kelp-sys"]),
    ("tokio", &["kelp-image", "kelp"]),
    ("reqwest", &["kelp-image"]),
    ("clap", &["kelp"]),
    ("anyhow", &["kelp"]),
];

fn manifests() -> BTreeMap<String, Table> {
    let mut paths = vec![
        root().join("Cargo.toml"),
        root().join("tests/probe/Cargo.toml"),
        root().join("tests/runtime/Cargo.toml"),
        root().join("tests/fuzz/Cargo.toml"),
    ];
    for entry in fs::read_dir(root().join("pkg")).unwrap() {
        paths.push(entry.unwrap().path().join("Cargo.toml"));
    }
    paths.iter().map(|path| parse(path)).collect()
}

fn parse(path: &Path) -> (String, Table) {
    let table: Table = fs::read_to_string(path).unwrap().parse().unwrap();
    let name = table["package"]["name"].as_str().unwrap().to_owned();
    (name, table)
}

/// The dependencies that are compiled into the crate, build scripts and targets included; with
/// those of its tests if asked for.
fn dependencies(manifest: &Table, tests: bool) -> Vec<String> {
    let mut sections = vec!["dependencies", "build-dependencies"];
    sections.extend(tests.then_some("dev-dependencies"));
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(Table::values);
    let tables = targets.filter_map(Value::as_table).chain([manifest]);
    tables
        .flat_map(|table| sections.iter().filter_map(|&section| table.get(section)))
        .filter_map(Value::as_table)
        .flat_map(|section| section.iter().map(|(name, value)| real_name(name, value)))
        .collect()
}

/// A dependency may be renamed.
fn real_name(name: &str, value: &Value) -> String {
    let package = value.get("package").and_then(Value::as_str);
    package.unwrap_or(name).to_owned()
}

#[test]
fn crates_import_downward_only() {
    for (name, manifest) in manifests() {
        let allowed = ALLOWED.iter().find(|(crate_name, _)| *crate_name == name);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{name} is not in the table"));
        for dependency in dependencies(&manifest, false) {
            let own = dependency.starts_with("kelp");
            assert!(
                !own || allowed.contains(&dependency.as_str()),
                "{name} may not import {dependency}"
            );
        }
    }
}

#[test]
fn some_dependencies_belong_to_one_crate() {
    for (name, manifest) in manifests() {
        for dependency in dependencies(&manifest, false) {
            for (restricted, owners) in RESTRICTED {
                assert!(
                    dependency != *restricted || owners.contains(&name.as_str()),
                    "{dependency} is a dependency of {owners:?} and not of {name}"
                );
            }
        }
    }
}

#[test]
fn versions_stand_in_the_workspace() {
    for (name, manifest) in manifests() {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(section) = manifest.get(section).and_then(Value::as_table) else {
                continue;
            };
            for (dependency, value) in section {
                let inherited = value.get("workspace").and_then(Value::as_bool);
                assert_eq!(inherited, Some(true), "{dependency} in {name}");
            }
        }
        let lints = manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"));
        assert_eq!(
            lints.and_then(Value::as_bool),
            Some(true),
            "lints of {name}"
        );
    }
}
