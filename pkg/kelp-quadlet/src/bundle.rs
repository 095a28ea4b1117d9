//! What is installed as one: a directory's files, the units of one file, or a unit with what it needs.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::find::read_regular;
use crate::set::Kind;
use crate::store::{Error, io, refused};

/// The largest file that is installed; bytes.
const LARGEST: u64 = 16 << 20;

/// A file to be installed: its path beneath the directory of the units, and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its path.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Files that belong together, and how they are called; nothing of one unit alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The name of the list, without the dot before it: `shop.app`, `web.container.asset`.
    pub list: Option<String>,
    /// The files.
    pub files: Vec<Input>,
}

/// A file's content. A pipe or a device is none, and would be waited for.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    read_regular(path, LARGEST).map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => {
            Error::Refused(format!("{} is not a regular file", path.display()))
        }
        ErrorKind::FileTooLarge => {
            Error::Refused(format!("{} is larger than {LARGEST} bytes", path.display()))
        }
        _ => io("read", path)(error),
    })
}

/// All files of a directory, as an application of its name.
pub fn bundle_of_directory(directory: &Path) -> Result<Bundle, Error> {
    let real = fs::canonicalize(directory).map_err(io("open", directory))?;
    let name = real.file_name().and_then(|name| name.to_str());
    let Some(name) = name else {
        return refused(format!(
            "{} has no name for an application",
            directory.display()
        ));
    };
    let mut files = Vec::new();
    collect(&real, "", &mut files)?;
    if !files.iter().any(|file| Kind::of(&file.name).is_some()) {
        return refused(format!("there is no unit in {}", directory.display()));
    }
    Ok(Bundle {
        list: Some(format!("{name}.app")),
        files,
    })
}

fn collect(directory: &Path, below: &str, files: &mut Vec<Input>) -> Result<(), Error> {
    let entries = fs::read_dir(directory).map_err(io("open", directory))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(io("read", directory))?;
    paths.sort();
    for path in paths {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return refused(format!("{}: its name is not UTF-8", path.display()));
        };
        let name = format!("{below}{name}");
        let metadata = fs::symlink_metadata(&path).map_err(io("read", &path))?;
        if metadata.is_dir() {
            collect(&path, &format!("{name}/"), files)?;
        } else {
            let bytes = read(&path)?;
            files.push(Input { name, bytes });
        }
    }
    Ok(())
}

/// The units of a `.quadlets` file, which lines of `---` part; each says `# FileName=NAME`, and its section
/// which kind it is.
pub fn bundle_of_many(name: &str, text: &str) -> Result<Bundle, Error> {
    let mut files = Vec::new();
    let mut parts = vec![String::new()];
    for line in text.lines() {
        match (line.trim_end(), parts.last_mut()) {
            ("---", _) => parts.push(String::new()),
            (line, Some(part)) => {
                part.push_str(line);
                part.push('\n');
            }
            (_, None) => {}
        }
    }
    for part in parts.iter().filter(|part| !part.trim().is_empty()) {
        let number = files.len() + 1;
        let said = part.lines().find_map(|line| {
            line.trim()
                .strip_prefix('#')?
                .trim()
                .strip_prefix("FileName=")
        });
        let Some(said) = said.map(str::trim).filter(|said| !said.is_empty()) else {
            return refused(format!(
                "{name}: the unit {number} says no \"# FileName=NAME\""
            ));
        };
        let mut kinds = Kind::ALL.into_iter();
        let kind = kinds.find(|kind| {
            let section = format!("[{}]", kind.section());
            part.lines().any(|line| line.trim() == section)
        });
        let Some(kind) = kind else {
            return refused(format!(
                "{name}: the unit {said} has no section that says what it is"
            ));
        };
        if said.contains('/') {
            return refused(format!("{name}: {said:?} is no name of a file"));
        }
        files.push(Input {
            name: format!("{said}.{}", kind.extension()),
            bytes: part.trim_start_matches('\n').as_bytes().to_vec(),
        });
    }
    if files.is_empty() {
        return refused(format!("there is no unit in {name}"));
    }
    let stem = name.strip_suffix(".quadlets").unwrap_or(name);
    Ok(Bundle {
        list: Some(format!("{stem}.app")),
        files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, text: &str) -> Input {
        Input {
            name: name.into(),
            bytes: text.into(),
        }
    }

    #[test]
    fn a_file_of_many_units_is_parted() {
        let text = "# FileName=web\n[Container]\nImage=x\n---\n\n#FileName=data\n[Volume]\n---\n";
        let bundle = bundle_of_many("shop.quadlets", text).unwrap();
        assert_eq!(bundle.list.as_deref(), Some("shop.app"));
        let expected = [
            input("web.container", "# FileName=web\n[Container]\nImage=x\n"),
            input("data.volume", "#FileName=data\n[Volume]\n"),
        ];
        assert_eq!(bundle.files, expected);
        for (text, said) in [
            ("[Volume]\n", "q: the unit 1 says no \"# FileName=NAME\""),
            (
                "# FileName=a\n[Unit]\n",
                "q: the unit a has no section that says what it is",
            ),
            (
                "# FileName=../a\n[Volume]\n",
                "q: \"../a\" is no name of a file",
            ),
            ("---\n", "there is no unit in q"),
        ] {
            assert_eq!(bundle_of_many("q", text).unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn a_directory_is_its_regular_files() {
        let home = tempfile::TempDir::new().unwrap();
        let shop = home.path().join("shop");
        fs::create_dir_all(shop.join("conf")).unwrap();
        fs::write(shop.join("conf/a"), "a").unwrap();
        let error = bundle_of_directory(&shop).unwrap_err().to_string();
        assert_eq!(error, format!("there is no unit in {}", shop.display()));
        fs::write(shop.join("web.container"), "w").unwrap();
        let bundle = bundle_of_directory(&shop).unwrap();
        assert_eq!(bundle.list.as_deref(), Some("shop.app"));
        assert_eq!(
            bundle.files,
            [input("conf/a", "a"), input("web.container", "w")]
        );
        let device = shop.join("device");
        std::os::unix::fs::symlink("/dev/zero", &device).unwrap();
        let error = bundle_of_directory(&shop).unwrap_err().to_string();
        assert_eq!(error, format!("{} is not a regular file", device.display()));
    }
}
