//! Probes: whether a container lives, or has started.

use std::time::Duration;

use crate::Error;
use crate::container::Port;
use crate::field::Value;

/// How it is found out whether a container works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is done.
    pub check: Check,
    /// How long nothing is checked after the start.
    pub delay: Duration,
    /// The time between two checks.
    pub period: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// How often it fails in a row.
    pub failures: u32,
    /// How often it is passed in a row.
    pub successes: u32,
}

/// What a probe does, inside the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Runs a program.
    Exec(Vec<String>),
    /// Runs a line of the container's shell.
    Shell(String),
}

pub(crate) fn read(value: &Value<'_>, ports: &[Port]) -> Result<Probe, Error> {
    let mut fields = value.fields()?;
    let actions = [
        fields.take("exec").map(|value| (value, 0)),
        fields.take("httpGet").map(|value| (value, 1)),
        fields.take("tcpSocket").map(|value| (value, 2)),
    ];
    fields.refuse(&[
        ("grpc", "use exec, httpGet or tcpSocket"),
        ("terminationGracePeriodSeconds", "say it of the pod"),
    ])?;
    let mut actions = actions.into_iter().flatten();
    let check = match (actions.next(), actions.next()) {
        (Some((value, 0)), None) => {
            let mut fields = value.fields()?;
            let command = fields.need("command")?;
            let words = command.texts()?;
            fields.end()?;
            if words.is_empty() {
                return Err(command.error("it is empty"));
            }
            Check::Exec(words)
        }
        (Some((value, 1)), None) => http(&value, ports)?,
        (Some((value, _)), None) => tcp(&value, ports)?,
        _ => return Err(value.error("it has to have one of exec, httpGet and tcpSocket")),
    };
    let mut number = |name: &str, usual: u32, least: u32| -> Result<u32, Error> {
        match fields.take(name) {
            Some(value) => match value.fitting::<u32>()? {
                number if number >= least => Ok(number),
                // Kubernetes takes 0 for the usual.
                0 => Ok(usual),
                number => Err(value.error(format!("{number} is out of range"))),
            },
            None => Ok(usual),
        }
    };
    let probe = Probe {
        check,
        delay: Duration::from_secs(number("initialDelaySeconds", 0, 0)?.into()),
        period: Duration::from_secs(number("periodSeconds", 10, 1)?.into()),
        timeout: Duration::from_secs(number("timeoutSeconds", 1, 1)?.into()),
        failures: number("failureThreshold", 3, 1)?,
        successes: number("successThreshold", 1, 1)?,
    };
    fields.end()?;
    Ok(probe)
}

/// As podman does it, the container's own curl asks.
fn http(value: &Value<'_>, ports: &[Port]) -> Result<Check, Error> {
    let mut fields = value.fields()?;
    let scheme = fields.text("scheme")?.unwrap_or_else(|| "HTTP".to_owned());
    if !matches!(scheme.to_ascii_uppercase().as_str(), "HTTP" | "HTTPS") {
        return Err(value.error(format!("invalid scheme {scheme:?}: use HTTP or HTTPS")));
    }
    let host = fields
        .text("host")?
        .unwrap_or_else(|| "localhost".to_owned());
    let path = fields.text("path")?.unwrap_or_else(|| "/".to_owned());
    let port = port(&fields.need("port")?, ports)?;
    let mut command = "curl -f -s -o /dev/null".to_owned();
    // The certificate is not looked at, as in Kubernetes.
    if scheme.eq_ignore_ascii_case("https") {
        command.push_str(" -k");
    }
    if let Some(list) = fields.take("httpHeaders") {
        for header in list.items()? {
            let mut fields = header.fields()?;
            let name = fields.need("name")?.text()?;
            let content = fields.need("value")?.text()?;
            fields.end()?;
            command.push_str(" -H ");
            command.push_str(&quoted(&format!("{name}: {content}")));
        }
    }
    fields.end()?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    let url = format!(
        "{}://{host}:{port}{slash}{path}",
        scheme.to_ascii_lowercase()
    );
    Ok(Check::Shell(format!(
        "{command} {} || exit 1",
        quoted(&url)
    )))
}

/// As podman does it, the container's own nc tries.
fn tcp(value: &Value<'_>, ports: &[Port]) -> Result<Check, Error> {
    let mut fields = value.fields()?;
    let host = fields
        .text("host")?
        .unwrap_or_else(|| "localhost".to_owned());
    let port = port(&fields.need("port")?, ports)?;
    fields.end()?;
    Ok(Check::Shell(format!(
        "nc -z -v {} {port} || exit 1",
        quoted(&host)
    )))
}

/// A port by number, or by the name that the container gives it.
fn port(value: &Value<'_>, ports: &[Port]) -> Result<u16, Error> {
    if value.is_number() {
        return match value.fitting::<u16>()? {
            0 => Err(value.error("0 is no port")),
            port => Ok(port),
        };
    }
    let name = value.text()?;
    let found = ports
        .iter()
        .find(|port| port.name.as_deref() == Some(&name));
    found
        .map(|port| port.container)
        .ok_or_else(|| value.error(format!("the container has no port {name}")))
}

/// A word of the shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
