//! `top` with the arguments of ps(1): which columns it would show, and how.
//!
//! ps itself would be the container's, and nothing of an image is executed. Which processes are meant
//! is no question here, so options that choose among them mean nothing.

use std::time::Duration;

use super::Inside;
use super::column::{Column, age, start_time, ticks};
use super::process::Process;
use crate::Error;

/// What ps(1) shows in another form than podman-top(1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Of a processor, in percent.
    Cpu,
    /// The same without its fraction.
    WholeCpu,
    /// Time since its start.
    Elapsed,
    /// Of the machine's memory, in percent.
    Memory,
    /// When it was started, as short as that can be said.
    Start,
    /// The state and what else is known of it.
    State,
    /// Processor time in minutes and seconds.
    ShortTime,
    /// Processor time, days and hours too.
    Time,
    /// The effective user's number inside.
    UserId,
    /// The effective group's number inside.
    GroupId,
}

/// Fields for `-o`, their headings and their columns.
const FIELDS: &[(&[&str], &str, Column)] = &[
    (&["%cpu", "pcpu"], "%CPU", Column::Ps(Form::Cpu)),
    (&["%mem", "pmem"], "%MEM", Column::Ps(Form::Memory)),
    (&["args", "command"], "COMMAND", Column::Args),
    (&["cmd"], "CMD", Column::Args),
    (&["c"], "C", Column::Ps(Form::WholeCpu)),
    (&["comm", "ucmd", "ucomm"], "COMMAND", Column::Comm),
    (&["etime"], "ELAPSED", Column::Ps(Form::Elapsed)),
    (&["egid", "gid"], "GID", Column::Ps(Form::GroupId)),
    (&["egroup"], "EGROUP", Column::Group),
    (&["group"], "GROUP", Column::Group),
    (&["euid", "uid"], "UID", Column::Ps(Form::UserId)),
    (&["euser"], "EUSER", Column::User),
    (&["user", "uname"], "USER", Column::User),
    (&["label"], "LABEL", Column::Label),
    (&["ni", "nice"], "NI", Column::Nice),
    (&["pgid", "pgrp"], "PGID", Column::Pgid),
    (&["pid", "tgid"], "PID", Column::Pid),
    (&["ppid"], "PPID", Column::Ppid),
    (&["rgroup"], "RGROUP", Column::RealGroup),
    (&["rss", "rssize"], "RSS", Column::Rss),
    (&["ruser"], "RUSER", Column::RealUser),
    (&["s", "state"], "S", Column::State),
    (&["start", "start_time"], "START", Column::Ps(Form::Start)),
    (&["stat"], "STAT", Column::Ps(Form::State)),
    (&["stime"], "STIME", Column::Ps(Form::Start)),
    (&["bsdtime"], "TIME", Column::Ps(Form::ShortTime)),
    (&["cputime", "time"], "TIME", Column::Ps(Form::Time)),
    (&["tt"], "TT", Column::Tty),
    (&["tname", "tty"], "TTY", Column::Tty),
    (&["vsize", "vsz"], "VSZ", Column::Vsz),
];

const PLAIN: &str = "pid tty time comm=CMD";
const PLAIN_BSD: &str = "pid tty stat bsdtime args";
const FULL: &str = "user=UID pid ppid c stime tty time cmd";
const USER: &str = "user pid %cpu %mem vsz rss tty stat start bsdtime args";

/// Whether words are ps(1)'s and not names of columns.
pub(super) fn is_meant(words: &[String]) -> bool {
    words.first().is_some_and(|first| {
        let is_bsd = first.contains('a') && first.bytes().all(|letter| b"auxw".contains(&letter));
        is_bsd || first.starts_with('-')
    })
}

/// The columns for ps(1)'s arguments, each with its heading.
pub(super) fn columns(words: &[String]) -> Result<Vec<(String, Column)>, Error> {
    let mut shown = None;
    let mut listed = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let unknown = || {
            Error::invalid(format!(
                "'{word}': ps is not run, since it would be the container's: use aux, -ef, -o LIST, \
                 or names of columns as `kelp top --help` has them"
            ))
        };
        let (letters, is_bsd) = match word.strip_prefix('-') {
            Some(letters) => (letters, false),
            None => (word.as_str(), true),
        };
        if letters.is_empty() {
            return Err(unknown());
        }
        let is_bsd = is_bsd || letters.contains("aux");
        for (at, letter) in letters.char_indices() {
            match letter {
                'o' => {
                    let list = match &letters[at + 1..] {
                        "" => words.next().map(String::as_str),
                        list => Some(list),
                    };
                    listed.extend(fields(list.ok_or_else(unknown)?)?);
                    break;
                }
                'a' | 'x' if is_bsd => {
                    shown.get_or_insert(PLAIN_BSD);
                }
                'u' if is_bsd => shown = Some(USER),
                'f' if !is_bsd => shown = Some(FULL),
                'A' | 'a' | 'd' | 'e' | 'w' => {}
                _ => return Err(unknown()),
            }
        }
    }
    if listed.is_empty() {
        return fields(shown.unwrap_or(PLAIN));
    }
    Ok(listed)
}

/// Reads `pid,comm=NAME`: a heading goes on to the list's end where commas could be its own, but lists
/// of this program's have none.
fn fields(list: &str) -> Result<Vec<(String, Column)>, Error> {
    let words = list.split([',', ' ']).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let (name, heading) = match word.split_once('=') {
                Some((name, heading)) => (name, Some(heading)),
                None => (word, None),
            };
            let known = FIELDS.iter().find(|(names, ..)| names.contains(&name));
            let (_, usual, column) = known.ok_or_else(|| {
                let known: Vec<_> = FIELDS.iter().map(|(names, ..)| names[0]).collect();
                Error::invalid(format!(
                    "unknown user-defined format specifier \"{name}\": use {}",
                    known.join(", ")
                ))
            })?;
            Ok((heading.unwrap_or(usual).to_owned(), *column))
        })
        .collect()
}

impl Form {
    pub(super) fn show(self, process: &Process, inside: &Inside) -> String {
        let number = |id: Option<u32>| id.map_or_else(|| "?".to_owned(), |id| id.to_string());
        match self {
            Self::Cpu => format!("{:.1}", busy(process)),
            Self::WholeCpu => (busy(process) as u64).to_string(),
            Self::Elapsed => elapsed(age(process)),
            Self::Memory => format!("{:.1}", memory(process.rss)),
            Self::Start => {
                let recent = age(process) < Duration::from_hours(24);
                start_time(process, if recent { "%H:%M" } else { "%b%d" })
            }
            Self::State => state(process),
            Self::ShortTime => {
                let seconds = ticks(process.time).as_secs();
                format!("{}:{:02}", seconds / 60, seconds % 60)
            }
            Self::Time => time(ticks(process.time)),
            Self::UserId => number(inside.uids.inside(process.uids[1])),
            Self::GroupId => number(inside.gids.inside(process.gids[1])),
        }
    }
}

/// The share of a processor since its start, in percent.
fn busy(process: &Process) -> f64 {
    let alive = age(process).as_secs_f64();
    if alive > 0.0 {
        100.0 * ticks(process.time).as_secs_f64() / alive
    } else {
        0.0
    }
}

/// The share of the machine's memory of so many KiB, in percent.
fn memory(kilobytes: u64) -> f64 {
    let machine = rustix::system::sysinfo();
    let total = machine.totalram as f64 * f64::from(machine.mem_unit);
    100.0 * (kilobytes * 1024) as f64 / total.max(1.0)
}

/// The state's letter, and as in ps(1): `<` and N for priority, s for a session's leader, l for
/// several threads, + for the foreground.
fn state(process: &Process) -> String {
    let mut text = process.state.to_string();
    for (letter, holds) in [
        ('<', process.nice < 0),
        ('N', process.nice > 0),
        ('s', process.session == process.host_pid as i32),
        ('l', process.threads > 1),
        ('+', process.tpgid > 0 && process.tpgid == process.pgid),
    ] {
        if holds {
            text.push(letter);
        }
    }
    text
}

/// `[[DD-]HH:]MM:SS`
fn elapsed(span: Duration) -> String {
    let text = time(span);
    text.strip_prefix("00:").map(str::to_owned).unwrap_or(text)
}

/// `[DD-]HH:MM:SS`
fn time(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let rest = format!("{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    if days > 0 {
        format!("{days}-{rest}")
    } else {
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headings(line: &str) -> Result<String, String> {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        assert!(is_meant(&words), "{line}");
        let columns = columns(&words).map_err(|error| error.line())?;
        let headings: Vec<_> = columns.into_iter().map(|(heading, _)| heading).collect();
        Ok(headings.join(" "))
    }

    #[test]
    fn columns_are_those_of_ps() {
        let user = "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND";
        for (line, expected) in [
            ("aux", user),
            ("-aux", user),
            ("auxww", user),
            ("ax", "PID TTY STAT TIME COMMAND"),
            ("-ef", "UID PID PPID C STIME TTY TIME CMD"),
            ("-e -f", "UID PID PPID C STIME TTY TIME CMD"),
            ("-e", "PID TTY TIME CMD"),
            ("-o pid,comm", "PID COMMAND"),
            ("-eo pid,user,args", "PID USER COMMAND"),
            ("-opid -o ppid=PARENT", "PID PARENT"),
        ] {
            assert_eq!(headings(line).as_deref(), Ok(expected), "{line}");
        }
        for line in ["-o", "-o nosuch", "-Z", "-", "--forest", "aux -q"] {
            assert!(headings(line).is_err(), "{line}");
        }
    }

    #[test]
    fn names_of_columns_are_not_arguments_of_ps() {
        for word in ["pid", "args", "user", "%C", "a1", "x"] {
            assert!(!is_meant(&[word.to_owned()]), "{word}");
        }
        assert!(!is_meant(&[]));
    }

    #[test]
    fn times_are_those_of_ps() {
        for (seconds, full, short) in [
            (5, "00:00:05", "00:05"),
            (3_661, "01:01:01", "01:01:01"),
            (90_061, "1-01:01:01", "1-01:01:01"),
        ] {
            let span = Duration::from_secs(seconds);
            assert_eq!((time(span).as_str(), elapsed(span).as_str()), (full, short));
        }
    }

    #[test]
    fn a_state_tells_what_ps_tells() {
        let process = Process {
            state: 'S',
            host_pid: 7,
            session: 7,
            pgid: 7,
            tpgid: 7,
            nice: 5,
            threads: 2,
            ..Process::default()
        };
        assert_eq!(state(&process), "SNsl+");
    }
}
