//! The records of pax headers: `LENGTH KEYWORD=VALUE\n`, the length being that of the whole record.

use super::Entry;
use super::sparse::{self, Segment};

/// What pax headers said that matters here.
#[derive(Debug, Default)]
pub(super) struct Pax {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: SparseRecords,
}

#[derive(Debug, Default)]
struct SparseRecords {
    major: Option<u64>,
    minor: Option<u64>,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    offset: Option<u64>,
    segments: Option<Vec<Segment>>,
}

/// A sparse file by pax records; without segments, they stand in front of the content.
#[derive(Debug)]
pub(super) struct SparseMap {
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    pub(super) segments: Option<Vec<Segment>>,
}

const XATTR: &[u8] = b"SCHILY.xattr.";

/// How many attributes a file may have; the kernel's limit is on their total size.
const XATTR_LIMIT: usize = 1024;

impl Pax {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes in the records of a header for one entry.
    pub(super) fn read(&mut self, records: &[u8]) -> Result<(), &'static str> {
        each_record(records, |keyword, value| self.set(keyword, value))
    }

    /// Takes in the records of a header for all that follow: only what can sensibly hold for several
    /// files.
    pub(super) fn read_global(&mut self, records: &[u8]) -> Result<(), &'static str> {
        each_record(records, |keyword, value| match keyword {
            b"uid" | b"gid" | b"mtime" => self.set(keyword, value),
            _ => Ok(()),
        })
    }

    fn set(&mut self, keyword: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match keyword {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link = text(value)?,
            b"size" => self.size = decimal(value, "a size is no number")?,
            b"uid" => self.uid = decimal(value, "an owner is no number")?,
            b"gid" => self.gid = decimal(value, "a group is no number")?,
            b"mtime" => {
                self.mtime = match value {
                    [] => None,
                    _ => Some(time(value).ok_or("a time is no number")?),
                }
            }
            _ if keyword.starts_with(XATTR) => self.set_xattr(&keyword[XATTR.len()..], value)?,
            _ if keyword.starts_with(b"GNU.sparse.") => {
                return self.sparse.set(&keyword[b"GNU.sparse.".len()..], value);
            }
            _ => {}
        }
        Ok(())
    }

    fn set_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if name.is_empty() || name.contains(&0) {
            return Err("an extended attribute has no proper name");
        }
        let known = self.xattrs.iter().position(|(other, _)| other == name);
        match known {
            Some(index) => value.clone_into(&mut self.xattrs[index].1),
            None if self.xattrs.len() == XATTR_LIMIT => {
                return Err("a file has too many extended attributes");
            }
            None => self.xattrs.push((name.to_owned(), value.to_owned())),
        }
        Ok(())
    }

    /// Overrides what the header said.
    pub(super) fn apply(&mut self, entry: &mut Entry) {
        if let Some(path) = self.path.take() {
            entry.path = path;
        }
        if let Some(link) = self.link.take() {
            entry.link = link;
        }
        entry.uid = self.uid.unwrap_or(entry.uid);
        entry.gid = self.gid.unwrap_or(entry.gid);
        (entry.mtime, entry.mtime_nanoseconds) =
            self.mtime.unwrap_or((entry.mtime, entry.mtime_nanoseconds));
        entry.xattrs.append(&mut self.xattrs);
    }

    /// What the records say of a sparse file; `None` if the file is none.
    pub(super) fn take_sparse(&mut self) -> Result<Option<SparseMap>, &'static str> {
        let records = std::mem::take(&mut self.sparse);
        let in_content = match (records.major, records.minor) {
            (None, None) if records.segments.is_none() => return Ok(None),
            (None | Some(0), None | Some(0 | 1)) => false,
            (Some(1), None | Some(0)) => true,
            _ => return Err("a sparse file of an unknown version"),
        };
        if records.offset.is_some() {
            return Err("a sparse map with half a segment");
        }
        Ok(Some(SparseMap {
            name: records.name,
            real_size: records.size,
            segments: (!in_content).then(|| records.segments.unwrap_or_default()),
        }))
    }
}

impl SparseRecords {
    fn set(&mut self, keyword: &[u8], value: &[u8]) -> Result<(), &'static str> {
        const NO_NUMBER: &str = "a sparse map is no list of numbers";
        match keyword {
            b"major" => self.major = decimal(value, NO_NUMBER)?,
            b"minor" => self.minor = decimal(value, NO_NUMBER)?,
            b"name" => self.name = text(value)?,
            b"size" | b"realsize" => self.size = decimal(value, NO_NUMBER)?,
            // Version 0.0: a record for each number.
            b"numblocks" => self.segments = Some(Vec::new()),
            b"offset" => {
                if self.offset.is_some() {
                    return Err("a sparse map with half a segment");
                }
                self.offset = decimal(value, NO_NUMBER)?;
            }
            b"numbytes" => {
                let offset = self
                    .offset
                    .take()
                    .ok_or("a sparse map with half a segment")?;
                let length = decimal(value, NO_NUMBER)?.ok_or(NO_NUMBER)?;
                let segments = self.segments.get_or_insert_default();
                sparse::push(segments, Segment { offset, length })?;
            }
            // Version 0.1: one record with all of them.
            b"map" => {
                let mut segments = Vec::new();
                let mut numbers = value.split(|&byte| byte == b',');
                while let Some(offset) = numbers.next().filter(|text| !text.is_empty()) {
                    let length = numbers.next().ok_or("a sparse map with half a segment")?;
                    let segment = Segment {
                        offset: decimal(offset, NO_NUMBER)?.ok_or(NO_NUMBER)?,
                        length: decimal(length, NO_NUMBER)?.ok_or(NO_NUMBER)?,
                    };
                    sparse::push(&mut segments, segment)?;
                }
                self.segments = Some(segments);
            }
            _ => {}
        }
        Ok(())
    }
}

fn each_record(
    mut records: &[u8],
    mut record: impl FnMut(&[u8], &[u8]) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    const MALFORMED: &str = "a pax record is malformed";
    while !records.is_empty() {
        let space = records.iter().take(20).position(|&byte| byte == b' ');
        let space = space.ok_or(MALFORMED)?;
        let length = decimal(&records[..space], MALFORMED)?.ok_or(MALFORMED)?;
        let length = usize::try_from(length).map_err(|_| MALFORMED)?;
        if length > records.len() || length < space + 2 {
            return Err(MALFORMED);
        }
        let (this, rest) = records.split_at(length);
        records = rest;
        let body = this[space + 1..].strip_suffix(b"\n").ok_or(MALFORMED)?;
        // A value may hold "=", as may a GNU.sparse or xattr name never.
        let equals = body
            .iter()
            .position(|&byte| byte == b'=')
            .ok_or(MALFORMED)?;
        if equals == 0 {
            return Err(MALFORMED);
        }
        record(&body[..equals], &body[equals + 1..])?;
    }
    Ok(())
}

/// A name; an empty value takes back what a record before it said.
fn text(value: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    if value.contains(&0) {
        return Err("a name holds a NUL byte");
    }
    Ok((!value.is_empty()).then(|| value.to_owned()))
}

fn decimal(value: &[u8], error: &'static str) -> Result<Option<u64>, &'static str> {
    if value.is_empty() {
        return Ok(None);
    }
    parse_decimal(value).map(Some).ok_or(error)
}

pub(super) fn parse_decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Seconds with an optional sign and fraction, to seconds rounded down and nanoseconds.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, value) = match value {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, value),
    };
    let mut parts = value.splitn(2, |&byte| byte == b'.');
    let seconds = i128::from(parse_decimal(parts.next()?)?);
    let mut nanoseconds = 0;
    if let Some(fraction) = parts.next() {
        if !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        for index in 0..9 {
            let digit = fraction.get(index).map_or(0, |byte| u32::from(byte - b'0'));
            nanoseconds = nanoseconds * 10 + digit;
        }
    }
    let (seconds, nanoseconds) = match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    };
    Some((i64::try_from(seconds).ok()?, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, expected) in [
            ("0", Some((0, 0))),
            ("1350244992.023960108", Some((1_350_244_992, 23_960_108))),
            ("1.5", Some((1, 500_000_000))),
            ("1.0000000019", Some((1, 1))),
            ("1.", Some((1, 0))),
            ("-1", Some((-1, 0))),
            ("-1.5", Some((-2, 500_000_000))),
            ("-0.000000001", Some((-1, 999_999_999))),
            ("9223372036854775807", Some((i64::MAX, 0))),
            ("9223372036854775808", None),
            ("-9223372036854775808", Some((i64::MIN, 0))),
            ("-9223372036854775807.5", Some((i64::MIN, 500_000_000))),
            ("-9223372036854775808.5", None),
            ("", None),
            (".5", None),
            ("1.x", None),
            ("1e5", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            "x",
            "5",
            "5 a=",
            "3 a=b\n",
            "999999999999999999999999 a=b\n",
            "18446744073709551615 a=b\n",
            "7 a=bc\n\n",
            "5 =b\n",
            "6 abc\n",
            " 6 a=b\n",
            "0 a=b\n",
            "-6 a=b\n",
            "6 a=b\nx",
        ] {
            assert!(Pax::default().read(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Pax::default().read(b"6 a=b\n7 a==c\n").is_ok());
    }

    #[test]
    fn values_keep_their_equals_signs_and_newlines() {
        let mut pax = Pax::default();
        pax.read(b"14 path=a=b\nc\n").unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a=b\nc"[..]));
    }
}
