//! Pulls that succeed, from a real registry.

use std::collections::HashSet;

use kelp_image::pull::PullPolicy;
use kelp_image::{Digest, Error};

use crate::distribution::Distribution;
use crate::fixture::Fixture;
use crate::image::{TestImage, push_index};

#[test]
fn an_image_is_pulled_once() {
    if !Distribution::is_installed() {
        return;
    }
    let fixture = Fixture::new();
    let registry = Distribution::plain(fixture.root.path());
    let image = TestImage::new("once", "amd64", &[3 << 20, 100, 0]);
    image.push(&registry.address, "a/b", "t");
    let name = format!("{}/a/b:t", registry.address);

    assert_eq!(fixture.pull(&name).unwrap(), image.id());
    let recorded = fixture.images.get(&name).unwrap();
    assert_eq!(recorded.manifest, image.digest());
    assert_eq!(recorded.index, None);
    let diff_ids: HashSet<Digest> = image.layers.iter().map(|layer| Digest::of(layer)).collect();
    assert_eq!(fixture.layers.published(), diff_ids);
    for blob in image.layers.iter().chain([&image.config, &image.manifest]) {
        let digest = Digest::of(blob);
        assert_eq!(&fixture.blobs.read(&digest, 1 << 30).unwrap(), blob);
    }
    assert_eq!(fixture.partial_files(), 0);
    let shown = fixture.shown.take();
    assert_eq!(shown[0], format!("trying {name}"));
    assert_eq!(shown[shown.len() - 2], format!("config {}", image.id()));
    assert_eq!(shown[shown.len() - 1], "writing");

    assert_eq!(fixture.pull(&name).unwrap(), image.id());
    assert_eq!(fixture.shown.take(), [format!("trying {name}")]);

    // Under another name nothing is downloaded either.
    image.push(&registry.address, "a/b", "other");
    let other = format!("{}/a/b:other", registry.address);
    assert_eq!(fixture.pull(&other).unwrap(), image.id());
    let shown = fixture.shown.take();
    let skipped = shown.iter().filter(|line| line.starts_with("skipped"));
    assert_eq!(skipped.count(), 3, "{shown:?}");

    // A layer that is gone, or was extracted for another map, is made from its blob.
    fixture.layers.forget();
    drop(registry);
    let missing = fixture.pull(&name).unwrap_err();
    assert!(missing.to_string().contains("connection refused"));
}

#[test]
fn a_layer_is_extracted_again_from_its_blob() {
    if !Distribution::is_installed() {
        return;
    }
    let fixture = Fixture::new();
    let registry = Distribution::plain(fixture.root.path());
    let image = TestImage::new("again", "amd64", &[1 << 20]);
    image.push(&registry.address, "again", "latest");
    let name = format!("{}/again", registry.address);
    fixture.pull(&name).unwrap();
    fixture.layers.forget();
    fixture.shown.take();
    image.push(&registry.address, "again", "other");
    fixture.pull(&format!("{name}:other")).unwrap();
    assert_eq!(fixture.layers.published().len(), 1);
    let layer = Digest::of(&image.layers[0]);
    assert!(fixture.shown.take().contains(&format!("skipped {layer}")));
}

#[test]
fn an_index_is_resolved_by_platform() {
    if !Distribution::is_installed() {
        return;
    }
    let mut fixture = Fixture::new();
    let registry = Distribution::plain(fixture.root.path());
    let amd64 = TestImage::new("multi", "amd64", &[10]);
    let arm64 = TestImage::new("multi-arm", "arm64", &[20]);
    amd64.push(&registry.address, "multi", "amd64");
    arm64.push(&registry.address, "multi", "arm64");
    let images = [("linux/amd64", &amd64), ("linux/arm64", &arm64)];
    let index = push_index(&registry.address, "multi", "latest", &images);
    let name = format!("{}/multi:latest", registry.address);

    assert_eq!(fixture.pull(&name).unwrap(), amd64.id());
    let recorded = fixture.images.get(&name).unwrap();
    assert_eq!(recorded.index, Some(index.clone()));
    assert_eq!(recorded.manifest, amd64.digest());
    assert!(fixture.blobs.contains(&index).unwrap());

    fixture.options.platform = Some("linux/aarch64".parse().unwrap());
    assert_eq!(fixture.pull(&name).unwrap(), arm64.id());

    fixture.options.platform = Some("linux/s390x".parse().unwrap());
    let error = fixture.pull(&name).unwrap_err();
    assert!(matches!(error, Error::NotInRegistry(_)));
    let text = error.to_string();
    assert!(
        text.contains("no image for linux/s390x; there are: linux/amd64, linux/arm64"),
        "{text}"
    );

    // A single image of another platform is taken, with a warning.
    fixture.shown.take();
    let single = format!("{}/multi:arm64", registry.address);
    assert_eq!(fixture.pull(&single).unwrap(), arm64.id());
    let shown = fixture.shown.take().join("\n");
    assert!(shown.contains("image platform (linux/arm64) does not match"));
}

#[test]
fn an_image_is_pulled_by_digest() {
    if !Distribution::is_installed() {
        return;
    }
    let fixture = Fixture::new();
    let registry = Distribution::plain(fixture.root.path());
    let image = TestImage::new("digest", "amd64", &[10]);
    image.push(&registry.address, "digest", "t");
    let name = format!("{}/digest@{}", registry.address, image.digest());
    assert_eq!(fixture.pull(&name).unwrap(), image.id());
    // The digest decides, whatever the tag says.
    let both = format!("{}/digest:other@{}", registry.address, image.digest());
    assert_eq!(fixture.pull(&both).unwrap(), image.id());
    assert!(fixture.images.get(&name).is_some());

    let other = format!("{}/digest@{}", registry.address, Digest::of(b"other"));
    let error = fixture.pull(&other).unwrap_err();
    assert!(matches!(error, Error::NotInRegistry(_)), "{error}");
}

#[test]
fn a_missing_manifest_is_named() {
    if !Distribution::is_installed() {
        return;
    }
    let fixture = Fixture::new();
    let registry = Distribution::plain(fixture.root.path());
    let name = format!("{}/nowhere:t", registry.address);
    let error = fixture.pull(&name).unwrap_err();
    assert!(matches!(error, Error::NotInRegistry(_)));
    assert_eq!(
        error.to_string(),
        format!(
            "reading manifest t in {}/nowhere: manifest unknown",
            registry.address
        )
    );
}

#[test]
fn policies_decide_whether_the_registry_is_asked() {
    if !Distribution::is_installed() {
        return;
    }
    let mut fixture = Fixture::new();
    let registry = Distribution::plain(fixture.root.path());
    let first = TestImage::new("first", "amd64", &[10]);
    let second = TestImage::new("second", "amd64", &[10]);
    first.push(&registry.address, "p", "latest");
    let name = format!("{}/p", registry.address);

    fixture.options.policy = PullPolicy::Never;
    assert!(matches!(fixture.pull(&name), Err(Error::NotFound(_))));
    for policy in [PullPolicy::Missing, PullPolicy::Newer, PullPolicy::Never] {
        fixture.options.policy = policy;
        assert_eq!(fixture.pull(&name).unwrap(), first.id(), "{policy:?}");
    }
    second.push(&registry.address, "p", "latest");
    for (policy, image) in [
        (PullPolicy::Never, &first),
        (PullPolicy::Missing, &first),
        (PullPolicy::Newer, &second),
        (PullPolicy::Always, &second),
    ] {
        fixture.options.policy = policy;
        assert_eq!(fixture.pull(&name).unwrap(), image.id(), "{policy:?}");
    }
    drop(registry);
    fixture.options.policy = PullPolicy::Newer;
    assert_eq!(fixture.pull(&name).unwrap(), second.id());
    fixture.options.policy = PullPolicy::Always;
    assert!(matches!(fixture.pull(&name), Err(Error::Registry(_))));
}

#[test]
fn localhost_is_found_without_a_name_server() {
    if !Distribution::is_installed() {
        return;
    }
    let fixture = Fixture::new();
    let registry = Distribution::plain(fixture.root.path());
    let image = TestImage::new("localhost", "amd64", &[10]);
    image.push(&registry.address, "l", "latest");
    let name = format!("{}/l", registry.address.replace("127.0.0.1", "localhost"));
    assert_eq!(fixture.pull(&name).unwrap(), image.id());
}
