//! What refers to an image.

use kelp_image::reference::Reference;
use kelp_image::referrers::referrers;
use kelp_image::{Digest, Error};
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::http::Message;
use crate::image::{OCI_INDEX, OCI_MANIFEST};
use crate::scripted::{Answer, Scripted};

fn index(names: &[&str]) -> Vec<u8> {
    let manifests: Vec<Value> = names
        .iter()
        .map(|name| {
            json!({
                "mediaType": OCI_MANIFEST, "size": 3, "digest": Digest::of(name.as_bytes()),
                "artifactType": format!("application/x.{name}"),
            })
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    index.to_string().into_bytes()
}

/// The digests of what a server says that refers to a digest.
fn asked(
    subject: &Digest,
    handler: impl Fn(&Message) -> Answer + Send + Sync + 'static,
) -> Result<Vec<String>, Error> {
    let fixture = Fixture::new();
    let server = Scripted::start(handler);
    let image = Reference::parse(&format!("{}/a/b@{subject}", server.address)).unwrap();
    let found = referrers(&image, &fixture.options.access)?;
    Ok(found.iter().map(|it| it.digest().to_string()).collect())
}

fn digests(names: &[&str]) -> Vec<String> {
    let digest = |name: &&str| Digest::of(name.as_bytes()).to_string();
    names.iter().map(digest).collect()
}

#[test]
fn the_api_says_page_by_page() {
    let subject = Digest::of(b"image");
    let path = format!("/v2/a/b/referrers/{subject}");
    let found = asked(&subject, move |request| {
        let answer =
            |names: &[&str]| Answer::new(200, &index(names)).header("Content-Type", OCI_INDEX);
        match request.target() {
            "/v2/" => Answer::new(200, b"{}"),
            target if target == path => {
                answer(&["one", "two"]).header("Link", &format!("<{path}?last=2>; rel=\"next\""))
            }
            target if target == format!("{path}?last=2") => answer(&["three"]),
            _ => Answer::new(500, b""),
        }
    });
    assert_eq!(found.unwrap(), digests(&["one", "two", "three"]));
}

#[test]
fn a_registry_without_the_api_has_a_tag_or_nothing() {
    let subject = Digest::of(b"image");
    for has_tag in [true, false] {
        let tag = format!(
            "/v2/a/b/manifests/{}",
            subject.to_string().replace(':', "-")
        );
        let found = asked(&subject, move |request| match request.target() {
            "/v2/" => Answer::new(200, b"{}"),
            target if has_tag && target == tag => {
                Answer::new(200, &index(&["one"])).header("Content-Type", OCI_INDEX)
            }
            _ => Answer::new(404, b"{}"),
        });
        let expected: &[&str] = if has_tag { &["one"] } else { &[] };
        assert_eq!(found.unwrap(), digests(expected));
    }
}

#[test]
fn what_fails_or_is_no_index_is_an_error() {
    let subject = Digest::of(b"image");
    for (status, body) in [(500, ""), (200, "{}"), (200, "[")] {
        let found = asked(&subject, move |request| match request.target() {
            "/v2/" => Answer::new(200, b"{}"),
            _ => Answer::new(status, body.as_bytes()),
        });
        assert!(found.is_err(), "{status}");
    }
}
