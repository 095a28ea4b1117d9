//! Pushing to a registry by HTTP/1.1, a connection a request; and serving.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

/// An answer: the status line's text, which headers may follow; a body, and how long it is said to be.
pub(crate) type Served = (&'static str, Vec<u8>, usize);

/// A server that gives these answers, one after the other, and ends.
pub(crate) fn serve(answers: Vec<Served>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        for (status, body, length) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let head = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
            );
            // Who asks may have gone by then.
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    (address, server)
}

/// A registry without TLS and authentication, by its `address:port`.
pub(crate) struct Registry<'a>(pub(crate) &'a str);

struct Answer {
    status: u16,
    location: Option<String>,
    text: String,
}

impl Registry<'_> {
    /// Pushes a blob in one piece.
    pub(crate) fn push_blob(&self, repository: &str, digest: &str, bytes: &[u8]) {
        let start = format!("/v2/{repository}/blobs/uploads/");
        let answer = self.request("POST", &start, "", b"");
        assert_eq!(answer.status, 202, "{}", answer.text);
        let location = answer.location.expect("the upload's address");
        let path = match location.split_once("://") {
            Some((_, rest)) => &rest[rest.find('/').unwrap()..],
            None => &location,
        };
        let separator = if path.contains('?') { '&' } else { '?' };
        let put = format!("{path}{separator}digest={digest}");
        let answer = self.request("PUT", &put, "application/octet-stream", bytes);
        assert_eq!(answer.status, 201, "{}", answer.text);
    }

    /// Pushes a manifest whose blobs are there.
    pub(crate) fn push_manifest(&self, repository: &str, tag: &str, bytes: &[u8]) {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let document: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        let usual = "application/vnd.oci.image.manifest.v1+json";
        let media_type = document["mediaType"].as_str().unwrap_or(usual);
        let answer = self.request("PUT", &path, media_type, bytes);
        assert_eq!(answer.status, 201, "{}", answer.text);
    }

    fn request(&self, method: &str, path: &str, media_type: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.0).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: \
             {media_type}\r\nContent-Length: {}\r\n\r\n",
            self.0,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let header = |name: &str| {
            let mut lines = text.lines().take_while(|line| !line.is_empty());
            lines.find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
        };
        Answer {
            status: text
                .split(' ')
                .nth(1)
                .and_then(|word| word.parse().ok())
                .unwrap(),
            location: header("location"),
            text,
        }
    }
}
