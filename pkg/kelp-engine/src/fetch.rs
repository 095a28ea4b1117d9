//! What is at an http or https URL.

use std::io::Read;

use kelp_image::access::AccessOptions;
use kelp_image::config_paths::ConfigPaths;
use kelp_image::remote::Remote;
pub use kelp_image::remote::is_url;

use crate::{Engine, Error};

/// The largest file that is fetched; bytes.
const LARGEST: u64 = 16 << 20;

impl Engine {
    /// A file at a URL.
    pub fn fetch(&self, url: &str) -> Result<Vec<u8>, Error> {
        let access = AccessOptions {
            paths: ConfigPaths::from_env(),
            ..AccessOptions::default()
        };
        let mut bytes = Vec::new();
        let remote = Remote::open(url, &access)?;
        remote
            .take(LARGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io(format!("read {url}")))?;
        if bytes.len() as u64 > LARGEST {
            return Err(Error::invalid(format!(
                "{url} is larger than {LARGEST} bytes"
            )));
        }
        Ok(bytes)
    }

    /// A text at a URL.
    pub fn fetch_text(&self, url: &str) -> Result<String, Error> {
        let text = String::from_utf8(self.fetch(url)?);
        text.map_err(|_| Error::invalid(format!("{url} is not text")))
    }
}
