//! `kelp auto-update`: new images of registries and of this store, units that are started again, and the way back.

use std::fs;

use serde_json::{Value, json};

use crate::archive::Layer;
use crate::env::{Env, names};
use crate::fake_systemd::Systemd;
use crate::http;
use crate::image::Image;
use crate::kelp::Done;
use crate::registry::{Registry, USER};

/// An image that says which one it is.
fn version(version: &str) -> Image {
    Image::busybox().set("Labels", json!({ "version": version }))
}

/// One with which a container is unhealthy.
fn bad(name: &str) -> Image {
    version(name).layer(Layer::default().file("bad", 0o644, b""))
}

/// Pushes an image under a name of its test's own; the whole name.
fn push(env: &Env, name: &str, image: &Image) -> String {
    let address = &env.registry().address;
    image.push(&http::Registry(address), name, "1");
    format!("{address}/{name}:1")
}

/// What a unit does to start a container that is made anew each time, as those of Quadlet do.
fn unit(container: &str, policy: &str, flags: &str, image: &str) -> String {
    format!(
        "\"$KELP\" run -d --name {container} --replace --rm --network=none --cgroups=disabled --stop-timeout=0 \
         --label io.containers.autoupdate={policy} {flags} {image} sh -c '[ ! -e /dies ] && exec sleep 1000' \
         >/dev/null"
    )
}

/// Checks that find the answer at once.
const HEALTH: &str =
    "--health-cmd='[ ! -e /bad ]' --health-interval=50ms --health-timeout=20s --health-retries=1";

fn update(env: &Env, flags: &[&str]) -> Done {
    let format = "--format={{.Unit}} {{.ContainerName}} {{.Policy}} {{.Updated}}";
    env.kelp(&[&["auto-update", format], flags].concat()).done()
}

/// Which image a container is made of, and which one a name stands for.
fn version_of(env: &Env, container: &str, image: &str) -> [String; 2] {
    let format = "{{.Config.Labels.version}}";
    let show = |words: &[&str]| env.kelp(words).succeeds().trim().to_owned();
    [
        show(&["container", "inspect", "-f", format, container]),
        show(&["image", "inspect", "-f", format, image]),
    ]
}

fn remove_all(env: &Env) {
    env.kelp(&["rm", "-f", "-a", "-t", "0"]).succeeds();
}

#[test]
fn a_unit_gets_the_image_that_its_registry_has_now() {
    let Some(env) = Env::new() else { return };
    let systemd = Systemd::serve(&env);
    assert_eq!(env.kelp(&["auto-update"]).succeeds(), "");
    let image = push(&env, "updated", &version("one"));
    systemd.start("web.service", &unit("web", "registry", HEALTH, &image));
    let label = "{{.Config.Labels.PODMAN_SYSTEMD_UNIT}}";
    let shown = env.kelp(&["inspect", "-f", label, "web"]).succeeds();
    assert_eq!(shown, "web.service\n");
    let done = update(&env, &[]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:#?}");
    assert_eq!(done.stdout, "web.service web registry false\n");
    push(&env, "updated", &version("two"));
    let done = update(&env, &["--dry-run"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:#?}");
    assert_eq!(done.stdout, "web.service web registry pending\n");
    assert_eq!(version_of(&env, "web", &image), ["one", "one"]);
    assert_eq!(systemd.restarted(), [""; 0]);
    let id = env.kelp(&["ps", "-q", "--no-trunc"]).succeeds();
    let done = env.kelp(&["auto-update"]).done();
    let lines: Vec<Vec<&str>> = done
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let expected = [
        vec!["UNIT", "CONTAINER", "IMAGE", "POLICY", "UPDATED"],
        vec![
            "web.service",
            &id[..12],
            "(web)",
            &image,
            "registry",
            "true",
        ],
    ];
    assert_eq!((done.code, lines), (0, expected.to_vec()), "{done:#?}");
    assert_eq!(version_of(&env, "web", &image), ["two", "two"]);
    assert_eq!(systemd.restarted(), ["web.service"]);
    let text = env.kelp(&["auto-update", "--format=json"]).succeeds();
    let shown: Value = serde_json::from_str(&text).unwrap();
    let id = env.kelp(&["ps", "-q", "--no-trunc"]).succeeds();
    let id = id.trim();
    let expected = json!([{
        "Unit": "web.service",
        "Container": format!("{} (web)", &id[..12]),
        "ContainerName": "web",
        "ContainerID": id,
        "Image": image,
        "Policy": "registry",
        "Updated": "false",
    }]);
    assert_eq!(shown, expected);
    // What was pulled, and its unit not started again, needs no more than that.
    push(&env, "updated", &version("three"));
    env.kelp(&["pull", "-q", &image]).succeeds();
    let done = update(&env, &[]);
    assert_eq!(done.exits(0), "web.service web registry true\n");
    assert_eq!(version_of(&env, "web", &image), ["three", "three"]);
    let events = ["events", "--stream=false", "--filter=event=auto-update"];
    assert_eq!(env.kelp(&events).succeeds().lines().count(), 4);
    remove_all(&env);
}

#[test]
fn a_unit_that_does_not_work_gets_its_old_image_back_and_that_once() {
    let Some(env) = Env::new() else { return };
    let systemd = Systemd::serve(&env);
    let image = push(&env, "rolled-back", &version("one"));
    // Nothing but the update itself keeps the old image from this.
    let prune = "\"$KELP\" rm -f -i -t 0 web >/dev/null; \"$KELP\" image prune -f >/dev/null; ";
    let script = format!("{prune}{}", unit("web", "registry", HEALTH, &image));
    systemd.start("web.service", &script);
    push(&env, "rolled-back", &bad("two"));
    let rolled_back = |done: Done| {
        let line = "web.service has its old image again: container web is unhealthy\n";
        assert!(done.stderr.ends_with(line), "{done:#?}");
        assert_eq!(done.exits(0), "web.service web registry rolled back\n");
        assert_eq!(systemd.restarted(), ["web.service"; 2]);
        assert_eq!(version_of(&env, "web", &image), ["one", "one"]);
    };
    rolled_back(update(&env, &[]));
    assert_eq!(names(&env.path("d/kelp/auto-update")).len(), 2);
    // The next run leaves it as it is, and says so.
    for flags in [&[][..], &["--dry-run"]] {
        let done = update(&env, flags);
        assert_eq!(done.stderr.lines().count(), 1, "{done:#?}");
        let begin = format!("container web: {image} is not updated to sha256:");
        assert!(done.stderr.starts_with(&begin), "{done:#?}");
        let end = format!("(container web is unhealthy): kelp pull {image} has it tried again\n");
        assert!(done.stderr.ends_with(&end), "{done:#?}");
        assert_eq!(done.exits(0), "web.service web registry false\n");
    }
    assert_eq!(systemd.restarted(), [""; 0]);
    // Unless somebody pulls it by hand.
    env.kelp(&["pull", "-q", &image]).succeeds();
    rolled_back(update(&env, &[]));
    assert_eq!(
        update(&env, &[]).exits(0),
        "web.service web registry false\n"
    );
    assert_eq!(systemd.restarted(), [""; 0]);
    // Or there is another one.
    push(&env, "rolled-back", &version("three"));
    assert_eq!(
        update(&env, &[]).exits(0),
        "web.service web registry true\n"
    );
    assert_eq!(version_of(&env, "web", &image), ["three", "three"]);
    assert_eq!(names(&env.path("d/kelp/auto-update")), ["lock"]);
    remove_all(&env);
}

#[test]
fn a_restart_is_what_its_job_and_its_container_came_to() {
    let Some(env) = Env::new() else { return };
    let systemd = Systemd::serve(&env);
    let one = push(&env, "results", &version("one"));
    let start = |flags: &str| {
        remove_all(&env);
        env.kelp(&["pull", "-q", &one]).succeeds();
        systemd.start("web.service", &unit("web", "registry", flags, &one));
    };
    // With the new image alone the script does as each of these says.
    let only_new = |then: &str| {
        let is_new =
            "[ \"$(\"$KELP\" image inspect -f '{{.Config.Labels.version}}' $IMAGE)\" != one ]";
        let is_new = is_new.replace("$IMAGE", &one);
        format!(
            "{}; if {is_new}; then {then}; fi",
            unit("web", "registry", HEALTH, &one)
        )
    };
    for (number, (then, why)) in [
        (
            "exit 1",
            "the restart of web.service has come to \"failed\"",
        ),
        (
            "echo '=> timeout failed failed'",
            "the restart of web.service took too long (timeout)",
        ),
        (
            "echo '=> dependency inactive dead'",
            "web.service was not started, because what it needs failed (dependency)",
        ),
        (
            "echo '=> skipped inactive dead'",
            "the restart of web.service has come to \"skipped\"",
        ),
        (
            "echo '=> done activating auto-restart'",
            "web.service is activating/auto-restart after its restart",
        ),
        (
            "\"$KELP\" rm -f -t 0 web >/dev/null",
            "web.service runs no container web",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        push(&env, "results", &version("one"));
        start(HEALTH);
        systemd.replace("web.service", &only_new(then));
        push(&env, "results", &version(&format!("new {number}")));
        let done = update(&env, &[]);
        let line = format!("web.service has its old image again: {why}\n");
        assert!(done.stderr.ends_with(&line), "{done:#?}");
        assert_eq!(done.exits(0), "web.service web registry rolled back\n");
        assert_eq!(systemd.restarted(), ["web.service"; 2]);
        assert_eq!(version_of(&env, "web", &one), ["one", "one"]);
    }
    // Where somebody else has stopped the unit, it stays as they want it, and nothing is held against the image.
    systemd.replace("web.service", &only_new("echo '=> canceled inactive dead'"));
    push(&env, "results", &version("canceled"));
    let done = update(&env, &[]);
    let line =
        "Error: update container web: the restart of web.service was canceled by somebody else\n";
    assert!(done.stderr.ends_with(line), "{done:#?}");
    assert_eq!(done.exits(125), "web.service web registry failed\n");
    assert_eq!(systemd.restarted(), ["web.service"]);
    assert_eq!(version_of(&env, "web", &one), ["canceled", "one"]);
    remove_all(&env);
}

#[test]
fn a_label_names_the_file_with_the_credentials() {
    let Some(env) = Env::new() else { return };
    let systemd = Systemd::serve(&env);
    let registry = Registry::locked(|plain| {
        version("one").push(plain, "private", "1");
    });
    let address = registry.address.as_str();
    let certificates = env.path("c/containers/certs.d").join(address);
    fs::create_dir_all(&certificates).unwrap();
    fs::copy(registry.certificate(), certificates.join("ca.crt")).unwrap();
    let image = format!("{address}/private:1");
    let file = env.path("h/auth.json");
    let file = file.to_str().unwrap();
    env.kelp(&[
        "login",
        "--authfile",
        file,
        "-u",
        USER.0,
        "--password-stdin",
        address,
    ])
    .input(USER.1.as_bytes())
    .succeeds();
    env.kelp(&["pull", "-q", "--authfile", file, &image])
        .succeeds();
    // Without it the registry tells nothing.
    systemd.start("web.service", &unit("web", "registry", "", &image));
    let done = update(&env, &[]);
    assert_eq!(done.code, 125, "{done:#?}");
    assert!(done.stderr.contains("unauthorized"), "{done:#?}");
    let flags = format!("--label io.containers.autoupdate.authfile={file}");
    systemd.start("web.service", &unit("web", "registry", &flags, &image));
    let done = update(&env, &[]);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (0, "web.service web registry false\n"),
        "{done:#?}"
    );
    remove_all(&env);
}

#[test]
fn a_container_without_checks_has_to_run_for_a_while() {
    let Some(env) = Env::new() else { return };
    let systemd = Systemd::serve(&env);
    let image = push(&env, "settles", &version("one"));
    systemd.start("web.service", &unit("web", "registry", "", &image));
    let dies = version("two").layer(Layer::default().file("dies", 0o644, b""));
    push(&env, "settles", &dies);
    let done = update(&env, &[]);
    assert!(
        done.stderr.ends_with("web.service runs no container web\n"),
        "{done:#?}"
    );
    assert_eq!(done.exits(0), "web.service web registry rolled back\n");
    assert_eq!(version_of(&env, "web", &image), ["one", "one"]);
    remove_all(&env);
}

#[test]
fn what_fails_keeps_nobody_else_from_an_update() {
    let Some(env) = Env::new() else { return };
    let systemd = Systemd::serve(&env);
    let gone = Registry::own();
    version("one").push(&http::Registry(&gone.address), "gone", "1");
    let lost = format!("{}/gone:1", gone.address);
    env.kelp(&["pull", "-q", "--tls-verify=false", &lost])
        .succeeds();
    let image = push(&env, "others", &version("one"));
    let of_a = push(&env, "of-a", &version("one"));
    systemd.start("a.service", &unit("a", "registry", HEALTH, &of_a));
    systemd.start("lost.service", &unit("lost", "registry", HEALTH, &lost));
    systemd.start("z.service", &unit("z", "registry", HEALTH, &image));
    let label = "io.containers.autoupdate=registry";
    for (name, flags) in [
        ("nounit", &["--label", label][..]),
        (
            "unknown",
            &["--label", label, "--label=PODMAN_SYSTEMD_UNIT=no.service"],
        ),
        ("without", &[]),
    ] {
        let words = [
            &[
                "run",
                "-d",
                "--name",
                name,
                "--network=none",
                "--stop-timeout=0",
                "--cgroups=disabled",
            ],
            flags,
            &[image.as_str(), "sleep", "1000"],
        ];
        env.kelp(&words.concat()).succeeds();
    }
    drop(gone);
    systemd.replace("a.service", "exit 1");
    push(&env, "others", &version("two"));
    push(&env, "of-a", &version("two"));
    let done = update(&env, &["--tls-verify=false"]);
    let errors: Vec<_> = done
        .stderr
        .lines()
        .filter(|line| line.starts_with("Error: "))
        .collect();
    assert_eq!(errors.len(), 4, "{done:#?}");
    assert_eq!(
        errors[0],
        "Error: update container nounit: it has no label PODMAN_SYSTEMD_UNIT: a unit of systemd's has to make it, \
         with Environment=PODMAN_SYSTEMD_UNIT=%n as Quadlet's have it"
    );
    let failed = "the restart of a.service has come to \"failed\"";
    assert_eq!(
        errors[1],
        format!("Error: update container a: {failed}; and with the old image: {failed}")
    );
    assert!(
        errors[2].starts_with("Error: update container lost: "),
        "{done:#?}"
    );
    assert_eq!(
        errors[3],
        "Error: update container unknown: systemd knows no unit no.service, in which the container should run"
    );
    let expected = "\
a.service a registry failed
lost.service lost registry failed
no.service unknown registry failed
z.service z registry true
";
    assert_eq!(done.exits(125), expected);
    assert_eq!(systemd.restarted(), ["a.service", "a.service", "z.service"]);
    assert_eq!(version_of(&env, "lost", &lost), ["one", "one"]);
    assert_eq!(version_of(&env, "z", &image), ["two", "two"]);
    assert_eq!(version_of(&env, "a", &of_a), ["one", "one"]);
    // Without the way back the new image stays.
    systemd.replace("z.service", "exit 1");
    push(&env, "others", &version("three"));
    env.kelp(&["rm", "-f", "-t0", "nounit", "unknown", "lost", "a"])
        .succeeds();
    let done = update(&env, &["--rollback=false"]);
    let line = "Error: update container z: the restart of z.service has come to \"failed\"\n";
    assert!(done.stderr.ends_with(line), "{done:#?}");
    assert_eq!(done.exits(125), "z.service z registry failed\n");
    assert_eq!(systemd.restarted(), ["z.service"]);
    assert_eq!(version_of(&env, "z", &image), ["two", "three"]);
    remove_all(&env);
}

#[test]
fn an_image_that_was_made_here_is_found_by_its_name() {
    let Some(env) = Env::new() else { return };
    let systemd = Systemd::serve(&env);
    let [one, two, ill] = [
        push(&env, "local-one", &version("one")),
        push(&env, "local-two", &version("two")),
        push(&env, "local-ill", &bad("ill")),
    ];
    env.kelp(&["pull", "-q", &one, &two, &ill]).succeeds();
    let tag = |image: &str| env.kelp(&["tag", image, "app:1"]).succeeds();
    tag(&one);
    // Both are of one unit, which is started again once.
    let script = format!(
        "{} && {}",
        unit("front", "local", HEALTH, "localhost/app:1"),
        unit("back", "local", HEALTH, "app:1")
    );
    systemd.start("app.service", &script);
    let both = |result: &str| {
        format!("app.service front local {result}\napp.service back local {result}\n")
    };
    assert_eq!(update(&env, &[]).exits(0), both("false"));
    tag(&two);
    assert_eq!(update(&env, &["--dry-run"]).exits(0), both("pending"));
    assert_eq!(systemd.restarted(), [""; 0]);
    assert_eq!(update(&env, &[]).exits(0), both("true"));
    assert_eq!(systemd.restarted(), ["app.service"]);
    for name in ["front", "back"] {
        assert_eq!(version_of(&env, name, "app:1"), ["two", "two"]);
    }
    tag(&ill);
    assert_eq!(update(&env, &[]).exits(0), both("rolled back"));
    assert_eq!(systemd.restarted(), ["app.service"; 2]);
    assert_eq!(version_of(&env, "back", "app:1"), ["two", "two"]);
    assert_eq!(update(&env, &[]).exits(0), both("false"));
    assert_eq!(systemd.restarted(), [""; 0]);
    remove_all(&env);
}

#[test]
fn who_shares_an_image_that_is_taken_back_is_named() {
    let Some(env) = Env::new() else { return };
    let systemd = Systemd::serve(&env);
    let image = push(&env, "shared", &version("one"));
    let always = "--health-cmd=true --health-interval=50ms";
    systemd.start("a.service", &unit("a", "registry", always, &image));
    systemd.start("b.service", &unit("b", "registry", HEALTH, &image));
    systemd.start("c.service", &unit("c", "registry", always, &image));
    push(&env, "shared", &bad("two"));
    let done = update(&env, &[]);
    let told: Vec<_> = done.stderr.lines().rev().take(3).collect();
    assert_eq!(
        told[2],
        "b.service has its old image again: container b is unhealthy"
    );
    let shares = format!(
        "a.service runs with the new image of {image}, and has the old one from its next start on"
    );
    assert_eq!(told[1], shares);
    assert!(told[0].starts_with("container c: "), "{done:#?}");
    let expected = "\
a.service a registry true
b.service b registry rolled back
c.service c registry false
";
    assert_eq!(done.exits(0), expected);
    assert_eq!(version_of(&env, "a", &image), ["two", "one"]);
    assert_eq!(version_of(&env, "c", &image), ["one", "one"]);
    remove_all(&env);
}

#[test]
fn labels_that_no_update_can_follow_are_refused() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let create = |label: &str, image: &str| {
        let label = format!("io.containers.autoupdate={label}");
        env.kelp(&["create", "--label", &label, image]).fails(125)
    };
    assert_eq!(
        create("daily", &image),
        "Error: invalid auto-update policy \"daily\": label io.containers.autoupdate is registry, local or disabled"
    );
    let id = env.kelp(&["images", "-q", "--no-trunc"]).succeeds();
    for (image, why) in [
        ("busybox", "no registry is named"),
        (id.trim(), "an image's id"),
    ] {
        let line = create("registry", image);
        assert!(line.contains(why), "{line}");
    }
    // One at a time.
    env.kelp(&["auto-update"]).succeeds();
    let lock = fs::File::open(env.path("d/kelp/auto-update/lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(
        env.kelp(&["auto-update"]).fails(125),
        "Error: another kelp auto-update is at work: wait for its end"
    );
    env.kelp(&["auto-update", "--dry-run"]).succeeds();
    drop(lock);
    assert_eq!(
        env.kelp(&["auto-update", "--format=json"]).succeeds(),
        "[]\n"
    );
}
