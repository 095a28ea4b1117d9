//! Messages of D-Bus (specification, "Message Format" and "Marshaling"): little-endian, and only the
//! types that the calls to systemd have.

/// A message may have 128 MiB; systemd's answers to these calls have a few hundred bytes, and what is
/// longer is not one of them.
const LONGEST: usize = 1 << 20;

/// The fixed part of a header.
const HEADER: usize = 16;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A call of a method.
    Call,
    /// The answer to a call.
    Return,
    /// The refusal of a call.
    Error,
    /// News.
    Signal,
    /// What a later specification has.
    Other,
}

/// Marshals values, each at its alignment.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub(crate) fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn number(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    pub(crate) fn long(&mut self, value: u64) {
        self.align(8);
        self.0.extend(value.to_le_bytes());
    }

    /// A string or an object path.
    pub(crate) fn string(&mut self, value: &str) {
        self.number(value.len() as u32);
        self.0.extend(value.as_bytes());
        self.0.push(0);
    }

    pub(crate) fn signature(&mut self, value: &str) {
        self.0.push(value.len() as u8);
        self.0.extend(value.as_bytes());
        self.0.push(0);
    }

    /// An array whose elements have this alignment. Its length does not count the padding before the
    /// first element.
    pub(crate) fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Self)) {
        self.number(0);
        let length = self.0.len() - 4;
        self.align(alignment);
        let start = self.0.len();
        elements(self);
        let bytes = ((self.0.len() - start) as u32).to_le_bytes();
        self.0[length..length + 4].copy_from_slice(&bytes);
    }

    /// A struct of a name and a variant: a property.
    pub(crate) fn property(&mut self, name: &str, kind: &str, value: impl FnOnce(&mut Self)) {
        self.align(8);
        self.string(name);
        self.signature(kind);
        value(self);
    }
}

/// The call of a method of an object of systemd's, with a body of this signature.
pub(crate) fn call(
    serial: u32,
    (path, interface, member): (&str, &str, &str),
    signature: &str,
    body: Writer,
) -> Vec<u8> {
    let mut message = Writer(vec![b'l', 1, 0, 1]);
    message.number(body.0.len() as u32);
    message.number(serial);
    message.array(8, |fields| {
        let mut field = |code: u8, kind: &str, value: &str| {
            fields.align(8);
            fields.byte(code);
            fields.signature(kind);
            match kind {
                "g" => fields.signature(value),
                _ => fields.string(value),
            }
        };
        field(1, "o", path);
        field(2, "s", interface);
        field(3, "s", member);
        field(6, "s", "org.freedesktop.systemd1");
        field(8, "g", signature);
    });
    message.align(8);
    message.0.extend(body.into_bytes());
    message.0
}

/// A message that came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    /// Of the call that it answers.
    pub(crate) reply_to: Option<u32>,
    pub(crate) member: String,
    pub(crate) error: String,
    pub(crate) body: Vec<u8>,
}

/// How many bytes the message has that begins so; `None` if more has to be read to know. An error is
/// a message that is none of ours to read.
pub(crate) fn length(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let Some(header) = bytes.get(..HEADER) else {
        return Ok(None);
    };
    if header[0] != b'l' || header[3] != 1 {
        return Err("not a little-endian message of D-Bus 1");
    }
    let mut reader = Reader::new(header);
    reader.position = 4;
    let body = reader.number().ok_or("no length")? as usize;
    reader.position = 12;
    let fields = reader.number().ok_or("no length")? as usize;
    let whole = (HEADER + fields)
        .checked_next_multiple_of(8)
        .and_then(|start| start.checked_add(body))
        .filter(|whole| *whole <= LONGEST)
        .ok_or("a message that is too long")?;
    Ok(Some(whole))
}

/// Reads a whole message.
pub(crate) fn parse(bytes: &[u8]) -> Option<Message> {
    let kind = match bytes.get(1)? {
        1 => Kind::Call,
        2 => Kind::Return,
        3 => Kind::Error,
        4 => Kind::Signal,
        _ => Kind::Other,
    };
    let mut message = Message {
        kind,
        reply_to: None,
        member: String::new(),
        error: String::new(),
        body: Vec::new(),
    };
    let mut reader = Reader::new(bytes);
    reader.position = 12;
    let end = reader.number()? as usize + HEADER;
    while reader.position < end {
        reader.align(8);
        let code = reader.byte()?;
        match reader.signature()?.as_str() {
            "u" => {
                let number = reader.number()?;
                if code == 5 {
                    message.reply_to = Some(number);
                }
            }
            "s" | "o" => {
                let text = reader.string()?;
                match code {
                    3 => message.member = text,
                    4 => message.error = text,
                    _ => {}
                }
            }
            "g" => drop(reader.signature()?),
            _ => return None,
        }
    }
    reader.align(8);
    message.body = bytes.get(reader.position..)?.to_vec();
    Some(message)
}

/// Takes marshalled values apart; `None` where the bytes end first.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    fn align(&mut self, to: usize) {
        self.position = self.position.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.position.checked_add(length)?;
        let taken = self.bytes.get(self.position..end)?;
        self.position = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(crate) fn number(&mut self) -> Option<u32> {
        self.align(4);
        let bytes = self.take(4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    }

    /// An array whose elements have this alignment: each is read until the bytes of all are.
    pub(crate) fn array<T>(
        &mut self,
        alignment: usize,
        mut element: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let length = self.number()? as usize;
        self.align(alignment);
        let end = self.position.checked_add(length)?;
        let mut elements = Vec::new();
        while self.position < end {
            self.align(alignment);
            elements.push(element(self)?);
        }
        (self.position == end).then_some(elements)
    }

    pub(crate) fn string(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        let text = self.take(length)?;
        self.take(1)?;
        String::from_utf8(text.to_vec()).ok()
    }

    pub(crate) fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        let text = self.take(length)?;
        self.take(1)?;
        String::from_utf8(text.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_aligned_and_counted() {
        let mut writer = Writer::default();
        writer.byte(7);
        writer.string("foo");
        // The specification's own example of an array: its length leaves the padding out.
        writer.array(8, |elements| elements.long(5));
        let expected = [
            7, 0, 0, 0, 3, 0, 0, 0, b'f', b'o', b'o', 0, 8, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(writer.0, expected);
    }

    #[test]
    fn a_call_has_its_fields_and_its_body() {
        let mut body = Writer::default();
        body.string("a");
        let bytes = call(9, ("/a", "b.c", "StopUnit"), "s", body);
        assert_eq!(length(&bytes), Ok(Some(bytes.len())));
        let message = parse(&bytes).unwrap();
        assert_eq!(
            (message.kind, message.member.as_str()),
            (Kind::Call, "StopUnit")
        );
        assert_eq!(Reader::new(&message.body).string().as_deref(), Some("a"));
        assert_eq!(
            bytes[..16],
            [b'l', 1, 0, 1, 6, 0, 0, 0, 9, 0, 0, 0, bytes[12], 0, 0, 0]
        );
    }

    #[test]
    fn an_error_names_the_call_that_it_answers() {
        // Fields: reply serial 3, error name "a.b"; body "no".
        let bytes = [
            b'l', 3, 0, 1, 7, 0, 0, 0, 1, 0, 0, 0, 20, 0, 0, 0, 5, 1, b'u', 0, 3, 0, 0, 0, 4, 1,
            b's', 0, 3, 0, 0, 0, b'a', b'.', b'b', 0, 0, 0, 0, 0, 2, 0, 0, 0, b'n', b'o', 0,
        ];
        assert_eq!(length(&bytes), Ok(Some(bytes.len())));
        let message = parse(&bytes).unwrap();
        assert_eq!((message.kind, message.reply_to), (Kind::Error, Some(3)));
        assert_eq!(message.error, "a.b");
        assert_eq!(Reader::new(&message.body).string().as_deref(), Some("no"));
    }

    #[test]
    fn what_is_cut_or_too_long_is_refused() {
        let bytes = call(1, ("/a", "b.c", "Get"), "", Writer::default());
        for end in 0..bytes.len() {
            // Nothing is read past the end.
            assert!(length(&bytes[..end]).is_ok());
            let _ = parse(&bytes[..end]);
        }
        let mut long = bytes.clone();
        long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(length(&long).is_err());
        let mut foreign = bytes;
        foreign[0] = b'B';
        assert!(length(&foreign).is_err());
    }
}
