//! What the kernel tells of a process in one line: proc_pid_stat(5).

use std::fs;
use std::io;
use std::str::FromStr;

/// The fields of one process behind its name, as they were when they were read.
#[derive(Debug)]
pub struct Stat(String);

impl Stat {
    /// Of the process with this number, as the caller counts.
    ///
    /// # Errors
    /// `NotFound` if there is none, or it has been reaped.
    pub fn of(pid: u32) -> io::Result<Self> {
        fs::read(format!("/proc/{pid}/stat")).map(|line| Self::behind_the_name(&line))
    }

    /// The process chooses its name, which stands in parentheses: it may hold anything, and be no text.
    fn behind_the_name(line: &[u8]) -> Self {
        let fields = line.rsplit(|&byte| byte == b')').next();
        Self(String::from_utf8_lossy(fields.unwrap_or_default()).into_owned())
    }

    /// A field by its number in the manual page, from 3 on.
    pub fn field<T: FromStr>(&self, number: usize) -> Option<T> {
        let mut fields = self.0.split_ascii_whitespace();
        fields.nth(number.checked_sub(3)?)?.parse().ok()
    }

    /// Field 3: `D` for one that hangs in the kernel, `Z` for one that has ended and was not waited for.
    pub fn state(&self) -> Option<char> {
        self.field(3)
    }

    /// Field 9: the kernel's `PF_*`.
    pub fn flags(&self) -> Option<u64> {
        self.field(9)
    }

    /// Whether it is on its way out, by its flag `PF_EXITING`. A first thread that has ended alone has it too.
    pub fn is_exiting(&self) -> Option<bool> {
        const PF_EXITING: u64 = 0x4;
        self.flags().map(|flags| flags & PF_EXITING != 0)
    }

    /// Field 22, in clock ticks since boot: with it a number is one process's.
    pub fn start_time(&self) -> Option<u64> {
        self.field(22)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        for (line, state, parent) in [
            (&b"7 (sh) D 1 7 7 0"[..], Some('D'), Some(1)),
            (b"7 (a) S (b) Z 2 7 7 0", Some('Z'), Some(2)),
            (b"7 (a) D (b)) S 3", Some('S'), Some(3)),
            (b"7 (\xff\n) R", Some('R'), None),
            (b"", None, None),
        ] {
            let stat = Stat::behind_the_name(line);
            assert_eq!((stat.state(), stat.field(4)), (state, parent), "{line:?}");
        }
        let own = Stat::of(std::process::id()).unwrap();
        // The first thread waits for the one that runs this.
        assert!(matches!(own.state(), Some('R' | 'S')), "{own:?}");
        assert!(own.start_time().is_some_and(|time| time > 0));
        assert_eq!(own.field::<u32>(2), None);
        let error = Stat::of(u32::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
