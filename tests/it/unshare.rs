//! kelp in its own `kelp unshare`: the same store, the same containers, whichever side it is called from.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin};
use std::sync::mpsc;
use std::thread;

use crate::env::{Env, kelp_program, names};
use crate::kelp::{Kelp, LIMIT, around, wait};

/// A shell in `kelp unshare` that is told what to do; `$kelp` is kelp.
pub(crate) struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
}

/// What a session's command has printed, and its exit code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) code: i32,
}

impl Said {
    /// What was printed by a command that succeeds.
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, 0, "{}", self.text);
        self.text
    }

    /// The one line of an error.
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}", self.text);
        let line = self.text.strip_prefix("Error: ").unwrap_or(&self.text);
        assert_eq!(line.lines().count(), 1, "{line}");
        line.trim_end().to_owned()
    }
}

impl Session {
    pub(crate) fn new(env: &Env) -> Self {
        let mut child = env.kelp(&["unshare", "sh"]).start();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut session = Self {
            stdin: child.stdin.take(),
            lines,
            child,
        };
        let program = kelp_program();
        let first = format!("exec 2>&1; kelp={}", program.display());
        session.ask(&first).done();
        session
    }

    /// What a script comes to.
    pub(crate) fn ask(&mut self, script: &str) -> Said {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{script}\necho \"-- $?\"").unwrap();
        let mut text = String::new();
        loop {
            let line = self.lines.recv_timeout(LIMIT);
            let line = line.unwrap_or_else(|_| panic!("{script}: no answer after {text:?}"));
            // What a command prints may end without a newline.
            if let Some((rest, code)) = line.split_once("-- ")
                && let Ok(code) = code.parse()
            {
                text.push_str(rest);
                return Said { text, code };
            }
            text.push_str(&line);
            text.push('\n');
        }
    }

    /// Lets the shell end.
    pub(crate) fn end(mut self) {
        drop(self.stdin.take());
        assert_eq!(wait(&mut self.child, "kelp unshare"), 0);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.stdin.is_some() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The maps that layers are there for.
fn maps(env: &Env) -> Vec<String> {
    names(&env.path("d/kelp/layers"))
}

#[test]
fn kelp_in_its_own_unshare_has_the_same_store_and_containers() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let none = ["--network", "none"];
    let own = rustix::process::getuid().as_raw().to_string();
    assert_eq!(
        env.shell(&["--userns=keep-id"], "id -u"),
        format!("{own}\n")
    );
    let maps_before = maps(&env);
    let images = env.kelp(&["images", "-q", "--no-trunc"]).succeeds();
    let before = env.waiting("before", &none);
    let mut session = Session::new(&env);
    let after = env.waiting("after", &none);
    // The same images and containers, and they can be looked into.
    assert_eq!(session.ask("$kelp images -q --no-trunc").done(), images);
    let listed = session.ask("$kelp ps -q --no-trunc").done();
    let mut listed: Vec<_> = listed.lines().collect();
    listed.sort_unstable();
    let mut ids = [before.as_str(), after.as_str()];
    ids.sort_unstable();
    assert_eq!(listed, ids);
    for name in ["before", "after"] {
        let script = format!("$kelp exec {name} echo here; $kelp cp {name}:/bin/busybox - | wc -c");
        let said = session.ask(&script).done();
        assert!(said.starts_with("here\n") && said.len() > 8, "{said}");
    }
    // Containers of every kind of user namespace, a network, and owners as ever.
    let run = |flags: &str, words: &str| format!("$kelp run --rm {flags} {image} {words}");
    let owners = "sh -c 'id -u; chown 7:8 /tmp && stat -c %u:%g /tmp /bin/busybox'";
    let said = session.ask(&run("", owners)).done();
    assert_eq!(said, "0\n7:8\n0:0\n");
    let keep = run(
        "--network none --userns=keep-id",
        "sh -c 'id -u; stat -c %u /bin/busybox'",
    );
    assert_eq!(session.ask(&keep).done(), format!("{own}\n0\n"));
    let auto = run(
        "--network none --userns=auto",
        "sh -c 'id -u; wc -l < /proc/self/uid_map'",
    );
    assert_eq!(session.ask(&auto).done(), "0\n1\n");
    let maps_after = maps(&env);
    let new = maps_after.iter().filter(|map| !maps_before.contains(map));
    // That of `auto` alone.
    assert_eq!(new.count(), 1, "{maps_before:?} {maps_after:?}");
    // But not one with a namespace of its own that was made elsewhere; that can be stopped.
    env.waiting("apart", &["--network", "none", "--userns=keep-id"]);
    for words in ["exec apart true", "cp apart:/bin/sh -", "mount apart"] {
        let line = session.ask(&format!("$kelp {words}")).failed(125);
        assert!(
            line.ends_with("leave `kelp unshare` for it, or start it in there"),
            "{line}"
        );
    }
    let again = "$kelp stop -t 0 apart && $kelp start apart && $kelp exec apart true";
    session.ask(again).done();
    // One that is started here is anybody's, and outlives the session.
    let start = format!("$kelp run -d --name inner --network none {image} sleep 1000");
    let inner = session.ask(&start).done();
    let keep =
        format!("$kelp run -d --name kept --network none --userns=keep-id {image} sleep 1000");
    session.ask(&keep).done();
    let exec = |name: &str| env.kelp(&["exec", name, "id", "-u"]).succeeds();
    assert_eq!(exec("inner"), "0\n");
    assert_eq!(exec("kept"), format!("{own}\n"));
    session
        .ask("$kelp stop -t 0 before && $kelp rm before")
        .done();
    session.end();
    assert_eq!(exec("inner"), "0\n");
    let found = env.kelp(&["inspect", "-f", "{{.State.Status}}", "inner"]);
    assert_eq!(found.succeeds(), "running\n");
    let commit = ["commit", "-q", "inner", "made"];
    env.kelp(&commit).succeeds();
    assert!(
        env.kelp(&["ps", "-q", "--no-trunc"])
            .succeeds()
            .contains(inner.trim())
    );
    env.kelp(&["rm", "-f", "-t", "0", "inner", "kept", "apart", "after"])
        .succeeds();
}

#[test]
fn what_is_pulled_and_removed_in_an_unshare_is_so_outside() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    env.kelp(&["rmi", &image]).succeeds();
    let mut session = Session::new(&env);
    session.ask(&format!("$kelp pull -q {image}")).done();
    let script =
        format!("$kelp unshare sh -c 'id -u; \"$0\" run --rm --network none {image} id -u' $kelp");
    assert_eq!(session.ask(&script).done(), "0\n0\n");
    session.ask("$kelp system check").done();
    session.end();
    let keys = maps(&env);
    assert_eq!(
        env.shell(&["--network", "none"], "echo outside"),
        "outside\n"
    );
    assert_eq!(maps(&env), keys);
    assert_eq!(keys.len(), 1, "{keys:?}");
    let mut session = Session::new(&env);
    session.ask(&format!("$kelp rmi {image}")).done();
    session.end();
    assert_eq!(env.kelp(&["images", "-q"]).succeeds(), "");
}

#[test]
fn root_of_a_namespace_with_one_id_runs_containers_with_one() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let kelp = env
        .kelp(&["run", "--rm", "--network", "none", &image, "id", "-u"])
        .into_command();
    let words = ["--user", "--map-root-user", "--mount"];
    let inside = around(&kelp, "unshare", &words);
    let done = Kelp::new(inside).done();
    assert_eq!(done.exits(0), "0\n");
    assert!(maps(&env).contains(&"single".to_owned()));
}

#[test]
fn root_of_a_namespace_that_may_not_mount_has_one_beneath_it() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "readlink /proc/self/ns/user; chown 7:8 /tmp; stat -c %u:%g /tmp";
    let run = ["run", "--rm", "--network=none", &image, "sh", "-c", script];
    let outside = env.kelp(&run).succeeds();
    let words = [
        "--user",
        "--map-auto",
        "--map-root-user",
        "setpriv",
        "--bounding-set=-sys_admin",
    ];
    let inside = || {
        let command = around(&env.kelp(&run).into_command(), "unshare", &words);
        let done = Kelp::new(command).done().exits(0);
        assert!(done.ends_with("\n7:8\n") && done != outside, "{done}");
    };
    inside();
    let keys = maps(&env);
    inside();
    assert_eq!(maps(&env), keys);
}

#[test]
fn an_unshare_passes_signals_and_environment_on() {
    let Some(env) = Env::new() else { return };
    let script =
        "echo $CONTAINERS_GRAPHROOT; echo $CONTAINERS_RUNROOT; kill -TERM $PPID; exec sleep 1000";
    let done = env.kelp(&["unshare", "sh", "-c", script]).done();
    let expected = format!(
        "{}\n{}\n",
        env.word("d/kelp"),
        env.runtime().join("kelp").display()
    );
    assert_eq!(done.stdout, expected);
    done.exits(128 + 15);
    let killed = env.kelp(&["unshare", "sh", "-c", "kill -9 $$"]).done();
    killed.exits(128 + 9);
    let unnamed = env.kelp(&["unshare", "/"]).done();
    unnamed.exits(126);
}
