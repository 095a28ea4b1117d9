//! `kelp-runtime`: the low-level runtime's command line, on bundles of the host's.

mod races;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::cgroups;
use crate::env::Env;
use crate::image::busybox_root;
use crate::kelp::{Kelp, wait_until};

/// What scripts call.
const APPLETS: &[&str] = &[
    "cat", "cp", "echo", "find", "grep", "head", "id", "ls", "mkdir", "pwd", "readlink", "sh",
    "sleep", "stat", "stty", "test", "true", "tty",
];

/// A bundle with busybox for its root, and a state root of its own.
pub(crate) struct Bundle<'a> {
    env: &'a Env,
    /// Its directory.
    pub(crate) directory: PathBuf,
}

impl<'a> Bundle<'a> {
    /// With `spec --rootless`, and this command.
    pub(crate) fn new(env: &'a Env, args: &[&str]) -> Self {
        let directory = env.path("h/bundle");
        let root = directory.join("rootfs");
        busybox_root(&root, &["dev", "etc", "proc", "sys", "tmp"], APPLETS);
        fs::write(root.join("etc/passwd"), "").unwrap();
        env.link_runtime();
        let bundle = Self { env, directory };
        bundle.runtime(&["spec", "--rootless"]).succeeds();
        bundle.change(|spec| {
            spec["process"]["terminal"] = false.into();
            spec["process"]["args"] = json!(args);
        });
        bundle
    }

    /// Changes its config.json.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Value)) {
        let path = self.directory.join("config.json");
        let mut spec = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut spec);
        fs::write(path, serde_json::to_vec(&spec).unwrap()).unwrap();
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.env.path("h/kelp-runtime"));
        command
            .args(words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("XDG_RUNTIME_DIR", self.env.runtime())
            .current_dir(&self.directory)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn runtime(&self, words: &[&str]) -> Kelp {
        Kelp::new(self.command(words))
    }

    /// The same with files for its streams, which what it leaves running has as well.
    pub(crate) fn leaves(&self, words: &[&str]) -> Result<(), String> {
        let [out, err] = ["out", "err"].map(|name| self.directory.join(name));
        let create = |path: &PathBuf| fs::File::create(path).unwrap();
        let mut command = self.command(words);
        let status = command.stdout(create(&out)).stderr(create(&err)).status();
        match status.unwrap().code() {
            Some(0) => Ok(()),
            Some(1) => {
                let said = fs::read_to_string(err).unwrap();
                let line = said.strip_prefix("kelp-runtime: ").unwrap();
                Err(line.strip_suffix('\n').unwrap().to_owned())
            }
            code => panic!("{code:?}"),
        }
    }

    /// What a command says that fails.
    pub(crate) fn fails(&self, words: &[&str]) -> String {
        let said = self.leaves(words).unwrap_err();
        assert!(!said.contains('\n'), "{said}");
        said
    }

    pub(crate) fn status(&self, id: &str) -> String {
        let text = self.runtime(&["state", id]).succeeds();
        let state: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(state["id"], id);
        assert_eq!(state["bundle"], self.directory.to_str().unwrap());
        state["status"].as_str().unwrap().to_owned()
    }

    /// Waits until a container has ended; nothing tells of it but its state.
    pub(crate) fn wait(&self, id: &str) {
        self.reaches(id, "stopped");
    }

    /// Waits until a container that may not be there yet has this status.
    pub(crate) fn reaches(&self, id: &str, status: &str) {
        let is_there = || {
            self.runtime(&["list", "--quiet"])
                .succeeds()
                .lines()
                .any(|it| it == id)
        };
        wait_until(&format!("{id} is {status}"), || {
            is_there() && self.status(id) == status
        });
    }

    /// Deletes a container by force, after which nothing is left.
    fn end(&self, id: &str) {
        self.runtime(&["delete", "--force", id]).succeeds();
        assert!(self.left().is_empty());
    }

    /// The directory of a container in the state root.
    fn state(&self, id: &str) -> PathBuf {
        self.env.runtime().join("kelp-runtime").join(id)
    }

    /// What is left in the state root.
    fn left(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.env.runtime().join("kelp-runtime"));
        entries
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

/// runtime.md, "Lifecycle" and "Operations".
#[test]
fn a_container_goes_through_its_life() {
    let Some(env) = Env::new() else { return };
    let bundle = Bundle::new(&env, &["sh", "-c", "echo ran >/tmp/ran; exec sleep 1000"]);
    let ran = bundle.directory.join("rootfs/tmp/ran");
    bundle.change(|spec| spec["root"]["readonly"] = false.into());
    let runtime = |words: &[&str]| bundle.runtime(words);
    bundle
        .leaves(&["create", "--pid-file", "pid", "one"])
        .unwrap();
    assert_eq!(bundle.status("one"), "created");
    assert!(!ran.exists(), "the program waits");
    let pid = fs::read_to_string(bundle.directory.join("pid")).unwrap();
    let state: Value = serde_json::from_str(&runtime(&["state", "one"]).succeeds()).unwrap();
    assert_eq!(state["pid"].to_string(), pid);
    assert_eq!(
        bundle.fails(&["create", "one"]),
        "container with id \"one\" exists already: delete it, or choose another id"
    );
    runtime(&["start", "one"]).succeeds();
    assert_eq!(bundle.status("one"), "running");
    wait_until("the program runs", || ran.exists());
    assert_eq!(
        bundle.fails(&["start", "one"]),
        "container \"one\" is running: only one that was created can be started"
    );
    assert_eq!(
        bundle.fails(&["delete", "one"]),
        "container \"one\" is running: kill it first, or delete it with --force"
    );
    let list: Value =
        serde_json::from_str(&runtime(&["list", "--format", "json"]).succeeds()).unwrap();
    assert_eq!(list[0]["id"], "one");
    runtime(&["kill", "one", "KILL"]).succeeds();
    bundle.wait("one");
    assert_eq!(
        bundle.fails(&["kill", "one"]),
        "container not running: \"one\" has ended"
    );
    runtime(&["delete", "one"]).succeeds();
    assert_eq!(
        bundle.fails(&["state", "one"]),
        "container \"one\" does not exist"
    );
    assert!(bundle.left().is_empty());
}

#[test]
fn run_has_the_programs_exit_code() {
    let Some(env) = Env::new() else { return };
    let script = "id -u; cat /proc/self/uid_map; exit 7";
    let bundle = Bundle::new(&env, &["sh", "-c", script]);
    let done = bundle.runtime(&["run", "one"]).done();
    let own = rustix::process::getuid().as_raw();
    let map: Vec<_> = done.stdout.split_ascii_whitespace().collect();
    assert_eq!(map, ["0", "0", &own.to_string(), "1"], "{done:#?}");
    assert_eq!(done.code, 7);
    assert!(bundle.left().is_empty());
    // Left running, and killed where it may.
    bundle.change(|spec| spec["process"]["args"] = json!(["sleep", "1000"]));
    bundle.leaves(&["run", "-d", "one"]).unwrap();
    assert_eq!(bundle.status("one"), "running");
    bundle.runtime(&["delete", "--force", "one"]).succeeds();
    bundle.end("one");
}

#[test]
fn exec_adds_a_process() {
    let Some(env) = Env::new() else { return };
    let bundle = Bundle::new(&env, &["sleep", "1000"]);
    bundle.leaves(&["run", "-d", "one"]).unwrap();
    let script = "echo $A; cat /proc/1/comm; exit 9";
    let flags = ["exec", "-e", "A=b", "--cwd", "/tmp", "one"];
    let exec = bundle.runtime(&[&flags[..], &["sh", "-c", script]].concat());
    let done = exec.done();
    assert_eq!((done.code, done.stdout.as_str()), (9, "b\nsleep\n"));
    let process = json!({
        "user": {"uid": 0, "gid": 0},
        "args": ["/bin/busybox", "pwd"],
        "env": ["PATH=/bin"],
        "cwd": "/etc",
    });
    fs::write(bundle.directory.join("process.json"), process.to_string()).unwrap();
    let exec = bundle.runtime(&["exec", "-p", "process.json", "one"]);
    assert_eq!(exec.succeeds(), "/etc\n");
    // Not 1, with which a program may end.
    let done = bundle.runtime(&["exec", "one", "nosuch"]).done();
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (
            255,
            "kelp-runtime: nosuch: executable file not found in $PATH: no such file or directory\n"
        )
    );
    let ps = bundle.runtime(&["ps", "one"]).succeeds();
    assert_eq!(
        ps.lines()
            .filter(|line| line.ends_with("sleep 1000"))
            .count(),
        1,
        "{ps}"
    );
    bundle.runtime(&["pause", "one"]).succeeds();
    assert_eq!(bundle.status("one"), "paused");
    bundle.runtime(&["resume", "one"]).succeeds();
    assert_eq!(bundle.status("one"), "running");
    bundle.runtime(&["delete", "-f", "one"]).succeeds();
}

#[test]
fn scripts_for_runc_find_its_codes_and_words() {
    let Some(env) = Env::new() else { return };
    let bundle = Bundle::new(&env, &["sleep", "1000"]);
    bundle.leaves(&["run", "-d", "one"]).unwrap();
    bundle.runtime(&["kill", "one", "0"]).succeeds();
    assert_eq!(bundle.status("one"), "running");
    bundle.runtime(&["kill", "--all", "one", "9"]).succeeds();
    bundle.wait("one");
    let ended = "container not running: \"one\" has ended";
    assert_eq!(bundle.fails(&["kill", "one", "0"]), ended);
    bundle.runtime(&["delete", "one"]).succeeds();
    for words in [&["--version"][..], &["-v"]] {
        let said = bundle.runtime(words).succeeds();
        let own = concat!("kelp-runtime version ", env!("CARGO_PKG_VERSION"));
        assert_eq!(said, format!("{own}\nspec: 1.3.0\n"));
    }
    let help = bundle.runtime(&["help", "exec"]).succeeds();
    assert!(help.starts_with("Add a process to a container\n"), "{help}");
    for (words, said) in [
        (
            &["spec"][..],
            "./config.json exists already: remove it first",
        ),
        (
            &["update", "-r", "nosuch", "one"],
            "container \"one\" does not exist",
        ),
        (
            &["create"],
            "the following required arguments were not provided: <ID>: see --help",
        ),
        (
            &["--log-format", "xml", "list"],
            "invalid value 'xml' for '--log-format <FORMAT>' [possible values: text, json]: see --help",
        ),
        (
            &["create", "-b", "/nosuch", "one"],
            "find the bundle /nosuch: no such file or directory",
        ),
    ] {
        assert_eq!(bundle.fails(words), said);
    }
}

#[test]
fn a_cgroup_with_processes_is_not_taken() {
    let Some(env) = Env::new() else { return };
    let bundle = Bundle::new(&env, &["sleep", "1000"]);
    let path = format!("{}/taken-{}", cgroups::own(), std::process::id());
    bundle.change(|spec| spec["linux"]["cgroupsPath"] = path.clone().into());
    bundle.leaves(&["run", "-d", "one"]).unwrap();
    assert_eq!(
        bundle.fails(&["create", "two"]),
        format!("cgroup /sys/fs/cgroup{path} has processes already: choose another path")
    );
    assert_eq!(bundle.status("one"), "running");
    bundle.runtime(&["delete", "--force", "one"]).succeeds();
}

/// config.md, "POSIX-platform Hooks".
#[test]
fn hooks_are_told_the_state() {
    let Some(env) = Env::new() else { return };
    let bundle = Bundle::new(&env, &["true"]);
    let told = bundle.directory.join("told");
    let hook = |name: &str| {
        let script = format!(
            "printf '{name} ' >>{0}; sed 's/.*\"status\":\"\\([a-z]*\\)\".*/\\1/' >>{0}; echo >>{0}",
            told.display()
        );
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}])
    };
    bundle.change(|spec| {
        spec["hooks"] = json!({
            "createRuntime": hook("createRuntime"),
            "poststart": hook("poststart"),
            "poststop": hook("poststop"),
        });
    });
    bundle.leaves(&["create", "one"]).unwrap();
    bundle.runtime(&["start", "one"]).succeeds();
    bundle.wait("one");
    bundle.runtime(&["delete", "one"]).succeeds();
    assert_eq!(
        fs::read_to_string(&told).unwrap(),
        "createRuntime creating\npoststart running\npoststop stopped\n"
    );
    let failing = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo no >&2; exit 3"]}]);
    bundle.change(|spec| spec["hooks"] = json!({"createRuntime": failing}));
    let said = bundle.fails(&["create", "one"]);
    let expected = "the createRuntime hook /bin/sh: exit status: 3: no";
    assert_eq!(said, expected);
    let hanging = json!([{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]);
    bundle.change(|spec| spec["hooks"] = json!({"createRuntime": hanging}));
    let said = bundle.fails(&["create", "one"]);
    assert!(said.ends_with("longer than its timeout of 1 s"), "{said}");
    assert!(bundle.left().is_empty());
}

#[test]
fn bad_input_is_one_line_and_leaves_nothing() {
    let Some(env) = Env::new() else { return };
    let bundle = Bundle::new(&env, &["true"]);
    let whole = fs::read(bundle.directory.join("config.json")).unwrap();
    let config = bundle.directory.join("config.json");
    let shown = config.display().to_string();
    let fails = |words: &[&str]| {
        let said = bundle.fails(words);
        assert!(bundle.left().is_empty(), "{words:?}");
        said
    };
    let with = |change: &dyn Fn(&mut Value)| {
        fs::write(&config, &whole).unwrap();
        bundle.change(change);
        fails(&["create", "one"])
    };
    for (change, said) in [
        (
            &(|spec: &mut Value| spec["ociVersion"] = "2.0.0".into()) as &dyn Fn(&mut Value),
            format!("{shown}: ociVersion \"2.0.0\": this runtime knows 1.0 to 1.3.0"),
        ),
        (
            &|spec| spec["process"]["args"] = json!([]),
            "no command specified on command line or as CMD or ENTRYPOINT in this image".to_owned(),
        ),
        (
            &|spec| spec["process"]["cwd"] = "tmp".into(),
            "the working directory \"tmp\" is invalid, it needs to be an absolute path".to_owned(),
        ),
        (
            &|spec| spec["process"]["terminal"] = true.into(),
            "process.terminal needs --console-socket: somebody has to have the terminal".to_owned(),
        ),
        (
            &|spec| spec["process"]["args"] = json!(["nosuch"]),
            "nosuch: executable file not found in $PATH: no such file or directory".to_owned(),
        ),
        (
            &|spec| spec["process"]["args"] = json!(["/etc/passwd"]),
            "/etc/passwd: permission denied".to_owned(),
        ),
        (
            &|spec| spec["process"]["args"] = json!(["/etc"]),
            "/etc: permission denied".to_owned(),
        ),
        (
            &|spec| spec["root"]["path"] = "nosuch".into(),
            format!(
                "find the root file system {}/nosuch: no such file or directory",
                bundle.directory.display()
            ),
        ),
        (
            &|spec| spec["linux"]["namespaces"][1]["path"] = "/nosuch".into(),
            "open namespace /nosuch: no such file or directory".to_owned(),
        ),
        (
            &|spec| spec["mounts"][0]["options"] = json!(["nosuchoption"]),
            "mount /proc: invalid argument".to_owned(),
        ),
    ] {
        assert_eq!(with(change), format!("{said}"));
    }
    fs::write(&config, "{\"ociVersion\": 1").unwrap();
    let said = fails(&["create", "one"]);
    assert!(said.starts_with(&format!("{shown}: ")), "{said}");
    assert!(said.contains("line 1 column"), "{said}");
    fs::remove_file(&config).unwrap();
    let said = fails(&["create", "one"]);
    assert_eq!(said, format!("read {shown}: no such file or directory"));
    for id in ["", "..", "a/b", "a b"] {
        let said = fails(&["create", id]);
        assert!(said.contains("invalid container id"), "{said}");
    }
    assert!(fails(&["nosuch"]).contains("see --help"));
    // The engine that calls reads the log.
    let log = ["--log", "log", "--log-format", "json", "start", "nosuch"];
    bundle.fails(&log);
    let line = fs::read_to_string(bundle.directory.join("log")).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "error");
    assert_eq!(line["msg"], "container \"nosuch\" does not exist");
}

/// A fifo.
pub(crate) fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

/// Hooks of a start may take as long as they like: everybody else goes on.
#[test]
fn a_start_that_hangs_holds_up_nobody() {
    let Some(env) = Env::new() else { return };
    let bundle = Bundle::new(&env, &["sleep", "1000"]);
    let place = bundle.directory.join("rootfs/tmp");
    let (told, go) = (place.join("told"), place.join("go"));
    fifo(&told);
    fifo(&go);
    let hanging = |place: &str| {
        let script = format!("echo >{place}/told; cat {place}/go");
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}])
    };
    let begin = || {
        bundle.leaves(&["create", "one"]).unwrap();
        let mut start = bundle.command(&["start", "one"]);
        start.stdout(Stdio::null()).stderr(Stdio::piped());
        let starting = start.spawn().unwrap();
        fs::read(&told).unwrap();
        starting
    };
    let killed = |starting: Child| {
        let output = starting.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            said,
            "kelp-runtime: the container's init was killed while it was starting\n"
        );
        assert_eq!(output.status.code(), Some(1));
    };
    bundle.change(|spec| spec["hooks"] = json!({"startContainer": hanging("/tmp")}));
    let starting = begin();
    assert_eq!(
        bundle.fails(&["delete", "one"]),
        "container \"one\" is being started: wait for that, or delete it with --force"
    );
    bundle.runtime(&["kill", "one", "KILL"]).succeeds();
    killed(starting);
    bundle.wait("one");
    bundle.runtime(&["delete", "one"]).succeeds();
    let starting = begin();
    bundle.runtime(&["delete", "--force", "one"]).succeeds();
    killed(starting);
    assert!(bundle.left().is_empty());

    let outside = hanging(place.to_str().unwrap());
    bundle.change(|spec| spec["hooks"] = json!({"poststart": outside}));
    let starting = begin();
    assert_eq!(
        bundle.fails(&["delete", "one"]),
        "container \"one\" is running: kill it first, or delete it with --force"
    );
    bundle.end("one");
    fs::write(&go, "").unwrap();
    assert!(starting.wait_with_output().unwrap().status.success());
}

/// A delete that finds a create at work waits for it: it leaves no process and no directory behind.
#[test]
fn delete_waits_for_a_create_that_is_at_work() {
    let Some(env) = Env::new() else { return };
    let bundle = Bundle::new(&env, &["sleep", "1000"]);
    let (told, go) = (bundle.directory.join("told"), bundle.directory.join("go"));
    fifo(&told);
    fifo(&go);
    let script = format!("echo >{}; cat {}", told.display(), go.display());
    let hook = json!([{
        "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"],
    }]);
    bundle.change(|spec| spec["hooks"] = json!({"createRuntime": hook}));
    let create = || {
        let mut create = bundle.command(&["create", "one"]);
        create.stdout(Stdio::null()).stderr(Stdio::null());
        let create = create.spawn().unwrap();
        fs::read(&told).unwrap();
        create
    };
    let mut creating = create();
    assert_eq!(
        bundle.fails(&["delete", "one"]),
        "container \"one\" is being created: wait for that, or delete it with --force"
    );
    let mut deleting = bundle
        .command(&["delete", "--force", "one"])
        .spawn()
        .unwrap();
    fs::write(&go, "").unwrap();
    // It is killed, or was there before.
    creating.wait().unwrap();
    assert!(deleting.wait().unwrap().success());
    assert!(bundle.left().is_empty());
    // One that was killed leaves what only this removes.
    let mut creating = create();
    creating.kill().unwrap();
    creating.wait().unwrap();
    fs::write(&go, "").unwrap();
    assert!(!bundle.left().is_empty());
    bundle.end("one");
}
