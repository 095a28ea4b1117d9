//! Programs for another processor: the kernel hands them to an interpreter that binfmt_misc names, or
//! refuses them. Why it has refused one is looked up when it has: an image may say that it is for
//! another architecture and not be, and one for this machine pays nothing.

use std::fs;
use std::path::Path;

use kelp_image::Digest;
use kelp_image::platform::Platform;

use crate::container::config::Config;
use crate::{Engine, Error, Kind};

/// Where the kernel tells of interpreters (binfmt_misc.rst).
const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

/// Architectures in Go's words, with the name that qemu's interpreter has, and of the header of their
/// programs (elf(5)): class, byte order and machine.
const ARCHITECTURES: &[(&str, &str, u8, u8, u16)] = &[
    ("386", "i386", 1, 1, 3),
    ("amd64", "x86_64", 2, 1, 62),
    ("arm", "arm", 1, 1, 40),
    ("arm64", "aarch64", 2, 1, 183),
    ("loong64", "loongarch64", 2, 1, 258),
    ("mips", "mips", 1, 2, 8),
    ("mips64", "mips64", 2, 2, 8),
    ("mips64le", "mips64el", 2, 1, 8),
    ("mipsle", "mipsel", 1, 1, 8),
    ("ppc64", "ppc64", 2, 2, 21),
    ("ppc64le", "ppc64le", 2, 1, 21),
    ("riscv64", "riscv64", 2, 1, 243),
    ("s390x", "s390x", 2, 2, 22),
];

impl Engine {
    /// What the error of a start means where the image is for another architecture.
    pub(crate) fn explained(&self, config: &Config, error: Error) -> Error {
        let refused = match error.kind() {
            Kind::ProgramNotExecutable => {
                let line = error.line().to_ascii_lowercase();
                line.contains("exec format error")
            }
            // The interpreter may be what is missing.
            Kind::ProgramNotFound => true,
            _ => false,
        };
        if !refused {
            return error;
        }
        let record = Digest::from_sha256_hex(&config.image_id)
            .and_then(|id| self.store().ok()?.record(&id).ok()?);
        let reason = record.and_then(|record| {
            let platform = record.platform();
            let format = error.kind() == Kind::ProgramNotExecutable;
            Some((missing(Path::new(BINFMT), &platform, format)?, platform))
        });
        match reason {
            Some((reason, platform)) => Error::new(
                error.kind(),
                format!(
                    "the image is for {platform}, and this machine is {}: {reason}",
                    Platform::host()
                ),
            ),
            None => error,
        }
    }
}

/// What a program of another architecture lacks here; `None` if nothing is known to be missing.
/// `refused` says that the kernel did not know its format.
fn missing(binfmt: &Path, platform: &Platform, refused: bool) -> Option<String> {
    let host = Platform::host();
    let is_own = host.architecture == platform.architecture;
    // The processor runs both.
    let is_older = host.architecture == "amd64" && platform.architecture == "386";
    if is_own || is_older {
        return None;
    }
    let mut known = ARCHITECTURES.iter();
    let (_, qemu, class, order, machine) = known.find(|known| known.0 == platform.architecture)?;
    let install = format!(
        "install qemu-user-static, or take an image for this machine with --platform {host}"
    );
    let status = fs::read_to_string(binfmt.join("status"));
    match status.as_deref().map(str::trim) {
        _ if !refused => {}
        Err(_) => {
            return Some(format!(
                "binfmt_misc, by which the kernel would find qemu-{qemu}, is not mounted at \
                 {BINFMT}: {install}"
            ));
        }
        Ok("enabled") => {}
        Ok(_) => {
            return Some(format!(
                "binfmt_misc is switched off: as root, echo 1 > {BINFMT}/status"
            ));
        }
    }
    let header = header(*class, *order, *machine);
    let mut entries: Vec<Entry> = entries(binfmt);
    entries.retain(|entry| entry.fits(&header));
    match entries.iter().find(|entry| entry.enabled) {
        Some(entry) if entry.is_open => None,
        Some(entry) => Some(format!(
            "its interpreter {} is looked for in the image, because it is registered without the \
             flag F: {install}",
            entry.interpreter
        )),
        None if !refused => None,
        None => Some(match entries.first() {
            Some(entry) => format!(
                "binfmt_misc knows {}, but it is switched off: as root, echo 1 > {BINFMT}/{}",
                entry.interpreter, entry.name
            ),
            None => format!("binfmt_misc knows no interpreter such as qemu-{qemu}: {install}"),
        }),
    }
}

/// The beginning of a program's file.
fn header(class: u8, order: u8, machine: u16) -> [u8; 20] {
    let number = |number: u16| match order {
        1 => number.to_le_bytes(),
        _ => number.to_be_bytes(),
    };
    let mut header = [0; 20];
    header[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, order, 1]);
    header[16..18].copy_from_slice(&number(2));
    header[18..].copy_from_slice(&number(machine));
    header
}

/// An interpreter that the kernel knows.
#[derive(Debug, Default)]
struct Entry {
    name: String,
    enabled: bool,
    interpreter: String,
    /// Whether it was opened when it was registered, so that the image need not have it.
    is_open: bool,
    offset: usize,
    magic: Vec<u8>,
    mask: Vec<u8>,
}

impl Entry {
    fn parse(name: &str, text: &str) -> Self {
        let mut entry = Self {
            name: name.to_owned(),
            ..Self::default()
        };
        for line in text.lines() {
            match line.split_once(' ').unwrap_or((line, "")) {
                ("enabled", _) => entry.enabled = true,
                ("interpreter", path) => path.clone_into(&mut entry.interpreter),
                ("flags:", flags) => entry.is_open = flags.contains('F'),
                ("offset", number) => entry.offset = number.parse().unwrap_or(usize::MAX),
                ("magic", digits) => entry.magic = bytes(digits),
                ("mask", digits) => entry.mask = bytes(digits),
                _ => {}
            }
        }
        entry
    }

    fn fits(&self, header: &[u8]) -> bool {
        let part = header.get(self.offset..).unwrap_or_default();
        let mask = |position: usize| self.mask.get(position).copied().unwrap_or(0xff);
        // One by extension has no magic.
        !self.magic.is_empty()
            && self.magic.len() <= part.len()
            && (self.magic.iter().zip(part).enumerate())
                .all(|(position, (magic, byte))| (magic ^ byte) & mask(position) == 0)
    }
}

fn bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks_exact(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map_while(byte).collect()
}

fn entries(binfmt: &Path) -> Vec<Entry> {
    let files = fs::read_dir(binfmt).into_iter().flatten().flatten();
    let entries = files.filter_map(|file| {
        let name = file.file_name().into_string().ok()?;
        let is_entry = name != "register" && name != "status";
        let text = is_entry.then(|| fs::read_to_string(file.path()).ok())??;
        Some(Entry::parse(&name, &text))
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel shows what qemu-user-static registers.
    fn registered(flags: &str, state: &str) -> String {
        let magic = "7f454c460201010000000000000000000200b700";
        let mask = "ffffffffffffff00fffffffffffffffffeffffff";
        format!(
            "{state}\ninterpreter /usr/bin/qemu-aarch64\nflags: {flags}\noffset 0\nmagic {magic}\n\
             mask {mask}\n"
        )
    }

    #[test]
    fn what_is_missing_is_named() {
        let host = Platform::host().architecture;
        let foreign = if host == "arm64" { "amd64" } else { "arm64" };
        let arm64: Platform = format!("linux/{foreign}").parse().unwrap();
        let own: Platform = format!("linux/{host}").parse().unwrap();
        let binfmt = tempfile::tempdir().unwrap();
        let path = binfmt.path();
        let said = |refused| missing(path, &arm64, refused).unwrap_or_default();
        assert!(said(true).contains("is not mounted"), "{}", said(true));
        fs::write(path.join("status"), "disabled\n").unwrap();
        assert!(said(true).contains("is switched off"), "{}", said(true));
        fs::write(path.join("status"), "enabled\n").unwrap();
        assert!(said(true).contains("qemu-user-static"), "{}", said(true));
        assert_eq!(said(false), "");
        assert_eq!(missing(path, &own, true), None);
        if foreign == "arm64" {
            let entry = path.join("qemu-aarch64");
            for (flags, state, part) in [
                (
                    "F",
                    "disabled",
                    "echo 1 > /proc/sys/fs/binfmt_misc/qemu-aarch64",
                ),
                ("", "enabled", "without the flag F"),
                ("OCF", "enabled", ""),
            ] {
                fs::write(&entry, registered(flags, state)).unwrap();
                let said = said(true);
                assert!(
                    said.contains(part) && said.is_empty() == part.is_empty(),
                    "{said}"
                );
            }
        }
    }

    #[test]
    fn a_program_fits_what_was_registered_for_it() {
        let entry = Entry::parse("a", &registered("F", "enabled"));
        assert!(entry.enabled && entry.is_open);
        assert!(entry.fits(&header(2, 1, 183)));
        assert!(!entry.fits(&header(2, 1, 62)));
        let by_extension = "enabled\ninterpreter /x\nflags: \nextension .py\n";
        assert!(!Entry::parse("b", by_extension).fits(&header(2, 1, 183)));
    }
}
