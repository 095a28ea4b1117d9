//! config-linux.md, "Devices" and "Default Devices"; runtime-linux.md on links in /dev.

use serde_json::json;

use crate::case::{Case, Needs};
use crate::outcome::{Outcome, has, holds, not_applicable, same};
use crate::stage::Stage;

const DEFAULT: &str = "config-linux.md: Default Devices";
const DEVICES: &str = "config-linux.md: Devices";

pub(crate) const CASES: &[Case] = &[
    Case::new("default_ones", DEFAULT, default),
    Case::new("default_ones_work", DEFAULT, work),
    Case::new("no_others", DEFAULT, no_others),
    Case::new("no_console_without_a_terminal", DEFAULT, no_console),
    Case::new("ptmx", DEFAULT, ptmx),
    Case::new("links", "runtime-linux.md: Dev symbolic links", links),
    Case::new(
        "links_only_where_the_source_is",
        "runtime-linux.md: Dev symbolic links",
        no_links,
    ),
    Case::new("listed_one_of_the_hosts", DEVICES, listed),
    Case::new("listed_with_numbers_mode_and_owner", DEVICES, numbers).needs(Needs::Root),
    Case::new("listed_outside_of_dev", DEVICES, outside).needs(Needs::Root),
    Case::new("fifo", DEVICES, fifo),
    Case::new("that_is_another_file_already", DEVICES, mismatch),
    Case::new("of_unknown_type", DEVICES, unknown),
    Case::new(
        "allowed_list_denies",
        "config-linux.md: Allowed Device list",
        denied,
    )
    .needs(Needs::Root),
];

fn default(stage: &Stage<'_>) -> Outcome {
    let script = "cd /dev; stat -c '%n %F %t:%T %a' null zero full random urandom tty";
    let expected = "null character special file 1:3 666\n\
        zero character special file 1:5 666\n\
        full character special file 1:7 666\n\
        random character special file 1:8 666\n\
        urandom character special file 1:9 666\n\
        tty character special file 5:0 666\n";
    stage.prints(&mut stage.spec(), script, expected)
}

fn work(stage: &Stage<'_>) -> Outcome {
    let script = "echo x >/dev/null && head -c 4 /dev/zero | od -An -tx1; \
        head -c 8 /dev/urandom | wc -c; echo x 2>&1 >/dev/full";
    spec_and(stage, script, |out| {
        has("zero", out, "00 00 00 00")?;
        has("urandom", out, "\n8\n")?;
        has("full", out, "No space left")
    })
}

/// Runs a script that may end with an error, and looks at its output.
fn spec_and(stage: &Stage<'_>, script: &str, look: impl Fn(&str) -> Outcome) -> Outcome {
    let mut spec = stage.spec();
    let out = stage.shell(&mut spec, &format!("{{ {script}; }} 2>&1; true"))?;
    look(&out)
}

fn no_others(stage: &Stage<'_>) -> Outcome {
    let out = stage.shell(
        &mut stage.spec(),
        "find /dev -xdev -type c -o -xdev -type b | sort",
    )?;
    let mut found: Vec<&str> = out.lines().collect();
    // The new instance's, or a link to it.
    found.retain(|path| !["/dev/ptmx", "/dev/pts/ptmx"].contains(path));
    let mut expected = ["full", "null", "random", "tty", "urandom", "zero"]
        .map(|name| format!("/dev/{name}"))
        .to_vec();
    // Binds are other file systems, which find(1) then stays out of.
    expected.retain(|path| found.contains(&path.as_str()));
    same("devices", found, expected)?;
    let out = stage.shell(&mut stage.spec(), "ls /dev")?;
    let mut found: Vec<&str> = out.split_whitespace().collect();
    found.retain(|name| *name != "core" && *name != "console");
    let expected = [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
        "stdout", "tty", "urandom", "zero",
    ];
    same("entries of /dev", found, expected)
}

fn no_console(stage: &Stage<'_>) -> Outcome {
    stage.prints(
        &mut stage.spec(),
        "test -e /dev/console || echo none",
        "none\n",
    )
}

fn ptmx(stage: &Stage<'_>) -> Outcome {
    let script = "stat -L -c '%t:%T' /dev/ptmx; stat -c '%t:%T' /dev/pts/ptmx";
    stage.prints(&mut stage.spec(), script, "5:2\n5:2\n")
}

fn links(stage: &Stage<'_>) -> Outcome {
    let script = "cd /dev; for l in fd stdin stdout stderr; do readlink $l; done";
    let expected = "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n";
    stage.prints(&mut stage.spec(), script, expected)
}

fn no_links(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.without_mount("/proc");
    let out = stage.shell(&mut spec, "ls /dev")?;
    let found = out
        .split_whitespace()
        .filter(|name| ["fd", "stdin"].contains(name))
        .count();
    // "If the source file exists"; a runtime that makes them nevertheless does no harm.
    if found == 0 {
        Ok(())
    } else {
        not_applicable("they are made in any case")
    }
}

fn listed(stage: &Stage<'_>) -> Outcome {
    if !std::path::Path::new("/dev/net/tun").exists() {
        return not_applicable("no /dev/net/tun");
    }
    let mut spec = stage.spec();
    spec["linux"]["devices"] = json!([
        {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o666},
    ]);
    stage.prints(
        &mut spec,
        "stat -c '%F %t:%T' /dev/net/tun",
        "character special file a:c8\n",
    )
}

fn numbers(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["devices"] = json!([
        {"path": "/dev/own", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/deep/er", "type": "u", "major": 1, "minor": 5},
        {"path": "/dev/block", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600},
    ]);
    let script = "stat -c '%F %t:%T %a %u:%g' /dev/own; stat -c '%F %t:%T' /dev/deep/er /dev/block";
    let expected = "character special file 1:3 640 7:8\ncharacter special file 1:5\n\
        block special file 7:c8\n";
    stage.prints(&mut spec, script, expected)
}

fn outside(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["devices"] = json!([
        {"path": "/m/own", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666},
    ]);
    stage.prints(&mut spec, "echo x >/m/own; stat -c '%t:%T' /m/own", "1:3\n")
}

fn fifo(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["devices"] = json!([{"path": "/dev/pipe", "type": "p", "fileMode": 0o620}]);
    stage.prints(&mut spec, "stat -c '%F %a' /dev/pipe", "fifo 620\n")
}

fn mismatch(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    std::fs::write(stage.rootfs("m/own"), "a file\n")?;
    spec["linux"]["devices"] = json!([
        {"path": "/m/own", "type": "c", "major": 10, "minor": 200, "fileMode": 0o666},
    ]);
    stage.refuses(&spec)?;
    same(
        "the file",
        std::fs::read_to_string(stage.rootfs("m/own"))?.as_str(),
        "a file\n",
    )
}

fn unknown(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["devices"] = json!([{"path": "/dev/own", "type": "x", "major": 1, "minor": 3}]);
    stage.refuses(&spec)?;
    Ok(())
}

/// What is not listed can't be opened, though it may be made.
fn denied(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.capabilities(&["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
    spec["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "rwm"}]);
    let script = "mknod /tmp/kmsg c 1 11; \
        (: </tmp/kmsg) 2>/dev/null && echo opened; echo x >/dev/null && echo null";
    let done = {
        spec.script(script);
        stage.run(&spec)?
    };
    holds(
        !done.out.contains("opened"),
        format!("it was opened: {}", done.err),
    )?;
    has("what may be used", &done.out, "null")
}
