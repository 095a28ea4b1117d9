//! Lookups, logins and what stays untouched.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::file::read_document;
use super::*;

fn basic(username: &str, password: &str) -> Credential {
    Credential::Basic {
        username: username.to_owned(),
        password: password.to_owned().into(),
    }
}

fn paths(root: &Path) -> ConfigPaths {
    ConfigPaths {
        runtime_dir: Some(root.join("run")),
        config_home: Some(root.join("config")),
        docker_config: Some(root.join("docker")),
        ..ConfigPaths::default()
    }
}

fn write(file: &Path, text: &str) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

#[test]
fn the_most_specific_entry_wins() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("auth.json");
    let encode = |text: &str| STANDARD.encode(text);
    let text = serde_json::json!({ "auths": {
        "quay.io": { "auth": encode("host:1") },
        "quay.io/org": { "auth": encode("org:2:3") },
        "quay.io/org/repo": { "auth": encode("repo:4") },
        "https://index.docker.io/v1/": { "auth": encode("hub:5") },
        "https://legacy.example/v2/": { "auth": encode("legacy:6") },
        "plain.example": { "username": "plain", "password": "7" },
        "token.example": { "identitytoken": "abc", "auth": encode("x:") },
        "empty.example": {},
    }});
    write(&file, &text.to_string());
    let files = AuthFiles::find(&ConfigPaths::default(), Some(&file));
    for (name, expected) in [
        ("quay.io/x", Some(basic("host", "1"))),
        ("quay.io/org/x", Some(basic("org", "2:3"))),
        ("quay.io/org/repo:tag", Some(basic("repo", "4"))),
        ("quay.io/organisation/x", Some(basic("host", "1"))),
        ("docker.io/alpine", Some(basic("hub", "5"))),
        ("legacy.example/x", Some(basic("legacy", "6"))),
        ("plain.example/x", Some(basic("plain", "7"))),
        (
            "token.example/x",
            Some(Credential::IdentityToken("abc".to_owned().into())),
        ),
        ("empty.example/x", None),
        ("quay.io:443/x", None),
        ("other.example/x", None),
    ] {
        let reference = Reference::parse(name).unwrap();
        assert_eq!(files.lookup(&reference).unwrap(), expected, "{name}");
    }
}

#[test]
fn files_are_asked_in_order() {
    let root = tempfile::tempdir().unwrap();
    let files = AuthFiles::find(&paths(root.path()), None);
    let lookup = || files.lookup_key("r.example/x").unwrap();
    let entry = |user: &str| {
        let auth = STANDARD.encode(format!("{user}:p"));
        format!(r#"{{"auths":{{"r.example":{{"auth":"{auth}"}}}}}}"#)
    };
    assert_eq!(lookup(), None);
    for (file, user) in [
        ("docker/config.json", "docker"),
        ("config/containers/auth.json", "config"),
        ("run/containers/auth.json", "run"),
    ] {
        write(&root.path().join(file), &entry(user));
        assert_eq!(lookup(), Some(basic(user, "p")));
    }
}

#[test]
fn login_and_logout_keep_what_they_do_not_know() {
    let root = tempfile::tempdir().unwrap();
    let files = AuthFiles::find(&paths(root.path()), None);
    let file = root.path().join("run/containers/auth.json");
    write(
        &file,
        r#"{"auths":{"o.example":{"auth":"bzpw","extra":1}},"HttpHeaders":{"a":"b"}}"#,
    );
    assert_eq!(files.login("r.example/ns", "u", "p:w").unwrap(), file);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let document = read_document(&file).unwrap();
    assert_eq!(document["HttpHeaders"]["a"], "b");
    assert_eq!(document["auths"]["o.example"]["extra"], 1);
    assert_eq!(
        files.lookup_key("r.example/ns/x").unwrap(),
        Some(basic("u", "p:w"))
    );
    assert_eq!(files.lookup_key("r.example/other").unwrap(), None);

    assert_eq!(files.logout("r.example").unwrap(), Logout::NotLoggedIn);
    assert_eq!(files.logout("r.example/ns").unwrap(), Logout::Removed);
    assert_eq!(files.lookup_key("r.example/ns/x").unwrap(), None);
    assert_eq!(
        files.lookup_key("o.example").unwrap(),
        Some(basic("o", "p"))
    );
    files.logout_all().unwrap();
    assert_eq!(files.lookup_key("o.example").unwrap(), None);
    let names: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().collect();
    assert_eq!(names.len(), 1, "no temporary file stays");
}

#[test]
fn dockers_own_login_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let files = AuthFiles::find(&paths(root.path()), None);
    write(
        &root.path().join("docker/config.json"),
        r#"{"auths":{"r.example":{"auth":"dTpw"}}}"#,
    );
    assert_eq!(files.logout("r.example").unwrap(), Logout::InDockerConfig);
    assert_eq!(
        files.lookup_key("r.example").unwrap(),
        Some(basic("u", "p"))
    );
}

#[test]
fn a_helper_name_is_never_a_path() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("auth.json");
    write(&file, r#"{"credHelpers":{"r.example":"../../bin/x"}}"#);
    let files = AuthFiles::find(&ConfigPaths::default(), Some(&file));
    let error = files.lookup_key("r.example").unwrap_err();
    assert!(error.to_string().contains("not a path"), "{error}");
}

#[test]
fn what_is_malformed_names_the_file() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("auth.json");
    for text in ["{", "[]", r#"{"auths":{"r.example":{"auth":"!!"}}}"#] {
        write(&file, text);
        let files = AuthFiles::find(&ConfigPaths::default(), Some(&file));
        let error = files.lookup_key("r.example").unwrap_err().to_string();
        assert!(error.contains("auth.json"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn secrets_are_not_printed() {
    let credential = basic("user", "hunter2");
    assert!(!format!("{credential:?}").contains("hunter2"));
}

#[test]
fn a_store_that_went_with_docker_is_no_error() {
    let root = tempfile::tempdir().unwrap();
    let files = AuthFiles::find(&paths(root.path()), None);
    let text = r#"{"credsStore":"kelp-gone","auths":{"r.example":{"auth":"dTpw"}}}"#;
    write(&root.path().join("docker/config.json"), text);
    assert_eq!(
        files.lookup_key("r.example").unwrap(),
        Some(basic("u", "p"))
    );
    // In podman's file it was meant.
    write(&root.path().join("config/containers/auth.json"), text);
    let error = files.lookup_key("r.example").unwrap_err().to_string();
    assert!(error.contains("docker-credential-kelp-gone"), "{error}");
}
