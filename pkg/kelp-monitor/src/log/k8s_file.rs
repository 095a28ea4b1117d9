//! The `k8s-file` log: lines as the CRI writes them, rotated by rename.
//!
//! `2026-01-02T15:04:05.123456789Z stdout F text`: F ends a line, P is a part of one. Time is UTC.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::SystemTime;

use rustix::fs::OFlags;
use rustix::time::{ClockId, clock_gettime};

use super::Stream;
use crate::launch::LogConfig;

/// The longest part of a line that is written as one; longer ones are several parts.
const PART: usize = 16 * 1024;

/// Writes a container's log to a file.
#[derive(Debug)]
pub struct K8sFile {
    file: Option<File>,
    path: PathBuf,
    size: u64,
    max_size: u64,
    max_files: u32,
    buffer: Vec<u8>,
    stamp: Stamp,
    /// Whether the last part of each stream lacks its end.
    open: [bool; 2],
    /// The same of what the file has.
    open_in_file: [bool; 2],
    /// Whether something of each stream was lost since the last part of it in the file.
    lost: [bool; 2],
    /// Whether the old file was put away and the new one could not be opened yet.
    put_away: bool,
}

impl K8sFile {
    /// Opens the log for appending.
    ///
    /// # Errors
    /// If the file is not a regular one: a restored record may hold a link, and whoever reads a named
    /// pipe could hold up the monitor.
    pub fn open(config: &LogConfig) -> io::Result<Self> {
        let mut writer = Self {
            file: None,
            path: config.path.clone(),
            size: 0,
            max_size: config.max_size,
            max_files: config.max_files.max(1),
            buffer: Vec::new(),
            stamp: Stamp::default(),
            open: [false; 2],
            open_in_file: [false; 2],
            lost: [false; 2],
            put_away: false,
        };
        writer.reopen()?;
        Ok(writer)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let not_regular = || io::Error::other("the log is not a regular file");
        // A named pipe that nobody reads is ENXIO by O_NONBLOCK, and waited for without it; a device
        // may do anything when it is opened.
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(not_regular());
        }
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(flags.bits() as i32)
            .open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(not_regular());
        }
        self.size = metadata.size();
        self.file = Some(file);
        Ok(())
    }

    /// Adds output as it came. What can't be written, as on a full disk, is lost, and the container
    /// goes on: nobody would want it killed for its log.
    pub fn keep(&mut self, stream: Stream, bytes: &[u8]) {
        let _ = self.write(stream, bytes);
    }

    /// Adds output as it came.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_none() || bytes.is_empty() {
            return Ok(());
        }
        let written = self.add(stream, bytes);
        self.lost[stream as usize] |= written.is_err();
        written
    }

    fn add(&mut self, stream: Stream, mut bytes: &[u8]) -> io::Result<()> {
        self.stamp.refresh();
        // What comes after a gap does not go on with what came before it.
        if std::mem::take(&mut self.lost[stream as usize]) && self.open[stream as usize] {
            self.part(stream, b"", true)?;
        }
        while !bytes.is_empty() {
            let window = &bytes[..bytes.len().min(PART)];
            // The one search of std's that looks at more than a byte at a time.
            let mut rest = window;
            let length = rest.skip_until(b'\n')?;
            let ended = window[length - 1] == b'\n';
            self.part(stream, &window[..length - usize::from(ended)], ended)?;
            bytes = &bytes[length..];
        }
        self.flush()
    }

    /// Ends a last line that the program did not end, so that the next start begins its own.
    pub fn finish(&mut self) -> io::Result<()> {
        for (index, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
            if self.open[index] {
                self.stamp.refresh();
                self.part(stream, b"", true)?;
            }
        }
        self.flush()
    }

    fn part(&mut self, stream: Stream, part: &[u8], ended: bool) -> io::Result<()> {
        self.buffer.extend_from_slice(self.stamp.text());
        self.buffer.extend_from_slice(word(stream));
        self.buffer
            .extend_from_slice(if ended { b"F " } else { b"P " });
        self.buffer.extend_from_slice(part);
        self.buffer.push(b'\n');
        self.open[stream as usize] = !ended;
        let full = self.buffer.len() >= 4 * PART;
        let size = self.size + self.buffer.len() as u64;
        if self.max_size > 0 && size >= self.max_size {
            self.flush()?;
            // Without a new file the old one goes on; the next part tries again.
            let _ = self.rotate();
            return Ok(());
        }
        if full { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            if let Err(error) = file.write_all(&self.buffer) {
                self.buffer.clear();
                // What was written of it would begin the next line.
                let _ = file.set_len(self.size);
                self.open = self.open_in_file;
                return Err(error);
            }
            self.size += self.buffer.len() as u64;
            self.open_in_file = self.open;
        }
        self.buffer.clear();
        // A burst of output does not keep its memory for the life of the container.
        if self.buffer.capacity() > 16 * PART {
            self.buffer.shrink_to(0);
        }
        Ok(())
    }

    /// Gives the memory of the last burst back.
    pub fn rest(&mut self) {
        self.buffer.shrink_to(0);
    }

    /// `log` becomes `log.1`, `log.1` becomes `log.2`; the last one falls off. A reader that has the
    /// old file open reads it to its end.
    fn rotate(&mut self) -> io::Result<()> {
        if !self.put_away {
            self.put_away()?;
            self.put_away = true;
        }
        self.reopen()?;
        self.put_away = false;
        Ok(())
    }

    fn put_away(&self) -> io::Result<()> {
        let name = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            if number > 0 {
                name.push(format!(".{number}"));
            }
            PathBuf::from(name)
        };
        if self.max_files == 1 {
            unless_missing(fs::remove_file(name(0)))?;
        }
        for number in (0..self.max_files.saturating_sub(1)).rev() {
            unless_missing(fs::rename(name(number), name(number + 1)))?;
        }
        Ok(())
    }
}

fn word(stream: Stream) -> &'static [u8] {
    match stream {
        Stream::Stdout => b" stdout ",
        Stream::Stderr => b" stderr ",
    }
}

/// Somebody else may have taken a file away.
fn unless_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The current time as text, made anew only when it has changed.
#[derive(Debug)]
struct Stamp {
    second: i64,
    text: [u8; 30],
}

impl Default for Stamp {
    fn default() -> Self {
        Self {
            second: i64::MIN,
            text: *b"1970-01-01T00:00:00.000000000Z",
        }
    }
}

impl Stamp {
    fn refresh(&mut self) {
        let now = clock_gettime(ClockId::Realtime);
        if now.tv_sec != self.second {
            self.second = now.tv_sec;
            write_date(&mut self.text, now.tv_sec);
        }
        digits(&mut self.text[20..29], now.tv_nsec as u64);
    }

    fn text(&self) -> &[u8] {
        &self.text
    }
}

/// A time in RFC 3339, in UTC.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default();
    let mut stamp = Stamp::default();
    write_date(&mut stamp.text, since.as_secs().cast_signed());
    digits(&mut stamp.text[20..29], u64::from(since.subsec_nanos()));
    String::from_utf8_lossy(stamp.text()).into_owned()
}

fn digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Civil time from days since 1970: an era is 400 years, which have 146,097 days, and a year is
/// counted from March, so that the leap day is its last.
fn write_date(text: &mut [u8; 30], second: i64) {
    let days = second.div_euclid(86_400);
    let rest = second.rem_euclid(86_400) as u64;
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    digits(&mut text[0..4], year.clamp(0, 9999) as u64);
    digits(&mut text[5..7], month as u64);
    digits(&mut text[8..10], day as u64);
    digits(&mut text[11..13], rest / 3600);
    digits(&mut text[14..16], rest / 60 % 60);
    digits(&mut text[17..19], rest % 60);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: PathBuf, max_size: u64, max_files: u32) -> LogConfig {
        LogConfig {
            path,
            max_size,
            max_files,
            ..LogConfig::default()
        }
    }

    #[test]
    fn dates_are_civil() {
        for (second, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (1_735_689_600, "2025-01-01T00:00:00"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            let mut stamp = Stamp::default();
            write_date(&mut stamp.text, second);
            assert_eq!(&stamp.text[..19], expected.as_bytes());
        }
    }

    #[test]
    fn lines_and_parts_are_marked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = K8sFile::open(&config(path.clone(), 0, 1)).unwrap();
        log.write(Stream::Stdout, b"one\ntw").unwrap();
        log.write(Stream::Stderr, b"err\n").unwrap();
        log.write(Stream::Stdout, b"o\n\nend").unwrap();
        log.finish().unwrap();
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<_> = text.lines().map(|line| &line[30..]).collect();
        assert_eq!(
            lines,
            [
                " stdout F one",
                " stdout P tw",
                " stderr F err",
                " stdout F o",
                " stdout F ",
                " stdout P end",
                " stdout F ",
            ]
        );
    }

    #[test]
    fn rotation_keeps_what_it_is_told_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = K8sFile::open(&config(path.clone(), 200, 3)).unwrap();
        for number in 0..100 {
            log.write(Stream::Stdout, format!("line {number}\n").as_bytes())
                .unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["log", "log.1", "log.2"]);
        let last = fs::read_to_string(directory.path().join("log.1")).unwrap()
            + &fs::read_to_string(path).unwrap();
        assert!(last.contains("line 99"));
        assert!(last.lines().all(|line| line.contains(" stdout F line ")));
    }

    #[test]
    fn rotation_goes_on_after_a_file_was_taken_away() {
        for max_files in [1, 2] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("log");
            let mut log = K8sFile::open(&config(path.clone(), 100, max_files)).unwrap();
            let line = [b'x'; 100];
            fs::remove_file(&path).unwrap();
            log.write(Stream::Stdout, &line).unwrap();
            log.write(Stream::Stdout, b"found\n").unwrap();
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.ends_with(" F found\n"), "{max_files}: {text}");
        }
    }

    #[test]
    fn a_new_file_that_can_not_be_opened_is_tried_again_and_nothing_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = K8sFile::open(&config(path.clone(), 60, 3)).unwrap();
        log.write(Stream::Stdout, b"before\n").unwrap();
        // What can't be opened as a log is in its place once the old file is put away.
        fs::rename(&path, directory.path().join("log.1")).unwrap();
        log.put_away = true;
        std::os::unix::fs::symlink("/nowhere", &path).unwrap();
        for text in ["one\n", "two\n", "three\n"] {
            log.write(Stream::Stdout, text.as_bytes()).unwrap();
        }
        fs::remove_file(&path).unwrap();
        log.write(Stream::Stdout, b"four\nfive\n").unwrap();
        let lines = |name: &str| -> Vec<String> {
            let text = fs::read_to_string(directory.path().join(name)).unwrap();
            text.lines().map(|line| line[40..].to_owned()).collect()
        };
        assert_eq!(lines("log.1"), ["before", "one", "two", "three", "four"]);
        assert_eq!(lines("log"), ["five"]);
        assert!(!directory.path().join("log.2").exists());
    }

    #[test]
    fn what_comes_after_a_gap_is_another_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut writer = K8sFile::open(&config(path.clone(), 0, 1)).unwrap();
        writer.keep(Stream::Stdout, b"li");
        writer.keep(Stream::Stderr, b"er");
        // One that can't be written.
        let file = writer.file.replace(File::open(&path).unwrap());
        writer.keep(Stream::Stdout, b"ne\nline");
        writer.file = file;
        writer.keep(Stream::Stdout, b"ne\nline\n");
        writer.keep(Stream::Stderr, b"ror\n");
        let text = fs::read_to_string(path).unwrap();
        let texts: Vec<_> = text.lines().map(|line| &line[31..]).collect();
        let expected = [
            "stdout P li",
            "stderr P er",
            "stdout F ",
            "stdout F ne",
            "stdout F line",
            "stderr F ror",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn a_pipe_is_no_log() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        for reader in [None, Some(OpenOptions::new().read(true).write(true))] {
            let _reader = reader.map(|options| options.open(&path).unwrap());
            let error = K8sFile::open(&config(path.clone(), 0, 1)).unwrap_err();
            assert_eq!(error.to_string(), "the log is not a regular file");
        }
    }

    #[test]
    fn a_link_is_no_log() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(K8sFile::open(&config(path, 0, 1)).is_err());
    }
}
