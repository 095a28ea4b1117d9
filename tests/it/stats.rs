//! `kelp stats`: what containers use.

use std::io::{BufRead, BufReader};

use serde_json::Value;

use crate::env::Env;
use crate::skip;
use crate::terminal::Terminal;

fn json(env: &Env, words: &[&str]) -> Value {
    let all = [&["stats", "--no-stream", "--format=json"], words].concat();
    serde_json::from_str(&env.kelp(&all).succeeds()).unwrap()
}

#[test]
fn one_look_has_podmans_columns_and_keys() {
    let Some(env) = Env::new() else { return };
    let id = env.waiting("busy", &["--network=none"]);
    let image = env.busybox();
    env.kelp(&["create", "--name=idle", &image]).succeeds();
    let table = env.kelp(&["stats", "--no-stream"]).succeeds();
    let mut lines = table.lines();
    let heading: Vec<_> = lines.next().unwrap().split("  ").collect();
    let heading: Vec<_> = heading.iter().map(|word| word.trim()).collect();
    let heading: Vec<_> = heading.iter().filter(|word| !word.is_empty()).collect();
    assert_eq!(
        heading,
        [
            &"ID",
            &"NAME",
            &"CPU %",
            &"MEM USAGE / LIMIT",
            &"MEM %",
            &"NET IO",
            &"BLOCK IO",
            &"PIDS",
            &"CPU TIME",
            &"AVG CPU %"
        ]
    );
    let row = lines.next().unwrap();
    assert!(row.starts_with(&id[..12]) && row.contains("busy"), "{row}");
    assert_eq!(lines.next(), None, "{table}");
    let list = json(&env, &["busy"]);
    let keys: Vec<_> = list[0].as_object().unwrap().keys().collect();
    for key in [
        "avg_cpu",
        "block_io",
        "cpu_percent",
        "cpu_time",
        "id",
        "io_pressure_full",
        "mem_percent",
        "mem_pressure_some",
        "mem_usage",
        "name",
        "net_io",
        "pids",
    ] {
        assert!(keys.contains(&&key.to_owned()), "{key}: {keys:?}");
    }
    // What runs no more, or never did, uses nothing that could be told.
    let list = json(&env, &["--all"]);
    let idle = list.as_array().unwrap().iter();
    let idle = idle.filter(|row| row["name"] == "idle").collect::<Vec<_>>();
    assert_eq!(idle[0]["cpu_percent"], "--");
    assert_eq!(idle[0]["mem_usage"], "-- / --");
    env.kelp(&["rm", "-f", "-t0", "busy", "idle"]).succeeds();
}

#[test]
fn processor_time_is_that_of_the_cgroup() {
    let Some(env) = Env::new() else { return };
    env.waiting("spins", &["--network=none"]);
    let spin = "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done";
    env.kelp(&["exec", "spins", "sh", "-c", spin]).succeeds();
    let path = env
        .kelp(&["inspect", "-f", "{{.State.CgroupPath}}", "spins"])
        .succeeds();
    let used = || -> u64 {
        let path = format!("/sys/fs/cgroup{}/cpu.stat", path.trim());
        let text = std::fs::read_to_string(path).unwrap();
        let mut lines = text.lines();
        let usage = lines.find_map(|line| line.strip_prefix("usage_usec "));
        usage.unwrap().parse().unwrap()
    };
    let format = "{{.CPUNano}} {{.Name}} {{.UpTime}}";
    let before = used();
    let words = ["stats", "--no-stream", "--format", format, "spins"];
    let text = env.kelp(&words).succeeds();
    let after = used();
    let words: Vec<_> = text.split_whitespace().collect();
    let told: u64 = words[0].parse().unwrap();
    assert!(
        (before..=after).contains(&(told / 1000)),
        "{before} {told} {after}"
    );
    assert!(
        before > 1000 && words[1] == "spins" && words[2].ends_with('s'),
        "{text}"
    );
    env.kelp(&["rm", "-f", "-t0", "spins"]).succeeds();
}

#[test]
fn a_network_of_its_own_is_counted_and_the_hosts_is_not() {
    let Some(env) = Env::new() else { return };
    env.waiting("host", &["--network=host"]);
    env.waiting("none", &["--network=none"]);
    assert_eq!(json(&env, &["host"])[0]["net_io"], "-- / --");
    assert_eq!(json(&env, &["none"])[0]["net_io"], "0B / 0B");
    // What it sends itself is no traffic.
    let ping = ["exec", "none", "ping", "-q", "-c", "1", "127.0.0.1"];
    env.kelp(&ping).done();
    assert_eq!(json(&env, &["none"])[0]["net_io"], "0B / 0B");
    env.kelp(&["rm", "-f", "-t0", "host", "none"]).succeeds();
    if let Some(missing) = skip::no_pasta() {
        skip::skip(missing);
        return;
    }
    env.waiting("own", &["--network=pasta"]);
    let sends = "echo hello | nc -u -w 1 192.0.2.1 9 || true";
    env.kelp(&["exec", "own", "sh", "-c", sends]).done();
    let format = ["stats", "--no-stream", "--format", "{{.NetOutput}}", "own"];
    let sent: u64 = env.kelp(&format).succeeds().trim().parse().unwrap();
    assert!(sent > 0);
    env.kelp(&["rm", "-f", "-t0", "own"]).succeeds();
}

#[test]
fn without_a_cgroup_nothing_is_made_up() {
    let Some(env) = Env::new() else { return };
    env.waiting("bare", &["--network=host", "--cgroups=disabled"]);
    let list = json(&env, &["bare"]);
    for (key, value) in list[0].as_object().unwrap() {
        let expected = match key.as_str() {
            "id" | "name" => continue,
            "mem_usage" | "net_io" | "block_io" => "-- / --",
            _ => "--",
        };
        assert_eq!(value, expected, "{key}");
    }
    env.kelp(&["rm", "-f", "-t0", "bare"]).succeeds();
}

#[test]
fn a_stream_goes_on_until_its_containers_are_gone() {
    let Some(env) = Env::new() else { return };
    env.waiting("seen", &["--network=none"]);
    let words = [
        "stats",
        "-i",
        "1",
        "--format",
        "{{.Name}} {{.PIDS}}",
        "seen",
    ];
    let mut child = env.kelp(&words).start();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    for _ in 0..2 {
        line.clear();
        out.read_line(&mut line).unwrap();
        // No terminal, so nothing clears a screen.
        assert!(line.starts_with("seen "), "{line:?}");
    }
    env.kelp(&["rm", "-f", "-t0", "seen"]).succeeds();
    assert_eq!(crate::kelp::wait(&mut child, "kelp stats"), 0);
}

#[test]
fn a_terminal_is_cleared_for_each_look_unless_that_is_not_wanted() {
    let Some(env) = Env::new() else { return };
    env.waiting("shown", &["--network=none"]);
    for (flags, clears) in [
        (&["-i1"][..], true),
        (&["-i1", "--no-reset"], false),
        (&["--no-stream"], false),
    ] {
        let format = ["--format={{.Name}}."];
        let words = [&["stats"], flags, &format, &["shown"]].concat();
        let mut terminal = Terminal::start(env.kelp(&words));
        let expected = if clears {
            "\x1b[2J\x1b[Hshown."
        } else {
            "shown."
        };
        terminal.expect(expected);
        if flags.contains(&"--no-stream") {
            assert_eq!(terminal.finish(), (0, "\r\n".to_owned()));
            continue;
        }
        if clears {
            terminal.expect(expected);
        } else {
            terminal.expect("\r\nshown.");
        }
        terminal.close();
    }
    env.kelp(&["rm", "-f", "-t0", "shown"]).succeeds();
}

#[test]
fn wrong_words_are_told() {
    let Some(env) = Env::new() else { return };
    for (words, expected) in [
        (&["nothing"][..], "no such container"),
        (
            &["--all", "--latest"],
            "--all, --latest and containers cannot be used together",
        ),
        (&["--latest"], "no such container"),
    ] {
        let all = [&["stats", "--no-stream"], words].concat();
        let line = env.kelp(&all).fails(125);
        assert!(line.contains(expected), "{words:?}: {line}");
    }
    // Nothing runs: the heading alone.
    let table = env.kelp(&["stats", "--no-stream"]).succeeds();
    assert_eq!(table.lines().count(), 1, "{table}");
    assert_eq!(json(&env, &[]), Value::Array(Vec::new()));
}
