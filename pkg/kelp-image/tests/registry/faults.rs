//! Servers that break, lie or are slow, and pulls that are cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kelp_image::auth::Credential;
use kelp_image::{Digest, Error};

use crate::fixture::Fixture;
use crate::http::Message;
use crate::image::{OCI_INDEX, OCI_MANIFEST, TestImage};
use crate::receiving::{Here, Receiving};
use crate::scripted::{Answer, Scripted, serve_image};

pub(crate) fn layer_path(image: &TestImage) -> String {
    format!("/blobs/{}", Digest::of(&image.layers[0]))
}

/// Serves an image, but the first answers for its layer are made by `spoil`.
pub(crate) fn spoiled(
    image: &TestImage,
    times: usize,
    spoil: impl Fn(&Message, Answer) -> Answer + Send + Sync + 'static,
) -> Scripted {
    let (image, path, count) = (image.clone(), layer_path(image), AtomicUsize::new(0));
    Scripted::start(move |request| {
        let answer = serve_image(&image, request);
        if request.target().ends_with(&path) && count.fetch_add(1, Ordering::SeqCst) < times {
            return spoil(request, answer);
        }
        answer
    })
}

pub(crate) fn ranges(server: &Scripted, image: &TestImage) -> Vec<String> {
    server
        .requests(&layer_path(image))
        .iter()
        .map(|request| request.header("range").unwrap_or("all").to_owned())
        .collect()
}

#[test]
fn a_download_that_breaks_off_goes_on() {
    let fixture = Fixture::new();
    let image = TestImage::new("breaks", "amd64", &[1 << 20]);
    let server = spoiled(&image, 2, |_, answer| {
        let half = answer.body.len() / 2;
        answer.cut_at(half)
    });
    let id = fixture.pull(&format!("{}/x", server.address)).unwrap();
    assert_eq!(id, image.id());
    assert_eq!(
        ranges(&server, &image),
        ["all", "bytes=524288-", "bytes=786432-"]
    );
}

#[test]
fn a_cut_at_95_percent_costs_the_rest_also_with_a_new_token() {
    const SIZE: usize = 1 << 20;
    const CUT: usize = SIZE / 100 * 95;
    let fixture = Fixture::new();
    let image = TestImage::new("late", "amd64", &[SIZE]);
    let sent = Arc::new(AtomicUsize::new(0));
    let tokens = Scripted::start({
        let count = AtomicUsize::new(0);
        move |_| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            Answer::new(200, format!("{{\"token\":\"t{number}\"}}").as_bytes())
        }
    });
    let (served, path, count) = (image.clone(), layer_path(&image), Arc::clone(&sent));
    let realm = tokens.address.clone();
    let server = Scripted::start(move |request| {
        let is_layer = request.target().ends_with(&path);
        // The first token has expired when the rest is asked for.
        let wanted = match request.header("range") {
            Some(_) => "Bearer t1",
            None => "Bearer t0",
        };
        if request.target() != "/v2/" && request.header("authorization") != Some(wanted) {
            // The config may come after, by the new one.
            if is_layer || request.header("authorization").is_none() {
                let challenge = format!("Bearer realm=\"http://{realm}/token\",service=\"s\"");
                return Answer::new(401, b"{}").header("WWW-Authenticate", &challenge);
            }
        }
        let answer = serve_image(&served, request);
        if !is_layer {
            return answer;
        }
        if request.header("range").is_some() {
            count.fetch_add(answer.body.len(), Ordering::SeqCst);
            return answer;
        }
        count.fetch_add(CUT, Ordering::SeqCst);
        answer.cut_at(CUT)
    });
    let id = fixture.pull(&format!("{}/x", server.address)).unwrap();
    assert_eq!(id, image.id());
    assert_eq!(sent.load(Ordering::SeqCst), SIZE, "no byte twice");
    assert_eq!(tokens.requests("token").len(), 2);
}

/// An image whose layer is not the registry's to give.
pub(crate) fn foreign(url: &str) -> TestImage {
    let mut image = TestImage::new("foreign", "amd64", &[10_000]);
    let mut manifest = image.describe();
    manifest["layers"][0]["mediaType"] =
        "application/vnd.oci.image.layer.nondistributable.v1.tar".into();
    manifest["layers"][0]["urls"] = serde_json::json!([url]);
    image.manifest = manifest.to_string().into_bytes();
    image
}

#[test]
fn a_foreign_layer_comes_from_its_urls_without_credentials() {
    for (has_it, is_right) in [(true, true), (false, true), (false, false)] {
        let mut fixture = Fixture::new();
        let content = TestImage::new("foreign", "amd64", &[10_000])
            .layers
            .remove(0);
        let body = if is_right { content } else { vec![0; 10_000] };
        let vendor = Scripted::start(move |_| Answer::new(200, &body));
        let image = foreign(&format!("http://{}/layers/one", vendor.address));
        let (served, path) = (image.clone(), layer_path(&image));
        let server = Scripted::start(move |request| {
            if request.target() != "/v2/" && request.header("authorization").is_none() {
                return Answer::new(401, b"{}").header("WWW-Authenticate", "Basic realm=\"r\"");
            }
            if !has_it && request.target().ends_with(&path) {
                return Answer::new(404, b"{}");
            }
            serve_image(&served, request)
        });
        fixture.options.access.credentials = Some(Credential::Basic {
            username: "u".to_owned(),
            password: "p".to_owned().into(),
        });
        let result = fixture.pull(&format!("{}/x", server.address));
        if is_right {
            assert_eq!(result.unwrap(), image.id());
        } else {
            assert!(matches!(result, Err(Error::DigestMismatch { .. })));
            assert!(fixture.layers.published().is_empty());
        }
        let asked = vendor.requests("/layers/one");
        assert_eq!(asked.len(), usize::from(!has_it));
        assert!(asked.iter().all(|it| it.header("authorization").is_none()));
    }
}

#[test]
fn a_foreign_layer_is_not_pushed() {
    let image = foreign("http://vendor.invalid/one");
    let (here, registry) = (Here::new(&image), Receiving::default());
    let server = Scripted::start(move |request| registry.answer(request));
    let name = format!("{}/x:1", server.address);
    assert_eq!(here.push(&name).unwrap(), image.digest());
    assert!(server.requests(&layer_path(&image)).is_empty());
    let sent = server.requests("PATCH");
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].body, image.config);
}

#[test]
fn the_next_pull_goes_on_where_one_was_given_up() {
    let fixture = Fixture::new();
    let image = TestImage::new("given up", "amd64", &[1 << 20]);
    // The first answer is cut, all repetitions fail.
    let server = spoiled(&image, 5, |request, answer| match request.header("range") {
        None => answer.cut_at(300_000),
        Some(_) => Answer::new(503, b""),
    });
    let name = format!("{}/x", server.address);
    assert!(matches!(fixture.pull(&name), Err(Error::Registry(_))));
    assert_eq!(fixture.partial_files(), 1);
    assert!(fixture.images.get(&format!("{name}:latest")).is_none());
    assert!(fixture.layers.published().is_empty());

    assert_eq!(fixture.pull(&name).unwrap(), image.id());
    assert_eq!(fixture.partial_files(), 0);
    assert_eq!(ranges(&server, &image).last().unwrap(), "bytes=300000-");
    let started = format!("started {} 300000", Digest::of(&image.layers[0]));
    assert!(fixture.shown.take().contains(&started));
}

#[test]
fn a_server_without_ranges_is_read_again_from_the_start() {
    let fixture = Fixture::new();
    let image = TestImage::new("no ranges", "amd64", &[1 << 20]);
    let whole = image.layers[0].clone();
    let server = spoiled(&image, 9, move |request, answer| {
        match request.header("range") {
            None => answer.cut_at(300_000),
            Some(_) => Answer::new(200, &whole),
        }
    });
    let id = fixture.pull(&format!("{}/x", server.address)).unwrap();
    assert_eq!(id, image.id());
}

#[test]
fn a_part_that_was_wrong_is_fetched_anew() {
    let fixture = Fixture::new();
    let image = TestImage::new("stale", "amd64", &[1 << 20]);
    let digest = Digest::of(&image.layers[0]);
    let mut part = fixture.blobs.resume(&digest).unwrap().unwrap();
    part.write(b"something else").unwrap();
    drop(part);
    let server = spoiled(&image, 0, |_, answer| answer);
    let id = fixture.pull(&format!("{}/x", server.address)).unwrap();
    assert_eq!(id, image.id());
    assert_eq!(ranges(&server, &image), ["bytes=14-", "all"]);
}

#[test]
fn a_part_that_is_complete_needs_no_request() {
    let fixture = Fixture::new();
    let image = TestImage::new("complete", "amd64", &[1 << 20]);
    let digest = Digest::of(&image.layers[0]);
    let mut part = fixture.blobs.resume(&digest).unwrap().unwrap();
    part.write(&image.layers[0]).unwrap();
    drop(part);
    let server = spoiled(&image, 0, |_, answer| answer);
    fixture.pull(&format!("{}/x", server.address)).unwrap();
    assert!(ranges(&server, &image).is_empty());
    assert!(fixture.blobs.contains(&digest).unwrap());
}

#[test]
fn wrong_content_is_never_an_image() {
    let image = TestImage::new("wrong", "amd64", &[1 << 20]);
    let small = TestImage::new("wrong", "amd64", &[(1 << 20) - 1]);
    let short = small.layers[0].clone();
    for (case, body, message) in [
        ("other", vec![0; 1 << 20], "expected sha256:"),
        ("longer", vec![0; (1 << 20) + 1], "is larger than"),
        ("shorter", short, "ended it early"),
    ] {
        let fixture = Fixture::new();
        let server = spoiled(&image, 9, move |_, _| Answer::new(200, &body));
        let name = format!("{}/x", server.address);
        let error = fixture.pull(&name).unwrap_err().to_string();
        assert!(error.contains(message), "{case}: {error}");
        assert!(!error.contains('\n'), "{case}: {error}");
        assert!(fixture.images.get(&format!("{name}:latest")).is_none());
        assert!(fixture.layers.published().is_empty(), "{case}");
        let digest = Digest::of(&image.layers[0]);
        assert!(!fixture.blobs.contains(&digest).unwrap(), "{case}");
    }
}

#[test]
fn a_busy_registry_is_asked_again() {
    let image = TestImage::new("busy", "amd64", &[100]);
    for status in [429, 500, 502, 503, 504] {
        let fixture = Fixture::new();
        let (served, count) = (image.clone(), AtomicUsize::new(0));
        let server = Scripted::start(move |request| {
            if request.target() != "/v2/" && count.fetch_add(1, Ordering::SeqCst) % 2 == 0 {
                return Answer::new(status, b"").header("Retry-After", "0");
            }
            serve_image(&served, request)
        });
        let id = fixture.pull(&format!("{}/x", server.address)).unwrap();
        assert_eq!(id, image.id(), "{status}");
    }
}

#[test]
fn patience_ends() {
    let fixture = Fixture::new();
    let server = Scripted::start(|request| match request.target() {
        "/v2/" => Answer::new(200, b"{}"),
        _ => Answer::new(
            503,
            br#"{"errors":[{"code":"UNAVAILABLE","message":"down for repairs"}]}"#,
        ),
    });
    let error = fixture.pull(&format!("{}/x", server.address)).unwrap_err();
    assert!(error.to_string().contains("down for repairs"), "{error}");
    assert_eq!(server.requests("/manifests/").len(), 4);
}

#[test]
fn manifests_that_lie_are_refused() {
    let image = TestImage::new("lies", "amd64", &[100]);
    let described = image.describe();
    let spoil = |key: &str, value: serde_json::Value| {
        let mut manifest = described.clone();
        manifest[key] = value;
        manifest.to_string()
    };
    let mut huge = image.manifest.clone();
    huge.resize((4 << 20) + 1, b' ');
    let mut fewer = described.clone();
    fewer["layers"] = serde_json::json!([]);
    let mut path = described.clone();
    path["layers"][0]["digest"] = "sha256:../../../etc/passwd".into();
    let mut encrypted = described.clone();
    encrypted["layers"][0]["mediaType"] =
        "application/vnd.oci.image.layer.v1.tar+gzip+encrypted".into();
    let mut artifact = described.clone();
    artifact["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json".into();
    for (manifest, media_type, message) in [
        (
            spoil("manifests", serde_json::json!([])),
            OCI_MANIFEST,
            "ambiguous",
        ),
        (described.to_string(), OCI_INDEX, "calls itself"),
        (
            String::from_utf8(huge).unwrap(),
            OCI_MANIFEST,
            "larger than 4 MiB",
        ),
        (
            fewer.to_string(),
            OCI_MANIFEST,
            "0 layers, but the config 1",
        ),
        (path.to_string(), OCI_MANIFEST, "manifest"),
        (encrypted.to_string(), OCI_MANIFEST, "encrypted"),
        (artifact.to_string(), OCI_MANIFEST, "artifact"),
        (
            r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(),
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "schema 1",
        ),
    ] {
        let fixture = Fixture::new();
        let served = image.clone();
        let body = manifest.clone().into_bytes();
        let server = Scripted::start(move |request| {
            if request.target().contains("/manifests/") {
                return Answer::new(200, &body).header("Content-Type", media_type);
            }
            serve_image(&served, request)
        });
        let error = fixture.pull(&format!("{}/x", server.address)).unwrap_err();
        assert!(error.to_string().contains(message), "{message}: {error}");
        assert!(fixture.blobs.list().unwrap().is_empty(), "{message}");
    }
}

#[test]
fn a_manifest_by_digest_is_verified_whatever_the_header_says() {
    let fixture = Fixture::new();
    let image = TestImage::new("substituted", "amd64", &[100]);
    let wanted = Digest::of(b"what was signed");
    let (served, claimed) = (image.clone(), wanted.to_string());
    let server = Scripted::start(move |request| {
        serve_image(&served, request).header("Docker-Content-Digest", &claimed)
    });
    let name = format!("{}/x@{wanted}", server.address);
    let error = fixture.pull(&name).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
}

#[test]
fn two_pulls_at_once_download_once() {
    let fixture = Fixture::new();
    let image = TestImage::new("together", "amd64", &[4 << 20]);
    let server = spoiled(&image, 0, |_, answer| answer);
    let name = format!("{}/x", server.address);
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| fixture.pull(&name).unwrap()))
            .collect();
        for pull in pulls {
            assert_eq!(pull.join().unwrap(), image.id());
        }
    });
    assert_eq!(ranges(&server, &image), ["all"]);
}

#[test]
fn many_layers_are_brought_side_by_side() {
    let fixture = Fixture::new();
    let image = TestImage::new("many", "amd64", &[200_000; 40]);
    let served = image.clone();
    let server = Scripted::start(move |request| serve_image(&served, request));
    let id = fixture.pull(&format!("{}/x", server.address)).unwrap();
    assert_eq!(id, image.id());
    assert_eq!(fixture.layers.published().len(), 40);
}

#[test]
fn an_extraction_that_fails_ends_the_pull() {
    use std::os::fd::OwnedFd;

    use kelp_image::progress::Silent;
    use kelp_image::pull::{Bring, Work, pull};
    use kelp_image::reference::ImageName;
    use kelp_image::unpack::Summary;
    use kelp_image::unpacker::{UnpackJob, Unpacker};

    struct Failing;
    struct FailingJob;
    impl Unpacker for Failing {
        fn has_layer(&self, _: &Digest) -> Result<bool, Error> {
            Ok(false)
        }
        fn start(&self, _: &Digest, _: OwnedFd) -> Result<Box<dyn UnpackJob>, Error> {
            Ok(Box::new(FailingJob))
        }
    }
    impl UnpackJob for FailingJob {
        fn finish(&mut self) -> Result<Summary, Error> {
            Err(Error::Archive("the archive is damaged".to_owned()))
        }
        fn publish(self: Box<Self>) -> Result<(), Error> {
            panic!("nothing to publish")
        }
    }
    struct Here<'a>(&'a Fixture);
    impl Bring for Here<'_> {
        fn bring(&self, work: &mut Work<'_>) -> Result<(), Error> {
            work(&self.0.blobs, &Failing)
        }
    }

    let fixture = Fixture::new();
    let image = TestImage::new("fails", "amd64", &[8 << 20, 100]);
    let server = spoiled(&image, 0, |_, answer| answer);
    let name = ImageName::parse(&format!("{}/x", server.address)).unwrap();
    let (images, options) = (&fixture.images, &fixture.options);
    let error = pull(images, &name, options, &Here(&fixture), &Silent).unwrap_err();
    assert_eq!(error.to_string(), "the archive is damaged");
    assert!(fixture.images.get(&format!("{name}:latest")).is_none());
}

#[test]
fn a_layer_that_is_not_what_the_config_says_is_not_published() {
    let fixture = Fixture::new();
    let mut image = TestImage::new("diff ids", "amd64", &[100]);
    let wrong = Digest::of(b"another archive");
    let config = String::from_utf8(image.config).unwrap();
    let right = Digest::of(&image.layers[0]).to_string();
    image.config = config.replace(&right, &wrong.to_string()).into_bytes();
    image.manifest = image.describe().to_string().into_bytes();
    let served = Arc::new(image);
    let server = Scripted::start(move |request| serve_image(&served, request));
    let error = fixture.pull(&format!("{}/x", server.address)).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    assert!(fixture.layers.published().is_empty());
}
