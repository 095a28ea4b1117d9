//! Changing and showing policy.json.

use std::fs;
use std::path::PathBuf;

use crate::config_paths::ConfigPaths;
use crate::trust::edit::{NewRule, set};
use crate::trust::policy::Policy;
use crate::trust::show;

struct Place {
    directory: tempfile::TempDir,
    paths: ConfigPaths,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let paths = ConfigPaths {
            etc: directory.path().join("etc"),
            home: Some(directory.path().to_owned()),
            config_home: Some(directory.path().join("config")),
            ..ConfigPaths::default()
        };
        Self { directory, paths }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.directory.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        file
    }
}

const REJECT: &str = r#"{"default":[{"type":"reject"}]}"#;

#[test]
fn a_users_first_rule_keeps_what_the_machine_says() {
    let place = Place::new();
    place.file("etc/containers/policy.json", REJECT);
    let file = set(&place.paths, None, "r.example", &NewRule::Accept).unwrap();
    assert_eq!(
        file,
        place.directory.path().join("config/containers/policy.json")
    );
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(
        text,
        "{\n    \"default\": [\n        {\n            \"type\": \"reject\"\n        }\n    ],\n    \
         \"transports\": {\n        \"docker\": {\n            \"r.example\": [\n                \
         {\n                    \"type\": \"insecureAcceptAnything\"\n                }\n            \
         ]\n        }\n    }\n}\n"
    );
    assert_eq!(
        fs::read_to_string(place.directory.path().join("etc/containers/policy.json")).unwrap(),
        REJECT
    );
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn without_any_file_what_has_no_rule_stays_accepted() {
    let place = Place::new();
    let file = set(&place.paths, None, "r.example", &NewRule::Reject).unwrap();
    let policy = Policy::read(&file).unwrap();
    assert_eq!(policy.default[0].name(), "insecureAcceptAnything");
    assert_eq!(policy.transports["docker"]["r.example"][0].name(), "reject");
}

#[test]
fn a_file_that_was_named_needs_a_default_first() {
    let place = Place::new();
    let file = place.directory.path().join("policy.json");
    let error = set(&place.paths, Some(&file), "r.example", &NewRule::Accept).unwrap_err();
    assert!(
        error.to_string().contains("needs a default first"),
        "{error}"
    );
    assert!(!file.exists());
    set(&place.paths, Some(&file), "default", &NewRule::Reject).unwrap();
    set(&place.paths, Some(&file), "r.example", &NewRule::Accept).unwrap();
    set(&place.paths, Some(&file), "r.example", &NewRule::Reject).unwrap();
    let policy = Policy::read(&file).unwrap();
    assert_eq!(policy.transports["docker"]["r.example"][0].name(), "reject");
}

#[test]
fn a_scope_is_changed_where_it_is() {
    let place = Place::new();
    let file = place.file(
        "policy.json",
        r#"{"default":[{"type":"reject"}],"transports":{"atomic":{"r.example":[{"type":"reject"}]}}}"#,
    );
    set(&place.paths, Some(&file), "r.example", &NewRule::Accept).unwrap();
    let policy = Policy::read(&file).unwrap();
    assert_eq!(
        policy.transports["atomic"]["r.example"][0].name(),
        "insecureAcceptAnything"
    );
    assert!(!policy.transports.contains_key("docker"));
}

#[test]
fn a_file_that_is_not_understood_is_left() {
    let place = Place::new();
    let text = r#"{"default":[{"type":"unheard-of"}]}"#;
    let file = place.file("policy.json", text);
    set(&place.paths, Some(&file), "default", &NewRule::Accept).unwrap_err();
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn keys_must_be_keys() {
    let place = Place::new();
    let no_key = place.file("key", "no key");
    for kind in ["signedBy", "sigstoreSigned"] {
        assert!(NewRule::parse(kind, &[]).is_err(), "{kind}");
        let rule = NewRule::parse(kind, std::slice::from_ref(&no_key)).unwrap();
        let error = set(&place.paths, None, "default", &rule).unwrap_err();
        assert!(error.to_string().contains("/key: "), "{error}");
        let missing = NewRule::parse(kind, &["/nowhere".into()]).unwrap();
        assert!(set(&place.paths, None, "default", &missing).is_err());
    }
    for kind in ["accept", "reject"] {
        assert!(NewRule::parse(kind, std::slice::from_ref(&no_key)).is_err());
    }
    assert!(NewRule::parse("signed", &[no_key]).is_err());
    let (_, public) = crate::trust::cosign::generate("").unwrap();
    let key = place.file("key.pub", &public);
    let rule = NewRule::parse("sigstoreSigned", std::slice::from_ref(&key)).unwrap();
    let file = set(&place.paths, None, "r.example/a", &rule).unwrap();
    assert!(
        fs::read_to_string(file)
            .unwrap()
            .contains(key.to_str().unwrap())
    );
}

#[test]
fn a_policy_is_shown_as_podman_shows_it() {
    let place = Place::new();
    let error = show::show(&place.paths, None, None).unwrap_err();
    assert!(
        error.to_string().contains("every image is accepted"),
        "{error}"
    );
    place.file(
        "config/containers/policy.json",
        r#"{"default":[{"type":"reject"}],"transports":{"docker":{
            "r.example":[{"type":"insecureAcceptAnything"}],
            "s.example/a":[{"type":"sigstoreSigned","keyData":"YQ=="}],
            "*.t.example":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/nowhere"}]},
            "docker-archive":{"":[{"type":"insecureAcceptAnything"}]}}}"#,
    );
    place.file(
        "config/containers/registries.d/a.yaml",
        "docker:\n  s.example:\n    lookaside: https://s.example/sig\n",
    );
    let lines = |about| -> Vec<String> {
        show::show(&place.paths, None, about)
            .unwrap()
            .into_iter()
            .map(|row| {
                [
                    &row.transport,
                    &row.repo_name,
                    row.kind,
                    &row.ids,
                    &row.store,
                ]
                .join("|")
            })
            .collect()
    };
    assert_eq!(
        lines(None),
        [
            "all|default|reject||",
            "repository|*.t.example|signed|(read the key /nowhere: No such file or directory \
             (os error 2))|",
            "repository|r.example|accept||",
            "repository|s.example/a|sigstoreSigned|N/A|https://s.example/sig",
            "docker-archive||accept||",
        ]
        .iter()
        .map(|line| line.replace("             (os", "(os"))
        .collect::<Vec<_>>()
    );
    assert_eq!(lines(Some("s.example")).len(), 3);
    assert_eq!(
        lines(Some("x.t.example/a"))[1].split('|').nth(1),
        Some("*.t.example")
    );
    assert_eq!(
        lines(Some("r.example/b:1"))[1].split('|').nth(1),
        Some("r.example")
    );
    assert_eq!(lines(Some("r.exampleb")).len(), 2);
    let json = serde_json::to_string(&show::show(&place.paths, None, Some("r.example")).unwrap());
    assert_eq!(
        json.unwrap(),
        r#"[{"transport":"all","name":"* (default)","repo_name":"default","type":"reject"},{"transport":"repository","name":"r.example","repo_name":"r.example","type":"accept"},{"transport":"docker-archive","type":"accept"}]"#
    );
}
