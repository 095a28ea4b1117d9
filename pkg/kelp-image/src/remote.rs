//! A file from an http or https URL, read as it comes.
//!
//! What holds for registries holds here: a bounded number of redirects, none from https to http, no
//! credentials to another host, the proxies of the environment, and an end to a server's silence.

use std::io::{self, Read};

use bytes::Bytes;
use reqwest::{Response, Url};
use tokio::runtime::Runtime;

use crate::Error;
use crate::access::{Access, AccessOptions, runtime};
use crate::http::{Request, explain};

/// Whether a text is such a URL.
pub fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// A file that is being downloaded. A download that is cut is an error, not its end.
pub struct Remote {
    runtime: Runtime,
    response: Response,
    url: Url,
    rest: Bytes,
}

impl Remote {
    /// Asks for a file.
    pub fn open(url: &str, options: &AccessOptions) -> Result<Self, Error> {
        let url = Url::parse(url).map_err(|error| Error::Invalid(format!("URL {url}: {error}")))?;
        let access = Access::new(options)?;
        let runtime = runtime()?;
        let request = Request::get(url.clone());
        let (response, _) = runtime.block_on(access.transport().send(&request))?;
        if !response.status().is_success() {
            return Err(Error::Registry(format!(
                "{}: the server answered {}",
                shown(&url),
                response.status()
            )));
        }
        Ok(Self {
            runtime,
            response,
            url,
            rest: Bytes::new(),
        })
    }
}

impl Read for Remote {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.runtime.block_on(self.response.chunk()) {
                Ok(Some(chunk)) => self.rest = chunk,
                Ok(None) => return Ok(0),
                Err(error) => return Err(io::Error::other(explain(&error, &self.url).message)),
            }
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

/// A URL without what nobody else is to read.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.set_query(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that answers once; where it is.
    fn server(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer).unwrap();
        });
        format!("http://{address}/a.tar?token=x")
    }

    fn read(url: &str) -> Result<Vec<u8>, String> {
        let mut remote =
            Remote::open(url, &AccessOptions::default()).map_err(|error| error.to_string())?;
        let mut content = Vec::new();
        remote
            .read_to_end(&mut content)
            .map_err(|error| error.to_string())?;
        Ok(content)
    }

    #[test]
    fn a_file_is_read_to_its_end_and_not_before() {
        let url = server(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(read(&url), Ok(b"hello".to_vec()));
        let url = server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello");
        assert!(read(&url).is_err());
        let url = server(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        let said = read(&url).unwrap_err();
        assert!(
            said.ends_with("/a.tar: the server answered 404 Not Found"),
            "{said}"
        );
    }
}
