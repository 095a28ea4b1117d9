//! `system df` tells what du(1) tells, to the byte.

use std::path::Path;

use serde_json::Value;

use crate::archive::{Layer, noise};
use crate::env::{Env, mapped};
use crate::image::Image;

/// What paths take of the disk together, counted by somebody who may read all of them.
fn du(paths: &[&Path]) -> u64 {
    let counted = mapped("du")
        .args(["-c", "-s", "-B1"])
        .args(paths)
        .output()
        .unwrap();
    assert!(counted.status.success(), "{counted:?}");
    let said = String::from_utf8(counted.stdout).unwrap();
    let (total, _) = said
        .trim_end()
        .lines()
        .last()
        .unwrap()
        .split_once('\t')
        .unwrap();
    total.parse().unwrap()
}

fn df(env: &Env) -> Value {
    let words = ["system", "df", "-v", "--format", "json"];
    serde_json::from_str(&env.kelp(&words).succeeds()).unwrap()
}

fn of<'a>(list: &'a Value, key: &str, name: &str) -> &'a Value {
    let mut rows = list.as_array().unwrap().iter();
    let found = rows.find(|row| row[key] == name || row[key][0] == name);
    found.unwrap_or_else(|| panic!("{name}: {list}"))
}

/// The directories of images as du counts them.
fn images(env: &Env) -> u64 {
    let data = env.path("d/kelp");
    let paths = ["blobs", "layers", "images", "lists", "tags"].map(|name| data.join(name));
    du(&paths.each_ref().map(std::path::PathBuf::as_path))
}

#[test]
fn images_take_what_du_counts_with_every_map_and_shared_parts_once() {
    let Some(env) = Env::new() else { return };
    let links = || {
        Layer::default()
            .file("linked", 0o644, &vec![b'x'; 50_000])
            .hardlink("again", "linked")
            .sparse_file("hole", 1 << 30, b"end")
            .owned_directory("closed", 0o700, (1000, 1000))
    };
    let one = env.busybox();
    let two = env.image("more", &|| Image::busybox().layer(links()));
    env.shell(&["--userns=keep-id"], "true");
    env.kelp(&["tag", &two, "second"]).succeeds();
    env.kelp(&["manifest", "create", "list", &one]).succeeds();
    for _ in 0..2 {
        let told = df(&env);
        assert_eq!(told["ImagesSize"], images(&env));
        let [one, two] = [&one, &two].map(|name| of(&told["Images"], "Names", name).clone());
        // Two layers of busybox, their blobs, and the keep-id ones.
        assert_eq!(one["SharedSize"], two["SharedSize"]);
        assert_eq!(
            one["Size"].as_u64().unwrap(),
            one["SharedSize"].as_u64().unwrap() + one["UniqueSize"].as_u64().unwrap()
        );
    }
    env.kelp(&["manifest", "rm", "list"]).succeeds();
    env.kelp(&["image", "prune", "-f"]).succeeds();
    assert_eq!(df(&env)["ImagesSize"], images(&env));
    // What is gone with an image is what only it has.
    let before = images(&env);
    let told = df(&env);
    let unique = of(&told["Images"], "Names", &two)["UniqueSize"]
        .as_u64()
        .unwrap();
    let id = of(&told["Images"], "Names", &two)["Id"]
        .as_str()
        .unwrap()
        .to_owned();
    env.kelp(&["rmi", "-f", &id]).succeeds();
    assert_eq!(before - images(&env), unique);
    assert_eq!(df(&env)["ImagesSize"], images(&env));
    // The short list says the same; all of it but the directories can go.
    let words = [
        "system",
        "df",
        "--format",
        "{{.RawSize}} {{.RawReclaimable}}",
    ];
    let said = env.kelp(&words).succeeds();
    let (size, free) = said.lines().next().unwrap().split_once(' ').unwrap();
    assert_eq!(size.parse::<u64>().unwrap(), images(&env));
    env.kelp(&["rmi", "-a"]).succeeds();
    let size: u64 = size.parse().unwrap();
    assert_eq!(size - images(&env), free.parse::<u64>().unwrap());
}

#[test]
fn containers_and_volumes_take_what_du_counts() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "head -c 100000 /dev/zero | tee /root/a /v/b >/dev/null; ln /v/b /v/c
                  mkdir /v/closed; touch /v/closed/x; chown 1000 /v/closed; chmod 0 /v/closed";
    let words = [
        "run", "--name=x", "-v", "data:/v", &image, "sh", "-c", script,
    ];
    env.kelp(&words).succeeds();
    let data = env.path("d/kelp");
    let id = env.kelp(&["ps", "-aq", "--no-trunc"]).succeeds();
    let told = df(&env);
    let container = du(&[&data.join("containers").join(id.trim())]);
    assert_eq!(of(&told["Containers"], "Name", "x")["Size"], container);
    let volume = du(&[&data.join("volumes/data")]);
    assert_eq!(of(&told["Volumes"], "Name", "data")["Size"], volume);
    assert!(volume > 100_000 && volume < 200_000, "{volume}");
    env.kelp(&["rm", "x"]).succeeds();
    let error = env
        .kelp(&["system", "df", "-v", "--format", "{{.Size}}"])
        .fails(125);
    assert_eq!(error, "Error: --verbose has no other format than json");
}

/// Images of a megabyte each, of their own, used in this order.
fn three(env: &Env) -> [(String, String); 3] {
    ["first", "second", "third"].map(|name| {
        let image = env.image(&format!("room-{name}"), &|| {
            let seed = name.len() as u32 * 7919 + u32::from(name.as_bytes()[0]);
            let bytes = noise(seed, 1_000_000);
            Image::empty().layer(Layer::default().file("large", 0o644, &bytes))
        });
        let words = ["image", "inspect", "--format={{.Id}}", &image];
        let id = env.kelp(&words).succeeds().trim().to_owned();
        (image, id)
    })
}

/// Sets when an image was used.
fn used(env: &Env, id: &str, minutes_ago: u64) {
    let record = env.path(&format!("d/kelp/images/{id}.json"));
    let time = std::time::SystemTime::now() - std::time::Duration::from_mins(minutes_ago);
    let file = std::fs::File::options().append(true).open(record).unwrap();
    file.set_modified(time).unwrap();
}

#[test]
fn images_that_were_not_used_for_longest_make_room() {
    let Some(env) = Env::new() else { return };
    let [first, second, third] = three(&env);
    for (image, minutes) in [(&first, 30), (&second, 40), (&third, 20)] {
        used(&env, &image.1, minutes);
    }
    let prune = |size: &str| {
        let size = format!("--keep-storage={size}");
        env.kelp(&["image", "prune", "-f", &size]).succeeds()
    };
    assert_eq!(prune("10GB"), "");
    // Each takes two megabytes, as a blob and as a layer.
    assert_eq!(prune("5MB"), format!("{}\n", second.1));
    // To be made a container from is to be used.
    env.kelp(&["create", "--name=x", &first.0, "x"]).succeeds();
    env.kelp(&["rm", "x"]).succeeds();
    assert_eq!(prune("3MB"), format!("{}\n", third.1));
    env.kelp(&["create", "--name=x", &first.0, "x"]).succeeds();
    assert_eq!(prune("0"), "");
    env.kelp(&["rm", "x"]).succeeds();
    let filter = [
        "image",
        "prune",
        "-f",
        "--keep-storage=0",
        "--filter=label=none",
    ];
    assert_eq!(env.kelp(&filter).succeeds(), "");
    assert_eq!(prune("0"), format!("{}\n", first.1));
    let asked = env
        .kelp(&["image", "prune", "--keep-storage=10GB"])
        .input(b"n\n");
    let text = "WARNING! This command removes images without a container, until at most 10GB are \
                taken.\nAre you sure you want to continue? [y/N] ";
    assert_eq!(asked.succeeds(), text);
}

#[test]
fn a_pull_keeps_images_within_what_the_configuration_allows() {
    let Some(env) = Env::new() else { return };
    let [first, second, third] = three(&env);
    env.kelp(&["rmi", &third.1]).succeeds();
    used(&env, &first.1, 20);
    used(&env, &second.1, 30);
    env.kelp(&["create", "--name=x", &second.0, "x"]).succeeds();
    let conf = env.path("c/kelp/kelp.conf");
    std::fs::create_dir_all(conf.parent().unwrap()).unwrap();
    std::fs::write(&conf, "[engine]\nkeep_storage = \"1MB\"\n").unwrap();
    env.kelp(&["pull", "-q", &third.0]).succeeds();
    // What a container uses stays, and what was just pulled, though it is too much.
    let left = env.kelp(&["images", "-q", "--no-trunc"]).succeeds();
    let mut left: Vec<_> = left.lines().collect();
    left.sort_unstable();
    let mut expected = [&second.1, &third.1].map(|id| format!("sha256:{id}"));
    expected.sort_unstable();
    assert_eq!(left, expected);
    env.kelp(&["rm", "x"]).succeeds();
    std::fs::write(&conf, "[engine]\nkeep_storage = \"much\"\n").unwrap();
    let error = env.kelp(&["pull", "-q", &third.0]).fails(125);
    assert!(
        error.contains("kelp.conf:2: invalid size \"much\""),
        "{error}"
    );
}
