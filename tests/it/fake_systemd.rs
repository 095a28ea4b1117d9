//! A manager of units that answers as systemd does on its private socket, for where there is none: units are shell
//! scripts, and a job's result is what its script says.
//!
//! Sources: the D-Bus specification, "Message Format"; org.freedesktop.systemd1(5).

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::env::{Env, kelp_program};

/// The manager; it ends when this goes.
pub(crate) struct Systemd {
    shared: Arc<Shared>,
    socket: PathBuf,
    server: Option<JoinHandle<()>>,
}

struct Shared {
    ends: AtomicBool,
    /// The environment of scripts.
    environment: Vec<(String, String)>,
    directory: PathBuf,
    units: Mutex<BTreeMap<String, Unit>>,
    restarted: Mutex<Vec<String>>,
    stopped: Mutex<Vec<String>>,
}

#[derive(Clone)]
struct Unit {
    script: String,
    /// `ActiveState` and `SubState`.
    state: [String; 2],
}

impl Systemd {
    /// Answers in a world's runtime directory.
    pub(crate) fn serve(env: &Env) -> Self {
        let command = env.kelp(&[]).into_command();
        let pair = |(name, value): (&std::ffi::OsStr, Option<&std::ffi::OsStr>)| {
            Some((name.to_str()?.to_owned(), value?.to_str()?.to_owned()))
        };
        let shared = Arc::new(Shared {
            ends: AtomicBool::new(false),
            environment: command.get_envs().filter_map(pair).collect(),
            directory: env.path("h"),
            units: Mutex::default(),
            restarted: Mutex::default(),
            stopped: Mutex::default(),
        });
        let socket = env.runtime().join("systemd/private");
        fs::create_dir(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let for_server = Arc::clone(&shared);
        let server = thread::spawn(move || {
            for stream in listener.incoming() {
                if for_server.ends.load(Ordering::SeqCst) {
                    break;
                }
                let (shared, stream) = (Arc::clone(&for_server), stream.unwrap());
                thread::spawn(move || shared.talk(stream));
            }
        });
        Self {
            shared,
            socket,
            server: Some(server),
        }
    }

    /// Gives it a unit, and starts that. The script has kelp as `$KELP`; that it fails is the job's result, unless
    /// its last line is `=> RESULT ACTIVESTATE SUBSTATE`.
    pub(crate) fn start(&self, name: &str, script: &str) {
        self.replace(name, script);
        assert_eq!(self.shared.run(name), "done", "{name}");
    }

    /// Changes what a unit does at its next start.
    pub(crate) fn replace(&self, name: &str, script: &str) {
        let unit = Unit {
            script: script.to_owned(),
            state: ["active", "running"].map(str::to_owned),
        };
        let mut units = self.shared.units.lock().unwrap();
        units.insert(name.to_owned(), unit);
    }

    /// Which units were stopped since this was asked last, in that order.
    pub(crate) fn stopped(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.stopped.lock().unwrap())
    }

    /// Which units were started again since this was asked last, in that order.
    pub(crate) fn restarted(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.restarted.lock().unwrap())
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(&self.socket);
        let _ = self.server.take().map(JoinHandle::join);
    }
}

impl Shared {
    /// Starts a unit; its job's result.
    fn run(&self, name: &str) -> String {
        let unit = self.units.lock().unwrap()[name].clone();
        let output = Command::new("sh")
            .args(["-c", &unit.script])
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("KELP", kelp_program())
            .env("PODMAN_SYSTEMD_UNIT", name)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let last = said
            .lines()
            .last()
            .and_then(|line| line.strip_prefix("=> "));
        let usual = if output.status.success() {
            "done active running"
        } else {
            "failed failed failed"
        };
        let mut words = last.unwrap_or(usual).split(' ').map(str::to_owned);
        let result = words.next().unwrap();
        let state = [words.next().unwrap(), words.next().unwrap()];
        if let Some(unit) = self.units.lock().unwrap().get_mut(name) {
            unit.state = state;
        }
        result
    }

    /// Answers to one client.
    fn talk(&self, mut stream: UnixStream) {
        let mut greeting = Vec::new();
        while !greeting.ends_with(b"BEGIN\r\n") {
            let mut byte = [0];
            if stream.read_exact(&mut byte).is_err() {
                return;
            }
            greeting.push(byte[0]);
        }
        let answer = b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n";
        if stream.write_all(answer).is_err() {
            return;
        }
        while let Some(call) = Call::read(&mut stream) {
            for message in self.answers(&call) {
                // Who has gone does not hear it.
                let _ = stream.write_all(&message());
            }
        }
    }

    /// The messages that a call is answered with, each made when the one before has been sent.
    fn answers<'a>(&'a self, call: &'a Call) -> Vec<Box<dyn FnOnce() -> Vec<u8> + 'a>> {
        let arguments = call.strings();
        let is_known = |unit: &str| self.units.lock().unwrap().contains_key(unit);
        match (call.member.as_str(), arguments.as_slice()) {
            ("RestartUnit", [unit, mode]) if is_known(unit) && mode == "replace" => {
                let unit = unit.clone();
                let job = "/org/freedesktop/systemd1/job/7";
                self.restarted.lock().unwrap().push(unit.clone());
                let removed = move || {
                    let result = self.run(&unit);
                    let mut body = 7_u32.to_le_bytes().to_vec();
                    for text in [job, &unit, &result] {
                        string(&mut body, text);
                    }
                    message(4, &[(3, "s", "JobRemoved"), (8, "g", "uoss")], None, &body)
                };
                vec![
                    Box::new(move || call.returns("o", &text(job))),
                    Box::new(removed),
                ]
            }
            ("StopUnit", [unit, mode]) if is_known(unit) && mode == "replace" => {
                let unit = unit.clone();
                let job = "/org/freedesktop/systemd1/job/8";
                let removed = move || {
                    let state = ["inactive", "dead"].map(str::to_owned);
                    self.units.lock().unwrap().get_mut(&unit).unwrap().state = state;
                    self.stopped.lock().unwrap().push(unit.clone());
                    let mut body = 8_u32.to_le_bytes().to_vec();
                    for text in [job, &unit, "done"] {
                        string(&mut body, text);
                    }
                    message(4, &[(3, "s", "JobRemoved"), (8, "g", "uoss")], None, &body)
                };
                vec![
                    Box::new(move || call.returns("o", &text(job))),
                    Box::new(removed),
                ]
            }
            ("Reload", _) => vec![Box::new(|| message(2, &[], Some(call.serial), &[]))],
            ("ListUnitsByPatterns", _) => vec![Box::new(|| self.list(call))],
            ("RestartUnit", _) => vec![Box::new(|| call.refused("NoSuchUnit"))],
            ("Get", [_, name]) => vec![Box::new({
                let value = self.property(&call.path, name);
                move || {
                    let mut body = vec![1, b's', 0];
                    string(&mut body, &value);
                    call.returns("v", &body)
                }
            })],
            _ => vec![Box::new(|| call.refused("UnknownMethod"))],
        }
    }

    /// The units whose names are among the patterns, or are instances of a template among them.
    fn list(&self, call: &Call) -> Vec<u8> {
        // Behind an empty list of states and the length of the patterns.
        let patterns = strings(&call.body[8..]);
        let fits = |name: &str| {
            patterns
                .iter()
                .any(|pattern| match pattern.split_once('*') {
                    Some((before, after)) => name.starts_with(before) && name.ends_with(after),
                    None => name == pattern,
                })
        };
        let mut listed = Vec::new();
        for (name, unit) in self
            .units
            .lock()
            .unwrap()
            .iter()
            .filter(|(name, _)| fits(name))
        {
            align(&mut listed, 8);
            let [active, sub] = &unit.state;
            for word in [name, "", "loaded", active, sub, "", "/unit"] {
                string(&mut listed, word);
            }
            align(&mut listed, 4);
            listed.extend(0_u32.to_le_bytes());
            for word in ["", "/"] {
                string(&mut listed, word);
            }
        }
        let mut body = (listed.len() as u32).to_le_bytes().to_vec();
        align(&mut body, 8);
        body.extend(listed);
        call.returns("a(ssssssouso)", &body)
    }

    fn property(&self, path: &str, name: &str) -> String {
        let units = self.units.lock().unwrap();
        let place = path.rsplit('/').next().unwrap();
        let is_it = |unit: &&String| unit.replace('.', "_2e") == place;
        let unit = units.keys().find(is_it).map(|name| &units[name]);
        match (name, unit) {
            ("LoadState", None) => "not-found".to_owned(),
            ("LoadState", Some(_)) => "loaded".to_owned(),
            ("ActiveState", Some(unit)) => unit.state[0].clone(),
            ("SubState", Some(unit)) => unit.state[1].clone(),
            _ => "inactive".to_owned(),
        }
    }
}

/// A call of a method.
struct Call {
    serial: u32,
    path: String,
    member: String,
    body: Vec<u8>,
}

impl Call {
    fn read(stream: &mut UnixStream) -> Option<Self> {
        let mut header = [0; 16];
        stream.read_exact(&mut header).ok()?;
        assert_eq!((header[0], header[1]), (b'l', 1), "a call, little-endian");
        let body_length = number(&header, 4) as usize;
        let fields_length = number(&header, 12) as usize;
        let mut rest = vec![0; fields_length.next_multiple_of(8) + body_length];
        stream.read_exact(&mut rest).ok()?;
        let (mut path, mut member) = (String::new(), String::new());
        let mut at = 0;
        while at < fields_length {
            at = at.next_multiple_of(8);
            // A code, a signature of one letter, and a text: of an object, of something, or a signature.
            let (code, kind) = (rest[at], rest[at + 2]);
            at += 4;
            let length = if kind == b'g' {
                at += 1;
                usize::from(rest[at - 1])
            } else {
                at += 4;
                number(&rest, at - 4) as usize
            };
            let value = String::from_utf8(rest[at..at + length].to_vec()).unwrap();
            at += length + 1;
            match code {
                1 => path = value,
                3 => member = value,
                _ => {}
            }
        }
        Some(Self {
            serial: number(&header, 8),
            path,
            member,
            body: rest.split_off(fields_length.next_multiple_of(8)),
        })
    }

    /// Its arguments, as far as they are texts.
    fn strings(&self) -> Vec<String> {
        strings(&self.body)
    }

    fn returns(&self, signature: &str, body: &[u8]) -> Vec<u8> {
        message(2, &[(8, "g", signature)], Some(self.serial), body)
    }

    fn refused(&self, name: &str) -> Vec<u8> {
        let name = format!("org.freedesktop.systemd1.{name}");
        let fields = [(4, "s", name.as_str()), (8, "g", "s")];
        message(3, &fields, Some(self.serial), &text("it is refused"))
    }
}

/// Texts, one after the other.
fn strings(bytes: &[u8]) -> Vec<String> {
    let mut strings = Vec::new();
    let mut at = 0;
    while at + 4 <= bytes.len() {
        let length = number(bytes, at) as usize;
        let Some(text) = bytes.get(at + 4..at + 4 + length) else {
            break;
        };
        strings.push(String::from_utf8_lossy(text).into_owned());
        at = (at + 4 + length + 1).next_multiple_of(4);
    }
    strings
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn align(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    align(bytes, 4);
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    string(&mut bytes, text);
    bytes
}

/// A message of a kind, with fields of a code, a type and a text.
fn message(kind: u8, fields: &[(u8, &str, &str)], reply_to: Option<u32>, body: &[u8]) -> Vec<u8> {
    let mut list = Vec::new();
    if let Some(serial) = reply_to {
        list.extend([5, 1, b'u', 0]);
        list.extend(serial.to_le_bytes());
    }
    for (code, typ, value) in fields {
        align(&mut list, 8);
        list.extend([*code, 1, typ.as_bytes()[0], 0]);
        if *typ == "g" {
            list.push(value.len() as u8);
            list.extend(value.as_bytes());
            list.push(0);
        } else {
            string(&mut list, value);
        }
    }
    let mut bytes = vec![b'l', kind, 0, 1];
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend((list.len() as u32).to_le_bytes());
    bytes.extend(list);
    align(&mut bytes, 8);
    bytes.extend(body);
    bytes
}
