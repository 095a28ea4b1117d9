//! Words that every kind of mount understands, and which of them exclude each other.

/// Words of which a mount takes one.
const GROUPS: &[&[&str]] = &[
    &["ro", "rw"],
    &["exec", "noexec"],
    &["dev", "nodev"],
    &["suid", "nosuid"],
    &["bind", "rbind"],
    &[
        "private",
        "rprivate",
        "shared",
        "rshared",
        "slave",
        "rslave",
        "unbindable",
        "runbindable",
    ],
    &["noatime", "relatime", "strictatime"],
    &["nodiratime"],
    &["z", "Z", "O"],
    &["U"],
    &["copy", "nocopy"],
    &["tmpcopyup", "notmpcopyup"],
    &["noswap"],
];

/// The words that were given; a second one of a group is an error.
pub(super) struct Options<'a> {
    /// The argument, for errors.
    text: &'a str,
    given: Vec<(usize, String)>,
}

impl<'a> Options<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let given = Vec::new();
        Self { text, given }
    }

    /// Notes a word; an error if it contradicts one that was noted, or is it again.
    pub(super) fn note(&mut self, word: &str) -> Result<(), String> {
        let Some(group) = GROUPS.iter().position(|group| group.contains(&word)) else {
            return Ok(());
        };
        if let Some((_, earlier)) = self.given.iter().find(|(other, _)| *other == group) {
            let fault = if earlier == word {
                format!("{word} is given twice")
            } else {
                format!("{earlier} and {word} exclude each other")
            };
            return Err(format!("invalid mount {:?}: {fault}", self.text));
        }
        self.given.push((group, word.to_owned()));
        Ok(())
    }

    /// The error of a word that nothing understands.
    pub(super) fn unknown(&self, word: &str) -> String {
        format!("invalid mount {:?}: invalid option {word:?}", self.text)
    }

    /// The error of a word that podman understands.
    pub(super) fn unsupported(&self, word: &str) -> String {
        format!(
            "mount {:?}: the option {word} is not supported by kelp yet",
            self.text
        )
    }
}

/// Whether a word goes to the specification as it is.
pub(super) fn is_plain(word: &str) -> bool {
    GROUPS[..8].iter().any(|group| group.contains(&word))
}

/// Whether a word says how mounts propagate.
pub(super) fn is_propagation(word: &str) -> bool {
    GROUPS[5].contains(&word)
}
