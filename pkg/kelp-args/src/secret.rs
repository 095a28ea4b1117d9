//! `--secret`: a secret of the store, as a file or as a variable.

use std::str::FromStr;

use crate::Error;
use crate::scalar::number;

/// The mode of a secret's file where none is given.
const USUAL_MODE: u32 = 0o444;

/// A secret that a container is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Its name, its id, or the only beginning of that.
    pub source: String,
    /// How it comes into the container.
    pub kind: SecretKind,
    /// Where the file is, relative to /run/secrets, or what the variable is called; its name where
    /// nothing is said.
    pub target: Option<String>,
}

/// How a secret comes into a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// As a file, with the ids that its owner and group have in the container.
    File {
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Permissions, at most 0777.
        mode: u32,
    },
    /// As a variable of the program.
    Variable,
}

impl FromStr for Secret {
    type Err = Error;

    /// `NAME[,type=mount|env][,target=…][,uid=…][,gid=…][,mode=…]`; the name may also be `source=NAME`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |hint: &str| Error::invalid("value of --secret", text, hint);
        let mut words = Words::default();
        for (number, word) in text.split(',').enumerate() {
            match word.split_once('=') {
                None if number == 0 => words.source = Some(word.to_owned()),
                Some((key, value)) => words.take(key, value).map_err(invalid)?,
                None => return Err(invalid("what follows the name is KEY=VALUE")),
            }
        }
        let source = words.source.filter(|source| !source.is_empty());
        let source = source.ok_or_else(|| invalid("the name of a secret comes first"))?;
        let of_file = [words.uid, words.gid, words.mode];
        if words.variable && of_file.iter().any(Option::is_some) {
            return Err(invalid("uid, gid and mode are for type=mount alone"));
        }
        let target = words.target.filter(|target| !target.is_empty());
        let kind = if words.variable {
            SecretKind::Variable
        } else {
            SecretKind::File {
                uid: words.uid.unwrap_or(0),
                gid: words.gid.unwrap_or(0),
                mode: words.mode.unwrap_or(USUAL_MODE),
            }
        };
        match (&target, kind) {
            (Some(target), _) if target.contains('\0') => {
                Err(invalid("the target has a null byte"))
            }
            (Some(name), SecretKind::Variable) if name.contains('=') => {
                Err(invalid("the name of a variable has no equals sign"))
            }
            _ => Ok(Self {
                source,
                kind,
                target,
            }),
        }
    }
}

/// What was said so far.
#[derive(Default)]
struct Words {
    source: Option<String>,
    typed: bool,
    variable: bool,
    target: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<u32>,
}

impl Words {
    fn take(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        const ID: &str = "uid and gid are numbers of ids in the container";
        match key {
            "source" if self.source.is_some() => return Err("the name may be said once"),
            "source" => self.source = Some(value.to_owned()),
            "type" if self.typed => return Err("type may be said once"),
            "type" => {
                self.typed = true;
                self.variable = match value {
                    "mount" => false,
                    "env" => true,
                    _ => return Err("the type is mount or env"),
                };
            }
            "target" => self.target = Some(value.to_owned()),
            "uid" | "UID" => self.uid = Some(id(value).ok_or(ID)?),
            "gid" | "GID" => self.gid = Some(id(value).ok_or(ID)?),
            "mode" => {
                let mode = mode(value).ok_or("the mode is an octal number up to 0777")?;
                self.mode = Some(mode);
            }
            _ => return Err("the options are type, target, uid, gid and mode"),
        }
        Ok(())
    }
}

/// An id; the highest number means none (chown(2)).
fn id(text: &str) -> Option<u32> {
    number(text).filter(|&id| id != u32::MAX)
}

fn mode(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mode = digits.then(|| u32::from_str_radix(text, 8).ok()).flatten();
    mode.filter(|&mode| mode <= 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_what_becomes_of_it() {
        let file = |uid, gid, mode| SecretKind::File { uid, gid, mode };
        for (text, source, kind, target) in [
            ("key", "key", file(0, 0, 0o444), None),
            ("a b..c", "a b..c", file(0, 0, 0o444), None),
            ("source=key", "key", file(0, 0, 0o444), None),
            ("type=env,source=key", "key", SecretKind::Variable, None),
            ("key,target=", "key", file(0, 0, 0o444), None),
            (
                "key,target=/a=b,uid=1,GID=2,mode=0400",
                "key",
                file(1, 2, 0o400),
                Some("/a=b"),
            ),
            ("key,mode=777", "key", file(0, 0, 0o777), None),
            ("key,type=mount,mode=0", "key", file(0, 0, 0), None),
            (
                "key,type=env,target=K",
                "key",
                SecretKind::Variable,
                Some("K"),
            ),
        ] {
            let expected = Secret {
                source: source.to_owned(),
                kind,
                target: target.map(str::to_owned),
            };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        for (text, hint) in [
            ("", "the name of a secret comes first"),
            (",type=env", "the name of a secret comes first"),
            ("type=env", "the name of a secret comes first"),
            ("key,source=other", "the name may be said once"),
            ("key,env", "what follows the name is KEY=VALUE"),
            ("key,type=file", "the type is mount or env"),
            ("key,type=env,type=env", "type may be said once"),
            (
                "key,type=env,mode=0400",
                "uid, gid and mode are for type=mount alone",
            ),
            (
                "key,uid=1,type=env",
                "uid, gid and mode are for type=mount alone",
            ),
            (
                "key,type=env,target=A=B",
                "the name of a variable has no equals sign",
            ),
            ("key,target=a\0b", "the target has a null byte"),
            (
                "key,uid=root",
                "uid and gid are numbers of ids in the container",
            ),
            (
                "key,gid=4294967295",
                "uid and gid are numbers of ids in the container",
            ),
            ("key,mode=8", "the mode is an octal number up to 0777"),
            ("key,mode=+7", "the mode is an octal number up to 0777"),
            ("key,mode=4755", "the mode is an octal number up to 0777"),
            (
                "key,size=1",
                "the options are type, target, uid, gid and mode",
            ),
        ] {
            let error = text.parse::<Secret>().unwrap_err().to_string();
            assert_eq!(error, format!("invalid value of --secret {text:?}: {hint}"));
        }
    }
}
