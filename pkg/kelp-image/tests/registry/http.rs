//! Just enough HTTP/1.1 over a socket, for both sides, independent of the client under test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// A message's head and body; the first line is a request's or a status.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) first: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The second word of the first line: a request's path or an answer's status.
    pub(crate) fn target(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }

    /// Reads a message; `None` at the end of the connection. An answer without a length is read to
    /// the end of the connection.
    pub(crate) fn read(reader: &mut BufReader<TcpStream>, is_answer: bool) -> Option<Self> {
        let mut message = Self::read_head(reader)?;
        match message.header("content-length") {
            Some(_) => message.read_body(reader, usize::MAX)?,
            None if is_answer => drop(reader.read_to_end(&mut message.body)),
            None => {}
        }
        Some(message)
    }

    /// Reads a message without its body.
    pub(crate) fn read_head(reader: &mut BufReader<TcpStream>) -> Option<Self> {
        let mut line = || {
            let mut text = String::new();
            reader.read_line(&mut text).ok()?;
            Some(text.trim_end().to_owned())
        };
        let first = line()?;
        if first.is_empty() {
            return None;
        }
        let mut headers = Vec::new();
        loop {
            let text = line()?;
            let Some((name, value)) = text.split_once(':') else {
                break;
            };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Some(Self {
            first,
            headers,
            body: Vec::new(),
        })
    }

    /// Reads a body whose length the head tells, and no more than `limit` bytes of it.
    pub(crate) fn read_body(
        &mut self,
        reader: &mut BufReader<TcpStream>,
        limit: usize,
    ) -> Option<()> {
        let length = self.header("content-length").unwrap_or("0");
        let length: usize = length.parse().unwrap();
        self.body = vec![0; length.min(limit)];
        reader.read_exact(&mut self.body).ok()
    }
}

/// Sends one request on a connection of its own.
pub(crate) fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Message {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    Message::read(&mut BufReader::new(stream), true).expect("an answer")
}
