//! Files of images and containers that a start or an exec meets on its way.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{make_fifo, traced};
use crate::archive::Layer;
use crate::env::Env;
use crate::image::Image;
use crate::kill::Scene;

/// Something of the user's lies over the container's /proc (CVE-2025-52881).
#[test]
fn the_score_of_the_oom_killer_is_not_written_by_a_path_of_the_container() {
    let Some(env) = Env::new() else { return };
    let image = env.image("data-is-proc", &|| {
        Image::busybox().layer(Layer::default().symlink("data", "/proc"))
    });
    let fake = env.path("h/fake");
    fs::create_dir_all(fake.join("self")).unwrap();
    make_fifo(&fake.join("self/oom_score_adj"));
    let volume = format!("{}:/data", fake.display());
    let flags = ["--network", "host", "--oom-score-adj", "500"];
    let run = |volume: &[&str]| {
        let run = [&["run", "-d", "--name", "box"], volume, &flags].concat();
        env.kelp(&[&run[..], &[&image, "sleep", "100000"]].concat())
    };
    let refused = run(&["-v", &volume]).fails(125);
    assert!(refused.contains("leads into /proc"), "{refused}");
    env.kelp(&["rm", "-f", "-t", "0", "-i", "box"]).succeeds();
    run(&[]).succeeds();
    let pid = env.kelp(&["inspect", "-f", "{{.State.Pid}}", "box"]);
    let score = format!("/proc/{}/oom_score_adj", pid.succeeds().trim());
    assert_eq!(fs::read_to_string(score).unwrap(), "500\n");
    env.kelp(&["exec", "-u", "1000", "box", "true"]).succeeds();
    let exec = ["exec", "box", "cat", "/proc/self/oom_score_adj"];
    assert_eq!(env.kelp(&exec).succeeds(), "500\n");
    env.kelp(&["rm", "-f", "-t", "0", "box"]).succeeds();
}

/// What apt is told where only one id is mapped goes to a file of the image's, or nowhere.
#[test]
fn the_settings_of_apt_are_written_to_the_root_alone() {
    let Some(env) = Env::new() else { return };
    let single = ["--uidmap", "0:0:1", "--gidmap", "0:0:1"];
    let run = |name: &str, layer: Layer, flags: &[&str], script: &str| {
        let image = env.image(name, &|| Image::busybox().layer(layer.clone()));
        let flags = [&["run", "--rm", "--network", "none"], &single[..], flags].concat();
        let command = [&flags[..], &[&image, "sh", "-c", script]].concat();
        env.kelp(&command).succeeds()
    };
    let directory = "etc/apt/apt.conf.d";
    let file = "etc/apt/apt.conf.d/99single-id";
    let show = "cat /etc/apt/apt.conf.d/99single-id";
    let fifo = Layer::default().fifo(file);
    assert_eq!(run("apt-fifo", fifo, &[], "echo fine"), "fine\n");
    let nothing = Layer::default().directory(directory, 0o755);
    let expected = "APT::Sandbox::User \"root\";\n";
    assert_eq!(run("apt", nothing.clone(), &[], show), expected);
    let longer = Layer::default().file(file, 0o644, "of the image\n".repeat(9).as_bytes());
    assert_eq!(run("apt-file", longer, &[], show), expected);

    let own = env.path("h/own");
    fs::create_dir(&own).unwrap();
    let volume = format!("{}:/data", own.display());
    let over = format!("{}:/{directory}", own.display());
    let way = Layer::default().symlink(directory, "/data");
    let link = Layer::default().symlink(file, "/data/99single-id");
    for content in [None, Some("of the user\n")] {
        if let Some(content) = content {
            fs::write(own.join("99single-id"), content).unwrap();
        }
        for (name, layer, volume) in [
            ("apt-way", &way, &volume),
            ("apt-link", &link, &volume),
            ("apt", &nothing, &over),
        ] {
            run(name, layer.clone(), &["-v", volume], "true");
            let found = fs::read_to_string(own.join("99single-id")).ok();
            assert_eq!(found.as_deref(), content, "{name}");
        }
    }
    let over = format!("{}:/{file}", own.join("99single-id").display());
    let text = run("apt", nothing, &["-v", &over], show);
    assert_eq!(text, "of the user\n");
}

/// The working directory that is made is a link by the time it is given to its user.
#[test]
fn no_file_is_given_away_for_a_working_directory() {
    let Some(scene) = Scene::new() else { return };
    let env = &scene.env;
    let image = env.busybox();
    let shared = env.path("h/shared");
    fs::create_dir(&shared).unwrap();
    let (link, work) = (shared.join("link"), shared.join("work"));
    symlink("/etc/passwd", &link).unwrap();
    let volume = format!("{}:/shared", shared.display());
    let stop = AtomicBool::new(false);
    let mut made = 0;
    thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let mut made = 0;
            while !stop.load(Ordering::Relaxed) {
                if fs::rename(&work, shared.join(format!("made-{made}"))).is_ok() {
                    fs::rename(&link, &work).unwrap();
                    made += 1;
                    // Whoever has made the directory goes on meanwhile.
                    thread::sleep(Duration::from_millis(200));
                    fs::rename(&work, &link).unwrap();
                }
            }
            made
        });
        let calls = "mkdir,mkdirat";
        let inject = format!("--inject={calls}:delay_exit=50000");
        let flags = [&format!("--trace={calls}"), inject.as_str()];
        let run = ["run", "--rm", "--network=none", "-v", &volume, "-u", "1000"];
        let program = [
            "-w",
            "/shared/work",
            &image,
            "stat",
            "-c",
            "%u:%g %a",
            "/etc/passwd",
        ];
        for _ in 0..5 {
            let output = traced(env, &flags, &[&run[..], &program].concat())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(["", "0:0 644\n"].contains(&said.as_ref()), "{said}");
        }
        stop.store(true, Ordering::Relaxed);
        made = swapper.join().unwrap();
    });
    assert!(made > 0);
    // What is missing is made, and the last one is the user's.
    let run = [
        "run",
        "--rm",
        "--network=none",
        "-u",
        "1000:2000",
        "-w",
        "/opt/one/two",
    ];
    let script = "pwd; touch file; stat -c '%u:%g %a' /opt/one /opt/one/two";
    let said = env.kelp(&[&run[..], &[&image, "sh", "-c", script]].concat());
    assert_eq!(said.succeeds(), "/opt/one/two\n0:0 755\n1000:2000 755\n");
    // What is there stays whose it is.
    let run = ["run", "--rm", "--network=none", "-u", "1000", "-w", "/etc"];
    let said = env.kelp(&[&run[..], &[&image, "stat", "-c", "%u:%g", "."]].concat());
    assert_eq!(said.succeeds(), "0:0\n");
    let flags = ["run", "--rm", "--user", "user", "-w", "/opt/new"];
    let program = [image.as_str(), "stat", "-c", "%u:%g %a", "."];
    let said = env.kelp(&[&flags[..], &program].concat()).succeeds();
    assert_eq!(said, "1000:1000 755\n");
    scene.end();
}
