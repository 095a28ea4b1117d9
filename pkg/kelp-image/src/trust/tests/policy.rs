//! What policy.json may say, and which of its rules an image falls under.

use std::path::Path;

use crate::reference::Reference;
use crate::trust::Subject;
use crate::trust::policy::{KeySource, Policy, Requirement, SigstoreSigner};

const ACCEPT: &str = r#"{"type":"insecureAcceptAnything"}"#;

fn parse(text: &str) -> Result<Policy, String> {
    Policy::parse(text.as_bytes())
}

/// A policy whose default has one requirement.
fn one(requirement: &str) -> Result<Requirement, String> {
    let policy = parse(&format!(r#"{{"default":[{requirement}]}}"#))?;
    Ok(policy.default.into_iter().next().unwrap())
}

#[test]
fn requirements_are_read() {
    for (text, name) in [
        (ACCEPT, "insecureAcceptAnything"),
        (r#"{"type":"reject"}"#, "reject"),
        (
            r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}"#,
            "signedBy",
        ),
        (
            r#"{"type":"signedBy","keyType":"GPGKeys","keyPaths":["/k","/l"]}"#,
            "signedBy",
        ),
        (
            r#"{"type":"signedBy","keyType":"GPGKeys","keyData":"YQ=="}"#,
            "signedBy",
        ),
        (
            r#"{"type":"signedBy","keyType":"signedByX509CAs","keyData":"YQ=="}"#,
            "signedBy",
        ),
        (
            r#"{"keyPath":"/k","signedIdentity":{"type":"matchExact"},"keyType":"GPGKeys","type":"signedBy"}"#,
            "signedBy",
        ),
        (
            r#"{"type":"signedBaseLayer","baseLayerIdentity":{"type":"matchRepository"}}"#,
            "signedBaseLayer",
        ),
        (
            r#"{"type":"sigstoreSigned","keyPath":"/k"}"#,
            "sigstoreSigned",
        ),
        (
            r#"{"type":"sigstoreSigned","keyPaths":["/k"]}"#,
            "sigstoreSigned",
        ),
        (
            r#"{"type":"sigstoreSigned","keyData":"YQ=="}"#,
            "sigstoreSigned",
        ),
        (
            r#"{"type":"sigstoreSigned","keyDatas":["YQ==","Yg=="]}"#,
            "sigstoreSigned",
        ),
        (
            r#"{"type":"sigstoreSigned","keyPath":"/k","rekorPublicKeyPath":"/r"}"#,
            "sigstoreSigned",
        ),
        (
            r#"{"type":"sigstoreSigned","keyPath":"/k","rekorPublicKeyDatas":["YQ=="]}"#,
            "sigstoreSigned",
        ),
        (
            r#"{"type":"sigstoreSigned","rekorPublicKeyData":"YQ==",
                "fulcio":{"caPath":"/c","oidcIssuer":"i","subjectEmail":"e"}}"#,
            "sigstoreSigned",
        ),
        (
            r#"{"type":"sigstoreSigned","pki":{"caRootsPath":"/c","subjectEmail":"e"}}"#,
            "sigstoreSigned",
        ),
    ] {
        assert_eq!(one(text).map(|found| found.name()), Ok(name), "{text}");
    }
}

#[test]
fn what_is_not_understood_is_an_error() {
    for (text, reason) in [
        (
            r#"{"type":"insecureAcceptAnything","x":1}"#,
            "unknown field",
        ),
        (r#"{"type":"reject","x":1}"#, "unknown field"),
        (r#"{"type":"Reject"}"#, "unknown variant"),
        (r#"{"type":"signedby"}"#, "unknown variant"),
        (r#"{"x":1}"#, "missing field `type`"),
        (
            r#"{"type":"reject","type":"insecureAcceptAnything"}"#,
            "duplicate field",
        ),
        (
            r#"{"type":"signedBy","keyType":"GPGKeys"}"#,
            "exactly one of keyPath",
        ),
        (
            r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k","keyData":"YQ=="}"#,
            "more than one source",
        ),
        (
            r#"{"type":"signedBy","keyPath":"/k"}"#,
            "missing field `keyType`",
        ),
        (
            r#"{"type":"signedBy","keyType":"gpg","keyPath":"/k"}"#,
            "unknown variant",
        ),
        (
            r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":null}"#,
            "invalid type: null",
        ),
        (
            r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":""}"#,
            "is empty",
        ),
        (
            r#"{"type":"signedBy","keyType":"GPGKeys","keyPaths":[]}"#,
            "is empty",
        ),
        (
            r#"{"type":"signedBy","keyType":"GPGKeys","keyData":"?"}"#,
            "base64",
        ),
        (
            r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k","keyPath":"/l"}"#,
            "duplicate field",
        ),
        (
            r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k","keyDatas":["YQ=="]}"#,
            "unknown field",
        ),
        (r#"{"type":"signedBaseLayer"}"#, "missing field"),
        (r#"{"type":"sigstoreSigned"}"#, "exactly one of keyPath"),
        (
            r#"{"type":"sigstoreSigned","keyPath":"/k","x":1}"#,
            "unknown field",
        ),
        (
            r#"{"type":"sigstoreSigned","keyPath":"/k","keyDatas":["YQ=="]}"#,
            "more than one",
        ),
        (
            r#"{"type":"sigstoreSigned","keyPath":"/k","rekorPublicKeyPath":"/r","rekorPublicKeyData":"YQ=="}"#,
            "more than one",
        ),
        (
            r#"{"type":"sigstoreSigned","keyPath":"/k","pki":{}}"#,
            "exactly one of keyPath",
        ),
        (
            r#"{"type":"sigstoreSigned","fulcio":{"caPath":"/c","oidcIssuer":"i","subjectEmail":"e"}}"#,
            "fulcio needs a rekorPublicKey",
        ),
        (
            r#"{"type":"sigstoreSigned","rekorPublicKeyPath":"/r","fulcio":{"oidcIssuer":"i","subjectEmail":"e"}}"#,
            "caPath and caData",
        ),
        (
            r#"{"type":"sigstoreSigned","rekorPublicKeyPath":"/r","fulcio":{"caPath":"/c","oidcIssuer":"i"}}"#,
            "missing field `subjectEmail`",
        ),
        (
            r#"{"type":"sigstoreSigned","rekorPublicKeyPath":"/r","fulcio":{"caPath":"/c","oidcIssuer":"","subjectEmail":"e"}}"#,
            "must not be empty",
        ),
        (
            r#"{"type":"sigstoreSigned","rekorPublicKeyPath":"/r","pki":{"caRootsPath":"/c"}}"#,
            "exclude each other",
        ),
        (
            r#"{"type":"sigstoreSigned","pki":{"x":1}}"#,
            "unknown field",
        ),
    ] {
        let error = one(text).unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }
    for (text, reason) in [
        ("", "EOF"),
        ("[]", "struct RawPolicy"),
        ("{}", "missing field `default`"),
        (r#"{"default":[]}"#, "is empty"),
        (r#"{"default":{}}"#, "invalid type"),
        (r#"{"default":[{"type":"reject"}],"x":1}"#, "unknown field"),
        (r#"{"default":[{"type":"reject"}]} x"#, "trailing"),
        (
            r#"{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}"#,
            "duplicate field",
        ),
        (
            r#"{"default":[{"type":"reject"}],"transports":null}"#,
            "invalid type: null",
        ),
        (
            r#"{"default":[{"type":"reject"}],"transports":{"docker":{"a":[]}}}"#,
            "is empty",
        ),
        (
            r#"{"default":[{"type":"reject"}],"transports":{"docker":{},"docker":{}}}"#,
            "duplicate key \"docker\"",
        ),
        (
            r#"{"default":[{"type":"reject"}],"transports":{"docker":
                {"a":[{"type":"reject"}],"a":[{"type":"insecureAcceptAnything"}]}}}"#,
            "duplicate key \"a\"",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn identities_are_read_strictly() {
    let with = |identity: &str| {
        one(&format!(
            r#"{{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k","signedIdentity":{identity}}}"#
        ))
    };
    for good in [
        r#"{"type":"matchExact"}"#,
        r#"{"type":"matchRepoDigestOrExact"}"#,
        r#"{"type":"matchRepository"}"#,
        r#"{"type":"exactReference","dockerReference":"busybox:latest"}"#,
        r#"{"type":"exactRepository","dockerRepository":"r.example/a/b"}"#,
        r#"{"type":"remapIdentity","prefix":"localhost:5000/a","signedPrefix":"r.example"}"#,
    ] {
        assert!(with(good).is_ok(), "{good}: {:?}", with(good));
    }
    for bad in [
        "null",
        r#"{"type":"matchexact"}"#,
        r#"{"type":"matchExact","x":1}"#,
        r#"{"type":"matchRepoDigestOrExact","x":1}"#,
        r#"{"type":"matchRepository","dockerRepository":"a"}"#,
        r#"{"type":"exactReference"}"#,
        r#"{"type":"exactReference","dockerReference":"r.example/a"}"#,
        r#"{"type":"exactReference","dockerReference":"r.example/A:x"}"#,
        r#"{"type":"exactRepository","dockerRepository":"docker://a"}"#,
        r#"{"type":"exactRepository","dockerRepository":""}"#,
        r#"{"type":"remapIdentity","prefix":"r.example"}"#,
        r#"{"type":"remapIdentity","prefix":"r.example/a:tag","signedPrefix":"r.example"}"#,
        r#"{"type":"remapIdentity","prefix":"r.example/","signedPrefix":"r.example"}"#,
        r#"{"type":"remapIdentity","prefix":"","signedPrefix":"r.example"}"#,
    ] {
        assert!(with(bad).is_err(), "{bad}");
    }
}

#[test]
fn scopes_are_checked_where_a_transport_knows_them() {
    let with = |transport: &str, scope: &str| {
        parse(&format!(
            r#"{{"default":[{ACCEPT}],"transports":{{"{transport}":{{"{scope}":[{ACCEPT}]}}}}}}"#
        ))
    };
    for (transport, scope, good) in [
        ("docker", "", true),
        ("docker", "r.example:5000/a/b:tag", true),
        ("docker", "*.example", true),
        ("unheard-of", "anything", true),
        ("dir", "/a/b", true),
        ("dir", "", true),
        ("dir", "/", false),
        ("dir", "a/b", false),
        ("oci", "/a/../b", false),
        ("oci", "/a//b", false),
        ("oci-archive", "/a/b/", false),
        ("oci-archive", "/a/b.tar", true),
        ("docker-archive", "", true),
        ("docker-archive", "/a.tar", false),
        ("tarball", "/a.tar", false),
        ("containers-storage", "[overlay@/var/lib]r.example/a", true),
        ("containers-storage", "[/var/lib]", true),
        ("containers-storage", "[var/lib]", false),
        ("containers-storage", "[@/var/lib]", false),
        ("containers-storage", "r.example/a", false),
    ] {
        assert_eq!(with(transport, scope).is_ok(), good, "{transport} {scope}");
    }
}

#[test]
fn keys_come_from_files_or_the_policy() {
    let source = |text: &str| match one(text).unwrap() {
        Requirement::SignedBy(rule) => rule.keys,
        Requirement::SigstoreSigned(rule) => match rule.signer {
            SigstoreSigner::Keys(keys) => keys,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(
        source(r#"{"type":"sigstoreSigned","keyDatas":["YQ==","Y\ng=="]}"#),
        KeySource::Data(vec![b"a".to_vec(), b"b".to_vec()])
    );
    assert_eq!(
        source(r#"{"type":"signedBy","keyType":"GPGKeys","keyPaths":["/k","/l"]}"#),
        KeySource::Files(vec!["/k".into(), "/l".into()])
    );
}

#[test]
fn the_most_specific_scope_decides() {
    let reject = r#"[{"type":"reject"}]"#;
    let policy = |scopes: &[&str]| {
        let scopes: Vec<String> = scopes
            .iter()
            .map(|scope| format!("\"{scope}\":{reject}"))
            .collect();
        parse(&format!(
            r#"{{"default":[{ACCEPT}],"transports":{{"docker":{{{}}}}}}}"#,
            scopes.join(",")
        ))
        .unwrap()
    };
    let digest = format!("sha256:{}", "a".repeat(64));
    let by_digest = format!("r.example/a/b@{digest}");
    for (image, scopes, expected) in [
        (
            "r.example/a/b:1",
            &[
                "",
                "r.example",
                "r.example/a",
                "r.example/a/b",
                "r.example/a/b:1",
            ][..],
            "r.example/a/b:1",
        ),
        (
            "r.example/a/b:2",
            &["r.example/a/b", "r.example/a/b:1"],
            "r.example/a/b",
        ),
        (
            "r.example/a/b",
            &["r.example/a/b:latest"],
            "r.example/a/b:latest",
        ),
        (&by_digest, &["r.example/a", &by_digest], &by_digest),
        (&by_digest, &["r.example/a/b:latest"], "none"),
        ("r.example/a/b:1", &["r.example/a"], "r.example/a"),
        ("r.example/ab/b:1", &["r.example/a"], "none"),
        ("r.example/a/b:1", &["r.exampl", "example"], "none"),
        ("r.example:5000/a:1", &["r.example"], "none"),
        ("r.example:5000/a:1", &["r.example:5000"], "r.example:5000"),
        ("r.example:5000/a:1", &["*.example"], "*.example"),
        (
            "a.r.example/a:1",
            &["*.example", "*.r.example"],
            "*.r.example",
        ),
        ("a.r.example/a:1", &["*.example"], "*.example"),
        ("r.example/a:1", &["*.r.example"], "none"),
        ("r.example/a:1", &["", "*.other"], ""),
        (
            "docker.io/library/x:1",
            &["docker.io/library"],
            "docker.io/library",
        ),
    ] {
        let policy = policy(scopes);
        let subject = Subject::docker(&Reference::parse(image).unwrap());
        let place = policy.rule(&subject).place;
        let place = place.map_or("none", |(_, scope)| scope);
        assert_eq!(place, expected, "{image} {scopes:?}");
    }
}

#[test]
fn paths_are_scopes_without_links() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().canonicalize().unwrap().join("real");
    std::fs::create_dir_all(real.join("image")).unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let subject = Subject::path("oci", &link.join("image")).unwrap();
    let rule = |scope: &Path| {
        parse(&format!(
            r#"{{"default":[{ACCEPT}],"transports":{{"oci":{{"{}":[{{"type":"reject"}}]}}}}}}"#,
            scope.display()
        ))
        .unwrap()
        .rule(&subject)
        .place
        .is_some()
    };
    assert!(rule(&real));
    assert!(rule(&real.join("image")));
    assert!(!rule(&link));
    assert!(!rule(&real.join("imag")));
    assert_eq!(subject.transport(), "oci");
    assert!(Subject::path("oci", &directory.path().join("nothing")).is_err());
}

#[test]
fn a_store_has_scopes_from_image_to_directory() {
    let name = Reference::parse("r.example/a/b:1").unwrap();
    let subject = Subject::storage("overlay", Path::new("/s"), Some(&name), Some("ab"));
    assert_eq!(
        subject.scopes,
        [
            "[overlay@/s]r.example/a/b:1@ab",
            "[overlay@/s]r.example/a/b:1",
            "[overlay@/s]r.example/a/b",
            "[overlay@/s]r.example/a",
            "[overlay@/s]r.example",
            "[overlay@/s]",
            "[/s]",
        ]
    );
}
