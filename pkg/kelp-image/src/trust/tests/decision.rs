//! Signatures of both kinds, from the key to the decision.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sequoia_openpgp::cert::prelude::*;
use sequoia_openpgp::serialize::SerializeInto;

use crate::Error;
use crate::config_paths::ConfigPaths;
use crate::reference::Reference;
use crate::trust::policy::Policy;
use crate::trust::{Signature, Subject, Trust, cosign, simple};

const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;

fn trust(policy: &str) -> Trust {
    Trust {
        policy: Some((
            Policy::parse(policy.as_bytes()).unwrap(),
            "/p/policy.json".into(),
        )),
        paths: ConfigPaths::default(),
    }
}

fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

/// What is said against an image; empty where it is accepted.
fn said(trust: &Trust, image: &str, manifest: &[u8], signatures: &[Signature]) -> String {
    match trust.check(&Subject::docker(&name(image)), manifest, signatures) {
        Ok(()) => String::new(),
        Err(Error::Rejected(text)) => text,
        Err(other) => panic!("{other}"),
    }
}

/// A key pair: what signs, and the public key in base64.
fn openpgp(address: &str, passphrase: Option<&str>) -> (Vec<u8>, String) {
    let (key, _) = CertBuilder::new()
        .add_userid(address)
        .add_signing_subkey()
        .set_password(passphrase.map(Into::into))
        .generate()
        .unwrap();
    let public = STANDARD.encode(key.to_vec().unwrap());
    (key.as_tsk().to_vec().unwrap(), public)
}

fn signed_by(keys: &str) -> Trust {
    trust(&format!(
        r#"{{"default":[{{"type":"signedBy","keyType":"GPGKeys","keyData":"{keys}"}}]}}"#
    ))
}

#[test]
fn without_a_policy_every_image_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let paths = ConfigPaths {
        etc: directory.path().to_owned(),
        ..ConfigPaths::default()
    };
    let trust = Trust::load(&paths, None).unwrap();
    assert_eq!(said(&trust, "r.example/a:1", MANIFEST, &[]), "");
    let missing = Trust::load(&paths, Some(Path::new("/nowhere/policy.json")));
    assert!(missing.is_err(), "one that was named must be there");
}

#[test]
fn a_rejection_names_rule_file_and_way_out() {
    let trust = trust(
        r#"{"default":[{"type":"reject"}],"transports":{"docker":{
            "r.example/a":[{"type":"insecureAcceptAnything"},{"type":"reject"}],
            "s.example":[{"type":"insecureAcceptAnything"}]},
            "docker-archive":{"":[{"type":"reject"}]}}}"#,
    );
    assert_eq!(
        said(&trust, "r.example/a:1", MANIFEST, &[]),
        "r.example/a:1 is rejected by the rule for docker: r.example/a in /p/policy.json (reject): \
         it refuses every image; if it is to be accepted: kelp image trust set --signature-policy \
         /p/policy.json --type accept r.example/a"
    );
    assert!(said(&trust, "t.example/a:1", MANIFEST, &[]).contains("rejected by the default in"));
    assert_eq!(said(&trust, "s.example/a:1", MANIFEST, &[]), "");
    let archive = Subject::docker_archive(Path::new("/a.tar"), None);
    let error = trust
        .check(&archive, MANIFEST, &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(
            "docker-archive:/a.tar is rejected by the rule for all of docker-archive:"
        ),
        "{error}"
    );
}

#[test]
fn a_simple_signature_counts_for_its_key_manifest_and_name() {
    let (secret, public) = openpgp("<a@example>", None);
    let (_, other) = openpgp("<b@example>", None);
    let key = simple::SigningKey::parse(&secret, Some("a@example"), None).unwrap();
    let image = "r.example/a:1";
    let made = simple::sign(&key, MANIFEST, &name(image)).unwrap();
    let good = Signature::parse(&made).unwrap();
    assert_eq!(good, Signature::Simple(made.clone()));
    let ours = signed_by(&public);
    assert_eq!(
        said(&ours, image, MANIFEST, std::slice::from_ref(&good)),
        ""
    );
    for (trust, image, manifest, signatures, reason) in [
        (&ours, image, MANIFEST, &[][..], "it has no signature"),
        (
            &signed_by(&other),
            image,
            MANIFEST,
            std::slice::from_ref(&good),
            "a key that is not among those of the rule",
        ),
        (
            &ours,
            "r.example/a:2",
            MANIFEST,
            std::slice::from_ref(&good),
            "for another name",
        ),
        (
            &ours,
            image,
            b"{}",
            std::slice::from_ref(&good),
            "for another manifest",
        ),
    ] {
        let text = said(trust, image, manifest, signatures);
        assert!(text.contains(reason), "{reason}: {text}");
        assert!(text.contains("(signedBy)"), "{text}");
    }
    // Of several, one is enough; none is said of each.
    let wrong = simple::sign(&key, MANIFEST, &name("r.example/b:1")).unwrap();
    let wrong = Signature::Simple(wrong);
    assert_eq!(said(&ours, image, MANIFEST, &[wrong.clone(), good]), "");
    assert!(said(&ours, image, MANIFEST, &[wrong.clone(), wrong]).contains("r.example/b:1"));
}

#[test]
fn a_simple_signature_that_was_changed_says_nothing_else() {
    let (secret, public) = openpgp("<a@example>", None);
    let key = simple::SigningKey::parse(&secret, None, None).unwrap();
    let made = simple::sign(&key, MANIFEST, &name("r.example/a:1")).unwrap();
    let keys = simple::Keys::parse(&[STANDARD.decode(public).unwrap()]).unwrap();
    let signed = simple::signed(&made, &keys).unwrap();
    let start = made
        .windows(signed.len())
        .position(|window| window == signed)
        .unwrap();
    for position in 0..made.len() {
        let mut changed = made.clone();
        changed[position] ^= 1;
        let read = simple::signed(&changed, &keys);
        // Hints that nobody has signed may change: the key's number before, and what follows.
        assert!(read.as_ref().is_err() || read.as_ref().is_ok_and(|read| *read == signed));
        let within = (start..start + signed.len()).contains(&position);
        assert!(!within || read.is_err(), "byte {position}");
    }
    for length in (0..made.len()).step_by(7) {
        assert!(
            simple::signed(&made[..length], &keys).is_err(),
            "{length} bytes"
        );
    }
}

#[test]
fn a_key_with_a_passphrase_needs_it() {
    let (secret, public) = openpgp("<a@example>", Some("secret"));
    let error = |passphrase| {
        let key = simple::SigningKey::parse(&secret, None, passphrase);
        key.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(error(None).contains("--sign-passphrase-file"));
    assert_ne!(error(Some("wrong")), "");
    let key = simple::SigningKey::parse(&secret, None, Some("secret")).unwrap();
    let made = simple::sign(&key, MANIFEST, &name("r.example/a:1")).unwrap();
    let made = Signature::Simple(made);
    assert_eq!(
        said(&signed_by(&public), "r.example/a:1", MANIFEST, &[made]),
        ""
    );
}

#[test]
fn a_key_is_chosen_by_fingerprint_or_address() {
    let (mut secret, _) = openpgp("A <a@example>", None);
    let (other, _) = openpgp("B <b@example>", None);
    secret.extend(other);
    let chosen = |wanted: Option<&str>| simple::SigningKey::parse(&secret, wanted, None);
    let fingerprint = chosen(Some("a@example")).unwrap().fingerprint().to_owned();
    let last = &fingerprint[fingerprint.len() - 16..];
    for wanted in [
        fingerprint.as_str(),
        &fingerprint.to_lowercase(),
        &format!("0x{last}"),
        "A <",
    ] {
        assert_eq!(
            chosen(Some(wanted)).unwrap().fingerprint(),
            fingerprint,
            "{wanted}"
        );
    }
    assert!(chosen(None).is_err(), "two keys");
    assert!(chosen(Some("example")).is_err(), "two keys");
    assert!(chosen(Some("c@example")).is_err());
    assert!(simple::SigningKey::parse(b"", None, None).is_err());
    // A public key signs nothing.
    let (_, public) = openpgp("<a@example>", None);
    let public = STANDARD.decode(public).unwrap();
    assert!(simple::SigningKey::parse(&public, None, None).is_err());
}

#[test]
fn a_sigstore_signature_counts_for_its_key_manifest_and_name() {
    let (private, public) = cosign::generate("secret").unwrap();
    let (_, other) = cosign::generate("").unwrap();
    let rule = |key: &str| {
        trust(&format!(
            r#"{{"default":[{{"type":"sigstoreSigned","keyData":"{}"}}]}}"#,
            STANDARD.encode(key)
        ))
    };
    let wrong = cosign::SigningKey::from_pem(private.as_bytes(), Some("wrong"));
    assert!(wrong.is_err());
    assert!(cosign::SigningKey::from_pem(private.as_bytes(), None).is_err());
    let key = cosign::SigningKey::from_pem(private.as_bytes(), Some("secret")).unwrap();
    let image = "r.example/a:1";
    let made = cosign::sign(&key, MANIFEST, &name(image)).unwrap();
    let good = [Signature::Sigstore(made.clone())];
    let ours = rule(&public);
    assert_eq!(said(&ours, image, MANIFEST, &good), "");
    assert_eq!(
        Signature::parse(&good[0].to_file().unwrap()).unwrap(),
        good[0]
    );
    let mut tampered = made.clone();
    tampered.payload.push(b' ');
    let mut other_type = made.clone();
    other_type.media_type = "application/json".to_owned();
    let mut bare = made;
    bare.annotations.clear();
    for (trust, image, manifest, signatures, reason) in [
        (&ours, image, MANIFEST, &[][..], "it has no signature"),
        (
            &rule(&other),
            image,
            MANIFEST,
            &good,
            "not by a key of the rule",
        ),
        (&ours, "r.example/a:2", MANIFEST, &good, "for another name"),
        (&ours, image, b"{}", &good, "for another manifest"),
        (
            &ours,
            image,
            MANIFEST,
            &[Signature::Sigstore(tampered)],
            "or was changed",
        ),
        (
            &ours,
            image,
            MANIFEST,
            &[Signature::Sigstore(other_type)],
            "has no signature",
        ),
        (
            &ours,
            image,
            MANIFEST,
            &[Signature::Sigstore(bare)],
            "has no signature",
        ),
    ] {
        let text = said(trust, image, manifest, signatures);
        assert!(text.contains(reason), "{reason}: {text}");
    }
}

#[test]
fn a_signature_of_one_kind_is_none_of_the_other() {
    let (secret, public) = openpgp("<a@example>", None);
    let (private, sigstore_public) = cosign::generate("").unwrap();
    let image = "r.example/a:1";
    let key = simple::SigningKey::parse(&secret, None, None).unwrap();
    let simple = Signature::Simple(simple::sign(&key, MANIFEST, &name(image)).unwrap());
    let key = cosign::SigningKey::from_pem(private.as_bytes(), Some("")).unwrap();
    let sigstore = Signature::Sigstore(cosign::sign(&key, MANIFEST, &name(image)).unwrap());
    let both = trust(&format!(
        r#"{{"default":[{{"type":"signedBy","keyType":"GPGKeys","keyData":"{public}"}},
            {{"type":"sigstoreSigned","keyData":"{}"}}]}}"#,
        STANDARD.encode(sigstore_public)
    ));
    let signatures = [simple, sigstore];
    assert_eq!(said(&both, image, MANIFEST, &signatures), "");
    assert!(said(&both, image, MANIFEST, &signatures[..1]).contains("(sigstoreSigned)"));
    assert!(said(&both, image, MANIFEST, &signatures[1..]).contains("(signedBy)"));
}

#[test]
fn keys_that_are_none_reject() {
    for (requirement, reason) in [
        (
            r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":"/nowhere"}"#,
            "read the key /nowhere",
        ),
        (
            r#"{"type":"signedBy","keyType":"GPGKeys","keyData":"YQ=="}"#,
            "no OpenPGP key",
        ),
        (
            r#"{"type":"signedBy","keyType":"X509Certificates","keyData":"YQ=="}"#,
            "keyType",
        ),
        (
            r#"{"type":"sigstoreSigned","keyData":"YQ=="}"#,
            "no public key",
        ),
        (
            r#"{"type":"sigstoreSigned","pki":{}}"#,
            "pki is not supported",
        ),
        (
            r#"{"type":"signedBaseLayer","baseLayerIdentity":{"type":"matchExact"}}"#,
            "not supported",
        ),
    ] {
        let trust = trust(&format!(r#"{{"default":[{requirement}]}}"#));
        let text = said(&trust, "r.example/a:1", MANIFEST, &[]);
        assert!(text.contains(reason), "{reason}: {text}");
    }
}

#[test]
fn files_of_signatures_are_told_apart() {
    let parse = |file: &[u8]| Signature::parse(file).map_err(|error| error.to_string());
    assert_eq!(
        parse(b"\x90\x01").unwrap(),
        Signature::Simple(b"\x90\x01".to_vec())
    );
    assert_eq!(
        parse(b"\0simple-signing\n\x90").unwrap(),
        Signature::Simple(b"\x90".to_vec())
    );
    for bad in [&b""[..], b"<html>", b"\0other\n", b"\0sigstore-json\n{}"] {
        assert!(parse(bad).is_err(), "{bad:?}");
    }
}
