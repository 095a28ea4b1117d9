//! config.md, "POSIX-platform Hooks": the six, in order, each where it belongs.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::case::{Case, Needs};
use crate::outcome::{Outcome, holds, not_applicable, same};
use crate::spec::Spec;
use crate::stage::Stage;

const SECTION: &str = "config.md: POSIX-platform Hooks";

pub(crate) const CASES: &[Case] = &[
    Case::new("all_in_order", SECTION, order),
    Case::new("several_of_a_kind_in_order", SECTION, several),
    Case::new("run_calls_all", SECTION, by_run),
    Case::new("args_and_env_are_exact", SECTION, args_and_env),
    Case::new("env_is_empty_where_none_is_given", SECTION, no_env),
    Case::new("state_of_prestart", SECTION, |stage| {
        state(stage, "prestart")
    }),
    Case::new("state_of_create_runtime", SECTION, |stage| {
        state(stage, "createRuntime")
    }),
    Case::new("state_of_create_container", SECTION, |stage| {
        state(stage, "createContainer")
    }),
    Case::new("state_of_start_container", SECTION, |stage| {
        state(stage, "startContainer")
    }),
    Case::new("state_of_poststart", SECTION, |stage| {
        state(stage, "poststart")
    }),
    Case::new("state_of_poststop", SECTION, |stage| {
        state(stage, "poststop")
    }),
    Case::new("in_the_runtimes_namespaces", SECTION, outside),
    Case::new(
        "create_container_in_the_containers",
        "config.md: CreateContainer Hooks",
        |stage| inside(stage, "createContainer"),
    ),
    Case::new(
        "start_container_in_the_containers",
        "config.md: StartContainer Hooks",
        |stage| inside(stage, "startContainer"),
    ),
    Case::new(
        "create_container_before_the_pivot",
        "config.md: CreateContainer Hooks",
        before_pivot,
    ),
    Case::new(
        "start_container_in_the_root",
        "config.md: StartContainer Hooks",
        in_root,
    ),
    Case::new(
        "create_runtime_finds_the_namespaces",
        "config.md: CreateRuntime Hooks",
        finds,
    )
    .needs(Needs::Root),
    Case::new(
        "before_start_they_have_the_runtimes_oom_score",
        "config.md: CreateContainer Hooks",
        oom_score,
    ),
    Case::new(
        "create_container_hooks_have_no_apparmor_profile",
        "config.md: CreateContainer Hooks",
        apparmor,
    )
    .needs(Needs::Root),
    Case::new(
        "poststart_after_the_program",
        "config.md: Poststart",
        after_program,
    ),
    Case::new("failing_prestart", "runtime.md: Lifecycle", |stage| {
        fails_create(stage, "prestart")
    }),
    Case::new("failing_create_runtime", "runtime.md: Lifecycle", |stage| {
        fails_create(stage, "createRuntime")
    }),
    Case::new(
        "failing_create_container",
        "runtime.md: Lifecycle",
        |stage| fails_create(stage, "createContainer"),
    ),
    Case::new(
        "failing_start_container",
        "runtime.md: Lifecycle",
        fails_start,
    ),
    Case::new(
        "failing_poststart",
        "runtime.md: Lifecycle",
        fails_poststart,
    ),
    Case::new(
        "failing_poststop_is_a_warning",
        "runtime.md: Lifecycle",
        fails_poststop,
    ),
    Case::new("timeout", SECTION, timeout),
    Case::new("timeout_has_to_be_positive", SECTION, no_timeout),
    Case::new("path_has_to_be_absolute", SECTION, relative),
    Case::new("path_that_is_missing", SECTION, missing),
    Case::new("that_does_not_read_its_input", SECTION, unread),
];

/// Every kind, in the order of a container's life.
const ALL: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// A file that hooks and the program write to: its place inside, and outside.
fn told(stage: &Stage<'_>) -> PathBuf {
    stage.rootfs("tmp/told")
}

fn place(stage: &Stage<'_>, hook: &str) -> String {
    if hook == "startContainer" {
        return "/tmp/told".to_owned();
    }
    told(stage).display().to_string()
}

fn read(stage: &Stage<'_>) -> String {
    fs::read_to_string(told(stage)).unwrap_or_default()
}

/// Every hook writes its name.
fn telling(stage: &Stage<'_>, suffix: &str) -> Spec {
    let mut spec = stage.spec();
    tell(stage, &mut spec, suffix);
    spec
}

fn tell(stage: &Stage<'_>, spec: &mut Spec, suffix: &str) {
    for hook in ALL {
        let script = format!("echo {hook}{suffix} >>{}", place(stage, hook));
        spec.hook(hook, "/bin/sh", &script);
    }
}

fn order(stage: &Stage<'_>) -> Outcome {
    let container = stage.create(&telling(stage, ""))?;
    same(
        "at create",
        read(stage).as_str(),
        "prestart\ncreateRuntime\ncreateContainer\n",
    )?;
    fs::remove_file(told(stage))?;
    container.start()?;
    same(
        "at start",
        read(stage).as_str(),
        "startContainer\npoststart\n",
    )?;
    container.wait()?;
    fs::remove_file(told(stage))?;
    container.delete()?;
    same("at delete", read(stage).as_str(), "poststop\n")
}

fn several(stage: &Stage<'_>) -> Outcome {
    let mut spec = telling(stage, "1");
    tell(stage, &mut spec, "2");
    let container = stage.create(&spec)?;
    container.start()?;
    container.wait()?;
    container.delete()?;
    let expected: Vec<String> = ALL
        .iter()
        .flat_map(|hook| [format!("{hook}1"), format!("{hook}2")])
        .collect();
    same("hooks", read(stage).lines().collect::<Vec<_>>(), expected)
}

fn by_run(stage: &Stage<'_>) -> Outcome {
    let spec = telling(stage, "");
    stage.run(&spec)?.succeeds()?;
    same("hooks", read(stage).lines().collect::<Vec<_>>(), ALL)
}

/// What a hook's shell was given for an environment: the first process's, before the shell adds to it.
const ENVIRON: &str = "tr '\\0' '\\n' </proc/self/environ";

fn args_and_env(stage: &Stage<'_>) -> Outcome {
    for name in ALL {
        let _ = fs::remove_file(told(stage));
        let mut spec = stage.spec();
        let script = format!(
            "{{ printf '<%s>' \"$0\" \"$@\"; echo; {ENVIRON}; }} >{}",
            place(stage, name)
        );
        spec["hooks"] = json!({name: [{
            "path": "/bin/sh", "args": ["sh", "-c", script, "zero", "a b", ""],
            "env": ["PATH=/usr/bin:/bin", "A=b c"],
        }]});
        stage.run(&spec)?.succeeds()?;
        let found = read(stage);
        let mut lines: Vec<&str> = found.lines().collect();
        lines.sort_unstable();
        same(
            name,
            lines,
            ["<zero><a b><>", "A=b c", "PATH=/usr/bin:/bin"],
        )?;
    }
    Ok(())
}

fn no_env(stage: &Stage<'_>) -> Outcome {
    for name in ["createRuntime", "startContainer"] {
        let _ = fs::remove_file(told(stage));
        let mut spec = stage.spec();
        let script = format!(
            "export PATH=/usr/bin:/bin; {ENVIRON} >{}",
            place(stage, name)
        );
        spec["hooks"] = json!({name: [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
        stage.run(&spec)?.succeeds()?;
        same(name, read(stage).as_str(), "")?;
    }
    Ok(())
}

fn state(stage: &Stage<'_>, name: &str) -> Outcome {
    let mut spec = stage.spec();
    spec["annotations"] = json!({"org.example.key": "value"});
    spec.script("exit 0");
    spec.hook(name, "/bin/sh", &format!("cat >{}", place(stage, name)));
    let container = stage.create(&spec)?;
    let (id, pid) = (container.id().to_owned(), container.pid());
    container.start()?;
    container.wait()?;
    container.delete()?;
    let text = read(stage);
    let state: Value = serde_json::from_str(&text)?;
    same("id", state["id"].as_str(), Some(id.as_str()))?;
    same("bundle", state["bundle"].as_str(), stage.bundle().to_str())?;
    same(
        "annotations",
        state["annotations"]["org.example.key"].as_str(),
        Some("value"),
    )?;
    holds(
        state["ociVersion"].is_string(),
        format!("no ociVersion: {text}"),
    )?;
    let expected: &[&str] = match name {
        "poststop" => &["stopped"],
        "poststart" => &["running"],
        "startContainer" => &["created"],
        // Whether the environment is made already at that point is the runtime's to say.
        _ => &["creating", "created"],
    };
    let status = state["status"].as_str().unwrap_or_default();
    holds(
        expected.contains(&status),
        format!("status {status:?}, expected {expected:?}"),
    )?;
    match name {
        "poststop" => Ok(()),
        // As the container sees it.
        "createContainer" | "startContainer" => same("pid", state["pid"].as_i64(), Some(1)),
        _ => same("pid", state["pid"].as_i64(), Some(pid.into())),
    }
}

const LINKS: &str = "for n in user pid net ipc uts cgroup mnt; do readlink /proc/self/ns/$n; done";
const FILES: [&str; 7] = ["user", "pid", "net", "ipc", "uts", "cgroup", "mnt"];

fn links(of: &str) -> Outcome<Vec<String>> {
    let mut all = Vec::new();
    for file in FILES {
        all.push(
            fs::read_link(format!("/proc/{of}/ns/{file}"))?
                .display()
                .to_string(),
        );
    }
    Ok(all)
}

fn outside(stage: &Stage<'_>) -> Outcome {
    for name in ["prestart", "createRuntime", "poststart", "poststop"] {
        let mut spec = stage.spec();
        spec.hook(
            name,
            "/bin/sh",
            &format!("{{ {LINKS}; }} >{}", told(stage).display()),
        );
        stage.run(&spec)?.succeeds()?;
        let own = links("self")?;
        same(name, read(stage).lines().collect::<Vec<_>>(), own)?;
    }
    Ok(())
}

fn inside(stage: &Stage<'_>, name: &str) -> Outcome {
    let mut spec = stage.spec();
    spec.hook(
        name,
        "/bin/sh",
        &format!("{{ {LINKS}; }} >{}", place(stage, name)),
    );
    let container = stage.running(&mut spec)?;
    let own = links(&container.pid().to_string())?;
    let found = read(stage);
    container.end()?;
    same("namespaces", found.lines().count(), FILES.len())?;
    for ((file, found), own) in FILES.iter().zip(found.lines()).zip(own) {
        same(&format!("{file} of {name}"), found, own.as_str())?;
    }
    Ok(())
}

/// The host's files are there, and the container's mounts as well.
fn before_pivot(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let source = stage.source("own")?;
    spec.mount(json!({"destination": "/m", "source": source, "options": ["bind"]}));
    let script = format!(
        "cat {}/file {}/m/file >{}",
        source,
        stage.rootfs("").display().to_string().trim_end_matches('/'),
        told(stage).display()
    );
    spec.hook("createContainer", "/bin/sh", &script);
    stage.run(&spec)?.succeeds()?;
    same("files", read(stage).as_str(), "of own\nof own\n")
}

fn in_root(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let source = stage.source("own")?;
    spec.mount(json!({"destination": "/m", "source": source, "options": ["bind"]}));
    // The path is the container's: the host has no such file.
    std::os::unix::fs::symlink("/bin/busybox", stage.rootfs("own-sh"))?;
    spec["hooks"] = json!({"startContainer": [{
        "path": "/own-sh", "args": ["sh", "-c", "/bin/cat /m/file >/tmp/told"],
    }]});
    stage.run(&spec)?.succeeds()?;
    same("file", read(stage).as_str(), "of own\n")
}

/// The number of the container's process, from the state on standard input.
const PID: &str = r#"pid=$(tr ',{}' '\n\n\n' | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')"#;

/// The init may be out of an ordinary user's reach.
fn finds(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let told = told(stage).display().to_string();
    let script =
        format!("{PID}; for n in net mnt uts; do readlink /proc/$pid/ns/$n; done >{told}; true");
    spec.hook("createRuntime", "/bin/sh", &script);
    let container = stage.running(&mut spec)?;
    let pid = container.pid();
    let found = read(stage);
    same("namespaces", found.lines().count(), 3)?;
    for (file, found) in ["net", "mnt", "uts"].iter().zip(found.lines()) {
        let own = fs::read_link(format!("/proc/{pid}/ns/{file}"))?
            .display()
            .to_string();
        same(file, found, own.as_str())?;
    }
    container.end()
}

/// Asserts that hooks of `create` have what the caller has in a file of /proc.
fn told_by_hooks(stage: &Stage<'_>, spec: &mut Spec, file: &str) -> Outcome {
    for name in ["prestart", "createRuntime", "createContainer"] {
        let script = format!("cat /proc/self/{file} >>{}", told(stage).display());
        spec.hook(name, "/bin/sh", &script);
    }
    let container = stage.create(spec)?;
    let own = fs::read_to_string(format!("/proc/self/{file}"))?;
    same(
        "what hooks have",
        read(stage).as_str(),
        own.repeat(3).as_str(),
    )?;
    container.end()
}

fn oom_score(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["oomScoreAdj"] = 700.into();
    stage.prints(&mut spec, "cat /proc/self/oom_score_adj", "700\n")?;
    told_by_hooks(stage, &mut spec, "oom_score_adj")
}

fn apparmor(stage: &Stage<'_>) -> Outcome {
    let profiles = fs::read_to_string("/sys/kernel/security/apparmor/profiles");
    let profiles = profiles.unwrap_or_default();
    let Some((profile, _)) = profiles.lines().find_map(|line| line.rsplit_once(" (")) else {
        return not_applicable("AppArmor has no profile here");
    };
    let mut spec = stage.spec();
    spec["process"]["apparmorProfile"] = profile.into();
    told_by_hooks(stage, &mut spec, "attr/current")
}

fn after_program(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["args"] = json!(["/bin/sleep", "1000"]);
    let told = told(stage).display().to_string();
    let script = format!("{PID}; tr '\\0' ' ' </proc/$pid/cmdline >{told}");
    spec.hook("poststart", "/bin/sh", &script);
    let container = stage.create(&spec)?;
    container.start()?;
    same("what is executed", read(stage).as_str(), "/bin/sleep 1000 ")?;
    container.end()
}

fn fails_create(stage: &Stage<'_>, name: &str) -> Outcome {
    let mut spec = stage.spec();
    spec.hook(name, "/bin/sh", "exit 3");
    spec.hook(
        "poststop",
        "/bin/sh",
        &format!("echo poststop >>{}", told(stage).display()),
    );
    stage.refuses(&spec)?;
    same(
        "what comes after the error",
        read(stage).as_str(),
        "poststop\n",
    )
}

fn fails_start(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.script("touch /tmp/ran");
    spec.hook("startContainer", "/bin/sh", "exit 3");
    spec.hook(
        "poststop",
        "/bin/sh",
        &format!("echo poststop >>{}", told(stage).display()),
    );
    let container = stage.create(&spec)?;
    stopped_by_start(stage, &container)?;
    holds(!stage.rootfs("tmp/ran").exists(), "the program ran")?;
    same(
        "what comes after the error",
        read(stage).as_str(),
        "poststop\n",
    )
}

fn fails_poststart(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.script("exec sleep 1000");
    spec.hook("poststart", "/bin/sh", "exit 3");
    let container = stage.create(&spec)?;
    stopped_by_start(stage, &container)
}

/// The container is stopped; whether it is deleted too, or left for `delete`, runtimes differ.
fn stopped_by_start(stage: &Stage<'_>, container: &crate::container::Container<'_>) -> Outcome {
    let said = stage.call(&["start", container.id()])?.refused()?;
    stage.says_why(&said)?;
    container.wait()?;
    let state = stage.call(&["state", container.id()])?;
    if state.code == 0 {
        container.is("stopped")?;
        container.delete()?;
    }
    stage.left_nothing()
}

fn fails_poststop(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.hook("poststop", "/bin/sh", "exit 3");
    spec.hook(
        "poststop",
        "/bin/sh",
        &format!("echo second >>{}", told(stage).display()),
    );
    let container = stage.create(&spec)?;
    container.start()?;
    container.wait()?;
    container.delete()?;
    same("the hook after it", read(stage).as_str(), "second\n")?;
    stage.left_nothing()
}

fn timeout(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["hooks"] = json!({"createRuntime": [{
        "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1,
    }]});
    stage.refuses(&spec)?;
    Ok(())
}

fn no_timeout(stage: &Stage<'_>) -> Outcome {
    for seconds in [0, -1] {
        let mut spec = stage.spec();
        spec["hooks"] = json!({"createRuntime": [{"path": "/bin/true", "timeout": seconds}]});
        stage.refuses_late(&spec)?;
    }
    Ok(())
}

fn relative(stage: &Stage<'_>) -> Outcome {
    for name in ["createRuntime", "createContainer", "startContainer"] {
        let mut spec = stage.spec();
        spec["process"]["cwd"] = "/bin".into();
        spec["hooks"] = json!({name: [{"path": "true", "env": ["PATH=/bin:/usr/bin"]}]});
        stage.refuses_late(&spec)?;
    }
    Ok(())
}

fn missing(stage: &Stage<'_>) -> Outcome {
    for name in ["createRuntime", "createContainer", "startContainer"] {
        let mut spec = stage.spec();
        spec["hooks"] = json!({name: [{"path": "/nosuch"}]});
        stage.refuses_late(&spec)?;
    }
    Ok(())
}

fn unread(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["annotations"] = json!({"org.example.long": "x".repeat(100_000)});
    for name in ALL {
        spec["hooks"][name] = json!([{"path": "/bin/true"}]);
    }
    stage.run(&spec)?.ends_with(0)
}
