//! A stream of documents, by kind.

use crate::container::PullPolicy;
use crate::data::{self, Claim, Sources};
use crate::error::Error;
use crate::field::{Fields, Value};
use crate::metadata::Metadata;
use crate::node::{Node, load};
use crate::pod::{self, Kind, Pod, Restart};

/// What a stream has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents {
    /// Pods, in their order.
    pub pods: Vec<Pod>,
    /// Config maps and secrets, with those that were known before.
    pub sources: Sources,
    /// The names of the secrets among the documents, in their order.
    pub secrets: Vec<String>,
    /// Claims of volumes, in their order.
    pub claims: Vec<Claim>,
    /// Documents that mean nothing on one machine.
    pub passed: Vec<Passed>,
}

/// A document that means nothing on one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The document, as errors call it.
    pub document: String,
    /// Why it means nothing.
    pub why: &'static str,
}

/// Kinds that other tools write beside pods, and that are nothing here.
const PASSED_OVER: &[(&str, &str)] = &[
    ("Namespace", "there is one namespace"),
    ("Service", "ports are published by hostPort"),
    (
        "ServiceAccount",
        "there is no cluster to have an account with",
    ),
];

/// A stream of documents, such as a file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream<'a> {
    /// What errors call it; empty where there is but one.
    pub name: &'a str,
    /// The documents.
    pub text: &'a str,
}

/// Reads streams as if they were one; `known` are config maps and secrets of other places.
pub fn parse(streams: &[Stream<'_>], known: &Sources) -> Result<Documents, Error> {
    let mut nodes = Vec::new();
    for stream in streams {
        let loaded = load(stream.text).map_err(|error| Error {
            document: stream.name.to_owned(),
            ..error
        })?;
        nodes.push((stream.name, loaded));
    }
    let mut documents = Documents {
        sources: known.clone(),
        ..Documents::default()
    };
    let mut titled = Vec::new();
    for (name, nodes) in &nodes {
        for (number, node) in nodes {
            let plain = match *name {
                "" => format!("document {number}"),
                name => format!("{name}, document {number}"),
            };
            titled.push((plain, node));
        }
    }
    let mut heads = Vec::new();
    for (plain, node) in &titled {
        flatten(plain, node, false, &mut heads)?;
    }
    // Pods may come before what they refer to.
    for head in &heads {
        data_of(head, &mut documents)?;
    }
    for head in &heads {
        workload(head, &mut documents)?;
    }
    if let Some(twice) = twice(&documents.pods) {
        let text = format!("there are two pods of the name {twice}");
        return Err(stream_error(text));
    }
    Ok(documents)
}

fn stream_error(text: String) -> Error {
    Error {
        document: String::new(),
        line: 0,
        path: String::new(),
        text,
    }
}

fn twice(pods: &[Pod]) -> Option<&str> {
    let mut names: Vec<_> = pods.iter().map(|pod| &*pod.metadata.name).collect();
    names.sort_unstable();
    let pair = names.windows(2).find(|pair| pair[0] == pair[1])?;
    Some(pair[0])
}

/// A document, and what it is called in errors.
struct Head<'a> {
    node: &'a Node,
    title: String,
    kind: String,
}

/// Finds the documents in one that may be a list, unless it is an item of one.
fn flatten<'a>(
    plain: &'a str,
    node: &'a Node,
    is_item: bool,
    heads: &mut Vec<Head<'a>>,
) -> Result<(), Error> {
    let value = Value::document(node, plain);
    let mut fields = value.fields()?;
    let kind = fields.need("kind")?.text()?;
    if kind == "List" {
        if is_item {
            return Err(value.error("a List in a List is not supported by kelp"));
        }
        check_version(&fields.need("apiVersion")?, &kind, "v1")?;
        // Of the list, as a cluster sent it.
        fields.pass_over(&["metadata"]);
        let items = fields.need("items")?.items()?;
        fields.end()?;
        return items
            .iter()
            .try_for_each(|item| flatten(plain, item.node(), true, heads));
    }
    let name = fields.take("metadata").and_then(|metadata| {
        let mut fields = metadata.fields().ok()?;
        fields.text("name").ok().flatten()
    });
    let title = match name {
        Some(name) => format!("{plain} ({kind} {name})"),
        None => format!("{plain} ({kind})"),
    };
    heads.push(Head { node, title, kind });
    Ok(())
}

fn check_version(given: &Value<'_>, kind: &str, version: &str) -> Result<(), Error> {
    if given.text()? == version {
        return Ok(());
    }
    Err(given.error(format!("a {kind} is of {version}")))
}

impl<'a> Head<'a> {
    fn value(&'a self) -> Value<'a> {
        Value::document(self.node, &self.title)
    }

    /// The fields but for those that each document has.
    fn open(&'a self, version: &str) -> Result<(Metadata, Fields<'a>), Error> {
        let mut fields = self.value().fields()?;
        fields.take("kind");
        check_version(&fields.need("apiVersion")?, &self.kind, version)?;
        let metadata = fields.need("metadata")?;
        let read = Metadata::read(&metadata)?;
        if read.name.is_empty() {
            return Err(metadata.error("name is missing"));
        }
        // What a cluster has found.
        fields.pass_over(&["status"]);
        Ok((read, fields))
    }
}

fn data_of(head: &Head<'_>, documents: &mut Documents) -> Result<(), Error> {
    let place = head.value();
    match head.kind.as_str() {
        "ConfigMap" => {
            let (metadata, mut fields) = head.open("v1")?;
            let values = data::config_map(&mut fields)?;
            fields.end()?;
            let known = documents.sources.config_maps.keys().map(String::as_str);
            pod::twice(&place, "config map", known.chain([&*metadata.name]))?;
            documents.sources.config_maps.insert(metadata.name, values);
        }
        "Secret" => {
            let (metadata, mut fields) = head.open("v1")?;
            let values = data::secret(&mut fields)?;
            fields.end()?;
            let known = documents.sources.secrets.keys().map(String::as_str);
            pod::twice(&place, "secret", known.chain([&*metadata.name]))?;
            documents.secrets.push(metadata.name.clone());
            documents.sources.secrets.insert(metadata.name, values);
        }
        "PersistentVolumeClaim" => {
            let (metadata, mut fields) = head.open("v1")?;
            let claim = data::claim(&place, metadata, &mut fields)?;
            fields.end()?;
            let all = documents.claims.iter().chain([&claim]);
            pod::twice(&place, "claim", all.map(|it| &*it.metadata.name))?;
            documents.claims.push(claim);
        }
        kind => {
            if let Some((_, why)) = PASSED_OVER.iter().find(|(known, _)| *known == kind) {
                documents.passed.push(Passed {
                    document: head.title.clone(),
                    why,
                });
            }
        }
    }
    Ok(())
}

fn workload(head: &Head<'_>, documents: &mut Documents) -> Result<(), Error> {
    let (kind, version) = match head.kind.as_str() {
        "Pod" => (Kind::Pod, "v1"),
        "Deployment" => (Kind::Deployment, "apps/v1"),
        "DaemonSet" => (Kind::DaemonSet, "apps/v1"),
        "Job" => (Kind::Job, "batch/v1"),
        "ConfigMap" | "Secret" | "PersistentVolumeClaim" => return Ok(()),
        kind if PASSED_OVER.iter().any(|(known, _)| *known == kind) => return Ok(()),
        kind => {
            return Err(head.value().error(format!(
                "the kind {kind} is not supported by kelp: there are Pod, Deployment, DaemonSet, Job, \
                 ConfigMap, Secret and PersistentVolumeClaim"
            )));
        }
    };
    let (metadata, mut fields) = head.open(version)?;
    let spec = fields.need("spec")?;
    fields.end()?;
    let pod = if kind == Kind::Pod {
        pod::read(metadata, kind, &spec, &documents.sources)?
    } else {
        from_template(&metadata, kind, &spec, &documents.sources)?
    };
    documents.pods.push(pod);
    Ok(())
}

/// What says how a cluster goes from one version to the next, and finds the pods of a workload.
const OF_WORKLOADS: &[&str] = &[
    "minReadySeconds",
    "paused",
    "progressDeadlineSeconds",
    "revisionHistoryLimit",
    "selector",
    "strategy",
    "updateStrategy",
];

const OF_JOBS: &[(&str, &str)] = &[
    ("activeDeadlineSeconds", ""),
    ("backoffLimitPerIndex", ""),
    ("managedBy", ""),
    ("maxFailedIndexes", ""),
    ("podFailurePolicy", ""),
    ("podReplacementPolicy", ""),
    ("successPolicy", ""),
    ("suspend", "use kelp kube play --start=false"),
    ("ttlSecondsAfterFinished", "use kelp kube down"),
];

fn from_template(
    workload: &Metadata,
    kind: Kind,
    spec: &Value<'_>,
    sources: &Sources,
) -> Result<Pod, Error> {
    let mut fields = spec.fields()?;
    let only_one =
        |fields: &mut Fields<'_>, name: &str| -> Result<(), Error> {
            match fields.take(name) {
                Some(value) if value.number()? != 1 => Err(value
                    .error("it is not supported by kelp: one pod is made of a template; write 1")),
                _ => Ok(()),
            }
        };
    let mut retries = None;
    if kind == Kind::Job {
        fields.pass_over(&["selector", "manualSelector"]);
        fields.refuse(OF_JOBS)?;
        only_one(&mut fields, "completions")?;
        only_one(&mut fields, "parallelism")?;
        if let Some(mode) = fields.take("completionMode")
            && mode.text()? != "NonIndexed"
        {
            return Err(mode.error("it is not supported by kelp: use NonIndexed"));
        }
        retries = fields.get("backoffLimit", Value::fitting::<u32>)?;
    } else {
        fields.pass_over(OF_WORKLOADS);
        if kind == Kind::Deployment {
            only_one(&mut fields, "replicas")?;
        }
    }
    let template = fields.need("template")?;
    fields.end()?;
    let mut fields = template.fields()?;
    let mut metadata = fields.get("metadata", Metadata::read)?.unwrap_or_default();
    metadata.name = format!("{}-pod", workload.name);
    let inner = fields.need("spec")?;
    fields.end()?;
    let mut pod = pod::read(metadata, kind, &inner, sources)?;
    if let (Some(retries), Restart::OnFailure(limit)) = (retries, &mut pod.restart) {
        *limit = Some(retries);
    }
    Ok(pod)
}

impl Pod {
    /// The images of its containers and volumes, each with the first policy that it comes with.
    pub fn images(&self) -> Vec<(&str, PullPolicy)> {
        let mut images: Vec<(&str, PullPolicy)> = Vec::new();
        let containers = self.init.iter().chain(&self.containers);
        let of_containers = containers.map(|container| (&*container.image, container.pull));
        let of_volumes = self
            .volumes
            .iter()
            .filter_map(|volume| match &volume.source {
                crate::Source::Image(image, pull) => Some((&**image, *pull)),
                _ => None,
            });
        for (image, pull) in of_containers.chain(of_volumes) {
            if !images.iter().any(|(known, _)| *known == image) {
                images.push((image, pull));
            }
        }
        images
    }
}
