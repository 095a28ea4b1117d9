//! The same cases for `kelp-runtime`: bundles whose root, configuration or caller is hostile.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::races::swapping;
use super::{HANGS_INSIDE, KEEPS_THE_FILE};
use crate::env::{Env, copy_kelp};
use crate::kelp::{Kelp, beside, wait_until};
use crate::oci::{Bundle, fifo};
use crate::terminal::Terminal;

/// A bundle that runs a script, with a writable root.
fn bundle<'a>(env: &'a Env, script: &str) -> Bundle<'a> {
    let bundle = Bundle::new(env, &["sh", "-c", script]);
    bundle.change(|spec| spec["root"]["readonly"] = false.into());
    bundle
}

/// Runs it; the exit code and what it prints.
fn run(bundle: &Bundle<'_>) -> (i32, String) {
    let done = bundle.runtime(&["run", "one"]).done();
    (done.code, done.stdout)
}

/// The names in a directory of the host.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Leaves out the mounts at this place and below it.
fn without(spec: &mut Value, place: &str) {
    let below = |target: &str| Path::new(target).starts_with(place);
    let mounts = spec["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !below(mount["destination"].as_str().unwrap()));
}

/// A runtime of the user's own, and what calls it.
fn own_runtime<'a>(bundle: &'a Bundle<'_>) -> (PathBuf, impl Fn(&[&str]) -> Command + 'a) {
    let directory = bundle.directory.parent().unwrap().join("own");
    fs::create_dir(&directory).unwrap();
    let own = directory.join("kelp-runtime");
    copy_kelp(&own);
    let program = own.clone();
    let runtime = move |words: &[&str]| {
        let inner = bundle.command(words);
        let mut command = beside(&inner, &program);
        command.args(inner.get_args());
        command
    };
    (own, runtime)
}

#[test]
fn cve_2019_5736_a_runtime_of_the_users_own_is_not_written() {
    let Some(env) = Env::new() else { return };
    let script = "while :; do for process in /proc/[0-9]*; do
                      test $process = /proc/$$ && continue
                      (: >>$process/exe) 2>/dev/null && cp /bin/busybox $process/exe
                  done 2>/dev/null; done";
    let bundle = bundle(&env, script);
    let root = bundle.directory.join("rootfs");
    symlink("/proc/self/exe", root.join("bin/itself")).unwrap();
    fs::write(root.join("bin/script"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(root.join("bin/script"), fs::Permissions::from_mode(0o755)).unwrap();
    let (own, runtime) = own_runtime(&bundle);
    let before = Sha256::digest(fs::read(&own).unwrap());
    // As the first program, whose output is looked at elsewhere.
    let trap = fs::read(bundle.directory.join("config.json")).unwrap();
    for program in ["/proc/self/exe", "/bin/itself", "/bin/script"] {
        bundle.change(|spec| spec["process"]["args"] = json!([program, "--version"]));
        Kelp::new(runtime(&["run", "one"])).done();
    }
    // As one that is added, with a trap inside that opens whoever comes in.
    fs::write(bundle.directory.join("config.json"), trap).unwrap();
    let mut start = runtime(&["run", "-d", "trap"]);
    let status = start
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    for program in ["/proc/self/exe", "/bin/script", "/bin/true"] {
        for _ in 0..10 {
            Kelp::new(runtime(&["exec", "trap", program])).done();
        }
    }
    let fine = Kelp::new(runtime(&["exec", "trap", "echo", "fine"])).done();
    assert_eq!(fine.stdout, "fine\n", "{fine:#?}");
    bundle.runtime(&["delete", "-f", "trap"]).succeeds();
    assert!(before == Sha256::digest(fs::read(&own).unwrap()));
}

/// The same by one who keeps the file open until nobody executes it any more.
#[test]
fn cve_2019_5736_a_runtime_that_was_executed_inside_is_not_written_later() {
    let Some(env) = Env::new() else { return };
    let bundle = bundle(&env, KEEPS_THE_FILE);
    let root = bundle.directory.join("rootfs");
    symlink("/proc/self/exe", root.join("bin/kelp-runtime")).unwrap();
    let (own, runtime) = own_runtime(&bundle);
    let before = Sha256::digest(fs::read(&own).unwrap());
    let mut start = runtime(&["run", "-d", "trap"]);
    start.stdout(Stdio::null()).stderr(Stdio::null());
    assert!(start.status().unwrap().success());
    wait_until("the trap is set", || root.join("fifo").exists());
    Kelp::new(runtime(&[&["exec", "trap"][..], HANGS_INSIDE].concat())).done();
    fs::write(root.join("go"), "").unwrap();
    wait_until("it was tried", || root.join("result").exists());
    assert_eq!(
        fs::read_to_string(root.join("result")).unwrap(),
        "refused\n"
    );
    bundle.runtime(&["delete", "-f", "trap"]).succeeds();
    assert!(before == Sha256::digest(fs::read(&own).unwrap()));
}

/// A caller that has left a directory of the host open, and a configuration that goes there.
#[test]
fn cve_2024_21626_a_descriptor_of_the_callers_leads_nowhere() {
    let Some(env) = Env::new() else { return };
    let bundle = bundle(&env, "cd ../../../../..; ls; pwd");
    let outside = env.path("h/outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("of-the-host"), "").unwrap();
    // The command with a descriptor 7 that leads out.
    let leaking = |words: &[&str]| {
        let inner = bundle.command(words);
        let mut command = beside(&inner, "sh");
        command
            .args(["-c", "exec 7<\"$0\"; exec \"$@\""])
            .arg(&outside)
            .arg(inner.get_program())
            .args(inner.get_args());
        Kelp::new(command)
    };
    let contained = |done: crate::kelp::Done, what: &str| {
        assert!(!done.stdout.contains("of-the-host"), "{what}: {done:#?}");
        let inside = done.stdout.ends_with("bin\ndev\netc\nproc\nsys\ntmp\n/\n");
        assert!(done.code != 0 || inside, "{what}: {done:#?}");
    };
    for number in 3..10 {
        for place in [
            "/proc/self/fd",
            "/proc/1/fd",
            "/proc/thread-self/fd",
            "/dev/fd",
        ] {
            let directory = format!("{place}/{number}");
            bundle.change(|spec| spec["process"]["cwd"] = directory.as_str().into());
            contained(leaking(&["run", "one"]).done(), &directory);
        }
    }
    bundle.change(|spec| {
        spec["process"]["cwd"] = "/".into();
        spec["process"]["args"] = json!(["sleep", "1000"]);
    });
    bundle.leaves(&["run", "-d", "one"]).unwrap();
    let process = |cwd: &str, args: &[&str]| {
        let process = json!({
            "user": {"uid": 0, "gid": 0}, "args": args, "env": ["PATH=/bin"], "cwd": cwd,
        });
        fs::write(bundle.directory.join("process.json"), process.to_string()).unwrap();
        leaking(&["exec", "-p", "process.json", "one"])
    };
    let script = ["sh", "-c", "cd ../../../../..; ls; pwd"];
    for number in 3..10 {
        let directory = format!("/proc/self/fd/{number}");
        contained(process(&directory, &script).done(), &directory);
        let words = [&["exec", "--cwd", &directory, "one"], &script[..]].concat();
        contained(leaking(&words).done(), &directory);
    }
    // The directory that ls reads is its own.
    let list = "for fd in /proc/self/fd/*; do echo ${fd##*/}; done";
    let open = process("/", &["sh", "-c", list]).succeeds();
    assert_eq!(open, "0\n1\n2\n3\n");
    // What was asked for is had, and a directory of the container's is entered.
    let words = [
        "exec",
        "--preserve-fds",
        "5",
        "one",
        "ls",
        "/proc/self/fd/7/",
    ];
    // Not what happens to be there: this runtime's own would be.
    let said = leaking(&words).done();
    let expected = "descriptor 3 is not open: --preserve-fds and LISTEN_FDS count from 3 on";
    assert!(said.stderr.contains(expected), "{said:#?}");
    let inner = leaking(&words).into_command();
    let mut command = beside(&inner, "sh");
    command
        .args(["-c", "exec 3</dev/null 4<&3 5<&3 6<&3; exec \"$@\"", "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    assert_eq!(Kelp::new(command).succeeds(), "of-the-host\n");
    assert_eq!(process("/etc", &["pwd"]).succeeds(), "/etc\n");
    bundle.runtime(&["delete", "-f", "one"]).succeeds();
}

#[test]
fn cve_2021_30465_a_mount_stays_in_a_root_that_is_swapped() {
    let Some(env) = Env::new() else { return };
    let script = "ls /shared/dir/in/mine /shared/link/in/mine 2>/dev/null | head -n 1";
    let bundle = bundle(&env, script);
    let outside = env.path("h/outside");
    let source = env.path("h/source");
    let shared = bundle.directory.join("rootfs/shared");
    for directory in [&outside, &source, &shared.join("dir"), &shared.join("real")] {
        fs::create_dir_all(directory).unwrap();
    }
    fs::write(source.join("mine"), "").unwrap();
    // By either name it is a directory on the host; inside, the root ends the way up.
    symlink("../../../outside", shared.join("link")).unwrap();
    let mount = |target: &str| {
        let mount = json!({
            "destination": target, "type": "bind", "source": source, "options": ["bind", "ro"],
        });
        bundle.change(|spec| {
            without(spec, "/shared");
            spec["mounts"].as_array_mut().unwrap().push(mount);
        });
    };
    mount("/shared/dir/in");
    swapping(&shared.join("dir"), &shared.join("link"), || {
        for _ in 0..40 {
            let (code, text) = run(&bundle);
            let fine = text.ends_with("mine\n") || text.is_empty();
            assert!(fine, "{code} {text}");
            assert!(
                names(&outside).is_empty(),
                "a mount point was made on the host"
            );
        }
    });
    mount("/shared/real/in");
    bundle.change(|spec| spec["process"]["args"] = json!(["ls", "/shared/real/in"]));
    assert_eq!(run(&bundle), (0, "mine\n".to_owned()));
}

/// The root's own /dev/null is a file, a link, or both in turn, and masks what must not be seen.
#[test]
fn cve_2025_31133_a_null_device_of_the_roots_masks_nothing() {
    let Some(env) = Env::new() else { return };
    let script = "cat /proc/keys /proc/timer_list /proc/kcore /proc/sched_debug 2>/dev/null | \
                  head -c 100; (echo written >/proc/keys) 2>/dev/null; echo done";
    let bundle = bundle(&env, script);
    let root = bundle.directory.join("rootfs");
    let victim = env.path("h/victim");
    fs::write(&victim, "untouched").unwrap();
    bundle.change(|spec| without(spec, "/dev"));
    let null = root.join("dev/null");
    let seen = |what: &str| {
        let (code, text) = run(&bundle);
        assert!(
            text == "done\n" || (code != 0 && text.is_empty()),
            "{what}: {code} {text}"
        );
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched", "{what}");
    };
    fs::write(&null, "not masked").unwrap();
    seen("a file");
    fs::remove_file(&null).unwrap();
    for target in [
        "/proc/self/environ",
        "/etc/passwd",
        victim.to_str().unwrap(),
    ] {
        symlink(target, &null).unwrap();
        seen(target);
        let _ = fs::remove_file(&null);
    }
    symlink("../../../victim", &null).unwrap();
    let other = root.join("dev/other");
    fs::write(&other, "not masked").unwrap();
    swapping(&null, &other, || {
        for _ in 0..30 {
            seen("swapped");
        }
    });
    // With a /dev of its own it has the device, and the mask is empty.
    let fresh = json!({
        "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"],
    });
    bundle.change(|spec| {
        spec["mounts"].as_array_mut().unwrap().push(fresh);
        let script = "stat -c %F:%t:%T /dev/null; cat /proc/keys";
        spec["process"]["args"] = json!(["sh", "-c", script]);
    });
    assert_eq!(run(&bundle), (0, "character special file:1:3\n".to_owned()));
}

/// The place of the console is a link by the time the terminal is mounted there.
#[test]
fn cve_2025_52565_the_console_goes_to_its_place_alone() {
    let Some(env) = Env::new() else { return };
    let script = "grep -E ' (/etc/victim|/proc/sys/.*|/victim) ' /proc/self/mountinfo | \
                  grep -v ' /proc/sys ' && echo bad
                  test -c /etc/victim && echo bad; tty; echo done";
    let bundle = bundle(&env, script);
    let root = bundle.directory.join("rootfs");
    fs::write(root.join("etc/victim"), "untouched").unwrap();
    fs::write(env.path("h/victim"), "untouched").unwrap();
    bundle.change(|spec| {
        spec["process"]["terminal"] = true.into();
        // The root's own /dev, with terminals.
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/dev" && mount["destination"] != "/dev/shm");
    });
    for directory in ["dev/pts", "dev/mqueue", "dev/shm"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    let check = |what: &str| {
        let (code, text) = Terminal::start(bundle.runtime(&["run", "one"])).finish();
        assert!(!text.contains("bad"), "{what}: {code} {text}");
        assert!(code != 0 || text.contains("done"), "{what}: {code} {text}");
        for file in [root.join("etc/victim"), env.path("h/victim")] {
            assert_eq!(fs::read_to_string(file).unwrap(), "untouched", "{what}");
        }
        (code, text)
    };
    let console = root.join("dev/console");
    for target in [
        "/etc/victim",
        "/proc/sys/kernel/hostname",
        "../../../victim",
    ] {
        symlink(target, &console).unwrap();
        check(target);
        let _ = fs::remove_file(&console);
    }
    symlink("/etc/victim", &console).unwrap();
    let other = root.join("dev/other");
    fs::write(&other, "").unwrap();
    swapping(&console, &other, || {
        for _ in 0..25 {
            check("swapped");
        }
    });
    // It is there where nobody is in the way.
    let _ = fs::remove_file(&console);
    fs::write(&console, "").unwrap();
    bundle.change(|spec| {
        let script = "stat -c %F /dev/console; tty";
        spec["process"]["args"] = json!(["sh", "-c", script]);
    });
    let (code, text) = Terminal::start(bundle.runtime(&["run", "one"])).finish();
    let expected = "character special file\r\n/dev/pts/0\r\n";
    assert_eq!((code, text.as_str()), (0, expected));
}

/// A sysctl where something of the user's lies over /proc.
#[test]
fn cve_2025_52881_a_bundles_sysctl_goes_to_proc() {
    let Some(env) = Env::new() else { return };
    let bundle = bundle(&env, "cat /proc/sys/kernel/msgmax");
    bundle.change(|spec| spec["linux"]["sysctl"] = json!({"kernel.msgmax": "4096"}));
    assert_eq!(run(&bundle), (0, "4096\n".to_owned()));
    let fake = env.path("h/fake");
    for directory in ["sys/kernel", "kernel", "self/attr", "thread-self/attr"] {
        fs::create_dir_all(fake.join(directory)).unwrap();
    }
    let files = ["sys/kernel/msgmax", "kernel/msgmax", "msgmax"].map(|name| fake.join(name));
    let whole = fs::read(bundle.directory.join("config.json")).unwrap();
    for target in ["/proc", "/proc/sys", "/proc/sys/kernel"] {
        for replaces in [false, true] {
            for file in &files {
                fs::write(file, "untouched").unwrap();
            }
            fs::write(bundle.directory.join("config.json"), &whole).unwrap();
            bundle.change(|spec| {
                if replaces {
                    without(spec, "/proc");
                }
                spec["mounts"].as_array_mut().unwrap().push(json!({
                    "destination": target, "type": "bind", "source": fake, "options": ["bind"],
                }));
            });
            let (code, text) = run(&bundle);
            assert!(
                code != 0 && text.is_empty(),
                "{target} {replaces}: {code} {text}"
            );
            for file in &files {
                let text = fs::read_to_string(file).unwrap();
                assert_eq!(text, "untouched", "{target} {replaces}");
            }
        }
    }
}

/// The root ships /proc, /sys, /dev or /etc as a link (CVE-2023-27561, CVE-2023-28642, runc
/// 2026-41579, crun 2026-88264), or makes it one meanwhile.
#[test]
fn mount_points_of_a_root_that_are_links_lead_nowhere() {
    let Some(env) = Env::new() else { return };
    let script = "for name in proc real; do
                      test -e /$name/sysrq-trigger || continue
                      (echo 1 >/$name/sysrq-trigger) 2>/dev/null && echo bad
                      test -n \"$(head -c 1 /$name/kcore 2>/dev/null)\" && echo bad
                      (echo x >/$name/sys/kernel/domainname) 2>/dev/null && echo bad
                  done; ls -d /bin";
    let bundle = bundle(&env, script);
    let root = bundle.directory.join("rootfs");
    let outside = env.path("h/outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(root.join("real")).unwrap();
    let check = |what: &str| {
        let (code, text) = run(&bundle);
        assert!(
            text == "/bin\n" || (code != 0 && text.is_empty()),
            "{what}: {code} {text}"
        );
        assert!(names(&outside).is_empty(), "{what}: {:?}", names(&outside));
    };
    for name in ["proc", "sys", "dev", "etc"] {
        let place = root.join(name);
        let away = root.join(format!("{name}.real"));
        fs::rename(&place, &away).unwrap();
        for target in ["/real", "../../outside", outside.to_str().unwrap()] {
            symlink(target, &place).unwrap();
            check(&format!("{name} -> {target}"));
            fs::remove_file(&place).unwrap();
        }
        fs::rename(&away, &place).unwrap();
    }
    for (name, target) in [("proc", "/real"), ("dev", "../../outside")] {
        let link = root.join("link");
        symlink(target, &link).unwrap();
        swapping(&root.join(name), &link, || {
            for _ in 0..20 {
                check(&format!("{name} swapped"));
            }
        });
        if root.join(name).is_symlink() {
            fs::rename(&link, root.join("back")).unwrap();
            fs::remove_file(root.join(name)).unwrap();
            fs::rename(root.join("back"), root.join(name)).unwrap();
        } else {
            fs::remove_file(&link).unwrap();
        }
    }
    assert_eq!(run(&bundle), (0, "/bin\n".to_owned()));
}

/// Ids that mean "leave it", or that wrap.
#[test]
fn cve_2024_40635_a_bundles_user_out_of_range_is_an_error() {
    let Some(env) = Env::new() else { return };
    let bundle = bundle(&env, "id -u; id -g");
    let whole = fs::read(bundle.directory.join("config.json")).unwrap();
    for user in [
        json!({"uid": 4_294_967_295_u32, "gid": 0}),
        json!({"uid": 0, "gid": 4_294_967_295_u32}),
        json!({"uid": 0, "gid": 0, "additionalGids": [4_294_967_295_u32]}),
        json!({"uid": 4_294_967_296_u64, "gid": 0}),
        json!({"uid": -1, "gid": 0}),
        // Ids that are not mapped.
        json!({"uid": 1, "gid": 0}),
        json!({"uid": 0, "gid": 65536}),
    ] {
        fs::write(bundle.directory.join("config.json"), &whole).unwrap();
        bundle.change(|spec| spec["process"]["user"] = user.clone());
        let done = bundle.runtime(&["run", "one"]).done();
        assert_eq!(
            (done.code, done.stdout.as_str()),
            (1, ""),
            "{user}: {done:#?}"
        );
        assert_eq!(done.stderr.lines().count(), 1, "{user}: {done:#?}");
    }
    fs::write(bundle.directory.join("config.json"), &whole).unwrap();
    bundle.change(|spec| spec["process"]["args"] = json!(["sleep", "1000"]));
    bundle.leaves(&["run", "-d", "one"]).unwrap();
    for user in ["4294967295", "4294967296", "0:4294967295", "-1", "1"] {
        let done = bundle
            .runtime(&["exec", "--user", user, "one", "id", "-u"])
            .done();
        assert!(
            done.code != 0 && done.stdout.is_empty(),
            "{user}: {done:#?}"
        );
    }
    let exec = ["exec", "--user", "0:0", "one", "id", "-u"];
    assert_eq!(bundle.runtime(&exec).succeeds(), "0\n");
    bundle.runtime(&["delete", "-f", "one"]).succeeds();
}

/// The home directory is looked up in a passwd that never ends, or that nobody writes to.
#[test]
fn cve_2024_9676_a_roots_passwd_holds_nothing_up() {
    let Some(env) = Env::new() else { return };
    let bundle = bundle(&env, "echo $HOME");
    let passwd = bundle.directory.join("rootfs/etc/passwd");
    let secret = env.path("h/secret");
    fs::write(&secret, "root:x:0:0:root:/of-the-host:/bin/sh\n").unwrap();
    fs::remove_file(&passwd).unwrap();
    fifo(&passwd);
    assert_eq!(run(&bundle), (0, "/\n".to_owned()));
    fs::remove_file(&passwd).unwrap();
    for target in [
        "/dev/zero",
        "/proc/self/environ",
        "../../../secret",
        secret.to_str().unwrap(),
    ] {
        symlink(target, &passwd).unwrap();
        assert_eq!(run(&bundle), (0, "/\n".to_owned()), "{target}");
        fs::remove_file(&passwd).unwrap();
    }
    fs::write(&passwd, "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    assert_eq!(run(&bundle), (0, "/root\n".to_owned()));
}

/// With the host's view of cgroups they can't be changed, whatever the bundle asks for.
#[test]
fn cve_2023_25809_a_bundle_without_a_cgroup_namespace_changes_no_cgroup() {
    let Some(env) = Env::new() else { return };
    let mark = format!("mine-{}", std::process::id());
    let script = format!(
        "cd /sys/fs/cgroup; for dir in $(find . -type d 2>/dev/null); do
             mkdir $dir/{mark} 2>/dev/null
             test -e $dir/cgroup.procs && (echo 0 >$dir/cgroup.procs) 2>/dev/null && echo moved
         done; echo done"
    );
    let bundle = bundle(&env, &script);
    bundle.change(|spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "cgroup");
        let mounts = spec["mounts"].as_array_mut().unwrap();
        for mount in mounts.iter_mut().filter(|mount| mount["type"] == "cgroup") {
            mount["options"] = json!(["nosuid", "noexec", "nodev"]);
        }
    });
    assert_eq!(run(&bundle), (0, "done\n".to_owned()));
    let find = ["/sys/fs/cgroup", "-name", &mark, "-print", "-quit"];
    let found = Command::new("find").args(find).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    // With a namespace of its own it sees itself as the root.
    bundle.change(|spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "cgroup"}));
        spec["process"]["args"] = json!(["grep", "^0:", "/proc/self/cgroup"]);
    });
    assert_eq!(run(&bundle), (0, "0::/\n".to_owned()));
}

/// A state root that others may write to (CVE-2024-25621); what is made is closed to them.
#[test]
fn cve_2024_25621_the_state_root_is_closed_to_others() {
    let Some(env) = Env::new() else { return };
    let bundle = bundle(&env, "echo ran");
    bundle.change(|spec| {
        spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        spec["process"]["args"] = json!(["sleep", "1000"]);
    });
    bundle.leaves(&["run", "-d", "one"]).unwrap();
    let root = env.runtime().join("kelp-runtime");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&root), 0o700);
    for entry in fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o700, "{}", path.display());
        for file in fs::read_dir(&path).unwrap() {
            let path = file.unwrap().path();
            let private = path.is_dir() || mode(&path) & 0o022 == 0;
            assert!(private, "{} {:o}", path.display(), mode(&path));
        }
    }
    // The filters that are kept there are no container.
    let list = bundle.runtime(&["list", "-q"]).succeeds();
    assert_eq!(list, "one\n");
    assert!(
        bundle
            .fails(&["state", ":seccomp"])
            .contains("invalid container id")
    );
    bundle.runtime(&["delete", "-f", "one"]).succeeds();
    for bits in [0o777, 0o770, 0o702] {
        fs::set_permissions(&root, fs::Permissions::from_mode(bits)).unwrap();
        let said = bundle.fails(&["list"]);
        assert!(
            said.contains(&format!("chmod 700 {}", root.display())),
            "{bits:o}: {said}"
        );
    }
    fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(bundle.runtime(&["list", "-q"]).succeeds(), "");
}
