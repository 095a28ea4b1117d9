//! `--add-host`: a line of /etc/hosts.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Names of one address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AddHost {
    /// At least one name.
    pub names: Vec<String>,
    /// What they stand for.
    pub address: HostAddress,
}

/// An address in an [`AddHost`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostAddress {
    /// This one.
    Ip(IpAddr),
    /// Whichever leads to the host: `host-gateway`.
    HostGateway,
}

impl FromStr for AddHost {
    type Err = Error;

    /// `NAME[;NAME...]:IP`; as with docker, an equals sign may stand for the colon.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |hint: &str| Error::invalid("host", text, hint);
        let (names, address) = text
            .split_once(['=', ':'])
            .ok_or_else(|| invalid("use NAME[;NAME...]:IP or NAME:host-gateway"))?;
        let names: Vec<_> = names.split(';').map(str::to_owned).collect();
        let is_name = |name: &String| {
            !name.is_empty()
                && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#')
        };
        if !names.iter().all(is_name) {
            return Err(invalid("a name is empty or has white space in it"));
        }
        let bare = address
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(address);
        let address = match address {
            "host-gateway" => HostAddress::HostGateway,
            _ => HostAddress::Ip(
                bare.parse()
                    .map_err(|_| invalid("the address must be an IP address or host-gateway"))?,
            ),
        };
        Ok(Self { names, address })
    }
}

impl fmt::Display for AddHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.names.join(";"))?;
        match self.address {
            HostAddress::Ip(address) => address.fmt(formatter),
            HostAddress::HostGateway => formatter.write_str("host-gateway"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_names_and_an_address() {
        for (text, shown) in [
            ("db:10.0.0.1", "db:10.0.0.1"),
            ("db;cache:10.0.0.1", "db;cache:10.0.0.1"),
            ("db=10.0.0.1", "db:10.0.0.1"),
            ("db:::1", "db:::1"),
            ("db:[fd00::2]", "db:fd00::2"),
            ("me:host-gateway", "me:host-gateway"),
        ] {
            assert_eq!(
                text.parse::<AddHost>().unwrap().to_string(),
                shown,
                "{text}"
            );
        }
        for (text, said) in [
            (
                "db",
                "invalid host \"db\": use NAME[;NAME...]:IP or NAME:host-gateway",
            ),
            (
                ":10.0.0.1",
                "invalid host \":10.0.0.1\": a name is empty or has white space in it",
            ),
            (
                "a b:10.0.0.1",
                "invalid host \"a b:10.0.0.1\": a name is empty or has white space in it",
            ),
            (
                "db:10.0.0",
                "invalid host \"db:10.0.0\": the address must be an IP address or host-gateway",
            ),
        ] {
            assert_eq!(text.parse::<AddHost>().unwrap_err().to_string(), said);
        }
        assert!("a;;b:::1".parse::<AddHost>().is_err());
    }
}
