//! Artifacts: brought, made, shown, written to files, sent and taken away; and what becomes of their blobs.

mod extract;
mod mount;
mod units;

use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::env::{Env, names};
use crate::http;
use crate::image::{Image, digest};
use crate::kelp::Kelp;
use crate::registry::{Registry, USER};

/// The config of an artifact that has none.
const EMPTY: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

/// An artifact as others push one.
pub(crate) struct Artifact {
    files: Vec<(Option<String>, Vec<u8>)>,
    config: (String, Vec<u8>),
    created: Option<String>,
}

impl Artifact {
    pub(crate) fn new() -> Self {
        Self {
            files: Vec::new(),
            config: (
                "application/vnd.oci.empty.v1+json".to_owned(),
                b"{}".to_vec(),
            ),
            created: None,
        }
    }

    pub(crate) fn file(mut self, title: &str, content: &str) -> Self {
        self.files.push((Some(title.to_owned()), content.into()));
        self
    }

    fn untitled(mut self, content: &str) -> Self {
        self.files.push((None, content.into()));
        self
    }

    fn config(mut self, media_type: &str, content: &str) -> Self {
        self.config = (media_type.to_owned(), content.into());
        self
    }

    fn created(mut self, time: &str) -> Self {
        self.created = Some(time.to_owned());
        self
    }

    /// Pushes it; the digest of its manifest.
    pub(crate) fn push(&self, address: &str, name: &str) -> String {
        let registry = http::Registry(address);
        let (kind, config) = &self.config;
        registry.push_blob(name, &digest(config), config);
        let mut layers = Vec::new();
        for (title, content) in &self.files {
            registry.push_blob(name, &digest(content), content);
            let mut layer = json!({
                "mediaType": "text/plain", "digest": digest(content), "size": content.len(),
            });
            if let Some(title) = title {
                layer["annotations"] = json!({"org.opencontainers.image.title": title});
            }
            layers.push(layer);
        }
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.example.test",
            "config": {"mediaType": kind, "digest": digest(config), "size": config.len()},
            "layers": layers,
        });
        if let Some(created) = &self.created {
            manifest["annotations"] = json!({"org.opencontainers.image.created": created});
        }
        let bytes = manifest.to_string();
        registry.push_manifest(name, "latest", bytes.as_bytes());
        digest(bytes.as_bytes())
    }

    /// Pushes it to the shared registry and pulls it; its name.
    fn pulled(&self, env: &Env, name: &str) -> String {
        let address = &env.registry().address;
        self.push(address, name);
        let name = format!("{address}/{name}:latest");
        env.kelp(&["artifact", "pull", "-q", &name]).succeeds();
        name
    }
}

fn two() -> Artifact {
    Artifact::new()
        .file("one", "first\n")
        .file("two", "second\n")
}

/// What `inspect` prints.
fn inspect(env: &Env, name: &str) -> Value {
    serde_json::from_str(&env.kelp(&["artifact", "inspect", name]).succeeds()).unwrap()
}

/// The names of all blobs.
fn blobs(env: &Env) -> Vec<String> {
    names(&env.path("d/kelp/blobs/sha256"))
}

#[test]
fn an_artifact_is_pulled_listed_shown_and_removed() {
    let Some(env) = Env::new() else { return };
    let address = env.registry().address.clone();
    let own = two().created("2020-01-02T03:04:05Z");
    let digest = own.push(&address, "artifacts/usual");
    let hex = digest.strip_prefix("sha256:").unwrap();
    let name = format!("{address}/artifacts/usual:latest");
    let bare = format!("{address}/artifacts/usual");
    let pulled = env.kelp(&["artifact", "pull", "-q", &bare]).succeeds();
    assert_eq!(pulled.trim(), hex);
    // It is no image, and an image's list does not have it.
    assert_eq!(env.kelp(&["images", "-q"]).succeeds(), "");
    let listed = env.kelp(&["artifact", "ls"]).succeeds();
    let lines: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split("  ").collect())
        .collect();
    let words = |line: &[&str]| -> Vec<String> {
        let words = line.iter().map(|word| word.trim().to_owned());
        words.filter(|word| !word.is_empty()).collect()
    };
    assert_eq!(
        words(&lines[0]),
        ["REPOSITORY", "TAG", "DIGEST", "CREATED", "SIZE"]
    );
    let row = words(&lines[1]);
    assert_eq!(
        (row[0].as_str(), row[1].as_str(), row[2].as_str()),
        (&*bare, "latest", &hex[..12])
    );
    assert!(row[3].ends_with("years ago") && row[4] == "13B", "{row:?}");
    let shown = |words: &[&str]| {
        let words = [&["artifact", "ls"], words].concat();
        env.kelp(&words).succeeds()
    };
    assert_eq!(shown(&["-q"]), format!("{}\n", &hex[..12]));
    assert_eq!(shown(&["-q", "--no-trunc"]), format!("{hex}\n"));
    assert_eq!(
        shown(&["--noheading", "--format", "{{.VirtualSize}} {{.Tag}}"]),
        "13 latest\n"
    );
    assert_eq!(shown(&["-n"]).lines().count(), 1);
    assert!(shown(&["--format", "{{.CreatedAt}}"]).starts_with("2020-01-0"));
    // By each of its names it is the same.
    for text in [
        &*name,
        &bare,
        "usual",
        "artifacts/usual:latest",
        hex,
        &hex[..8],
        &digest,
    ] {
        let artifact = inspect(&env, text);
        assert_eq!(artifact["Name"], name, "{text}");
        assert_eq!(artifact["Digest"], digest);
        assert_eq!(
            artifact["Manifest"]["layers"][1]["annotations"]["org.opencontainers.image.title"],
            "two"
        );
    }
    let template = "{{.Digest}} {{len .Manifest.Layers}} {{.TotalSizeBytes}}";
    let by_template = env
        .kelp(&["artifact", "inspect", "-f", template, &name])
        .succeeds();
    assert_eq!(by_template, format!("{digest} 2 13\n"));
    let removed = env.kelp(&["artifact", "rm", &hex[..12]]).succeeds();
    assert_eq!(removed, format!("{hex}\n"));
    assert_eq!(blobs(&env), [""; 0]);
    assert_eq!(shown(&["-n"]), "");
    let absent = "artifact does not exist";
    let line = env.kelp(&["artifact", "inspect", &name]).fails(125);
    assert_eq!(line, format!("Error: {name}: {absent}"));
    let line = env.kelp(&["artifact", "rm", "foobar"]).fails(125);
    assert_eq!(line, format!("Error: foobar: {absent}"));
    assert_eq!(env.kelp(&["artifact", "rm", "-i", "foobar"]).succeeds(), "");
    let line = env.kelp(&["artifact", "rm"]).fails(125);
    assert!(
        line.contains("at least one artifact name or digest must be specified"),
        "{line}"
    );
    let line = env.kelp(&["artifact", "rm", "-a", "foobar"]).fails(125);
    assert!(
        line.contains("you may not pass any artifact names or digests"),
        "{line}"
    );
}

#[test]
fn what_is_here_is_not_pulled_again_and_what_has_changed_is() {
    let Some(env) = Env::new() else { return };
    let registry = Registry::own();
    let name = format!("{}/moves:latest", registry.address);
    let pull = || {
        env.kelp(&["artifact", "pull", "-q", "--tls-verify=false", &name])
            .succeeds()
    };
    Artifact::new()
        .file("a", "older")
        .push(&registry.address, "moves");
    let first = pull();
    assert_eq!(pull(), first);
    // One blob is the same, the other one and the manifest go with the name.
    Artifact::new()
        .file("a", "newer")
        .push(&registry.address, "moves");
    let second = pull();
    assert_ne!(first, second);
    assert_eq!(blobs(&env).len(), 3);
    assert_eq!(
        env.kelp(&["artifact", "ls", "-nq", "--no-trunc"])
            .succeeds(),
        second
    );
    // By its digest it is another name, and with the last one it goes.
    let by_digest = format!("{}/moves@sha256:{}", registry.address, second.trim());
    assert_eq!(
        env.kelp(&["artifact", "pull", "-q", "--tls-verify=false", &by_digest])
            .succeeds(),
        second
    );
    let line = env.kelp(&["artifact", "rm", second.trim()]).fails(125);
    assert!(line.contains("has several names"), "{line}");
    assert_eq!(env.kelp(&["artifact", "rm", &name]).succeeds(), second);
    assert_eq!(blobs(&env).len(), 3);
    assert_eq!(env.kelp(&["artifact", "rm", "--all"]).succeeds(), second);
    assert_eq!(blobs(&env), [""; 0]);
}

#[test]
fn an_image_is_no_artifact_and_an_artifact_no_image() {
    let Some(env) = Env::new() else { return };
    let image = env.push("busybox", &Image::busybox);
    let line = env.kelp(&["artifact", "pull", "-q", &image]).fails(125);
    assert_eq!(
        line,
        format!("Error: {image} is a container image and no artifact: use kelp pull {image}")
    );
    let address = env.registry().address.clone();
    let helm = two().config(
        "application/vnd.cncf.helm.config.v1+json",
        "{\"name\":\"chart\"}",
    );
    helm.push(&address, "artifacts/helm");
    let name = format!("{address}/artifacts/helm:latest");
    for words in [
        &["pull", "-q", &name][..],
        &["run", "--rm", "-q", &name, "true"],
    ] {
        let line = env.kelp(words).fails(125);
        assert!(
            line.contains("this is an artifact and not a container image"),
            "{line}"
        );
        assert!(line.contains("kelp artifact pull"), "{line}");
    }
    // A config that is one is a blob like others.
    env.kelp(&["artifact", "pull", "-q", &name]).succeeds();
    assert_eq!(blobs(&env).len(), 4);
    let line = env
        .kelp(&["artifact", "pull", "-q", &format!("{address}/none")])
        .fails(125);
    assert!(line.contains("none"), "{line}");
}

#[test]
fn what_is_added_is_pushed_and_comes_back() {
    let Some(env) = Env::new() else { return };
    let address = env.registry().address.clone();
    let name = format!("{address}/artifacts/added");
    let (text, page) = (env.word("h/notes.txt"), env.word("h/page.html"));
    fs::write(&text, "hello\n").unwrap();
    fs::write(&page, "<html></html>").unwrap();
    let words = [
        "artifact",
        "add",
        "--type",
        "application/x.t",
        "--annotation",
        "color=blue",
    ];
    let added = env.kelp(&[&words[..], &[&name, &text]].concat()).succeeds();
    let line = env.kelp(&["artifact", "add", &name, &page]).fails(125);
    assert!(
        line.starts_with(&format!("Error: {name}:latest: artifact already exists")),
        "{line}"
    );
    let line = env
        .kelp(&["artifact", "add", "--append", "--replace", &name, &page])
        .fails(125);
    assert!(
        line.contains("--append and --replace options cannot be used together"),
        "{line}"
    );
    let line = env
        .kelp(&["artifact", "add", "--append", "--type=x", &name, &page])
        .fails(125);
    assert!(
        line.contains("append option is not compatible with type option"),
        "{line}"
    );
    let line = env
        .kelp(&["artifact", "add", "--append", &name, &text])
        .fails(125);
    assert_eq!(line, "Error: notes.txt: file already exists in artifact");
    let line = env
        .kelp(&["artifact", "add", "localhost/d", &env.word("h")])
        .fails(125);
    assert!(line.contains("is a directory"), "{line}");
    let appended = env
        .kelp(&["artifact", "add", "-a", &name, &page])
        .succeeds();
    assert_ne!(added, appended);
    let artifact = inspect(&env, &name);
    let manifest = &artifact["Manifest"];
    assert_eq!(manifest["artifactType"], "application/x.t");
    assert_eq!(manifest["config"]["digest"], EMPTY);
    let types: Vec<_> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["mediaType"])
        .collect();
    assert_eq!(
        types,
        ["text/plain; charset=utf-8", "text/html; charset=utf-8"]
    );
    assert_eq!(manifest["layers"][0]["annotations"]["color"], "blue");
    assert!(manifest["annotations"]["org.opencontainers.image.created"].is_string());
    let file = env.word("h/digest");
    let digestfile = format!("--digestfile={file}");
    assert_eq!(
        env.kelp(&["artifact", "push", "-q", &digestfile, &name])
            .succeeds(),
        ""
    );
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        format!("sha256:{}", appended.trim())
    );
    env.kelp(&["artifact", "rm", &name]).succeeds();
    assert_eq!(blobs(&env), [""; 0]);
    assert_eq!(
        env.kelp(&["artifact", "pull", "-q", &name]).succeeds(),
        appended
    );
    assert_eq!(inspect(&env, &name), artifact);
    // One that has no registry in its name can't go anywhere.
    env.kelp(&["artifact", "add", "mine", &text]).succeeds();
    let line = env.kelp(&["artifact", "push", "-q", "mine"]).fails(125);
    assert!(
        line.contains("localhost/mine:latest is a name for what is made here"),
        "{line}"
    );
    let replaced = env
        .kelp(&["artifact", "add", "--replace", "mine", &page])
        .succeeds();
    assert_eq!(
        inspect(&env, "mine")["Digest"],
        format!("sha256:{}", replaced.trim())
    );
}

#[test]
fn a_locked_registry_and_a_policy_are_asked_as_for_images() {
    let Some(env) = Env::new() else { return };
    let registry = Registry::locked(|plain| {
        two().push(plain.0, "locked");
    });
    let name = format!("{}/locked:latest", registry.address);
    let certs = env.path("h/certs");
    fs::create_dir(&certs).unwrap();
    fs::copy(registry.certificate(), certs.join("ca.crt")).unwrap();
    let certs = format!("--cert-dir={}", certs.display());
    let pull = |words: &[&str]| {
        let words = [
            &["artifact", "pull", "-q", "--retry=0", &certs],
            words,
            &[&name],
        ]
        .concat();
        env.kelp(&words)
    };
    pull(&["--creds=kelp:wrong"]).fails(125);
    let creds = format!("--creds={}:{}", USER.0, USER.1);
    // A policy that refuses everything refuses it before anything is written.
    let policy = env.word("h/policy.json");
    fs::write(
        &policy,
        json!({"default": [{"type": "reject"}]}).to_string(),
    )
    .unwrap();
    let policy = format!("--signature-policy={policy}");
    let line = pull(&[&creds, &policy]).fails(125);
    assert!(line.contains("is rejected by the default"), "{line}");
    assert_eq!(blobs(&env), [""; 0]);
    pull(&[&creds]).succeeds();
    // One that is here is looked at again.
    pull(&[&creds, &policy]).fails(125);
    env.kelp(&["artifact", "push", "-q", &creds, &certs, &name])
        .succeeds();
}

#[test]
fn an_artifact_is_read_beside_those_who_replace_it() {
    let Some(env) = Env::new() else { return };
    let registry = Registry::own();
    let name = format!("{}/replaced:latest", registry.address);
    let files = ["a", "b"].map(|name| {
        let path = env.path("h").join(name);
        fs::write(&path, format!("of {name}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let mut replacements = files.map(|file| {
        let words = ["artifact", "add", "--replace", &name, &file];
        let mut command = env.kelp(&words).into_command();
        command.stdout(Stdio::null());
        command
    });
    assert!(replacements[0].status().unwrap().success());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let over = Over(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for command in &mut replacements {
                    assert!(command.status().unwrap().success());
                }
            }
        });
        for number in 0..60 {
            let target = env.word(&format!("h/out-{number}"));
            env.kelp(&["artifact", "extract", &name, &target])
                .succeeds();
            let content = fs::read_to_string(&target).unwrap();
            assert!(content == "of a\n" || content == "of b\n", "{content:?}");
            env.kelp(&["artifact", "inspect", &name]).succeeds();
            let listed = env.kelp(&["artifact", "ls", "-nq"]).succeeds();
            assert_eq!(listed.lines().count(), 1);
            if number % 4 == 0 {
                let push = ["artifact", "push", "-q", "--tls-verify=false", &name];
                env.kelp(&push).succeeds();
            }
        }
        drop(over);
    });
}

/// Tells, also where an assertion fails, that somebody need not go on.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Titles that would lead elsewhere, and such as are had twice.
#[test]
fn blobs_that_an_image_has_as_well_stay_with_either() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    // The image's layers, as an artifact.
    let script = "{{json .RepoDigests}}";
    let digests = env
        .kelp(&["image", "inspect", "-f", script, &image])
        .succeeds();
    let digests: Vec<String> = serde_json::from_str(&digests).unwrap();
    let manifest = digests[0].split_once("@sha256:").unwrap().1.to_owned();
    let blob = |hex: &str| fs::read(env.path("d/kelp/blobs/sha256").join(hex)).unwrap();
    let mut document: Value = serde_json::from_slice(&blob(&manifest)).unwrap();
    document["artifactType"] = json!("application/vnd.example.layers");
    let bytes = document.to_string();
    let address = env.registry().address.clone();
    http::Registry(&address).push_manifest("busybox", "layers", bytes.as_bytes());
    let name = format!("{address}/busybox:layers");
    let before = blobs(&env).len();
    env.kelp(&["artifact", "pull", "-q", &name]).succeeds();
    assert_eq!(
        blobs(&env).len(),
        before + 1,
        "only the manifest is another one"
    );
    env.kelp(&["rmi", "-f", &image]).succeeds();
    // All but the image's manifest stays, whatever is collected.
    let stays = |words: &[&str]| {
        env.kelp(words).done().exits(0);
        assert_eq!(blobs(&env).len(), before, "{words:?}");
        assert_eq!(env.kelp(&["system", "check"]).done().exits(0), "");
    };
    stays(&["image", "prune", "-a", "-f"]);
    stays(&["system", "prune", "-a", "-f", "--volumes"]);
    stays(&["image", "prune", "-f", "--keep-storage=1"]);
    stays(&["system", "check", "--repair", "--max=0s"]);
    let target = env.word("h/layers");
    fs::create_dir(&target).unwrap();
    env.kelp(&["artifact", "extract", &name, &target])
        .succeeds();
    // The other way round.
    env.kelp(&["pull", "-q", &image]).succeeds();
    env.kelp(&["artifact", "rm", &name]).succeeds();
    assert_eq!(blobs(&env).len(), before);
    assert_eq!(
        env.kelp(&["run", "--rm", &image, "echo", "whole"])
            .succeeds(),
        "whole\n"
    );
    env.kelp(&["rmi", &image]).succeeds();
    assert_eq!(blobs(&env), [""; 0]);
}

#[test]
fn damage_is_told_and_mended() {
    let Some(env) = Env::new() else { return };
    let name = two().pulled(&env, "artifacts/damaged");
    let manifest = inspect(&env, &name)["Digest"].as_str().unwrap().to_owned();
    let hex = manifest.strip_prefix("sha256:").unwrap();
    let check = |words: &[&str]| env.kelp(&[&["system", "check"], words].concat()).done();
    let record = env.path("d/kelp/artifacts").join(format!("{hex}.json"));
    for odd in ["{", "{\"manifest\":\"sha256:0\"}"] {
        fs::write(&record, odd).unwrap();
        let done = check(&[]);
        assert!(
            done.stdout
                .contains(&format!("Damaged artifact {}", &hex[..12])),
            "{done:?}"
        );
        let done = check(&["--repair"]);
        assert_eq!(done.code, 0, "{done:?}");
        assert!(
            done.stdout.contains("Rebuilt the record of artifact"),
            "{done:?}"
        );
    }
    // A record that names what never was is written again, and nothing of the artifact lacks.
    let mut odd: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    odd["blobs"]
        .as_array_mut()
        .unwrap()
        .push(json!(digest(b"invented")));
    fs::write(&record, odd.to_string()).unwrap();
    let done = check(&["--repair", "--force"]);
    assert_eq!(done.code, 0, "{done:?}");
    let told = "Rebuilt the record of artifact";
    assert!(
        done.stdout.contains(told) && !done.stdout.contains("Deleted"),
        "{done:?}"
    );
    assert_eq!(inspect(&env, &name)["Digest"], manifest);
    let blob = digest(b"first\n").replace(':', "/");
    let blob = env.path("d/kelp/blobs").join(blob);
    fs::write(&blob, "First\n").unwrap();
    let target = env.word("h/out");
    let line = env
        .kelp(&["artifact", "extract", "--title=one", &name, &target])
        .fails(125);
    assert!(line.contains("kelp system check tells more"), "{line}");
    assert!(!env.path("h/out").exists());
    let done = check(&[]);
    let told = format!("of {name}: has other content than its digest says");
    assert!(done.code == 125 && done.stdout.contains(&told), "{done:?}");
    let done = check(&["--repair"]);
    let told = format!("{name} must be pulled again: kelp artifact pull {name}");
    assert!(done.code == 125 && done.stdout.contains(&told), "{done:?}");
    env.kelp(&["artifact", "pull", "-q", &name]).succeeds();
    assert_eq!(check(&[]).exits(0), "");
    fs::remove_file(&blob).unwrap();
    let image = env.busybox();
    let mount = format!("type=artifact,src={name},dst=/d");
    for words in [
        &["artifact", "extract", "--title=one", &name, &target][..],
        &["run", "--rm", "--mount", &mount, &image, "true"],
    ] {
        let line = env.kelp(words).fails(125);
        let told = "missing on this machine: kelp system check says what can be repaired";
        assert!(line.contains(told), "{words:?}: {line}");
    }
    let done = check(&["--force"]);
    assert!(
        done.stdout
            .contains(&format!("Deleted damaged artifact: {hex}")),
        "{done:?}"
    );
    assert_eq!(env.kelp(&["artifact", "ls", "-n"]).succeeds(), "");
    assert_eq!(check(&[]).exits(0), "");
    // A name that stands for nothing goes with a repair.
    env.kelp(&["artifact", "pull", "-q", &name]).succeeds();
    fs::remove_file(&record).unwrap();
    let done = check(&["--repair"]);
    assert!(
        done.stdout.contains(&format!("Removed name {name}")),
        "{done:?}"
    );
    two().pulled(&env, "artifacts/damaged");
    env.kelp(&["system", "reset", "-f"]).done().exits(0);
    assert!(!env.path("d/kelp/artifacts").exists());
}

/// What the disk has for artifacts is counted, and nobody is told that it could be had back.
#[test]
fn system_df_counts_artifacts_and_reclaims_none() {
    let Some(env) = Env::new() else { return };
    let df = || {
        let words = [
            "system",
            "df",
            "--format",
            "{{.Type}} {{.RawSize}} {{.RawReclaimable}}",
        ];
        let said = env.kelp(&words).succeeds();
        let images = said
            .lines()
            .find_map(|line| line.strip_prefix("Images "))
            .unwrap()
            .to_owned();
        let (size, free) = images.split_once(' ').unwrap();
        (size.parse::<u64>().unwrap(), free.parse::<u64>().unwrap())
    };
    env.kelp(&["artifact", "ls"]).succeeds();
    let (before, free_before) = df();
    let content = "x".repeat(1 << 20);
    Artifact::new()
        .file("large", &content)
        .pulled(&env, "artifacts/large");
    let (after, free_after) = df();
    assert!(after > before + (1 << 20), "{before} {after}");
    assert_eq!(free_before, free_after);
}

/// Nothing is there before there is one, and reading makes nothing.
#[test]
fn who_has_no_artifacts_pays_nothing_for_them() {
    let Some(env) = Env::new() else { return };
    env.busybox();
    for words in [
        &["artifact", "ls"][..],
        &["image", "prune", "-f"],
        &["system", "df"],
        &["system", "check"],
    ] {
        env.kelp(words).done().exits(0);
    }
    Kelp::new(env.kelp(&["artifact", "rm", "-i", "x"]).into_command()).succeeds();
    assert!(!env.path("d/kelp/artifacts").exists());
}
