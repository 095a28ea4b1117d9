//! A process, from its files in /proc (proc(5)).

use std::fs;

use super::patient::Reader;

/// The most that is shown of a command line, in bytes: a container can make its own as long as its memory allows.
pub(super) const MAX_ARGS: u64 = 64 << 10;

/// What /proc tells of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) host_pid: u32,
    pub(super) host_ppid: u32,
    /// In the container's pid namespace.
    pub(super) pid: u32,
    pub(super) pgid: i32,
    pub(super) state: char,
    pub(super) session: i32,
    pub(super) tty: i32,
    /// The process group in the foreground of its terminal.
    pub(super) tpgid: i32,
    pub(super) threads: i64,
    /// User and system time in clock ticks.
    pub(super) time: u64,
    pub(super) nice: i64,
    /// Clock ticks after boot.
    pub(super) start: u64,
    /// Bytes.
    pub(super) virtual_size: u64,
    pub(super) comm: Vec<u8>,
    /// The arguments, each with a null byte behind it.
    pub(super) args: Vec<u8>,
    /// Real and effective, on the host.
    pub(super) uids: [u32; 2],
    pub(super) gids: [u32; 2],
    pub(super) groups: Vec<u32>,
    /// Resident KiB.
    pub(super) rss: u64,
    pub(super) seccomp: u32,
    /// Inheritable, permitted, effective, bounding, ambient.
    pub(super) caps: [u64; 5],
    pub(super) label: String,
}

impl Process {
    /// Reads a process's; `None` if it is gone, or not in a namespace of this depth.
    pub(super) fn read(pid: u32, depth: usize, reader: &mut Reader) -> Option<Self> {
        let file = |name: &str| fs::read(format!("/proc/{pid}/{name}"));
        let stat = file("stat").ok()?;
        let status = String::from_utf8_lossy(&file("status").ok()?).into_owned();
        let mut process = Self {
            host_pid: pid,
            ..Self::default()
        };
        process.parse_stat(&stat)?;
        process.parse_status(&status, depth)?;
        process.args = reader.read(format!("/proc/{pid}/cmdline").into());
        let label = file("attr/current").unwrap_or_default();
        let label = String::from_utf8_lossy(&label);
        label
            .trim_matches(['\0', '\n'])
            .clone_into(&mut process.label);
        Some(process)
    }

    fn parse_stat(&mut self, stat: &[u8]) -> Option<()> {
        // The name may hold anything, parentheses and line ends too.
        let open = stat.iter().position(|&byte| byte == b'(')?;
        let close = stat.iter().rposition(|&byte| byte == b')')?;
        self.comm = stat.get(open + 1..close)?.to_vec();
        let fields = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
        let fields: Vec<_> = fields.split_ascii_whitespace().collect();
        // Numbered as in proc_pid_stat(5), where the state is field 3.
        let number = |field: usize| fields.get(field - 3)?.parse::<i64>().ok();
        self.state = fields.first()?.chars().next()?;
        self.host_ppid = number(4)? as u32;
        self.pgid = number(5)? as i32;
        self.session = number(6)? as i32;
        self.tty = number(7)? as i32;
        self.tpgid = number(8)? as i32;
        self.time = (number(14)? + number(15)?) as u64;
        self.nice = number(19)?;
        self.threads = number(20)?;
        self.start = number(22)? as u64;
        self.virtual_size = fields.get(20)?.parse().ok()?;
        Some(())
    }

    fn parse_status(&mut self, status: &str, depth: usize) -> Option<()> {
        for line in status.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            let ids = || {
                let mut ids = value.split_ascii_whitespace().map(str::parse);
                Some([ids.next()?.ok()?, ids.next()?.ok()?])
            };
            let set = || u64::from_str_radix(value, 16).ok();
            match key {
                "Uid" => self.uids = ids()?,
                "Gid" => self.gids = ids()?,
                "Groups" => {
                    let groups = value.split_ascii_whitespace();
                    self.groups = groups.filter_map(|gid| gid.parse().ok()).collect();
                }
                "VmRSS" => self.rss = value.split(' ').next()?.parse().ok()?,
                "Seccomp" => self.seccomp = value.parse().ok()?,
                "CapInh" => self.caps[0] = set()?,
                "CapPrm" => self.caps[1] = set()?,
                "CapEff" => self.caps[2] = set()?,
                "CapBnd" => self.caps[3] = set()?,
                "CapAmb" => self.caps[4] = set()?,
                _ => {}
            }
        }
        self.pid = *ns_pids(status).get(depth.checked_sub(1)?)?;
        Some(())
    }
}

/// A process's numbers in every pid namespace from the reader's down to its own.
pub(super) fn ns_pids(status: &str) -> Vec<u32> {
    status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .into_iter()
        .flat_map(str::split_ascii_whitespace)
        .filter_map(|number| number.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_does_not_shift_the_fields() {
        let stat =
            b"77 (a) R 1 (b\n) S 1 2 3 34816 5 6 7 8 9 10 11 12 13 14 15 -5 17 18 19 2048 21";
        let mut process = Process::default();
        process.parse_stat(stat).unwrap();
        assert_eq!(process.comm, b"a) R 1 (b\n");
        assert_eq!((process.state, process.host_ppid), ('S', 1));
        assert_eq!((process.pgid, process.tty), (2, 34816));
        assert_eq!((process.time, process.nice), (11 + 12, -5));
        assert_eq!((process.start, process.virtual_size), (19, 2048));
        assert!(process.parse_stat(b"77 (a S 1").is_none());
        assert!(process.parse_stat(b"").is_none());
    }

    #[test]
    fn a_status_gives_ids_and_numbers() {
        let status = "Name:\tNSpid:\t9\nUid:\t1001\t100000\t1001\t1001\nGid:\t1\t2\t3\t4\n\
                      Groups:\t1 2 \nNSpid:\t4000\t12\nVmRSS:\t     640 kB\nSeccomp:\t2\n\
                      CapEff:\t00000000800405fb\n";
        let mut process = Process::default();
        process.parse_status(status, 2).unwrap();
        assert_eq!(process.pid, 12);
        assert_eq!(process.uids, [1001, 100_000]);
        assert_eq!(process.groups, [1, 2]);
        assert_eq!((process.rss, process.seccomp), (640, 2));
        assert_eq!(process.caps[2], 0x8004_05fb);
        assert!(process.parse_status(status, 3).is_none());
        assert!(process.parse_status(status, 0).is_none());
    }
}
