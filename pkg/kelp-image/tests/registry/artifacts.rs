//! Artifacts from registries that break, lie, or are others: what holds for images holds for them.

use kelp_image::artifact::pull::{ArtifactPull, PulledArtifact, pull};
use kelp_image::blob::BlobStore;
use kelp_image::reference::ImageName;
use kelp_image::store::Store;
use kelp_image::{Digest, Error};
use serde_json::json;

use crate::faults::{layer_path, ranges, spoiled};
use crate::fixture::Fixture;
use crate::image::{OCI_INDEX, OCI_MANIFEST, TestImage};
use crate::scripted::{Answer, Scripted, serve_image};

/// One with a file of this size and a config that is a blob.
fn artifact(seed: &str, size: usize) -> TestImage {
    let mut artifact = TestImage::new(seed, "amd64", &[size]);
    let mut manifest = artifact.describe();
    manifest["artifactType"] = json!("application/vnd.example.test");
    artifact.manifest = manifest.to_string().into_bytes();
    artifact
}

/// A store in the fixture's directory, and a pull to it.
struct World {
    fixture: Fixture,
    store: Store,
}

impl World {
    fn new() -> Self {
        let fixture = Fixture::new();
        let store = Store::open(&fixture.root.path().join("data")).unwrap();
        Self { fixture, store }
    }

    fn pull(&self, name: &str) -> Result<PulledArtifact, Error> {
        let options = ArtifactPull {
            access: self.fixture.options.access.clone(),
            ask: None,
        };
        let with_blobs = |work: &mut dyn FnMut(&BlobStore) -> Result<(), Error>| {
            let (_lease, blobs) = self.store.lease()?;
            work(&blobs)
        };
        let name = ImageName::parse(name).unwrap();
        pull(
            &self.store,
            &name,
            &options,
            &with_blobs,
            &self.fixture.shown,
        )
    }
}

#[test]
fn a_download_that_breaks_goes_on_and_so_does_the_next_pull() {
    let mut world = World::new();
    let whole = artifact("breaks", 1 << 20);
    let server = spoiled(&whole, 1, |_, answer| {
        let half = answer.body.len() / 2;
        answer.cut_at(half)
    });
    let pulled = world.pull(&format!("{}/x", server.address)).unwrap();
    assert_eq!(pulled.manifest, whole.digest());
    assert_eq!(ranges(&server, &whole), ["all", "bytes=524288-"]);
    // One that gives up leaves what it has to the next.
    world.fixture.options.access.retries.limit = 0;
    let other = artifact("breaks again", 1 << 20);
    let server = spoiled(&other, 1, |_, answer| {
        let half = answer.body.len() / 2;
        answer.cut_at(half)
    });
    let name = format!("{}/x", server.address);
    let error = world.pull(&name).unwrap_err().to_string();
    assert!(error.contains("another pull goes on from there"), "{error}");
    assert_eq!(world.store.artifacts().unwrap().len(), 1);
    assert!(world.fixture.partial_files() >= 1);
    world.pull(&name).unwrap();
    assert_eq!(ranges(&server, &other), ["all", "bytes=524288-"]);
    assert_eq!(world.fixture.partial_files(), 0);
}

#[test]
fn content_that_is_not_what_its_digest_says_is_no_artifact() {
    let world = World::new();
    let lying = artifact("lies", 1000);
    let server = spoiled(&lying, usize::MAX, |_, answer| Answer {
        body: vec![b'x'; answer.body.len()],
        ..answer
    });
    let error = world.pull(&format!("{}/x", server.address)).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    assert_eq!(world.store.artifacts().unwrap(), []);
    let listed = world.store.blobs().list().unwrap();
    let file = Digest::of(&lying.layers[0]);
    assert!(listed.iter().all(|(digest, _)| *digest != file));
}

#[test]
fn what_is_here_costs_one_question() {
    let world = World::new();
    let usual = artifact("usual", 1000);
    let served = usual.clone();
    let server = Scripted::start(move |request| {
        let digest = served.digest().to_string();
        serve_image(&served, request).header("Docker-Content-Digest", &digest)
    });
    let name = format!("{}/x:1", server.address);
    world.pull(&name).unwrap();
    let asked = server.requests("/manifests/").len();
    world.pull(&name).unwrap();
    let more = server.requests("/manifests/").split_off(asked);
    let firsts: Vec<_> = more.iter().map(|request| request.first.clone()).collect();
    assert_eq!(firsts, ["HEAD /v2/x/manifests/1 HTTP/1.1"]);
    assert_eq!(server.requests(&layer_path(&usual)).len(), 1);
}

#[test]
fn mirrors_come_first_and_the_artifact_keeps_its_name() {
    let mut world = World::new();
    world.fixture.options.access.tls_verify = None;
    let usual = artifact("mirrored", 1000);
    let served = usual.clone();
    let good = Scripted::start(move |request| serve_image(&served, request));
    let broken = Scripted::start(|_| Answer::new(404, b"{}"));
    world.fixture.configure(
        "registries.conf",
        &format!(
            "[[registry]]\nlocation = \"origin.example\"\n\
             [[registry.mirror]]\nlocation = \"{}/m\"\ninsecure = true\n\
             [[registry.mirror]]\nlocation = \"{}/n\"\ninsecure = true\n",
            broken.address, good.address
        ),
    );
    world.pull("origin.example/data:1").unwrap();
    let found = world.store.artifacts().unwrap();
    assert_eq!(found[0].names, ["origin.example/data:1"]);
    assert_eq!(found[0].record.manifest, usual.digest());
    assert_eq!(broken.requests("/v2/m/data/manifests/1").len(), 1);
}

#[test]
fn of_an_index_the_only_manifest_is_meant_or_none() {
    for (count, more, said) in [
        (1, 0, None),
        (2, 0, Some("none of its manifests is for this host")),
        (1, 1, Some("but its index says")),
    ] {
        let world = World::new();
        let usual = artifact("indexed", 1000);
        let entry = json!({
            "mediaType": OCI_MANIFEST, "digest": usual.digest(), "size": usual.manifest.len() + more,
        });
        let entries = vec![entry; count];
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
        let (served, index) = (usual.clone(), index.to_string());
        let server = Scripted::start(move |request| {
            if request.target().ends_with("/manifests/latest") {
                return Answer::new(200, index.as_bytes()).header("Content-Type", OCI_INDEX);
            }
            serve_image(&served, request)
        });
        let pulled = world.pull(&format!("{}/x", server.address));
        match said {
            None => assert_eq!(pulled.unwrap().manifest, usual.digest()),
            Some(said) => {
                let error = pulled.unwrap_err().to_string();
                let digest = usual.digest().to_string();
                assert!(error.contains(said) && error.contains(&digest), "{error}");
                assert_eq!(world.store.artifacts().unwrap(), []);
            }
        }
    }
}
