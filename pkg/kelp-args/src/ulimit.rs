//! `--ulimit NAME=SOFT[:HARD]`.

/// A limit's name, soft and hard value; `u64::MAX` is no limit.
pub type Ulimit = (String, u64, u64);

/// Parses a limit; -1 and `unlimited` are no limit.
pub fn parse(text: &str) -> Result<Ulimit, String> {
    let bad = || format!("invalid ulimit {text:?}: a ulimit is NAME=SOFT[:HARD]");
    let (name, values) = text.split_once('=').ok_or_else(bad)?;
    let value = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        _ => text.parse::<u64>().map_err(|_| bad()),
    };
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (value(soft)?, value(hard)?),
        None => (value(values)?, value(values)?),
    };
    if soft > hard {
        return Err(format!(
            "invalid ulimit {text:?}: the soft limit is above the hard one"
        ));
    }
    Ok((name.to_ascii_lowercase(), soft, hard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_one_value_or_two() {
        assert_eq!(parse("nofile=10:20"), Ok(("nofile".to_owned(), 10, 20)));
        assert_eq!(
            parse("CORE=-1"),
            Ok(("core".to_owned(), u64::MAX, u64::MAX))
        );
        for text in [
            "nofile",
            "nofile=",
            "nofile=x",
            "nofile=2:1",
            "nofile=1:2:3",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
