//! What scripts and hands do with the command line all day: pipes that close, templates, help, wrong
//! words.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use rustix::event::{PollFd, PollFlags};
use rustix::pipe::PipeFlags;
use serde_json::Value;

use crate::archive::Layer;
use crate::env::Env;
use crate::image::Image;
use crate::kelp::wait;
use crate::terminal::Terminal;

/// A stream whose reader has gone.
fn closed_pipe() -> OwnedFd {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
    drop(reader);
    // A child that another test has just forked may have it until it executes its program.
    let mut fds = [PollFd::new(&writer, PollFlags::empty())];
    rustix::event::poll(&mut fds, None).unwrap();
    assert_eq!(fds[0].revents(), PollFlags::ERR);
    writer
}

#[test]
fn output_that_nobody_takes_is_no_panic() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    env.kelp(&["create", "--name", "c", &image, "true"])
        .succeeds();
    env.kelp(&["volume", "create", "v"]).succeeds();
    for arguments in [
        &["ps", "-a"][..],
        &["images"],
        &["inspect", "c"],
        &["volume", "ls"],
        &["info"],
        &["version"],
        &["run", "--help"],
        &["completion", "bash"],
    ] {
        let mut command = env.kelp(arguments).into_command();
        command.stdout(closed_pipe()).stderr(Stdio::piped());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            (output.status.code(), &*said),
            (Some(141), ""),
            "{arguments:?}"
        );
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = env.kelp(arguments).into_command();
        command.stdout(full).stderr(Stdio::piped());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            (output.status.code(), &*said),
            (Some(125), "Error: write: no space left on device\n"),
            "{arguments:?}"
        );
    }
    // Nobody can be told of an error, which is still one.
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = env.kelp(&["inspect", "nosuch"]).into_command();
    let mut child = command.stdout(Stdio::null()).stderr(full).spawn().unwrap();
    assert_eq!(wait(&mut child, "inspect"), 125);
    env.kelp(&["rm", "c"]).succeeds();
}

#[test]
fn templates_and_inspect_have_what_podmans_have() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let create = [
        "create",
        "--name",
        "c",
        "-v",
        "data:/d",
        "--tmpfs",
        "/t",
        "--expose",
        "81",
        "-p",
        "127.0.0.1:8091:80",
        "--label",
        "a=b",
        &image,
        "true",
    ];
    let id = env.kelp(&create).succeeds();
    let inspect = |template: &str| env.kelp(&["inspect", "-f", template, "c"]).succeeds();
    let mounts = inspect(r#"{{range .Mounts}}{{.Name}}:{{.Dst}}{{"\n"}}{{end}}"#);
    assert_eq!(mounts, "data:/d\n\n");
    assert_eq!(inspect("{{.ID}}"), id);
    assert_eq!(inspect("{{.Id}}"), id);
    assert_eq!(inspect("{{.ImageID}}"), inspect("{{.Image}}"));
    assert_eq!(inspect("{{if .State.Health}}yes{{else}}no{{end}}"), "no\n");
    assert_eq!(
        inspect("{{if .Config.Healthcheck}}yes{{else}}no{{end}}"),
        "no\n"
    );
    assert_eq!(inspect("{{json .HostConfig.VolumesFrom}}"), "[]\n");
    assert_eq!(inspect("{{.HostConfig.CgroupParent}}"), "\n");
    assert_eq!(
        inspect("{{json .Config.ExposedPorts}}"),
        "{\"80/tcp\":{},\"81/tcp\":{}}\n"
    );
    assert_eq!(
        inspect("{{.NetworkSettings.SecondaryIPAddresses}}"),
        "<no value>\n"
    );
    let json: Value = serde_json::from_str(&env.kelp(&["inspect", "c"]).succeeds()).unwrap();
    let host = &json[0]["HostConfig"];
    assert_eq!(host["ConsoleSize"], serde_json::json!([0, 0]));
    assert_eq!(host["MemorySwappiness"], 0);
    for name in ["Links", "BlkioWeightDevice", "BlkioDeviceReadBps"] {
        assert!(host.get(name).is_some_and(Value::is_null), "{name}");
    }
    let digest = env
        .kelp(&["image", "inspect", "-f", "{{.Digest}}", &image])
        .succeeds();
    assert_eq!(inspect("{{.ImageDigest}}"), digest);
    let described = env
        .kelp(&[
            "image",
            "inspect",
            "-f",
            "{{.ID}} {{.HealthCheck}} {{.GraphDriver.Data.UpperDir}}",
            &image,
        ])
        .succeeds();
    let words: Vec<_> = described.trim().splitn(3, ' ').collect();
    assert_eq!(words[0], inspect("{{.Image}}").trim());
    let (_, layer) = words[2].split_once('/').unwrap();
    assert!(
        std::path::Path::new("/").join(layer).is_dir(),
        "{described}"
    );
    let listed = env
        .kelp(&[
            "ps",
            "-a",
            "--format",
            "{{.Label \"a\"}}|{{.Label \"no\"}}|{{.PIDNS}}|{{.Namespaces.PIDNS}}",
        ])
        .succeeds();
    assert_eq!(listed, "b|||\n");
    for (filter, found) in [
        ("status=created", true),
        ("publish=80", true),
        ("publish=81", false),
        ("expose=81/tcp", true),
        ("expose=82", false),
    ] {
        let ids = env
            .kelp(&["ps", "-aq", "--no-trunc", "-f", filter])
            .succeeds();
        assert_eq!(ids == id, found, "{filter}");
    }
    let bogus = env.kelp(&["ps", "-a", "-f", "status=bogus"]).fails(125);
    assert!(bogus.contains("unknown container state: bogus"), "{bogus}");
    env.kelp(&["rm", "c"]).succeeds();
}

#[test]
fn a_pull_of_several_goes_on_and_rmi_with_force_overlooks_what_is_missing() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    env.kelp(&["rmi", &image]).succeeds();
    let missing = format!("{}/nosuch:1", env.registry().address);
    let done = env.kelp(&["pull", "-q", &missing, &image]).done();
    assert_eq!(done.code, 125, "{done:#?}");
    assert_eq!(done.stdout.lines().count(), 1, "{done:#?}");
    assert!(done.stderr.contains("nosuch"), "{done:#?}");
    env.kelp(&["rmi", "nosuch"]).fails(1);
    assert_eq!(env.kelp(&["rmi", "-f", "nosuch"]).succeeds(), "");
}

#[test]
fn a_container_that_is_not_there_is_told_of_in_podmans_words() {
    let Some(env) = Env::new() else { return };
    let absent = "no container with name or ID \"nosuch\" found: no such container";
    for (words, code, said) in [
        (&["exec", "nosuch", "true"][..], 125, absent),
        (&["logs", "nosuch"], 125, absent),
        (&["start", "nosuch"], 125, absent),
        (&["start", "-a", "nosuch"], 125, absent),
        (&["stop", "nosuch"], 125, absent),
        (&["rm", "nosuch"], 1, absent),
        (&["inspect", "nosuch"], 125, "no such object: \"nosuch\""),
    ] {
        assert_eq!(env.kelp(words).fails(code), format!("Error: {said}"));
    }
}

#[test]
fn help_is_a_command_and_what_is_missing_is_said_to_be() {
    let Some(env) = Env::new() else { return };
    for (words, same) in [
        (&["help"][..], &["--help"][..]),
        (&["help", "run"], &["run", "--help"]),
        (&["-v"], &["--version"]),
        (
            &["--log-level=debug", "volume", "ls", "-q"],
            &["volume", "ls", "-q"],
        ),
        (
            &["system", "events", "--stream=false"],
            &["events", "--stream=false"],
        ),
    ] {
        assert_eq!(
            env.kelp(words).succeeds(),
            env.kelp(same).succeeds(),
            "{words:?}"
        );
    }
    for (words, said) in [
        (
            &["pod", "clone", "x"][..],
            "Error: pod clone is not supported by kelp yet",
        ),
        (
            &["image", "scp", "x"],
            "Error: image scp is not supported by kelp yet",
        ),
        (
            &["--runroot", "/x", "ps"],
            "Error: --runroot is not supported by kelp yet: XDG_RUNTIME_DIR says what it is in",
        ),
    ] {
        assert_eq!(env.kelp(words).fails(125), said);
    }
    let mut command = env.kelp(&["inspect"]).into_command();
    command.arg(std::ffi::OsStr::from_bytes(b"a\xff"));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.starts_with("Error: argument \"a\\xff\" is not UTF-8"),
        "{said}"
    );
}

#[test]
fn a_terminal_that_nobody_types_at_is_told_of() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let warning = "Warning: The input device is not a TTY. The --tty and --interactive flags might \
                   not work properly\n";
    let done = env
        .kelp(&["run", "--rm", "-it", &image, "echo", "x"])
        .done();
    assert_eq!((done.code, done.stderr.as_str()), (0, warning), "{done:#?}");
    let run = ["run", "-d", "--name", "c", &image, "sleep", "1000"];
    env.kelp(&run).succeeds();
    let done = env.kelp(&["exec", "-it", "c", "echo", "x"]).done();
    assert_eq!((done.code, done.stderr.as_str()), (0, warning), "{done:#?}");
    for (words, heading) in [
        (
            &["aux"][..],
            "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
        ),
        (&["-ef"], "UID PID PPID C STIME TTY TIME CMD"),
        (&["-o", "pid,comm"], "PID COMMAND"),
        (&["-eo", "pid,args"], "PID COMMAND"),
    ] {
        let shown = env.kelp(&[&["top", "c"][..], words].concat()).succeeds();
        let mut lines = shown.lines();
        let words: Vec<_> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(words.join(" "), heading);
        let row = lines.next().unwrap();
        assert!(row.contains("sleep"), "{shown}");
    }
    env.kelp(&["rm", "-f", "-t", "0", "c"]).succeeds();
}

#[test]
fn an_interrupt_at_the_password_leaves_the_terminal_as_it_was() {
    let Some(env) = Env::new() else { return };
    let address = env.registry().address.clone();
    // The shell tells of the modes, and does not itself end of the interrupt.
    let script = format!(
        "trap : INT; {} login -u me {address}; echo code $?; stty -a | grep -o '.echo '",
        crate::env::kelp_program().display()
    );
    let kelp = env.kelp(&["-v"]).into_command();
    let mut command = crate::kelp::beside(&kelp, "sh");
    command.args(["-c", &script]);
    let mut terminal = Terminal::start(crate::kelp::Kelp::new(command));
    terminal.expect("Password: ");
    terminal.send(b"\x03");
    terminal.expect("code 130");
    terminal.expect(" echo");
    assert!(terminal.end().success());
}

#[test]
fn volumes_have_events() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    env.kelp(&["volume", "create", "a"]).succeeds();
    env.kelp(&["volume", "create", "--ignore", "a"]).succeeds();
    env.kelp(&["run", "--rm", "-v", "b:/b", &image, "true"])
        .succeeds();
    env.kelp(&["run", "--rm", "-v", "b:/b", &image, "true"])
        .succeeds();
    env.kelp(&["volume", "rm", "a"]).succeeds();
    env.kelp(&["volume", "prune", "-f"]).succeeds();
    let events = [
        "events",
        "--stream=false",
        "-f",
        "type=volume",
        "--format",
        "{{.Status}} {{.Name}}",
    ];
    assert_eq!(
        env.kelp(&events).succeeds(),
        "create a\ncreate b\nremove a\nremove b\nprune b\n"
    );
}

#[test]
fn a_container_at_rest_can_be_copied_to_itself() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let run = ["run", "--name=box", "--network=none", &image, "sh", "-c"];
    let script = "mkdir /from /to; head -c 3000000 /dev/zero >/from/big; echo x >/from/small";
    env.kelp(&[&run[..], &[script]].concat()).succeeds();
    for [from, to] in [["box:", "."], [".", "box:"], ["", "box:/to"]] {
        let said = format!("Error: invalid arguments {from:?}, {to:?}: you must specify paths");
        assert_eq!(env.kelp(&["cp", from, to]).fails(125), said);
    }
    env.kelp(&["cp", "box:/from", "box:/to"]).succeeds();
    let archive = env.kelp(&["cp", "box:/to/from/small", "-"]).succeeds();
    assert!(archive.contains("small"), "{archive}");
    env.kelp(&["cp", "box:/from/big", "box:/to/from/bigger"])
        .succeeds();
    let copied = env.path("h/bigger");
    env.kelp(&["cp", "box:/to/from/bigger", copied.to_str().unwrap()])
        .succeeds();
    assert_eq!(std::fs::metadata(copied).unwrap().len(), 3_000_000);
    env.kelp(&["rm", "box"]).succeeds();
}

#[test]
fn all_of_a_running_container_can_be_copied() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let run = [
        "run",
        "-d",
        "--name=box",
        "--network=none",
        "-v",
        "data:/data",
    ];
    env.kelp(&[&run[..], &[&image, "sleep", "1000"]].concat())
        .succeeds();
    let script = "echo mine >/tmp/mine; echo kept >/data/kept; echo passing >/dev/shm/passing";
    env.kelp(&["exec", "box", "sh", "-c", script]).succeeds();
    let target = env.path("h/whole");
    env.kelp(&["cp", "box:/", target.to_str().unwrap()])
        .succeeds();
    let read = |name: &str| std::fs::read_to_string(target.join(name)).unwrap();
    assert_eq!(
        (read("tmp/mine"), read("data/kept")),
        ("mine\n".into(), "kept\n".into())
    );
    for kernels in ["proc", "sys", "dev"] {
        let left = std::fs::read_dir(target.join(kernels)).unwrap().count();
        assert_eq!(left, 0, "{kernels}");
    }
    env.kelp(&["rm", "-f", "-t0", "box"]).succeeds();
}

#[test]
fn an_images_topmost_layer_is_compared_with_those_beneath() {
    let Some(env) = Env::new() else { return };
    let image = env.image("compared", &|| {
        Image::empty()
            .layer(
                Layer::default()
                    .file("kept", 0o644, b"1")
                    .file("gone", 0o644, b"1"),
            )
            .layer(Layer::default().file("added", 0o644, b"2").whiteout("gone"))
    });
    for words in [&["diff", &image][..], &["image", "diff", &image]] {
        assert_eq!(env.kelp(words).succeeds(), "A /added\nD /gone\n");
    }
    let said = env.kelp(&["diff", "nosuch"]).fails(125);
    assert!(said.contains("nosuch"), "{said}");
}

#[test]
fn limits_can_be_those_of_the_host() {
    let Some(env) = Env::new() else { return };
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let shown = env.shell(&["--ulimit", "host"], "ulimit -n");
    let expected = own
        .current
        .map_or("unlimited".to_owned(), |limit| limit.to_string());
    assert_eq!(shown.trim(), expected);
    let image = env.busybox();
    let both = [
        "run", "--rm", "--ulimit", "host", "--ulimit", "core=0", &image, "true",
    ];
    env.kelp(&both).fails(125);
}
