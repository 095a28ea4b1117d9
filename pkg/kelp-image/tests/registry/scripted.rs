//! A server that answers as a test says.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::http::Message;
use crate::image::{OCI_MANIFEST, TestImage};

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The connection is closed after so many bytes of the body.
    pub(crate) cut_at: Option<usize>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: &[u8]) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.to_vec(),
            cut_at: None,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn cut_at(mut self, position: usize) -> Self {
        self.cut_at = Some(position);
        self
    }

    fn write(&self, stream: &mut TcpStream, head_only: bool) -> std::io::Result<()> {
        let mut head = format!(
            "HTTP/1.1 {} Scripted\r\nContent-Length: {}\r\n",
            self.status,
            self.body.len()
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        if head_only {
            return Ok(());
        }
        stream.write_all(&self.body[..self.cut_at.unwrap_or(self.body.len())])
    }
}

type Handler = dyn Fn(&Message) -> Answer + Send + Sync;

/// Says after how many bytes of a request's body the server hangs up.
type Cut = dyn Fn(&Message) -> Option<usize> + Send + Sync;

/// The server. Its threads end with the test's process.
pub(crate) struct Scripted {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    requests: Arc<Mutex<Vec<Message>>>,
}

impl Scripted {
    pub(crate) fn start(handler: impl Fn(&Message) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_cutting(|_| None, handler)
    }

    /// A server that hangs up in the middle of some requests; the handler sees what has come of them.
    pub(crate) fn start_cutting(
        cut: impl Fn(&Message) -> Option<usize> + Send + Sync + 'static,
        handler: impl Fn(&Message) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (handler, log): (Arc<Handler>, _) = (Arc::new(handler), Arc::clone(&requests));
        let cut: Arc<Cut> = Arc::new(cut);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (handler, log) = (Arc::clone(&handler), Arc::clone(&log));
                let cut = Arc::clone(&cut);
                thread::spawn(move || serve(stream.unwrap(), &*cut, &*handler, &log));
            }
        });
        Self { address, requests }
    }

    /// The requests whose first line contains `text`.
    pub(crate) fn requests(&self, text: &str) -> Vec<Message> {
        self.requests
            .lock()
            .unwrap()
            .iter()
            .filter(|request| request.first.contains(text))
            .cloned()
            .collect()
    }
}

fn serve(stream: TcpStream, cut: &Cut, handler: &Handler, log: &Mutex<Vec<Message>>) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(mut request) = Message::read_head(&mut reader) {
        // What can't be read as HTTP is a TLS client; it goes on to plain HTTP when it is hung up on.
        if !request.first.ends_with("HTTP/1.1") {
            return;
        }
        let limit = cut(&request);
        let read = request.read_body(&mut reader, limit.unwrap_or(usize::MAX));
        if read.is_none() {
            return;
        }
        log.lock().unwrap().push(request.clone());
        let answer = handler(&request);
        let head_only = request.first.starts_with("HEAD ");
        if limit.is_some()
            || answer.write(&mut writer, head_only).is_err()
            || answer.cut_at.is_some()
        {
            return;
        }
    }
}

/// A registry with one image, as it should be: the base that scripts deviate from.
pub(crate) fn serve_image(image: &TestImage, request: &Message) -> Answer {
    let path = request.target();
    if path == "/v2/" {
        return Answer::new(200, b"{}");
    }
    if path.contains("/manifests/") {
        return Answer::new(200, &image.manifest).header("Content-Type", OCI_MANIFEST);
    }
    let blob = image
        .layers
        .iter()
        .chain([&image.config])
        .find(|blob| path.ends_with(&kelp_image::Digest::of(blob).to_string()));
    let Some(blob) = blob else {
        return Answer::new(404, b"{}");
    };
    let range = request.header("range").map(|range| {
        let (from, last) = range
            .strip_prefix("bytes=")
            .unwrap()
            .split_once('-')
            .unwrap();
        let from: usize = from.parse().unwrap();
        from..last.parse().map_or(blob.len(), |last: usize| last + 1)
    });
    match range {
        Some(range) => {
            let header = format!("bytes {}-{}/{}", range.start, range.end - 1, blob.len());
            Answer::new(206, &blob[range]).header("Content-Range", &header)
        }
        None => Answer::new(200, blob),
    }
}
