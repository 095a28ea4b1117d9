//! Platforms: `linux/arm64/v8`, and which image of an index is for one.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::{Descriptor, ImageIndex};

use crate::Error;

/// What an image runs on, in the words of Go's GOOS and GOARCH.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Platform {
    /// The operating system: `linux`.
    pub os: String,
    /// The processor's architecture: `amd64`.
    pub architecture: String,
    /// Its variant: `v8`.
    pub variant: Option<String>,
}

impl Platform {
    /// The platform that kelp itself runs on.
    pub fn host() -> Self {
        let (architecture, variant) = canonical(std::env::consts::ARCH, None);
        Self {
            os: "linux".to_owned(),
            architecture,
            variant,
        }
    }

    /// From `--os`, `--arch` and `--variant`; what is missing is the host's.
    pub fn new(os: Option<&str>, architecture: Option<&str>, variant: Option<&str>) -> Self {
        let host = Self::host();
        let (architecture, variant) = match architecture {
            Some(architecture) => canonical(architecture, variant),
            None => (
                host.architecture,
                variant.map(str::to_owned).or(host.variant),
            ),
        };
        Self {
            os: os.map_or(host.os, str::to_ascii_lowercase),
            architecture,
            variant,
        }
    }

    /// The image of an index that fits this platform best.
    pub fn choose<'a>(&self, index: &'a ImageIndex) -> Option<&'a Descriptor> {
        let offered: Vec<(Platform, &Descriptor)> = index
            .manifests()
            .iter()
            .filter_map(|entry| Some((of_descriptor(entry)?, entry)))
            .filter(|(offer, _)| offer.os == self.os && offer.architecture == self.architecture)
            .collect();
        self.variants().iter().find_map(|variant| {
            offered
                .iter()
                .find(|(offer, _)| offer.variant.as_deref() == *variant)
                .map(|(_, entry)| *entry)
        })
    }

    /// The variants whose programs run on this one, best first; `None` is an image that names no
    /// variant.
    fn variants(&self) -> Vec<Option<&str>> {
        const ARM: [&str; 4] = ["v8", "v7", "v6", "v5"];
        const ARM64: [&str; 2] = ["v9", "v8"];
        const AMD64: [&str; 4] = ["v4", "v3", "v2", "v1"];
        let known: &[&'static str] = match self.architecture.as_str() {
            "arm" => &ARM,
            "arm64" => &ARM64,
            "amd64" => &AMD64,
            _ => &[],
        };
        let Some(wanted) = self.variant.as_deref() else {
            // An image that names none fits best, then the one that asks least of the processor.
            let mut variants = vec![None];
            variants.extend(known.iter().rev().map(|variant| Some(*variant)));
            return match self.architecture.as_str() {
                "arm" | "arm64" | "amd64" => variants,
                _ => vec![None],
            };
        };
        match known.iter().position(|variant| *variant == wanted) {
            Some(position) => {
                let mut variants: Vec<Option<&str>> = known[position..]
                    .iter()
                    .map(|variant| Some(*variant))
                    .collect();
                variants.push(None);
                variants
            }
            None => vec![Some(wanted), None],
        }
    }

    /// Whether an image for `offer` is for this platform, its variant aside.
    pub fn fits(&self, offer: &Self) -> bool {
        self.os == offer.os && self.architecture == offer.architecture
    }

    /// Whether an image that is here for `offer` is what was asked for: one that names no variant may
    /// be for any.
    pub fn is_met_by(&self, offer: &Self) -> bool {
        let any = self.variant.is_none() || offer.variant.is_none();
        self.fits(offer) && (any || self.variant == offer.variant)
    }
}

/// What an entry of an index says that it is for; attestations say `unknown`.
pub(crate) fn of_descriptor(entry: &Descriptor) -> Option<Platform> {
    let platform = entry.platform().as_ref()?;
    let os = platform.os().to_string();
    if os == "unknown" {
        return None;
    }
    let (architecture, variant) = canonical(
        &platform.architecture().to_string(),
        platform.variant().as_deref(),
    );
    Some(Platform {
        os,
        architecture,
        variant,
    })
}

/// One name for an architecture that has several; containerd's and podman's tables agree on these.
fn canonical(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant
        .map(str::to_ascii_lowercase)
        .filter(|variant| !variant.is_empty());
    let (name, implied) = match architecture.as_str() {
        "x86_64" | "x86-64" => ("amd64", None),
        "i386" | "i486" | "i586" | "i686" | "x86" => ("386", None),
        "aarch64" => ("arm64", None),
        "armv8l" => ("arm64", Some("v8")),
        "arm" | "armhf" | "armv7l" | "armv7" => ("arm", Some("v7")),
        "armel" | "armv6l" | "armv6" => ("arm", Some("v6")),
        "armv5l" | "armv5" => ("arm", Some("v5")),
        "powerpc64le" | "ppc64el" | "powerpc64" => ("ppc64le", None),
        "loongarch64" => ("loong64", None),
        "mips64el" => ("mips64le", None),
        other => (other, None),
    };
    let variant = match (name, variant.as_deref()) {
        // arm64 has had one variant for so long that both spellings mean the same.
        ("arm64", Some("8" | "v8") | None) | ("amd64", Some("v1")) => None,
        ("arm", Some(number @ ("5" | "6" | "7" | "8"))) => Some(format!("v{number}")),
        (_, Some(variant)) => Some(variant.to_owned()),
        (_, None) => implied.map(str::to_owned),
    };
    (name.to_owned(), variant)
}

impl FromStr for Platform {
    type Err = Error;

    /// `os`, `arch`, `os/arch` or `os/arch/variant`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |word: &&str| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        if !parts.iter().all(is_word) {
            return Err(invalid(text));
        }
        Ok(match parts.as_slice() {
            [os @ ("linux" | "windows" | "darwin" | "freebsd" | "wasip1")] => {
                Self::new(Some(os), None, None)
            }
            [architecture] => Self::new(None, Some(architecture), None),
            [os, architecture] => Self::new(Some(os), Some(architecture), None),
            [os, architecture, variant] => Self::new(Some(os), Some(architecture), Some(variant)),
            _ => return Err(invalid(text)),
        })
    }
}

fn invalid(text: &str) -> Error {
    Error::Invalid(format!(
        "invalid platform {text:?}: expected os/arch[/variant], for example linux/arm64"
    ))
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[&str]) -> ImageIndex {
        let manifests: Vec<serde_json::Value> = platforms
            .iter()
            .enumerate()
            .map(|(number, text)| {
                let parts: Vec<&str> = text.split('/').collect();
                let mut platform = serde_json::json!({"os": parts[0], "architecture": parts[1]});
                if let Some(variant) = parts.get(2) {
                    platform["variant"] = (*variant).into();
                }
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": format!("sha256:{}", format!("{number:x}").repeat(64)),
                    "size": number,
                    "platform": platform,
                })
            })
            .collect();
        let text = serde_json::json!({"schemaVersion": 2, "manifests": manifests});
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn platforms_are_written_many_ways() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64", "linux/amd64"),
            ("x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("linux/ppc64el", "linux/ppc64le"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected);
        }
        for text in ["", "/", "linux/", "a/b/c/d", "linux/amd64 "] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_image_that_is_here_is_of_the_variant_that_was_asked_for() {
        let image = |variant: Option<&str>| Platform {
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            variant: variant.map(str::to_owned),
        };
        for (wanted, variant, met) in [
            ("linux/amd64", None, true),
            ("linux/amd64", Some("v3"), true),
            ("linux/amd64/v3", Some("v3"), true),
            ("linux/amd64/v3", Some("v2"), false),
            ("linux/amd64/v3", None, true),
            ("linux/arm64", None, false),
            ("windows/amd64", None, false),
        ] {
            let platform: Platform = wanted.parse().unwrap();
            assert_eq!(platform.is_met_by(&image(variant)), met, "{wanted}");
        }
    }

    #[test]
    fn the_best_image_of_an_index_is_chosen() {
        for (wanted, offered, chosen) in [
            ("linux/amd64", &["linux/arm64", "linux/amd64"][..], Some(1)),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64"], Some(1)),
            (
                "linux/amd64",
                &["linux/amd64/v3", "linux/amd64/v2"],
                Some(1),
            ),
            (
                "linux/amd64/v3",
                &["linux/amd64", "linux/amd64/v2"],
                Some(1),
            ),
            ("linux/amd64/v2", &["linux/amd64/v3"], None),
            ("linux/arm64", &["linux/arm64/v8"], Some(0)),
            ("linux/arm64", &["linux/arm/v7"], None),
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6"], Some(1)),
            ("linux/arm/v6", &["linux/arm/v7", "linux/arm/v5"], Some(1)),
            ("linux/arm/v6", &["linux/arm/v7"], None),
            ("linux/amd64", &["unknown/unknown", "linux/amd64"], Some(1)),
            ("linux/s390x", &["linux/amd64"], None),
            ("linux/amd64", &["windows/amd64"], None),
        ] {
            let index = index(offered);
            let platform: Platform = wanted.parse().unwrap();
            let found = platform.choose(&index).map(Descriptor::size);
            assert_eq!(found, chosen, "{wanted} of {offered:?}");
        }
    }
}
