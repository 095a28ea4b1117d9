//! Tests of keys, the log and certificates.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::attachment::{attach, tag};
use super::*;
use crate::digest::Digest;
use crate::trust::policy::{Policy, Requirement};

const MANIFEST: &[u8] = b"{}";
const IMAGE: &str = "r.example/a:1";

const ROOT: &[u8] = include_bytes!("testdata/root.pem");
const INTERMEDIATE: &str = include_str!("testdata/intermediate.pem");
const LEAF: &str = include_str!("testdata/leaf.pem");
const LEAF_KEY: &[u8] = include_bytes!("testdata/leaf.key");

/// A minute after the certificate begins.
const VALID: u64 = 1_795_728_040;

fn key() -> (SigningKey, String) {
    let (private, public) = generate("").unwrap();
    let key = SigningKey::from_pem(private.as_bytes(), Some("")).unwrap();
    (key, public)
}

fn signed(key: &SigningKey) -> Attachment {
    sign(key, MANIFEST, &Reference::parse(IMAGE).unwrap()).unwrap()
}

fn rule(members: &Value) -> SigstoreSigned {
    let mut requirement = json!({"type": "sigstoreSigned"});
    for (name, value) in members.as_object().unwrap() {
        requirement[name] = value.clone();
    }
    let policy = json!({"default": [requirement]}).to_string();
    match Policy::parse(policy.as_bytes()).unwrap().default.remove(0) {
        Requirement::SigstoreSigned(rule) => *rule,
        other => panic!("{other:?}"),
    }
}

fn check(attachment: &Attachment, rule: &SigstoreSigned) -> Result<(), String> {
    let roots = Roots::load(rule)?;
    let image = Reference::parse(IMAGE).unwrap();
    verify(attachment, &roots, rule, MANIFEST, Some(&image))
}

/// What a log says of a signature by the holder of `signer` (PEM).
fn logged(log: &SigningKey, attachment: &Attachment, signer: &str, time: u64) -> String {
    let body = json!({
        "apiVersion": "0.0.1",
        "kind": "hashedrekord",
        "spec": {
            "data": {"hash": {
                "algorithm": "sha256",
                "value": Digest::of(&attachment.payload).hex(),
            }},
            "signature": {
                "content": attachment.annotations[SIGNATURE],
                "publicKey": {"content": STANDARD.encode(signer)},
            },
        },
    });
    let body = STANDARD.encode(body.to_string());
    let payload =
        format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"c0d2","logIndex":7}}"#);
    let timestamp = STANDARD.encode(log.sign(payload.as_bytes()).unwrap());
    // Not in the order that was signed.
    format!(
        r#"{{"SignedEntryTimestamp":"{timestamp}","Payload":{{"logIndex":7,"body":"{body}",
            "integratedTime": {time},"logID":"c0d2"}}}}"#
    )
}

#[test]
fn keys_of_every_supported_kind_verify() {
    // Made with openssl.
    for (kind, generate) in [
        (
            "p384",
            &["ecparam", "-name", "secp384r1", "-genkey", "-noout"][..],
        ),
        ("ed25519", &["genpkey", "-algorithm", "ed25519"]),
        ("rsa", &["genpkey", "-algorithm", "rsa"]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let openssl = |arguments: &[&str]| {
            let done = std::process::Command::new("openssl")
                .args(arguments)
                .current_dir(directory.path())
                .output()
                .unwrap();
            assert!(done.status.success(), "{done:?}");
        };
        openssl(&[generate, &["-out", "key"]].concat());
        openssl(&["pkey", "-in", "key", "-pubout", "-out", "public"]);
        std::fs::write(directory.path().join("message"), "words").unwrap();
        let sign: &[&str] = match kind {
            "ed25519" => &[
                "pkeyutl", "-sign", "-rawin", "-inkey", "key", "-in", "message", "-out", "made",
            ],
            _ => &["dgst", "-sha256", "-sign", "key", "-out", "made", "message"],
        };
        openssl(sign);
        let read = |name: &str| std::fs::read(directory.path().join(name)).unwrap();
        let public = PublicKey::from_pem(&read("public")).unwrap();
        assert!(public.verifies(b"words", &read("made")), "{kind}");
        assert!(!public.verifies(b"word", &read("made")), "{kind}");
    }
}

#[test]
fn what_is_no_key_is_said() {
    for (text, reason) in [
        ("", "no public key"),
        (
            "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n",
            "but a CERTIFICATE",
        ),
        (
            "-----BEGIN PUBLIC KEY-----\nYWJj\n-----END PUBLIC KEY-----\n",
            "no public key",
        ),
    ] {
        let error = PublicKey::from_pem(text.as_bytes()).unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }
    for text in [
        "",
        "-----BEGIN EC PRIVATE KEY-----\nYWJj\n-----END EC PRIVATE KEY-----\n",
    ] {
        assert!(
            SigningKey::from_pem(text.as_bytes(), Some("")).is_err(),
            "{text}"
        );
    }
}

#[test]
fn a_key_file_can_not_ask_for_too_much() {
    let (private, _) = generate("").unwrap();
    let (_, sealed) = x509_cert::der::pem::decode_vec(private.as_bytes()).unwrap();
    let sealed: Value = serde_json::from_slice(&sealed).unwrap();
    for members in [
        json!({"N": 1_u64 << 40}),
        json!({"N": 3}),
        json!({"r": u32::MAX}),
        json!({"p": 1000}),
        json!({"N": 1, "r": 1 << 23, "p": 16}),
    ] {
        let mut changed = sealed.clone();
        for (member, value) in members.as_object().unwrap() {
            changed["kdf"]["params"][member] = value.clone();
        }
        let error = encrypted::open(changed.to_string().as_bytes(), "").unwrap_err();
        assert!(error.to_string().contains("out of bounds"), "{error}");
    }
}

#[test]
fn a_key_and_the_log_must_agree() {
    let (key, public) = key();
    let (log, log_public) = self::key();
    let (_, other) = self::key();
    let with_log = |keys: &[&str], log: &str| {
        let keys: Vec<String> = keys.iter().map(|key| STANDARD.encode(key)).collect();
        rule(&json!({"keyDatas": keys, "rekorPublicKeyData": STANDARD.encode(log)}))
    };
    let ours = with_log(&[&other, &public], &log_public);
    let plain = signed(&key);
    let mut good = plain.clone();
    let entry = logged(&log, &plain, &public, VALID);
    good.annotations.insert(LOG_ENTRY.to_owned(), entry.clone());
    assert_eq!(check(&good, &ours), Ok(()));
    // Without the log in the rule the entry means nothing.
    let without = rule(&json!({"keyData": STANDARD.encode(&public)}));
    assert_eq!(check(&good, &without), Ok(()));
    assert_eq!(check(&plain, &without), Ok(()));

    let with_entry = |entry: String| {
        let mut attachment = plain.clone();
        attachment.annotations.insert(LOG_ENTRY.to_owned(), entry);
        attachment
    };
    let mut elsewhere = signed(&key);
    elsewhere.payload = b"other words".to_vec();
    for (attachment, rule, reason) in [
        (plain.clone(), &ours, "no transparency log has it"),
        (
            good.clone(),
            &with_log(&[&public], &other),
            "not signed by the log",
        ),
        (
            good.clone(),
            &with_log(&[&other], &log_public),
            "for a key that is not the rule's",
        ),
        (
            with_entry(entry.replace("\"logIndex\":7", "\"logIndex\":8")),
            &ours,
            "not signed by",
        ),
        (
            with_entry(entry.replace("c0d2", "c0\\\"d2")),
            &ours,
            "none of a log's",
        ),
        (
            with_entry(entry.replace("\"logIndex\":7", "\"x\":7")),
            &ours,
            "unknown field",
        ),
        (with_entry("{}".to_owned()), &ours, "the log's entry"),
        (
            with_entry(logged(&log, &elsewhere, &public, VALID)),
            &ours,
            "for another signature",
        ),
        (
            with_entry(logged(&log, &plain, &other, VALID)),
            &ours,
            "not by a key of the rule",
        ),
    ] {
        let error = check(&attachment, rule).unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn a_certificate_counts_for_its_authority_holder_and_time() {
    let key = SigningKey::from_pem(LEAF_KEY, None).unwrap();
    let (log, log_public) = self::key();
    let fulcio = |authority: &[u8], issuer: &str, email: &str| {
        rule(&json!({
            "fulcio": {
                "caData": STANDARD.encode(authority),
                "oidcIssuer": issuer,
                "subjectEmail": email,
            },
            "rekorPublicKeyData": STANDARD.encode(&log_public),
        }))
    };
    let (issuer, email) = ("https://issuer.example", "person@example.com");
    let ours = fulcio(ROOT, issuer, email);
    let chain = format!("{INTERMEDIATE}{}", String::from_utf8_lossy(ROOT));
    let made = |time: u64, chain: &str| {
        let mut attachment = signed(&key);
        let entry = logged(&log, &attachment, LEAF, time);
        for (name, value) in [
            (LOG_ENTRY, entry.as_str()),
            (CERTIFICATE, LEAF),
            (CHAIN, chain),
        ] {
            attachment
                .annotations
                .insert(name.to_owned(), value.to_owned());
        }
        attachment
    };
    let good = made(VALID, &chain);
    assert_eq!(check(&good, &ours), Ok(()));
    let without = |name: &str| {
        let mut attachment = good.clone();
        attachment.annotations.remove(name);
        attachment
    };
    let with = |name: &str, value: &str| {
        let mut attachment = good.clone();
        attachment
            .annotations
            .insert(name.to_owned(), value.to_owned());
        attachment
    };
    for (attachment, rule, reason) in [
        (made(VALID + 2 * 86_400, &chain), &ours, "not good"),
        (made(VALID - 86_400, &chain), &ours, "not good"),
        (made(VALID, ""), &ours, "not good"),
        (
            good.clone(),
            &fulcio(LEAF.as_bytes(), issuer, email),
            "not good",
        ),
        (
            good.clone(),
            &fulcio(b"none", issuer, email),
            "has no certificate",
        ),
        (
            good.clone(),
            &fulcio(ROOT, "https://other.example", email),
            "by way of",
        ),
        (
            good.clone(),
            &fulcio(ROOT, issuer, "other@example.com"),
            "is for person@example.com",
        ),
        (without(CERTIFICATE), &ours, "no certificate"),
        (without(LOG_ENTRY), &ours, "no transparency log"),
        (
            with(CERTIFICATE, &format!("{LEAF}{LEAF}")),
            &ours,
            "2 certificates",
        ),
        (
            with(CERTIFICATE, INTERMEDIATE),
            &ours,
            "for another certificate",
        ),
        (with(SIGNATURE, "AAAA"), &ours, "for another signature"),
    ] {
        let error = check(&attachment, rule).unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn signatures_are_added_to_those_that_are_there() {
    let (key, _) = key();
    let first = signed(&key);
    let second = signed(&self::key().0);
    let one = attach(None, std::slice::from_ref(&first)).unwrap();
    let both = attach(Some(&one.manifest), &[first.clone(), second.clone()]).unwrap();
    let manifest: Value = serde_json::from_slice(&both.manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    for (layer, attachment) in layers.iter().zip([&first, &second]) {
        assert_eq!(layer["mediaType"], MEDIA_TYPE);
        assert_eq!(layer["digest"], Digest::of(&attachment.payload).to_string());
        assert_eq!(
            layer["annotations"][SIGNATURE],
            attachment.annotations[SIGNATURE]
        );
    }
    for (digest, bytes) in &both.blobs {
        assert_eq!(*digest, Digest::of(bytes));
    }
    let digest = Digest::of(MANIFEST);
    assert_eq!(tag(&digest), format!("sha256-{}.sig", digest.hex()));
}
