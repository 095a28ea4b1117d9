//! `run`: what the program sees of itself and the world.

use std::fs;

use serde_json::json;

use crate::env::Env;
use crate::image::Image;
use crate::probe::Report;

/// The eleven capabilities of containers.conf's default: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL,
/// SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, SETFCAP.
const DEFAULT_CAPABILITIES: u64 = 0x8004_05fb;

#[test]
fn the_environment_is_exact() {
    let Some(env) = Env::new() else { return };
    let report = Report::of(&env, &["--hostname", "web"]);
    assert_eq!(
        report.environment(),
        [
            "HOME=/root",
            "HOSTNAME=web",
            "PATH=/usr/bin:/bin",
            "container=podman"
        ]
    );
}

#[test]
fn variables_come_from_flags_files_and_the_host_if_asked_for() {
    let Some(env) = Env::new() else { return };
    let file = env.path("h/variables");
    let text = "# a comment\n\n  FILE=with = and # inside\nOTHER='quoted'\nKELP_TEST_CANARY\n";
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let flags = [
        "--env-file",
        file,
        "-e",
        "FLAG=1",
        "-e",
        "OTHER=flag",
        "-e",
        "UNSET_ONE",
    ];
    let environment = Report::of(&env, &flags).environment();
    for expected in [
        "FILE=with = and # inside",
        "FLAG=1",
        "KELP_TEST_CANARY=of the host",
        "OTHER=flag",
    ] {
        assert!(
            environment.iter().any(|variable| variable == expected),
            "no {expected} in {environment:?}"
        );
    }
    assert!(
        !environment
            .iter()
            .any(|variable| variable.starts_with("UNSET_ONE"))
    );
}

#[test]
fn an_images_malformed_variables_take_nothing_from_the_host() {
    let Some(env) = Env::new() else { return };
    let image = env.image("malformed-env", &|| {
        let variables = [
            "PATH=/bin",
            "KELP_TEST_CANARY",
            "KELP_TEST_*",
            "*",
            "",
            "=x",
        ];
        Image::busybox().set("Env", json!(variables))
    });
    let done = env.kelp(&["run", "--rm", &image, "env"]).done();
    assert!(!done.stdout.contains("of the host"), "{done:#?}");
}

#[test]
fn user_and_groups_are_exact() {
    let Some(env) = Env::new() else { return };
    for (flag, uid, gid, groups) in [
        ("root", 0, 0, vec![]),
        ("user", 1000, 1000, vec![2000]),
        ("1000", 1000, 1000, vec![2000]),
        ("user:extra", 1000, 2000, vec![]),
        ("1234:5678", 1234, 5678, vec![]),
        ("4321", 4321, 0, vec![]),
    ] {
        let report = Report::of(&env, &["--user", flag]);
        assert_eq!(
            report.get("/ids/uid"),
            &json!([uid, uid, uid, uid]),
            "{flag}"
        );
        assert_eq!(
            report.get("/ids/gid"),
            &json!([gid, gid, gid, gid]),
            "{flag}"
        );
        let found = report.get("/ids/groups").as_array().unwrap();
        // The primary group may or may not be repeated.
        let mut found: Vec<_> = found.iter().filter(|&group| *group != json!(gid)).collect();
        found.sort_by_key(|group| group.as_u64());
        let expected: Vec<_> = groups.into_iter().map(|group| json!(group)).collect();
        assert_eq!(found, expected.iter().collect::<Vec<_>>(), "{flag}");
    }
}

#[test]
fn the_homes_of_users_come_from_the_image() {
    let Some(env) = Env::new() else { return };
    let script = "echo $HOME; pwd";
    assert_eq!(env.shell(&[], script), "/root\n/\n");
    assert_eq!(env.shell(&["--user", "user"], script), "/home/user\n/\n");
    assert_eq!(env.shell(&["--user", "4321"], "echo $HOME"), "/\n");
}

#[test]
fn the_working_directory_is_the_flags_or_the_images() {
    let Some(env) = Env::new() else { return };
    assert_eq!(env.shell(&["--workdir", "/tmp"], "pwd"), "/tmp\n");
    let image = env.image("workdir", &|| {
        Image::busybox().set("WorkingDir", json!("/made/for/it"))
    });
    let run = |flags: &[&str]| {
        let arguments = [&["run", "--rm"], flags, &[image.as_str(), "pwd"]].concat();
        env.kelp(&arguments).succeeds()
    };
    // An image's working directory is made if the image does not have it.
    assert_eq!(run(&[]), "/made/for/it\n");
    assert_eq!(run(&["-w", "/home"]), "/home\n");
}

#[test]
fn the_entrypoint_takes_the_command_as_arguments() {
    let Some(env) = Env::new() else { return };
    let image = env.image("entrypoint", &|| {
        Image::busybox()
            .set("Entrypoint", json!(["echo", "entry"]))
            .set("Cmd", json!(["default"]))
    });
    let run = |arguments: &[&str]| env.kelp(arguments).succeeds();
    assert_eq!(run(&["run", "--rm", &image]), "entry default\n");
    assert_eq!(run(&["run", "--rm", &image, "a", "b"]), "entry a b\n");
    // With an entrypoint of one's own, the image's command is void.
    assert_eq!(run(&["run", "--rm", "--entrypoint", "echo", &image]), "\n");
    assert_eq!(
        run(&[
            "run",
            "--rm",
            "--entrypoint",
            r#"["echo","-n","x"]"#,
            &image,
            "y"
        ]),
        "x y"
    );
    assert_eq!(
        run(&["run", "--rm", "--entrypoint", "", &image, "echo", "z"]),
        "z\n"
    );
}

#[test]
fn the_program_is_process_1_and_has_three_descriptors() {
    let Some(env) = Env::new() else { return };
    let report = Report::of(&env, &[]);
    assert_eq!(report.get("/process/pid"), 1);
    assert_eq!(report.get("/process/parent"), 0);
    let descriptors = report.get("/descriptors").as_object().unwrap();
    let numbers: Vec<&String> = descriptors.keys().collect();
    assert_eq!(numbers, ["0", "1", "2"], "{descriptors:#?}");
    assert_eq!(descriptors["0"], "/dev/null");
    assert_eq!(report.get("/process/umask"), "0022");
    assert_eq!(report.get("/oom_score_adj"), 0);
}

#[test]
fn an_init_can_be_had() {
    let Some(env) = Env::new() else { return };
    let report = Report::of(&env, &["--init"]);
    assert_ne!(report.get("/process/pid"), 1);
}

#[test]
fn every_namespace_is_its_own() {
    let Some(env) = Env::new() else { return };
    let report = Report::of(&env, &[]);
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let own = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        let inside = report.text(&format!("/namespaces/{name}"));
        assert_ne!(inside, own.to_str().unwrap(), "{name}");
    }
}

#[test]
fn root_inside_is_the_user_and_the_range_follows() {
    let Some(env) = Env::new() else { return };
    let report = Report::of(&env, &[]);
    let map = report.text("/ids/uid_map");
    let lines: Vec<Vec<u32>> = map
        .lines()
        .map(|line| {
            line.split_whitespace()
                .map(|word| word.parse().unwrap())
                .collect()
        })
        .collect();
    assert_eq!(lines[0], [0, rustix::process::geteuid().as_raw(), 1]);
    assert_eq!(lines[1][0], 1);
    assert!(lines[1][2] >= 65535, "{map}");
}

#[test]
fn capabilities_are_the_default_ones_and_follow_the_flags() {
    let Some(env) = Env::new() else { return };
    for (flags, permitted, bounding) in [
        (vec![], DEFAULT_CAPABILITIES, DEFAULT_CAPABILITIES),
        (vec!["--cap-drop", "all"], 0, 0),
        (vec!["--cap-drop=ALL", "--cap-add=CHOWN"], 1, 1),
        (
            vec!["--cap-add", "CAP_NET_ADMIN"],
            DEFAULT_CAPABILITIES | 1 << 12,
            DEFAULT_CAPABILITIES | 1 << 12,
        ),
        (vec!["--user", "user"], 0, DEFAULT_CAPABILITIES),
    ] {
        let report = Report::of(&env, &flags);
        for (set, expected) in [
            ("permitted", permitted),
            ("effective", permitted),
            ("bounding", bounding),
            ("inheritable", 0),
            ("ambient", 0),
        ] {
            let found = report.capabilities(set);
            assert_eq!(found, expected, "{set} with {flags:?}: {found:x}");
        }
    }
}

#[test]
fn seccomp_is_on_and_new_privileges_can_be_refused() {
    let Some(env) = Env::new() else { return };
    let report = Report::of(&env, &[]);
    assert_eq!(report.get("/security/seccomp"), 2);
    assert_eq!(report.get("/security/no_new_privs"), 0);
    let report = Report::of(
        &env,
        &[
            "--security-opt",
            "no-new-privileges",
            "--security-opt",
            "seccomp=unconfined",
        ],
    );
    assert_eq!(report.get("/security/seccomp"), 0);
    assert_eq!(report.get("/security/no_new_privs"), 1);
}

#[test]
fn the_file_system_is_as_containers_have_it() {
    let Some(env) = Env::new() else { return };
    let report = Report::of(&env, &[]);
    for (target, kind) in [
        ("/", "overlay"),
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
        ("/sys/fs/cgroup", "cgroup2"),
    ] {
        let mount = report
            .mount(target)
            .unwrap_or_else(|| panic!("no {target}"));
        assert_eq!(mount["type"], kind, "{mount}");
        assert_eq!(mount["tags"], "", "propagates: {mount}");
    }
    for target in ["/sys", "/sys/fs/cgroup", "/proc/sys"] {
        let options = report.mount(target).unwrap()["options"].as_str().unwrap();
        assert!(
            options.split(',').any(|option| option == "ro"),
            "{target}: {options}"
        );
    }
}

#[test]
fn what_the_kernel_tells_about_the_host_is_masked() {
    let Some(env) = Env::new() else { return };
    // Which of these there are is the kernel's configuration.
    let script = "cd /proc; for file in kcore keys timer_list sched_debug latency_stats; do
                      test -e $file && test $(head -c 1 $file 2>/dev/null | wc -c) != 0 && echo $file
                  done
                  for directory in /proc/acpi /proc/scsi /sys/firmware; do
                      test -e $directory && test -n \"$(ls $directory)\" && echo $directory
                  done
                  for file in sysrq-trigger sys/kernel/domainname irq/default_smp_affinity; do
                      test -e $file && (echo 1 >$file) 2>/dev/null && echo $file is writable
                  done; true";
    assert_eq!(env.shell(&[], script), "");
}

#[test]
fn devices_are_few_and_work() {
    let Some(env) = Env::new() else { return };
    let listed = env.shell(
        &[],
        "ls /dev; head -c 4 /dev/zero | wc -c; echo x > /dev/null",
    );
    for device in [
        "full", "null", "random", "tty", "urandom", "zero", "ptmx", "stdin", "fd",
    ] {
        assert!(
            listed.lines().any(|line| line == device),
            "no {device} in {listed}"
        );
    }
    for device in ["mem", "kmem", "fuse", "sda", "vda", "console"] {
        assert!(
            !listed.lines().any(|line| line == device),
            "{device} in {listed}"
        );
    }
}

#[test]
fn files_can_be_written_and_given_away_and_are_gone_afterwards() {
    let Some(env) = Env::new() else { return };
    let script = "echo x > /new && chown user:extra /new && chmod 640 /new && rm /etc/group &&
                  stat -c '%U %g %a' /new && ls /etc";
    let listed = env.shell(&[], script);
    assert!(listed.starts_with("user 2000 640\n"), "{listed}");
    assert!(!listed.contains("group\n"), "{listed}");
    assert_eq!(
        env.shell(&[], "ls /new 2>/dev/null; ls /etc/group"),
        "/etc/group\n"
    );
}

#[test]
fn a_read_only_root_has_a_writable_tmp() {
    let Some(env) = Env::new() else { return };
    let script = "touch /new 2>/dev/null || echo refused; touch /tmp/a /run/b && echo fine";
    assert_eq!(env.shell(&["--read-only"], script), "refused\nfine\n");
}

#[test]
fn a_read_only_root_has_no_writable_file() {
    let Some(env) = Env::new() else { return };
    let script = "for file in hosts hostname resolv.conf localtime ../run/.containerenv; do
                      (echo >>/etc/$file) 2>/dev/null && echo $file; done; echo end";
    let all = "hosts\nhostname\nresolv.conf\nlocaltime\n../run/.containerenv\nend\n";
    assert_eq!(env.shell(&["--tz=local"], script), all);
    assert_eq!(env.shell(&["--read-only", "--tz=local"], script), "end\n");
}

#[test]
fn directories_of_the_host_can_be_mounted() {
    let Some(env) = Env::new() else { return };
    fs::create_dir(env.path("h/shared")).unwrap();
    fs::write(env.path("h/shared/from-host"), "host").unwrap();
    let shared = env.path("h/shared");
    let shared = shared.to_str().unwrap();
    let script = "cat /mnt/from-host; echo inside > /mnt/from-inside";
    assert_eq!(
        env.shell(&["-v", &format!("{shared}:/mnt")], script),
        "host"
    );
    assert_eq!(
        fs::read_to_string(env.path("h/shared/from-inside")).unwrap(),
        "inside\n"
    );
    let read_only = format!("{shared}:/mnt:ro");
    let script = "echo x > /mnt/from-host || echo refused";
    let done = env.shell(&["-v", &read_only], &format!("({script}) 2>/dev/null"));
    assert_eq!(done, "refused\n");
}

#[test]
fn the_container_knows_that_it_is_one() {
    let Some(env) = Env::new() else { return };
    let text = env.shell(
        &["--hostname", "web"],
        "ls /run/.containerenv; cat /etc/hostname; hostname",
    );
    assert_eq!(text, "/run/.containerenv\nweb\nweb\n");
    let text = env.shell(&[], "hostname");
    assert_eq!(text.trim().len(), 12, "{text}");
}

#[test]
fn limits_are_passed_on() {
    let Some(env) = Env::new() else { return };
    // Of two the last one counts.
    let flags = ["--ulimit=nofile=50:60", "--ulimit=nofile=100:200"];
    let report = Report::of(&env, &flags);
    assert_eq!(report.get("/limits/Max open files"), &json!(["100", "200"]));
}
