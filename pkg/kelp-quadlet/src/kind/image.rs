//! `.image`: a service that pulls an image.

use crate::draft::Draft;
use crate::key::{Form, Key, PODMAN_ARGS, Take, row, switch, text};
use crate::shape::Shape;

/// The keys of `[Image]`.
pub(crate) const KEYS: &[Key] = &[
    text("Arch", "--arch", Shape::Any),
    text("AuthFile", "--authfile", Shape::Any),
    text("CertDir", "--cert-dir", Shape::Any),
    text("Creds", "--creds", Shape::Any),
    text("DecryptionKey", "--decryption-key", Shape::Any),
    text("OS", "--os", Shape::Any),
    text(
        "Policy",
        "--policy",
        Shape::Choice(&["always", "missing", "never", "newer"]),
    ),
    text("Retry", "--retry", Shape::Unsigned),
    text("RetryDelay", "--retry-delay", Shape::Duration),
    text("Variant", "--variant", Shape::Any),
    switch("AllTags", "--all-tags"),
    switch("TLSVerify", "--tls-verify"),
    PODMAN_ARGS,
    row("Image", Take::Last, Form::Own(""), Shape::Any),
    row("ImageTag", Take::Last, Form::Own(""), Shape::Any),
];

/// Makes the service.
pub(crate) fn convert(draft: &mut Draft<'_>) {
    let mut words = draft.command(&["image", "pull"]);
    draft.arguments(KEYS, &mut words, &mut |draft, key, words| {
        if key == "Image" {
            if let Some(set) = draft.last(key) {
                words.push(draft.image_name(set, key));
            } else {
                let place = draft.header();
                draft.error(place, "there is no Image=: say what is to be pulled");
            }
        }
    });
    draft.run("ExecStart", &words);
    draft.oneshot(true);
}
