//! `kelp pull`: images from a registry, or out of files.

use std::path::PathBuf;

use kelp_engine::Engine;
use kelp_engine::image::pull::{PullPolicy, PullRequest};

use super::create_flags::defaults;
use super::pull_flags::{AccessFlags, PlatformFlags, RetryFlags, keep_storage};
use super::selection::report;
use super::{load, output};

/// Pull images from a registry, or out of files
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    platform: PlatformFlags,
    #[command(flatten)]
    retry: RetryFlags,
    /// For docker's scripts: signatures are not what it is about
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    disable_content_trust: Option<bool>,
    /// Credentials for the registry: USER:PASSWORD
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    /// When to ask the registry: always, missing, newer or never
    #[arg(long, default_value = "always")]
    policy: String,
    /// Show nothing but the image's id
    #[arg(short, long)]
    quiet: bool,
    /// The policy that says which images are accepted, instead of the user's or the machine's
    #[arg(long, value_name = "FILE", hide = true)]
    signature_policy: Option<PathBuf>,
    /// Pull the images of all platforms; the name means that of the host's
    #[arg(long, conflicts_with_all = ["platform", "arch", "os", "variant"])]
    all_platforms: bool,
    /// Pull every tag of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// The images: names in a registry, or oci:, oci-archive:, docker-archive: or dir: and a path, or
    /// containers-storage: and the name of an image of podman's
    #[arg(required = true)]
    images: Vec<String>,
}

impl Args {
    /// Whether the flags can be meant, as far as that is known before anything is done.
    pub fn check(&self) -> anyhow::Result<()> {
        Ok(self.request()?.check()?)
    }

    fn request(&self) -> anyhow::Result<PullRequest> {
        let mut request = PullRequest {
            access: self.access.request(),
            ..PullRequest::default()
        };
        self.platform.apply(&mut request);
        request.policy = self.policy.parse::<PullPolicy>()?;
        request.access.credentials.clone_from(&self.creds);
        let conf = defaults::load()?;
        self.retry.apply(&mut request.access, conf)?;
        request.keep_storage = keep_storage(conf)?;
        request
            .access
            .signature_policy
            .clone_from(&self.signature_policy);
        request.quiet = self.quiet;
        Ok(request)
    }
}

/// Pulls each and prints its id; what could not be had is told of at the end.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    let request = args.request()?;
    let _ = args.disable_content_trust;
    let mut errors = Vec::new();
    let mut images = Vec::new();
    for image in args.images {
        if !args.all_tags {
            images.push(image);
            continue;
        }
        match engine.names_of_all_tags(&image, &request) {
            Ok(names) => images.extend(names),
            Err(error) => errors.push(error),
        }
    }
    for image in &images {
        let pulled = if args.all_platforms {
            engine.pull_all_platforms(image, &request)
        } else {
            engine.pull_any(image, &request)
        };
        match pulled {
            Ok(pulled) => {
                load::warn_of_displaced(&pulled.displaced);
                for id in pulled.ids {
                    output::line(id)?;
                }
            }
            Err(error) => errors.push(error),
        }
    }
    Ok(report(engine, errors))
}
