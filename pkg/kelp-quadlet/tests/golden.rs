//! What comes of a unit, to the letter: a file of each key of each kind, and one with wrong values.
//!
//! Beside `golden/KIND/NAME.KIND` stand `NAME.service`, what the generator writes, unless it refuses the unit,
//! and `NAME.findings`, what a check says, if it says anything. The units of `golden/others` are there for all of
//! them. `KELP_TEST_WRITE_GOLDEN=1` writes what comes of them now; read the difference before you keep it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kelp_quadlet::{Grammar, Host, Kind, Set, Shape, Source, Unit, check, generate};

fn golden() -> PathBuf {
    let root = std::env::var_os("CARGO_MANIFEST_DIR");
    root.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
        .join("tests/golden")
}

/// A unit as if it was in /q.
fn source(path: &Path) -> Source {
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let shown = Path::new("/q").join(&name);
    let (unit, faults) = Unit::parse(&shown, &fs::read(path).unwrap());
    assert_eq!(faults, [], "{name}");
    Source {
        kind: Kind::of(&name).unwrap(),
        path: shown,
        name,
        unit,
        findings: Vec::new(),
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn host() -> Host<'static> {
    Host {
        program: "/usr/bin/kelp",
        user: &|name| (name == "nobody").then_some(65534),
        group: &|name| (name == "nogroup").then_some(65534),
        exists: &|path| path == Path::new("/dev/null"),
    }
}

/// The service of a unit among the others, and what is said of it; empty where there is none.
fn outcome(path: &Path) -> (String, String) {
    let mut set = Set::default();
    let own = source(path);
    let name = own.name.clone();
    set.add(own);
    for other in files(&golden().join("others")) {
        set.add(source(&other));
    }
    let host = host();
    let service = generate(&set, &host).into_iter().find_map(|outcome| {
        let service = outcome.service.filter(|_| outcome.source.name == name)?;
        let links = service.links.iter();
        let links = links.map(|link| format!("# {} -> {}\n", link.path, link.target));
        let socket = outcome.socket.map(|socket| {
            let links = socket.links.iter();
            let links = links.map(|link| format!("# {} -> {}\n", link.path, link.target));
            format!(
                "---{}---\n{}{}",
                socket.name,
                socket.text,
                links.collect::<String>()
            )
        });
        Some(service.text + &links.collect::<String>() + &socket.unwrap_or_default())
    });
    let asked = |source: &Source| source.name == name;
    let grammar = Grammar {
        knows: &|_, _| true,
        refuses: &|_, _| None,
    };
    let findings = check(&set, &asked, &host, &grammar);
    let lines = findings.iter().map(|finding| format!("{finding}\n"));
    (service.unwrap_or_default(), lines.collect())
}

fn compare(path: &Path, found: &str, wrong: &mut Vec<String>) {
    if std::env::var_os("KELP_TEST_WRITE_GOLDEN").is_some() {
        if found.is_empty() {
            let _ = fs::remove_file(path);
        } else {
            fs::write(path, found).unwrap();
        }
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected != found {
        wrong.push(format!(
            "{}:\nexpected:\n{expected}\nfound:\n{found}",
            path.display()
        ));
    }
}

#[test]
fn units_become_the_services_that_stand_beside_them() {
    let mut wrong = Vec::new();
    for kind in Kind::ALL {
        for path in files(&golden().join(kind.extension())) {
            if path.extension().unwrap() != kind.extension() {
                continue;
            }
            let (service, findings) = outcome(&path);
            compare(&path.with_extension("service"), &service, &mut wrong);
            compare(&path.with_extension("findings"), &findings, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_key_has_a_case_and_one_of_wrong_values() {
    let mut missing = Vec::new();
    for kind in Kind::ALL {
        let directory = golden().join(kind.extension());
        let case = |name: &str| {
            let path = directory.join(format!("{name}.{}", kind.extension()));
            fs::read_to_string(path).unwrap_or_default()
        };
        for key in kind.keys() {
            if !case(key.name).contains(&format!("\n{}=", key.name)) {
                missing.push(format!("{}/{}", kind.extension(), key.name));
            }
            let wrong = format!("{}-wrong", key.name);
            let told = directory.join(format!("{wrong}.findings"));
            let told = fs::read_to_string(told).unwrap_or_default();
            let names_it =
                case(&wrong).contains(&format!("\n{}=", key.name)) && told.contains(key.name);
            if key.shape != Shape::Any && !names_it {
                missing.push(format!("{}/{wrong}", kind.extension()));
            }
        }
    }
    assert!(missing.is_empty(), "no case of {}", missing.join(", "));
}

#[test]
fn every_file_belongs_to_a_case() {
    for kind in Kind::ALL {
        let files: BTreeSet<_> = files(&golden().join(kind.extension()))
            .into_iter()
            .collect();
        for path in &files {
            assert!(
                files.contains(&path.with_extension(kind.extension())),
                "{} is of no unit",
                path.display()
            );
        }
    }
}
