//! Lines of the log: `TIME stdout|stderr F|P TEXT`, and what they were before they were cut.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Which of the two a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of output, or as much of a long or unfinished one as there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// When its last part was written: RFC 3339 in UTC with nanoseconds.
    pub time: &'a str,
    /// Where it came from.
    pub stream: Stream,
    /// What was written, without the end of the line.
    pub text: &'a [u8],
    /// Whether it begins here, or goes on from the stream's line before.
    pub begins: bool,
    /// Whether it ends here.
    pub ends: bool,
}

/// Where the lines go.
pub trait LogSink {
    /// Takes a line.
    fn line(&mut self, line: &Line<'_>) -> io::Result<()>;

    /// There is nothing more, for now or at all: what was buffered is to be shown.
    fn idle(&mut self) -> io::Result<()>;
}

/// One line of the log's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) time: &'a str,
    pub(super) stream: Stream,
    pub(super) ends: bool,
    pub(super) text: &'a [u8],
}

impl<'a> Part<'a> {
    /// Parses a line; `None` if it is none of the log's.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let (time, rest) = word(line)?;
        let (stream, rest) = word(rest)?;
        // An empty text may have lost its space.
        let (tag, text) = word(rest).unwrap_or((rest, b""));
        Some(Self {
            time: std::str::from_utf8(time).ok()?,
            stream: match stream {
                b"stdout" => Stream::Stdout,
                b"stderr" => Stream::Stderr,
                _ => return None,
            },
            ends: match tag.split(|&byte| byte == b':').next()? {
                b"F" => true,
                b"P" => false,
                _ => return None,
            },
            text,
        })
    }
}

fn word(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = line.iter().position(|&byte| byte == b' ')?;
    Some((&line[..space], &line[space + 1..]))
}

/// A time as the log has it. Texts of this form are in the order of their times.
pub(super) fn stamp(time: SystemTime) -> String {
    let since = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .min(Duration::from_secs(253_402_300_799));
    let time = jiff::Timestamp::UNIX_EPOCH
        .checked_add(since)
        .unwrap_or_default();
    format!("{time:.9}")
}

/// More of an unfinished line than this is not kept.
const LIMIT: usize = 1 << 20;

/// Puts the parts of each stream's lines together again.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    open: [Vec<u8>; 2],
    /// Whether some of the line was given away already.
    continued: [bool; 2],
    time: [String; 2],
}

impl Joiner {
    pub(super) fn add(&mut self, part: &Part<'_>, sink: &mut dyn LogSink) -> io::Result<()> {
        let index = part.stream as usize;
        let open = &mut self.open[index];
        let mut line = Line {
            time: part.time,
            stream: part.stream,
            text: part.text,
            begins: !self.continued[index],
            ends: part.ends,
        };
        if part.ends && open.is_empty() {
            self.continued[index] = false;
            return sink.line(&line);
        }
        open.extend_from_slice(part.text);
        if !part.ends && open.len() < LIMIT {
            part.time.clone_into(&mut self.time[index]);
            return Ok(());
        }
        line.text = open;
        sink.line(&line)?;
        open.clear();
        self.continued[index] = !part.ends;
        Ok(())
    }

    /// Gives away what is there of unfinished lines: a prompt is not to be waited for.
    pub(super) fn flush(&mut self, sink: &mut dyn LogSink) -> io::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let index = stream as usize;
            if self.open[index].is_empty() {
                continue;
            }
            sink.line(&Line {
                time: &self.time[index],
                stream,
                text: &self.open[index],
                begins: !self.continued[index],
                ends: false,
            })?;
            self.open[index].clear();
            self.continued[index] = true;
        }
        sink.idle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Taken(Vec<String>);

    impl LogSink for Taken {
        fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
            let mark = |is, mark| if is { mark } else { "…" };
            self.0.push(format!(
                "{}{}{}{}",
                if line.stream == Stream::Stdout { 1 } else { 2 },
                mark(line.begins, "["),
                String::from_utf8_lossy(line.text),
                mark(line.ends, "]"),
            ));
            Ok(())
        }

        fn idle(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_four_fields() {
        let part = Part::parse(b"2026-01-02T15:04:05.123456789Z stderr F a  b \n").unwrap();
        assert_eq!(part.time, "2026-01-02T15:04:05.123456789Z");
        assert_eq!(part.stream, Stream::Stderr);
        assert_eq!((part.ends, part.text), (true, &b"a  b "[..]));
        for (line, text, ends) in [
            ("t stdout F ", "", true),
            ("t stdout F", "", true),
            ("t stdout P x", "x", false),
            ("t stdout F:tag x", "x", true),
        ] {
            let part = Part::parse(line.as_bytes()).unwrap();
            assert_eq!((part.text, part.ends), (text.as_bytes(), ends), "{line}");
        }
        for line in [
            "",
            "t",
            "t stdin F x",
            "t stdout X x",
            "t stdout",
            "\u{fffd}",
        ] {
            assert_eq!(Part::parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn parts_are_joined_stream_by_stream() {
        let mut joiner = Joiner::default();
        let mut taken = Taken::default();
        for line in [
            "t stdout F one",
            "t stdout P tw",
            "t stderr F err",
            "t stdout F o",
            "t stdout P prom",
        ] {
            joiner
                .add(&Part::parse(line.as_bytes()).unwrap(), &mut taken)
                .unwrap();
        }
        joiner.flush(&mut taken).unwrap();
        joiner.flush(&mut taken).unwrap();
        for line in ["t stdout P p", "t stdout F t", "t stdout F next"] {
            joiner
                .add(&Part::parse(line.as_bytes()).unwrap(), &mut taken)
                .unwrap();
        }
        assert_eq!(
            taken.0,
            ["1[one]", "2[err]", "1[two]", "1[prom…", "1…pt]", "1[next]"]
        );
    }

    #[test]
    fn a_line_without_end_is_given_away_in_pieces() {
        let mut joiner = Joiner::default();
        let mut taken = Taken::default();
        let line = format!("t stdout P {}", "x".repeat(16 << 10));
        for _ in 0..64 {
            joiner
                .add(&Part::parse(line.as_bytes()).unwrap(), &mut taken)
                .unwrap();
        }
        assert_eq!(taken.0.len(), 1);
        assert!(joiner.open[0].is_empty());
    }

    #[test]
    fn stamps_are_as_the_log_has_them() {
        let time = UNIX_EPOCH + Duration::new(951_782_400, 5);
        assert_eq!(stamp(time), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(stamp(UNIX_EPOCH), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(
            stamp(UNIX_EPOCH - Duration::from_secs(9)),
            stamp(UNIX_EPOCH)
        );
    }
}
