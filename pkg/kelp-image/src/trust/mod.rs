//! Which images are accepted: policy.json, and the signatures that it asks for.
//!
//! [`Trust::load`] reads policy.json ([`policy`]), which is all that is read where no rule asks for
//! signatures. A pull calls [`Trust::check_pulled`] once it has the manifest and before it has
//! anything else; whatever else brings an image here calls [`Trust::check`]. What a signature covers is
//! the manifest of the image that was chosen, and not the index that led to it, as in containers/image.
//!
//! Keys and signatures are other crates' ([`simple`]: sequoia; [`cosign`]: ring and webpki). What is
//! kept here is the order: first the signature is good, then what it says is read, then that is about
//! this manifest, then about this name.
//!
//! No policy.json at all accepts every image.

mod claim;
pub mod cosign;
pub mod edit;
mod identity;
mod keep;
mod parse;
mod policy;
pub mod publish;
mod registries_d;
pub mod show;
mod simple;
mod source;
mod subject;

use std::path::{Path, PathBuf};

use self::cosign::Roots;
use self::policy::{KeyType, Policy, Requirement, Rule, SignedBy, SigstoreSigned};
use self::registries_d::RegistriesD;
use crate::Error;
use crate::access::Access;
use crate::config_paths::ConfigPaths;
use crate::digest::Digest;
use crate::reference::Reference;
use crate::registries_conf::Endpoint;
use crate::registry::Repository;
use crate::role::one_line;

pub use source::Signature;
pub use subject::Subject;

/// The policy of a command.
#[derive(Debug, Clone)]
pub struct Trust {
    policy: Option<(Policy, PathBuf)>,
    paths: ConfigPaths,
}

/// Where a pulled image is from.
pub(crate) struct Origin<'a> {
    pub(crate) access: &'a Access,
    /// The image's own name.
    pub(crate) reference: &'a Reference,
    /// Where it is fetched from: the registry itself, or a mirror.
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) repository: &'a Repository,
}

impl Trust {
    /// Finds and reads policy.json: `named`, the user's or the machine's.
    pub fn load(paths: &ConfigPaths, named: Option<&Path>) -> Result<Self, Error> {
        let policy = match Policy::find(paths, named)? {
            Some(file) => Some((Policy::read(&file)?, file)),
            None => None,
        };
        Ok(Self {
            policy,
            paths: paths.clone(),
        })
    }

    /// Whether every image of this name is accepted, whatever it is.
    pub(crate) fn accepts_all_of(&self, reference: &Reference) -> bool {
        self.accepts_all(&Subject::docker(reference))
    }

    /// Whether an image is accepted, whatever it is.
    pub(crate) fn accepts_all(&self, subject: &Subject) -> bool {
        let any = |requirement: &Requirement| *requirement == Requirement::InsecureAcceptAnything;
        self.policy
            .as_ref()
            .is_none_or(|(policy, _)| policy.rule(subject).requirements.iter().all(any))
    }

    /// Refuses a registry's image unless its rule accepts it, with the signatures where registries.d
    /// says that they are.
    pub(crate) async fn check_pulled(
        &self,
        origin: &Origin<'_>,
        digest: &Digest,
        manifest: &[u8],
    ) -> Result<(), Error> {
        let Some((policy, _)) = &self.policy else {
            return Ok(());
        };
        let subject = Subject::docker(origin.reference);
        let rule = policy.rule(&subject);
        let wanted = rule.requirements.iter().any(Requirement::wants_signatures);
        // What no signature can help against is said without looking for one.
        let hopeless = rule.requirements.contains(&Requirement::Reject);
        if !wanted || hopeless {
            return self.check(&subject, manifest, &[]);
        }
        let registries = RegistriesD::load(&self.paths)?;
        let place = &origin.endpoint.reference;
        let mut signatures = source::lookaside(&registries, origin.access, place, digest).await?;
        let sigstore = rule
            .requirements
            .iter()
            .any(|requirement| matches!(requirement, Requirement::SigstoreSigned(_)));
        let attached = sigstore.then(|| registries.has_attachments(place));
        if attached == Some(true) {
            signatures.extend(source::attachments(origin.repository, digest).await?);
        }
        self.check(&subject, manifest, &signatures)
            .map_err(|error| explain_place(error, &registries, place, attached))
    }

    /// Refuses an image with this manifest unless its rule accepts it with these signatures.
    pub fn check(
        &self,
        subject: &Subject,
        manifest: &[u8],
        signatures: &[Signature],
    ) -> Result<(), Error> {
        let Some((policy, file)) = &self.policy else {
            return Ok(());
        };
        let rule = policy.rule(subject);
        for requirement in rule.requirements {
            meets(requirement, subject, manifest, signatures)
                .map_err(|reason| rejection(&rule, file, subject, requirement, &reason))?;
        }
        Ok(())
    }
}

/// Says which rule of which file refuses an image, and the way out.
fn rejection(
    rule: &Rule<'_>,
    file: &Path,
    subject: &Subject,
    requirement: &Requirement,
    reason: &str,
) -> Error {
    let (place, scope) = match rule.place {
        None => ("the default".to_owned(), "default"),
        Some((transport, "")) => (format!("the rule for all of {transport}:"), ""),
        Some((transport, scope)) => (format!("the rule for {transport}: {scope}"), scope),
    };
    let way_out = if subject.transport == "docker" && *requirement == Requirement::Reject {
        let repository = subject.identity.as_ref().map(Reference::name);
        format!(
            "if it is to be accepted: kelp image trust set --signature-policy {} --type accept {}",
            file.display(),
            repository.as_deref().unwrap_or(scope)
        )
    } else {
        "pull an image that is signed as the rule asks, or change the rule \
         (containers-policy.json(5))"
            .to_owned()
    };
    Error::Rejected(format!(
        "{} is rejected by {place} in {} ({}): {reason}; {way_out}",
        subject.text,
        file.display(),
        requirement.name()
    ))
}

/// Adds where signatures were looked for, if that may be why none was good.
fn explain_place(
    error: Error,
    registries: &RegistriesD,
    place: &Reference,
    attached: Option<bool>,
) -> Error {
    let Error::Rejected(text) = error else {
        return error;
    };
    let looked = registries
        .lookaside(place, registries_d::For::Reading)
        .map(|url| url.to_string())
        .unwrap_or_default();
    let more = match attached {
        None => String::new(),
        Some(true) => " and in its repository".to_owned(),
        Some(false) => format!(
            ", but not in its repository: that takes use-sigstore-attachments: true in a file of {}",
            registries.directory().display()
        ),
    };
    Error::Rejected(format!(
        "{text}; signatures were looked for at {looked}{more}"
    ))
}

/// Whether an image meets one requirement; else why not.
fn meets(
    requirement: &Requirement,
    subject: &Subject,
    manifest: &[u8],
    signatures: &[Signature],
) -> Result<(), String> {
    match requirement {
        Requirement::InsecureAcceptAnything => Ok(()),
        Requirement::Reject => Err("it refuses every image".to_owned()),
        Requirement::SignedBaseLayer => Err("signedBaseLayer is not supported".to_owned()),
        Requirement::SignedBy(rule) => signed_by(rule, subject, manifest, signatures),
        Requirement::SigstoreSigned(rule) => sigstore_signed(rule, subject, manifest, signatures),
    }
}

fn signed_by(
    rule: &SignedBy,
    subject: &Subject,
    manifest: &[u8],
    signatures: &[Signature],
) -> Result<(), String> {
    if rule.key_type != KeyType::GpgKeys {
        return Err("its keyType is not supported: use GPGKeys".to_owned());
    }
    let sources = rule.keys.load().map_err(|error| one_line(&error))?;
    let keys = simple::Keys::parse(&sources)?;
    let own = signatures.iter().filter_map(|signature| match signature {
        Signature::Simple(message) => Some(message),
        Signature::Sigstore(_) => None,
    });
    any(own.map(|message| {
        simple::verify(
            message,
            &keys,
            manifest,
            subject.identity.as_ref(),
            &rule.identity,
        )
    }))
}

fn sigstore_signed(
    rule: &SigstoreSigned,
    subject: &Subject,
    manifest: &[u8],
    signatures: &[Signature],
) -> Result<(), String> {
    let roots = Roots::load(rule)?;
    let own = signatures.iter().filter_map(|signature| match signature {
        Signature::Sigstore(attachment) if attachment.media_type == cosign::MEDIA_TYPE => {
            Some(attachment)
        }
        _ => None,
    });
    any(own.map(|attachment| {
        cosign::verify(
            attachment,
            &roots,
            rule,
            manifest,
            subject.identity.as_ref(),
        )
    }))
}

/// One good signature is enough; otherwise what is wrong with each.
fn any(results: impl Iterator<Item = Result<(), String>>) -> Result<(), String> {
    let mut reasons: Vec<String> = Vec::new();
    for result in results {
        match result {
            Ok(()) => return Ok(()),
            Err(reason) if reasons.contains(&reason) => {}
            Err(reason) => reasons.push(reason),
        }
    }
    match reasons.as_slice() {
        [] => Err("it has no signature".to_owned()),
        [one] => Err(one.clone()),
        several => Err(format!("no signature will do: {}", several.join("; "))),
    }
}

#[cfg(test)]
mod tests;
