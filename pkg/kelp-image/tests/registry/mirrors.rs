//! registries.conf at work.

use kelp_image::Error;

use crate::fixture::Fixture;
use crate::image::TestImage;
use crate::scripted::{Answer, Scripted, serve_image};

fn registry(image: &TestImage) -> Scripted {
    let served = image.clone();
    Scripted::start(move |request| serve_image(&served, request))
}

#[test]
fn mirrors_are_asked_in_order_and_the_image_keeps_its_name() {
    let mut fixture = Fixture::new();
    fixture.options.access.tls_verify = None;
    let image = TestImage::new("mirrored", "amd64", &[1000]);
    let broken = Scripted::start(|_| Answer::new(404, b"{}"));
    let good = registry(&image);
    fixture.configure(
        "registries.conf",
        &format!(
            "[[registry]]\nprefix = \"origin.example/team\"\nlocation = \"unused.example\"\n\
             [[registry.mirror]]\nlocation = \"{}/m\"\ninsecure = true\n\
             [[registry.mirror]]\nlocation = \"{}/n\"\ninsecure = true\n",
            broken.address, good.address
        ),
    );
    assert_eq!(
        fixture.pull("origin.example/team/app:1").unwrap(),
        image.id()
    );
    assert!(fixture.images.get("origin.example/team/app:1").is_some());
    assert_eq!(broken.requests("/v2/m/app/manifests/1").len(), 1);
    assert_eq!(good.requests("/v2/n/app/manifests/1").len(), 1);
    let shown = fixture.shown.take().join("\n");
    assert!(shown.contains(&format!("warning mirror {}", broken.address)));
}

#[test]
fn a_blocked_registry_is_never_asked() {
    let fixture = Fixture::new();
    let image = TestImage::new("blocked", "amd64", &[10]);
    let server = registry(&image);
    fixture.configure(
        "registries.conf",
        &format!(
            "[[registry]]\nlocation = \"{}\"\nblocked = true\n",
            server.address
        ),
    );
    let error = fixture.pull(&format!("{}/x", server.address)).unwrap_err();
    assert!(matches!(error, Error::Denied(_)));
    assert!(error.to_string().contains("is blocked"), "{error}");
    assert!(server.requests("").is_empty());
}

#[test]
fn a_short_name_is_looked_for_in_every_registry() {
    let fixture = Fixture::new();
    let image = TestImage::new("short", "amd64", &[10]);
    let empty = Scripted::start(|_| Answer::new(404, b"{}"));
    let good = registry(&image);
    fixture.configure(
        "registries.conf",
        &format!(
            "unqualified-search-registries = [\"{}\", \"{}\"]\n\
             short-name-mode = \"permissive\"\n[aliases]\n\"known\" = \"{}/by/alias\"\n",
            empty.address, good.address, good.address
        ),
    );
    assert_eq!(fixture.pull("app").unwrap(), image.id());
    let name = format!("{}/app:latest", good.address);
    assert!(fixture.images.get(&name).is_some());

    assert_eq!(fixture.pull("known:2").unwrap(), image.id());
    assert!(fixture.shown.take().contains(&"resolved known".to_owned()));
    let name = format!("{}/by/alias:2", good.address);
    assert!(fixture.images.get(&name).is_some());
}

#[test]
fn no_registry_has_it_names_them_all() {
    let fixture = Fixture::new();
    let (one, two) = (
        Scripted::start(|_| Answer::new(404, b"{}")),
        Scripted::start(|_| Answer::new(404, b"{}")),
    );
    fixture.configure(
        "registries.conf",
        &format!(
            "unqualified-search-registries = [\"{}\", \"{}\"]",
            one.address, two.address
        ),
    );
    let error = fixture.pull("app").unwrap_err();
    assert!(matches!(error, Error::NotInRegistry(_)));
    let text = error.to_string();
    assert!(
        text.starts_with("no registry has it: ")
            && text.contains(&one.address)
            && text.contains(&two.address),
        "{text}"
    );
}

#[test]
fn plain_http_needs_to_be_allowed() {
    let mut fixture = Fixture::new();
    let image = TestImage::new("plain", "amd64", &[10]);
    let server = registry(&image);
    let name = format!("{}/x", server.address);

    fixture.options.access.tls_verify = None;
    let error = fixture.pull(&name).unwrap_err().to_string();
    assert!(server.requests("GET").is_empty(), "nothing in the clear");
    assert!(!error.contains('\n'), "{error}");

    let conf = format!(
        "[[registry]]\nlocation = \"{}\"\ninsecure = true\n",
        server.address
    );
    fixture.configure("registries.conf", &conf);
    assert_eq!(fixture.pull(&name).unwrap(), image.id());

    // --tls-verify=true outranks the file.
    fixture.options.access.tls_verify = Some(true);
    assert!(fixture.pull(&name).is_err());
}
