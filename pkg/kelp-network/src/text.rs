//! Reading the host's text files with a bound.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// What is read of a file at most, in bytes. Lists that block advertisements through /etc/hosts
/// have some 5 MB.
pub const LIMIT: u64 = 16 << 20;

/// The first [`LIMIT`] bytes of a file, to the last whole line; nothing if there is no such file.
/// Bytes that are not UTF-8 are replaced.
pub fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(LIMIT).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    if bytes.len() as u64 == LIMIT {
        let end = bytes.iter().rposition(|&byte| byte == b'\n');
        bytes.truncate(end.map_or(0, |end| end + 1));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_empty_and_an_endless_one_ends() {
        assert_eq!(read(Path::new("/nothing/here")).unwrap(), "");
        // /dev/zero has no line, so nothing whole was read.
        assert_eq!(read(Path::new("/dev/zero")).unwrap(), "");
    }
}
