//! `--log-driver=journald`, with systemd's own journald: it runs without systemd, in a mount namespace of its
//! own that the session of [`Session`] has.

use std::fs;

use serde_json::{Value, json};

use crate::env::Env;
use crate::skip;
use crate::unshare::Session;

const JOURNALD: &str = "/lib/systemd/systemd-journald";

/// A journal of its own, and kelp where that is.
struct Journal {
    session: Session,
    image: String,
    env: Env,
}

impl Journal {
    /// With a journald that runs; a SKIP line where there is none.
    fn new() -> Option<Self> {
        let mut journal = Self::without()?;
        journal.start();
        Some(journal)
    }

    /// With nobody at the journal's place.
    fn without() -> Option<Self> {
        let env = Env::new()?;
        // Whose package has both.
        if skip::lacks("journalctl") {
            return None;
        }
        let image = env.busybox();
        let mut session = Session::new(&env);
        let config = "[Journal]\nRateLimitBurst=0\nReadKMsg=no\nAudit=no\nStorage=volatile\n";
        fs::write(env.path("h/journald.conf"), config).unwrap();
        let script =
            "mount -t tmpfs run /run && mkdir -p /run/systemd/journald.conf.d /run/log/journal &&
            mount -t tmpfs log /var/log && cp journald.conf /run/systemd/journald.conf.d/";
        session.ask(script).done();
        Some(Self {
            session,
            image,
            env,
        })
    }

    fn start(&mut self) {
        let script = format!(
            "{JOURNALD} >journald.log 2>&1 & journald=$!
             until journalctl -q -n 1 _PID=$journald | grep -q .; do sleep 0.02; done 2>/dev/null"
        );
        self.ask(&script);
    }

    fn stop(&mut self) {
        self.ask("kill $journald; wait $journald || true");
    }

    /// What a script prints that succeeds.
    fn ask(&mut self, script: &str) -> String {
        self.session.ask(script).done()
    }

    /// Runs a container to its end; its output is in the journal alone.
    fn run(&mut self, flags: &str, script: &str) {
        let image = &self.image;
        let line = format!(
            "$kelp run --network=none --log-driver=journald {flags} {image} sh -c '{script}' >/dev/null 2>&1"
        );
        self.ask(&line);
    }

    /// What `logs` with these words has written to the two streams.
    fn logs(&mut self, words: &str) -> (Vec<u8>, Vec<u8>) {
        self.ask(&format!("$kelp logs {words} >out 2>err"));
        let read = |name: &str| fs::read(self.env.path(name)).unwrap();
        (read("h/out"), read("h/err"))
    }

    /// The same, one after the other, as text.
    fn text(&mut self, words: &str) -> String {
        let (out, err) = self.logs(words);
        String::from_utf8_lossy(&[out, err].concat()).into_owned()
    }

    fn end(mut self) {
        self.ask("$kelp rm -af -t 0 >/dev/null");
        self.stop();
        self.session.end();
    }
}

/// What seq(1) prints.
pub(crate) fn numbers(count: u32) -> String {
    let mut text = String::new();
    for number in 1..=count {
        text.push_str(&number.to_string());
        text.push('\n');
    }
    text
}

#[test]
fn a_units_output_is_in_the_journal_where_nothing_else_is_said() {
    let Some(mut journal) = Journal::new() else {
        return;
    };
    let image = journal.image.clone();
    let unit = "PODMAN_SYSTEMD_UNIT=web.service";
    for (unit, flags, driver) in [
        (unit, "", "journald"),
        (unit, "--log-opt=tag=web", "journald"),
        (unit, "--log-driver=k8s-file", "k8s-file"),
        (unit, "--log-opt=max-size=1m", "k8s-file"),
        ("", "", "k8s-file"),
    ] {
        let create = format!("env {unit} $kelp create --name=web {flags} {image} echo said");
        journal.ask(&create);
        let seen = journal.ask("$kelp inspect -f {{.HostConfig.LogConfig.Type}} web");
        assert_eq!(seen.trim(), driver, "{unit} {flags}");
        journal.ask("$kelp start web && $kelp wait web");
        assert_eq!(journal.text("web"), "said\n", "{unit} {flags}");
        journal.ask("$kelp rm web");
    }
    journal.end();
}

#[test]
fn without_a_journal_a_units_output_is_in_a_file() {
    let Some(mut journal) = Journal::without() else {
        return;
    };
    let image = journal.image.clone();
    journal.ask(&format!(
        "PODMAN_SYSTEMD_UNIT=web.service $kelp run --name=web {image} echo said"
    ));
    assert_eq!(journal.text("web"), "said\n");
    journal.ask("$kelp rm web");
    journal.session.end();
}

#[test]
fn entries_have_the_fields_that_other_engines_give_theirs() {
    let Some(mut journal) = Journal::new() else {
        return;
    };
    let flags = "--name=web --log-opt tag={{.Name}}/{{.ID}} --log-opt label=TIER=front";
    journal.run(
        flags,
        r#"printf "one\na\000b\377\n"; echo err >&2; printf end"#,
    );
    // The end of the run is there once logs is done.
    journal.logs("web");
    let listed = journal.ask("journalctl --all --output=json CONTAINER_NAME=web");
    let id = journal.ask("$kelp inspect -f {{.Id}} web");
    let id = id.trim();
    let entry = |priority: &str, message: Value| {
        json!({
            "PRIORITY": priority,
            "CONTAINER_ID": &id[..12],
            "CONTAINER_ID_FULL": id,
            "CONTAINER_NAME": "web",
            "CONTAINER_TAG": format!("web/{id}"),
            "IMAGE_NAME": journal.image,
            "SYSLOG_IDENTIFIER": format!("web/{id}"),
            "TIER": "front",
            "MESSAGE": message,
        })
    };
    let expected = [
        entry("6", json!("one")),
        entry("6", json!([97, 0, 98, 255])),
        entry("6", json!("end")),
        entry("3", json!("err")),
    ];
    let mut found: Vec<Value> = Vec::new();
    for line in listed.lines() {
        let mut entry: Value = serde_json::from_str(line).unwrap();
        let fields = entry.as_object_mut().unwrap();
        // Those with an underscore are the journal's own.
        fields.retain(|key, _| !key.starts_with('_'));
        found.push(entry);
    }
    found.sort_by_key(|entry| std::cmp::Reverse(entry["PRIORITY"].to_string()));
    assert_eq!(found, expected);
    let format = "{{.HostConfig.LogConfig.Type}} {{.HostConfig.LogConfig.Tag}}";
    let shown = journal.ask(&format!("$kelp inspect -f '{format}' web"));
    assert_eq!(shown, "journald {{.Name}}/{{.ID}}\n");
    journal.end();
}

#[test]
fn logs_gives_back_every_byte_right_after_the_end() {
    let Some(mut journal) = Journal::new() else {
        return;
    };
    // Lines of every kind and length, of which the last are longer than an entry.
    let mut bytes = Vec::new();
    for number in 0..3000_u32 {
        let byte = (number * 7 % 256) as u8;
        bytes.resize(bytes.len() + (number % 41) as usize, byte);
        bytes.push(b'\n');
    }
    for length in [65_535, 65_536, 65_537, 300_000] {
        bytes.extend((0..length).map(|at: u32| b' ' + (at % 90) as u8));
        bytes.push(b'\n');
    }
    fs::write(journal.env.path("h/bytes"), &bytes).unwrap();
    for follow in ["", "-f "] {
        journal.run("--name=web -v ./bytes:/bytes", "cat /bytes; cat /bytes >&2");
        let (out, err) = journal.logs(&format!("{follow}web"));
        assert!(out == bytes, "{follow}: {}", out.len());
        assert!(err == bytes, "{follow}: {}", err.len());
        journal.ask("$kelp rm web");
    }
    let partial = journal.ask(
        "journalctl -o cat --output-fields=CONTAINER_PARTIAL_MESSAGE \
                               CONTAINER_PARTIAL_MESSAGE=true | wc -l",
    );
    // Of the last two lines one part and four, on two streams and in two runs.
    assert_eq!(partial.trim(), "20");
    journal.end();
}

#[test]
fn lines_are_chosen_by_number_and_time() {
    let Some(mut journal) = Journal::new() else {
        return;
    };
    journal.run("--name=web", "echo 1; echo 2; echo 3");
    journal.ask("$kelp start -a web >/dev/null");
    let all = "1\n2\n3\n1\n2\n3\n";
    for (words, expected) in [
        ("web", all),
        ("--tail=0 web", ""),
        ("--tail=1 web", "3\n"),
        ("--tail=4 web", "3\n1\n2\n3\n"),
        ("--tail=7 web", all),
        ("--tail=2 -f web", "2\n3\n"),
        ("--tail=0 -f web", ""),
        ("--since=2000-01-01T00:00:00Z web", all),
        ("--until=2000-01-01T00:00:00Z web", ""),
        ("--since=2100-01-01T00:00:00Z -f web", ""),
        ("--names --tail=1 web", "web 3\n"),
        ("--names --color --tail=1 web", "\u{1b}[31mweb \u{1b}[0m3\n"),
    ] {
        assert_eq!(journal.text(words), expected, "{words}");
    }
    let stamped = journal.text("-t web");
    let lines: Vec<_> = stamped.lines().map(|line| line.split_at(31)).collect();
    let times: Vec<_> = lines.iter().map(|(time, _)| time.trim_end()).collect();
    assert!(times.is_sorted(), "{stamped}");
    let between = format!("--since={} --until={} web", times[1], times[4]);
    assert_eq!(journal.text(&between), "2\n3\n1\n2\n");
    journal.end();
}

#[test]
fn a_tail_counts_the_lines_of_both_streams_and_whole_ones() {
    let Some(mut journal) = Journal::new() else {
        return;
    };
    // Each stream is read by itself: what is written to one is awaited before the other.
    let there = "until journalctl CONTAINER_NAME=web | grep -q";
    journal.run(
        "--name=web -d -v .:/h",
        "echo 1; yes | tr -d \"\\n\" | head -c 100000; until test -e /h/2; do sleep 0.01; done
         echo e >&2; until test -e /h/3; do sleep 0.01; done; echo; echo 2",
    );
    journal.ask(&format!("{there} yyy; do sleep 0.02; done; touch 2"));
    journal.ask(&format!(
        "{there} e$; do sleep 0.02; done; touch 3; $kelp wait web"
    ));
    let long = "y".repeat(100_000);
    for (count, out, err) in [
        (1, "2\n".to_owned(), ""),
        (2, format!("{long}\n2\n"), ""),
        (3, format!("{long}\n2\n"), "e\n"),
        (4, format!("1\n{long}\n2\n"), "e\n"),
    ] {
        let (found, errors) = journal.logs(&format!("--tail={count} web"));
        assert!(found == out.as_bytes(), "{count}: {}", found.len());
        assert_eq!(String::from_utf8_lossy(&errors), err, "{count}");
    }
    journal.end();
}

#[test]
fn following_ends_with_the_last_byte_of_the_last_container() {
    let Some(mut journal) = Journal::new() else {
        return;
    };
    let script = "echo begun; until test -e /h/go; do sleep 0.01; done; seq 20000";
    journal.run("--rm -d --name=one -v .:/h", script);
    journal.run("-d --name=two -v .:/h", script);
    let begun = "until grep -q begun one && test $(grep -c begun both) = 2; do sleep 0.02; done";
    let follow = "$kelp logs -f one >one & one=$!; $kelp logs -f --names one two >both & both=$!";
    journal.ask(&format!(
        "touch one both; {follow}; {begun}; touch go; wait $one && wait $both"
    ));
    let lines = |name: &str| fs::read_to_string(journal.env.path(name)).unwrap();
    let numbers = numbers(20_000);
    assert!(lines("h/one") == format!("begun\n{numbers}"));
    let both = lines("h/both");
    for name in ["one", "two"] {
        let prefix = format!("{name} ");
        let own = both.lines().filter_map(|line| line.strip_prefix(&prefix));
        let own: String = own.flat_map(|line| [line, "\n"]).collect();
        assert!(own == format!("begun\n{numbers}"), "{name}: {}", own.len());
    }
    journal.end();
}

#[test]
fn a_restart_goes_on_in_the_same_log_and_a_follower_ends_with_its_run() {
    let Some(mut journal) = Journal::new() else {
        return;
    };
    journal.run("--name=web", "echo once");
    journal.ask("$kelp rename web other && $kelp start -a other >/dev/null");
    assert_eq!(journal.text("-f other"), "once\nonce\n");
    let names = journal.ask("journalctl -o cat --output-fields=CONTAINER_NAME MESSAGE=once");
    assert_eq!(names, "web\nother\n");
    journal.end();
}

/// A journald that stands still has a full socket soon: the program waits for it, and nobody else does.
#[test]
fn a_journal_that_stands_still_holds_the_program_up_and_nothing_is_lost() {
    let Some(mut journal) = Journal::new() else {
        return;
    };
    journal.ask("kill -STOP $journald");
    journal.run(
        "-d --name=web -v .:/h",
        "seq 20000 | sed s/$/$(printf %0100d 0)/; touch /h/done; sleep 1000",
    );
    // More than all pipes and sockets on the way have room for.
    assert_eq!(
        journal.ask("$kelp exec web sh -c 'test -e /h/done || echo held'"),
        "held\n"
    );
    // Whoever attaches is heard, and the container can be asked for.
    assert_eq!(journal.ask("$kelp exec web echo here"), "here\n");
    journal.ask("$kelp pause web >/dev/null && $kelp unpause web >/dev/null");
    // One that ends meanwhile ends when its output is taken.
    journal.run("-d --name=short", "seq 2000");
    journal.ask("kill -CONT $journald; until test -e done; do sleep 0.02; done");
    assert_eq!(journal.ask("$kelp wait short"), "0\n");
    assert!(journal.text("short") == numbers(2000));
    journal.ask("$kelp stop -t 0 web >/dev/null");
    let tail = format!("{:0100}\n", 0);
    assert!(journal.text("web") == numbers(20_000).replace('\n', &tail));
    journal.end();
}

#[test]
fn a_journal_that_comes_back_gets_what_was_written_meanwhile() {
    let Some(mut journal) = Journal::new() else {
        return;
    };
    let step = "until test -e /h/2; do sleep 0.01; done; echo 2; touch /h/said";
    journal.run(
        "-d --name=web -v .:/h",
        &format!("echo 1; {step}; sleep 1000"),
    );
    journal.ask("until journalctl CONTAINER_NAME=web | grep -q 1$; do sleep 0.02; done");
    journal.stop();
    journal.ask("touch 2; until test -e said; do sleep 0.01; done; $kelp exec web true");
    journal.start();
    journal.ask("until journalctl CONTAINER_NAME=web | grep -q 2$; do sleep 0.02; done");
    journal.ask("$kelp stop -t 0 web >/dev/null");
    assert_eq!(journal.text("web"), "1\n2\n");
    journal.end();
}

#[test]
fn what_there_is_no_journal_for_is_refused_in_one_line() {
    let Some(mut journal) = Journal::without() else {
        return;
    };
    let image = journal.image.clone();
    let journald = "--log-driver=journald";
    let none = "the log driver journald needs systemd's journal, which does not listen at \
                /run/systemd/journal/socket: use --log-driver=k8s-file";
    for (flags, said) in [
        (journald.to_owned(), none),
        (
            format!("{journald} --log-opt max-size=1mb"),
            "--log-opt max-size is of a file, and the log driver journald has none: leave it away, \
             journald.conf(5) says how much the journal keeps",
        ),
        (
            "--log-opt tag={{.Name}}".to_owned(),
            "the log option tag is for the log driver journald alone: add --log-driver=journald",
        ),
        (
            "--log-driver=none --log-opt label=A=b".to_owned(),
            "the log option label is for the log driver journald alone: add --log-driver=journald",
        ),
    ] {
        for command in ["create", "run"] {
            let line = format!("$kelp {command} {flags} {image} true");
            assert_eq!(
                journal.session.ask(&line).failed(125),
                said,
                "{command} {flags}"
            );
        }
    }
    assert_eq!(journal.ask("$kelp ps -aq"), "");
    // One that is gone when the container is started.
    journal.start();
    journal.ask(&format!("$kelp create {journald} --name=web {image} true"));
    let said = journal
        .session
        .ask("PATH=/nowhere $kelp logs web")
        .failed(125);
    let missing = "journalctl is not there, by which output in the journal is read: install it, it comes \
                   with systemd";
    assert_eq!(said, missing);
    journal.stop();
    let said = journal.session.ask("$kelp start web").failed(125);
    let gone = "connect to the journal at /run/systemd/journal/socket: connection refused";
    assert!(said.ends_with(gone), "{said}");
    journal.ask("$kelp rm web");
    journal.session.end();
}
