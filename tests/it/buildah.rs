//! buildah with `kelp-runtime` in place of its own runtime.

use std::fs;

use crate::env::Env;
use crate::image::busybox_root;
use crate::kelp::{Done, Kelp};
use crate::skip;
use crate::terminal::Terminal;

/// A buildah whose storage and state are in the test's world.
struct Buildah<'a> {
    env: &'a Env,
}

impl<'a> Buildah<'a> {
    /// With busybox in the directory `root`.
    fn new(env: &'a Env) -> Option<Self> {
        if skip::lacks("buildah") {
            return None;
        }
        let applets = ["sh", "cat", "id", "grep", "sleep", "tty", "true"];
        busybox_root(&env.path("h/root"), &["tmp"], &applets);
        env.link_runtime();
        fs::create_dir(env.path("h/tmp")).unwrap();
        fs::write(env.path("h/conf"), "").unwrap();
        Some(Self { env })
    }

    fn kelp(&self, words: &[&str]) -> Kelp {
        let path = |name| self.env.word(name);
        let mut command = self.env.program("buildah");
        command
            .args([
                "--root",
                &path("h/storage"),
                "--runroot",
                &path("r/buildah"),
            ])
            .args(["--storage-driver", "vfs"])
            .args(words)
            .env("CONTAINERS_CONF", self.env.path("h/conf"))
            // buildah puts its bundles there.
            .env("TMPDIR", self.env.path("h/tmp"));
        Kelp::new(command)
    }

    fn does(&self, words: &[&str]) -> String {
        self.kelp(words).done().exits(0)
    }

    /// A container with the root's files; its name.
    fn scratch(&self) -> String {
        let name = self.does(&["from", "scratch"]).trim().to_owned();
        self.does(&["copy", "-q", &name, "root", "/"]);
        name
    }

    /// What takes buildah to the runtime.
    fn by_runtime(&self, verb: &str, words: &[&str]) -> Kelp {
        let runtime = self.env.path("h/kelp-runtime");
        let own = [
            verb,
            "--runtime",
            runtime.to_str().unwrap(),
            "--isolation=oci",
            "--network=none",
        ];
        self.kelp(&[&own[..], words].concat())
    }

    fn run(&self, words: &[&str]) -> Done {
        self.by_runtime("run", words).done()
    }

    /// Asserts that no container, bundle or state of a run is left.
    fn has_left_nothing(&self) {
        let names = |directory: &str| -> Vec<_> {
            let entries = fs::read_dir(self.env.path(directory)).into_iter().flatten();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            // Compiled filters stay until the boot.
            names.filter(|name| name != ":seccomp").collect()
        };
        assert_eq!(names("r/kelp-runtime"), [""; 0]);
        assert_eq!(names("h/tmp"), [""; 0]);
    }
}

#[test]
fn buildah_runs_its_containers_by_it() {
    let Some(env) = Env::new() else { return };
    let Some(buildah) = Buildah::new(&env) else {
        return;
    };
    let name = buildah.scratch();
    let done = buildah.run(&[
        &name,
        "--",
        "sh",
        "-c",
        "echo out; echo err >&2; id -u; exit 7",
    ]);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (7, "out\n0\n"),
        "{done:#?}"
    );
    assert!(done.stderr.starts_with("err\n"), "{done:#?}");
    let input = buildah
        .by_runtime("run", &[&name, "--", "cat"])
        .input(b"sent");
    assert_eq!(input.done().exits(0), "sent");
    let volume = env.path("h/volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("hello"), "hello\n").unwrap();
    let bind = format!("--volume={}:/x:ro", volume.display());
    let flags = [
        "--user=7:8",
        "--hostname=here",
        "--cap-drop=all",
        "--env=A=b",
        &bind,
    ];
    let script = "id -u; id -g; echo $A; cat /x/hello; grep -E '^(CapBnd|Seccomp):' /proc/self/status; \
                  cat /proc/sys/kernel/hostname; echo > /x/new || echo kept";
    let words = [&flags[..], &[&name, "--", "sh", "-c", script]].concat();
    let expected = "7\n8\nb\nhello\nCapBnd:\t0000000000000000\nSeccomp:\t2\nhere\nkept\n";
    assert_eq!(buildah.run(&words).exits(0), expected);
    let run = buildah.by_runtime(
        "run",
        &["--terminal", &name, "--", "sh", "-c", "tty; exit 6"],
    );
    let mut terminal = Terminal::start(run);
    terminal.expect("/dev/pts/0\r\n");
    assert_eq!(terminal.finish().0, 6);
    let done = buildah.run(&[&name, "--", "nosuch"]);
    assert_eq!(done.code, 1, "{done:#?}");
    let said = "kelp-runtime: nosuch: executable file not found in $PATH";
    assert!(done.stderr.contains(said), "{done:#?}");
    buildah.does(&["rm", &name]);
    buildah.has_left_nothing();
}

#[test]
fn buildah_builds_an_image_by_it() {
    let Some(env) = Env::new() else { return };
    let Some(buildah) = Buildah::new(&env) else {
        return;
    };
    let steps = "FROM scratch\nCOPY root /\nRUN echo built > /tmp/file\nUSER 7\nRUN id -u\n";
    fs::write(env.path("h/Containerfile"), steps).unwrap();
    let build = ["-t", "built", "."];
    let said = buildah.by_runtime("build", &build).done().exits(0);
    assert!(said.contains("\n7\n"), "{said}");
    let name = buildah.does(&["from", "localhost/built"]);
    let name = name.trim();
    let words = [name, "--", "cat", "/tmp/file"];
    assert_eq!(buildah.run(&words).exits(0), "built\n");
    let failing = "FROM scratch\nCOPY root /\nRUN exit 3\n";
    fs::write(env.path("h/Containerfile"), failing).unwrap();
    let done = buildah.by_runtime("build", &build).done();
    assert_eq!(done.code, 3, "{done:#?}");
    assert!(done.stderr.contains("exit status 3"), "{done:#?}");
    buildah.does(&["rm", "--all"]);
    buildah.has_left_nothing();
}
