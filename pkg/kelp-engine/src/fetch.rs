//! A text from an http or https URL.

use std::io::Read;

use kelp_image::access::AccessOptions;
use kelp_image::config_paths::ConfigPaths;
use kelp_image::remote::Remote;
pub use kelp_image::remote::is_url;

use crate::{Engine, Error};

/// No document is longer, in bytes.
const LONGEST: u64 = 16 << 20;

impl Engine {
    /// Reads a text at a URL.
    pub fn fetch_text(&self, url: &str) -> Result<String, Error> {
        let access = AccessOptions {
            paths: ConfigPaths::from_env(),
            ..AccessOptions::default()
        };
        let mut bytes = Vec::new();
        Remote::open(url, &access)?
            .take(LONGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io(format!("read {url}")))?;
        if bytes.len() as u64 > LONGEST {
            return Err(Error::invalid(format!(
                "{url}: it is longer than {LONGEST} bytes"
            )));
        }
        String::from_utf8(bytes).map_err(|_| Error::invalid(format!("{url}: it is not text")))
    }
}
