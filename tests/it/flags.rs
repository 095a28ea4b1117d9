//! Flags: how they are written, and what each does inside.

mod devices;
mod inside;
mod lists;
mod overlay_end;
mod overlays;
pub(crate) mod restart;
mod users;
mod volumes;

use serde_json::json;

use crate::env::Env;
use crate::image::Image;

#[test]
fn flags_end_at_the_image() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for (flags, command, printed) in [
        (&["--rm"][..], &["echo", "--rm", "-x"][..], "--rm -x\n"),
        (&["--rm", "--"], &["echo", "--", "y"], "-- y\n"),
        (
            &["--rm=false", "--rm=true", "-i=false"],
            &["echo", "z"],
            "z\n",
        ),
        (&["--rm", "--rm"], &["echo", "--nosuch"], "--nosuch\n"),
        (&["--rm", "--env=A=-b"], &["sh", "-c", "echo $A"], "-b\n"),
        (&["--rm", "-e", "A=c"], &["sh", "-c", "echo $A"], "c\n"),
        (&["--rm", "-eA=d"], &["sh", "-c", "echo $A"], "d\n"),
    ] {
        let words: Vec<_> = [&["run"], flags, &[&image], command].concat();
        assert_eq!(env.kelp(&words).succeeds(), printed, "{words:?}");
    }
}

#[test]
fn a_flag_that_is_none_is_named() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for (words, said) in [
        (
            &["run", "--nosuch", &image][..],
            "unknown flag: --nosuch\nSee 'kelp run --help'",
        ),
        (
            &["create", "-Z", &image],
            "unknown shorthand flag: 'Z' in -Z\nSee 'kelp create --help'",
        ),
        (
            &["exec", "--nosuch=1", "x", "ls"],
            "unknown flag: --nosuch\nSee 'kelp exec --help'",
        ),
        (
            &["container", "ps", "--nosuch"],
            "unknown flag: --nosuch\nSee 'kelp container ps --help'",
        ),
        (
            &["run", "--rm=perhaps", &image],
            "invalid argument \"perhaps\" for \"--rm\" flag: use true or false\nSee 'kelp run --help'",
        ),
        (
            &["pod", "create", "--memory=1g"],
            "--memory is not supported by kelp yet: a pod has no cgroup of its own; give the limit to its containers",
        ),
        (
            &["exec", "--no-session", "x", "ls"],
            "--no-session is not supported by kelp yet",
        ),
    ] {
        let done = env.kelp(words).done();
        assert_eq!(
            (done.code, done.stdout.as_str(), done.stderr.as_str()),
            (125, "", format!("Error: {said}\n").as_str()),
            "{words:?}"
        );
    }
}

#[test]
fn a_value_that_is_none_is_one_line() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for (flag, value, said) in [
        (
            "--sysctl",
            "vm.swappiness=1",
            "invalid sysctl \"vm.swappiness=1\": no namespace has it: use net.*, fs.mqueue.*, \
             kernel.msg*, kernel.sem, kernel.shm* or kernel.domainname",
        ),
        (
            "--security-opt",
            "no-new-privileges=perhaps",
            "invalid security option \"no-new-privileges=perhaps\": no-new-privileges is true or \
             false",
        ),
        (
            "--device",
            "null",
            "invalid device \"null\": the path on the host must be absolute",
        ),
        (
            "--device",
            "/dev/null:r",
            "--device /dev/null: fewer permissions than rw need the devices controller, which only \
             root has",
        ),
        (
            "--stop-signal",
            "NOSUCH",
            "invalid signal \"NOSUCH\": use a name such as TERM or RTMIN+3, or a number from 1 to 64",
        ),
        (
            "--add-host",
            "db:10.0.0",
            "invalid host \"db:10.0.0\": the address must be an IP address or host-gateway",
        ),
        (
            "--log-opt",
            "max-file=0",
            "invalid log option \"max-file=0\": max-file is a number from 1 on",
        ),
        (
            "--volume",
            "/tmp:/b:ro,rw",
            "invalid mount \"/tmp:/b:ro,rw\": ro and rw exclude each other",
        ),
        (
            "--mount",
            "type=bind,src=/tmp,dst=/b,bind-propagation=up",
            "invalid mount \"type=bind,src=/tmp,dst=/b,bind-propagation=up\": invalid option \
             \"bind-propagation=up\"",
        ),
        (
            "--attach",
            "stdlog",
            "invalid stream \"stdlog\" for --attach: use stdin, stdout or stderr",
        ),
    ] {
        let line = env.kelp(&["run", "--rm", flag, value, &image]).fails(125);
        assert_eq!(line, format!("Error: {said}"), "{flag} {value}");
    }
    let file = ["run", "--rm", "--rootfs", "/etc/passwd", "true"];
    let wait = ["wait", "-i", "bogus", "c"];
    for (words, said) in [
        (&file[..], "--rootfs /etc/passwd: it is not a directory"),
        (
            &wait,
            "invalid interval \"bogus\": it is a time such as 250ms or 1m30s, or a number of \
             milliseconds",
        ),
    ] {
        assert_eq!(env.kelp(words).fails(125), format!("Error: {said}"));
    }
}

#[test]
fn a_working_directory_that_is_gone_matters_to_what_is_relative() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let run = |flags: &[&str]| {
        let words = [&["run", "--rm"], flags, &[&image, "echo", "on"]].concat();
        env.kelp_after("mkdir gone; cd gone; rmdir ../gone", &words)
    };
    assert_eq!(run(&[]).succeeds(), "on\n");
    assert_eq!(run(&["-v", "/etc:/mnt", "-v", "v:/v"]).succeeds(), "on\n");
    let source = "is relative, and the working directory is gone";
    for (flag, said) in [
        (
            "-v=./x:/mnt",
            format!("invalid source \"./x\": it {source}"),
        ),
        (
            "--mount=type=bind,src=x,dst=/mnt",
            format!("invalid source \"x\": it {source}"),
        ),
        ("--cidfile=x", format!("invalid path \"x\": it {source}")),
    ] {
        assert_eq!(run(&[flag]).fails(125), format!("Error: {said}"));
    }
}

#[test]
fn each_flag_is_seen_inside() {
    let Some(env) = Env::new() else { return };
    for (flags, script, seen) in [
        (
            &["--device", "/dev/null:/dev/mine"][..],
            "echo x > /dev/mine; test -c /dev/mine && echo device",
            "device\n",
        ),
        (
            &["--add-host", "one;two=10.0.0.1"],
            "grep -wE 'one|two' /etc/hosts | tr '\\t' ' '",
            "10.0.0.1 one\n10.0.0.1 two\n",
        ),
        (
            &["--no-hosts"],
            "grep -c ' /etc/hosts ' /proc/self/mounts; true",
            "0\n",
        ),
        (
            &["--no-hostname"],
            "grep -c ' /etc/hostname ' /proc/self/mounts; grep -c ' /etc/hosts ' /proc/self/mounts",
            "0\n1\n",
        ),
        (
            &["--mount", "type=devpts,dst=/terminals,mode=620"],
            "ls /terminals",
            "ptmx\n",
        ),
        (
            &["--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=0711"],
            "stat -c %a /t; grep ' /t ' /proc/self/mounts | grep -o size=1024k",
            "711\nsize=1024k\n",
        ),
        (
            &[
                "--env-merge",
                "PATH=${PATH}:/opt",
                "--unsetenv",
                "container",
            ],
            "echo $PATH; echo ${container-none}",
            "/usr/bin:/bin:/opt\nnone\n",
        ),
        (&["--unsetenv", "A", "-e", "A=asked"], "echo $A", "asked\n"),
    ] {
        assert_eq!(env.shell(flags, script), seen, "{flags:?}");
    }
}

#[test]
fn only_what_is_asked_for_is_left_of_the_environment() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let flags = [
        "run",
        "--rm",
        "--unsetenv-all",
        "-e",
        "A=b",
        &image,
        "/bin/env",
    ];
    let printed = env.kelp(&flags).succeeds();
    let mut lines: Vec<_> = printed.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=b", "HOME=/root"]);
}

#[test]
fn the_hosts_proxy_is_passed_on_unless_it_is_refused() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "echo ${http_proxy-none} ${NO_PROXY-none}";
    for (flag, seen) in [
        ("--http-proxy", "http://proxy:1 local\n"),
        ("--http-proxy=false", "none none\n"),
    ] {
        let words = [
            "run",
            "--rm",
            "--pull=never",
            flag,
            &image,
            "sh",
            "-c",
            script,
        ];
        let mut command = env.kelp(&words).into_command();
        command.env("http_proxy", "http://proxy:1");
        command.env("NO_PROXY", "local");
        assert_eq!(crate::kelp::Kelp::new(command).succeeds(), seen, "{flag}");
    }
}

#[test]
fn streams_are_attached_one_by_one() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "echo out; echo err >&2";
    for (streams, stdout, stderr) in [
        (&["-a", "stdout"][..], "out\n", ""),
        (&["--attach=stderr"], "", "err\n"),
        (&["-astdout", "-aSTDERR"], "out\n", "err\n"),
    ] {
        let words = [&["run", "--rm"], streams, &[&image, "sh", "-c", script]].concat();
        let done = env.kelp(&words).done();
        assert_eq!(
            (done.code, done.stdout.as_str(), done.stderr.as_str()),
            (0, stdout, stderr),
            "{streams:?}"
        );
    }
}

#[test]
fn labels_come_from_files_and_a_name_from_nowhere() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let labels = env.path("h/labels");
    std::fs::write(&labels, "# not one\n\n  A=file\nB=file\n").unwrap();
    let file = labels.to_str().unwrap();
    let words = ["create", "--label-file", file, "-l", "B=flag", &image];
    let id = env.kelp(&words).succeeds();
    let format = "{{.Name}} {{.Config.Labels.A}} {{.Config.Labels.B}}";
    let shown = env
        .kelp(&["inspect", "--format", format, id.trim()])
        .succeeds();
    let (name, rest) = shown.split_once(' ').unwrap();
    assert_eq!(rest, "file flag\n");
    let (adjective, surname) = name.split_once('_').unwrap();
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    assert!(is_word(adjective) && is_word(surname), "{name}");
    env.kelp(&["rm", name]).succeeds();
}

#[test]
fn exec_finds_its_container_and_its_variables() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let file = env.path("h/variables");
    std::fs::write(&file, "A=file\nB=file\n").unwrap();
    let cid = env.path("h/cid");
    let (file, cid) = (file.to_str().unwrap(), cid.to_str().unwrap());
    let words = [
        "run",
        "-d",
        "--name=web",
        "--cidfile",
        cid,
        &image,
        "sleep",
        "1000",
    ];
    env.kelp(&words).succeeds();
    let script = ["sh", "-c", "echo $A $B $KELP_TEST_CANARY"];
    let variables = ["--env-file", file, "-e", "B=flag", "-e", "KELP_TEST_CANARY"];
    for target in [
        &["web"][..],
        &["--latest", "--"],
        &["-l", "--"],
        &["--cidfile", cid],
    ] {
        let words = [&["exec"], &variables[..], target, &script].concat();
        assert_eq!(
            env.kelp(&words).succeeds(),
            "file flag of the host\n",
            "{target:?}"
        );
    }
    for (words, said) in [
        (
            &["exec"][..],
            "exec requires the name or ID of a container or the --latest flag",
        ),
        (
            &["exec", "web"],
            "must provide a non-empty command to start an exec session",
        ),
    ] {
        assert_eq!(env.kelp(words).fails(125), format!("Error: {said}"));
    }
    env.kelp(&["rm", "-f", "-t", "0", "web"]).succeeds();
}

#[test]
fn an_images_volumes_are_what_the_flag_says() {
    let Some(env) = Env::new() else { return };
    let image = env.image("with-volume", &|| {
        Image::busybox().set("Volumes", json!({ "/data": {} }))
    });
    let script =
        "grep -c ' /data ' /proc/self/mounts; grep -c ' /data tmpfs ' /proc/self/mounts; true";
    for (flags, seen) in [
        (&[][..], "1\n0\n"),
        (&["--image-volume=bind"], "1\n0\n"),
        (&["--image-volume=tmpfs"], "1\n1\n"),
        (&["--image-volume=ignore"], "0\n0\n"),
    ] {
        let words = [&["run", "--rm"], flags, &[&image, "sh", "-c", script]].concat();
        assert_eq!(env.kelp(&words).succeeds(), seen, "{flags:?}");
    }
    let words = ["run", "--rm", "--image-volume=none", &image];
    assert_eq!(
        env.kelp(&words).fails(125),
        "Error: invalid image volume \"none\": use bind, tmpfs or ignore"
    );
}

#[test]
fn a_log_is_where_the_command_said_from_wherever_it_is_read() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let run = ["run", "--name=web", "--log-opt=path=out.log", &image];
    let run = [&run[..], &["echo", "logged"]].concat();
    assert_eq!(env.kelp(&run).succeeds(), "logged\n");
    let log = std::fs::read_to_string(env.path("h/out.log")).unwrap();
    assert!(log.ends_with(" logged\n"), "{log}");
    let read = env.kelp_after("cd /", &["logs", "web"]);
    assert_eq!(read.succeeds(), "logged\n");
    env.kelp(&["rm", "web"]).succeeds();
}

#[test]
fn an_image_of_another_platform_is_not_taken_for_the_one_that_was_asked_for() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for (flag, fits) in [
        ("--os=linux", true),
        ("--os=windows", false),
        // Which one this image is for nobody knows.
        ("--variant=v9", true),
        ("--arch=mips", false),
    ] {
        let run = ["run", "--rm", "--pull=never", flag, &image, "true"];
        let code = env.kelp(&run).done().code;
        assert_eq!(code, if fits { 0 } else { 125 }, "{flag}");
    }
}
