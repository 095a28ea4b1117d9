//! Signals: `KILL`, `sigkill`, `9`, `RTMIN+3`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, scalar};

/// A signal by its number, from 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Signal(i32);

/// The names without SIG of signals 1 to 31, on the architectures of signal(7)'s first column: all
/// that kelp is built for.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Other names.
const SYNONYMS: &[(&str, i32)] = &[("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

/// Real-time signals as programs count them: the C library keeps 32 and 33 for its threads.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

impl Signal {
    /// SIGKILL.
    pub const KILL: Self = Self(9);
    /// SIGTERM.
    pub const TERM: Self = Self(15);

    /// The signal of a number, if there is one.
    pub fn new(number: i32) -> Option<Self> {
        (1..=RTMAX).contains(&number).then_some(Self(number))
    }

    /// Its number.
    pub fn number(self) -> i32 {
        self.0
    }
}

impl TryFrom<i32> for Signal {
    type Error = Error;

    fn try_from(number: i32) -> Result<Self, Error> {
        let hint = "signals are numbered from 1 to 64";
        Self::new(number).ok_or_else(|| Error::invalid("signal", &number.to_string(), hint))
    }
}

impl From<Signal> for i32 {
    fn from(signal: Signal) -> Self {
        signal.0
    }
}

impl FromStr for Signal {
    type Err = Error;

    /// A name in any case, with or without SIG, or a number.
    fn from_str(text: &str) -> Result<Self, Error> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number = match scalar::number(text) {
            Some(number) => Some(number),
            None => by_name(name),
        };
        number.and_then(Self::new).ok_or_else(|| {
            Error::invalid(
                "signal",
                text,
                "use a name such as TERM or RTMIN+3, or a number from 1 to 64",
            )
        })
    }
}

fn by_name(name: &str) -> Option<i32> {
    let plain = NAMES.iter().position(|known| *known == name);
    if let Some(index) = plain {
        return Some(index as i32 + 1);
    }
    if let Some((_, number)) = SYNONYMS.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let offset = |rest: &str, sign: char| match rest {
        "" => Some(0),
        _ => scalar::number::<i32>(rest.strip_prefix(sign)?).filter(|offset| *offset <= RTMAX),
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => RTMIN + offset(rest, '+')?,
        (_, Some(rest)) => RTMAX - offset(rest, '-')?,
        _ => return None,
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

/// `SIGTERM`, `SIGRTMIN+3`.
impl fmt::Display for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (NAMES.get(self.0 as usize - 1), self.0) {
            (Some(name), _) => write!(formatter, "SIG{name}"),
            (_, RTMIN) => formatter.write_str("SIGRTMIN"),
            (_, RTMAX) => formatter.write_str("SIGRTMAX"),
            (_, number @ RTMIN..) => write!(formatter, "SIGRTMIN+{}", number - RTMIN),
            (_, number) => number.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number, shown) in [
            ("KILL", 9, "SIGKILL"),
            ("SIGKILL", 9, "SIGKILL"),
            ("sigterm", 15, "SIGTERM"),
            ("hup", 1, "SIGHUP"),
            ("CLD", 17, "SIGCHLD"),
            ("SYS", 31, "SIGSYS"),
            ("9", 9, "SIGKILL"),
            ("32", 32, "32"),
            ("RTMIN", 34, "SIGRTMIN"),
            ("SIGRTMIN+3", 37, "SIGRTMIN+3"),
            ("rtmax-1", 63, "SIGRTMIN+29"),
            ("64", 64, "SIGRTMAX"),
        ] {
            let signal: Signal = text.parse().unwrap();
            assert_eq!(
                (signal.number(), signal.to_string().as_str()),
                (number, shown)
            );
        }
        for text in [
            "",
            "0",
            "65",
            "-9",
            "SIG",
            "FOO",
            "SIGSIGTERM",
            "RTMIN-1",
            "RTMIN+31",
            "RTMIN+",
            "RTMAX-31",
            "RTMIN+99999999999",
            "RTMIN+2147483647",
            "TERM ",
        ] {
            assert_eq!(
                text.parse::<Signal>().unwrap_err().to_string(),
                format!(
                    "invalid signal {text:?}: use a name such as TERM or RTMIN+3, or a number \
                     from 1 to 64"
                )
            );
        }
    }
}
