//! `commit`, `export` and `import`: images from containers and archives.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use crate::archive::Layer;
use crate::env::Env;
use crate::image::Image;
use crate::terminal::Terminal;

/// What capabilities(7) calls VFS_CAP_REVISION_2: `cap_net_raw`, permitted and effective.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// acl(5) as an attribute: the owner rw, user 7 r, the group r, mask r, others none.
const ACL: &[u8] = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\x07\0\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";

fn base() -> Image {
    Image::busybox()
        .layer(
            Layer::default()
                .file("srv/gone", 0o644, b"x")
                .directory("srv/d", 0o755)
                .file("srv/d/below", 0o644, b"x")
                .file("srv/kept", 0o644, b"kept\n")
                .file("srv/first", 0o644, b"one\n")
                .hardlink("srv/second", "srv/first")
                .file_with_xattrs(
                    "srv/cap",
                    0o755,
                    (1, 2),
                    &[("security.capability", CAPABILITY)],
                )
                .file_with_xattrs("srv/set", 0o4755, (7, 8), &[("user.a", b"b")])
                .file_with_xattrs(
                    "srv/acl",
                    0o640,
                    (0, 0),
                    &[("system.posix_acl_access", ACL)],
                ),
        )
        .set("Labels", json!({"of": "base"}))
        .set("Env", json!(["PATH=/usr/bin:/bin", "OF=base"]))
}

/// What a container does to it.
const CHANGE: &str = "cd /srv; rm gone; rm -r d; mkdir d; echo z > d/own; echo new > new; ln new again; \
     chown 5:6 new; chmod 2755 new; ln -s new link; mkfifo pipe; chmod 750 cap; truncate -s 1G sparse; \
     echo end >> sparse; mkdir /opt; chmod 700 /opt; chmod 4711 set; chmod 600 acl";

/// What is seen of it afterwards.
const SHOW: &str = "cd /srv; ls -R .; stat -c '%n %u:%g %a %h %s %F' *; cat kept first new d/own; \
     readlink link; stat -c %a /opt; tail -c 4 sparse; [ new -ef again ] && echo linked";

/// The archive of the topmost layer of an image in docker's format, whose layers are gzip.
fn top_layer(env: &Env, image: &str) -> Vec<u8> {
    let inspect = ["image", "inspect", "-f", "{{.Digest}}", image];
    let blob = |digest: &str| {
        let hex = digest.trim().strip_prefix("sha256:").unwrap();
        fs::read(env.path("d/kelp/blobs/sha256").join(hex)).unwrap()
    };
    let manifest: Value = serde_json::from_slice(&blob(&env.kelp(&inspect).succeeds())).unwrap();
    let layer = manifest["layers"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .clone();
    assert_eq!(
        layer["mediaType"],
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
    );
    let mut archive = Vec::new();
    flate2::read::MultiGzDecoder::new(&blob(layer["digest"].as_str().unwrap())[..])
        .read_to_end(&mut archive)
        .unwrap();
    archive
}

/// What tar(1) says of an archive: kind and mode, owners and name, without links' targets.
fn listed(env: &Env, archive: &[u8]) -> Vec<String> {
    let file = env.path("h/listed.tar");
    fs::write(&file, archive).unwrap();
    let tar = Command::new("tar")
        .args(["--numeric-owner", "-tvf"])
        .arg(&file)
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    assert!(
        tar.status.success(),
        "{}",
        String::from_utf8_lossy(&tar.stderr)
    );
    String::from_utf8(tar.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let mut words = line.split_whitespace();
            let mut word = || words.next().unwrap().to_owned();
            let (mode, owner, _, _, _, name) = (word(), word(), word(), word(), word(), word());
            format!("{mode} {owner} {name}")
        })
        .collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn inspected(env: &Env, image: &str) -> Value {
    let text = env.kelp(&["image", "inspect", image]).succeeds();
    let list: Value = serde_json::from_str(&text).unwrap();
    list[0].clone()
}

/// Leaves a container `c` of an image in which a shell has run a script.
fn change(env: &Env, image: &str, script: &str) {
    let flags = ["run", "--name", "c", "--network", "none"];
    env.kelp(&[&flags[..], &[image, "sh", "-c", script]].concat())
        .succeeds();
}

/// What a shell prints in an image.
fn prints(env: &Env, image: &str, script: &str) -> String {
    let flags = ["run", "--rm", "--network", "none"];
    env.kelp(&[&flags[..], &[image, "sh", "-c", script]].concat())
        .succeeds()
}

#[test]
fn a_commit_has_all_that_the_container_wrote() {
    for env in Env::each() {
        let image = env.image("commit-base", &base);
        change(&env, &image, CHANGE);
        let id = env.kelp(&["commit", "-q", "c", "made"]).succeeds();
        assert_eq!((id.trim().len(), id.ends_with('\n')), (64, true), "{id}");
        env.kelp(&["start", "c"]).succeeds();
        env.kelp(&["wait", "c"]).succeeds();
        let shown = |image: &str| prints(&env, image, SHOW);
        let made = shown("made");
        for line in [
            "new 5:6 2755 2 4 regular file",
            "set 7:8 4711 1 1 regular file",
            "cap 1:2 750 1 1 regular file",
            "pipe 0:0 644 1 0 fifo",
            "sparse 0:0 644 1 1073741828 regular file",
            "linked",
            "700",
        ] {
            assert!(made.lines().any(|found| found == line), "{line}: {made}");
        }
        assert!(!made.contains("gone") && !made.contains("below"), "{made}");
        // In one layer it is the same, and so it is as docker's.
        let squash = ["commit", "-q", "-s", "-f", "docker", "c", "one"];
        env.kelp(&squash).succeeds();
        let one = shown("one");
        // Two names of one file stay one file in a single layer too.
        assert_eq!(one, made);
        assert_eq!(
            inspected(&env, "one")["RootFS"]["Layers"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        env.kelp(&["commit", "-q", "-f", "docker", "c", "docker"])
            .succeeds();
        for image in ["one", "docker"] {
            let archive = top_layer(&env, image);
            assert!(archive.len() < 8 << 20, "the hole is no zeros");
            for attribute in [
                [b"SCHILY.xattr.security.capability=", CAPABILITY].concat(),
                b"SCHILY.xattr.user.a=b\n".to_vec(),
            ] {
                assert!(contains(&archive, &attribute), "{image}");
            }
            assert!(contains(&archive, b"SCHILY.xattr.system.posix_acl_access="));
            assert!(!contains(&archive, b"user.overlay") && !contains(&archive, b"user.kelp"));
        }
        env.kelp(&["rm", "c"]).succeeds();
    }
}

#[test]
fn a_layer_is_the_difference_in_the_order_of_names() {
    let Some(env) = Env::new() else { return };
    let image = env.image("commit-base", &base);
    let run = [
        "run",
        "--name",
        "c",
        "--network",
        "none",
        &image,
        "sh",
        "-c",
    ];
    env.kelp(&[&run[..], &[CHANGE]].concat()).succeeds();
    env.kelp(&["commit", "-f", "docker", "c", "docker"])
        .succeeds();
    let archive = top_layer(&env, "docker");
    let list = listed(&env, &archive);
    let srv: Vec<_> = list.iter().filter(|line| line.contains(" srv/")).collect();
    assert_eq!(
        srv,
        [
            "drwxr-xr-x 0/0 srv/",
            "-rw------- 0/0 srv/acl",
            "-rwxr-sr-x 5/6 srv/again",
            "-rwxr-x--- 1/2 srv/cap",
            "drwxr-xr-x 0/0 srv/d/",
            "-rw------- 0/0 srv/d/.wh..wh..opq",
            "-rw-r--r-- 0/0 srv/d/own",
            "-rw------- 0/0 srv/.wh.gone",
            "lrwxrwxrwx 0/0 srv/link",
            "hrwxr-sr-x 5/6 srv/new",
            "prw-r--r-- 0/0 srv/pipe",
            "-rws--x--x 7/8 srv/set",
            "-rw-r--r-- 0/0 srv/sparse",
        ]
    );
    // The same again is the same layer.
    let layers = |image: &str| inspected(&env, image)["RootFS"]["Layers"].clone();
    let first = layers("docker");
    env.kelp(&["commit", "-f", "docker", "c", "docker"])
        .succeeds();
    assert_eq!(layers("docker"), first);
    env.kelp(&["rm", "c"]).succeeds();
}

#[test]
fn owners_are_those_that_the_container_sees() {
    let Some(env) = Env::new() else { return };
    let image = env.image("commit-base", &base);
    let maps: [&[&str]; 4] = [
        &["--userns", "keep-id"],
        &["--userns", "nomap"],
        &["--userns", "auto:size=2000"],
        &["--uidmap", "0:0:1", "--gidmap", "0:0:1"],
    ];
    for map in maps {
        let single = map.contains(&"0:0:1");
        let change = if single {
            "echo more >> /srv/acl; chmod 755 /srv/set; echo x > /srv/own"
        } else {
            "echo more >> /srv/acl; chmod 4755 /srv/set; echo x > /srv/own; chown 3:4 /srv/own"
        };
        let run = ["run", "--name", "c", "--network", "none", "--user", "0"];
        let program = [image.as_str(), "sh", "-c", change];
        env.kelp(&[&run[..], map, &program].concat()).succeeds();
        env.kelp(&["commit", "-f", "docker", "c", "made"])
            .succeeds();
        let list = listed(&env, &top_layer(&env, "made"));
        let own = if single { "0/0" } else { "3/4" };
        for line in [
            "-rwsr-xr-x 7/8 srv/set".to_owned(),
            format!("-rw-r--r-- {own} srv/own"),
            "drwxr-xr-x 0/0 srv/".to_owned(),
        ] {
            assert!(list.contains(&line), "{map:?}: {line}: {list:#?}");
        }
        let export = env.kelp(&["export", "-o", &env.word("h/out.tar"), "c"]);
        assert_eq!(export.succeeds(), "");
        let list = listed(&env, &fs::read(env.path("h/out.tar")).unwrap());
        for line in ["-rwxr-xr-x 1/2 srv/cap", "-rwsr-xr-x 7/8 srv/set"] {
            assert!(list.iter().any(|found| found == line), "{map:?}: {list:#?}");
        }
        env.kelp(&["rm", "c"]).succeeds();
        env.kelp(&["rmi", "made"]).done().exits(0);
    }
}

#[test]
fn the_configuration_is_the_containers_and_what_is_asked_for() {
    let Some(env) = Env::new() else { return };
    let image = env.image("commit-base", &base);
    let id = env
        .kelp(&[
            "create",
            "--name",
            "c",
            "-e",
            "FOO=bar",
            "--user",
            "5:6",
            "--workdir",
            "/tmp",
            "--expose",
            "99",
            "--label",
            "q=r",
            "-v",
            "/anon",
            "-v",
            "named:/named",
            &image,
            "sleep",
            "1",
        ])
        .succeeds();
    let file = env.path("h/config.json");
    fs::write(&file, r#"{"Env": ["FOO=baz"], "Labels": {"m": "n"}}"#).unwrap();
    let made = env
        .kelp(&[
            "container",
            "commit",
            "--author",
            "me",
            "-c",
            "CMD [\"x\"]",
            "--change",
            "LABEL s=t",
            "--config",
            file.to_str().unwrap(),
            "--iidfile",
            &env.word("h/iid"),
            "-f",
            "docker",
            "-m",
            "a remark",
            id.trim(),
            "made:1",
        ])
        .succeeds();
    assert_eq!(fs::read_to_string(env.path("h/iid")).unwrap(), made.trim());
    let shown = inspected(&env, "localhost/made:1");
    assert_eq!(shown["Id"], made.trim());
    assert_eq!(shown["Author"], "me");
    assert_eq!(shown["Comment"], "a remark");
    let config = &shown["Config"];
    assert_eq!(config["Cmd"], json!(["x"]));
    assert_eq!(
        config["Env"],
        json!(["PATH=/usr/bin:/bin", "OF=base", "FOO=baz"])
    );
    assert_eq!(
        config["Labels"],
        json!({"of": "base", "q": "r", "s": "t", "m": "n"})
    );
    assert_eq!(
        (&config["User"], &config["WorkingDir"]),
        (&json!("5:6"), &json!("/tmp"))
    );
    assert_eq!(config["ExposedPorts"], json!({"99/tcp": {}}));
    assert_eq!(config["Volumes"], json!({"/anon": {}}));
    let history = shown["History"].as_array().unwrap();
    let last = history.last().unwrap();
    assert_eq!(last["author"], "me");
    assert_eq!(last["comment"], format!("FROM {image}"));
    assert_eq!(
        history.len(),
        inspected(&env, &image)["History"].as_array().unwrap().len() + 1
    );
    // A name is taken from the image that had it.
    let include = ["commit", "--include-volumes", "c", "made:1"];
    let second = env.kelp(&include).succeeds();
    let shown = inspected(&env, "made:1");
    assert_eq!(shown["Id"], second.trim());
    assert_eq!(
        shown["Config"]["Volumes"],
        json!({"/anon": {}, "/named": {}})
    );
    assert_eq!(inspected(&env, made.trim())["RepoTags"], json!([]));
    let events = [
        "events",
        "--stream=false",
        "--filter",
        "event=commit",
        "--format",
        "{{.Name}}",
    ];
    assert_eq!(env.kelp(&events).succeeds(), "c\nc\n");
    env.kelp(&["rm", "-v", "c"]).succeeds();
}

#[test]
fn a_commit_that_cannot_be_says_why() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    env.kelp(&["create", "--name", "c", &image, "true"])
        .succeeds();
    for (words, said) in [
        (
            &["-m", "x", "c", "made"][..],
            "messages are only compatible with the docker image format (-f docker)",
        ),
        (&["-f", "foo", "c"], "unrecognized image format \"foo\""),
        (
            &["nothing"],
            "no container with name or ID \"nothing\" found: no such container",
        ),
        (&["c", "Upper"], "the repository must be lower case"),
        (
            &["-c", "FOO bar", "c"],
            "invalid change \"FOO bar\" - invalid instruction FOO",
        ),
    ] {
        let line = env.kelp(&[&["commit"], words].concat()).fails(125);
        assert!(line.contains(said), "{said}: {line}");
    }
    let images = env.kelp(&["images", "-a", "-q"]).succeeds();
    assert_eq!(images.lines().count(), 1);
    env.kelp(&["rm", "c"]).succeeds();
    let root = env.path("h/root");
    crate::image::busybox_root(&root, &["tmp", "proc", "dev", "sys"], &["true"]);
    let root = root.to_str().unwrap();
    env.kelp(&["create", "--name", "r", "--rootfs", root, "true"])
        .succeeds();
    let line = env.kelp(&["commit", "r"]).fails(125);
    assert!(line.contains("its root is a directory"), "{line}");
    env.kelp(&["rm", "r"]).succeeds();
}

#[test]
fn a_container_that_runs_can_be_committed_and_goes_on() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "echo there > /srv-file; while :; do echo x > /tmp/a; rm /tmp/a; done";
    let run = [
        "run",
        "-d",
        "--name",
        "c",
        "--network",
        "none",
        &image,
        "sh",
        "-c",
        script,
    ];
    env.kelp(&run).succeeds();
    for flags in [&[][..], &["--pause"], &["--pause", "--squash"]] {
        let words = [&["commit", "-q"], flags, &["c", "made"]].concat();
        env.kelp(&words).succeeds();
        let state = ["inspect", "-f", "{{.State.Status}}", "c"];
        assert_eq!(env.kelp(&state).succeeds(), "running\n");
        assert_eq!(prints(&env, "made", "cat /srv-file"), "there\n");
    }
    let export = env.kelp(&["export", "-o", &env.word("h/out.tar"), "c"]);
    export.succeeds();
    let list = listed(&env, &fs::read(env.path("h/out.tar")).unwrap());
    assert!(list.contains(&"-rw-r--r-- 0/0 srv-file".to_owned()));
    // What the kernel and the host show in a container is none of it.
    let inner = |line: &&String| line.contains(" proc/") || line.contains(" sys/");
    assert_eq!(list.iter().filter(inner).count(), 2, "{list:#?}");
    env.kelp(&["rm", "-f", "-t", "0", "c"]).succeeds();
}

#[test]
fn an_export_comes_back_as_an_import() {
    for env in Env::each() {
        let image = env.image("commit-base", &base);
        change(&env, &image, &CHANGE.replace("1G", "1M"));
        let file = env.word("h/out.tar");
        env.kelp(&["export", "-o", &file, "c"]).succeeds();
        let archive = fs::read(&file).unwrap();
        assert!(contains(&archive, b"srv/sparse") && !contains(&archive, b"GNU.sparse"));
        env.kelp(&["commit", "c", "made"]).succeeds();
        let import = [
            "import",
            "-q",
            "-c",
            "ENV PATH=/bin:/usr/bin",
            "--change",
            "CMD [\"sh\"]",
            "-m",
            "mine",
            "-",
            "back:1",
        ];
        let id = env.kelp(&import).input(&archive).succeeds();
        let shown = inspected(&env, "localhost/back:1");
        assert_eq!(format!("sha256:{}\n", shown["Id"].as_str().unwrap()), id);
        assert_eq!(
            shown["Config"],
            json!({"Env": ["PATH=/bin:/usr/bin"], "Cmd": ["sh"]})
        );
        assert_eq!(shown["History"][0]["comment"], "mine");
        let show = |image: &str| prints(&env, image, SHOW);
        assert_eq!(show("back:1"), show("made"));
        env.kelp(&["rm", "c"]).succeeds();
        // Compressed, from a file, and for another machine.
        let packed = env.word("h/out.tar.gz");
        let mut encoder = flate2::write::GzEncoder::new(
            fs::File::create(&packed).unwrap(),
            flate2::Compression::fast(),
        );
        encoder.write_all(&archive).unwrap();
        encoder.finish().unwrap();
        let other = [
            "import",
            "--os",
            "linux",
            "--arch",
            "arm",
            "--variant",
            "v7",
            &packed,
        ];
        let other = env.kelp(&other).succeeds();
        let other = inspected(&env, other.trim());
        assert_eq!(
            (&other["Architecture"], &other["Variant"]),
            (&json!("arm"), &json!("v7"))
        );
        assert_eq!(other["RootFS"], shown["RootFS"]);
        assert_eq!(other["RepoTags"], json!([]));
    }
}

#[test]
fn an_import_takes_a_url_and_nothing_that_is_cut() {
    let Some(env) = Env::new() else { return };
    let archive = Layer::default().file("marker", 0o644, b"whole\n").finish();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/root.tar", listener.local_addr().unwrap());
    let served = archive.clone();
    let server = thread::spawn(move || {
        for (answer, body) in [
            ("302 Found\r\nLocation: /else", &[][..]),
            ("200 OK", &served[..]),
            ("200 OK", &served[..700]),
            ("404 Not Found", &[][..]),
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let length = if answer == "200 OK" { served.len() } else { 0 };
            let head = format!(
                "HTTP/1.1 {answer}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
            );
            stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        }
    });
    env.kelp(&["import", "-q", &url, "from-url"]).succeeds();
    let shown = inspected(&env, "from-url");
    assert_eq!(
        shown["RootFS"]["Layers"],
        json!([crate::image::digest(&archive)])
    );
    let images = || env.kelp(&["images", "-a", "-q"]).succeeds().lines().count();
    assert_eq!(images(), 1);
    env.kelp(&["import", &url, "cut"]).fails(125);
    let line = env.kelp(&["import", &url, "none"]).fails(125);
    assert!(
        line.ends_with("the server answered 404 Not Found"),
        "{line}"
    );
    server.join().unwrap();
    // What is no archive, one that leads outside, and one that is not there.
    env.kelp(&["import", "-", "cut"])
        .input(&archive[..700])
        .fails(125);
    env.kelp(&["import", "-", "cut"])
        .input(&[b'x'; 4096])
        .fails(125);
    let line = env.kelp(&["import", &env.word("h/none"), "cut"]).fails(125);
    assert!(line.contains("h/none: no such file or directory"), "{line}");
    assert_eq!(images(), 1);
    env.kelp(&["system", "prune", "-f"]).succeeds();
    assert_eq!(fs::read_dir(env.path("d/kelp/tmp")).unwrap().count(), 0);
}

#[test]
fn an_export_is_not_for_a_terminal() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    env.kelp(&["create", "--name", "c", &image, "true"])
        .succeeds();
    let (code, said) = Terminal::start(env.kelp(&["export", "c"])).finish();
    assert_eq!(code, 125);
    assert!(
        said.contains("refusing to export to terminal. Use -o flag or redirect"),
        "{said}"
    );
    let line = env
        .kelp(&["export", "-o", "/nonexistent/x", "c"])
        .fails(125);
    assert_eq!(
        line,
        "Error: create /nonexistent/x: no such file or directory"
    );
    let piped = env.kelp(&["container", "export", "c"]).done();
    assert_eq!((piped.code, piped.stderr.as_str()), (0, ""));
    assert!(piped.stdout.contains("bin/busybox"));
    env.kelp(&["rm", "c"]).succeeds();
}
