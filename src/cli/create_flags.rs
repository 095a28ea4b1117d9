//! Flags that `run` and `create` share.

use std::path::PathBuf;

use kelp_engine::container::CreateOptions;
use kelp_engine::network::Mode;

/// The flags.
#[derive(clap::Args, Debug)]
pub struct CreateFlags {
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Allocate a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Remove the container when it has ended
    #[arg(long)]
    pub rm: bool,
    /// A name for the container
    #[arg(long)]
    pub name: Option<String>,
    /// Set an environment variable
    #[arg(short, long)]
    pub env: Vec<String>,
    /// The network: host or none
    #[arg(long, visible_alias = "net", default_value = "")]
    pub network: String,
    /// IMAGE is the path of a directory
    #[arg(long)]
    pub rootfs: bool,
    /// IMAGE and the command to run in it
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "IMAGE [COMMAND [ARG...]]"
    )]
    pub image_and_command: Vec<String>,
}

impl CreateFlags {
    /// The engine's request.
    pub fn options(&self) -> CreateOptions {
        let mut words = self.image_and_command.iter().cloned();
        let image = words.next().unwrap_or_default();
        let mut options = CreateOptions {
            interactive: self.interactive,
            tty: self.tty,
            remove: self.rm,
            name: self.name.clone(),
            env: self.env.clone(),
            command: words.collect(),
            ..CreateOptions::default()
        };
        if self.rootfs {
            options.rootfs = Some(PathBuf::from(&image));
        }
        options.image = image;
        options.namespaces.network = match self.network.as_str() {
            "host" => Some(Mode::Host),
            "none" => Some(Mode::None),
            _ => None,
        };
        options
    }
}
