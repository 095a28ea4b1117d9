//! `system check`: each kind of damage is told as it is, and after a repair the image runs again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::env::Env;
use crate::image::digest;
use crate::unshare::Session;

const DAMAGED: &str = "Error: damage detected in local storage";
const STILL_DAMAGED: &str = "Error: damage in local storage still present after repair attempt";

/// A store with the usual image, whose parts are known.
struct Store<'a> {
    env: &'a Env,
    name: String,
    data: PathBuf,
    /// Hex digits of the image's id.
    id: String,
    record: Value,
    /// The directory of the layers, and its name.
    layers: PathBuf,
    key: String,
}

impl<'a> Store<'a> {
    fn new(env: &'a Env) -> Self {
        let name = env.busybox();
        let data = env.path("d/kelp");
        let words = ["image", "inspect", "--format={{.Id}}", &name];
        let id = env.kelp(&words).succeeds().trim().to_owned();
        let record = fs::read(data.join(format!("images/{id}.json"))).unwrap();
        let maps: Vec<_> = fs::read_dir(data.join("layers")).unwrap().collect();
        let [layers] = &maps[..] else {
            panic!("one map: {maps:?}")
        };
        let layers = layers.as_ref().unwrap();
        Self {
            env,
            name,
            id,
            record: serde_json::from_slice(&record).unwrap(),
            layers: layers.path(),
            key: layers.file_name().into_string().unwrap(),
            data,
        }
    }

    /// The digest of a part of the record: `/manifest`, `/layers/0/digest`, `/layers/0/diff_id`.
    fn digest(&self, part: &str) -> &str {
        self.record.pointer(part).unwrap().as_str().unwrap()
    }

    fn blob(&self, part: &str) -> PathBuf {
        let digest = self.digest(part).replace(':', "/");
        self.data.join("blobs").join(digest)
    }

    /// The lowest layer.
    fn layer(&self) -> PathBuf {
        self.layers.join(&self.digest("/layers/0/diff_id")[7..])
    }

    /// What the store is called in a line.
    fn fill(&self, line: &str) -> String {
        line.replace("DIFF", self.digest("/layers/0/diff_id"))
            .replace("LAYER", self.digest("/layers/0/digest"))
            .replace("MANIFEST", self.digest("/manifest"))
            .replace("SHORT", &self.id[..12])
            .replace("ID", &self.id)
            .replace("KEY", &self.key)
            .replace("NAME", &self.name)
    }

    fn checks(&self, flags: &[&str], error: Option<&str>, lines: &[&str]) {
        let done = self
            .env
            .kelp(&[&["system", "check"], flags].concat())
            .done();
        let lines: Vec<_> = lines.iter().map(|line| self.fill(line)).collect();
        let said: Vec<_> = done.stdout.lines().collect();
        assert_eq!(said, lines, "{flags:?}: {done:?}");
        let code = if error.is_some() { 125 } else { 0 };
        assert_eq!(done.code, code, "{flags:?}: {done:?}");
        assert_eq!(done.stderr.trim_end(), error.unwrap_or_default());
    }

    fn runs(&self) {
        let said = self
            .env
            .shell(&[], "cat /etc/group | wc -l; kelp-probe >/dev/null; pwd");
        assert_eq!(said, "3\n/\n");
    }
}

/// Writes over a file, also one that may not be written.
fn overwrite(path: &Path, content: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
}

/// Changes one byte of a file.
fn rot(path: &Path) {
    let mut content = fs::read(path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    overwrite(path, &content);
}

#[test]
fn a_whole_store_has_no_damage_for_any_map() {
    let Some(env) = Env::new() else { return };
    let store = Store::new(&env);
    store.checks(&[], None, &[]);
    for userns in ["keep-id", "auto", "nomap"] {
        env.shell(&[&format!("--userns={userns}")], "true");
    }
    assert!(fs::read_dir(store.data.join("layers")).unwrap().count() >= 3);
    store.checks(&[], None, &[]);
    store.checks(&["--quick", "--repair", "--force"], None, &[]);
    store.checks(&["--repair", "--max=0s"], None, &[]);
    store.runs();
}

#[test]
fn damaged_layers_are_told_file_by_file_and_made_again() {
    type Damage = (fn(&Store<'_>), &'static [&'static str], &'static str);
    const REBUILT: &str = "Rebuilt layer DIFF (KEY)";
    let damages: &[Damage] = &[
        (
            |store| {
                let file = store.layer().join("etc/group");
                let changed = fs::read_to_string(&file).unwrap().replace("extra", "EXTRA");
                overwrite(&file, changed.as_bytes());
                fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
                fs::remove_file(store.layer().join("bin/ls")).unwrap();
                fs::write(store.layer().join("more"), "").unwrap();
            },
            &[
                "Damaged layer DIFF (KEY): more is not in the archive",
                "Damaged layer DIFF (KEY): bin/ls is missing",
                "Damaged layer DIFF (KEY): etc/group has mode 0600 instead of 0644",
                "Damaged layer DIFF (KEY): etc/group has other content",
            ],
            REBUILT,
        ),
        (
            |store| {
                fs::remove_dir_all(store.layer()).unwrap();
                fs::write(store.layer(), "").unwrap();
            },
            &["Damaged layer DIFF (KEY): is no directory"],
            REBUILT,
        ),
        (
            |store| fs::remove_file(store.layer().with_extension("json")).unwrap(),
            &["Damaged layer DIFF (KEY): its size is not written down"],
            "Wrote down the size of layer DIFF (KEY)",
        ),
        (
            |store| fs::write(store.layer().with_extension("json"), "{").unwrap(),
            &["Damaged layer DIFF (KEY): what is written down of its size can't be read"],
            "Wrote down the size of layer DIFF (KEY)",
        ),
    ];
    let Some(env) = Env::new() else { return };
    let store = Store::new(&env);
    for (damage, lines, mended) in damages {
        damage(&store);
        store.checks(&[], Some(DAMAGED), lines);
        store.checks(&["--repair"], None, &[lines, &[*mended][..]].concat());
        store.checks(&[], None, &[]);
        store.runs();
    }
}

#[test]
fn a_layer_of_another_map_is_made_again_for_that_map() {
    let Some(env) = Env::new() else { return };
    let store = Store::new(&env);
    env.shell(&["--userns=keep-id"], "true");
    let maps = fs::read_dir(store.data.join("layers")).unwrap();
    let names = maps.map(|map| map.unwrap().file_name().into_string().unwrap());
    let other = names.into_iter().find(|key| *key != store.key).unwrap();
    // The container's root, who owns it, is not the user here.
    let file = format!(
        "{}/{}/etc/group",
        other,
        &store.digest("/layers/0/diff_id")[7..]
    );
    let script = format!(
        "echo x >> {}",
        store.data.join("layers").join(&file).display()
    );
    env.kelp(&["unshare", "sh", "-c", &script]).succeeds();
    let size = fs::metadata(store.layer().join("etc/group")).unwrap().len();
    let line = format!(
        "Damaged layer DIFF ({other}): etc/group has {} bytes instead of {size}",
        size + 2
    );
    let rebuilt = format!("Rebuilt layer DIFF ({other})");
    store.checks(&[], Some(DAMAGED), &[&line]);
    store.checks(&["-r"], None, &[&line, &rebuilt]);
    store.checks(&[], None, &[]);
    let said = env.shell(&["--userns=keep-id"], "stat -c %u:%g /etc/group /home/user");
    assert_eq!(said, "0:0\n1000:1000\n");
}

#[test]
fn a_layer_that_only_a_container_misses_is_made_again() {
    let Some(env) = Env::new() else { return };
    let store = Store::new(&env);
    env.kelp(&["create", "--name=x", &store.name, "echo", "works"])
        .succeeds();
    fs::remove_dir_all(store.layer()).unwrap();
    let line = "Damaged layer DIFF (KEY): is missing, and a container needs it";
    store.checks(&["-q"], Some(DAMAGED), &[line]);
    store.checks(&["-r"], None, &[line, "Rebuilt layer DIFF (KEY)"]);
    assert_eq!(env.kelp(&["start", "-a", "x"]).succeeds(), "works\n");
    env.kelp(&["rm", "x"]).succeeds();
}

#[test]
fn a_layer_in_use_stays_until_its_container_has_ended() {
    let Some(env) = Env::new() else { return };
    let store = Store::new(&env);
    let id = env.waiting("x", &[]);
    fs::write(store.layer().join("more"), "").unwrap();
    let line = "Damaged layer DIFF (KEY): more is not in the archive";
    let in_use = format!(
        "Layer DIFF (KEY) is in use by container {}, which runs: stop it, and check again",
        &id[..12]
    );
    store.checks(&["-r"], Some(STILL_DAMAGED), &[line, &in_use]);
    assert_eq!(
        env.kelp(&["exec", "x", "echo", "lives"]).succeeds(),
        "lives\n"
    );
    env.kelp(&["rm", "-f", "-t0", "x"]).succeeds();
    store.checks(&["-r"], None, &[line, "Rebuilt layer DIFF (KEY)"]);
    store.runs();
}

#[test]
fn a_layer_that_is_mounted_stays_until_it_is_not() {
    let Some(env) = Env::new() else { return };
    let store = Store::new(&env);
    let create = ["create", "--name", "c", &store.name, "true"];
    let container = env.kelp(&create).succeeds();
    for (mount, user) in [
        (
            format!("$kelp image mount {}", store.name),
            format!("image {}", &store.id[..12]),
        ),
        (
            "$kelp mount c".to_owned(),
            format!("container {}", &container[..12]),
        ),
    ] {
        let mut session = Session::new(&env);
        session.ask(&mount).done();
        fs::write(store.layer().join("more"), "").unwrap();
        let line = "Damaged layer DIFF (KEY): more is not in the archive";
        let in_use = format!(
            "Layer DIFF (KEY) is in use by {user}, which is mounted: unmount it, and check again"
        );
        store.checks(&["-r"], Some(STILL_DAMAGED), &[line, &in_use]);
        session.end();
        store.checks(&["-r"], None, &[line, "Rebuilt layer DIFF (KEY)"]);
    }
    env.kelp(&["rm", "c"]).succeeds();
    store.runs();
}

#[test]
fn blobs_that_are_damaged_or_gone_are_pulled_again_by_the_command_that_is_told() {
    type Damage = (fn(&Store<'_>), &'static str, Option<&'static str>);
    let damages: &[Damage] = &[
        (
            |store| rot(&store.blob("/layers/0/digest")),
            "Damaged blob LAYER of NAME: has other content than its digest says",
            Some("Removed blob LAYER"),
        ),
        (
            |store| fs::remove_file(store.blob("/layers/0/digest")).unwrap(),
            "Damaged blob LAYER of NAME: is missing",
            None,
        ),
        (
            |store| fs::remove_file(store.blob("/manifest")).unwrap(),
            "Damaged blob MANIFEST of NAME: is missing",
            None,
        ),
        (
            |store| overwrite(&store.blob("/id"), b"{}"),
            "Damaged blob sha256:ID of NAME: has other content than its digest says",
            Some("Removed blob sha256:ID"),
        ),
    ];
    let Some(env) = Env::new() else { return };
    let store = Store::new(&env);
    for (damage, line, removed) in damages {
        damage(&store);
        store.checks(&[], Some(DAMAGED), &[line]);
        let mut lines = vec![*line];
        lines.extend(*removed);
        lines.push("NAME must be pulled again: kelp pull NAME");
        store.checks(&["--repair"], Some(STILL_DAMAGED), &lines);
        env.kelp(&["pull", "-q", &store.name]).succeeds();
        store.checks(&[], None, &[]);
        store.runs();
    }
}

#[test]
fn a_quick_check_leaves_the_content_of_layers_out() {
    let Some(env) = Env::new() else { return };
    let store = Store::new(&env);
    rot(&store.blob("/layers/0/digest"));
    fs::write(store.layer().join("more"), "").unwrap();
    store.checks(&["--quick"], None, &[]);
    overwrite(&store.blob("/layers/0/digest"), b"short");
    let size = store.record.pointer("/layers/0/size").unwrap();
    let line = format!("Damaged blob LAYER of NAME: has 5 bytes instead of {size}");
    store.checks(&["--quick"], Some(DAMAGED), &[&line]);
    rot(&store.blob("/manifest"));
    let manifest = "Damaged blob MANIFEST of NAME: has other content than its digest says";
    let done = env.kelp(&["system", "check", "-q"]).done();
    assert!(done.stdout.contains(&store.fill(manifest)), "{done:?}");
}

#[test]
fn records_are_made_again_from_the_documents() {
    let Some(env) = Env::new() else { return };
    let store = Store::new(&env);
    let path = store.data.join(format!("images/{}.json", store.id));
    let whole = fs::read(&path).unwrap();
    for tagged in [true, false] {
        if !tagged {
            env.kelp(&["untag", &store.name]).succeeds();
        }
        fs::write(&path, "{\"id\":").unwrap();
        let done = env.kelp(&["system", "check"]).done();
        let start = store.fill("Damaged image SHORT: its record can't be read: read ");
        assert!(done.stdout.starts_with(&start), "{done:?}");
        assert_eq!(
            (done.code, done.stdout.lines().count()),
            (125, 1),
            "{done:?}"
        );
        let done = env.kelp(&["system", "check", "-r"]).done();
        let mended = store.fill("Rebuilt the record of image SHORT");
        assert_eq!(
            done.stdout.lines().last(),
            Some(mended.as_str()),
            "{done:?}"
        );
        assert_eq!(done.code, 0, "{done:?}");
        if tagged {
            assert_eq!(
                serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap(),
                store.record
            );
        }
    }
    let lies = String::from_utf8(whole)
        .unwrap()
        .replace("\"linux\"", "\"plan9\"");
    fs::write(&path, lies).unwrap();
    let line = "Damaged image SHORT: its record is not what its manifest and config say";
    store.checks(&[], Some(DAMAGED), &[line]);
    store.checks(&["-r"], None, &[line, "Rebuilt the record of image SHORT"]);
    env.kelp(&["tag", &store.id, &store.name]).succeeds();
    store.runs();
}

#[test]
fn names_of_no_image_are_removed() {
    let Some(env) = Env::new() else { return };
    let store = Store::new(&env);
    let tags = store.data.join("tags");
    let other = "0".repeat(64);
    let tag = serde_json::json!({
        "reference": "localhost/gone:1",
        "image": format!("sha256:{other}"),
        "manifest": format!("sha256:{other}"),
    });
    fs::write(tags.join("localhost%2Fgone%3A1"), tag.to_string()).unwrap();
    fs::write(tags.join("localhost%2Fodd"), "?").unwrap();
    fs::write(tags.join("misplaced"), tag.to_string()).unwrap();
    let lines = [
        "Damaged name localhost/gone:1: stands for image 000000000000, which is not here",
        "Damaged name localhost%2Fodd: can't be read: it is no name",
        "Damaged name localhost/gone:1: is kept as misplaced, where it is not found",
    ];
    store.checks(&[], Some(DAMAGED), &lines);
    let removed = [
        "Removed name localhost/gone:1",
        "Removed name localhost%2Fodd",
        "Removed name localhost/gone:1",
    ];
    store.checks(&["-r"], None, &[&lines[..], &removed].concat());
    assert_eq!(fs::read_dir(&tags).unwrap().count(), 1);
    store.runs();
}

#[test]
fn a_container_whose_image_is_gone_is_named_and_removed_by_force_alone() {
    let Some(env) = Env::new() else { return };
    let store = Store::new(&env);
    let words = ["create", "--name=x", &store.name, "true"];
    let id = env.kelp(&words).succeeds().trim().to_owned();
    fs::remove_file(store.data.join(format!("images/{}.json", store.id))).unwrap();
    let damaged = format!(
        "Damaged container {}: its image SHORT (NAME) is not here",
        &id[..12]
    );
    let name = "Damaged name NAME: stands for image SHORT, which is not here";
    let left = format!(
        "Container {0} can't be repaired: pull its image again, or remove it: kelp rm {0}",
        &id[..12]
    );
    store.checks(
        &["-r"],
        Some(STILL_DAMAGED),
        &[name, &damaged, "Removed name NAME", &left],
    );
    let deleted = format!("Deleted damaged container: {id}");
    store.checks(&["-f"], None, &[&damaged, &deleted]);
    assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
    env.kelp(&["pull", "-q", &store.name]).succeeds();
    store.runs();
}

#[test]
fn force_removes_what_can_not_be_repaired_but_not_from_what_runs() {
    let Some(env) = Env::new() else { return };
    let store = Store::new(&env);
    let running = env.waiting("runs", &[]);
    let words = ["create", "--name=x", &store.name, "true"];
    let stopped = env.kelp(&words).succeeds().trim().to_owned();
    fs::remove_file(store.blob("/layers/0/digest")).unwrap();
    let line = "Damaged blob LAYER of NAME: is missing";
    let in_use = format!(
        "Image SHORT is in use by container {}, which runs: stop it, and check again",
        &running[..12]
    );
    store.checks(&["-f"], Some(STILL_DAMAGED), &[line, &in_use]);
    env.kelp(&["rm", "-f", "-t0", "runs"]).succeeds();
    let deleted = format!("Deleted damaged container: {stopped}");
    store.checks(
        &["-f"],
        None,
        &[line, &deleted, "Deleted damaged image: ID"],
    );
    assert_eq!(env.kelp(&["images", "-q"]).succeeds(), "");
    env.kelp(&["pull", "-q", &store.name]).succeeds();
    store.runs();
}

#[test]
fn what_no_image_needs_is_damage_only_where_that_is_asked_for() {
    let Some(env) = Env::new() else { return };
    let store = Store::new(&env);
    let orphan = digest(b"nobody's");
    let path = store.data.join("blobs").join(orphan.replace(':', "/"));
    fs::write(&path, "nobody's").unwrap();
    let layer = store.layers.join("1".repeat(64));
    fs::create_dir(&layer).unwrap();
    store.checks(&[], None, &[]);
    store.checks(&["--max=1h"], None, &[]);
    let lines = [
        format!("Unreferenced blob {orphan}"),
        format!("Unreferenced layer sha256:{} (KEY)", "1".repeat(64)),
    ];
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    store.checks(&["-m", "0s"], Some(DAMAGED), &lines);
    store.checks(&["-r"], None, &[]);
    assert!(!path.exists() && !layer.exists());
    store.runs();
}
