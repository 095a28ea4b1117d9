//! Secrets: their store, what containers get of them, and where their values are not to be found.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use crate::archive::Layer;
use crate::env::{Env, names};
use crate::image::Image;
use crate::kelp::Kelp;
use crate::registry::{Registry, USER};
use crate::skip;
use crate::steps::{self, Blow, Counted};

/// A value that nothing else has.
const VALUE: &str = "open-sesame-4711";

/// Makes a secret, or gives it another value; its id.
fn put(env: &Env, name: &str, value: &str) -> String {
    let words = ["secret", "create", "--replace", name, "-"];
    let id = env.kelp(&words).input(value.as_bytes()).succeeds();
    id.trim_end().to_owned()
}

fn said(env: &Env, words: &[&str]) -> String {
    env.kelp(words).succeeds()
}

/// The files of the store beneath it, the modes of all included.
fn store(env: &Env) -> Vec<(PathBuf, u32)> {
    let mode = |path: &PathBuf| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    let all = env.path("d/kelp/secrets");
    let mut found = vec![(all.clone(), mode(&all))];
    for name in names(&all) {
        let own = all.join(name);
        found.push((own.clone(), mode(&own)));
        for file in names(&own) {
            found.push((own.join(&file), mode(&own.join(&file))));
        }
    }
    found
}

#[test]
fn secrets_are_made_listed_shown_and_removed() {
    let Some(env) = Env::new() else { return };
    assert_eq!(
        said(&env, &["secret", "ls"]),
        "ID          NAME        DRIVER      CREATED     UPDATED\n"
    );
    let file = env.word("h/value");
    fs::write(&file, VALUE).unwrap();
    let label = ["secret", "create", "-l", "a=b", "--label=c", "key", &file];
    let id = said(&env, &label);
    let id = id.trim_end();
    assert!(id.len() == 25 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let mut variable = env
        .kelp(&["secret", "create", "--env", "a b", "IT"])
        .into_command();
    variable.env("IT", "other");
    let other = Kelp::new(variable).succeeds();
    let list = said(
        &env,
        &[
            "secret",
            "ls",
            "-n",
            "--format",
            "table {{.ID}} {{.Name}} {{.Driver}}",
        ],
    );
    assert_eq!(
        list,
        format!("{} a b file\n{id} key file\n", other.trim_end())
    );
    assert_eq!(
        said(&env, &["secret", "list", "-q"]),
        format!("{other}{id}\n")
    );
    for (filter, expected) in [
        ("name=^k", "key\n"),
        ("name=y|b", "a b\nkey\n"),
        (&*format!("id={}", &id[..8]), "key\n"),
        ("name=none", ""),
    ] {
        let words = ["secret", "ls", "-f", filter, "--format", "{{.Name}}"];
        assert_eq!(said(&env, &words), expected, "{filter}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&said(&env, &["secret", "inspect", "key"])).unwrap();
    assert_eq!(json[0]["ID"], id);
    assert_eq!(json[0]["CreatedAt"], json[0]["UpdatedAt"]);
    let spec = serde_json::json!({
        "Name": "key",
        "Driver": { "Name": "file", "Options": { "path": env.word("d/kelp/secrets") } },
        "Labels": { "a": "b", "c": "" },
    });
    assert_eq!(json[0]["Spec"], spec);
    assert_eq!(json[0].get("SecretData"), None);
    let shown = [
        "secret",
        "inspect",
        "--showsecret",
        "-f",
        "{{.SecretData}}",
        &id[..6],
    ];
    assert_eq!(said(&env, &shown), format!("{VALUE}\n"));
    let pretty = said(&env, &["secret", "inspect", "--pretty", "key"]);
    assert!(
        pretty.contains("Name:              key\nLabels:\n - a=b\n - c\n"),
        "{pretty}"
    );
    assert!(!pretty.contains("Secret:"), "{pretty}");
    // Another value is another id; the labels are those of the last request.
    let again = put(&env, "key", "new");
    assert_ne!(again, id);
    let ignored = ["secret", "create", "--ignore", "key", &file];
    assert_eq!(said(&env, &ignored), format!("{again}\n"));
    let shown = [
        "secret",
        "inspect",
        "--showsecret",
        "-f",
        "{{.SecretData}} {{.Spec.Labels}}",
        "key",
    ];
    assert_eq!(said(&env, &shown), "new map[]\n");
    for (path, mode) in store(&env) {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{}", path.display());
    }
    for (name, code) in [("key", 0), (&again[..5], 0), ("ke", 1), ("../key", 1)] {
        let done = env.kelp(&["secret", "exists", name]).done();
        assert_eq!((done.code, done.stderr.as_str()), (code, ""), "{name}");
    }
    let line = env.kelp(&["secret", "rm", "none", "a b"]).fails(125);
    assert_eq!(
        line,
        "Error: no such secret: \"none\": kelp secret ls shows those that are here, kelp secret create makes one"
    );
    assert_eq!(said(&env, &["secret", "rm", "-i", "a b"]), "");
    // What it is called on the disk is a name of one that is damaged alone.
    let place = names(&env.path("d/kelp/secrets")).remove(0);
    env.kelp(&["secret", "rm", &place]).fails(125);
    assert_eq!(said(&env, &["secret", "rm", "--all"]), format!("{again}\n"));
    assert_eq!(store(&env).len(), 1);
}

#[test]
fn what_is_no_secret_is_refused_in_a_line() {
    let Some(env) = Env::new() else { return };
    put(&env, "key", VALUE);
    let size = "a secret's value has 1 to 512000 bytes: mount what is larger with --volume";
    let whole = vec![b'x'; 512_000];
    let create = ["secret", "create", "whole", "-"];
    env.kelp(&create).input(&whole).succeeds();
    for (words, input, expected) in [
        (
            &["none", "-"][..],
            &b""[..],
            "a secret's value has 1 to 512000 bytes: this one is empty",
        ),
        (&["none", "-"], &[&whole[..], b"x"].concat(), size),
        (
            &["key", "-"],
            b"x",
            "secret name \"key\" is in use: use --replace, or --ignore to leave it as it is",
        ),
        (
            &["--replace", "--ignore", "key", "-"],
            b"x",
            "--replace and --ignore exclude each other",
        ),
        (
            &["../x", "-"],
            b"x",
            "invalid secret name \"../x\": it has 1 to 253 bytes, without commas, slashes and equals signs",
        ),
        (
            &["--driver=pass", "none", "-"],
            b"x",
            "there is no secret driver \"pass\": use file",
        ),
        (
            &["--driver-opts=path=/x", "none", "-"],
            b"x",
            &format!(
                "the secret driver file has no option \"path=/x\": values are in {}",
                env.word("d/kelp/secrets")
            ),
        ),
        (
            &["--env", "none", "NO_SUCH_VARIABLE"],
            b"",
            "there is no variable NO_SUCH_VARIABLE, or it is empty: set it, or leave --env out",
        ),
        (
            &["none", "/no/such"],
            b"",
            "read /no/such: no such file or directory",
        ),
    ] {
        let words = [&["secret", "create"], words].concat();
        let line = env.kelp(&words).input(input).fails(125);
        assert_eq!(line, format!("Error: {expected}"), "{words:?}");
    }
    assert_eq!(
        env.kelp(&["secret", "rm"]).fails(125),
        "Error: you must provide at least one name or id"
    );
    assert_eq!(
        said(&env, &["secret", "ls", "--format={{.Name}}"]),
        "key\nwhole\n"
    );
}

/// The owners and modes that the container sees, wherever its root and its ids come from.
#[test]
fn a_secret_is_a_file_with_an_owner_and_a_mode() {
    const LOOK: &str = "cd /run/secrets; stat -c '%n %u:%g %a' *; cat key";
    for env in Env::each() {
        put(&env, "key", VALUE);
        let image = env.busybox();
        let usual = format!("key 0:0 444\n{VALUE}");
        let user = ["--user=1000:1000"];
        for (flags, secrets, script, expected) in [
            (&[][..], &["key"][..], LOOK, &*usual),
            (&user, &["key"], LOOK, &usual),
            (&["--userns=keep-id"], &["key"], LOOK, &usual),
            (&["--userns=auto"], &["key"], LOOK, &usual),
            (&["--read-only"], &["key"], LOOK, &usual),
            (
                &["--read-only", "--read-only-tmpfs=false"],
                &["key"],
                LOOK,
                &usual,
            ),
            (&["--tmpfs=/run"], &["key"], LOOK, &usual),
            (&["--tmpfs=/run/secrets"], &["key"], LOOK, &usual),
            (&["--cap-drop=all", "--privileged"], &["key"], LOOK, &usual),
            (
                &user,
                &["key,uid=1000,gid=7,mode=0400"],
                LOOK,
                &format!("key 1000:7 400\n{VALUE}"),
            ),
            (
                &["--userns=keep-id", "--user=1000"],
                &["key,uid=1000,mode=0400"],
                LOOK,
                &format!("key 1000:0 400\n{VALUE}"),
            ),
            // Nobody else may read it, nor may root write what is read-only.
            (
                &user,
                &["key,mode=0400"],
                "cat /run/secrets/key 2>/dev/null; echo $?",
                "1\n",
            ),
            (
                &["--read-only"],
                &["key"],
                "(echo x >/run/secrets/key) 2>/dev/null; echo $?; cat /run/secrets/key",
                &format!("1\n{VALUE}"),
            ),
            (
                &[],
                &[
                    "key,target=/opt/a/b,mode=0600",
                    "key,target=sub/c",
                    "key,target=../up",
                ],
                "stat -c '%n %a' /opt/a/b /run/secrets/sub/c /run/up",
                "/opt/a/b 600\n/run/secrets/sub/c 444\n/run/up 444\n",
            ),
            (
                &["-e", "key=plain"],
                &["key,type=env", "key,type=env,target=OTHER"],
                "echo $key $OTHER; ! test -e /run/secrets",
                &format!("{VALUE} {VALUE}\n"),
            ),
        ] {
            let secrets: Vec<_> = secrets
                .iter()
                .flat_map(|secret| ["--secret", *secret])
                .collect();
            let words = [
                &["run", "--rm"],
                flags,
                &secrets,
                &[&image, "sh", "-c", script],
            ]
            .concat();
            assert_eq!(said(&env, &words), expected, "{words:?}");
        }
    }
}

#[test]
fn other_runtimes_get_secrets_too() {
    let Some(env) = Env::new() else { return };
    put(&env, "key", VALUE);
    let flags = [
        "--secret=key,uid=3,gid=4,mode=0440",
        "--secret=key,type=env,target=IT",
    ];
    let script = "cd /run/secrets; stat -c '%n %u:%g %a' *; cat key; echo \" $IT\"";
    for runtime in ["crun", "runc"] {
        if skip::lacks(runtime) {
            continue;
        }
        let flags = [&["--runtime", runtime][..], &flags].concat();
        let expected = format!("key 3:4 440\n{VALUE} {VALUE}\n");
        assert_eq!(env.shell(&flags, script), expected, "{runtime}");
    }
}

#[test]
fn what_becomes_of_a_secret_changes_no_container() {
    let Some(env) = Env::new() else { return };
    put(&env, "key", VALUE);
    let image = env.busybox();
    let script = "cat /run/secrets/key; echo \" $IT\"; exec sleep 1000";
    let words = [
        "create",
        "--name=box",
        "--stop-timeout=0",
        "--secret=key",
        "--secret=key,type=env,target=IT",
    ];
    said(&env, &[&words[..], &[&image, "sh", "-c", script]].concat());
    let exec = || {
        said(
            &env,
            &[
                "exec",
                "box",
                "sh",
                "-c",
                "cat /run/secrets/key; echo \" $IT\"",
            ],
        )
    };
    let expected = format!("{VALUE} {VALUE}\n");
    put(&env, "key", "another");
    said(&env, &["start", "box"]);
    assert_eq!(exec(), expected);
    let again = ["exec", "-e", "IT=asked", "box", "sh", "-c", "echo $IT"];
    assert_eq!(said(&env, &again), "asked\n");
    said(&env, &["secret", "rm", "key"]);
    said(&env, &["restart", "box"]);
    assert_eq!(exec(), expected);
    // What is said of the variable by its name counts from then on.
    said(&env, &["update", "--env=IT=plain", "box"]);
    said(&env, &["restart", "box"]);
    assert_eq!(exec(), format!("{VALUE} plain\n"));
    said(&env, &["rm", "-f", "box"]);
    let left = names(&env.path("d/kelp/containers"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_value_is_in_nothing_that_is_shown_or_made_of_a_container() {
    let Some(env) = Env::new() else { return };
    put(&env, "key", VALUE);
    let image = env.busybox();
    let words = [
        "run",
        "-d",
        "--name=box",
        "--secret=key",
        "--secret=key,type=env,target=IT",
    ];
    said(&env, &[&words[..], &[&image, "sleep", "1000"]].concat());
    said(&env, &["commit", "-q", "box", "localhost/made"]);
    said(&env, &["export", "-o", &env.word("h/files.tar"), "box"]);
    said(
        &env,
        &[
            "save",
            "-q",
            "--uncompressed",
            "-o",
            &env.word("h/image.tar"),
            "localhost/made",
        ],
    );
    for shown in [
        said(&env, &["inspect", "box"]),
        said(&env, &["image", "inspect", "localhost/made"]),
        said(&env, &["history", "--no-trunc", "localhost/made"]),
        said(&env, &["events", "--stream=false", "--format=json"]),
        said(&env, &["secret", "inspect", "key"]),
        said(&env, &["ps", "-a", "--no-trunc", "--format=json"]),
    ] {
        assert!(!shown.contains(VALUE), "{shown}");
    }
    for file in ["h/files.tar", "h/image.tar"] {
        let bytes = fs::read(env.path(file)).unwrap();
        let mut parts = bytes.windows(VALUE.len());
        assert!(!parts.any(|part| part == VALUE.as_bytes()), "{file}");
    }
    let secrets = said(&env, &["inspect", "-f", "{{json .Config.Secrets}}", "box"]);
    let secrets: serde_json::Value = serde_json::from_str(&secrets).unwrap();
    assert_eq!(secrets[0]["Name"], "key");
    assert_eq!(
        (&secrets[0]["Size"], &secrets[0]["Mode"]),
        (&16.into(), &0o444.into())
    );
    assert_eq!(secrets.as_array().unwrap().len(), 1);
    let format = "{{.Mounts}} {{.Config.Env}}";
    let shown = said(&env, &["inspect", "-f", format, "box"]);
    assert!(
        !shown.contains("/run/secrets") && !shown.contains("IT="),
        "{shown}"
    );
    let script = "cat /run/secrets/key; echo \"$IT.\"";
    let words = ["run", "--rm", "localhost/made", "sh", "-c", script];
    assert_eq!(said(&env, &words), ".\n");
    // Who has the volumes of a container has none of its secrets.
    let words = ["run", "--rm", "--volumes-from=box", &image, "sh", "-c"];
    let script = "test -e /run/secrets/key || echo none";
    assert_eq!(said(&env, &[&words[..], &[script]].concat()), "none\n");
    said(&env, &["rm", "-f", "-t0", "box"]);
}

/// Links that an image has where a secret is mounted (podman 2025-9566).
#[test]
fn a_target_that_is_a_link_stays_in_the_container() {
    let Some(env) = Env::new() else { return };
    put(&env, "key", VALUE);
    let victim = env.path("h/victim");
    fs::write(&victim, "untouched\n").unwrap();
    let directory = env.path("h/directory");
    fs::create_dir(&directory).unwrap();
    let host = victim.to_str().unwrap();
    let up = format!("../../../../../../..{host}");
    let image = Image::busybox().layer(
        Layer::default()
            .directory("opt", 0o755)
            .symlink("opt/absolute", host)
            .symlink("opt/relative", &up)
            .directory("run", 0o755)
            .symlink("run/secrets", directory.to_str().unwrap()),
    );
    image.push(
        &crate::http::Registry(&env.registry().address),
        "secret-links",
        "latest",
    );
    let image = format!("{}/secret-links:latest", env.registry().address);
    said(&env, &["pull", "-q", &image]);
    for target in [
        "/opt/absolute",
        "/opt/relative",
        "key",
        "../../../../..",
        "/opt/../..",
        &up,
    ] {
        let flag = format!("--secret=key,mode=0666,target={target}");
        // Where it can't be mounted that is an error, and nothing is done.
        let words = ["run", "--rm", "-u0", &flag, &image, "sh", "-c"];
        let script =
            "for f in /opt/absolute /opt/relative /run/secrets/key; do (echo x >$f); done; true";
        env.kelp(&[&words[..], &[script]].concat()).done();
        assert_eq!(
            fs::read_to_string(&victim).unwrap(),
            "untouched\n",
            "{target}"
        );
        assert!(names(&directory).is_empty(), "{target}");
        let shown = said(
            &env,
            &[
                "secret",
                "inspect",
                "--showsecret",
                "-f={{.SecretData}}",
                "key",
            ],
        );
        assert_eq!(shown, format!("{VALUE}\n"), "{target}");
    }
    // Within the root it is followed.
    for target in ["/opt/absolute", "/opt/relative", "/run/secrets/key"] {
        let flag = format!("--secret=key,target={target}");
        let words = ["run", "--rm", &flag, &image, "cat", target];
        assert_eq!(said(&env, &words), VALUE, "{target}");
    }
    // A copy goes to a directory that nobody else can have put anything in.
    let link = ["create", "--name=box", "--secret=key", &image, "true"];
    let id = said(&env, &link);
    let own = env.path(&format!("d/kelp/containers/{}/secrets", id.trim_end()));
    assert_eq!(
        fs::metadata(&own).unwrap().permissions().mode() & 0o7777,
        0o700
    );
    assert_eq!(names(&own), ["0"]);
    said(&env, &["rm", "box"]);
    // And a value is not read through a link that is in its place.
    let mut secret = store(&env).into_iter().map(|(path, _)| path);
    let value = secret.rfind(|path| path.is_file() && path.extension().is_none());
    let value = value.unwrap();
    fs::remove_file(&value).unwrap();
    symlink(&victim, &value).unwrap();
    env.kelp(&["run", "--rm", "--secret=key", &image, "true"])
        .fails(125);
}

#[test]
fn what_no_container_can_have_is_refused_before_anything_is_done() {
    let Some(env) = Env::new() else { return };
    put(&env, "key", VALUE);
    put(&env, "other", VALUE);
    let long = vec![b'x'; 131_072];
    for (name, value) in [("null", &b"a\0b"[..]), ("latin", b"\xe4"), ("long", &long)] {
        env.kelp(&["secret", "create", name, "-"])
            .input(value)
            .succeeds();
    }
    let image = env.busybox();
    said(&env, &["create", "--name=box", &image, "true"]);
    let missing = "no such secret: \"none\": kelp secret ls shows those that are here, kelp secret create makes one";
    for (flags, expected) in [
        (&["--secret=none"][..], missing),
        (&["--secret=none,type=env"], missing),
        (&["--replace", "--name=box", "--secret=none"], missing),
        (
            &["--secret=key", "--secret=other,target=key"],
            "/run/secrets/key: duplicate mount destination",
        ),
        (
            &["--secret=key", "--tmpfs=/run/secrets/key"],
            "/run/secrets/key: duplicate mount destination",
        ),
        (
            &[
                "--secret=key,type=env",
                "--secret=other,type=env,target=key",
            ],
            "two secrets are to be the variable key: give one of them another target",
        ),
        (
            &["--secret=key,target=/"],
            "invalid target of --secret \"/\": it is the container's root",
        ),
        (
            &["--secret=key,uid=4000000000"],
            "secret \"key\": the container has no user 4000000000: choose one of its id map, or give this user \
             more ids in /etc/subuid",
        ),
        (
            &["--uidmap=0:0:1", "--gidmap=0:0:1", "--secret=key,gid=1"],
            "secret \"key\": the container has no group 1: choose one of its id map, or give this user more ids \
             in /etc/subgid",
        ),
        (
            &["--secret=null,type=env"],
            "secret \"null\" has a null byte and can't be a variable: use type=mount",
        ),
        (
            &["--replace", "--name=box", "--secret=latin,type=env"],
            "secret \"latin\" is no UTF-8 text and can't be a variable: use type=mount",
        ),
        (
            &["--secret=long,type=env"],
            "secret \"long\" is too long and can't be a variable: use type=mount",
        ),
    ] {
        let words = [&["create"], flags, &[&image, "true"]].concat();
        let line = env.kelp(&words).fails(125);
        assert_eq!(line, format!("Error: {expected}"), "{flags:?}");
    }
    assert_eq!(said(&env, &["ps", "-a", "--format={{.Names}}"]), "box\n");
    assert_eq!(names(&env.path("d/kelp/containers")).len(), 1);
    said(&env, &["rm", "box"]);
}

#[test]
fn members_of_a_pod_have_their_own_secrets() {
    let Some(env) = Env::new() else { return };
    put(&env, "key", VALUE);
    let image = env.busybox();
    said(&env, &["pod", "create", "--network=none", "--name=crew"]);
    for (name, flag) in [
        ("one", "--secret=key,uid=5"),
        ("two", "--secret=key,type=env"),
    ] {
        let words = [
            "run",
            "-d",
            "--pod=crew",
            "--name",
            name,
            flag,
            &image,
            "sleep",
            "1000",
        ];
        said(&env, &words);
    }
    let script = "stat -c %u /run/secrets/key 2>/dev/null; echo \"$key.\"";
    for (name, expected) in [("one", "5\n.\n".to_owned()), ("two", format!("{VALUE}.\n"))] {
        assert_eq!(said(&env, &["exec", name, "sh", "-c", script]), expected);
    }
    said(&env, &["pod", "rm", "-f", "-t0", "crew"]);
}

/// At each of its calls; what is there is the one value or the other.
#[test]
fn a_killed_command_leaves_no_half_secret() {
    let Some(env) = Env::new() else { return };
    if !cfg!(target_arch = "x86_64") {
        skip::skip("x86_64, whose registers the tracer knows");
        return;
    }
    let file = env.word("h/value");
    fs::write(&file, "new").unwrap();
    let create = ["secret", "create", "--replace", "key", &file];
    let remove = ["secret", "rm", "key"];
    let show = [
        "secret",
        "inspect",
        "--showsecret",
        "-f={{.SecretData}}",
        "key",
    ];
    for (words, before) in [
        (&create[..], None),
        (&create, Some("old")),
        (&remove, Some("old")),
    ] {
        let mut number = 0;
        loop {
            number += 1;
            let _ = env.kelp(&["secret", "rm", "-a"]).done();
            if let Some(value) = before {
                put(&env, "key", value);
            }
            let command = env.kelp(words).into_command();
            let outcome = steps::run(&command, Counted::Files, Some((number, Blow::KillAll)));
            let Some(struck) = &outcome.struck else { break };
            let step = format!("{words:?} at call {number}, {struck}");
            let done = env.kelp(&show).done();
            match done.code {
                0 => {
                    let value = done.stdout.trim_end();
                    assert!(value == "new" || Some(value) == before, "{step}: {value}");
                }
                _ => assert!(done.stderr.contains("no such secret"), "{step}: {done:#?}"),
            }
            said(&env, &["system", "check"]);
            if number.is_multiple_of(2) {
                said(&env, &["image", "prune", "-f"]);
                let files = store_if_any(&env);
                assert!(matches!(files, 1 | 4), "{step}: {files}");
            }
            said(&env, &create);
            assert_eq!(said(&env, &show), "new\n", "{step}");
            assert_eq!(store(&env).len(), 4, "{step}");
        }
        assert!(number > 3, "{words:?} was never killed");
    }
}

/// How much there is in the store, itself included.
fn store_if_any(env: &Env) -> usize {
    if env.path("d/kelp/secrets").exists() {
        store(env).len()
    } else {
        1
    }
}

#[test]
fn damage_is_of_one_secret_alone() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let spoil = |name: &str, is_record: bool, change: &dyn Fn(&PathBuf)| {
        said(&env, &["secret", "rm", "-a"]);
        put(&env, "sound", VALUE);
        let sound = store(&env);
        put(&env, name, VALUE);
        let own = store(&env).into_iter().filter(|it| !sound.contains(it));
        let mut files = own.map(|(path, _)| path).filter(|path| path.is_file());
        let found = files.find(|path| path.ends_with("secret.json") == is_record);
        change(&found.unwrap());
    };
    for (is_record, change, what, listed) in [
        (true, "garbage", "its record can't be read", "sound\n"),
        (true, "", "its record can't be read", "sound\n"),
        (
            false,
            "other",
            "its value is not the one that it got",
            "bad\nsound\n",
        ),
    ] {
        spoil("bad", is_record, &|path| fs::write(path, change).unwrap());
        assert_eq!(said(&env, &["secret", "ls", "--format={{.Name}}"]), listed);
        let line = env
            .kelp(&["run", "--rm", "--secret=bad", &image, "true"])
            .fails(125);
        assert_eq!(
            line,
            format!(
                "Error: secret \"bad\" is damaged: {what}: make it anew with kelp secret create --replace"
            )
        );
        assert_eq!(
            env.shell(&["--secret=sound"], "cat /run/secrets/sound"),
            VALUE
        );
        let done = env.kelp(&["system", "check"]).done();
        assert_eq!(done.code, 125, "{done:#?}");
        let told = format!(": {what}\n");
        let lines = done.stdout.lines().count();
        assert!(
            done.stdout.starts_with("Damaged secret ") && lines == 1,
            "{done:#?}"
        );
        assert!(done.stdout.ends_with(&told), "{done:#?}");
        let repaired = env.kelp(&["system", "check", "--repair"]).done();
        assert!(
            repaired.stdout.contains("kelp secret create --replace"),
            "{repaired:#?}"
        );
        if is_record {
            put(&env, "bad", VALUE);
        } else {
            said(&env, &["secret", "rm", "bad"]);
        }
        said(&env, &["system", "check"]);
    }
    spoil("bad", false, &|path| fs::remove_file(path).unwrap());
    let done = env.kelp(&["system", "check"]).done();
    assert_eq!(
        done.stdout,
        "Damaged secret \"bad\": its value is not there\n"
    );
    // That none can be seen is not that there is none.
    let all = env.path("d/kelp/secrets");
    let open = fs::metadata(&all).unwrap().permissions();
    fs::set_permissions(&all, PermissionsExt::from_mode(0o000)).unwrap();
    for words in [
        &["secret", "ls"][..],
        &["secret", "rm", "-a"],
        &["system", "check"],
    ] {
        let line = env.kelp(words).fails(125);
        assert!(line.ends_with("secrets: permission denied"), "{line}");
    }
    fs::set_permissions(&all, open).unwrap();
    said(&env, &["system", "reset", "-f"]);
    assert!(!all.exists());
    assert_eq!(said(&env, &["secret", "ls", "-n"]), "");
}

#[test]
fn a_unit_with_a_secret_is_right() {
    let Some(env) = Env::new() else { return };
    for (line, expected) in [
        ("Secret=key", ""),
        ("Secret=key,type=env,target=IT", ""),
        (
            "Secret=key,mode=9",
            "web.container:3: error: Secret=: invalid value of --secret \"key,mode=9\": the mode is an octal \
             number up to 0777\n",
        ),
    ] {
        let text = format!("[Container]\nImage=quay.io/app/web:1\n{line}\n");
        fs::write(env.path("h/web.container"), text).unwrap();
        let done = env.kelp(&["quadlet", "check", "web.container"]).done();
        assert_eq!(done.stdout, expected, "{line}");
    }
}

#[test]
fn a_login_takes_its_password_from_a_secret() {
    let Some(env) = Env::new() else { return };
    let registry = Registry::locked(|_| {});
    put(&env, "pass", &format!("{}\n", USER.1));
    let login = |secret: &str, flags: &[&str]| {
        let flag = format!("--secret={secret}");
        let tls = "--tls-verify=false";
        env.kelp(&[&["login", tls, &flag], flags, &[&registry.address]].concat())
            .done()
    };
    assert_eq!(login("pass", &["-u", USER.0]).stdout, "Login Succeeded!\n");
    // The user is called as the secret.
    put(&env, USER.0, USER.1);
    assert_eq!(login(USER.0, &[]).stdout, "Login Succeeded!\n");
    assert!(login("none", &[]).stderr.contains("kelp secret create"));
}
