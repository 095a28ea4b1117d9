//! The grammar in tables.

use super::*;

const HEX: &str = "6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";

#[test]
fn names_with_a_registry_are_taken_apart() {
    let digest = format!("sha256:{HEX}");
    for (text, registry, repository, tag, familiar) in [
        (
            "docker.io/alpine",
            "docker.io",
            "library/alpine",
            None,
            "alpine",
        ),
        (
            "docker.io/library/alpine:3",
            "docker.io",
            "library/alpine",
            Some("3"),
            "alpine:3",
        ),
        (
            "index.docker.io/alpine",
            "docker.io",
            "library/alpine",
            None,
            "alpine",
        ),
        (
            "docker.io/bitnami/redis",
            "docker.io",
            "bitnami/redis",
            None,
            "bitnami/redis",
        ),
        (
            "docker://quay.io/a/b:t",
            "quay.io",
            "a/b",
            Some("t"),
            "quay.io/a/b:t",
        ),
        ("localhost/foo", "localhost", "foo", None, "localhost/foo"),
        (
            "localhost:5000/foo:1",
            "localhost:5000",
            "foo",
            Some("1"),
            "localhost:5000/foo:1",
        ),
        (
            "host:5000/a/b/c",
            "host:5000",
            "a/b/c",
            None,
            "host:5000/a/b/c",
        ),
        ("HOST/foo", "HOST", "foo", None, "HOST/foo"),
        (
            "[::1]:5000/foo",
            "[::1]:5000",
            "foo",
            None,
            "[::1]:5000/foo",
        ),
        (
            "[2001:db8::1]/foo:a",
            "[2001:db8::1]",
            "foo",
            Some("a"),
            "[2001:db8::1]/foo:a",
        ),
        (
            "127.0.0.1:5000/a.b/c_d/e__f/g---h",
            "127.0.0.1:5000",
            "a.b/c_d/e__f/g---h",
            None,
            "127.0.0.1:5000/a.b/c_d/e__f/g---h",
        ),
    ] {
        let reference = Reference::parse(text).unwrap();
        assert_eq!(reference.registry(), registry, "{text}");
        assert_eq!(reference.repository(), repository, "{text}");
        assert_eq!(reference.tag(), tag, "{text}");
        assert_eq!(reference.digest(), None, "{text}");
        assert_eq!(reference.familiar(), familiar, "{text}");

        let with_digest = Reference::parse(&format!("{text}@{digest}")).unwrap();
        assert_eq!(with_digest.tag(), tag, "{text}");
        assert_eq!(with_digest.digest().unwrap().to_string(), digest);
        assert_eq!(with_digest.manifest_name(), digest);
        assert_eq!(
            Reference::parse(&with_digest.to_string()).unwrap(),
            with_digest
        );
    }
}

#[test]
fn names_without_a_registry_are_short() {
    for (text, path, tag, hub) in [
        ("alpine", "alpine", None, "docker.io/library/alpine"),
        (
            "alpine:3.20",
            "alpine",
            Some("3.20"),
            "docker.io/library/alpine:3.20",
        ),
        ("a/b", "a/b", None, "docker.io/a/b"),
        (
            "docker://library/alpine",
            "library/alpine",
            None,
            "docker.io/library/alpine",
        ),
        (
            "localhost",
            "localhost",
            None,
            "docker.io/library/localhost",
        ),
        (
            "foo:5000",
            "foo",
            Some("5000"),
            "docker.io/library/foo:5000",
        ),
    ] {
        let name = ImageName::parse(text).unwrap();
        let ImageName::Short(short) = &name else {
            panic!("{text} is short");
        };
        assert_eq!(short.path(), path);
        assert_eq!(short.tag(), tag);
        assert_eq!(name.on_docker_hub().to_string(), hub);
        assert!(Reference::parse(text).is_err());
    }
}

#[test]
fn what_breaks_the_grammar_is_refused() {
    let long_tag = format!("a:{}", "t".repeat(129));
    let long_name = format!("host.example/{}", "n".repeat(243));
    for (text, reason) in [
        ("", "empty"),
        ("docker://", "empty"),
        (HEX, "image's id"),
        (":tag", "repository is missing"),
        ("@sha256:00", "repository is missing"),
        ("a:", "the tag"),
        ("a:-x", "the tag"),
        ("a:b c", "the tag"),
        ("a:b/../c", "registry's port"),
        (long_tag.as_str(), "longer than 128"),
        (long_name.as_str(), "longer than 255"),
        ("a@sha256:00", "the digest"),
        ("a@sha256:../../etc/passwd", "the digest"),
        ("a@b@c", "the digest"),
        ("A", "lower case"),
        ("quay.io/Foo", "lower case"),
        ("a//b", "characters"),
        ("a/", "characters"),
        ("/a", "characters"),
        ("a/../b", "characters"),
        ("../a", "registry is not"),
        ("a..b", "characters"),
        ("a___b", "characters"),
        ("a._b", "characters"),
        ("-a", "characters"),
        ("a b", "characters"),
        ("a%2fb", "characters"),
        ("é", "characters"),
        ("host:99999/a", "registry's port"),
        ("host:/a", "registry's port"),
        ("host:+1/a", "registry's port"),
        ("-host.com/a", "host name"),
        ("ho_st.com/a", "host name"),
        ("user@host.com/a", "the digest"),
        ("[::1/a", "bracket"),
        ("[zz]/a", "IPv6"),
        ("[::1]x/a", "after the registry's address"),
        ("oci-archive:/tmp/x", "transport"),
        ("dir:/tmp", "transport"),
        ("https://quay.io/a", "URL"),
    ] {
        let error = ImageName::parse(text).unwrap_err();
        assert!(error.reason.contains(reason), "{text}: {error}");
    }
}

#[test]
fn a_digest_outranks_the_tag() {
    let text = format!("quay.io/a:t@sha256:{HEX}");
    let reference = Reference::parse(&text).unwrap();
    assert_eq!(
        reference.clone().digest_over_tag().to_string(),
        format!("quay.io/a@sha256:{HEX}")
    );
    assert_eq!(reference.clone().or_latest(), reference);
    let bare = Reference::parse("quay.io/a").unwrap();
    assert_eq!(bare.manifest_name(), "latest");
    assert_eq!(bare.or_latest().to_string(), "quay.io/a:latest");
}

#[test]
fn another_name_keeps_tag_and_digest() {
    let reference = Reference::parse("quay.io/a/b:t").unwrap();
    assert_eq!(
        reference.with_name("mirror.example:5000/x/b").unwrap(),
        Reference::parse("mirror.example:5000/x/b:t").unwrap()
    );
    assert!(reference.with_name("mirror.example/x:t").is_err());
    assert!(reference.with_name("x").is_err());
}
