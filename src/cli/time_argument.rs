//! Times as people write them: RFC 3339, seconds since 1970, or a span before now such as `10m`.

use std::time::SystemTime;

/// Parses one.
pub fn parse(text: &str) -> Result<SystemTime, String> {
    kelp_format::units::parse_time(text, SystemTime::now())
}
