//! `.build`: a service that builds an image.

use std::path::Path;

use crate::draft::Draft;
use crate::key::{Form, Key, PODMAN_ARGS, Take, list, pairs, row, switch, text, words};
use crate::quote;
use crate::shape::Shape;

const fn own(name: &'static str, take: Take, flag: &'static str, shape: Shape) -> Key {
    row(name, take, Form::Own(flag), shape)
}

/// The keys of `[Build]`.
pub(crate) const KEYS: &[Key] = &[
    text("Arch", "--arch", Shape::Any),
    text("AuthFile", "--authfile", Shape::Any),
    text("IgnoreFile", "--ignorefile", Shape::Any),
    row(
        "Pull",
        Take::Last,
        Form::Joined("--pull="),
        Shape::Choice(&["always", "missing", "never", "newer", "true", "false"]),
    ),
    text("Retry", "--retry", Shape::Unsigned),
    text("RetryDelay", "--retry-delay", Shape::Duration),
    text("Target", "--target", Shape::Any),
    text("Variant", "--variant", Shape::Any),
    switch("TLSVerify", "--tls-verify"),
    switch("ForceRM", "--force-rm"),
    list("DNS", "--dns", Shape::Dns),
    list("DNSOption", "--dns-option", Shape::Any),
    list("DNSSearch", "--dns-search", Shape::Any),
    list("GroupAdd", "--group-add", Shape::Any),
    own("ImageTag", Take::Each, "--tag", Shape::Any),
    pairs("Environment", "--env"),
    pairs("Label", "--label"),
    pairs("Annotation", "--annotation"),
    pairs("BuildArg", "--build-arg"),
    own("Network", Take::Each, "--network", Shape::Any),
    words("Secret", "--secret", Shape::Any),
    own("Volume", Take::Each, "--volume", Shape::Volume),
    own("File", Take::Last, "--file", Shape::Any),
    PODMAN_ARGS,
    own("SetWorkingDirectory", Take::Last, "", Shape::Any),
];

/// Makes the service.
pub(crate) fn convert(draft: &mut Draft<'_>) {
    let file = draft.text("File");
    let context = context(draft, file.as_deref());
    let mut words = draft.command(&["build"]);
    draft.arguments(KEYS, &mut words, &mut |draft, key, words| match key {
        "ImageTag" => {
            let tags = draft.values(key, Take::Each);
            if tags.is_empty() {
                let place = draft.header();
                draft.error(place, "there is no ImageTag=: say what the image is called");
            }
            for tag in tags {
                words.extend(["--tag".to_owned(), tag.text]);
            }
        }
        "Network" => draft.networks(words),
        "Volume" => draft.volumes(words),
        "File" => {
            if let Some(file) = &file {
                words.extend(["--file".to_owned(), file.clone()]);
            }
        }
        "SetWorkingDirectory" => words.extend(context.clone()),
        _ => {}
    });
    draft.run("ExecStart", &words);
    draft.oneshot(false);
}

/// The directory that is built from, as the command line has it; and `WorkingDirectory=`, so that what is
/// relative is relative to it.
fn context(draft: &mut Draft<'_>, file: Option<&str>) -> Option<String> {
    let said = draft.last("SetWorkingDirectory");
    let own = draft.source.unit.last("Service", "WorkingDirectory");
    let own = own.map(|set| &*set.value).filter(|path| !path.is_empty());
    let value = said.map_or("", |set| quote::whole(&set.value));
    let unit = draft.directory();
    let relative = file.is_none_or(|file| !file.starts_with(['/', '%']) && !is_url(file));
    // What the context is, and which directory the service works in.
    let (mut context, mut directory) = (None, None);
    match (&*value.to_ascii_lowercase(), file) {
        ("", _) => {}
        ("file", None) => draft.error(
            said.and_then(|set| set.place),
            "SetWorkingDirectory=file needs File= beside it",
        ),
        ("file", Some(file)) if is_url(file) => {
            let what = "SetWorkingDirectory=file needs a local file in File=";
            draft.error(said.and_then(|set| set.place), what);
        }
        ("file", Some(file)) => {
            let path = draft.absolute(file);
            directory = Path::new(&path)
                .parent()
                .map(|path| path.to_string_lossy().into_owned());
            if relative {
                context.clone_from(&directory);
            }
        }
        ("unit", _) => {
            // A file that is somewhere else says by itself what is built from.
            if relative {
                context = Some(unit.clone());
            }
            directory = Some(unit);
        }
        _ => {
            if !value.starts_with('/') && !is_url(value) {
                directory = Some(unit);
            }
            context = Some(value.to_owned());
        }
    }
    if let Some(directory) = directory {
        draft.working_directory(said.and_then(|set| set.place), &directory);
    }
    // The service's own directory, where nothing absolute says what to build.
    if let Some(own) = own
        && (value.is_empty()
            || context.is_some() && matches!(&*value.to_ascii_lowercase(), "unit" | "file"))
    {
        context = relative.then(|| own.to_owned());
    }
    if context.is_none() && relative && value.is_empty() {
        let (place, what) = match draft.last("File") {
            Some(set) => (
                set.place,
                "File=: a relative path needs SetWorkingDirectory= beside it",
            ),
            None => (
                draft.header(),
                "there is neither File= nor SetWorkingDirectory=: say what to build",
            ),
        };
        draft.error(place, what);
    }
    context
}

/// Whether something is fetched rather than found.
pub(crate) fn is_url(text: &str) -> bool {
    ["http://", "https://", "git://", "github.com/"]
        .iter()
        .any(|begin| text.starts_with(begin))
}
