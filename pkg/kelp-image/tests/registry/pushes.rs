//! Pushes to registries that break, are busy, or would have what is not theirs.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use kelp_image::auth::Credential;
use kelp_image::reference::Reference;
use kelp_image::store::{NewImage, Retag};
use kelp_image::{Digest, Error};

use crate::distribution::Distribution;
use crate::http::{Message, request};
use crate::image::TestImage;
use crate::receiving::{Here, Receiving};
use crate::scripted::{Answer, Scripted};

const MIB: usize = 1 << 20;

fn bytes(requests: &[Message]) -> usize {
    requests.iter().map(|request| request.body.len()).sum()
}

fn ranges(requests: &[Message]) -> Vec<&str> {
    requests
        .iter()
        .map(|request| request.header("content-range").unwrap_or("all"))
        .collect()
}

/// Hangs up in the first upload of something large.
fn cutting_once(at: usize) -> impl Fn(&Message) -> Option<usize> {
    let count = AtomicUsize::new(0);
    move |request| {
        let length: usize = request.header("content-length")?.parse().unwrap();
        let large = request.first.starts_with("PATCH") && length > 100_000;
        (large && count.fetch_add(1, Ordering::SeqCst) == 0).then_some(at)
    }
}

#[test]
fn an_upload_that_breaks_goes_on_where_the_registry_says() {
    let image = TestImage::new("broken", "amd64", &[MIB]);
    let (here, registry) = (Here::new(&image), Receiving::default());
    let taking = registry.clone();
    let server = Scripted::start_cutting(cutting_once(600_000), move |it| taking.answer(it));
    let name = format!("{}/x:1", server.address);
    assert_eq!(here.push(&name).unwrap(), image.digest());
    assert!(registry.has(&image));
    let sent = server.requests("PATCH");
    assert_eq!(bytes(&sent), MIB + image.config.len());
    assert!(ranges(&sent).contains(&"600000-1048575"));
}

#[test]
fn a_registry_that_does_not_say_where_gets_it_again() {
    for answer in [Answer::new(204, b""), Answer::new(404, b"{}")] {
        let image = TestImage::new("lost", "amd64", &[MIB]);
        let (here, registry) = (Here::new(&image), Receiving::default());
        let taking = registry.clone();
        let server = Scripted::start_cutting(cutting_once(600_000), move |it| {
            let asked = it.first.starts_with("GET") && it.target().contains("/uploads/");
            if asked {
                answer.clone()
            } else {
                taking.answer(it)
            }
        });
        here.push(&format!("{}/x:1", server.address)).unwrap();
        assert!(registry.has(&image));
        let sent = server.requests("PATCH");
        assert_eq!(bytes(&sent), 600_000 + MIB + image.config.len());
        assert_eq!(server.requests("POST").len(), 3);
    }
}

#[test]
fn what_is_too_large_is_sent_in_pieces() {
    for (least, expected) in [
        (
            None,
            vec!["0-1048575", "1048576-2097151", "2097152-2621439"],
        ),
        (Some("2097152"), vec!["0-2097151", "2097152-2621439"]),
    ] {
        let image = TestImage::new("pieces", "amd64", &[MIB * 5 / 2]);
        let (here, registry) = (Here::new(&image), Receiving::default());
        let taking = registry.clone();
        let most = least.map_or(MIB, |_| 2 * MIB);
        let server = Scripted::start(move |it| {
            if it.body.len() > most {
                return Answer::new(413, b"<html>");
            }
            let answer = taking.answer(it);
            match least {
                Some(least) => answer.header("OCI-Chunk-Min-Length", least),
                None => answer,
            }
        });
        here.push(&format!("{}/x:1", server.address)).unwrap();
        assert!(registry.has(&image));
        let sent = server.requests("PATCH");
        let pieces = ranges(&sent).into_iter().filter(|range| *range != "all");
        assert_eq!(pieces.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn what_no_piece_is_small_enough_for_is_an_error() {
    let image = TestImage::new("small", "amd64", &[MIB]);
    let (here, registry) = (Here::new(&image), Receiving::default());
    let server = Scripted::start(move |it| match it.body.len() {
        0..1000 => registry.answer(it),
        _ => Answer::new(413, b""),
    });
    let error = here.push(&format!("{}/x:1", server.address)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("takes no request of 262144 bytes"), "{text}");
}

#[test]
fn a_busy_registry_gets_it_later() {
    for status in [429, 500, 503] {
        for method in ["HEAD", "POST", "PATCH", "PUT"] {
            let image = TestImage::new("busy", "amd64", &[1000]);
            let (here, registry) = (Here::new(&image), Receiving::default());
            let (taking, count) = (registry.clone(), AtomicUsize::new(0));
            let server = Scripted::start(move |it| {
                if it.first.starts_with(method) && count.fetch_add(1, Ordering::SeqCst) < 2 {
                    return Answer::new(status, b"").header("Retry-After", "0");
                }
                taking.answer(it)
            });
            here.push(&format!("{}/x:1", server.address)).unwrap();
            assert!(registry.has(&image), "{status} {method}");
        }
    }
}

#[test]
fn patience_with_a_push_ends() {
    for method in ["HEAD", "POST", "PATCH", "PUT"] {
        let image = TestImage::new("down", "amd64", &[]);
        let (here, registry) = (Here::new(&image), Receiving::default());
        let server = Scripted::start(move |it| {
            if it.first.starts_with(method) {
                return Answer::new(503, b"");
            }
            registry.answer(it)
        });
        let error = here.push(&format!("{}/x:1", server.address)).unwrap_err();
        assert!(matches!(error, Error::Registry(_)), "{error}");
        assert!(error.to_string().contains("503"), "{error}");
        assert_eq!(server.requests(method).len(), 4, "{method}");
    }
}

#[test]
fn a_token_that_expires_during_a_push_is_renewed() {
    // One blob, for blobs side by side would take tokens from each other.
    let image = TestImage::new("expires", "amd64", &[]);
    let (here, registry) = (Here::new(&image), Receiving::default());
    let issued = std::sync::Arc::new(AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&issued);
    let tokens = Scripted::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = serde_json::json!({"token": format!("token-{number}")});
        Answer::new(200, answer.to_string().as_bytes())
    });
    let (taking, realm) = (registry.clone(), tokens.address.clone());
    let last_use = AtomicUsize::new(0);
    // Every token is good for one request.
    let server = Scripted::start(move |it| {
        let newest = issued.load(Ordering::SeqCst);
        let wanted = format!("Bearer token-{newest}");
        let known = newest > 0 && it.header("authorization") == Some(&wanted);
        if it.target() != "/v2/" && (!known || last_use.swap(newest, Ordering::SeqCst) == newest) {
            let challenge = format!("Bearer realm=\"http://{realm}/token\",service=\"s\"");
            return Answer::new(401, b"{}").header("WWW-Authenticate", &challenge);
        }
        taking.answer(it)
    });
    let name = format!("{}/team/x:1", server.address);
    assert_eq!(here.push(&name).unwrap(), image.digest());
    assert!(registry.has(&image));
    let asked = tokens.requests("token");
    // Two HEAD, POST, PATCH and two PUT.
    assert_eq!(asked.len(), 6);
    for request in asked {
        let scope = "scope=repository%3Ateam%2Fx%3Apull%2Cpush";
        assert!(request.target().contains(scope), "{request:?}");
    }
}

/// A host that uploads are sent on to, and which asks for a password itself.
fn greedy(registry: &Receiving) -> Scripted {
    let taking = registry.clone();
    Scripted::start(move |it| {
        if it.header("authorization").is_some() {
            return Answer::new(500, b"it has credentials");
        }
        taking.answer(it)
    })
}

#[test]
fn cve_2020_15157_an_upload_elsewhere_gets_no_credentials() {
    for by_redirect in [None, Some(307), Some(308)] {
        let image = TestImage::new("elsewhere", "amd64", &[MIB]);
        let (mut here, registry) = (Here::new(&image), Receiving::default());
        let other = greedy(&registry);
        let (taking, address) = (registry.clone(), other.address.clone());
        let server = Scripted::start(move |it| {
            if it.target() != "/v2/" && it.header("authorization").is_none() {
                return Answer::new(401, b"{}").header("WWW-Authenticate", "Basic realm=\"r\"");
            }
            match (by_redirect, it.first.split(' ').next()) {
                (Some(status), Some("PATCH")) => {
                    let place = format!("http://{address}{}", it.target());
                    Answer::new(status, b"").header("Location", &place)
                }
                (None, Some("POST")) => {
                    let mut answer = taking.answer(it);
                    for (name, value) in &mut answer.headers {
                        if name == "Location" {
                            *value = format!("http://{address}{value}");
                        }
                    }
                    answer
                }
                _ => taking.answer(it),
            }
        });
        here.fixture.options.access.credentials = Some(Credential::Basic {
            username: "u".to_owned(),
            password: "p".to_owned().into(),
        });
        here.push(&format!("{}/x:1", server.address)).unwrap();
        assert!(registry.has(&image));
        let sent = other.requests("PATCH");
        assert_eq!(bytes(&sent), MIB + image.config.len());
        let all = other.requests("");
        assert!(all.iter().all(|it| it.header("authorization").is_none()));
    }
}

#[test]
fn another_hosts_challenge_is_not_obeyed() {
    let image = TestImage::new("challenge", "amd64", &[1000]);
    let (mut here, registry) = (Here::new(&image), Receiving::default());
    let other = Scripted::start(|_| {
        Answer::new(401, b"{}").header("WWW-Authenticate", "Basic realm=\"cdn\"")
    });
    let address = other.address.clone();
    let server = Scripted::start(move |it| {
        if it.first.starts_with("POST") {
            let place = format!("http://{address}/upload");
            return Answer::new(202, b"").header("Location", &place);
        }
        registry.answer(it)
    });
    here.fixture.options.access.credentials = Some(Credential::Basic {
        username: "u".to_owned(),
        password: "p".to_owned().into(),
    });
    let error = here.push(&format!("{}/x:1", server.address)).unwrap_err();
    assert!(matches!(error, Error::Denied(_)), "{error}");
    let all = other.requests("");
    assert!(all.iter().all(|it| it.header("authorization").is_none()));
}

/// A registry before another one, that sees what is sent.
fn passing_on(registry: &Distribution) -> Scripted {
    let address = registry.address.clone();
    Scripted::start(move |it| {
        // An answer to GET has the same head.
        let method = match it.first.split(' ').next().unwrap() {
            "HEAD" => "GET",
            other => other,
        };
        let headers: Vec<(&str, &str)> = ["content-type", "content-range", "accept"]
            .into_iter()
            .filter_map(|name| Some((name, it.header(name)?)))
            .collect();
        let answer = request(&address, method, it.target(), &headers, &it.body);
        let mut passed = Answer::new(answer.target().parse().unwrap(), &answer.body);
        for name in ["location", "range", "docker-content-digest", "content-type"] {
            if let Some(value) = answer.header(name) {
                passed = passed.header(name, value);
            }
        }
        passed
    })
}

/// Records an image as one of a repository.
fn known_in(here: &Here, image: &TestImage, repository: &str) {
    let name = Reference::parse(&format!("{repository}:1")).unwrap();
    here.store
        .add(&NewImage {
            manifest: &image.digest(),
            index: None,
            repo_digests: vec![format!("{repository}@{}", image.digest())],
            made_here: false,
            names: &[name],
            retag: Retag::Move,
        })
        .unwrap();
}

#[test]
fn a_blob_of_another_repository_is_mounted_and_nothing_is_sent_twice() {
    if !Distribution::is_installed() {
        return;
    }
    let image = TestImage::new("mounted", "amd64", &[MIB, 2000]);
    let here = Here::new(&image);
    let root = here.fixture.root.path();
    let registry = Distribution::start(root, "  relativeurls: true\n", "");
    let server = passing_on(&registry);
    let one = format!("{}/team/one", server.address);
    here.push(&format!("{one}:1")).unwrap();
    let before = server.requests("PATCH");
    assert_eq!(bytes(&before), MIB + 2000 + image.config.len());
    let (posts, puts) = (server.requests("POST").len(), server.requests("PUT").len());
    // The second time nothing is.
    here.push(&format!("{one}:1")).unwrap();
    assert_eq!(server.requests("PATCH").len(), before.len());
    assert_eq!(server.requests("POST").len(), posts);
    assert_eq!(server.requests("PUT").len(), puts);
    // And for another repository the registry takes what it has.
    known_in(&here, &image, &one);
    let two = format!("{}/team/two", server.address);
    here.push(&format!("{two}:1")).unwrap();
    assert_eq!(server.requests("PATCH").len(), before.len());
    let mounts = server.requests("mount=sha256").len();
    assert_eq!(mounts, 3);
    assert_eq!(here.fixture.pull(&format!("{two}:1")).unwrap(), image.id());
}

#[test]
fn a_refused_mount_is_an_upload() {
    for status in [None, Some(403), Some(404)] {
        let image = TestImage::new("refused", "amd64", &[1000]);
        let (here, registry) = (Here::new(&image), Receiving::default());
        let taking = registry.clone();
        let server = Scripted::start(move |it| match status {
            Some(status) if it.target().contains("mount=") => Answer::new(status, b"{}"),
            _ => taking.answer(it),
        });
        known_in(&here, &image, &format!("{}/other", server.address));
        here.push(&format!("{}/x:1", server.address)).unwrap();
        assert!(registry.has(&image));
        let mounts = server.requests("mount=sha256");
        assert_eq!(mounts.len(), 2);
        assert!(mounts[0].target().contains("from=other"));
        // What the registry takes as the beginning of an upload is used as one.
        let posts = if status.is_some() { 4 } else { 2 };
        assert_eq!(server.requests("POST").len(), posts);
    }
}

#[test]
fn the_repositories_to_mount_from_are_asked_for() {
    let image = TestImage::new("scopes", "amd64", &[1000]);
    let (here, registry) = (Here::new(&image), Receiving::default());
    let tokens = Scripted::start(|_| Answer::new(200, br#"{"token":"t"}"#));
    let realm = tokens.address.clone();
    let server = Scripted::start(move |it| match it.header("authorization") {
        None if it.target() != "/v2/" => {
            let challenge = format!("Bearer realm=\"http://{realm}/token\",service=\"s\"");
            Answer::new(401, b"{}").header("WWW-Authenticate", &challenge)
        }
        _ => registry.answer(it),
    });
    known_in(&here, &image, &format!("{}/team/other", server.address));
    here.push(&format!("{}/x:1", server.address)).unwrap();
    let asked = tokens.requests("token");
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].target(),
        "/token?service=s&scope=repository%3Ax%3Apull%2Cpush&scope=repository%3Ateam%2Fother%3Apull"
    );
}

#[test]
fn a_registry_that_stored_something_else_is_an_error() {
    for path in ["/manifests/1", "digest="] {
        let image = TestImage::new("another", "amd64", &[1000]);
        let (here, registry) = (Here::new(&image), Receiving::default());
        let server = Scripted::start(move |it| {
            let mut answer = registry.answer(it);
            if it.first.starts_with("PUT") && it.target().contains(path) {
                answer.headers.clear();
                let other = Digest::of(b"another").to_string();
                answer = answer.header("Docker-Content-Digest", &other);
            }
            answer
        });
        let error = here.push(&format!("{}/x:1", server.address)).unwrap_err();
        assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    }
}

#[test]
fn a_refused_manifest_is_one_line_with_the_way_out() {
    for (status, body, said) in [
        (
            400,
            r#"{"errors":[{"code":"MANIFEST_INVALID","message":"manifest\n invalid"}]}"#,
            "manifest  invalid",
        ),
        (415, "<html>", "415 Unsupported Media Type"),
    ] {
        let image = TestImage::new("invalid", "amd64", &[1000]);
        let (here, registry) = (Here::new(&image), Receiving::default());
        let server = Scripted::start(move |it| {
            if it.first.starts_with("PUT") && it.target().contains("/manifests/") {
                return Answer::new(status, body.as_bytes());
            }
            registry.answer(it)
        });
        let error = here.push(&format!("{}/x:1", server.address)).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(said) && text.contains("--format v2s2"),
            "{text}"
        );
        assert!(!text.contains('\n'), "{text}");
    }
}

/// What happens to a blob.
type Spoil = fn(&mut Vec<u8>);

#[test]
fn a_blob_that_has_rotted_is_noticed() {
    if !Distribution::is_installed() {
        return;
    }
    let cases: [(&str, Spoil); 3] = [
        ("changed", |bytes| bytes[500] ^= 1),
        ("cut", |bytes| bytes.truncate(500)),
        ("gone", Vec::clear),
    ];
    for (case, spoil) in cases {
        let image = TestImage::new("rotten", "amd64", &[1000]);
        let here = Here::new(&image);
        let path = here.fixture.blobs.path(&Digest::of(&image.layers[0]));
        let mut bytes = fs::read(&path).unwrap();
        spoil(&mut bytes);
        fs::remove_file(&path).unwrap();
        if !bytes.is_empty() {
            fs::write(&path, &bytes).unwrap();
        }
        let registry = Distribution::plain(here.fixture.root.path());
        let error = here.push(&format!("{}/x:1", registry.address)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("kelp system check"), "{case}: {text}");
        let manifest = request(&registry.address, "GET", "/v2/x/manifests/1", &[], b"");
        assert_eq!(manifest.target(), "404", "{case}");
    }
}
