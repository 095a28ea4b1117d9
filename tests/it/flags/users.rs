//! Flags about who the program runs as, and what the container's files say of it.

use crate::env::Env;
use crate::image::Image;

#[test]
fn a_number_gets_a_name() {
    let Some(env) = Env::new() else { return };
    let lines = "tail -n 1 /etc/passwd; tail -n 1 /etc/group; echo $HOME";
    let known = "user:x:1000:1000::/home/user:/bin/sh\nextra:x:2000:user\n";
    for (flags, seen) in [
        (&[][..], format!("{known}/root\n")),
        (&["-u", "user"], format!("{known}/home/user\n")),
        (&["-u", "1000:2000"], format!("{known}/home/user\n")),
        (
            &["-u", "4321"],
            "4321:*:4321:0:container user:/:/bin/sh\nextra:x:2000:user\n/\n".to_owned(),
        ),
        (
            &["-u", "4321:77", "-w", "/tmp"],
            "4321:*:4321:77:container user:/tmp:/bin/sh\n77:x:77:4321\n/tmp\n".to_owned(),
        ),
        (&["-u", "4321", "--passwd=false"], format!("{known}/\n")),
        (
            &["-u", "4321", "--read-only"],
            "4321:*:4321:0:container user:/:/bin/sh\nextra:x:2000:user\n/\n".to_owned(),
        ),
    ] {
        assert_eq!(env.shell(flags, lines), seen, "{flags:?}");
    }
    assert_eq!(env.shell(&["-u", "4321"], "whoami"), "4321\n");
}

#[test]
fn lines_are_as_they_were_asked_for() {
    let Some(env) = Env::new() else { return };
    let flags = [
        "-u",
        "4321:77",
        "--passwd-entry",
        "me-$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/ash",
        "--group-entry",
        "ours-$GROUPNAME:x:$GID:$USERLIST",
    ];
    assert_eq!(
        env.shell(
            &flags,
            "tail -n 1 /etc/passwd; tail -n 1 /etc/group; whoami"
        ),
        "me-4321:*:4321:77:container user:/:/bin/ash\nours-77:x:77:4321\nme-4321\n"
    );
    let image = env.busybox();
    for (flags, said) in [
        (
            &["--passwd-entry", "a\nb"][..],
            "invalid line \"a\\nb\": it is more than one",
        ),
        (
            &["--passwd=false", "--group-entry=a"],
            "--passwd=false and --group-entry exclude each other",
        ),
    ] {
        let words = [&["run", "--rm"], flags, &[&image]].concat();
        assert_eq!(env.kelp(&words).fails(125), format!("Error: {said}"));
    }
}

#[test]
fn a_user_of_the_host_can_be_the_containers() {
    let Some(env) = Env::new() else { return };
    let script = "grep ^games: /etc/passwd | cut -d: -f 1-4; id -u; id -g";
    let flags = ["--hostuser", "games", "-u", "games"];
    let host = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = host
        .lines()
        .find(|line| line.starts_with("games:"))
        .unwrap();
    let fields: Vec<_> = line.split(':').collect();
    let (uid, gid) = (fields[2], fields[3]);
    assert_eq!(
        env.shell(&flags, script),
        format!("games:*:{uid}:{gid}\n{uid}\n{gid}\n")
    );
    let image = env.busybox();
    assert_eq!(
        env.kelp(&["run", "--rm", "--hostuser", "nobody-at-all", &image])
            .fails(125),
        "Error: --hostuser nobody-at-all: the host's /etc/passwd has no such user"
    );
}

#[test]
fn who_keeps_its_ids_keeps_its_name() {
    let Some(env) = Env::new() else { return };
    // An image without passwd gets one.
    let image = env.image("without-passwd", &|| {
        Image::busybox().layer(crate::archive::Layer::default().whiteout("etc/passwd"))
    });
    let name = std::process::Command::new("id")
        .arg("-un")
        .output()
        .unwrap();
    let name = String::from_utf8(name.stdout).unwrap();
    for image in [&image, &env.busybox()] {
        let words = ["run", "--rm", "--userns=keep-id", image, "whoami"];
        assert_eq!(env.kelp(&words).succeeds(), name, "{image}");
    }
    let script = "tail -n 1 /etc/group";
    let seen = env.shell(&["--userns=keep-id:uid=4000,gid=5000"], script);
    let name = name.trim_end();
    assert_eq!(seen, format!("{name}:x:5000:{name}\n"));
}

#[test]
fn what_is_mounted_over_passwd_stays_as_it_is() {
    let Some(env) = Env::new() else { return };
    let file = env.path("h/passwd");
    let content = "root:x:0:0:root:/root:/bin/sh\n";
    std::fs::write(&file, content).unwrap();
    let volume = format!("{}:/etc/passwd", file.display());
    let seen = env.shell(&["-u", "4321", "-v", &volume], "cat /etc/passwd");
    assert_eq!(seen, content);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), content);
}

#[test]
fn groups_of_the_caller_are_kept_if_that_is_asked_for() {
    let Some(env) = Env::new() else { return };
    assert_eq!(env.shell(&["-u", "user"], "id -G"), "1000 2000\n");
    // The caller's own group is the container's root group.
    let flags = ["-u", "user", "--group-add", "keep-groups"];
    assert_eq!(env.shell(&flags, "id -G"), "1000 0\n");
    let image = env.busybox();
    let words = [
        "run",
        "--group-add=keep-groups",
        "--group-add=extra",
        &image,
    ];
    assert_eq!(
        env.kelp(&words).fails(125),
        "Error: --group-add keep-groups leaves no room for other groups"
    );
}
