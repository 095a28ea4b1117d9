//! `--runtime`: a container is the same whichever OCI runtime makes it.
//!
//! Each behaviour is tried with crun, runc, and kelp's own binary under the name of `kelp-runtime`.

mod configured;
mod fails;
mod killed;
mod runsc;

use std::fs;
use std::os::unix::fs::symlink;

use crate::env::{Env, kelp_program};
use crate::kelp::{Kelp, many_lines, wait_until};
use crate::network::{free_port, get};
use crate::probe::Report;
use crate::skip::{has_program, no_pasta, skip};
use crate::terminal::Terminal;

const RUNTIMES: &[&str] = &["crun", "runc", "kelp-runtime"];

/// A world with a runtime in it.
struct World {
    env: Env,
    image: String,
    /// By name, or by path.
    runtime: String,
    name: &'static str,
}

impl World {
    fn new(name: &'static str) -> Option<Self> {
        let env = Env::new()?;
        let mut runtime = name.to_owned();
        if name == "kelp-runtime" {
            let path = env.path("h/kelp-runtime");
            symlink(kelp_program(), &path).unwrap();
            path.to_str().unwrap().clone_into(&mut runtime);
        } else if !has_program(name) {
            skip(&format!("the program {name}"));
            return None;
        }
        Some(Self {
            image: env.busybox(),
            env,
            runtime,
            name,
        })
    }

    /// One for each runtime.
    fn each() -> impl Iterator<Item = Self> {
        RUNTIMES.iter().filter_map(|name| Self::new(name))
    }

    /// `kelp run` by the runtime.
    fn run(&self, flags: &[&str], command: &[&str]) -> Kelp {
        let own = ["run", "--runtime", &self.runtime];
        self.env
            .kelp(&[&own[..], flags, &[&self.image], command].concat())
    }

    /// What a shell command in a container without a network prints.
    fn shell(&self, flags: &[&str], script: &str) -> String {
        let own = ["--rm", "--network=none"];
        self.run(&[&own[..], flags].concat(), &["sh", "-c", script])
            .succeeds()
    }

    /// A container named `c` in the background.
    fn start(&self, flags: &[&str], script: &str) {
        let own = ["-d", "--name=c", "--network=none"];
        self.run(&[&own[..], flags].concat(), &["sh", "-c", script])
            .succeeds();
    }

    fn kelp(&self, words: &[&str]) -> String {
        self.env.kelp(words).succeeds()
    }

    fn end(&self) {
        self.kelp(&["rm", "-f", "-t0", "c"]);
    }

    fn inspect(&self, format: &str) -> String {
        self.kelp(&["inspect", "-f", format, "c"])
    }
}

#[test]
fn output_and_exit_code_are_the_programs() {
    for world in World::each() {
        let done = world
            .run(
                &["--rm", "--network=none"],
                &["sh", "-c", "echo out; echo err >&2; exit 7"],
            )
            .done();
        assert_eq!(
            (done.code, done.stdout.as_str(), done.stderr.as_str()),
            (7, "out\n", "err\n"),
            "{done:#?}"
        );
        // Process 1 of a pid namespace gets no signal of its own that it has no handler for.
        let flags = ["--rm", "--network=none", "--pid=host"];
        world
            .run(&flags, &["sh", "-c", "kill -TERM $$"])
            .done()
            .exits(143);
        let kept = ["--network=none", "--name=c"];
        world.run(&kept, &["sh", "-c", "echo kept"]).succeeds();
        assert_eq!(world.kelp(&["logs", "c"]), "kept\n");
        assert_eq!(world.kelp(&["start", "-a", "c"]), "kept\n");
        assert_eq!(
            world.inspect("{{.OCIRuntime}} {{.State.Status}} {{.State.ExitCode}}"),
            format!("{} exited 0\n", world.name)
        );
        world.kelp(&["rm", "c"]);
    }
}

#[test]
fn what_can_t_be_executed_is_said_by_the_runtime() {
    for world in World::each() {
        for (program, code) in [
            ("nosuch", 127),
            ("/nosuch", 127),
            ("/etc/passwd", 126),
            ("/etc", 126),
        ] {
            let flags = ["--rm", "--network=none"];
            let line = world.run(&flags, &[program]).fails(code);
            let start = format!("Error: {}: ", world.name);
            assert!(line.starts_with(&start), "{line}");
        }
        // A record that is kept tells the same.
        let flags = ["--name=c", "--network=none"];
        let line = world.run(&flags, &["nosuch"]).fails(127);
        let told = world.inspect("{{.State.ExitCode}} {{.State.Error}}");
        let said = line.trim_start_matches("Error: ");
        assert_eq!(told, format!("127 {said}\n"));
        world.kelp(&["rm", "c"]);
    }
}

#[test]
fn streams_arrive_whole() {
    for world in World::each() {
        let sent = many_lines();
        let flags = ["--rm", "-i", "--network=none"];
        let received = world.run(&flags, &["cat"]).input(sent.as_bytes());
        assert!(received.succeeds() == sent, "{}", world.name);
        let flags = ["--rm", "--network=none"];
        let none = world.run(&flags, &["cat"]).input(b"not for it");
        assert_eq!(none.succeeds(), "");
        let flags = ["--rm", "--network=none", "--log-driver=passthrough"];
        assert_eq!(
            world.run(&flags, &["echo", "passed"]).succeeds(),
            "passed\n"
        );
    }
}

#[test]
fn a_terminal_is_one_and_follows_its_window() {
    for world in World::each() {
        let flags = ["--rm", "-it", "--network=none"];
        let mut terminal = Terminal::start(world.run(&flags, &["sh"]));
        terminal.send(b"tty; stty size\n");
        terminal.expect("/dev/pts/0\r\n24 80\r\n");
        terminal.send(b"test -c /dev/console && echo cons''ole\n");
        terminal.expect("console\r\n");
        terminal.resize(100, 30);
        terminal.send(b"until stty size | grep -q '30 100'; do :; done; echo re''sized\n");
        terminal.expect("resized\r\n");
        terminal.send(b"exit 6\n");
        assert_eq!(terminal.finish().0, 6, "{}", world.name);
    }
}

#[test]
fn a_process_has_what_kelps_own_runtime_gives_it() {
    for world in World::each() {
        let flags = [
            "--network=none",
            "--hostname=web",
            "-e",
            "MORE=1",
            "--ulimit=nofile=100:200",
            "--cap-add=NET_ADMIN",
            "--umask=027",
        ];
        for user in ["root", "user", "1000:7", "4242"] {
            let mut flags = flags.to_vec();
            flags.extend(["--user", user]);
            let own = Report::of(&world.env, &flags);
            flags.push("--rm");
            let other = Report::parse(&world.run(&flags, &["kelp-probe"]).succeeds());
            assert_eq!(own.environment(), other.environment(), "{}", world.name);
            for subject in [
                "/ids",
                "/capabilities",
                "/security",
                "/limits",
                "/process/umask",
            ] {
                let (own, other) = (own.get(subject), other.get(subject));
                assert_eq!(own, other, "{} {user} {subject}", world.name);
            }
            let descriptors = other.get("/descriptors").as_object().unwrap();
            let numbers: Vec<_> = descriptors.keys().collect();
            assert_eq!(numbers, ["0", "1", "2"], "{descriptors:#?}");
        }
        let flags = ["--user=4242", "--workdir=/new/place"];
        let script = "id -un; grep -c :4242:0: /etc/passwd; stat -c %u:%g . && pwd";
        assert_eq!(world.shell(&flags, script), "4242\n1\n4242:0\n/new/place\n");
        let refused = "unshare -U true 2>/dev/null; swapoff /x 2>&1; cat /proc/kcore 2>&1 | head -c 1 | wc -c";
        assert_eq!(world.shell(&[], refused), own_shell(&world, refused));
    }
}

fn own_shell(world: &World, script: &str) -> String {
    world.env.shell(&["--network=none"], script)
}

#[test]
fn mounts_are_those_of_kelps_own_runtime() {
    let shows = "for place in / /dev /dev/shm /dev/pts /dev/mqueue /proc /sys /tmp /scratch /data /v \
                 /etc/hosts /run/.containerenv; do awk -v place=$place '$2 == place { print $2, $3, \
                 $4 ~ /(^|,)ro(,|$)/, $4 ~ /nosuid/, $4 ~ /nodev/, $4 ~ /noexec/ }' /proc/mounts | tail -n 1; \
                 done; ls -l /dev | awk '{ print $1, $NF }' | grep -v -e total -e core";
    for world in World::each() {
        let shared = world.env.path("h/shared");
        fs::create_dir(&shared).unwrap();
        let data = format!("{}:/data:ro,noexec", shared.display());
        let flags = [
            "--read-only",
            "--tmpfs=/scratch:noexec,size=1m",
            "-v",
            &data,
            "-v",
            "named:/v",
        ];
        let own = world
            .env
            .shell(&[&["--network=none"], &flags[..]].concat(), shows);
        assert_eq!(world.shell(&flags, shows), own, "{}", world.name);
        fs::remove_dir(&shared).unwrap();
    }
}

#[test]
fn a_volume_gets_what_the_image_has() {
    for world in World::each() {
        let look = "stat -c '%u:%g %a' /home /home/user; touch /home/new";
        let seen = world.shell(&["-v", "homes:/home"], look);
        assert_eq!(seen, "0:0 755\n1000:1000 755\n");
        let ls = ["-v", "homes:/homes:ro"];
        assert_eq!(
            world.shell(
                &ls,
                "ls /homes; touch /homes/x 2>/dev/null || echo read-only"
            ),
            "new\nuser\nread-only\n"
        );
        let given = ["-u", "1000", "-v", "given:/new/place"];
        assert_eq!(
            world.shell(&given, "stat -c %u:%g /new/place; touch /new/place/x"),
            "1000:1000\n"
        );
        assert_eq!(
            world.shell(&["--tmpfs=/etc:uid=5"], "stat -c %u /etc /etc/passwd"),
            "5\n0\n"
        );
        let host = world.env.path("h/of-host");
        fs::create_dir(&host).unwrap();
        fs::write(host.join("file"), "of the host\n").unwrap();
        let overlay = format!("{}:/over:O", host.display());
        let script = "cat /over/file; echo changed > /over/file; cat /over/file";
        assert_eq!(
            world.shell(&["-v", &overlay], script),
            "of the host\nchanged\n"
        );
        let kept = fs::read_to_string(host.join("file")).unwrap();
        assert_eq!(kept, "of the host\n");
        let nested = ["-v", "outer:/outer", "-v", "inner:/outer/inner"];
        let script = "touch /outer/o /outer/inner/i; find /outer | sort";
        assert_eq!(
            world.shell(&nested, script),
            "/outer\n/outer/inner\n/outer/inner/i\n/outer/o\n"
        );
        // What is mounted in /dev leaves nothing in the image.
        let file = format!("{}:/dev/of-host", host.join("file").display());
        world
            .run(
                &["--name=c", "--network=none", "-v", &file],
                &["cat", "/dev/of-host"],
            )
            .succeeds();
        assert!(!world.kelp(&["diff", "c"]).contains("of-host"));
        world.kelp(&["rm", "c"]);
    }
}

#[test]
fn a_network_of_its_own_and_a_published_port_work() {
    for world in World::each() {
        let script = "ls /sys/class/net; ip -o link show up | grep -c '<LOOPBACK,UP'";
        assert_eq!(world.shell(&[], script), "lo\n1\n");
        if let Some(missing) = no_pasta() {
            skip(missing);
            continue;
        }
        let port = free_port();
        let publish = format!("127.0.0.1:{port}:8080");
        let serve = "mkdir /www && echo served > /www/index.html && httpd -f -p 8080 -h /www";
        world
            .run(&["-d", "--name=c", "-p", &publish], &["sh", "-c", serve])
            .succeeds();
        assert_eq!(get(port), "served\n", "{}", world.name);
        let shared = ["--rm", "--network=container:c"];
        let fetch = "wget -qO- http://127.0.0.1:8080/";
        let other = world.run(&shared, &["sh", "-c", fetch]).succeeds();
        assert_eq!(other, "served\n");
        world.end();
    }
}

#[test]
fn namespaces_of_another_container_can_be_joined() {
    for world in World::each() {
        world.start(
            &["--hostname=first", "--ipc=shareable"],
            "echo shared > /dev/shm/file; sleep 1000",
        );
        world.kelp(&[
            "exec",
            "c",
            "sh",
            "-c",
            "while ! test -s /dev/shm/file; do :; done",
        ]);
        let joins = [
            "--ipc=container:c",
            "--pid=container:c",
            "--uts=container:c",
        ];
        let script = "hostname; cat /dev/shm/file; readlink /proc/self/ns/pid";
        let pids = world.kelp(&["exec", "c", "readlink", "/proc/self/ns/pid"]);
        let expected = format!("first\nshared\n{pids}");
        assert_eq!(world.shell(&joins, script), expected, "{}", world.name);
        world.end();
    }
}

#[test]
fn each_user_namespace_works() {
    for world in World::each() {
        let own = rustix::process::getuid().as_raw();
        for (userns, id) in [
            ("--userns=keep-id", own.to_string()),
            ("--userns=keep-id:uid=7,gid=8", "7".to_owned()),
            ("--userns=auto", "0".to_owned()),
            ("--userns=nomap", "0".to_owned()),
        ] {
            let script = "id -u; stat -c %u / /home/user; touch /tmp/mine; stat -c %u /tmp/mine";
            let expected = world.env.shell(&["--network=none", userns], script);
            let seen = world.shell(&[userns], script);
            assert_eq!(seen, expected, "{} {userns}", world.name);
            assert!(seen.starts_with(&format!("{id}\n")), "{seen}");
        }
    }
}

#[test]
fn a_policy_starts_it_again() {
    for world in World::each() {
        let flags = ["-d", "--name=c", "--network=none", "--restart=on-failure:2"];
        let script = "echo run; test -e /first || { touch /first; exit 3; }; exit 4";
        world.run(&flags, &["sh", "-c", script]).succeeds();
        let code = world.kelp(&["wait", "c"]);
        assert!(matches!(code.as_str(), "3\n" | "4\n"), "{code}");
        world.kelp(&["wait", "--condition=exited", "c"]);
        wait_until(world.name, || {
            world.inspect("{{.RestartCount}} {{.State.Status}}") == "2 exited\n"
        });
        assert_eq!(world.kelp(&["logs", "c"]), "run\nrun\nrun\n");
        assert_eq!(world.inspect("{{.State.ExitCode}}"), "4\n");
        world.kelp(&["rm", "c"]);
    }
}

#[test]
fn exec_is_the_runtimes() {
    for world in World::each() {
        world.start(&["--hostname=web", "-e", "OWN=1"], "sleep 1000");
        let exec = |words: &[&str]| world.env.kelp(&[&["exec"], words].concat());
        for code in [0, 7, 255] {
            exec(&["c", "sh", "-c", &format!("exit {code}")])
                .done()
                .exits(code);
        }
        exec(&["c", "sh", "-c", "kill -TERM $$"]).done().exits(143);
        let line = exec(&["c", "nosuch"]).fails(127);
        assert!(
            line.starts_with(&format!("Error: {}: ", world.name)),
            "{line}"
        );
        exec(&["c", "/etc/passwd"]).fails(126);
        let line = exec(&["-u", "nobody-knows", "c", "true"]).fails(125);
        assert!(line.contains("unable to find user nobody-knows"), "{line}");
        let words = [
            "-u",
            "user",
            "-w",
            "/tmp",
            "-e",
            "MORE=2",
            "c",
            "sh",
            "-c",
            "id -u; id -G; pwd; echo $HOME $OWN $MORE; hostname; echo err >&2",
        ];
        let done = exec(&words).done();
        assert_eq!(
            (done.stdout.as_str(), done.stderr.as_str()),
            ("1000\n1000 2000\n/tmp\n/home/user 1 2\nweb\n", "err\n"),
            "{}",
            world.name
        );
        let sent = many_lines();
        let received = exec(&["-i", "c", "cat"]).input(sent.as_bytes()).succeeds();
        assert!(sent == received, "{}", world.name);
        let mut terminal = Terminal::start(exec(&["-it", "c", "sh"]));
        terminal.send(b"tty; stty size\n");
        terminal.expect("\r\n24 80\r\n");
        terminal.send(b"exit 6\n");
        assert_eq!(terminal.finish().0, 6);
        let id = exec(&["-d", "c", "sh", "-c", "mkfifo /pipe; echo done > /pipe"]).succeeds();
        assert_eq!(id.trim().len(), 64, "{id}");
        let script = "while ! test -p /pipe; do sleep 0.05; done; cat /pipe";
        assert_eq!(exec(&["c", "sh", "-c", script]).succeeds(), "done\n");
        let report = Report::parse(&exec(&["c", "kelp-probe"]).succeeds());
        let descriptors = report.get("/descriptors").as_object().unwrap();
        let numbers: Vec<_> = descriptors.keys().collect();
        assert_eq!(numbers, ["0", "1", "2"], "{descriptors:#?}");
        assert_eq!(report.capabilities("bounding"), 0x8004_05fb);
        assert_eq!(report.get("/security/seccomp"), 2);
        world.end();
    }
}

#[test]
fn it_is_stopped_killed_paused_and_looked_at_like_any_other() {
    for world in World::each() {
        world.start(
            &[],
            "trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.1; done",
        );
        let ps = world.kelp(&["ps", "--format", "{{.Names}} {{.State}}"]);
        assert_eq!(ps, "c running\n");
        world.kelp(&["pause", "c"]);
        assert_eq!(world.inspect("{{.State.Status}}"), "paused\n");
        world.kelp(&["unpause", "c"]);
        assert!(world.kelp(&["top", "c"]).contains("sh -c"));
        let host = world.env.path("h/copied");
        fs::write(&host, "copied\n").unwrap();
        world.kelp(&["cp", host.to_str().unwrap(), "c:/tmp/copied"]);
        assert_eq!(world.kelp(&["exec", "c", "cat", "/tmp/copied"]), "copied\n");
        wait_until(world.name, || world.kelp(&["logs", "c"]) == "up\n");
        world.kelp(&["stop", "c"]);
        assert_eq!(
            world.inspect("{{.State.Status}} {{.State.ExitCode}}"),
            "exited 9\n"
        );
        assert_eq!(world.kelp(&["logs", "c"]), "up\nbye\n");
        world.kelp(&["start", "c"]);
        world.kelp(&["kill", "c"]);
        assert_eq!(world.inspect("{{.State.ExitCode}}"), "137\n");
        world.kelp(&["start", "c"]);
        world.end();
    }
}
