//! `--filter` of images.

use std::collections::BTreeSet;
use std::time::SystemTime;

use kelp_engine::Engine;
use kelp_engine::image::list::Image;
use kelp_format::filter::{Field, Filters, Key, Match};
use kelp_format::units;

const KEYS: &[Key] = &[
    ("id", Match::Prefix),
    ("label", Match::Label),
    ("reference", Match::Own),
    ("dangling", Match::Own),
    ("digest", Match::Own),
    ("before", Match::Own),
    ("since", Match::Own),
    ("after", Match::Own),
    ("until", Match::Own),
    ("containers", Match::Own),
    ("intermediate", Match::Own),
    ("manifest", Match::Own),
    ("readonly", Match::Own),
];

const PRUNE_KEYS: &[Key] = &[("label", Match::Label), ("until", Match::Own)];

/// Filters, and what has to be known to answer them.
pub struct ImageFilter {
    filters: Filters,
    before: Option<SystemTime>,
    since: Option<SystemTime>,
    until: Option<SystemTime>,
    /// Ids of the images that containers are made from.
    used: BTreeSet<String>,
    /// Ids of those in read-only stores.
    read_only: BTreeSet<String>,
}

impl ImageFilter {
    /// For a list.
    pub fn new(engine: &Engine, texts: &[String]) -> anyhow::Result<Self> {
        Self::parse(engine, texts, KEYS)
    }

    /// For a prune.
    pub fn for_prune(engine: &Engine, texts: &[String]) -> anyhow::Result<Self> {
        Self::parse(engine, texts, PRUNE_KEYS)
    }

    fn parse(engine: &Engine, texts: &[String], keys: &[Key]) -> anyhow::Result<Self> {
        let filters = Filters::parse(texts, keys)?;
        let now = SystemTime::now();
        let image = |name| -> anyhow::Result<SystemTime> { Ok(created(&engine.image(name)?)) };
        let time = |text| units::parse_time(text, now).map_err(anyhow::Error::msg);
        let before = filters.values("before").map(image);
        let before: Vec<_> = before.collect::<anyhow::Result<_>>()?;
        let since = filters.values("since").chain(filters.values("after"));
        let since: Vec<_> = since.map(image).collect::<anyhow::Result<_>>()?;
        let until = filters.values("until").map(time);
        let until: Vec<_> = until.collect::<anyhow::Result<_>>()?;
        let used = if filters.has("containers") {
            let all = engine.containers().into_iter();
            all.map(|config| config.image_id).collect()
        } else {
            BTreeSet::new()
        };
        let read_only = if filters.has("readonly") {
            engine.read_only_images(&engine.images()?)?
        } else {
            BTreeSet::new()
        };
        Ok(Self {
            read_only,
            before: before.into_iter().max(),
            since: since.into_iter().min(),
            until: until.into_iter().max(),
            used,
            filters,
        })
    }

    /// Whether an image fits.
    pub fn holds(&self, image: &Image) -> bool {
        self.filters
            .matches(|key, value| self.field(image, key, value))
    }

    /// Whether an image fits under one of its names.
    pub fn holds_name(&self, name: &str) -> bool {
        let mut wanted = self.filters.values("reference").peekable();
        wanted.peek().is_none() || wanted.any(|wanted| is_named(name, wanted))
    }

    fn field<'a>(&self, image: &'a Image, key: &str, value: &str) -> Field<'a> {
        let record = &image.record;
        let truth = |is: bool| Field::Answer(kelp_args::boolean(value) == Some(is));
        let created = created(image);
        match key {
            "id" => Field::Text(record.id.hex()),
            "label" => Field::Map(&record.labels),
            "digest" => {
                let mut digests = std::iter::once(&record.manifest).chain(&record.indexes);
                Field::Answer(digests.any(|digest| digest.to_string().starts_with(value)))
            }
            "reference" => Field::Answer(image.names.iter().any(|name| is_named(name, value))),
            // Every image is whole, and none is the layer of another.
            "dangling" => truth(image.names.is_empty()),
            "intermediate" => truth(false),
            "readonly" => truth(self.read_only.contains(record.id.hex())),
            "manifest" => truth(record.is_list() || !record.indexes.is_empty()),
            "containers" => truth(self.used.contains(record.id.hex())),
            "before" => Field::Answer(self.before.is_some_and(|limit| created < limit)),
            "since" | "after" => Field::Answer(self.since.is_some_and(|limit| created > limit)),
            _ => Field::Answer(self.until.is_some_and(|limit| created < limit)),
        }
    }
}

/// When an image was made, as its config says.
pub fn created(image: &Image) -> SystemTime {
    let text = image.record.created.as_deref();
    let time = text.and_then(|text| units::parse_time(text, SystemTime::now()).ok());
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Whether a full name ends as the user wrote it, with or without the tag; `*` and `?` stand for
/// anything in between slashes.
pub fn is_named(full: &str, wanted: &str) -> bool {
    with_and_without_tag(full).iter().any(|whole| {
        let starts = whole.match_indices('/').map(|(at, _)| at + 1);
        let mut tails = std::iter::once(0).chain(starts).map(|at| &whole[at..]);
        tails.any(|tail| fits(tail.as_bytes(), wanted.as_bytes()))
    })
}

/// Whether a name that may lack registry and tag means the image of a full name.
pub fn is_short_for(wanted: &str, full: &str) -> bool {
    let names = with_and_without_tag(full);
    let mut befores = names.iter().filter_map(|whole| whole.strip_suffix(wanted));
    !wanted.is_empty() && befores.any(|before| before.is_empty() || before.ends_with('/'))
}

fn with_and_without_tag(full: &str) -> [&str; 2] {
    match full.rsplit_once(':') {
        Some((bare, tag)) if !tag.contains('/') => [full, bare],
        _ => [full, full],
    }
}

fn fits(text: &[u8], pattern: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            let end = text.iter().position(|&byte| byte == b'/');
            (0..=end.unwrap_or(text.len())).any(|at| fits(&text[at..], rest))
        }
        ([b'?', rest @ ..], [byte, text @ ..]) if *byte != b'/' => fits(text, rest),
        ([first, rest @ ..], [byte, text @ ..]) if first == byte => fits(text, rest),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_at_a_slash_and_by_patterns() {
        for (wanted, expected) in [
            ("docker.io/library/alpine:3.20", true),
            ("library/alpine", true),
            ("alpine", true),
            ("alpine:3.*", true),
            ("al*", true),
            ("*/alpine", true),
            ("?lpine", true),
            ("*", true),
            ("pine", false),
            ("docker.io/*", false),
            ("alpine:4*", false),
        ] {
            let is = is_named("docker.io/library/alpine:3.20", wanted);
            assert_eq!(is, expected, "{wanted}");
        }
    }
}
