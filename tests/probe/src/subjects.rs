//! What can be told.

use std::fs;
use std::io::IsTerminal;
use std::path::Path;

use crate::json::Value;

type Tell = fn() -> Option<Value>;

/// Every subject. Descriptors come first, before anything else is opened.
pub(crate) const ALL: &[(&str, Tell)] = &[
    ("descriptors", descriptors),
    ("process", process),
    ("ids", ids),
    ("capabilities", || Some(capabilities())),
    ("security", || Some(security())),
    ("namespaces", namespaces),
    ("mounts", mounts),
    ("limits", limits),
    ("cgroup", cgroup),
    ("environment", || Some(environment())),
    ("terminal", || Some(terminal())),
    ("hostname", || {
        text("/proc/sys/kernel/hostname").map(Value::from)
    }),
    ("oom_score_adj", || number("/proc/self/oom_score_adj")),
];

fn object(members: Vec<(&str, Value)>) -> Value {
    let members = members.into_iter();
    Value::Object(
        members
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

fn text(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim_end().to_owned())
}

fn number(path: &str) -> Option<Value> {
    Some(Value::Number(text(path)?.parse().ok()?))
}

/// A line of /proc/self/status.
fn status(name: &str) -> Option<String> {
    let status = text("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

fn numbers(line: &str) -> Value {
    line.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .map(Value::Number)
        .collect()
}

fn link(path: &Path) -> Value {
    fs::read_link(path).map_or(Value::Null, |target| {
        Value::from(target.to_string_lossy().into_owned())
    })
}

/// `{"0": "/dev/null", …}`, without the one that lists the directory.
fn descriptors() -> Option<Value> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").ok()?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let target = link(&entry.path());
        let own = format!("/proc/{}/fd", std::process::id());
        if !matches!(&target, Value::Text(text) if *text == own) {
            found.push((name, target));
        }
    }
    found.sort_by_key(|(name, _)| name.parse::<u32>().unwrap_or(u32::MAX));
    Some(Value::Object(found))
}

fn process() -> Option<Value> {
    let stat = text("/proc/self/stat")?;
    // After the name, which may hold anything: state, parent, group, session, terminal (proc(5)).
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field = |index: usize| fields.get(index).and_then(|word| word.parse().ok());
    let arguments = std::env::args().map(Value::from).collect();
    Some(object(vec![
        ("pid", Value::Number(i64::from(std::process::id()))),
        ("parent", Value::Number(field(1)?)),
        ("session", Value::Number(field(3)?)),
        ("arguments", arguments),
        ("cwd", link(Path::new("/proc/self/cwd"))),
        ("root", link(Path::new("/proc/self/root"))),
        ("umask", status("Umask").map_or(Value::Null, Value::from)),
    ]))
}

fn ids() -> Option<Value> {
    Some(object(vec![
        ("uid", numbers(&status("Uid")?)),
        ("gid", numbers(&status("Gid")?)),
        ("groups", numbers(&status("Groups")?)),
        ("uid_map", Value::from(text("/proc/self/uid_map")?)),
        ("gid_map", Value::from(text("/proc/self/gid_map")?)),
    ]))
}

/// Sets of bits in hexadecimal, as the kernel prints them.
fn capabilities() -> Value {
    let sets = [
        ("inheritable", "CapInh"),
        ("permitted", "CapPrm"),
        ("effective", "CapEff"),
        ("bounding", "CapBnd"),
        ("ambient", "CapAmb"),
    ];
    let sets = sets.map(|(name, line)| (name, status(line).map_or(Value::Null, Value::from)));
    object(sets.into())
}

fn security() -> Value {
    let count = |name: &str| numbers(&status(name).unwrap_or_default());
    let first = |value: Value| match value {
        Value::List(list) => list.into_iter().next().unwrap_or(Value::Null),
        other => other,
    };
    object(vec![
        ("no_new_privs", first(count("NoNewPrivs"))),
        ("seccomp", first(count("Seccomp"))),
        ("seccomp_filters", first(count("Seccomp_filters"))),
        (
            "label",
            text("/proc/self/attr/current").map_or(Value::Null, Value::from),
        ),
    ])
}

fn namespaces() -> Option<Value> {
    let mut found: Vec<(String, Value)> = fs::read_dir("/proc/self/ns")
        .ok()?
        .flatten()
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, link(&entry.path()))
        })
        .collect();
    found.sort_by(|(left, _), (right, _)| left.cmp(right));
    Some(Value::Object(found))
}

/// Fields of mountinfo, by their names in proc_pid_mountinfo(5).
fn mounts() -> Option<Value> {
    text("/proc/self/mountinfo")?
        .lines()
        .map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            Some(object(vec![
                ("root", Value::from(*left.get(3)?)),
                ("target", Value::from(*left.get(4)?)),
                ("options", Value::from(*left.get(5)?)),
                ("tags", Value::from(left.get(6..)?.join(" "))),
                ("type", Value::from(*right.first()?)),
                ("source", Value::from(*right.get(1)?)),
                ("super", Value::from(right.get(2).copied().unwrap_or(""))),
            ]))
        })
        .collect::<Option<Vec<Value>>>()
        .map(Value::List)
}

/// `{"Max open files": ["1024", "1048576"], …}`: soft and hard, as the kernel prints them.
fn limits() -> Option<Value> {
    let limits = text("/proc/self/limits")?;
    let lines = limits.lines().skip(1);
    let parsed = lines.map(|line| {
        // Columns are 26 and 21 wide; names have spaces.
        let (name, values) = line.split_at_checked(26)?;
        let mut values = values.split_whitespace();
        let (soft, hard) = (values.next()?, values.next()?);
        let pair = [Value::from(soft), Value::from(hard)].into_iter().collect();
        Some((name.trim().to_owned(), pair))
    });
    parsed.collect::<Option<Vec<_>>>().map(Value::Object)
}

fn cgroup() -> Option<Value> {
    let lines = text("/proc/self/cgroup")?;
    let unified = lines.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(Value::from(unified))
}

fn environment() -> Value {
    let mut all: Vec<(String, Value)> = std::env::vars_os()
        .map(|(name, value)| {
            let value = value.to_string_lossy().into_owned();
            (name.to_string_lossy().into_owned(), Value::from(value))
        })
        .collect();
    all.sort_by(|(left, _), (right, _)| left.cmp(right));
    Value::Object(all)
}

fn terminal() -> Value {
    object(vec![
        ("stdin", Value::Bool(std::io::stdin().is_terminal())),
        ("stdout", Value::Bool(std::io::stdout().is_terminal())),
        ("stderr", Value::Bool(std::io::stderr().is_terminal())),
        (
            "controlling",
            Value::Bool(fs::File::open("/dev/tty").is_ok()),
        ),
    ])
}
