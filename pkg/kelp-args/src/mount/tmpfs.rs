//! `--tmpfs TARGET[:OPTIONS]`.

use super::option::{is_plain, is_propagation};
use super::{Mount, Options, Source, absolute};
use crate::scalar::number;
use crate::size;

/// Parses `--tmpfs TARGET[:OPTIONS]`.
pub fn tmpfs(text: &str) -> Result<Mount, String> {
    let (target, words) = text.split_once(':').unwrap_or((text, ""));
    let mut mount = Mount::new(Source::Tmpfs, absolute(target, text)?);
    mount.copy = Some(true);
    let mut options = Options::new(text);
    for word in words.split(',').filter(|word| !word.is_empty()) {
        options.note(word)?;
        match word.split_once('=') {
            Some((name @ ("size" | "mode" | "nr_inodes" | "uid" | "gid"), value)) => {
                value_of(&mut mount, &options, name, value)?;
            }
            None if word == "tmpcopyup" => mount.copy = Some(true),
            None if word == "notmpcopyup" => mount.copy = Some(false),
            None if word == "U" => mount.chown = true,
            None if word == "noswap" || is_plain(word) && !is_propagation(word) => {
                mount.options.push(word.to_owned());
            }
            _ => return Err(options.unknown(word)),
        }
    }
    let given = std::mem::take(&mut mount.options);
    mount.options = usual(&given);
    mount.options.extend(given);
    Ok(mount)
}

/// What holds where the opposite is not asked for.
fn usual(given: &[String]) -> Vec<String> {
    [("nosuid", "suid"), ("nodev", "dev")]
        .into_iter()
        .filter(|(usual, opposite)| !given.iter().any(|word| word == usual || word == opposite))
        .map(|(usual, _)| usual.to_owned())
        .collect()
}

/// An option of the file system, with the value that the kernel understands.
pub(super) fn value_of(
    mount: &mut Mount,
    options: &Options,
    name: &str,
    value: &str,
) -> Result<(), String> {
    let percent = value.strip_suffix('%').and_then(number::<u8>).is_some();
    let value = match name {
        "size" if percent => value.to_owned(),
        "size" => size::bytes(value)?.to_string(),
        "mode" if u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777) => {
            value.to_owned()
        }
        "nr_inodes" | "uid" | "gid" if number::<u64>(value).is_some() => value.to_owned(),
        _ => return Err(options.unknown(&format!("{name}={value}"))),
    };
    mount.options.push(format!("{name}={value}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_a_tmpfs() {
        for (text, options) in [
            ("/t", &["nosuid", "nodev"][..]),
            ("/t:size=1m,ro", &["nosuid", "nodev", "size=1048576", "ro"]),
            ("/t:dev,suid", &["dev", "suid"]),
            (
                "/t:mode=1777,size=10%",
                &["nosuid", "nodev", "mode=1777", "size=10%"],
            ),
        ] {
            assert_eq!(tmpfs(text).unwrap().options, options, "{text}");
        }
        assert_eq!(tmpfs("/t:notmpcopyup").unwrap().copy, Some(false));
        for (text, said) in [
            (
                "/t:nope",
                "invalid mount \"/t:nope\": invalid option \"nope\"",
            ),
            (
                "/t:mode=9",
                "invalid mount \"/t:mode=9\": invalid option \"mode=9\"",
            ),
            (
                "/t:rshared",
                "invalid mount \"/t:rshared\": invalid option \"rshared\"",
            ),
            (
                "/t:ro,rw",
                "invalid mount \"/t:ro,rw\": ro and rw exclude each other",
            ),
            (
                "/t:size=x",
                "invalid size \"x\": a size is a number with b, k, m, g or t",
            ),
        ] {
            assert_eq!(tmpfs(text).unwrap_err(), said);
        }
    }
}
