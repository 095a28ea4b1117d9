//! Descriptors that a program is started with beyond its standard streams, and which of them are sockets that
//! somebody listens with for it (sd_listen_fds(3)).

use std::path::Path;
use std::process;

use serde::{Deserialize, Serialize};

/// The first descriptor that is passed on.
pub const FIRST: i32 = 3;

/// Sockets that a program finds at its descriptors from [`FIRST`] on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sockets {
    /// How many.
    pub count: u16,
    /// Their names, with colons between.
    pub names: Option<String>,
}

impl Sockets {
    /// Those that the caller of this process has opened, if they are meant for it.
    pub fn of_this_process() -> Option<Self> {
        let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
        if number("LISTEN_PID") != Some(process::id()) {
            return None;
        }
        let count = u16::try_from(number("LISTEN_FDS")?).ok()?;
        Self::named(count)
    }

    /// So many, with the names that the environment has for them.
    pub fn named(count: u16) -> Option<Self> {
        (count > 0).then(|| Self {
            count,
            names: std::env::var("LISTEN_FDNAMES").ok(),
        })
    }

    /// What a process with this number is told of them.
    pub fn environment(&self, pid: u32) -> Vec<String> {
        let mut entries = vec![
            format!("LISTEN_FDS={}", self.count),
            format!("LISTEN_PID={pid}"),
        ];
        entries.extend(
            self.names
                .as_ref()
                .map(|names| format!("LISTEN_FDNAMES={names}")),
        );
        entries
    }
}

/// The first of these descriptors that is not open: one of this process's own would be passed on in its place.
pub fn closed(preserved: i32) -> Option<i32> {
    let is_closed = |number: &i32| !Path::new(&format!("/proc/self/fd/{number}")).exists();
    (FIRST..FIRST + preserved).find(is_closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_how_many_there_are_and_that_they_are_its_own() {
        let mut sockets = Sockets {
            count: 2,
            names: None,
        };
        assert_eq!(sockets.environment(7), ["LISTEN_FDS=2", "LISTEN_PID=7"]);
        sockets.names = Some("http:admin".to_owned());
        assert_eq!(sockets.environment(1)[2], "LISTEN_FDNAMES=http:admin");
        // Nobody has opened any for the tests.
        assert_eq!(Sockets::of_this_process(), None);
        assert_eq!(closed(0), None);
        assert!(closed(60_000).is_some());
    }
}
