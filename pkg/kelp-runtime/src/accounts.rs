//! Lines that are added to the container's own passwd and group, so that its program's user has a
//! name: what it runs as is often a number that no image knows.
//!
//! The init writes them as the container's root once the root is mounted, to the files of the root
//! alone: what somebody has mounted over one of them stays as it is.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::OFlags;

use crate::error::{Failure, Step};
use crate::init::mount_id;
use crate::plan::ProcessPlan;
use crate::process::Identity;
use crate::rootfd::Root;
use crate::user::{self, file};

/// What is added.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Accounts {
    /// Users of the host, each unless the container has one of that name or number.
    pub users: Vec<Account>,
    /// Whether the first of them is the one who keeps its ids, and has its group added as well.
    pub keeps_ids: bool,
    /// What the user that the program runs as is called, where it is a number.
    pub name: Option<String>,
    /// Its line instead of the usual one, with `$USERNAME`, `$UID`, `$GID`, `$NAME` and `$HOME`.
    pub passwd_entry: Option<String>,
    /// The line of its group instead of the usual one, with `$GROUPNAME`, `$GID` and `$USERLIST`.
    pub group_entry: Option<String>,
}

/// A user as passwd(5) has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Account {
    /// The name to log in.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The person's name, or what else is told of it.
    pub comment: String,
}

impl Account {
    /// A user of the host by name or number, from /etc/passwd alone.
    pub fn of_host(wanted: &str) -> io::Result<Option<Self>> {
        let content = fs::read("/etc/passwd")?;
        Ok(find(&content, wanted))
    }

    fn line(&self, home: &str) -> String {
        let Self {
            name,
            uid,
            gid,
            comment,
        } = self;
        format!("{name}:*:{uid}:{gid}:{comment}:{home}:/bin/sh")
    }
}

fn find(passwd: &[u8], wanted: &str) -> Option<Account> {
    let number = wanted.parse::<u32>().ok();
    let fits = |entry: &file::UserEntry<'_>| match number {
        Some(uid) => entry.uid == uid,
        None => entry.name == wanted.as_bytes(),
    };
    let entry = file::users(passwd).find(fits)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(Account {
        name: text(entry.name),
        uid: entry.uid,
        gid: entry.gid,
        comment: text(entry.comment),
    })
}

/// The lines for passwd and group of the users of the host.
pub(crate) fn add_users(plan: &ProcessPlan, root: &Root) -> Result<(), Failure> {
    let Some(accounts) = &plan.extras.accounts else {
        return Ok(());
    };
    if accounts.users.is_empty() {
        return Ok(());
    }
    // A user of the host that was named has to be there; one who just keeps its ids need not have a name.
    let is_asked =
        accounts.passwd_entry.is_some() || accounts.users.len() > usize::from(accounts.keeps_ids);
    let Some(passwd) = read(root, "etc/passwd", is_asked)? else {
        return Ok(());
    };
    let home = plan.cwd.to_string_lossy();
    let is_new = |account: &&Account| {
        let mut known = file::users(&passwd);
        !known.any(|entry| entry.uid == account.uid || entry.name == account.name.as_bytes())
    };
    let users = accounts.users.iter().filter(is_new);
    let lines: Vec<_> = users
        .map(|account| match &accounts.passwd_entry {
            Some(entry) if accounts.keeps_ids => passwd_line(entry, account, &home),
            _ => account.line(&home),
        })
        .collect();
    append(root, "etc/passwd", &passwd, &lines)?;
    let Some(keeper) = accounts.users.first().filter(|_| accounts.keeps_ids) else {
        return Ok(());
    };
    let Some(group) = read(root, "etc/group", accounts.group_entry.is_some())? else {
        return Ok(());
    };
    if file::groups(&group).any(|entry| entry.gid == keeper.gid) {
        return Ok(());
    }
    let line = match &accounts.group_entry {
        Some(entry) => group_line(entry, &keeper.name, keeper.gid, &keeper.name),
        None => format!("{0}:x:{1}:{0}", keeper.name, keeper.gid),
    };
    append(root, "etc/group", &group, &[line])
}

/// The lines for the user that the program runs as, where it was asked for by number and has none;
/// whether passwd tells more of it now.
pub(crate) fn add_own(
    plan: &ProcessPlan,
    root: &Root,
    identity: &Identity,
) -> Result<bool, Failure> {
    let asked = plan.extras.user.as_deref().unwrap_or_default();
    let (user, group) = asked.split_once(':').unwrap_or((asked, "0"));
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    let Some(accounts) = &plan.extras.accounts else {
        return Ok(false);
    };
    if !is_number(user) {
        return Ok(false);
    }
    let Some(passwd) = read(root, "etc/passwd", accounts.passwd_entry.is_some())? else {
        return Ok(false);
    };
    let is_new = !file::users(&passwd).any(|entry| entry.uid == identity.uid);
    if is_new {
        let account = Account {
            name: accounts.name.clone().unwrap_or_else(|| user.to_owned()),
            uid: identity.uid,
            gid: identity.gid,
            comment: "container user".to_owned(),
        };
        let home = plan.cwd.to_string_lossy();
        let line = match &accounts.passwd_entry {
            Some(entry) => passwd_line(entry, &account, &home),
            None => account.line(&home),
        };
        append(root, "etc/passwd", &passwd, &[line])?;
    }
    if is_number(group)
        && let Some(groups) = read(root, "etc/group", accounts.group_entry.is_some())?
        && !file::groups(&groups).any(|entry| entry.gid == identity.gid)
    {
        let gid = identity.gid;
        let line = match &accounts.group_entry {
            Some(entry) => group_line(entry, &gid.to_string(), gid, user),
            None => format!("{gid}:x:{gid}:{user}"),
        };
        append(root, "etc/group", &groups, &[line])?;
    }
    Ok(is_new)
}

/// A file of the root; nothing where it is none that can be read, unless a line of it was asked for.
fn read(root: &Root, path: &str, is_asked: bool) -> Result<Option<Vec<u8>>, Failure> {
    match user::read(root, path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if is_asked => Err(Failure::setup(error.to_string())),
        Err(_) => Ok(None),
    }
}

fn passwd_line(template: &str, account: &Account, home: &str) -> String {
    let line = template
        .replace("$USERNAME", &account.name)
        .replace("$UID", &account.uid.to_string())
        .replace("$GID", &account.gid.to_string());
    line.replace("$NAME", &account.comment)
        .replace("$HOME", home)
}

fn group_line(template: &str, name: &str, gid: u32, users: &str) -> String {
    template
        .replace("$GROUPNAME", name)
        .replace("$GID", &gid.to_string())
        .replace("$USERLIST", users)
}

/// Writes lines to the end of a file of the root, which is made if it is missing.
fn append(root: &Root, path: &str, content: &[u8], lines: &[String]) -> Result<(), Failure> {
    if lines.is_empty() {
        return Ok(());
    }
    let what = || format!("add a line to the container's /{path}");
    let path = Path::new(OsStr::new(path));
    root.create_file(path, 0o644).step(what)?;
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = root.open(path, flags).step(what)?;
    let top = root.open(Path::new("/"), OFlags::PATH | OFlags::CLOEXEC);
    if mount_id(&file) != mount_id(&top.step(what)?) {
        // A file of the host's, or one that is shared: whoever mounted it says who is in it.
        return Ok(());
    }
    let mut text = lines.join("\n");
    text.push('\n');
    if content.last().is_some_and(|&last| last != b'\n') {
        text.insert(0, '\n');
    }
    rustix::io::write(&file, text.as_bytes()).step(what)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_or_number() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nkim:x:1000:1001:Kim,,,:/home/kim:/bin/sh\n";
        let kim = Account {
            name: "kim".to_owned(),
            uid: 1000,
            gid: 1001,
            comment: "Kim,,,".to_owned(),
        };
        assert_eq!(find(passwd, "kim"), Some(kim.clone()));
        assert_eq!(find(passwd, "1000"), Some(kim.clone()));
        assert_eq!(find(passwd, "1001"), None);
        assert_eq!(kim.line("/"), "kim:*:1000:1001:Kim,,,:/:/bin/sh");
    }

    #[test]
    fn templates_have_their_words_replaced() {
        let kim = Account {
            name: "kim".to_owned(),
            uid: 7,
            gid: 8,
            comment: "Kim".to_owned(),
        };
        let template = "$USERNAME|$UID|$GID|$NAME|$HOME|$OTHER";
        assert_eq!(passwd_line(template, &kim, "/w"), "kim|7|8|Kim|/w|$OTHER");
        assert_eq!(
            group_line("$GROUPNAME|$GID|$USERLIST", "g", 8, "kim"),
            "g|8|kim"
        );
    }
}
