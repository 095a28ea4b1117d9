//! Where registries.d has signatures.

use std::fs;

use crate::config_paths::ConfigPaths;
use crate::reference::Reference;
use crate::trust::registries_d::{For, RegistriesD};

fn load(files: &[(&str, &str)]) -> Result<RegistriesD, String> {
    let directory = tempfile::tempdir().unwrap();
    let registries = directory.path().join("containers/registries.d");
    fs::create_dir_all(&registries).unwrap();
    for (name, text) in files {
        fs::write(registries.join(name), text).unwrap();
    }
    let paths = ConfigPaths {
        etc: directory.path().join("etc"),
        home: Some("/home/somebody".into()),
        config_home: Some(directory.path().to_owned()),
        ..ConfigPaths::default()
    };
    RegistriesD::load(&paths).map_err(|error| error.to_string())
}

const DEFAULT: (&str, &str) = (
    "default.yaml",
    "# a comment\ndefault-docker:\n  sigstore: file:///old\n  lookaside-staging: file:///staging\n",
);

const DOCKER: (&str, &str) = (
    "some.yaml",
    "docker:\n  r.example/a:\n    lookaside: https://r.example/sig/\n    \
     use-sigstore-attachments: true\n  r.example/a/b:\n    use-sigstore-attachments: false\n  \
     \"*.wild.example\":\n    lookaside: file:///wild\n",
);

#[test]
fn the_most_specific_place_that_says_something_counts() {
    let registries = load(&[DEFAULT, DOCKER, ("ignored.txt", "[")]).unwrap();
    for (image, reading, writing, attachments) in [
        (
            "r.example/a:1",
            "https://r.example/sig/a",
            "https://r.example/sig/a",
            true,
        ),
        (
            "r.example/a/b:1",
            "https://r.example/sig/a/b",
            "https://r.example/sig/a/b",
            false,
        ),
        ("r.example/c:1", "file:///old/c", "file:///staging/c", false),
        (
            "x.wild.example/c:1",
            "file:///wild/c",
            "file:///wild/c",
            false,
        ),
    ] {
        let image = Reference::parse(image).unwrap();
        let place = |purpose| registries.lookaside(&image, purpose).unwrap().to_string();
        assert_eq!(place(For::Reading), reading, "{image}");
        assert_eq!(place(For::Writing), writing, "{image}");
        assert_eq!(registries.has_attachments(&image), attachments, "{image}");
    }
}

#[test]
fn without_files_signatures_are_where_podman_keeps_them() {
    let registries = load(&[("empty.yaml", "")]).unwrap();
    let image = Reference::parse("r.example/a/b:1").unwrap();
    let place = registries.lookaside(&image, For::Reading).unwrap();
    let expected = if rustix::process::geteuid().is_root() {
        "file:///var/lib/containers/sigstore/a/b"
    } else {
        "file:///home/somebody/.local/share/containers/sigstore/a/b"
    };
    assert_eq!(place.as_str(), expected);
    assert!(!registries.has_attachments(&image));
}

#[test]
fn what_makes_no_sense_is_an_error() {
    let default = "default-docker:\n  lookaside: file:///a\n";
    let docker = "docker:\n  r.example:\n    lookaside: file:///a\n";
    for (files, reason) in [
        (&[("a.yaml", "- a\n")][..], "no mapping"),
        (&[("a.yaml", "docker: [\n")], "a.yaml"),
        (&[("a.yaml", "docker: a\n")], "no mapping"),
        (
            &[("a.yaml", "default-docker:\n  lookaside: [a]\n")],
            "no text",
        ),
        (
            &[(
                "a.yaml",
                "default-docker:\n  use-sigstore-attachments: maybe\n",
            )],
            "neither true nor false",
        ),
        (&[("a.yaml", default), ("b.yaml", default)], "is in"),
        (&[("a.yaml", docker), ("b.yaml", docker)], "r.example is in"),
    ] {
        let error = load(files).unwrap_err();
        assert!(error.contains(reason), "{files:?}: {error}");
    }
    let ftp = load(&[("a.yaml", "default-docker:\n  lookaside: ftp://a/b\n")]).unwrap();
    let image = Reference::parse("r.example/a:1").unwrap();
    assert!(ftp.lookaside(&image, For::Reading).is_err());
}
