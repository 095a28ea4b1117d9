//! Output in the journal of a machine whose init is systemd.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::as_service;
use crate::env::Env;
use crate::journal::numbers;
use crate::kelp::wait_until;

const DRIVER: &str = "--log-driver=journald";

/// What a program prints.
fn said(program: &str, words: &[&str]) -> String {
    let mut command = Command::new(program);
    let output = command.args(words).stdin(Stdio::null()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// `logs`, which is compared without being shown.
fn logs(env: &Env, words: &[&str]) -> String {
    env.kelp(&[&["logs"], words].concat()).succeeds()
}

#[test]
fn output_is_in_the_users_journal_with_the_fields_that_others_give_theirs() {
    let Some(env) = Env::of_session() else { return };
    let image = env.busybox();
    let flags = [
        "--name=web",
        "--log-opt=tag={{.Name}}/x",
        "--log-opt=label=TIER=front",
    ];
    let script = r"printf 'one\na\000b\377\n'; echo err >&2; printf end";
    let run = [
        &["run", "-d", DRIVER],
        &flags[..],
        &[&image, "sh", "-c", script],
    ]
    .concat();
    let id = env.kelp(&run).succeeds();
    let id = id.trim();
    let done = env.kelp(&["logs", "-f", "web"]).done();
    assert_eq!((done.code, done.stderr.as_str()), (0, "err\n"), "{done:#?}");
    assert_eq!(done.stdout, "one\na\0b\u{fffd}\nend\n");
    // By those that are the user's own alone.
    let of = format!("CONTAINER_ID_FULL={id}");
    let listed = said("journalctl", &["--user", "--all", "--output=json", &of]);
    let mut texts = Vec::new();
    for line in listed.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        for (key, value) in [
            ("CONTAINER_ID", &id[..12]),
            ("CONTAINER_ID_FULL", id),
            ("CONTAINER_TAG", "web/x"),
            ("SYSLOG_IDENTIFIER", "web/x"),
            ("IMAGE_NAME", &image),
            ("TIER", "front"),
            ("_UID", "1000"),
            ("_SYSTEMD_USER_UNIT", &format!("kelp-{id}.scope")),
        ] {
            assert_eq!(entry[key], value, "{key}");
        }
        assert_eq!(entry["CONTAINER_PARTIAL_MESSAGE"], Value::Null);
        texts.push((entry["PRIORITY"].to_string(), entry["MESSAGE"].to_string()));
    }
    texts.sort();
    let expected = [
        ("\"3\"", "\"err\""),
        ("\"6\"", "\"end\""),
        ("\"6\"", "\"one\""),
        ("\"6\"", "[97,0,98,255]"),
    ];
    assert!(
        texts
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .eq(expected),
        "{texts:?}"
    );
    env.kelp(&["rm", "web"]).succeeds();
}

#[test]
fn a_long_line_is_several_entries_and_one_line_again() {
    let Some(env) = Env::of_session() else { return };
    let image = env.busybox();
    let script = "yes abcdefg | tr -d '\\n' | head -c 200000; echo; echo next";
    let run = [
        "run",
        "-d",
        DRIVER,
        "--name=web",
        &image,
        "sh",
        "-c",
        script,
    ];
    let id = env.kelp(&run).succeeds();
    let expected = "abcdefg".repeat(30_000)[..200_000].to_owned() + "\nnext\n";
    assert!(logs(&env, &["-f", "web"]) == expected);
    assert!(logs(&env, &["--tail=2", "web"]) == expected);
    assert_eq!(logs(&env, &["--tail=1", "web"]), "next\n");
    let of = format!("CONTAINER_ID_FULL={}", id.trim());
    let matched = ["--output=json", &of, "CONTAINER_PARTIAL_MESSAGE=true"];
    assert_eq!(said("journalctl", &matched).lines().count(), 3);
    env.kelp(&["rm", "web"]).succeeds();
}

#[test]
fn a_restart_of_journald_loses_nothing() {
    let Some(env) = Env::of_session() else { return };
    let image = env.busybox();
    let volume = format!("{}:/h", env.path("h").display());
    // As fast as it goes, around a restart in the middle.
    let script = "seq 3000; touch /h/ready; until test -e /h/go; do seq 3001 3010 >/h/last; cat /h/last; \
                  sleep 0.02; done; seq 3000";
    let run = [
        "run",
        "-d",
        DRIVER,
        "--name=web",
        "-v",
        &volume,
        &image,
        "sh",
        "-c",
        script,
    ];
    env.kelp(&run).succeeds();
    let follower = env.kelp(&["logs", "-f", "web"]);
    let follower = std::thread::spawn(move || follower.succeeds());
    wait_until("half of the output", || env.path("h/ready").exists());
    let journald = || {
        let words = ["show", "--property=MainPID", "--value", "systemd-journald"];
        said("systemctl", &words)
    };
    let before = journald();
    fs::write("/var/tmp/restart-journald", "now").unwrap();
    wait_until("another journald", || {
        let now = journald();
        now != before && now.trim() != "0"
    });
    fs::write(env.path("h/go"), "").unwrap();
    let followed = follower.join().unwrap();
    let half = numbers(3000);
    let middle = followed
        .strip_prefix(&half)
        .and_then(|rest| rest.strip_suffix(&half));
    let middle = middle.unwrap_or_else(|| panic!("{} bytes", followed.len()));
    let ten = fs::read_to_string(env.path("h/last")).unwrap();
    assert_eq!(middle, ten.repeat(middle.len() / ten.len()));
    assert!(logs(&env, &["web"]) == followed);
    env.kelp(&["rm", "web"]).succeeds();
}

/// journald takes so many lines of a unit in half a minute, and no more; the end of the output is none of them.
/// All that a user runs is one unit to it: this is the last test that is started, for no later one would be heard.
#[test]
fn where_journald_limits_what_it_takes_a_follower_ends_all_the_same() {
    let Some(env) = Env::of_session() else { return };
    let image = env.busybox();
    let run = ["run", "-d", DRIVER, "--name=web", &image, "seq", "25000"];
    env.kelp(&run).succeeds();
    let followed = logs(&env, &["-f", "web"]);
    let all = numbers(25_000);
    let taken = followed.lines().count();
    assert!(all.starts_with(&followed) && taken >= 10_000, "{taken}");
    env.kelp(&["rm", "web"]).succeeds();
}

#[test]
fn a_unit_has_what_its_container_passes_through() {
    let Some(env) = Env::of_session() else { return };
    let image = env.busybox();
    let words = [
        "run",
        "--rm",
        "--log-driver=passthrough",
        &image,
        "echo",
        "through",
    ];
    assert_eq!(as_service(env.kelp(&words), &[]).succeeds(), "through\n");
    let create = [
        "create",
        "--log-driver=passthrough",
        "--name=web",
        &image,
        "true",
    ];
    env.kelp(&create).succeeds();
    let line = env.kelp(&["logs", "web"]).fails(125);
    assert_eq!(
        line,
        "Error: this container is using the 'passthrough' log driver, cannot read logs: this container is \
         not logging output"
    );
    env.kelp(&["rm", "web"]).succeeds();
}
