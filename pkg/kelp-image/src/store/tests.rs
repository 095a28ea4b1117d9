//! Tests of the store.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use super::*;
use crate::layer::ExtractedLayer;
use crate::tar::build::Archive;
use crate::unpack::{Ownership, Summary};
use crate::unpacker::UnpackJob;

struct Fixture {
    directory: tempfile::TempDir,
    store: Store,
}

fn reference(name: &str) -> Reference {
    Reference::parse(name).unwrap()
}

impl Fixture {
    /// A list `localhost/list` of these manifests.
    fn list(&self, manifests: &[&Digest]) -> ListRecord {
        let entry =
            |digest: &&Digest| serde_json::json!({"digest": digest, "size": 1, "mediaType": "m"});
        let entries: Vec<_> = manifests.iter().map(entry).collect();
        let name = reference("localhost/list");
        let mut add = |_: &mut ListRecord, index: &mut serde_json::Value| {
            crate::index::add(index, entries.clone());
            Ok(())
        };
        let created = "2026-01-01T00:00:00Z";
        let list = self.store.create_list(&name, created, "1", &mut add);
        list.unwrap()
    }

    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        Self { directory, store }
    }

    /// Puts a config and a manifest with these layers, whose content is not looked at.
    fn documents(&self, comment: &str, layers: &[(Digest, Digest)]) -> Digest {
        let blobs = self.store.blobs();
        let diff_ids: Vec<_> = layers.iter().map(|(_, diff_id)| diff_id).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "author": comment,
            "created": "2026-01-01T00:00:00Z",
            "config": {"Labels": {"label": comment}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [],
        });
        let config = serde_json::to_vec(&config).unwrap();
        let id = blobs.put(&config, None).unwrap();
        let descriptor = |media_type: &str, digest: &Digest, size: usize| serde_json::json!({"mediaType": media_type, "digest": digest, "size": size});
        let layers: Vec<_> = layers
            .iter()
            .map(|(digest, _)| descriptor("application/vnd.oci.image.layer.v1.tar", digest, 100))
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &id, config.len()),
            "layers": layers,
        });
        blobs
            .put(&serde_json::to_vec(&manifest).unwrap(), None)
            .unwrap()
    }

    /// A layer's blob, and the layer extracted from it.
    fn layer(&self, content: &str) -> (Digest, Digest) {
        let archive = Archive::new().file("f", content.as_bytes()).end();
        let digest = self.store.blobs().put(&archive, None).unwrap();
        let layers = self.store.layers("single").unwrap();
        let diff_id = layers
            .extract(io::Cursor::new(archive), Ownership::Single)
            .unwrap()
            .publish(None)
            .unwrap();
        (digest, diff_id)
    }

    fn add(&self, manifest: &Digest, names: &[&str]) -> ImageRecord {
        let names: Vec<_> = names.iter().map(|name| reference(name)).collect();
        self.store
            .add(&NewImage {
                manifest,
                index: None,
                repo_digests: Vec::new(),
                made_here: false,
                names: &names,
                retag: Retag::Move,
            })
            .unwrap()
    }

    fn image(&self, comment: &str, names: &[&str]) -> ImageRecord {
        let layer = self.layer(comment);
        self.add(&self.documents(comment, &[layer]), names)
    }

    fn remove(&self, name: &str, force: bool) -> Result<Removal, Error> {
        self.store.remove(name, force, &|_| Ok(Vec::new()))
    }

    fn files(&self, path: &str) -> usize {
        fs::read_dir(self.directory.path().join(path))
            .unwrap()
            .count()
    }
}

#[test]
fn an_image_is_found_by_all_its_names() {
    let fixture = Fixture::new();
    let one = fixture.image(
        "one",
        &["docker.io/library/busybox:latest", "quay.io/a/b:1.0"],
    );
    let two = fixture.image(
        "two",
        &["localhost/mine:latest", "example.com/team/tool:v2"],
    );
    let short = one.id.short().to_owned();
    for (name, expected) in [
        ("busybox", &one),
        ("busybox:latest", &one),
        ("library/busybox", &one),
        ("docker.io/busybox", &one),
        ("docker.io/library/busybox:latest", &one),
        ("quay.io/a/b:1.0", &one),
        ("a/b:1.0", &one),
        ("b:1.0", &one),
        ("mine", &two),
        ("localhost/mine", &two),
        ("tool:v2", &two),
        (&short, &one),
        (&short[..4], &one),
        (&format!("sha256:{short}"), &one),
        (one.id.hex(), &one),
        (&two.id.to_string(), &two),
    ] {
        assert_eq!(fixture.store.find(name).unwrap().id, expected.id, "{name}");
    }
    for name in [
        "",
        "busybox:1",
        "ool:v2",
        "quay.io/a/b",
        "tool",
        "zz",
        "sha256:",
        "../x",
        "x y",
    ] {
        assert!(
            matches!(fixture.store.find(name), Err(Error::NotFound(_))),
            "{name}"
        );
    }
}

#[test]
fn an_ambiguous_prefix_is_an_error() {
    let fixture = Fixture::new();
    let mut seen: HashMap<char, usize> = HashMap::new();
    for index in 0..17 {
        let image = fixture.image(&index.to_string(), &[]);
        *seen
            .entry(image.id.hex().chars().next().unwrap())
            .or_default() += 1;
    }
    let (prefix, count) = seen.iter().find(|(_, count)| **count > 1).unwrap();
    match fixture.store.find(&prefix.to_string()) {
        Err(Error::Ambiguous { matches, .. }) => assert_eq!(matches.len(), *count),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_holds_what_lists_need() {
    let fixture = Fixture::new();
    let layers = [fixture.layer("lower"), fixture.layer("upper")];
    let record = fixture.add(&fixture.documents("x", &layers), &["localhost/x:latest"]);
    assert_eq!(
        (record.os.as_str(), record.architecture.as_str()),
        ("linux", "amd64")
    );
    assert_eq!(record.labels["label"], "x");
    assert_eq!(record.size, 10);
    assert_eq!(fixture.store.record(&record.id).unwrap().unwrap(), record);
    let images = fixture.store.images().unwrap();
    assert_eq!(images[0].names, ["localhost/x:latest"]);
    assert_eq!(images[0].record, record);
    let paths = fixture.store.layer_paths(&record, "single").unwrap();
    assert!(paths[0].ends_with(layers[1].1.hex()));
    assert!(paths[1].ends_with(layers[0].1.hex()));
    assert!(
        fixture
            .store
            .missing_layers(&record, "single")
            .unwrap()
            .is_empty()
    );
    let other = fixture
        .store
        .missing_layers(&record, "0123456789abcdef")
        .unwrap();
    assert_eq!(other.len(), 2);
    let config = fixture.store.config(&record).unwrap();
    assert_eq!(config.author().as_deref(), Some("x"));
}

#[test]
fn names_move_only_when_told() {
    let fixture = Fixture::new();
    let old = fixture.image("old", &["localhost/a:latest"]);
    let new = fixture.documents("new", &[]);
    let names = [reference("localhost/a:latest")];
    let mut image = NewImage {
        manifest: &new,
        index: None,
        repo_digests: Vec::new(),
        made_here: false,
        names: &names,
        retag: Retag::Refuse,
    };
    assert!(matches!(fixture.store.add(&image), Err(Error::Conflict(_))));
    assert_eq!(fixture.store.find("a").unwrap().id, old.id);
    assert_eq!(fixture.store.images().unwrap().len(), 1);
    image.retag = Retag::Move;
    let new = fixture.store.add(&image).unwrap();
    assert_eq!(fixture.store.find("a").unwrap().id, new.id);
    assert!(fixture.store.names(&old.id).unwrap().is_empty());
    let store = &fixture.store;
    let b = reference("localhost/b");
    assert_eq!(store.tag(&old.id, &b, Retag::Refuse).unwrap(), None);
    assert!(store.tag(&new.id, &b, Retag::Refuse).is_err());
    assert_eq!(store.tag(&new.id, &b, Retag::Move).unwrap(), Some(old.id));
    store.untag(&b).unwrap();
    assert!(matches!(store.untag(&b), Err(Error::NotFound(_))));
}

#[test]
fn an_image_without_its_blobs_is_not_recorded() {
    let fixture = Fixture::new();
    let gone = Digest::of(b"gone");
    let manifest = fixture.documents("x", &[(gone.clone(), gone)]);
    let image = NewImage {
        manifest: &manifest,
        index: None,
        repo_digests: Vec::new(),
        made_here: false,
        names: &[],
        retag: Retag::Move,
    };
    assert!(matches!(fixture.store.add(&image), Err(Error::NotFound(_))));
    assert!(fixture.store.images().unwrap().is_empty());
}

#[test]
fn removal_takes_names_first_and_the_image_with_the_last() {
    let fixture = Fixture::new();
    let image = fixture.image("x", &["localhost/a:latest", "localhost/b:latest"]);
    assert!(matches!(
        fixture.remove(image.id.short(), false),
        Err(Error::Conflict(_))
    ));
    let removal = fixture.remove("a", false).unwrap();
    assert_eq!(removal.untagged, ["localhost/a:latest"]);
    assert_eq!(removal.deleted, None);
    assert_eq!(fixture.store.find("b").unwrap().id, image.id);
    let removal = fixture.remove("b", false).unwrap();
    assert_eq!(removal.deleted, Some(image.id));
    // Its layer, and the blobs of that, of its configuration and of its manifest.
    let is_layer = |path: &&PathBuf| path.is_dir();
    assert_eq!(removal.trash.iter().filter(is_layer).count(), 1);
    assert_eq!(removal.trash.len(), 4);
    assert_eq!(fixture.files("images"), 0);
    assert_eq!(fixture.files("tags"), 0);
    assert_eq!(fixture.files("blobs/sha256"), 0);
    crate::remove::remove_trees(&removal.trash).unwrap();
    assert_eq!(fixture.files("layers/single"), 0);
    assert_eq!(fixture.files("tmp"), 0);
    assert!(matches!(
        fixture.remove("b", false),
        Err(Error::NotFound(_))
    ));
    let image = fixture.image("y", &["localhost/a:latest", "localhost/b:latest"]);
    let removal = fixture.remove(image.id.hex(), true).unwrap();
    assert_eq!(removal.untagged.len(), 2);
    assert_eq!(removal.deleted, Some(image.id));
}

#[test]
fn an_image_in_use_stays() {
    let fixture = Fixture::new();
    let image = fixture.image("x", &["localhost/a:latest"]);
    let used = |_: &Digest| Ok(vec!["container c1".to_owned()]);
    for force in [false, true] {
        let error = fixture.store.remove("a", force, &used).unwrap_err();
        assert!(error.to_string().contains("container c1"), "{error}");
    }
    assert_eq!(fixture.store.names(&image.id).unwrap().len(), 1);
}

#[test]
fn shared_layers_and_blobs_stay() {
    let fixture = Fixture::new();
    let shared = fixture.layer("shared");
    let own = fixture.layer("own");
    let layers = [shared.clone(), own.clone()];
    fixture.add(
        &fixture.documents("one", &layers),
        &["localhost/one:latest"],
    );
    let two = fixture.add(
        &fixture.documents("two", std::slice::from_ref(&shared)),
        &["localhost/two:latest"],
    );
    fixture.remove("one", false).unwrap();
    let layers = fixture.store.layers("single").unwrap();
    assert!(layers.contains(&shared.1) && !layers.contains(&own.1));
    let blobs = fixture.store.blobs();
    assert!(blobs.contains(&shared.0).unwrap() && !blobs.contains(&own.0).unwrap());
    assert!(fixture.store.config(&two).is_ok());
}

#[test]
fn what_an_addition_needs_survives_a_removal() {
    let fixture = Fixture::new();
    let shared = fixture.layer("shared");
    let one = fixture.documents("one", std::slice::from_ref(&shared));
    fixture.add(&one, &["localhost/one:latest"]);
    // Another process pulls an image with the same layer, and finds blob and layer here.
    let other = Store::open(fixture.directory.path()).unwrap();
    let (lease, blobs) = other.lease().unwrap();
    assert!(blobs.contains(&shared.0).unwrap());
    lease.keep(&shared.1).unwrap();
    let two = fixture.documents("two", std::slice::from_ref(&shared));
    lease.keep(&two).unwrap();
    let config = other.manifest(&two).unwrap().config().digest().clone();
    lease.keep(&Digest::try_from(&config).unwrap()).unwrap();
    let removal = fixture.remove("one", false).unwrap();
    assert!(removal.deleted.is_some());
    // Its own two documents, and no layer.
    assert!(removal.trash.len() == 2 && removal.trash.iter().all(|path| path.is_file()));
    crate::remove::remove_trees(&removal.trash).unwrap();
    assert!(
        fixture
            .store
            .collect_garbage(true)
            .unwrap()
            .trash
            .is_empty()
    );
    fixture.add(&two, &["localhost/two:latest"]);
    drop((lease, blobs));
    assert!(
        fixture
            .store
            .collect_garbage(true)
            .unwrap()
            .trash
            .is_empty()
    );
    let record = fixture.store.find("two").unwrap();
    assert!(
        fixture
            .store
            .missing_layers(&record, "single")
            .unwrap()
            .is_empty()
    );
}

#[test]
fn what_a_kill_leaves_is_collected() {
    let fixture = Fixture::new();
    let kept = fixture.image("kept", &["localhost/kept:latest"]);
    let (blob, orphan) = fixture.layer("orphan");
    let data = fixture.directory.path();
    fs::create_dir_all(data.join("tmp/layer-1-2-3/root/sub")).unwrap();
    fs::create_dir_all(data.join("layers/single/trash-1")).unwrap();
    fs::write(data.join("tmp/lease-1"), format!("{orphan}\n{blob}\n")).unwrap();
    fs::write(data.join("blobs/partial").join(blob.hex()), "half").unwrap();
    let garbage = fixture.store.collect_garbage(false).unwrap();
    assert_eq!(fixture.files("blobs/partial"), 1);
    assert_eq!(garbage.trash.len(), 5, "{garbage:?}");
    assert!(garbage.freed >= 1024);
    crate::remove::remove_trees(&garbage.trash).unwrap();
    let garbage = fixture.store.collect_garbage(true).unwrap();
    assert_eq!((garbage.trash.len(), garbage.freed), (0, 4));
    assert_eq!(fixture.files("tmp"), 0);
    assert!(
        fixture
            .store
            .missing_layers(&kept, "single")
            .unwrap()
            .is_empty()
    );
    assert!(
        fixture
            .store
            .blobs()
            .contains(&kept.layers[0].digest)
            .unwrap()
    );
}

struct InProcess(LayerStore);

struct Job(Option<ExtractedLayer>);

impl Unpacker for InProcess {
    fn has_layer(&self, diff_id: &Digest) -> Result<bool, Error> {
        Ok(self.0.contains(diff_id))
    }

    fn start(&self, _: &Digest, input: OwnedFd) -> Result<Box<dyn UnpackJob>, Error> {
        let layer = self.0.extract(File::from(input), Ownership::Single)?;
        Ok(Box::new(Job(Some(layer))))
    }
}

impl UnpackJob for Job {
    fn finish(&mut self) -> Result<Summary, Error> {
        Ok(self.0.as_ref().unwrap().summary().clone())
    }

    fn publish(mut self: Box<Self>) -> Result<(), Error> {
        self.0.take().unwrap().publish(None).map(|_| ())
    }
}

#[test]
fn layers_are_made_again_from_blobs() {
    let fixture = Fixture::new();
    let image = fixture.image("x", &["localhost/x:latest"]);
    let key = "00112233aabbccdd";
    let unpacker = InProcess(fixture.store.layers(key).unwrap());
    fixture
        .store
        .extract_missing(&image, key, &unpacker)
        .unwrap();
    assert!(
        fixture
            .store
            .missing_layers(&image, key)
            .unwrap()
            .is_empty()
    );
    // A blob that is not the layer the config names makes no layer.
    let (digest, _) = fixture.layer("other");
    let wrong = fixture.documents("wrong", &[(digest, Digest::of(b"expected"))]);
    let wrong = fixture.add(&wrong, &[]);
    let error = fixture
        .store
        .extract_missing(&wrong, key, &unpacker)
        .unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
}

#[test]
fn a_blob_that_rotted_is_dropped_and_named() {
    let fixture = Fixture::new();
    let image = fixture.image("x", &["localhost/x:latest"]);
    let digest = &image.layers[0].digest;
    let path = fixture.store.blobs().path(digest);
    let mut bytes = fs::read(&path).unwrap();
    // In the content of its first file: the archive is still one.
    bytes[512] ^= 1;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, bytes).unwrap();
    let key = "00112233aabbccdd";
    let unpacker = InProcess(fixture.store.layers(key).unwrap());
    let error = fixture
        .store
        .extract_missing(&image, key, &unpacker)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the stored layer {digest} is damaged and was dropped: pull the image again")
    );
    assert!(!fixture.store.blobs().contains(digest).unwrap());
}

#[test]
fn additions_and_removals_side_by_side_leave_whole_images() {
    let fixture = Fixture::new();
    let data = fixture.directory.path();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let fixture = &fixture;
            scope.spawn(move || {
                let store = Store::open(data).unwrap();
                for round in 0..12 {
                    let (lease, blobs) = store.lease().unwrap();
                    let archive = Archive::new().file("f", b"shared by all").end();
                    let digest = blobs.put(&archive, None).unwrap();
                    lease.keep(&digest).unwrap();
                    let layers = store.layers("single").unwrap();
                    if !layers.contains(&digest) {
                        let source = io::Cursor::new(archive);
                        let layer = layers.extract(source, Ownership::Single).unwrap();
                        layer.publish(None).unwrap();
                    }
                    let own = Fixture {
                        directory: tempfile::tempdir().unwrap(),
                        store: Store {
                            blobs,
                            ..store.clone()
                        },
                    };
                    let comment = format!("{worker}-{round}");
                    let manifest = own.documents(&comment, &[(digest.clone(), digest)]);
                    let name = format!("localhost/image{worker}:latest");
                    let record = own.add(&manifest, &[&name]);
                    // What a live lease names outlasts a removal.
                    drop((lease, own));
                    assert!(store.missing_layers(&record, "single").unwrap().is_empty());
                    store.config(&record).unwrap();
                    let removal = fixture.remove(&name, false).unwrap();
                    assert_eq!(removal.deleted, Some(record.id));
                    crate::remove::remove_trees(&removal.trash).unwrap();
                    if round % 3 == 0 {
                        let garbage = store.collect_garbage(false).unwrap();
                        crate::remove::remove_trees(&garbage.trash).unwrap();
                    }
                }
            });
        }
    });
    assert!(fixture.store.images().unwrap().is_empty());
    assert_eq!(fixture.files("blobs/sha256"), 0);
}

#[test]
fn five_hundred_images_are_listed_quickly() {
    let fixture = Fixture::new();
    let layer = Digest::of(b"layer");
    for index in 0..500_u32 {
        let id = Digest::of(&index.to_le_bytes());
        let record = ImageRecord {
            id: id.clone(),
            manifest: id.clone(),
            media_type: String::new(),
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            variant: None,
            created: None,
            size: 0,
            layers: vec![
                LayerRecord {
                    digest: layer.clone(),
                    media_type: String::new(),
                    size: 1,
                    diff_id: layer.clone(),
                };
                8
            ],
            repo_digests: Vec::new(),
            made_here: false,
            indexes: Vec::new(),
            labels: BTreeMap::new(),
        };
        let path = fixture.store.record_path(&id);
        fs::write(path, serde_json::to_vec(&record).unwrap()).unwrap();
        let tag = serde_json::json!({
            "reference": format!("localhost/i{index}:latest"), "image": id, "manifest": id,
        });
        let path = fixture.directory.path().join(format!("tags/i{index}"));
        fs::write(path, tag.to_string()).unwrap();
    }
    let start = Instant::now();
    assert_eq!(fixture.store.images().unwrap().len(), 500);
    let elapsed = start.elapsed();
    println!("listed in {elapsed:?}");
    // A debug build on a busy machine; a release build takes a tenth of it.
    assert!(elapsed.as_millis() < 1000, "{elapsed:?}");
}

#[test]
fn what_a_list_names_stays_without_a_record() {
    let fixture = Fixture::new();
    let image = fixture.image("one", &["localhost/one:latest"]);
    let store = &fixture.store;
    let list = fixture.list(&[&image.manifest; 2]);
    let index = store.index_document(&list.index).unwrap();
    assert_eq!(list::manifests(&index).count(), 1);
    fixture.remove("one", false).unwrap();
    store.collect_garbage(true).unwrap();
    for digest in image.references() {
        let is_layer = image.layers.iter().any(|layer| layer.diff_id == *digest);
        assert!(
            is_layer || store.blobs().contains(digest).unwrap(),
            "{digest}"
        );
    }
    assert!(store.missing_layers(&image, "single").unwrap().is_empty());
    let removal = store.remove_list("list", false).unwrap().unwrap();
    assert_eq!(removal.untagged, ["localhost/list:latest"]);
    assert_eq!(removal.deleted, Some(list.id));
    store.collect_garbage(true).unwrap();
    assert!(store.blobs().list().unwrap().is_empty());
    assert!(!store.missing_layers(&image, "single").unwrap().is_empty());
}

/// A push brings the rest by here, for as long as it takes.
#[test]
fn a_list_needs_the_manifest_alone_of_what_a_repository_has() {
    let fixture = Fixture::new();
    let image = fixture.image("one", &["localhost/one:latest"]);
    let store = &fixture.store;
    let entry = serde_json::json!({"digest": image.manifest, "size": 1, "mediaType": "m"});
    let mut add = |list: &mut ListRecord, index: &mut serde_json::Value| {
        let source = "registry.example/one".to_owned();
        list.sources.insert(image.manifest.clone(), source);
        crate::index::add(index, vec![entry.clone()]);
        Ok(())
    };
    let name = reference("localhost/list");
    store
        .create_list(&name, "2026-01-01T00:00:00Z", "1", &mut add)
        .unwrap();
    fixture.remove("one", false).unwrap();
    store.collect_garbage(true).unwrap();
    assert!(store.blobs().contains(&image.manifest).unwrap());
    assert!(!store.blobs().contains(&image.id).unwrap());
}

/// Who adds to another list leases the manifest, and has no need of the rest.
#[test]
fn a_lease_of_a_manifest_hides_nothing_that_a_list_needs() {
    let fixture = Fixture::new();
    let image = fixture.image("one", &["localhost/one:latest"]);
    let store = &fixture.store;
    fixture.list(&[&image.manifest]);
    let (lease, _) = store.lease().unwrap();
    lease.keep(&image.manifest).unwrap();
    fixture.remove("one", false).unwrap();
    store.collect_garbage(true).unwrap();
    for digest in [&image.manifest, &image.id, &image.layers[0].digest] {
        assert!(store.blobs().contains(digest).unwrap(), "{digest}");
    }
}

#[test]
fn a_list_without_a_name_is_pruned_and_no_other() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let list = fixture.list(&[]);
    let prune = || store.prune(&list.id, true, &|_| Ok(Vec::new())).unwrap();
    assert_eq!(prune(), None);
    store.untag(&reference("localhost/list")).unwrap();
    assert_eq!(prune().unwrap().deleted, Some(list.id.clone()));
    assert_eq!(store.list(&list.id).unwrap(), None);
    assert!(store.blobs().list().unwrap().is_empty());
}

#[test]
fn a_name_is_of_a_list_or_of_an_image() {
    let fixture = Fixture::new();
    let image = fixture.image("one", &["localhost/one:latest"]);
    let store = &fixture.store;
    let create = |name: &str| {
        let name = reference(name);
        store.create_list(&name, "2026-01-01T00:00:00Z", "1", &mut |_, _| Ok(()))
    };
    assert!(matches!(create("localhost/one"), Err(Error::Conflict(_))));
    let list = create("localhost/list").unwrap();
    assert!(matches!(create("localhost/list"), Err(Error::Conflict(_))));
    for retag in [Retag::Move, Retag::Refuse] {
        let taken = store.tag(&image.id, &reference("localhost/list"), retag);
        assert!(matches!(taken, Err(Error::Conflict(_))), "{taken:?}");
    }
    assert!(
        store
            .name_list(&list.id, &reference("localhost/one"))
            .is_err()
    );
    for name in [
        "list",
        "localhost/list:latest",
        list.id.hex(),
        list.id.short(),
    ] {
        let found = store.find_list(name).unwrap().unwrap().0;
        assert_eq!(found, list, "{name}");
    }
    // What has a digest does not change.
    let by_digest = format!("list@{}", image.manifest);
    assert!(store.find_list(&by_digest).unwrap().is_none());
    assert!(store.find(&by_digest).is_err());
    assert!(store.find_list("one").unwrap().is_none());
    assert!(store.find_list(image.id.hex()).unwrap().is_none());
}

#[test]
fn images_of_an_index_stay_as_long_as_its_name_stands_for_all() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let named = fixture.image("one", &["localhost/one:latest"]);
    let other = fixture.image("two", &[]);
    let index =
        serde_json::json!({"manifests": [{"digest": named.manifest}, {"digest": other.manifest}]});
    let index = store
        .blobs()
        .put(index.to_string().as_bytes(), None)
        .unwrap();
    store
        .hold_index(&reference("localhost/one"), &index)
        .unwrap();
    let prune = |all| store.prune(&other.id, all, &|_| Ok(Vec::new())).unwrap();
    assert_eq!(prune(false), None);
    // The same name for the same image means the same.
    let one = reference("localhost/one");
    store.tag(&named.id, &one, Retag::Move).unwrap();
    assert_eq!(prune(false), None);
    store.collect_garbage(true).unwrap();
    assert!(store.blobs().contains(&index).unwrap());
    fixture.remove("one", false).unwrap();
    assert!(prune(false).is_some());
}
