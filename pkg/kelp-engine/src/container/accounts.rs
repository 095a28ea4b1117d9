//! Which users the container's passwd gets besides those of its image.

use kelp_runtime::accounts::{Account, Accounts};
use kelp_userns::IdMap;

use crate::container::config::{CreateOptions, UserMode};
use crate::{Error, host};

/// What is added for a request whose program runs as `user`.
pub(crate) fn plan(
    options: &CreateOptions,
    map: &IdMap,
    user: Option<&str>,
) -> Result<Option<Accounts>, Error> {
    let asked = !options.host_users.is_empty()
        || options.passwd_entry.is_some()
        || options.group_entry.is_some();
    // A directory of the user's own is changed only if that was asked for.
    if options.no_passwd || options.rootfs.is_some() && !asked {
        return Ok(None);
    }
    let what = || Error::io("read /etc/passwd");
    let mut users = Vec::new();
    let keeps_ids = matches!(options.namespaces.user, UserMode::KeepId { .. });
    if keeps_ids {
        let (uid, gid) = host::user_inside(map);
        let own = kelp_userns::own::ids().0;
        let account = Account::of_host(&own.to_string()).unwrap_or_default();
        users.push(Account {
            uid,
            gid,
            ..account.unwrap_or_else(|| Account {
                name: uid.to_string(),
                ..Account::default()
            })
        });
    }
    for name in &options.host_users {
        let account = Account::of_host(name).map_err(what())?;
        users.push(account.ok_or_else(|| {
            Error::invalid(format!(
                "--hostuser {name}: the host's /etc/passwd has no such user"
            ))
        })?);
    }
    let number = user.map(|user| user.split(':').next().unwrap_or_default());
    let is_number = number.is_some_and(|user| user.parse::<u32>().is_ok());
    let name = match number.filter(|_| is_number) {
        // The user's own name is of use inside; a host that can't tell it has none.
        Some(number) => Account::of_host(number).ok().flatten(),
        None => None,
    };
    if users.is_empty() && !is_number {
        return Ok(None);
    }
    Ok(Some(Accounts {
        users,
        keeps_ids,
        name: name.map(|account| account.name),
        passwd_entry: options.passwd_entry.clone(),
        group_entry: options.group_entry.clone(),
    }))
}
