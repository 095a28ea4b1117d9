//! What a registry has under a name by now, next to what is here.

use kelp_image::offer::{Offer, offered};
use kelp_image::pull::Images;
use kelp_image::reference::Reference;
use kelp_image::{Digest, Error};
use serde_json::json;

use crate::distribution::Distribution;
use crate::fixture::Fixture;
use crate::image::{TestImage, push_index};
use crate::scripted::{Answer, Scripted, serve_image};

fn offer(image: &TestImage) -> Offer {
    Offer {
        id: image.id(),
        manifest: image.digest(),
    }
}

/// What is offered in the place of the image that has the name here.
fn ask(fixture: &Fixture, name: &str) -> Result<Option<Offer>, Error> {
    let name = Reference::parse(name).unwrap();
    let local = fixture.images.find(&name)?.unwrap();
    let platform = fixture.options.platform.clone().unwrap();
    let access = &fixture.options.access;
    offered(&fixture.images, &name, &local, &platform, access)
}

#[test]
fn only_another_image_for_the_platform_is_an_offer() {
    if !Distribution::is_installed() {
        return;
    }
    let fixture = Fixture::new();
    let registry = Distribution::plain(fixture.root.path());
    let address = registry.address.as_str();
    let [here, new, foreign, other] = [
        TestImage::new("here", "amd64", &[10]),
        TestImage::new("new", "amd64", &[20]),
        TestImage::new("foreign", "arm64", &[10]),
        TestImage::new("other", "arm64", &[20]),
    ];
    for (tag, image) in [("h", &here), ("n", &new), ("f", &foreign), ("o", &other)] {
        image.push(address, "app", tag);
    }
    let name = format!("{address}/app:1");
    let has = |images: &[(&str, &TestImage)]| push_index(address, "app", "1", images);
    let brought = has(&[("linux/amd64", &here), ("linux/arm64", &foreign)]);
    fixture.pull(&name).unwrap();
    assert_eq!(ask(&fixture, &name).unwrap(), None);
    // An index that is another one for the sake of another platform.
    let index = has(&[("linux/amd64", &here), ("linux/arm64", &other)]);
    assert_ne!(index, brought);
    assert_eq!(ask(&fixture, &name).unwrap(), None);
    // The image without its index.
    here.push(address, "app", "1");
    assert_eq!(ask(&fixture, &name).unwrap(), None);
    // The same image, described in another way.
    let mut again = here.clone();
    let mut manifest = here.describe();
    manifest["annotations"] = json!({"compressed": "anew"});
    again.manifest = manifest.to_string().into_bytes();
    again.push(address, "app", "1");
    assert_eq!(ask(&fixture, &name).unwrap(), None);
    has(&[("linux/amd64", &new), ("linux/arm64", &other)]);
    assert_eq!(ask(&fixture, &name).unwrap(), Some(offer(&new)));
    // Nothing of it was brought.
    assert!(!fixture.blobs.contains(&Digest::of(&new.config)).unwrap());
    assert!(!fixture.blobs.contains(&new.digest()).unwrap());
    // There is none for the platform any more.
    has(&[("linux/arm64", &other)]);
    let error = ask(&fixture, &name).unwrap_err();
    assert!(matches!(error, Error::NotInRegistry(_)), "{error}");
    drop(registry);
    assert!(ask(&fixture, &name).is_err());
}

#[test]
fn mirrors_are_asked_first_and_for_the_digest_alone() {
    let mut fixture = Fixture::new();
    fixture.options.access.tls_verify = None;
    let image = TestImage::new("mirrored", "amd64", &[1000]);
    let served = image.clone();
    let broken = Scripted::start(|_| Answer::new(404, b"{}"));
    let good = Scripted::start(move |request| {
        let digest = served.digest().to_string();
        serve_image(&served, request).header("Docker-Content-Digest", &digest)
    });
    fixture.configure(
        "registries.conf",
        &format!(
            "[[registry]]\nprefix = \"origin.example\"\nlocation = \"unused.example\"\n\
             [[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n\
             [[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n",
            broken.address, good.address
        ),
    );
    fixture.pull("origin.example/app:1").unwrap();
    let manifest = "/v2/app/manifests/1";
    let before = good.requests(manifest).len();
    assert_eq!(ask(&fixture, "origin.example/app:1").unwrap(), None);
    let asked = &good.requests(manifest)[before..];
    assert_eq!(asked.len(), 1);
    assert!(asked[0].first.starts_with("HEAD "), "{}", asked[0].first);
    assert!(!broken.requests(manifest).is_empty());
}
