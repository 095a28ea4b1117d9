//! `--volume …:O`, `--mount type=image` and a place in a volume.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use crate::archive::Layer;
use crate::env::Env;
use crate::image::Image;

/// An image of two layers, the upper of which hides a file of the lower one.
fn layered() -> Image {
    Image::empty()
        .layer(Layer::default().file("data/low", 0o644, b"low\n").file(
            "data/hidden",
            0o644,
            b"hidden\n",
        ))
        .layer(
            Layer::default()
                .whiteout("data/hidden")
                .file("data/top", 0o644, b"top\n"),
        )
}

#[test]
fn what_is_written_over_a_directory_goes_with_the_run() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    // With what separates the options of overlayfs in its name.
    let source = env.path("h/a:b\\c,d");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "of the host\n").unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o751)).unwrap();
    let link = env.path("h/plain");
    symlink(&source, &link).unwrap();
    let volume = format!("{}:/data:O", link.display());
    let script = "exec 2>/dev/null; cd /data; echo *; stat -c '%u:%g %a' .; echo more >> file; echo new > new; \
                  mkdir d; echo x > d/x; rm -f gone; cat file";
    for userns in ["host", "keep-id", "nomap"] {
        let flags = [
            "create", "--name", "one", "--userns", userns, "-u", "0", "-v",
        ];
        let words = [&flags[..], &[&volume, &image, "sh", "-c", script]].concat();
        env.kelp(&words).succeeds();
        let said = env.kelp(&["start", "-a", "one"]).succeeds();
        let owner = match userns {
            "host" => "0:0".to_owned(),
            "keep-id" => {
                let uid = rustix::process::getuid().as_raw();
                format!("{uid}:{}", rustix::process::getgid().as_raw())
            }
            // The owner has no id here, and nobody else may write.
            _ => "65534:65534".to_owned(),
        };
        let more = if userns == "nomap" { "" } else { "more\n" };
        let expected = format!("file\n{owner} 751\nof the host\n{more}");
        assert_eq!(said, expected, "{userns}");
        // A second run finds nothing of the first.
        assert_eq!(
            env.kelp(&["start", "-a", "one"]).succeeds(),
            said,
            "{userns}"
        );
        let changes = env.kelp(&["diff", "one"]).succeeds();
        assert!(!changes.contains("/data"), "{userns}: {changes}");
        env.kelp(&["rm", "one"]).succeeds();
        let names = fs::read_dir(&source).unwrap().count();
        assert_eq!(names, 1, "{userns}");
        assert_eq!(fs::read(source.join("file")).unwrap(), b"of the host\n");
    }
}

#[test]
fn what_is_written_over_a_volume_stays_where_that_is_asked_for() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let [upper, work] = ["h/upper", "h/work"].map(|name| env.path(name));
    let volume = format!(
        "data:/data:O,upperdir={},workdir={}",
        upper.display(),
        work.display()
    );
    let run = |script: &str| env.kelp(&["run", "--rm", "-v", &volume, &image, "sh", "-c", script]);
    let said = run("true").fails(125);
    assert!(
        said.ends_with("upper is no directory: make it first"),
        "{said}"
    );
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let fill = [
        "run",
        "--rm",
        "-v",
        "data:/data",
        &image,
        "touch",
        "/data/below",
    ];
    env.kelp(&fill).succeeds();
    run("echo kept > /data/kept").succeeds();
    assert_eq!(
        run("cd /data; echo *; cat kept").succeeds(),
        "below kept\nkept\n"
    );
    assert_eq!(fs::read(upper.join("kept")).unwrap(), b"kept\n");
    let plain = ["run", "--rm", "-v", "data:/data", &image, "ls", "/data"];
    assert_eq!(env.kelp(&plain).succeeds(), "below\n");
    env.kelp(&["volume", "rm", "data"]).succeeds();
}

#[test]
fn an_image_is_a_mount() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let layered = env.image("overlay-layered", &layered);
    let single = env.image("overlay-hello", &|| {
        Image::empty().layer(Layer::default().file("data/only", 0o644, b"only\n"))
    });
    let mount = |image: &str, more: &str| format!("type=image,source={image},destination=/i{more}");
    let run = |mount: &str, script: &str| {
        env.kelp(&["run", "--rm", "--mount", mount, &image, "sh", "-c", script])
    };
    let script = "cd /i/data; echo *; cat *; touch new 2>/dev/null && echo wrote";
    assert_eq!(
        run(&mount(&layered, ""), script).done().stdout,
        "low top\nlow\ntop\n"
    );
    assert_eq!(
        run(&mount(&single, ""), script).done().stdout,
        "only\nonly\n"
    );
    let written = run(&mount(&layered, ",rw=true"), script).succeeds();
    assert_eq!(written, "low top\nlow\ntop\nwrote\n");
    let again = run(&mount(&layered, ",rw=true"), script).succeeds();
    assert_eq!(again, written);
    // It is in use as long as the container is there.
    let create = [
        "create",
        "--name",
        "user",
        "--mount",
        &mount(&layered, ""),
        &image,
        "true",
    ];
    env.kelp(&create).succeeds();
    let said = env.kelp(&["rmi", &layered]).fails(2);
    assert!(said.contains("in use"), "{said}");
    env.kelp(&["rm", "user"]).succeeds();
    env.kelp(&["rmi", &layered]).succeeds();
    let said = run(&mount("nowhere", ""), script).fails(125);
    assert!(said.contains("nowhere"), "{said}");
}

#[test]
fn a_place_in_a_volume_is_found_without_leaving_it() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "mkdir -p /data/a/b; echo inside > /data/a/b/file; ln -s / /data/out; \
                  ln -s a/b /data/in; ln -s /etc /data/etc; ln -s ../../../.. /data/up";
    let fill = [
        "run",
        "--rm",
        "-v",
        "data:/data",
        &image,
        "sh",
        "-c",
        script,
    ];
    env.kelp(&fill).succeeds();
    let place = |place: &str| {
        let mount = format!("type=volume,source=data,destination=/m,subpath={place}");
        env.kelp(&[
            "run",
            "--rm",
            "--mount",
            &mount,
            &image,
            "sh",
            "-c",
            "echo /m/*",
        ])
    };
    assert_eq!(place("a/b").succeeds(), "/m/file\n");
    assert_eq!(place("in").succeeds(), "/m/file\n");
    // The root that links lead to is the volume.
    for own in ["out", "up", "../../..", "/"] {
        assert_eq!(
            place(own).succeeds(),
            "/m/a /m/etc /m/in /m/out /m/up\n",
            "{own}"
        );
    }
    for missing in ["none", "etc", "a/b/file/x"] {
        let said = place(missing).fails(125);
        assert!(said.contains(&format!("find {missing} in ")), "{said}");
    }
    env.kelp(&["volume", "rm", "data"]).succeeds();
}

#[test]
fn an_image_of_one_layer_is_not_written_through_its_mount() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let single = env.image("overlay-single", &|| {
        Image::empty().layer(Layer::default().file("data/only", 0o644, b"only\n"))
    });
    let mount = format!("--mount=type=image,source={single},destination=/i");
    let words = ["create", "--name=one", &mount, &image, "true"];
    env.kelp(&words).succeeds();
    let attempt = "echo changed 2>/dev/null >/i/data/only; true";
    env.kelp(&[
        "run",
        "--rm",
        "--volumes-from=one:rw",
        &image,
        "sh",
        "-c",
        attempt,
    ])
    .done()
    .exits(0);
    let remount = "mount -o remount,bind,rw /i; echo changed 2>/dev/null >/i/data/only; true";
    let words = [
        "run",
        "--rm",
        "--privileged",
        &mount,
        &image,
        "sh",
        "-c",
        remount,
    ];
    env.kelp(&words).done().exits(0);
    assert_eq!(env.shell(&[&mount], "cat /i/data/only"), "only\n");
    env.kelp(&["rm", "one"]).succeeds();
}

#[test]
fn only_the_part_of_a_volume_that_is_mounted_is_given_away() {
    let Some(env) = Env::new() else { return };
    env.shell(
        &["-v", "data:/v"],
        "mkdir -p /v/a/b; touch /v/a/b/file /v/top",
    );
    let mount = "--mount=type=volume,src=data,dst=/d,subpath=a/b,U";
    let script = "stat -c %u /d /d/file";
    assert_eq!(env.shell(&["-u", "9:9", mount], script), "9\n9\n");
    let script = "stat -c %u /v /v/top /v/a /v/a/b /v/a/b/file";
    assert_eq!(env.shell(&["-v", "data:/v"], script), "0\n0\n0\n9\n9\n");
}

#[test]
fn a_place_in_an_image_is_a_mount() {
    for env in [Env::new(), Env::of_old_kernel()].into_iter().flatten() {
        let image = env.busybox();
        let layered = env.image("overlay-linked", &|| {
            let link = Layer::default().symlink("data/out", "/../../etc/hostname");
            layered().layer(link)
        });
        let of =
            |place: &str| format!("--mount=type=image,source={layered},dst=/i,subpath={place}");
        for userns in ["host", "keep-id", "nomap"] {
            for (place, script, said) in [
                ("data", "ls /i", "low\nout\ntop\n"),
                ("/data/top", "cat /i", "top\n"),
                ("../../data/../data", "cat /i/low", "low\n"),
            ] {
                let flags = ["-u0", "--userns", userns, &of(place)];
                assert_eq!(env.shell(&flags, script), said, "{place} {userns}");
            }
        }
        // The image has no such file, whatever the host has.
        for place in ["none", "data/out"] {
            let words = ["run", "--rm", &of(place), &image, "cat", "/i"];
            assert_eq!(
                env.kelp(&words).fails(125),
                format!("Error: find {place} in the overlay: no such file or directory")
            );
        }
        let mount = of("data") + ",rw";
        env.kelp(&["create", "--name=one", &mount, &image])
            .succeeds();
        let format = "{{range .Mounts}}{{.Type}} {{.Source}} {{.RW}} {{.SubPath}}{{end}}";
        assert_eq!(
            env.kelp(&["inspect", "--format", format, "one"]).succeeds(),
            format!("image {layered} true data\n")
        );
        env.kelp(&["rm", "one"]).succeeds();
    }
}

#[test]
fn what_is_overlaid_can_be_given_to_the_containers_user() {
    let Some(env) = Env::new() else { return };
    let [source, inner] = ["h/source", "h/inner"].map(|name| env.path(name));
    fs::create_dir_all(source.join("below")).unwrap();
    fs::create_dir(&inner).unwrap();
    fs::write(source.join("file"), "of the host\n").unwrap();
    let mount = format!("{}:/x:O,U", source.display());
    let inner = format!("{}:/x/below", inner.display());
    let script = "stat -c %u:%g /x /x/file /x/below; echo new >/x/file";
    let flags = ["-u", "1000:1001", "-v", &mount, "-v", &inner];
    let said = env.shell(&flags, script);
    assert_eq!(said, "1000:1001\n1000:1001\n0:0\n");
    let own = rustix::process::getuid().as_raw();
    assert_eq!(source.join("file").metadata().unwrap().uid(), own);
    let flags = ["-u", "1000:1001", "--mount", "type=tmpfs,dst=/t,U"];
    let script = "stat -c %u:%g /t; touch /t/x";
    assert_eq!(env.shell(&flags, script), "1000:1001\n");
}

#[test]
fn a_new_volume_that_is_overlaid_shows_the_image_and_stays_empty() {
    let Some(env) = Env::new() else { return };
    let script = "ls /bin/busybox; touch /bin/new";
    assert_eq!(env.shell(&["-v", "data:/bin:O"], script), "/bin/busybox\n");
    assert_eq!(env.shell(&["-v", "data:/d"], "ls /d"), "");
}

#[test]
fn a_stopped_container_shows_what_it_will_start_with() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let layered = env.image("overlay-layered", &layered);
    let source = env.path("h/source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "of the host\n").unwrap();
    let volume = format!("--volume={}:/x:O", source.display());
    let mount = format!("--mount=type=image,source={layered},dst=/i,rw");
    let script = "echo new >/x/file; rm /i/data/top";
    let create = ["create", "--name=one", &volume, &mount, &image];
    env.kelp(&[&create[..], &["sh", "-c", script]].concat())
        .succeeds();
    env.kelp(&["start", "-a", "one"]).succeeds();
    let target = env.path("h/out");
    let target = target.to_str().unwrap();
    for (path, content) in [("/x/file", "of the host\n"), ("/i/data/top", "top\n")] {
        let from = format!("one:{path}");
        env.kelp(&["cp", &from, target]).succeeds();
        assert_eq!(fs::read_to_string(target).unwrap(), content);
    }
    // It would be lost at the next start.
    for path in ["/x/new", "/i/new"] {
        let said = env.kelp(&["cp", target, &format!("one:{path}")]).fails(125);
        assert!(said.ends_with("read-only file system"), "{said}");
    }
    env.kelp(&["rm", "one"]).succeeds();
}
