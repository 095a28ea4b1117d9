//! config.md, "Linux Process" and "POSIX process": capabilities, no_new_privs, limits.

use serde_json::json;

use crate::case::{Case, Needs};
use crate::outcome::{Outcome, fails, holds, not_applicable, same};
use crate::spec::Spec;
use crate::stage::Stage;

const LINUX: &str = "config.md: Linux Process";
const POSIX: &str = "config.md: POSIX process";

pub(crate) const CASES: &[Case] = &[
    Case::new("capabilities_of_each_set", LINUX, each_set),
    Case::new("capabilities_none", LINUX, no_capabilities),
    Case::new("capabilities_ambient_for_a_user", LINUX, ambient),
    Case::new("capabilities_of_a_user", LINUX, of_user),
    Case::new("capabilities_unknown_is_a_warning", LINUX, unknown),
    Case::new("capabilities_beyond_the_callers", LINUX, beyond).needs(Needs::User),
    Case::new("no_new_privileges", LINUX, no_new_privileges),
    Case::new("no_new_privileges_is_off", LINUX, new_privileges),
    Case::new("oom_score_adj", LINUX, oom),
    Case::new("oom_score_adj_left_alone", LINUX, oom_alone),
    Case::new("rlimits", POSIX, rlimits),
    Case::new("rlimits_all_types", POSIX, rlimit_types),
    Case::new("rlimits_unlimited", POSIX, rlimit_infinity),
    Case::new("rlimits_unknown_type", POSIX, rlimit_unknown),
    Case::new("rlimits_listed_twice", POSIX, rlimit_twice),
    Case::new("rlimits_raised_beyond_the_callers", POSIX, rlimit_raised).needs(Needs::User),
    Case::new("apparmor_where_there_is_none", LINUX, apparmor),
    Case::new("selinux_where_there_is_none", LINUX, selinux),
];

const SETS: &str = "sed -n 's/^Cap\\(Inh\\|Prm\\|Eff\\|Bnd\\|Amb\\):\t//p' /proc/self/status";

/// Inheritable, permitted, effective, bounding, ambient.
fn sets(stage: &Stage<'_>, spec: &mut Spec) -> Outcome<Vec<u64>> {
    spec["process"]["args"] = json!(["/bin/sh", "-c", SETS]);
    let out = stage.run(spec)?.succeeds()?;
    Ok(out
        .lines()
        .filter_map(|line| u64::from_str_radix(line, 16).ok())
        .collect())
}

const CHOWN: u64 = 1;
const KILL: u64 = 1 << 5;
const SETUID: u64 = 1 << 7;
const NET_BIND: u64 = 1 << 10;

/// Effective and permitted ones after execve(2) of a program by root are those that are bounding, so
/// the container's user is another one.
fn each_set(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.wide_spec()?;
    spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    spec["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_NET_BIND_SERVICE"],
        "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
        "inheritable": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"],
        "ambient": ["CAP_CHOWN"],
    });
    // The kernel gives what is ambient and takes the rest of permitted, capabilities(7).
    let expected = [
        CHOWN | KILL,
        CHOWN,
        CHOWN,
        CHOWN | KILL | SETUID | NET_BIND,
        CHOWN,
    ];
    same("Inh Prm Eff Bnd Amb", sets(stage, &mut spec)?, expected)
}

fn no_capabilities(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["capabilities"] = json!({});
    same(
        "Inh Prm Eff Bnd Amb",
        sets(stage, &mut spec)?,
        [0, 0, 0, 0, 0],
    )?;
    if let Some(process) = spec["process"].as_object_mut() {
        process.remove("capabilities");
    }
    let found = sets(stage, &mut spec)?;
    // Nothing is said, so that a runtime may leave what there is; but not more than that.
    same("Inh", found.first(), Some(&0))
}

fn ambient(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.wide_spec()?;
    let names = json!(["CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    spec["process"]["capabilities"] = json!({
        "bounding": names, "permitted": names, "effective": names, "inheritable": names, "ambient": names,
    });
    same(
        "Inh Prm Eff Bnd Amb",
        sets(stage, &mut spec)?,
        [KILL | NET_BIND; 5],
    )
}

fn of_user(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.wide_spec()?;
    spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    spec.capabilities(&["CAP_KILL"]);
    same(
        "Inh Prm Eff Bnd Amb",
        sets(stage, &mut spec)?,
        [0, 0, 0, KILL, 0],
    )
}

fn unknown(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.capabilities(&["CAP_KILL", "CAP_NOSUCH"]);
    spec["process"]["args"] = json!(["/bin/sh", "-c", SETS]);
    stage.write(&spec)?;
    let id = stage.id();
    stage.remember(&id);
    let log = stage.path("log");
    let path = log.display().to_string();
    let done = stage.call(&["--log", &path, "run", &id])?;
    let said = format!(
        "{}{}",
        done.err,
        std::fs::read_to_string(&log).unwrap_or_default()
    );
    let out = done.succeeds()?;
    let found: Vec<u64> = out
        .lines()
        .filter_map(|line| u64::from_str_radix(line, 16).ok())
        .collect();
    same("Inh Prm Eff Bnd Amb", found, [0, KILL, KILL, KILL, 0])?;
    holds(said.contains("NOSUCH"), format!("no warning: {said:?}"))
}

/// A user namespace's root has all of them in it: nothing is beyond.
fn beyond(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.capabilities(&["CAP_SYS_ADMIN", "CAP_SYS_TIME", "CAP_MKNOD"]);
    let expected = 1 << 21 | 1 << 25 | 1 << 27;
    same(
        "Inh Prm Eff Bnd Amb",
        sets(stage, &mut spec)?,
        [0, expected, expected, expected, 0],
    )
}

const PRIVS: &str = "sed -n 's/^NoNewPrivs:\t//p' /proc/self/status";

fn no_new_privileges(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["noNewPrivileges"] = true.into();
    stage.prints(&mut spec, PRIVS, "1\n")
}

fn new_privileges(stage: &Stage<'_>) -> Outcome {
    stage.prints(&mut stage.spec(), PRIVS, "0\n")
}

fn oom(stage: &Stage<'_>) -> Outcome {
    for score in ["1000", "500"] {
        let mut spec = stage.spec();
        spec["process"]["oomScoreAdj"] = score.parse::<i32>().unwrap_or_default().into();
        stage.prints(
            &mut spec,
            "cat /proc/self/oom_score_adj",
            &format!("{score}\n"),
        )?;
    }
    Ok(())
}

fn oom_alone(stage: &Stage<'_>) -> Outcome {
    let own = std::fs::read_to_string("/proc/self/oom_score_adj")?;
    stage.prints(&mut stage.spec(), "cat /proc/self/oom_score_adj", &own)
}

/// Soft and hard, as the kernel prints them.
fn limit(limits: &str, name: &str) -> Option<(String, String)> {
    let line = limits.lines().find(|line| line.starts_with(name))?;
    let mut words = line.get(26..)?.split_whitespace().map(str::to_owned);
    Some((words.next()?, words.next()?))
}

fn rlimits(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["rlimits"] = json!([
        {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 4096},
    ]);
    let out = stage.shell(&mut spec, "cat /proc/self/limits")?;
    let pair = |soft: &str, hard: &str| Some((soft.to_owned(), hard.to_owned()));
    same(
        "RLIMIT_NOFILE",
        limit(&out, "Max open files"),
        pair("64", "128"),
    )?;
    same(
        "RLIMIT_CORE",
        limit(&out, "Max core file size"),
        pair("0", "4096"),
    )
}

const TYPES: [(&str, &str, u64); 16] = [
    ("RLIMIT_AS", "Max address space", 1 << 40),
    ("RLIMIT_CORE", "Max core file size", 0),
    ("RLIMIT_CPU", "Max cpu time", 1000),
    ("RLIMIT_DATA", "Max data size", 1 << 40),
    ("RLIMIT_FSIZE", "Max file size", 1 << 40),
    ("RLIMIT_LOCKS", "Max file locks", 1000),
    ("RLIMIT_MEMLOCK", "Max locked memory", 4096),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size", 4096),
    ("RLIMIT_NICE", "Max nice priority", 0),
    ("RLIMIT_NOFILE", "Max open files", 100),
    ("RLIMIT_NPROC", "Max processes", 3000),
    ("RLIMIT_RSS", "Max resident set", 1 << 40),
    ("RLIMIT_RTPRIO", "Max realtime priority", 0),
    ("RLIMIT_RTTIME", "Max realtime timeout", 1_000_000),
    ("RLIMIT_SIGPENDING", "Max pending signals", 500),
    ("RLIMIT_STACK", "Max stack size", 1 << 23),
];

fn rlimit_types(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let all: Vec<_> = TYPES
        .iter()
        .map(|(kind, _, value)| json!({"type": kind, "soft": value, "hard": value}))
        .collect();
    spec["process"]["rlimits"] = all.into();
    let out = stage.shell(&mut spec, "cat /proc/self/limits")?;
    for (kind, name, value) in TYPES {
        let value = value.to_string();
        same(kind, limit(&out, name), Some((value.clone(), value)))?;
    }
    Ok(())
}

/// RLIM_INFINITY is the greatest number of 64 bits.
fn rlimit_infinity(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["rlimits"] =
        json!([{"type": "RLIMIT_FSIZE", "soft": u64::MAX, "hard": u64::MAX}]);
    let out = stage.shell(&mut spec, "cat /proc/self/limits")?;
    let unlimited = "unlimited".to_owned();
    same(
        "RLIMIT_FSIZE",
        limit(&out, "Max file size"),
        Some((unlimited.clone(), unlimited)),
    )
}

fn rlimit_unknown(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]);
    stage.refuses_late(&spec)?;
    stage.left_nothing()
}

fn rlimit_twice(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["rlimits"] = json!([
        {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64},
        {"type": "RLIMIT_NOFILE", "soft": 65, "hard": 65},
    ]);
    stage.refuses_late(&spec)?;
    stage.left_nothing()
}

/// It can't be applied, which is an error and no smaller limit.
fn rlimit_raised(stage: &Stage<'_>) -> Outcome {
    let own = std::fs::read_to_string("/proc/self/limits")?;
    let hard = limit(&own, "Max open files").and_then(|(_, hard)| hard.parse::<u64>().ok());
    let Some(hard) = hard else {
        return fails("no limit of open files");
    };
    let mut spec = stage.spec();
    spec["process"]["rlimits"] =
        json!([{"type": "RLIMIT_NOFILE", "soft": hard + 1, "hard": hard + 1}]);
    stage.refuses_late(&spec)?;
    stage.left_nothing()
}

fn apparmor(stage: &Stage<'_>) -> Outcome {
    if std::path::Path::new("/sys/module/apparmor").exists() {
        return not_applicable("AppArmor is there");
    }
    let mut spec = stage.spec();
    spec["process"]["apparmorProfile"] = "nosuch-profile".into();
    stage.refuses_late(&spec)?;
    stage.left_nothing()
}

fn selinux(stage: &Stage<'_>) -> Outcome {
    if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        return not_applicable("SELinux is there");
    }
    let mut spec = stage.spec();
    spec["process"]["selinuxLabel"] = "system_u:system_r:svirt_lxc_net_t:s0:c124,c675".into();
    stage.refuses_late(&spec)?;
    stage.left_nothing()
}
