//! Where units are found, what is merged into them, and what the generator writes.
#![allow(clippy::unwrap_used, missing_docs)]

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use kelp_quadlet::{Environment, Finding, Host, Set, generate, load, role};
use tempfile::TempDir;

const CONTAINER: &str = "[Container]\nImage=quay.io/app/web:1\n";

struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn link(&self, name: &str, target: &str) -> &Self {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        symlink(target, self.path(name)).unwrap();
        self
    }

    fn environment(&self, user: bool) -> Environment {
        Environment {
            user,
            uid: 1000,
            unit_dirs: None,
            runtime: Some(self.path("run-user")),
            config: Some(self.path("config")),
            home: Some(self.path("home")),
            root: self.0.path().to_owned(),
        }
    }

    fn load(&self, environment: &Environment) -> (Set, Vec<Finding>) {
        let (directories, notes) = environment.directories();
        assert_eq!(notes, [""; 0]);
        load(&directories)
    }

    /// The paths of the units that are found, from the root of the tree.
    fn found(&self, environment: &Environment) -> Vec<String> {
        let (set, _) = self.load(environment);
        let mut paths: Vec<_> = set
            .iter()
            .map(|source| self.relative(&source.path))
            .collect();
        paths.sort();
        paths
    }

    fn relative(&self, path: &Path) -> String {
        let path = path.strip_prefix(self.0.path()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Units of the directory `u`.
    fn units(&self) -> Environment {
        Environment {
            unit_dirs: Some(self.path("u").into()),
            ..self.environment(true)
        }
    }

    /// What one unit of `u` becomes; the errors if it does not.
    fn service(&self, name: &str) -> Result<String, String> {
        let (set, _) = self.load(&self.units());
        let host = Host {
            program: "/usr/bin/kelp",
            user: &|_| None,
            group: &|_| None,
            exists: &|_| false,
        };
        let outcomes = generate(&set, &host).into_iter();
        let mut outcomes = outcomes.filter(|outcome| outcome.source.name == name);
        let outcome = outcomes.next().unwrap();
        outcome.service.map(|service| service.text).ok_or_else(|| {
            let findings = outcome.findings.iter().map(ToString::to_string);
            findings.collect::<Vec<_>>().join("\n")
        })
    }
}

#[test]
fn a_user_has_units_of_his_own_and_those_for_users() {
    let tree = Tree::new();
    for name in [
        "run-user/containers/systemd/a.container",
        "config/containers/systemd/a.container",
        "config/containers/systemd/b.container",
        "config/containers/systemd/sub/1001/c.container",
        "home/.config/containers/systemd/h.container",
        "etc/containers/systemd/d.container",
        "etc/containers/systemd/users/b.container",
        "etc/containers/systemd/users/e.container",
        "etc/containers/systemd/users/team/1001/f.container",
        "etc/containers/systemd/users/1000/e.container",
        "etc/containers/systemd/users/1000/sub/g.container",
        "etc/containers/systemd/users/1001/i.container",
        "usr/share/containers/systemd/users/j.container",
        "usr/share/containers/systemd/users/1000/j.container",
        "usr/share/containers/systemd/k.container",
    ] {
        tree.write(name, CONTAINER);
    }
    let expected = [
        "config/containers/systemd/b.container",
        "config/containers/systemd/sub/1001/c.container",
        "etc/containers/systemd/users/1000/e.container",
        "etc/containers/systemd/users/1000/sub/g.container",
        "etc/containers/systemd/users/team/1001/f.container",
        "run-user/containers/systemd/a.container",
        "usr/share/containers/systemd/users/1000/j.container",
    ];
    assert_eq!(tree.found(&tree.environment(true)), expected);
    let without = Environment {
        config: None,
        runtime: None,
        ..tree.environment(true)
    };
    assert!(
        tree.found(&without)
            .contains(&"home/.config/containers/systemd/h.container".to_owned())
    );
}

#[test]
fn the_system_has_its_own_and_none_of_users() {
    let tree = Tree::new();
    for name in [
        "run/containers/systemd/a.container",
        "etc/containers/systemd/a.container",
        "etc/containers/systemd/b.container",
        "etc/containers/systemd/sub/c.container",
        "etc/containers/systemd/users/d.container",
        "etc/containers/systemd/users/1000/e.container",
        "usr/share/containers/systemd/b.container",
        "usr/share/containers/systemd/f.container",
        "usr/share/containers/systemd/users/g.container",
        "config/containers/systemd/h.container",
    ] {
        tree.write(name, CONTAINER);
    }
    let expected = [
        "etc/containers/systemd/b.container",
        "etc/containers/systemd/sub/c.container",
        "run/containers/systemd/a.container",
        "usr/share/containers/systemd/f.container",
    ];
    assert_eq!(tree.found(&tree.environment(false)), expected);
}

#[test]
fn directories_that_are_given_are_the_only_ones() {
    let tree = Tree::new();
    tree.write("config/containers/systemd/a.container", CONTAINER);
    tree.write("u/b.container", CONTAINER);
    tree.write("v/1001/b.container", CONTAINER);
    tree.write("v/1001/c.container", CONTAINER);
    let mut dirs = OsString::from(tree.path("u"));
    dirs.push(":relative::");
    dirs.push(tree.path("v"));
    dirs.push(":/nonexistent");
    let environment = Environment {
        unit_dirs: Some(dirs),
        ..tree.environment(true)
    };
    let (directories, notes) = environment.directories();
    assert_eq!(
        notes,
        ["QUADLET_UNIT_DIRS: relative is not an absolute path"]
    );
    let (set, findings) = load(&directories);
    assert_eq!(findings, []);
    let paths: Vec<_> = set
        .iter()
        .map(|source| tree.relative(&source.path))
        .collect();
    assert_eq!(paths, ["u/b.container", "v/1001/c.container"]);
}

#[test]
fn links_are_followed_and_loops_end() {
    let tree = Tree::new();
    tree.write("u/t@.container", CONTAINER);
    tree.write("elsewhere/x.container", CONTAINER);
    tree.write("u/masked.d/y.container", CONTAINER);
    tree.write("u/drop.container.d/z.container", CONTAINER);
    tree.link("u/t@10.container", "t@.container");
    tree.link("u/dir", "../elsewhere");
    tree.link("u/sub/back", "..");
    tree.link("u/gone.container", "nowhere");
    tree.link("u/loop.container", "loop.container");
    tree.link("u/off.container", "/dev/null");
    tree.write("u/sub/off.container", CONTAINER);
    fs::create_dir(tree.path("u/dir.container")).unwrap();
    let (set, findings) = tree.load(&tree.units());
    let paths: Vec<_> = set
        .iter()
        .map(|source| tree.relative(&source.path))
        .collect();
    assert_eq!(
        paths,
        ["u/t@.container", "u/t@10.container", "u/dir/x.container"]
    );
    let mut said: Vec<_> = findings
        .iter()
        .map(|finding| format!("{}: {}", tree.relative(&finding.file), finding.text))
        .collect();
    said.sort();
    assert_eq!(said[0], "u/gone.container: no such file or directory");
    assert!(said[1].starts_with("u/loop.container: "), "{}", said[1]);
    assert_eq!(said.len(), 2);
}

#[test]
fn files_that_are_no_text_stop_nobody_else() {
    let tree = Tree::new();
    tree.write("u/good.container", CONTAINER);
    tree.write("u/latin.container", b"[Container]\nImage=\xe9\n");
    tree.write("u/zero.container", b"[Container]\nImage=a\0b\n");
    tree.write(
        "u/long.container",
        [&b"[Container]\nImage="[..], &vec![b'x'; 2 << 20]].concat(),
    );
    tree.write("u/empty.container", "");
    tree.write(
        "u/crlf.container",
        "[Container]\r\nImage=quay.io/app/web:1\r\nExec=a \\\r\n b\r\n",
    );
    rustix::fs::mknodat(
        rustix::fs::CWD,
        tree.path("u/pipe.container"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    tree.write("u/closed.container", CONTAINER);
    fs::set_permissions(
        tree.path("u/closed.container"),
        fs::Permissions::from_mode(0o0),
    )
    .unwrap();
    let (set, findings) = tree.load(&tree.units());
    let pipe = findings
        .iter()
        .find(|finding| finding.file.ends_with("pipe.container"));
    assert_eq!(pipe.unwrap().text, "not a regular file");
    // Root reads it all the same.
    if !rustix::process::geteuid().is_root() {
        let closed = findings
            .iter()
            .find(|finding| finding.file.ends_with("closed.container"));
        assert_eq!(closed.unwrap().text, "permission denied");
    }
    assert!(set.get("good.container").is_some());
    let at = |name: &str, rest: &str| format!("{}:{rest}", tree.path(name).display());
    for (name, said) in [
        (
            "latin",
            "2: error: not UTF-8: write the file anew in that encoding",
        ),
        ("zero", "2: error: a zero byte: this is no text"),
        (
            "long",
            "2: error: the line is longer than 1048576 bytes, which systemd does not read",
        ),
        (
            "empty",
            " error: there is neither Image= nor Rootfs=: say what is to be run",
        ),
    ] {
        let said = at(&format!("u/{name}.container"), said);
        let error = tree.service(&format!("{name}.container")).unwrap_err();
        assert!(error.contains(&said), "{error}");
    }
    assert!(tree.service("good.container").is_ok());
    let text = tree.service("crlf.container").unwrap();
    assert!(text.contains(" quay.io/app/web:1 a b\n"), "{text}");
}

#[test]
fn drop_ins_are_merged_in_the_order_of_their_names_and_the_nearest_wins() {
    let tree = Tree::new();
    tree.write("u/a-b-c@.container", CONTAINER);
    tree.link("u/a-b-c@x.container", "a-b-c@.container");
    for (directory, number) in [
        ("container.d", 1),
        ("a-.container.d", 2),
        ("a-b-.container.d", 3),
        ("a-b-c@.container.d", 4),
        ("a-b-c@x.container.d", 5),
        ("a.container.d", 6),
        ("b-.container.d", 7),
    ] {
        let label = format!("[Container]\nLabel=from{number}=1\n");
        tree.write(&format!("u/{directory}/{number}.conf"), &label);
        tree.write(
            &format!("u/{directory}/same.conf"),
            label.replace("from", "same"),
        );
    }
    tree.write("u/a-b-c@x.container.d/0.txt", "[Container]\nLabel=no=1\n");
    tree.write(
        "u/a-b-c@x.container.d/sub/0.conf",
        "[Container]\nLabel=no=1\n",
    );
    tree.link("u/a-b-c@x.container.d/2.conf", "/dev/null");
    let labels = |name: &str| {
        let text = tree.service(name).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("Label="));
        lines
            .map(|line| line.replace("=1", ""))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(labels("a-b-c@x.container"), "from1 from3 from4 from5 same5");
    assert_eq!(labels("a-b-c@.container"), "from1 from2 from3 from4 same4");
}

#[test]
fn a_drop_in_of_another_directory_counts_and_one_that_is_wrong_does_not() {
    let tree = Tree::new();
    tree.write("u/sub/a.container", CONTAINER);
    tree.write(
        "u/a.container.d/1.conf",
        "[Container]\nExec=one\n[Service]\nRestart=always\n",
    );
    tree.write(
        "u/sub/a.container.d/2.conf",
        "[Container]\nLabel=a=b\nnonsense\n",
    );
    tree.write(
        "u/sub/a.container.d/3.conf",
        "[Container]\nExec=\nExec=three\nReadOnly=ja\n",
    );
    let error = tree.service("a.container").unwrap_err();
    let lines: Vec<_> = error.lines().collect();
    assert!(
        lines[0].contains("2.conf:3: warning: \"nonsense\" is neither"),
        "{error}"
    );
    assert!(
        lines[1].ends_with("3.conf:4: error: ReadOnly=: \"ja\" is not true or false"),
        "{error}"
    );
    tree.write(
        "u/sub/a.container.d/3.conf",
        "[Container]\nExec=\nExec=three\n",
    );
    let text = tree.service("a.container").unwrap();
    assert!(
        text.contains(" quay.io/app/web:1 three\n") && text.contains("\nRestart=always\n"),
        "{text}"
    );
    assert!(!text.contains("--label"), "{text}");
}

#[test]
fn three_hundred_units_become_services_and_a_wrong_one_does_not() {
    let tree = Tree::new();
    for number in 0..300 {
        let text = format!(
            "{CONTAINER}PublishPort={}:80\nVolume=data.volume:/data\nNetwork=net.network\n[Install]\nWantedBy=default.target\n",
            8000 + number
        );
        tree.write(&format!("u/web-{number}.container"), text);
    }
    tree.write("u/data.volume", "[Volume]\n");
    tree.write("u/net.network", "[Network]\n");
    tree.write("u/wrong.container", "[Container]\nImages=x\n");
    let (set, findings) = tree.load(&tree.units());
    assert_eq!(findings, []);
    let host = Host {
        program: "/opt/kelp 1%/kelp",
        user: &|_| None,
        group: &|_| None,
        exists: &|_| false,
    };
    let outcomes = generate(&set, &host);
    let made: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| outcome.service.as_ref())
        .collect();
    assert_eq!((outcomes.len(), made.len()), (303, 302));
    for service in &made {
        // The path is one word, and no specifier.
        let start = "\nExecStart=\"/opt/kelp\\x201%%/kelp\" ";
        assert!(service.text.contains(start), "{}", service.text);
    }
    let links: usize = made.iter().map(|service| service.links.len()).sum();
    assert_eq!(links, 300);
}

#[test]
fn a_dependency_is_translated_where_it_stands_and_brings_no_line_of_its_own() {
    let tree = Tree::new();
    tree.write("u/b.container", CONTAINER);
    tree.write("u/t@.volume", "[Volume]\n");
    let with = |lines: &str| {
        tree.write("u/a.container", format!("{CONTAINER}{lines}\n"));
        tree.service("a.container")
    };
    let text =
        with("[Unit]\nAfter=dev-a\\x2db.device  \"b.container\"\tt@x.volume c.service").unwrap();
    let line = "\nAfter=dev-a\\x2db.device  b.service\tt-volume@x.service c.service\n";
    assert!(text.contains(line), "{text}");
    let text = with("[Unit]\nAfter=b.container \"x\\nExecStartPre=/bin/evil\"").unwrap();
    let line = "\nAfter=b.service \"x\\nExecStartPre=/bin/evil\"\n";
    assert!(text.contains(line), "{text}");
    for (lines, said) in [
        (
            "[Unit]\nAfter=b.container 'c.service",
            "a.container:4: error: After=: a quote is open to the end of the value",
        ),
        (
            "[Unit]\nAfter='t@x y.volume'",
            "a.container:4: error: After=: t@x y.volume can't be meant: ' ' can't be in \"t-volume@x y.service\": \
             a unit's name has letters, digits and :-_.\\@ (systemd.unit(5))",
        ),
        (
            "Mount=\"type=volume,source=t@x\\n[Service]\\nExecStartPre=y.volume,dst=/x\"",
            "Mount=: t@x\\n[Service]\\nExecStartPre=y.volume can't be meant: '\\n' can't be in \
             \"t-volume@x\\n[Service]\\nExecStartPre=y.service\": a unit's name has letters, digits and :-_.\\@ \
             (systemd.unit(5))",
        ),
        (
            "Mount=\"type=bind,source=/a\\nb,dst=/x\"",
            "a.container:3: error: \"/a\\nb\" can't be waited for: rename it",
        ),
    ] {
        let error = with(lines).unwrap_err();
        assert!(error.ends_with(said), "{error}");
    }
}

#[test]
fn where_a_unit_is_is_no_more_than_a_path() {
    let tree = Tree::new();
    let unit = format!("{CONTAINER}EnvironmentFile=./env\nVolume=./data:/data\n");
    tree.write("u/10% a/b.container", &unit);
    tree.write(
        "u/x\nExecStartPre=y/c.container",
        &unit[..unit.find("Volume").unwrap()],
    );
    let build = "[Build]\nImageTag=localhost/x\nSetWorkingDirectory=unit\n";
    tree.write("u/10% a/d.build", build);
    tree.write("u/x\nExecStartPre=y/e.build", build);
    let at = tree.path("u/10%% a");
    let at = at.to_str().unwrap();
    let text = tree.service("b.container").unwrap();
    for line in [
        format!("\nSourcePath={at}/b.container\n"),
        format!("\nRequiresMountsFor=\"{at}/data\"\n"),
        format!(" --env-file \"{}/env\" ", at.replace(' ', "\\x20")),
    ] {
        assert!(text.contains(&line), "{line} in {text}");
    }
    let text = tree.service("d.build").unwrap();
    assert!(
        text.contains(&format!("\nWorkingDirectory={at}\n")),
        "{text}"
    );
    let text = tree.service("c.container").unwrap();
    assert!(
        !text.contains("SourcePath=") && !text.contains("\nExecStartPre="),
        "{text}"
    );
    let error = tree.service("e.build").unwrap_err();
    assert!(
        error.ends_with("can't be WorkingDirectory=: rename it"),
        "{error}"
    );
}

#[test]
fn a_line_that_systemd_sees_is_seen() {
    let tree = Tree::new();
    tree.write(
        "u/a.container",
        format!("{CONTAINER}Exec=true\rReadOnly=ja\r[Service]\rUser=root\n"),
    );
    let error = tree.service("a.container").unwrap_err();
    assert!(
        error.ends_with("a.container:4: error: ReadOnly=: \"ja\" is not true or false"),
        "{error}"
    );
    tree.write(
        "u/a.container",
        format!("{CONTAINER}Exec=true\r[Service]\rUser=root\n"),
    );
    let text = tree.service("a.container").unwrap();
    assert!(
        text.contains("\nExec=true\n\n[Service]\nUser=root\n"),
        "{text}"
    );
}

#[test]
fn no_link_is_in_the_place_of_a_service_or_of_another_link() {
    let tree = Tree::new();
    let install = |name: &str, lines: &str| {
        tree.write(name, format!("{CONTAINER}[Install]\n{lines}"));
    };
    install(
        "u/a.container",
        "Alias=b.service\nAlias=c-pod.service www.service\n",
    );
    install("u/b.container", "Alias=www.service\nWantedBy=x.target\n");
    install("u/t@.container", "DefaultInstance=1\nWantedBy=x.target\n");
    install("u/t@1.container", "WantedBy=x.target\n");
    tree.write("u/c.pod", "[Pod]\n");
    let (set, _) = tree.load(&tree.units());
    let host = Host {
        program: "/usr/bin/kelp",
        user: &|_| None,
        group: &|_| None,
        exists: &|_| false,
    };
    let outcomes = generate(&set, &host);
    let links = |name: &str| {
        let mut services = outcomes
            .iter()
            .filter_map(|outcome| outcome.service.as_ref());
        let service = services.find(|service| service.name == name).unwrap();
        let links = service.links.iter().map(|link| &*link.path);
        links.collect::<Vec<_>>()
    };
    assert_eq!(links("a.service"), ["www.service"]);
    assert_eq!(links("b.service"), ["x.target.wants/b.service"]);
    assert_eq!(links("t@.service"), ["x.target.wants/t@1.service"]);
    assert_eq!(links("t@1.service"), [""; 0]);
    let told = outcomes.iter().flat_map(|outcome| &outcome.findings);
    let told: Vec<_> = told
        .map(|finding| {
            tree.relative(&finding.file) + &finding.to_string()[finding.file.as_os_str().len()..]
        })
        .map(|line| line.replace(tree.path("").to_str().unwrap(), ""))
        .collect();
    let expected = [
        "u/a.container:4: warning: b.service is taken by u/b.container",
        "u/a.container:5: warning: c-pod.service is taken by u/c.pod",
        "u/b.container:4: warning: www.service is taken by u/a.container",
        "u/t@1.container:4: warning: x.target.wants/t@1.service is taken by u/t@.container",
    ];
    assert_eq!(told, expected);
}

#[test]
fn the_command_line_is_systemds() {
    let tree = Tree::new();
    let run = |args: &[&str]| {
        let args = args.iter().map(OsString::from);
        role::run(args, Path::new("/usr/bin/kelp"), "1")
    };
    assert_eq!(run(&["kelp-quadlet"]), 1);
    assert_eq!(run(&["kelp-quadlet", "-nonsense"]), 2);
    assert_eq!(run(&["kelp-quadlet", "--version"]), 0);
    assert_eq!(tree.found(&tree.units()), [""; 0]);
}
