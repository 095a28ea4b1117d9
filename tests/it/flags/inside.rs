//! Flags that change what the program sees of its machine.

use crate::archive::Layer;
use crate::env::Env;
use crate::image::Image;

#[test]
fn the_time_zone_is_the_hosts_or_one_by_name() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for (zone, file) in [
        ("Europe/Berlin", "/usr/share/zoneinfo/Europe/Berlin"),
        ("local", "/etc/localtime"),
    ] {
        let words = [
            "run",
            "--rm",
            "--tz",
            zone,
            &image,
            "base64",
            "/etc/localtime",
        ];
        let seen = env.kelp(&words).succeeds();
        let rules = std::process::Command::new("base64")
            .arg(file)
            .output()
            .unwrap();
        assert_eq!(seen, String::from_utf8(rules.stdout).unwrap(), "{zone}");
    }
    for zone in ["Nowhere", "", "../../../etc/passwd", "Europe"] {
        assert_eq!(
            env.kelp(&["run", "--rm", "--tz", zone, &image]).fails(125),
            format!(
                "Error: unknown time zone {zone:?}: it is local or a file in /usr/share/zoneinfo, \
                 which the package tzdata has"
            )
        );
    }
}

#[test]
fn hosts_come_from_the_file_that_is_named() {
    let Some(env) = Env::new() else { return };
    let image = env.image("with-hosts", &|| {
        let hosts = Layer::default().file("etc/hosts", 0o644, b"10.1.1.1 of-image\n");
        Image::busybox().layer(hosts)
    });
    let file = env.path("h/hosts");
    std::fs::write(&file, "10.2.2.2 of-file\n").unwrap();
    let script = "grep -o 'of-[a-z]*\\|localhost' /etc/hosts | sort -u | tr '\n' ' '";
    for (base, seen) in [
        (file.to_str().unwrap(), "localhost of-file "),
        ("image", "localhost of-image "),
        ("none", "localhost "),
    ] {
        let words = [
            "run",
            "--rm",
            "--hosts-file",
            base,
            &image,
            "sh",
            "-c",
            script,
        ];
        assert_eq!(env.kelp(&words).succeeds(), seen, "{base}");
    }
    let words = ["run", "--rm", "--hosts-file", "hosts", &image];
    assert_eq!(
        env.kelp(&words).fails(125),
        "Error: invalid hosts file \"hosts\": use none, image or an absolute path"
    );
}

#[test]
fn a_profile_with_conditions_is_for_who_meets_them() {
    let Some(env) = Env::new() else { return };
    let profile = env.path("h/seccomp.json");
    let text = r#"{
        "defaultAction": "SCMP_ACT_ALLOW",
        "archMap": [{ "architecture": "SCMP_ARCH_X86_64", "subArchitectures": [] }],
        "syscalls": [
            { "names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38,
              "includes": { "caps": ["CAP_SYS_ADMIN"] } },
            { "names": ["sync"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38,
              "excludes": { "caps": ["CAP_SYS_ADMIN"] } },
            { "name": "mkdir", "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
            { "name": "mkdirat", "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }
        ]
    }"#;
    std::fs::write(&profile, text).unwrap();
    let option = format!("--security-opt=seccomp={}", profile.display());
    let script = "hostname x 2>&1; hostname; mkdir /d 2>&1; true";
    let refused = "mkdir: can't create directory '/d': Function not implemented\n";
    assert_eq!(
        env.shell(&[&option, "-h", "old", "--cap-add=SYS_ADMIN"], script),
        format!("hostname: sethostname: Function not implemented\nold\n{refused}")
    );
    assert_eq!(
        env.shell(&[&option, "-h", "old"], script),
        format!("hostname: sethostname: Operation not permitted\nold\n{refused}")
    );
}

#[test]
fn what_is_no_profile_is_told_with_the_files_name() {
    let Some(env) = Env::new() else { return };
    let profile = env.path("h/seccomp.json");
    let shown = profile.display();
    let option = format!("--security-opt=seccomp={shown}");
    let image = env.busybox();
    let create = ["create", "--name=c", &option, &image, "true"];
    for (text, said) in [
        (
            r#"{ "defaultAction": "NOTHING" }"#,
            "unknown variant `NOTHING`, expected one of ",
        ),
        (
            r#"{ "defaultAction": "#,
            "eof while parsing a value at line 1 column 19",
        ),
        ("[]", "it is no JSON object"),
        ("", "eof while parsing a value at line 1 column 0"),
        (
            r#"{ "defaultAction": "SCMP_ACT_ALLOW",
                 "syscalls": [{ "names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5000 }] }"#,
            "5000 is not an error number",
        ),
        (
            r#"{ "defaultAction": "SCMP_ACT_ALLOW",
                 "syscalls": [{ "names": ["a", "mkdir"], "action": "SCMP_ACT_NOTIFY" }] }"#,
            "SCMP_ACT_NOTIFY needs a listenerPath, the socket of an agent: add it, or take the \
             action out",
        ),
        (
            r#"{ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent",
                 "syscalls": [{ "names": ["a", "mkdir"], "action": "SCMP_ACT_NOTIFY" }] }"#,
            "SCMP_ACT_NOTIFY is for callers of an OCI runtime, who have an agent that is asked: take \
             it out",
        ),
    ] {
        std::fs::write(&profile, text).unwrap();
        let line = env.kelp(&create).fails(125);
        let start = format!("Error: seccomp profile {shown}: {said}");
        assert!(
            line.to_lowercase().starts_with(&start.to_lowercase()),
            "{line}"
        );
    }
    let missing = ["run", "--security-opt=seccomp=/no/such", &image];
    let line = env.kelp(&missing).fails(125);
    assert!(
        line.starts_with("Error: read seccomp profile /no/such: "),
        "{line}"
    );
    // A name of a newer kernel or of another machine is no obstacle.
    let text = r#"{ "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{ "names": ["zzz", "mkdir"], "action": "SCMP_ACT_ERRNO" }] }"#;
    std::fs::write(&profile, text).unwrap();
    env.kelp(&create).succeeds();
    let format = ["inspect", "-f", "{{.HostConfig.SecurityOpt}}", "c"];
    let expected = format!("[seccomp={shown}]\n");
    assert_eq!(env.kelp(&format).succeeds(), expected);
    let verbose = [&["--log-level=debug"], &create[..1], &create[2..]].concat();
    let done = env.kelp(&verbose).done();
    assert_eq!(
        done.stderr,
        "seccomp: \"zzz\" is no system call of this machine\n"
    );
    let other = done.exits(0);
    env.kelp(&["rm", "c", other.trim()]).succeeds();
    // The last one counts.
    let words = "grep -o 'Seccomp:.*' /proc/self/status; mkdir /d 2>/dev/null || echo refused";
    let unconfined = "--security-opt=seccomp=unconfined";
    assert_eq!(
        env.shell(&[unconfined, &option], words),
        "Seccomp:\t2\nrefused\n"
    );
    assert_eq!(env.shell(&[&option, unconfined], words), "Seccomp:\t0\n");
    assert_eq!(
        env.shell(&["--privileged", &option], words),
        "Seccomp:\t2\nrefused\n"
    );
}

#[test]
fn the_domains_name_is_a_sysctl_too() {
    let Some(env) = Env::new() else { return };
    let flags = ["--sysctl=kernel.domainname=example.test"];
    let script = "cat /proc/sys/kernel/domainname";
    assert_eq!(env.shell(&flags, script), "example.test\n");
}

#[test]
fn other_roots_get_the_files_too() {
    let Some(env) = Env::new() else { return };
    let flags = ["--chrootdirs", "/jail,/cell", "-h", "web"];
    let script = "cat /jail/etc/hostname /cell/etc/hostname; cmp /etc/hosts /cell/etc/hosts";
    assert_eq!(env.shell(&flags, script), "web\nweb\n");
}

#[test]
fn a_32_bit_machine_is_a_matter_of_personality() {
    let Some(env) = Env::new() else { return };
    let machine = |flags: &[&str]| env.shell(flags, "uname -m");
    let own = machine(&[]);
    assert_eq!(machine(&["--personality", "LINUX"]), own);
    let expected = match own.trim_end() {
        "x86_64" => "i686\n",
        "aarch64" => "armv8l\n",
        other => panic!("what is {other} with 32 bits?"),
    };
    assert_eq!(machine(&["--personality=LINUX32"]), expected);
    let words = ["run", "--personality=IRIX", &env.busybox()].map(str::to_owned);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    assert_eq!(
        env.kelp(&words).fails(125),
        "Error: invalid personality \"IRIX\": use LINUX or LINUX32"
    );
}

#[test]
fn without_a_cgroup_it_is_where_its_monitor_is() {
    let Some(env) = Env::new() else { return };
    let flags = ["--cgroups=disabled", "--pid=host"];
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find(|line| line.starts_with("0::")).unwrap();
    let own = own.rsplit('/').next().unwrap();
    let seen = env.shell(&flags, "cat /proc/$$/cgroup");
    assert!(!seen.contains("kelp-"), "{seen} in {own}");
    let image = env.busybox();
    for (flag, said) in [
        (
            "--memory=64m",
            "--cgroups=disabled leaves no place for limits of memory, processors and the like",
        ),
        (
            "--cgroupns=host",
            "--cgroups=disabled and --cgroupns exclude each other",
        ),
    ] {
        let words = ["run", "--rm", "--cgroups=disabled", flag, &image];
        assert_eq!(env.kelp(&words).fails(125), format!("Error: {said}"));
    }
}

#[test]
fn exposed_ports_are_published_with_the_images() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let words = [
        "create",
        "--name=web",
        "-P",
        "--expose=81",
        "--expose=90-91/tcp",
        &image,
    ];
    env.kelp(&words).succeeds();
    let ports = env
        .kelp(&[
            "inspect",
            "-f",
            "{{range $k, $v := .HostConfig.PortBindings}}{{$k}} {{end}}",
            "web",
        ])
        .succeeds();
    assert_eq!(ports, "81/tcp 90/tcp 91/tcp \n");
    let line = env.kelp(&["create", "--expose=x", &image]).fails(125);
    assert_eq!(
        line,
        "Error: invalid port \"x\" for --expose: it is PORT[-PORT][/tcp|udp]"
    );
    env.kelp(&["rm", "web"]).succeeds();
}

#[test]
fn the_monitors_process_id_is_told() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let file = env.path("h/monitor");
    let words = [
        "run",
        "-d",
        "--name=web",
        "--conmon-pidfile",
        file.to_str().unwrap(),
    ];
    env.kelp(&[&words[..], &[&image, "sleep", "1000"]].concat())
        .succeeds();
    let pid = std::fs::read_to_string(&file).unwrap();
    let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(command.contains("internal\0monitor\0"), "{command:?}");
    env.kelp(&["rm", "-f", "-t", "0", "web"]).succeeds();
}

#[test]
fn a_device_with_a_rate_has_to_keep_blocks() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for flag in [
        "--device-read-bps",
        "--device-write-bps",
        "--device-read-iops",
        "--device-write-iops",
        "--blkio-weight-device",
    ] {
        for (value, said) in [
            ("/dev/null:100", "/dev/null is not a block device"),
            (
                "/dev/nosuch:100",
                "find the device /dev/nosuch: no such file or directory",
            ),
        ] {
            let words = ["run", "--rm", flag, value, &image];
            assert_eq!(
                env.kelp(&words).fails(125),
                format!("Error: {said}"),
                "{flag} {value}"
            );
        }
    }
}

#[test]
fn a_profile_that_the_kernel_can_not_enforce_is_an_error() {
    let Some(env) = Env::new() else { return };
    // Where it can, no such profile is loaded.
    let why = if std::path::Path::new("/proc/self/attr/apparmor").exists() {
        "it is not loaded: load it with apparmor_parser(8)"
    } else {
        "this kernel has no AppArmor: leave the profile out"
    };
    let image = env.busybox();
    let run = ["run", "--rm", "--security-opt", "apparmor=nosuch", &image];
    assert_eq!(
        env.kelp(&run).fails(125),
        format!("Error: enter the AppArmor profile nosuch: {why}")
    );
    let unconfined = ["run", "--rm", "--security-opt", "apparmor=unconfined"];
    env.kelp(&[&unconfined[..], &[&image, "true"]].concat())
        .succeeds();
}
