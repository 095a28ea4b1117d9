//! Variables of a container: `env` and `envFrom`, with what they refer to.

use crate::container::Resources;
use crate::data::{Sources, Values};
use crate::expand::expand;
use crate::field::{Fields, Value};
use crate::metadata::Metadata;
use crate::{Error, quantity};

/// A variable, by name and value.
pub type Variable = (String, String);

/// What variables can refer to besides config maps and secrets.
pub(crate) struct Surroundings<'a> {
    pub sources: &'a Sources,
    pub pod: &'a Metadata,
    /// Resources of the containers of the pod, by name.
    pub resources: &'a [(String, Resources)],
    /// The container's name.
    pub container: &'a str,
}

/// Reads `envFrom` and `env`; later ones win, and values may refer to those before.
pub(crate) fn read(
    fields: &mut Fields<'_>,
    around: &Surroundings<'_>,
) -> Result<Vec<Variable>, Error> {
    let mut variables: Vec<Variable> = Vec::new();
    if let Some(list) = fields.take("envFrom") {
        for source in list.items()? {
            all_of(&source, around.sources, &mut variables)?;
        }
    }
    if let Some(list) = fields.take("env") {
        for item in list.items()? {
            let mut fields = item.fields()?;
            let named = fields.need("name")?;
            let name = named.text()?;
            check_name(&named, &name)?;
            let value = fields.take("value");
            let from = fields.take("valueFrom");
            let value = match (value, from) {
                (Some(_), Some(from)) => {
                    return Err(from.error("value is given too: use one of them"));
                }
                (None, Some(from)) => referred(&from, around)?,
                (value, None) => {
                    let text = value.map(|value| value.text()).transpose()?;
                    Some(expand(&text.unwrap_or_default(), |name| {
                        of(&variables, name)
                    }))
                }
            };
            fields.end()?;
            if let Some(value) = value {
                set(&mut variables, name, value);
            }
        }
    }
    Ok(variables)
}

/// The value of a variable.
pub(crate) fn of(variables: &[Variable], name: &str) -> Option<String> {
    let (_, value) = variables.iter().find(|(known, _)| known == name)?;
    Some(value.clone())
}

fn set(variables: &mut Vec<Variable>, name: String, value: String) {
    match variables.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = value,
        None => variables.push((name, value)),
    }
}

fn check_name(value: &Value<'_>, name: &str) -> Result<(), Error> {
    if !name.is_empty() && !name.contains(['=', '\0']) {
        return Ok(());
    }
    Err(value.error(format!(
        "invalid variable {name:?}: a name is not empty and has no ="
    )))
}

fn text(place: &Value<'_>, key: &str, bytes: &[u8]) -> Result<String, Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(place.error(format!("{key} is not text, and can't be a variable"))),
    }
}

/// An item of `envFrom`.
fn all_of(item: &Value<'_>, sources: &Sources, variables: &mut Vec<Variable>) -> Result<(), Error> {
    let mut fields = item.fields()?;
    let prefix = fields.text("prefix")?.unwrap_or_default();
    let found = match (fields.take("configMapRef"), fields.take("secretRef")) {
        (Some(place), None) => (place, Place::ConfigMap),
        (None, Some(place)) => (place, Place::Secret),
        _ => return Err(item.error("it has to have either configMapRef or secretRef")),
    };
    fields.end()?;
    let (place, kind) = found;
    let mut fields = place.fields()?;
    let (values, _) = kind.find(&place, &mut fields, sources)?;
    fields.end()?;
    for (key, value) in values.into_iter().flatten() {
        set(
            variables,
            format!("{prefix}{key}"),
            text(&place, key, value)?,
        );
    }
    Ok(())
}

/// Where keys are looked for.
#[derive(Clone, Copy)]
enum Place {
    ConfigMap,
    Secret,
}

impl Place {
    /// What is meant, and whether it may be missing.
    fn find<'a>(
        self,
        value: &Value<'_>,
        fields: &mut Fields<'_>,
        sources: &'a Sources,
    ) -> Result<(Option<&'a Values>, bool), Error> {
        let name = fields.need("name")?.text()?;
        let optional = fields.truth("optional")? || sources.others;
        let (known, what) = match self {
            Self::ConfigMap => (&sources.config_maps, "config map"),
            Self::Secret => (&sources.secrets, "secret"),
        };
        match known.get(&name) {
            None if !optional => Err(value.error(missing(what, &name))),
            found => Ok((found, optional)),
        }
    }
}

/// What is said of something that is referred to and not here.
pub(crate) fn missing(what: &str, name: &str) -> String {
    let more = match what {
        "config map" => ", or name its file with --configmap",
        _ => "",
    };
    format!("there is no {what} {name}: add it to the documents{more}")
}

/// What `valueFrom` means; nothing where that may be missing.
fn referred(from: &Value<'_>, around: &Surroundings<'_>) -> Result<Option<String>, Error> {
    let mut fields = from.fields()?;
    let keys = [
        ("configMapKeyRef", Place::ConfigMap),
        ("secretKeyRef", Place::Secret),
    ];
    for (name, kind) in keys {
        let Some(place) = fields.take(name) else {
            continue;
        };
        fields.end()?;
        let mut inner = place.fields()?;
        let key = inner.need("key")?.text()?;
        let (values, optional) = kind.find(&place, &mut inner, around.sources)?;
        inner.end()?;
        return match values.and_then(|values| values.get(&key)) {
            Some(value) => text(&place, &key, value).map(Some),
            None if optional => Ok(None),
            None => Err(place.error(format!("there is no key {key}"))),
        };
    }
    if let Some(place) = fields.take("fieldRef") {
        fields.end()?;
        return field(&place, around.pod).map(Some);
    }
    if let Some(place) = fields.take("resourceFieldRef") {
        fields.end()?;
        return resource(&place, around).map(Some);
    }
    fields.end()?;
    Err(from.error("it has to have configMapKeyRef, secretKeyRef, fieldRef or resourceFieldRef"))
}

/// A field of the pod.
fn field(place: &Value<'_>, pod: &Metadata) -> Result<String, Error> {
    let mut fields = place.fields()?;
    if let Some(version) = fields.take("apiVersion")
        && version.text()? != "v1"
    {
        return Err(version.error("a fieldPath is of v1"));
    }
    let path = fields.need("fieldPath")?;
    let text = path.text()?;
    fields.end()?;
    let key = |prefix: &str| {
        let rest = text.strip_prefix(prefix)?.strip_prefix("['")?;
        rest.strip_suffix("']")
    };
    if text == "metadata.name" {
        return Ok(pod.name.clone());
    }
    for (prefix, map) in [
        ("metadata.labels", &pod.labels),
        ("metadata.annotations", &pod.annotations),
    ] {
        if let Some(key) = key(prefix) {
            return Ok(map.get(key).cloned().unwrap_or_default());
        }
    }
    Err(path.error(format!(
        "{text} is not supported by kelp: there are metadata.name, metadata.labels['KEY'] and \
         metadata.annotations['KEY']"
    )))
}

/// What a container asks for.
fn resource(place: &Value<'_>, around: &Surroundings<'_>) -> Result<String, Error> {
    let mut fields = place.fields()?;
    let container = fields.text("containerName")?;
    let container = container.as_deref().unwrap_or(around.container);
    let named = fields.need("resource")?;
    let name = named.text()?;
    let divisor = match fields.take("divisor") {
        Some(value) => quantity::thousandths(value.literal()?).map_err(|why| value.error(why))?,
        None => 0,
    };
    fields.end()?;
    let found = around
        .resources
        .iter()
        .find(|(known, _)| known == container);
    let Some((_, resources)) = found else {
        return Err(place.error(format!("there is no container {container}")));
    };
    let amount = match name.as_str() {
        "limits.cpu" => resources.cpu_limit.map(i128::from),
        "requests.cpu" => resources
            .cpu_request
            .or(resources.cpu_limit)
            .map(i128::from),
        "limits.memory" => resources.memory_limit.map(|bytes| i128::from(bytes) * 1000),
        "requests.memory" => resources
            .memory_request
            .or(resources.memory_limit)
            .map(|bytes| i128::from(bytes) * 1000),
        _ => {
            return Err(named.error(format!(
                "{name} is not supported by kelp: there are limits and requests of cpu and memory"
            )));
        }
    };
    let divisor = if divisor > 0 { divisor } else { 1000 };
    // Rounded up, as in Kubernetes; what was not asked for is nothing.
    let amount = amount.unwrap_or_default();
    Ok(((amount + divisor - 1) / divisor).to_string())
}
