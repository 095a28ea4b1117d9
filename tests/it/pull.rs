//! Images from a registry: layers, whiteouts, configuration, TLS and passwords.

use std::fs;

use serde_json::{Value, json};

use crate::archive::Layer;
use crate::env::Env;
use crate::image::Image;
use crate::kelp::Kelp;
use crate::registry::{Registry, USER};
use crate::skip::{has_program, skip};
use crate::terminal::Terminal;

/// busybox with two layers that take away and add.
fn layered() -> Image {
    Image::busybox()
        .layer(
            Layer::default()
                .directory("a", 0o755)
                .file("a/kept", 0o644, b"1")
                .file("a/deleted", 0o644, b"2")
                .directory("b", 0o755)
                .file("b/hidden", 0o644, b"3")
                .file("replaced", 0o644, b"old")
                .owned_file("owned", 0o640, (1000, 2000), b"4")
                .hardlink("a/linked", "a/kept"),
        )
        .layer(
            Layer::default()
                .whiteout("a/deleted")
                .opaque("b")
                .file("b/shown", 0o644, b"5")
                .directory("replaced", 0o755)
                .file("replaced/now-a-directory", 0o644, b"6")
                .symlink("link", "a/kept"),
        )
}

#[test]
fn layers_add_up() {
    let Some(env) = Env::new() else { return };
    let image = env.image("layered", &layered);
    let script = "ls -d a/* b/* replaced/*; cat link; stat -c '%u %g %a' owned; stat -c %h a/kept";
    let text = env
        .kelp(&["run", "--rm", &image, "sh", "-c", script])
        .succeeds();
    assert_eq!(
        text,
        "a/kept\na/linked\nb/shown\nreplaced/now-a-directory\n11000 2000 640\n2\n"
    );
}

#[test]
fn pull_prints_the_id_and_images_lists_it() {
    let Some(env) = Env::new() else { return };
    let image = env.push("busybox", &Image::busybox);
    let id = env.kelp(&["pull", "-q", &image]).succeeds();
    let id = id.trim();
    assert_eq!(id.len(), 64, "{id}");
    let listed = env
        .kelp(&["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"])
        .succeeds();
    assert!(
        listed
            .lines()
            .any(|line| line == format!("{image} {}", &id[..12])),
        "{listed}"
    );
    env.kelp(&["image", "exists", &image]).done().exits(0);
    assert_eq!(
        env.kelp(&["run", "--rm", "--pull", "never", id, "echo", "x"])
            .succeeds(),
        "x\n"
    );
    env.kelp(&["rmi", &image]).done().exits(0);
    env.kelp(&["image", "exists", &image]).done().exits(1);
}

#[test]
fn the_configuration_is_shown() {
    let Some(env) = Env::new() else { return };
    let image = env.image("configured", &|| {
        Image::busybox()
            .set("ExposedPorts", json!({"80/tcp": {}}))
            .set("Volumes", json!({"/data": {}}))
            .set("Labels", json!({"maker": "kelp's tests"}))
            .set("StopSignal", json!("SIGQUIT"))
            .set("User", json!("user"))
            .set(
                "Healthcheck",
                json!({"Test": ["CMD", "true"], "Interval": 30_000_000_000_i64}),
            )
    });
    let text = env.kelp(&["image", "inspect", &image]).succeeds();
    let inspected: Value = serde_json::from_str(&text).unwrap();
    let config = &inspected[0]["Config"];
    assert_eq!(config["Labels"]["maker"], "kelp's tests", "{config:#}");
    assert_eq!(config["StopSignal"], "SIGQUIT");
    assert_eq!(config["User"], "user");
    assert_eq!(inspected[0]["Architecture"], "amd64");
    assert_eq!(
        env.kelp(&["run", "--rm", &image, "id", "-un"]).succeeds(),
        "user\n"
    );
}

#[test]
fn an_image_is_fetched_only_as_the_policy_says() {
    let Some(env) = Env::new() else { return };
    let image = env.push("busybox", &Image::busybox);
    let line = env
        .kelp(&["run", "--rm", "--pull", "never", &image, "true"])
        .fails(125);
    assert!(line.contains(&image), "{line}");
    let fetched = env.kelp(&["run", "--rm", &image, "echo", "x"]).done();
    assert!(fetched.stderr.contains(&image), "{fetched:#?}");
    assert_eq!(fetched.exits(0), "x\n");
    env.kelp(&["run", "--rm", "--pull", "never", &image, "true"])
        .succeeds();
}

#[test]
fn a_locked_registry_takes_the_right_password_and_certificate_only() {
    let Some(env) = Env::new() else { return };
    if !has_program("htpasswd") || !has_program("openssl") {
        return skip("htpasswd and openssl");
    }
    let registry = Registry::locked(|plain| {
        Image::busybox().push(plain, "private", "latest");
    });
    let image = format!("{}/private:latest", registry.address);
    let credentials = format!("{}:{}", USER.0, USER.1);
    let pull = |flags: &[&str]| env.kelp(&[&["pull", "-q"], flags, &[&image]].concat());
    // The certificate is nobody's that the host knows.
    pull(&["--creds", &credentials]).fails(125);
    let certificates = env.path("c/containers/certs.d").join(&registry.address);
    fs::create_dir_all(&certificates).unwrap();
    fs::copy(registry.certificate(), certificates.join("ca.crt")).unwrap();
    pull(&[]).fails(125);
    pull(&["--creds", "kelp:wrong"]).fails(125);
    pull(&["--creds", &credentials]).succeeds();
    env.kelp(&["rmi", &image]).done().exits(0);

    env.kelp(&["login", "-u", USER.0, "--password-stdin", &registry.address])
        .input(USER.1.as_bytes())
        .done()
        .exits(0);
    pull(&[]).succeeds();
    env.kelp(&["logout", &registry.address]).done().exits(0);
    env.kelp(&["rmi", &image]).done().exits(0);
    pull(&[]).fails(125);
}

/// A credential helper that keeps a file a server.
const HELPER: &str = r#"#!/bin/sh
cd "$HOME/kept" || exit
case $1 in
store) read -r line; server=${line#*ServerURL\":\"}; echo "$line" >"${server%%\"*}" ;;
get) read -r server; cat "$server" 2>/dev/null || { echo credentials not found; exit 1; } ;;
erase) read -r server; rm "$server" ;;
list) printf {; for f in *; do [ -e "$f" ] && printf '"%s":"u"' "$f"; done; echo } ;;
esac
"#;

#[test]
fn a_login_is_kept_by_the_helper_that_is_configured() {
    let Some(env) = Env::new() else { return };
    if !has_program("htpasswd") || !has_program("openssl") {
        return skip("htpasswd and openssl");
    }
    let registry = Registry::locked(|plain| {
        Image::busybox().push(plain, "private", "latest");
    });
    let address = registry.address.as_str();
    let certificates = env.path("c/containers/certs.d").join(address);
    fs::create_dir_all(&certificates).unwrap();
    fs::copy(registry.certificate(), certificates.join("ca.crt")).unwrap();
    fs::create_dir(env.path("h/kept")).unwrap();
    let helper = env.path("h/docker-credential-kelptest");
    fs::write(&helper, HELPER).unwrap();
    fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(
        env.path("c/containers/registries.conf"),
        "credential-helpers = [\"kelptest\"]\n",
    )
    .unwrap();
    let path = format!(
        "{}:{}",
        env.path("h").display(),
        std::env::var("PATH").unwrap()
    );
    let kelp = |words: &[&str]| {
        let mut command = env.kelp(words).into_command();
        command.env("PATH", &path);
        Kelp::new(command)
    };
    let login = || {
        let words = ["login", "-v", "-u", USER.0, "--password-stdin", address];
        kelp(&words).input(USER.1.as_bytes()).done().exits(0)
    };
    assert_eq!(
        login(),
        "Used: docker-credential-kelptest\nLogin Succeeded!\n"
    );
    assert!(env.path("h/kept").join(address).exists());
    assert_eq!(
        kelp(&["login", "--get-login", address]).succeeds(),
        format!("{}\n", USER.0)
    );
    kelp(&["pull", "-q", &format!("{address}/private")]).succeeds();
    kelp(&["logout", address]).succeeds();
    assert!(!env.path("h/kept").join(address).exists());
    login();
    kelp(&["logout", "--all"]).succeeds();
    assert_eq!(fs::read_dir(env.path("h/kept")).unwrap().count(), 0);
    kelp(&["login", "--get-login", address]).fails(125);
}

#[test]
fn a_short_name_with_several_meanings_is_a_question() {
    let Some(env) = Env::new() else { return };
    let full = env.push("shorty", &Image::busybox);
    let registry = env.registry().address.clone();
    let conf = |mode: &str| {
        let text = format!(
            "unqualified-search-registries = [\"127.0.0.1:1\", \"{registry}\"]\n\
             short-name-mode = \"{mode}\"\n\
             [[registry]]\nlocation = \"{registry}\"\ninsecure = true\n\
             [[registry]]\nlocation = \"127.0.0.1:1\"\ninsecure = true\n"
        );
        fs::write(env.path("c/containers/registries.conf"), text).unwrap();
    };
    conf("enforcing");
    let line = env.kelp(&["pull", "-q", "shorty"]).fails(125);
    assert!(line.contains("it could come from 127.0.0.1:1, "), "{line}");
    let mut terminal = Terminal::start(env.kelp(&["pull", "-q", "shorty"]));
    terminal.expect("shorty is a short name. Which one is meant?\r\n");
    terminal.expect(&format!("  2. {full}\r\n"));
    terminal.expect("give up: ");
    terminal.send(b"3\n");
    terminal.expect("\"3\" is none of them.\r\n");
    terminal.send(b"2\n");
    let (code, text) = terminal.finish();
    assert_eq!(code, 0, "{text}");
    // The answer is remembered.
    env.kelp(&["rmi", &full]).succeeds();
    env.kelp(&["pull", "-q", "shorty"]).succeeds();
    let names = env
        .kelp(&["images", "--format={{.Repository}}:{{.Tag}}"])
        .succeeds();
    assert_eq!(names, format!("{full}\n"));
    // Without an answer, and where that is enough, all are tried.
    fs::remove_file(env.path("h/.cache/containers/short-name-aliases.conf")).unwrap();
    env.kelp(&["rmi", &full]).succeeds();
    let mut terminal = Terminal::start(env.kelp(&["pull", "-q", "shorty"]));
    terminal.expect("give up: ");
    terminal.send(b"\n");
    let (code, text) = terminal.finish();
    assert_eq!(code, 125, "{text}");
    assert!(
        text.contains("short name shorty: no registry was chosen"),
        "{text}"
    );
    conf("disabled");
    let (code, _) = Terminal::start(env.kelp(&["pull", "-q", "--retry=0", "shorty"])).finish();
    assert_eq!(code, 0);
}
