//! Tests of reading logs.

use std::fs;
use std::path::PathBuf;

use super::*;

#[derive(Default)]
struct Text(String);

impl LogSink for Text {
    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        self.0.push_str(std::str::from_utf8(line.text).unwrap());
        if line.ends {
            self.0.push('\n');
        }
        Ok(())
    }

    fn idle(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn config(directory: &Path, max_files: u32) -> LogConfig {
    LogConfig {
        path: directory.join("log"),
        max_files,
        ..LogConfig::default()
    }
}

fn read(log: &LogConfig, request: &LogRequest) -> String {
    let files = files::open_all(log).unwrap();
    let starts = match request.tail {
        Some(count) => tail::find(&files, count).unwrap(),
        None => [(0, 0); 2],
    };
    let mut text = Text::default();
    let mut reader = Reader {
        sink: &mut text,
        joiner: Joiner::default(),
        starts,
        whole: false,
        since: request.since.map(line::stamp),
        until: request.until.map(line::stamp),
    };
    assert!(reader.read(log, files, None, None).is_ok());
    text.0
}

fn tail_of(log: &LogConfig, count: u64) -> String {
    let request = LogRequest {
        tail: Some(count),
        ..LogRequest::default()
    };
    read(log, &request)
}

#[test]
fn rotated_files_are_read_oldest_first() {
    let directory = tempfile::tempdir().unwrap();
    let log = config(directory.path(), 3);
    assert_eq!(read(&log, &LogRequest::default()), "");
    fs::write(directory.path().join("log.2"), "t stdout F 1\n").unwrap();
    fs::write(
        directory.path().join("log.1"),
        "t stdout F 2\nt stdout F 3\n",
    )
    .unwrap();
    fs::write(directory.path().join("log"), "t stdout F 4\nt stdout F 5\n").unwrap();
    assert_eq!(read(&log, &LogRequest::default()), "1\n2\n3\n4\n5\n");
    for (count, expected) in [
        (0, ""),
        (1, "5\n"),
        (2, "4\n5\n"),
        (3, "3\n4\n5\n"),
        (5, "1\n2\n3\n4\n5\n"),
        (6, "1\n2\n3\n4\n5\n"),
    ] {
        assert_eq!(tail_of(&log, count), expected, "{count}");
    }
}

#[test]
fn a_tail_counts_whole_lines() {
    let directory = tempfile::tempdir().unwrap();
    let log = config(directory.path(), 1);
    fs::write(
        &log.path,
        "t stdout F 1\nt stdout P tw\nt stderr F err\nt stdout P o\nt stdout F s\nt stdout P end\n",
    )
    .unwrap();
    for (count, expected) in [
        (1, "end"),
        (2, "twos\nend"),
        (3, "err\ntwos\nend"),
        (4, "1\nerr\ntwos\nend"),
    ] {
        assert_eq!(tail_of(&log, count), expected, "{count}");
    }
}

#[test]
fn a_tail_is_found_across_blocks() {
    let directory = tempfile::tempdir().unwrap();
    let log = config(directory.path(), 1);
    let line = |number: usize| format!("t stdout F {number} {}\n", "x".repeat(number * 7 % 20_000));
    let text: String = (0..200).map(line).collect();
    fs::write(&log.path, text).unwrap();
    let all = read(&log, &LogRequest::default());
    let lines: Vec<_> = all.lines().collect();
    for count in [1, 2, 63, 199, 200] {
        let expected = lines[200 - count..].join("\n") + "\n";
        assert_eq!(tail_of(&log, count as u64), expected, "{count}");
    }
}

#[test]
fn times_limit_what_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let log = config(directory.path(), 1);
    let stamp =
        |second: u64| line::stamp(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second));
    let lines: Vec<_> = (1..=5)
        .map(|second| format!("{} stdout F {second}\n", stamp(second)))
        .collect();
    fs::write(&log.path, lines.concat()).unwrap();
    let at = |second| Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second));
    for (since, until, expected) in [
        (None, None, "1\n2\n3\n4\n5\n"),
        (at(2), at(4), "2\n3\n4\n"),
        (at(6), None, ""),
        (None, at(0), ""),
    ] {
        let request = LogRequest {
            since,
            until,
            ..LogRequest::default()
        };
        assert_eq!(read(&log, &request), expected);
    }
}

#[test]
fn a_successor_is_found_after_any_number_of_rotations() {
    let directory = tempfile::tempdir().unwrap();
    let log = config(directory.path(), 3);
    let path = |name: &str| directory.path().join(name);
    fs::write(path("log"), "a").unwrap();
    let current = LogFile::open(&path("log")).unwrap().unwrap();
    assert!(files::next(&log, &current).unwrap().is_none());
    let rotate = |content: &str| {
        let _ = fs::rename(path("log.1"), path("log.2"));
        fs::rename(path("log"), path("log.1")).unwrap();
        fs::write(path("log"), content).unwrap();
    };
    let content = |file: Option<LogFile>| io::read_to_string(file.unwrap().file).unwrap();
    rotate("b");
    assert_eq!(content(files::next(&log, &current).unwrap()), "b");
    rotate("c");
    assert_eq!(content(files::next(&log, &current).unwrap()), "b");
    rotate("d");
    // The file itself has fallen off: what is oldest now is the best there is.
    assert_eq!(content(files::next(&log, &current).unwrap()), "b");
    fs::remove_file(path("log")).unwrap();
    assert!(files::next(&log, &current).unwrap().is_none());
}

/// Rotates the log twice whenever it is given the first line of a piece.
struct Rotating {
    directory: PathBuf,
    rotations: u32,
    text: String,
}

impl LogSink for Rotating {
    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        let text = std::str::from_utf8(line.text).unwrap();
        if text.starts_with("piece") {
            for _ in 0..2 {
                self.rotations += 1;
                let path = |name: &str| self.directory.join(name);
                let _ = fs::rename(path("log.1"), path("log.2"));
                fs::rename(path("log"), path("log.1")).unwrap();
                fs::write(path("log"), format!("t stdout F {}\n", self.rotations)).unwrap();
            }
        }
        if !text.ends_with('.') {
            self.text.push_str(text);
            self.text.push(' ');
        }
        Ok(())
    }

    fn idle(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_follower_that_is_slow_keeps_what_falls_off() {
    let directory = tempfile::tempdir().unwrap();
    let log = config(directory.path(), 3);
    // Each piece is one read.
    let mut content = String::new();
    for number in 0..4 {
        let line = format!("t stdout F piece{number}\n");
        content.push_str(&line);
        let filler = "t stdout F ";
        let rest = (64 << 10) - line.len() - filler.len() - 2;
        content.extend([filler, &"x".repeat(rest), ".\n"]);
    }
    fs::write(directory.path().join("log"), content).unwrap();
    let mut sink = Rotating {
        directory: directory.path().to_owned(),
        rotations: 0,
        text: String::new(),
    };
    let mut reader = Reader {
        sink: &mut sink,
        joiner: Joiner::default(),
        starts: [(0, 0); 2],
        whole: false,
        since: None,
        until: None,
    };
    let mut queue = VecDeque::from(files::open_all(&log).unwrap());
    let mut index = 0;
    while let Some(mut file) = queue.pop_front() {
        let drained = reader.drain(index, &mut file, Some(&log), &mut queue);
        assert!(matches!(drained, Ok(false)));
        index += 1;
    }
    assert_eq!(sink.text, "piece0 piece1 piece2 piece3 1 2 3 4 5 6 7 8 ");
}

#[test]
fn only_a_regular_file_is_a_log() {
    let directory = tempfile::tempdir().unwrap();
    let log = config(directory.path(), 1);
    std::os::unix::fs::symlink("/etc/passwd", &log.path).unwrap();
    assert!(files::open_all(&log).is_err());
    fs::remove_file(&log.path).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &log.path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert!(files::open_all(&log).is_err());
}
