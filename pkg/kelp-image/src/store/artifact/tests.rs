//! Artifacts in a store: found, named, kept and removed.

use serde_json::json;

use super::*;
use crate::manifest::OCI_MANIFEST;

struct Fixture {
    _directory: tempfile::TempDir,
    store: Store,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    Fixture {
        _directory: directory,
        store,
    }
}

/// An artifact with one blob of this content.
fn manifest(store: &Store, content: &str) -> Digest {
    let blobs = store.blobs();
    let config = blobs.put(b"{}", None).unwrap();
    let blob = blobs.put(content.as_bytes(), None).unwrap();
    let text = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "text/plain", "digest": blob, "size": content.len()}],
    });
    blobs.put(text.to_string().as_bytes(), None).unwrap()
}

fn reference(name: &str) -> Reference {
    Reference::parse(name).unwrap()
}

/// The same under a new name.
fn added(store: &Store, content: &str, name: &str) -> Digest {
    let manifest = manifest(store, content);
    let trash = store.add_artifact(&manifest, &reference(name), Taking::None);
    assert_eq!(trash.unwrap(), Vec::<PathBuf>::new());
    manifest
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "who uses an artifact may not be known"
)]
fn nobody(_: &Digest) -> Result<Vec<String>, Error> {
    Ok(Vec::new())
}

#[test]
fn nothing_is_made_before_the_first_artifact() {
    let held = fixture();
    let store = &held.store;
    assert_eq!(store.artifacts().unwrap(), []);
    assert_eq!(store.find_artifact("a").unwrap(), None);
    assert_eq!(store.remove_artifact("a", &nobody).unwrap(), None);
    store.collect_garbage(true).unwrap();
    assert!(!store.data.join("artifacts").exists());
}

#[test]
fn an_artifact_is_found_by_names_and_digits() {
    let held = fixture();
    let store = &held.store;
    let one = added(store, "one", "h.example/a/one");
    let hex = one.hex();
    for text in [
        "h.example/a/one",
        "h.example/a/one:latest",
        "a/one",
        "one:latest",
        &format!("h.example/a/one@{one}"),
        hex,
        &hex[..6],
        &format!("sha256:{hex}"),
    ] {
        let found = store.find_artifact(text).unwrap();
        assert_eq!(found.unwrap().0.record.manifest, one, "{text}");
    }
    for text in [
        "",
        "h.example/a/one:other",
        "g.example/a/one",
        "ne",
        "two",
        "sha256:",
    ] {
        assert_eq!(store.find_artifact(text).unwrap(), None, "{text}");
    }
}

#[test]
fn what_means_several_artifacts_or_too_little_removes_none() {
    let held = fixture();
    let store = &held.store;
    let one = added(store, "one", "g.example/a/x");
    let two = added(store, "two", "h.example/b/a/x");
    for text in ["x", "a/x", "x:latest"] {
        let error = store
            .remove_artifact(text, &nobody)
            .unwrap_err()
            .to_string();
        let names = "g.example/a/x:latest, h.example/b/a/x:latest";
        assert!(error.contains(names), "{text}: {error}");
        assert!(store.find_artifact(text).is_err(), "{text}");
    }
    let (short, enough) = (&one.hex()[..3], &one.hex()[..4]);
    let error = store.remove_artifact(short, &nobody).unwrap_err();
    assert!(error.to_string().contains("at least 4 digits"), "{error}");
    assert!(store.find_artifact(short).unwrap().is_some());
    assert_eq!(store.artifacts().unwrap().len(), 2);
    for (text, digest) in [("b/a/x", two), (enough, one.clone())] {
        let removal = store.remove_artifact(text, &nobody).unwrap().unwrap();
        assert_eq!(removal.manifest, digest, "{text}");
    }
    added(store, "one", "g.example/a/x");
    let text = format!("sha256:{short}");
    assert!(store.remove_artifact(&text, &nobody).unwrap().is_some());
}

#[test]
fn blobs_stay_as_long_as_an_artifact_and_go_with_it() {
    let held = fixture();
    let store = &held.store;
    let one = added(store, "one", "localhost/one");
    added(store, "two", "localhost/two");
    store.collect_garbage(true).unwrap();
    assert_eq!(store.blobs().list().unwrap().len(), 5);
    let removal = store.remove_artifact("one", &nobody).unwrap().unwrap();
    assert_eq!(removal.manifest, one);
    // The empty config is the other one's as well.
    assert_eq!(removal.trash.len(), 2);
    assert_eq!(store.blobs().list().unwrap().len(), 3);
    assert_eq!(store.artifacts().unwrap().len(), 1);
}

#[test]
fn a_name_moves_only_as_it_is_said() {
    let held = fixture();
    let store = &held.store;
    let (one, two) = (added(store, "one", "localhost/a"), manifest(store, "two"));
    let name = reference("localhost/a");
    for taking in [Taking::None, Taking::This(&two)] {
        let error = store.add_artifact(&two, &name, taking).unwrap_err();
        assert!(matches!(error, Error::Conflict(_)), "{error}");
    }
    let trash = store.add_artifact(&two, &name, Taking::This(&one)).unwrap();
    assert_eq!(trash.len(), 2);
    assert_eq!(store.artifact(&one).unwrap(), None);
    assert_eq!(store.artifact_named(&name).unwrap().unwrap().manifest, two);
}

#[test]
fn one_with_several_names_goes_with_the_last() {
    let held = fixture();
    let store = &held.store;
    let one = added(store, "one", "localhost/a");
    added(store, "one", "localhost/b");
    let error = store.remove_artifact(one.hex(), &nobody).unwrap_err();
    assert!(
        error.to_string().contains("has several names, localhost/a"),
        "{error}"
    );
    let used = |_: &Digest| Ok(vec!["container c".to_owned()]);
    // A name that is not the last is nobody's.
    assert_eq!(
        store
            .remove_artifact("a", &used)
            .unwrap()
            .unwrap()
            .trash
            .len(),
        0
    );
    let error = store.remove_artifact("b", &used).unwrap_err().to_string();
    assert_eq!(
        error,
        "artifact localhost/b:latest is in use by container c"
    );
    assert_eq!(
        store
            .remove_artifact(one.hex(), &nobody)
            .unwrap()
            .unwrap()
            .trash
            .len(),
        3
    );
    assert_eq!(store.artifacts().unwrap(), []);
}

#[test]
fn one_that_a_kill_has_left_without_a_name_is_garbage() {
    let held = fixture();
    let store = &held.store;
    added(store, "one", "localhost/one");
    let two = added(store, "two", "localhost/two");
    store
        .artifact_names()
        .remove("localhost/one:latest")
        .unwrap();
    // A name that can't be read may be its.
    let odd = store.artifact_names_directory().join("odd");
    fs::write(&odd, "{").unwrap();
    store.collect_garbage(true).unwrap();
    assert_eq!(store.artifact_manifests().unwrap().len(), 2);
    fs::remove_file(&odd).unwrap();
    store.collect_garbage(true).unwrap();
    assert_eq!(store.artifact_manifests().unwrap(), [two]);
    assert_eq!(store.blobs().list().unwrap().len(), 3);
    store.remove_artifact("two", &nobody).unwrap();
    store.collect_garbage(true).unwrap();
    assert!(!store.data.join("artifacts").exists());
}

#[test]
fn a_record_is_made_again_from_its_manifest() {
    let held = fixture();
    let store = &held.store;
    let one = added(store, "one", "localhost/one");
    let good = store.artifact(&one).unwrap();
    fs::write(store.artifact_path(&one), "{").unwrap();
    assert!(store.artifact(&one).is_err());
    assert!(
        store.collect_garbage(true).is_err(),
        "nothing is removed then"
    );
    assert!(store.rebuild_artifact(&one).unwrap());
    assert_eq!(store.artifact(&one).unwrap(), good);
    fs::write(store.artifact_path(&one), "{").unwrap();
    store.drop_artifact(&one).unwrap();
    assert_eq!(store.artifacts().unwrap(), []);
}
