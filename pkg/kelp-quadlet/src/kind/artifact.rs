//! `.artifact`: a service that pulls an artifact.

use crate::draft::Draft;
use crate::key::{Form, Key, PODMAN_ARGS, Take, row, switch, text};
use crate::shape::Shape;

/// The keys of `[Artifact]`.
pub(crate) const KEYS: &[Key] = &[
    text("AuthFile", "--authfile", Shape::Any),
    text("CertDir", "--cert-dir", Shape::Any),
    text("Creds", "--creds", Shape::Any),
    text("DecryptionKey", "--decryption-key", Shape::Any),
    text("Retry", "--retry", Shape::Unsigned),
    text("RetryDelay", "--retry-delay", Shape::Duration),
    switch("TLSVerify", "--tls-verify"),
    switch("Quiet", "--quiet"),
    PODMAN_ARGS,
    row("Artifact", Take::Last, Form::Own(""), Shape::Any),
];

/// Makes the service.
pub(crate) fn convert(draft: &mut Draft<'_>) {
    let mut words = draft.command(&["artifact", "pull"]);
    draft.arguments(KEYS, &mut words, &mut |draft, key, words| {
        if key == "Artifact" {
            if let Some(artifact) = draft.text(key) {
                words.push(artifact);
            } else {
                let place = draft.header();
                draft.error(place, "there is no Artifact=: say what is to be pulled");
            }
        }
    });
    draft.run("ExecStart", &words);
    draft.oneshot(true);
}
