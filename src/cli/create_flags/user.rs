//! Flags about who the program runs as, and what passwd and group say of it.

use anyhow::bail;
use kelp_engine::container::CreateOptions;

/// The flags.
#[derive(clap::Args, Debug)]
pub struct UserFlags {
    /// The user, by name or number: USER[:GROUP]
    #[arg(short, long)]
    user: Option<String>,
    /// A further group, or keep-groups for those of whoever starts the container
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Add the user to /etc/passwd and /etc/group where the image has none of that number
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    passwd: bool,
    /// The line for /etc/passwd, with $USERNAME, $UID, $GID, $NAME and $HOME
    #[arg(long, value_name = "LINE", value_parser = line)]
    passwd_entry: Option<String>,
    /// The line for /etc/group, with $GROUPNAME, $GID and $USERLIST
    #[arg(long, value_name = "LINE", value_parser = line)]
    group_entry: Option<String>,
    /// Add a user of the host to /etc/passwd
    #[arg(long, value_name = "USER")]
    hostuser: Vec<String>,
}

impl UserFlags {
    pub(super) fn apply(&self, options: &mut CreateOptions) -> anyhow::Result<()> {
        options.user.clone_from(&self.user);
        options.keep_groups = self.group_add.iter().any(|group| group == "keep-groups");
        if options.keep_groups && self.group_add.len() > 1 {
            bail!("--group-add keep-groups leaves no room for other groups");
        }
        if !options.keep_groups {
            options.groups.clone_from(&self.group_add);
        }
        options.no_passwd = !self.passwd;
        for (flag, given) in [
            ("--passwd-entry", self.passwd_entry.is_some()),
            ("--group-entry", self.group_entry.is_some()),
            ("--hostuser", !self.hostuser.is_empty()),
        ] {
            if given && !self.passwd {
                bail!("--passwd=false and {flag} exclude each other");
            }
        }
        options.passwd_entry.clone_from(&self.passwd_entry);
        options.group_entry.clone_from(&self.group_entry);
        options.host_users.clone_from(&self.hostuser);
        Ok(())
    }
}

fn line(text: &str) -> Result<String, String> {
    match text.strip_suffix('\n').unwrap_or(text) {
        "" => Err(format!("invalid line {text:?}: it is empty")),
        line if line.contains('\n') => Err(format!("invalid line {text:?}: it is more than one")),
        line => Ok(line.to_owned()),
    }
}
