//! The columns of `top`: podman-top(1)'s descriptors.

use std::time::Duration;

use kelp_runtime::capabilities::CapSet;
use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};

use super::process::Process;
use super::ps;
use super::{Inside, printable};
use crate::Error;

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Args,
    Comm,
    Pcpu,
    Etime,
    Time,
    Stime,
    Tty,
    State,
    Pid,
    Ppid,
    HostPid,
    Pgid,
    User,
    RealUser,
    HostUser,
    Group,
    RealGroup,
    HostGroup,
    Groups,
    HostGroups,
    Nice,
    Rss,
    Vsz,
    Seccomp,
    Label,
    /// The set's place in [`Process::caps`].
    Caps(usize),
    /// As ps(1) shows it.
    Ps(ps::Form),
}

/// Descriptor, code, heading and column.
const COLUMNS: &[(&str, &str, &str, Column)] = &[
    ("args", "%a", "COMMAND", Column::Args),
    ("capamb", "", "AMBIENT CAPS", Column::Caps(4)),
    ("capbnd", "", "BOUNDING CAPS", Column::Caps(3)),
    ("capeff", "", "EFFECTIVE CAPS", Column::Caps(2)),
    ("capinh", "", "INHERITED CAPS", Column::Caps(0)),
    ("capprm", "", "PERMITTED CAPS", Column::Caps(1)),
    ("comm", "%c", "COMMAND", Column::Comm),
    ("etime", "%t", "ELAPSED", Column::Etime),
    ("group", "%G", "GROUP", Column::Group),
    ("groups", "", "GROUPS", Column::Groups),
    ("hgroup", "", "HGROUP", Column::HostGroup),
    ("hgroups", "", "HGROUPS", Column::HostGroups),
    ("hpid", "", "HPID", Column::HostPid),
    ("huser", "", "HUSER", Column::HostUser),
    ("label", "", "LABEL", Column::Label),
    ("nice", "%n", "NI", Column::Nice),
    ("pcpu", "%C", "%CPU", Column::Pcpu),
    ("pgid", "%r", "PGID", Column::Pgid),
    ("pid", "%p", "PID", Column::Pid),
    ("ppid", "%P", "PPID", Column::Ppid),
    ("rgroup", "%g", "RGROUP", Column::RealGroup),
    ("rss", "", "RSS", Column::Rss),
    ("ruser", "%u", "RUSER", Column::RealUser),
    ("seccomp", "", "SECCOMP", Column::Seccomp),
    ("state", "", "STATE", Column::State),
    ("stime", "", "STIME", Column::Stime),
    ("time", "%x", "TIME", Column::Time),
    ("tty", "%y", "TTY", Column::Tty),
    ("user", "%U", "USER", Column::User),
    ("vsz", "%z", "VSZ", Column::Vsz),
];

/// Other words for the same.
const ALIASES: &[(&str, &str)] = &[
    ("command", "args"),
    ("elapsed", "etime"),
    ("uid", "user"),
    ("%cpu", "pcpu"),
];

impl Column {
    pub(super) fn parse(word: &str) -> Result<Self, Error> {
        let alias = ALIASES.iter().find(|(alias, _)| *alias == word);
        let word = alias.map_or(word, |(_, word)| word);
        let known = COLUMNS
            .iter()
            .find(|(name, code, ..)| *name == word || (!code.is_empty() && *code == word));
        known.map(|(.., column)| *column).ok_or_else(|| {
            let names: Vec<_> = COLUMNS.iter().map(|(name, ..)| *name).collect();
            Error::invalid(format!(
                "'{word}': unknown descriptor: use {}",
                names.join(", ")
            ))
        })
    }

    pub(super) fn heading(self) -> &'static str {
        let known = COLUMNS.iter().find(|(.., column)| *column == self);
        // Those of ps(1) are never asked: a field there says its heading itself.
        known.map_or("", |(_, _, heading, _)| heading)
    }

    pub(super) fn show(self, process: &Process, all: &[Process], inside: &Inside) -> String {
        match self {
            Self::Args => args(process),
            Self::Comm => printable(&process.comm),
            Self::Pcpu => {
                let alive = age(process).as_secs_f64();
                let busy = ticks(process.time).as_secs_f64();
                format!(
                    "{:.3}",
                    if alive > 0.0 {
                        100.0 * busy / alive
                    } else {
                        0.0
                    }
                )
            }
            Self::Etime => go_duration(age(process)),
            Self::Time => go_duration(ticks(process.time)),
            Self::Stime => started(process),
            Self::Tty => tty(process.tty),
            Self::State => process.state.to_string(),
            Self::Pid => process.pid.to_string(),
            Self::Ppid => {
                // A parent outside, as that of a process which exec added, is 0 inside.
                let parent = all.iter().find(|other| other.host_pid == process.host_ppid);
                parent.map_or(0, |parent| parent.pid).to_string()
            }
            Self::HostPid => process.host_pid.to_string(),
            Self::Pgid => process.pgid.to_string(),
            Self::User => inside.user(process.uids[1]),
            Self::RealUser => inside.user(process.uids[0]),
            Self::HostUser => process.uids[1].to_string(),
            Self::Group => inside.group(process.gids[1]),
            Self::RealGroup => inside.group(process.gids[0]),
            Self::HostGroup => process.gids[1].to_string(),
            Self::Groups => list(process.groups.iter().map(|&gid| inside.group(gid))),
            Self::HostGroups => list(process.groups.iter().map(ToString::to_string)),
            Self::Nice => process.nice.to_string(),
            Self::Rss => process.rss.to_string(),
            Self::Vsz => (process.virtual_size / 1024).to_string(),
            Self::Seccomp => match process.seccomp {
                0 => "disabled",
                1 => "strict",
                2 => "filter",
                _ => "?",
            }
            .to_owned(),
            Self::Label => process.label.clone(),
            Self::Caps(index) => caps(process.caps[index]),
            Self::Ps(form) => form.show(process, inside),
        }
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(",")
}

/// The command line; kernel threads and zombies have none, and are shown by name.
fn args(process: &Process) -> String {
    if process.args.is_empty() {
        return format!("[{}]", printable(&process.comm));
    }
    let args = process.args.strip_suffix(&[0]).unwrap_or(&process.args);
    let words = args.split(|&byte| byte == 0).map(printable);
    words.collect::<Vec<_>>().join(" ")
}

fn caps(bits: u64) -> String {
    let set = CapSet::from_bits(bits);
    if set.is_empty() {
        return "none".to_owned();
    }
    if CapSet::known().is_ok_and(|known| known.difference(set).is_empty()) {
        return "full".to_owned();
    }
    let names = set.names();
    list(
        names
            .iter()
            .map(|name| name.trim_start_matches("CAP_").to_owned()),
    )
}

pub(super) fn ticks(count: u64) -> Duration {
    let rate = clock_ticks_per_second().max(1);
    Duration::from_secs(count / rate) + Duration::from_secs(count % rate) / rate as u32
}

/// Time since the process was started; its start is counted from boot, sleep included.
pub(super) fn age(process: &Process) -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let now = Duration::new(now.tv_sec as u64, now.tv_nsec as u32);
    now.saturating_sub(ticks(process.start))
}

fn started(process: &Process) -> String {
    start_time(process, "%Y-%m-%d %H:%M:%S")
}

/// When a process was started, in the form of strftime(3).
pub(super) fn start_time(process: &Process, form: &str) -> String {
    let time = std::time::SystemTime::now() - age(process);
    jiff::Timestamp::try_from(time)
        .map(|time| time.to_zoned_datetime(jiff::tz::TimeZone::system()))
        .map(|time| time.strftime(form).to_string())
        .unwrap_or_default()
}

/// A terminal by its device number, with the minor number's high part in front (proc_pid_stat(5)).
fn tty(device: i32) -> String {
    let device = device as u32;
    let minor = (device & 0xff) | (device >> 12 & 0xf_ff00);
    match device >> 8 & 0xfff {
        0 => "?".to_owned(),
        4 => format!("tty{minor}"),
        5 if minor == 1 => "console".to_owned(),
        major @ 136..=143 => format!("pts/{}", minor + (major - 136) * 256),
        major => format!("{major}:{minor}"),
    }
}

/// As Go prints a span: `1h2m3.5s`, `250ms`, `0s`.
fn go_duration(span: Duration) -> String {
    let nanos = span.subsec_nanos();
    let trimmed = |whole: u64, fraction: u32, digits: usize| {
        let fraction = format!("{fraction:0digits$}");
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{whole}{point}{fraction}")
    };
    match span.as_secs() {
        0 if nanos == 0 => "0s".to_owned(),
        0 if nanos < 1_000 => format!("{nanos}ns"),
        0 if nanos < 1_000_000 => trimmed((nanos / 1_000).into(), nanos % 1_000, 3) + "µs",
        0 => trimmed((nanos / 1_000_000).into(), nanos % 1_000_000, 6) + "ms",
        seconds => {
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let mut text = String::new();
            if hours > 0 {
                text.push_str(&[&hours.to_string(), "h"].concat());
            }
            if seconds >= 60 {
                text.push_str(&[&minutes.to_string(), "m"].concat());
            }
            text + &trimmed(seconds % 60, nanos, 9) + "s"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_gos() {
        for (nanos, expected) in [
            (0, "0s"),
            (999, "999ns"),
            (1_500, "1.5µs"),
            (10_000_000, "10ms"),
            (12_345_678, "12.345678ms"),
            (1_000_000_000, "1s"),
            (61_500_000_000, "1m1.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (360_061_000_000_001, "100h1m1.000000001s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), expected);
        }
    }

    #[test]
    fn terminals_have_names() {
        for (device, expected) in [
            (0, "?"),
            (0x8800, "pts/0"),
            (0x8803, "pts/3"),
            (0x10_8800 | 0x01, "pts/257"),
            (0x0401, "tty1"),
            (0x0501, "console"),
        ] {
            assert_eq!(tty(device), expected, "{device:#x}");
        }
    }

    #[test]
    fn a_command_line_is_shown_in_one_line() {
        let mut process = Process {
            comm: b"sh".to_vec(),
            ..Process::default()
        };
        assert_eq!(args(&process), "[sh]");
        process.args = b"sh\0-c\0a\nb\x1b\0\0".to_vec();
        assert_eq!(args(&process), "sh -c a?b? ");
    }
}
