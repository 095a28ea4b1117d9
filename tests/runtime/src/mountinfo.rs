//! proc_pid_mountinfo(5), read.

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The directory of its file system that it shows.
    pub(crate) root: String,
    /// Where it is.
    pub(crate) target: String,
    /// Options of the mount.
    pub(crate) options: Vec<String>,
    /// `shared:N`, `master:N`, `unbindable`.
    pub(crate) tags: Vec<String>,
    /// The file system's type.
    pub(crate) kind: String,
    /// Options of the file system.
    pub(crate) of_system: Vec<String>,
}

impl Mount {
    /// Whether the mount has an option.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|found| found == option)
    }

    /// Whether the file system has an option.
    pub(crate) fn system_has(&self, option: &str) -> bool {
        self.of_system.iter().any(|found| found == option)
    }

    /// How it propagates: the names of its tags, without the numbers; empty if it is private.
    pub(crate) fn propagation(&self) -> String {
        let names = self
            .tags
            .iter()
            .map(|tag| tag.split(':').next().unwrap_or_default());
        names.collect::<Vec<_>>().join(" ")
    }
}

/// All of them, in the kernel's order.
pub(crate) fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(line).collect()
}

/// The topmost mount on a path.
pub(crate) fn on(text: &str, target: &str) -> Option<Mount> {
    let mut all = parse(text);
    all.reverse();
    all.into_iter().find(|mount| mount.target == target)
}

fn line(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let list = |text: &str| text.split(',').map(str::to_owned).collect();
    Some(Mount {
        root: (*left.get(3)?).to_owned(),
        target: (*left.get(4)?).to_owned(),
        options: list(left.get(5)?),
        tags: left.get(6..)?.iter().map(|&tag| tag.to_owned()).collect(),
        kind: (*right.first()?).to_owned(),
        of_system: list(right.get(2).copied().unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_of_a_path_is_found() {
        let text = "1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            2 1 0:5 / /m ro,nosuid - tmpfs tmpfs rw,size=4k\n\
            3 2 0:6 /a /m rw shared:2 master:1 - tmpfs tmpfs rw\n";
        let mount = on(text, "/m").unwrap();
        assert_eq!(
            (mount.root.as_str(), mount.propagation().as_str()),
            ("/a", "shared master")
        );
        assert_eq!(on(text, "/n"), None);
        let all = parse(text);
        assert!(all[1].has("ro") && all[1].system_has("size=4k") && !all[1].has("rw"));
    }
}
