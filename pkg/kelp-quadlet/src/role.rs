//! The generator that systemd calls (systemd.generator(7)), by the name `kelp-quadlet`, or from a directory of
//! generators by any name that says so.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::draft::Host;
use crate::find::{Environment, load, reason};
use crate::generate::{Service, generate};

const USAGE: &str = "\
Usage: kelp-quadlet [FLAGS] DIRECTORY [EARLY-DIRECTORY LATE-DIRECTORY]
Makes systemd services from Quadlet files, in DIRECTORY.

  -dryrun       print the services, and what is wrong, instead
  -no-kmsg-log  tell what is wrong on standard error, and not in the kernel's log
  -user         read the user's units; so it does for everybody but root
  -v            tell what is done
  -version      print the version
";

/// Whether kelp was called as the generator.
pub fn is_name(program: &OsStr) -> bool {
    let name = Path::new(program).file_name().and_then(OsStr::to_str);
    matches!(
        name,
        Some(
            "kelp-quadlet"
                | "kelp-user-generator"
                | "kelp-system-generator"
                | "podman-user-generator"
                | "podman-system-generator"
        )
    )
}

/// Whether the name, or the directory that it was called from, says that the units are a user's.
fn is_users(program: &OsStr) -> bool {
    let path = Path::new(program);
    let is = |name: Option<&OsStr>| {
        name.is_some_and(|name| name.to_string_lossy().contains("user-generator"))
    };
    is(path.file_name()) || is(path.parent().and_then(Path::file_name))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Flags {
    dry_run: bool,
    no_kmsg: bool,
    user: bool,
    verbose: bool,
    version: bool,
    help: bool,
    directory: Option<OsString>,
}

impl Flags {
    fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut flags = Self::default();
        for word in words {
            let text = word.to_string_lossy();
            let Some(flag) = text.strip_prefix('-').filter(|_| flags.directory.is_none()) else {
                // systemd gives two more, for services of other precedence.
                flags.directory.get_or_insert(word);
                continue;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, value) = flag.split_once('=').unwrap_or((flag, "true"));
            let value = match value {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                _ => return Err(format!("-{name} is true or false, and not {value:?}")),
            };
            let place = match name {
                "dryrun" => &mut flags.dry_run,
                "no-kmsg-log" => &mut flags.no_kmsg,
                "user" => &mut flags.user,
                "v" => &mut flags.verbose,
                "version" => &mut flags.version,
                "h" | "help" => &mut flags.help,
                _ => return Err(format!("-{name} is no flag of kelp-quadlet")),
            };
            *place = value;
        }
        Ok(flags)
    }
}

/// What is told, on standard error or in the kernel's log: no journal is there yet at boot.
struct Log {
    kmsg: bool,
    verbose: bool,
}

impl Log {
    fn tell(&self, text: impl std::fmt::Display) {
        let line = format!("kelp-quadlet[{}]: {text}\n", std::process::id());
        let kmsg = self
            .kmsg
            .then(|| OpenOptions::new().write(true).open("/dev/kmsg"));
        // One write is one record there.
        if let Some(Ok(mut kmsg)) = kmsg
            && kmsg.write_all(line.as_bytes()).is_ok()
        {
            return;
        }
        let _ = io::stderr().write_all(line.as_bytes());
    }

    fn detail(&self, text: impl std::fmt::Display) {
        if self.verbose {
            self.tell(text);
        }
    }
}

/// The role as a whole, with this process's arguments; `version` is what `-version` prints.
pub fn main(version: &str) -> ExitCode {
    match program() {
        Ok(kelp) => ExitCode::from(run(std::env::args_os(), &kelp, version)),
        Err(why) => {
            let log = Log {
                kmsg: true,
                verbose: false,
            };
            log.tell(why);
            ExitCode::FAILURE
        }
    }
}

/// The file that is kelp: what this process runs, unless that is a copy of it which is the generator by its
/// name; then the one beside it.
fn program() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("find kelp: {}", reason(&error)))?;
    if !is_name(own.as_os_str()) {
        return Ok(own);
    }
    let beside = own.with_file_name("kelp");
    if beside.exists() {
        return Ok(beside);
    }
    Err(format!(
        "there is no {}: make {} a link to kelp",
        beside.display(),
        own.display()
    ))
}

/// Makes the services; `kelp` is the program that they run, and `version` what `-version` prints. The exit
/// code: 1 if something was wrong with a unit, or 2 with the command line. The others are made all the same.
pub fn run(args: impl IntoIterator<Item = OsString>, kelp: &Path, version: &str) -> u8 {
    let mut args = args.into_iter();
    let program = args.next().unwrap_or_default();
    let flags = match Flags::parse(args) {
        Ok(flags) => flags,
        Err(why) => {
            let _ = io::stderr().write_all(format!("{why}\n{USAGE}").as_bytes());
            return 2;
        }
    };
    if flags.help || flags.version {
        let text = if flags.help {
            USAGE.to_owned()
        } else {
            format!("{version}\n")
        };
        return u8::from(io::stdout().write_all(text.as_bytes()).is_err());
    }
    let log = Log {
        kmsg: !flags.no_kmsg && !flags.dry_run,
        verbose: flags.verbose || flags.dry_run,
    };
    let output = match (&flags.directory, flags.dry_run) {
        (_, true) => None,
        (Some(directory), false) => Some(PathBuf::from(directory)),
        (None, false) => {
            log.tell("say in which directory the services are to be made, or -dryrun");
            return 1;
        }
    };
    let user = flags.user || is_users(&program) || !rustix::process::getuid().is_root();
    let (directories, notes) = Environment::of_process(user).directories();
    let mut failed = !notes.is_empty();
    for note in &notes {
        log.tell(note);
    }
    let (set, findings) = load(&directories);
    for finding in &findings {
        failed = true;
        log.tell(finding);
    }
    let host = Host {
        program: &kelp.to_string_lossy(),
        user: &|name| account_id("/etc/passwd", name),
        group: &|name| account_id("/etc/group", name),
        exists: &|path| path.exists(),
    };
    for outcome in generate(&set, &host) {
        log.detail(format_args!("read {}", outcome.source.path.display()));
        for finding in &outcome.findings {
            failed |= finding.is_error();
            log.tell(finding);
        }
        for service in outcome.service.iter().chain(&outcome.socket) {
            let result = match &output {
                Some(output) => {
                    log.detail(format_args!(
                        "write {}",
                        output.join(&service.name).display()
                    ));
                    write(output, service)
                }
                None => print(service),
            };
            if let Err(error) = result {
                failed = true;
                log.tell(format_args!("{}: {}", service.name, reason(&error)));
            }
        }
    }
    u8::from(failed)
}

fn print(service: &Service) -> io::Result<()> {
    let mut text = format!("---{}---\n{}", service.name, service.text);
    for link in &service.links {
        let _ = writeln!(text, "# {} -> {}", link.path, link.target);
    }
    text.push('\n');
    io::stdout().write_all(text.as_bytes())
}

/// Writes the service and its links. What cannot be linked keeps nothing else from being written.
fn write(directory: &Path, service: &Service) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let path = directory.join(&service.name);
    // Another generator may have put a link there, and what that leads to is no service.
    clear(&path)?;
    fs::File::create_new(&path)?.write_all(service.text.as_bytes())?;
    let mut result = Ok(());
    for link in &service.links {
        let path = directory.join(&link.path);
        let made = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| clear(&path))
            .and_then(|()| symlink(&link.target, &path));
        result = result.and(made);
    }
    result
}

/// Takes away what is in the place of a file, if anything is.
fn clear(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The id of a name in /etc/passwd or /etc/group: what can be known as early as generators run.
pub fn account_id(file: &str, name: &str) -> Option<u32> {
    let text = fs::read_to_string(file).ok()?;
    let mut lines = text.lines().map(|line| line.split(':'));
    let mut fields = lines.find_map(|mut fields| (fields.next()? == name).then_some(fields))?;
    fields.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_is_known_by_its_names() {
        for (name, is, users) in [
            ("kelp-quadlet", true, false),
            ("/usr/bin/kelp-quadlet", true, false),
            ("/usr/lib/systemd/user-generators/kelp-quadlet", true, true),
            (
                "/usr/lib/systemd/system-generators/kelp-quadlet",
                true,
                false,
            ),
            (
                "/usr/lib/systemd/user-generators/podman-user-generator",
                true,
                true,
            ),
            ("podman-system-generator", true, false),
            ("kelp", false, false),
            ("/kelp-quadlet/kelp", false, false),
        ] {
            assert_eq!(is_name(OsStr::new(name)), is, "{name}");
            assert_eq!(is_users(OsStr::new(name)), users, "{name}");
        }
    }

    #[test]
    fn flags_are_read_as_go_has_them() {
        let parse = |line: &str| Flags::parse(line.split_whitespace().map(OsString::from));
        let directory = Some(OsString::from("/a"));
        let user = Flags {
            user: true,
            no_kmsg: true,
            directory,
            ..Flags::default()
        };
        assert_eq!(parse("-user --no-kmsg-log=true /a /b /c"), Ok(user));
        assert!(!parse("-dryrun=false").unwrap().dry_run);
        assert_eq!(
            parse("-foo").unwrap_err(),
            "-foo is no flag of kelp-quadlet"
        );
        assert_eq!(
            parse("-v=x").unwrap_err(),
            "-v is true or false, and not \"x\""
        );
    }

    #[test]
    fn what_is_written_follows_no_link() {
        let home = tempfile::TempDir::new().unwrap();
        let (own, output) = (home.path().join("own"), home.path().join("normal"));
        fs::write(&own, "mine").unwrap();
        fs::create_dir(&output).unwrap();
        for name in ["a.service", "b.service"] {
            symlink(&own, output.join(name)).unwrap();
        }
        let service = Service {
            name: "a.service".into(),
            text: "[Unit]\n".into(),
            links: vec![crate::install::Link {
                path: "b.service".into(),
                target: "a.service".into(),
                place: None,
            }],
        };
        // A second time as well.
        for _ in 0..2 {
            write(&output, &service).unwrap();
            assert_eq!(fs::read_to_string(&own).unwrap(), "mine");
            let text = fs::read_to_string(output.join("a.service")).unwrap();
            assert_eq!(text, "[Unit]\n");
            let target = fs::read_link(output.join("b.service")).unwrap();
            assert_eq!(target, Path::new("a.service"));
        }
    }
}
