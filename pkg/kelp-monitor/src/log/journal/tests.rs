//! Tests of the journal's writer, with a socket of their own for the journal's.

use std::collections::BTreeMap;
use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use rustix::fs::SealFlags as Seal;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::*;
use crate::launch::LogConfig;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What stands in for journald.
struct Listener {
    _directory: tempfile::TempDir,
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Listener {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let mut listener = Self {
            _directory: directory,
            path,
            socket: None,
        };
        listener.listen();
        listener
    }

    fn listen(&mut self) {
        let _ = fs::remove_file(&self.path);
        let socket = UnixDatagram::bind(&self.path).unwrap();
        socket.set_nonblocking(true).unwrap();
        self.socket = Some(socket);
    }

    fn writer(&self, log: &LogConfig) -> Journal {
        let of = Origin {
            id: &ID.parse().unwrap(),
            name: "web",
            image: "docker.io/library/busybox:latest",
            log,
        };
        Journal::open(&self.path, &of).unwrap()
    }

    /// One entry as it came; `None` if there is none.
    fn raw(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 1 << 20];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let socket = self.socket.as_ref().unwrap();
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let received = recvmsg(socket, &mut slices, &mut control, RecvFlags::empty());
        let length = received.ok()?.bytes;
        buffer.truncate(length);
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message {
                assert_eq!(length, 0, "either a datagram or a file");
                let file = fs::File::from(fds.next().unwrap());
                let seals = rustix::fs::fcntl_get_seals(&file).unwrap();
                assert_eq!(
                    seals,
                    Seal::SEAL | Seal::SHRINK | Seal::GROW | Seal::WRITE,
                    "journald takes no other"
                );
                buffer = vec![0; file.metadata().unwrap().len() as usize];
                std::os::unix::fs::FileExt::read_exact_at(&file, &mut buffer, 0).unwrap();
            }
        }
        Some(buffer)
    }

    fn entry(&self) -> Option<Fields> {
        self.raw().map(|raw| parse(&raw))
    }

    /// Texts of all that is there, each with the first letter of its stream and a mark if it goes on.
    fn texts(&self) -> Vec<String> {
        let entries = std::iter::from_fn(|| self.entry());
        entries.map(|entry| text(&entry)).collect()
    }
}

type Fields = BTreeMap<String, Vec<u8>>;

/// What the protocol says, by another implementation of it.
fn parse(mut raw: &[u8]) -> Fields {
    let mut fields = Fields::new();
    while !raw.is_empty() {
        let end = raw.iter().position(|&byte| byte == b'\n').unwrap();
        let line = std::str::from_utf8(&raw[..end]).unwrap();
        raw = &raw[end + 1..];
        let (key, value) = if let Some((key, value)) = line.split_once('=') {
            (key, value.as_bytes())
        } else {
            let (length, rest) = raw.split_first_chunk().unwrap();
            let (value, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
            raw = rest.strip_prefix(b"\n").unwrap();
            (line, value)
        };
        assert!(fields.insert(key.to_owned(), value.to_owned()).is_none());
    }
    fields
}

fn text(entry: &Fields) -> String {
    let Some(kind) = entry.get("CONTAINER_ID_FULL").map(|_| &entry["PRIORITY"]) else {
        return format!("end {}", String::from_utf8_lossy(&entry[END]));
    };
    let stream = match &**kind {
        b"6" => 'o',
        b"3" => 'e',
        other => panic!("{other:?}"),
    };
    let goes_on = entry.contains_key("CONTAINER_PARTIAL_MESSAGE");
    let text = String::from_utf8_lossy(&entry["MESSAGE"]);
    format!("{stream} {text}{}", if goes_on { "…" } else { "" })
}

fn began() -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(5)
}

#[test]
fn an_entry_has_the_fields_of_podman_and_docker() {
    let listener = Listener::new();
    let usual = [
        ("PRIORITY", "6"),
        ("CONTAINER_ID", &ID[..12]),
        ("CONTAINER_ID_FULL", ID),
        ("CONTAINER_NAME", "web"),
        ("IMAGE_NAME", "docker.io/library/busybox:latest"),
        ("SYSLOG_IDENTIFIER", "web"),
        ("MESSAGE", "hello"),
    ];
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    for (tag, labels, other) in [
        (None, vec![], vec![]),
        (
            Some("a\ntag"),
            vec![label("TIER", "front"), label("ODD", "a=b\n\nc")],
            vec![
                ("CONTAINER_TAG", "a\ntag"),
                ("SYSLOG_IDENTIFIER", "a\ntag"),
                ("TIER", "front"),
                ("ODD", "a=b\n\nc"),
            ],
        ),
    ] {
        let mut writer = listener.writer(&LogConfig {
            tag: tag.map(str::to_owned),
            labels,
            ..LogConfig::default()
        });
        writer.keep(Stream::Stdout, b"hello\n");
        let expected = usual.iter().copied().chain(other);
        let expected: Fields = expected
            .map(|(key, value)| (key.to_owned(), value.as_bytes().to_owned()))
            .collect();
        assert_eq!(listener.entry(), Some(expected));
    }
}

#[test]
fn lines_are_entries_and_their_bytes_stay_as_they_are() {
    let listener = Listener::new();
    let mut writer = listener.writer(&LogConfig::default());
    writer.keep(Stream::Stdout, b"one\ntw");
    writer.keep(Stream::Stderr, b"err\n");
    writer.keep(Stream::Stdout, b"o\n\nMESSAGE=x\nend");
    assert_eq!(
        listener.texts(),
        ["o one", "e err", "o two", "o ", "o MESSAGE=x"]
    );
    writer.finish(began());
    assert_eq!(listener.texts(), ["o end", "end 5"]);
    let odd = b"\0\xff\xfe\r\x1b[0m =";
    writer.keep(Stream::Stderr, &[odd.as_slice(), b"\n"].concat());
    assert_eq!(listener.entry().unwrap()["MESSAGE"], odd);
}

#[test]
fn a_run_is_followed_by_an_entry_that_is_none_of_its_output() {
    let listener = Listener::new();
    let mut writer = listener.writer(&LogConfig::default());
    writer.finish(began());
    let entry = listener.entry().unwrap();
    assert_eq!(entry[OF], ID.as_bytes());
    assert_eq!(entry[END], end_mark(began()).as_bytes());
    assert_eq!(entry["PRIORITY"], b"7");
    for key in entry.keys() {
        assert!(!key.starts_with("CONTAINER"), "{key}");
    }
}

#[test]
fn a_line_longer_than_an_entry_says_that_it_goes_on() {
    for (length, pieces) in [
        (PART, vec![PART]),
        (PART + 1, vec![PART, 1]),
        (2 * PART, vec![PART, PART]),
        (2 * PART + 7, vec![PART, PART, 7]),
    ] {
        for chunk in [1000, PART, PART + 1, usize::MAX] {
            let listener = Listener::new();
            let mut writer = listener.writer(&LogConfig::default());
            let line: Vec<u8> = (0..length).map(|at| b'a' + (at % 26) as u8).collect();
            let bytes = [&line, b"\nnext\n".as_slice()].concat();
            let mut entries = Vec::new();
            for piece in bytes.chunks(chunk.min(bytes.len())) {
                writer.keep(Stream::Stdout, piece);
                entries.extend(std::iter::from_fn(|| listener.entry()));
                while writer.is_waiting() {
                    writer.go_on();
                    entries.extend(std::iter::from_fn(|| listener.entry()));
                }
            }
            assert_eq!(text(&entries.pop().unwrap()), "o next");
            let found: Vec<_> = entries.iter().map(|entry| entry["MESSAGE"].len()).collect();
            assert_eq!(found, pieces, "{length} by {chunk}");
            let marks = entries
                .iter()
                .map(|entry| entry.contains_key("CONTAINER_PARTIAL_MESSAGE"));
            let last = pieces.len() - 1;
            assert!(marks.eq((0..=last).map(|number| number < last)));
            let joined: Vec<_> = entries
                .iter()
                .flat_map(|entry| entry["MESSAGE"].clone())
                .collect();
            assert!(joined == line, "{length} by {chunk}");
        }
    }
}

#[test]
fn what_a_full_socket_has_no_room_for_waits_and_comes_in_order() {
    let listener = Listener::new();
    let mut writer = listener.writer(&LogConfig::default());
    let line = |number: usize| format!("o {number} {}", "x".repeat(number % 50));
    let text: String = (0..5000)
        .map(|number| line(number)[2..].to_owned() + "\n")
        .collect();
    for chunk in text.as_bytes().chunks(10_000) {
        writer.keep(Stream::Stdout, chunk);
    }
    writer.finish(began());
    assert!(writer.is_waiting() && writer.awaited().is_some());
    let mut found = Vec::new();
    loop {
        found.extend(listener.texts());
        if !writer.is_waiting() {
            break;
        }
        writer.go_on();
    }
    let expected = (0..5000).map(line).chain(["end 5".to_owned()]);
    assert!(found.iter().cloned().eq(expected), "{}", found.len());
    assert_eq!((writer.due(), writer.awaited().is_none()), (None, true));
}

#[test]
fn a_full_journal_is_waited_for_without_an_end_while_the_program_runs() {
    let listener = Listener::new();
    let mut writer = listener.writer(&LogConfig::default());
    writer.keep(Stream::Stdout, "x\n".repeat(5000).as_bytes());
    assert!(writer.is_waiting());
    assert_eq!(writer.due(), None);
    let long_ago = |writer: &mut Journal| {
        let hindrance = writer.hindrance.as_mut().unwrap();
        hindrance.since = hindrance.since.checked_sub(PATIENCE).unwrap();
    };
    long_ago(&mut writer);
    writer.go_on();
    assert!(writer.is_waiting());
    // After the end it is, and the patience begins with that.
    writer.finish(began());
    assert!(writer.is_waiting() && writer.due().is_some());
    long_ago(&mut writer);
    writer.go_on();
    assert!(!writer.is_waiting() && writer.due().is_none());
}

#[test]
fn an_entry_too_large_for_a_datagram_is_sent_as_a_sealed_file() {
    let listener = Listener::new();
    let value = "v".repeat(600_000);
    let mut writer = listener.writer(&LogConfig {
        labels: vec![("LARGE".to_owned(), value.clone())],
        ..LogConfig::default()
    });
    writer.keep(Stream::Stdout, b"one\ntwo\n");
    for text in ["one", "two"] {
        let entry = listener.entry().unwrap();
        assert_eq!(entry["MESSAGE"], text.as_bytes());
        assert!(entry["LARGE"] == value.as_bytes());
    }
}

#[test]
fn a_journal_that_comes_back_gets_what_waited() {
    let mut listener = Listener::new();
    let mut writer = listener.writer(&LogConfig::default());
    writer.keep(Stream::Stdout, b"before\n");
    assert_eq!(listener.texts(), ["o before"]);
    listener.socket = None;
    writer.keep(Stream::Stdout, b"mean\n");
    writer.keep(Stream::Stderr, b"while\n");
    assert!(writer.is_waiting() && writer.due().is_some());
    listener.listen();
    writer.go_on();
    assert!(!writer.is_waiting());
    writer.keep(Stream::Stdout, b"after\n");
    assert_eq!(listener.texts(), ["o mean", "e while", "o after"]);
    // One that is replaced between two lines is found at once.
    listener.listen();
    writer.keep(Stream::Stdout, b"again\n");
    assert_eq!(listener.texts(), ["o again"]);
}

#[test]
fn a_journal_that_stays_away_holds_nobody_up_for_ever() {
    let mut listener = Listener::new();
    let mut writer = listener.writer(&LogConfig::default());
    // A part, and more of its line.
    writer.keep(Stream::Stdout, "x".repeat(PART + 1).as_bytes());
    assert_eq!(listener.texts().len(), 1);
    listener.socket = None;
    writer.keep(Stream::Stdout, b"\n");
    assert!(writer.is_waiting());
    let hindrance = writer.hindrance.as_mut().unwrap();
    hindrance.since = hindrance.since.checked_sub(PATIENCE).unwrap();
    writer.go_on();
    assert!(!writer.is_waiting());
    writer.keep(Stream::Stdout, b"lost as well\n");
    assert!(!writer.is_waiting());
    listener.listen();
    writer.keep(Stream::Stdout, b"found\n");
    // What was open has an end, and does not go on with what comes after the gap.
    assert_eq!(listener.texts(), ["o ", "o found"]);
}

#[test]
fn without_a_journal_there_is_no_writer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let missing = is_there(&path).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    drop(UnixDatagram::bind(&path).unwrap());
    let dead = is_there(&path).unwrap_err();
    assert_eq!(dead.kind(), io::ErrorKind::ConnectionRefused);
    let alive = Listener::new();
    is_there(&alive.path).unwrap();
}
