//! The environment of a container's program.

use kelp_monitor::launch::variable_name;
use oci_spec::image::Config as ImageConfig;

use crate::container::config::CreateOptions;

/// The PATH of a container whose image has none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables in their order, each once.
#[derive(Default)]
struct Variables(Vec<(String, String)>);

impl Variables {
    /// Sets `KEY=VALUE`. What is not that is dropped: a bare name never brings in the host's value.
    fn set(&mut self, entry: &str) {
        if let Some((key, value)) = entry.split_once('=').filter(|(key, _)| !key.is_empty()) {
            match self.0.iter_mut().find(|(known, _)| known == key) {
                Some((_, old)) => value.clone_into(old),
                None => self.0.push((key.to_owned(), value.to_owned())),
            }
        }
    }

    fn get(&self, key: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == key);
        found.map_or("", |(_, value)| value)
    }

    /// A text with the values of `$NAME` and `${NAME}` in their places; nothing where there is no
    /// such variable.
    fn expand(&self, text: &str) -> String {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some(start) = rest.find('$') {
            expanded.push_str(&rest[..start]);
            rest = &rest[start + 1..];
            if let Some((name, after)) = rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
                expanded.push_str(self.get(name));
                rest = after;
                continue;
            }
            let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = rest.find(|c| !is_letter(c)).unwrap_or(rest.len());
            if end == 0 {
                expanded.push('$');
            }
            expanded.push_str(self.get(&rest[..end]));
            rest = &rest[end..];
        }
        expanded + rest
    }

    fn into_list(self) -> Vec<String> {
        let variables = self.0.into_iter();
        variables
            .map(|(key, value)| format!("{key}={value}"))
            .collect()
    }
}

/// The environment: kelp's own, the host's where it is asked for, the image's, the request's; later
/// ones win.
pub fn environment(options: &CreateOptions, image: &ImageConfig, hostname: &str) -> Vec<String> {
    let mut variables = Variables::default();
    variables.set(&format!("PATH={DEFAULT_PATH}"));
    variables.set("container=podman");
    if options.tty {
        variables.set("TERM=xterm");
    }
    variables.set(&format!("HOSTNAME={hostname}"));
    let of_image = image.env().iter().flatten();
    for entry in options.host_env.iter().chain(of_image) {
        variables.set(entry);
    }
    for entry in &options.merged_env {
        let entry = variables.expand(entry);
        variables.set(&entry);
    }
    let merged = |key: &str| {
        let mut entries = options.merged_env.iter();
        entries.any(|entry| variable_name(entry) == key)
    };
    variables.0.retain(|(key, _)| {
        merged(key) || !options.unset_all_env && !options.unset_env.contains(key)
    });
    for entry in &options.env {
        variables.set(entry);
    }
    variables.into_list()
}

/// An environment with other variables: `set` has `KEY=VALUE`, `unset` names.
pub(crate) fn changed(list: &[String], set: &[String], unset: &[String]) -> Vec<String> {
    let mut variables = Variables::default();
    for entry in list.iter().chain(set) {
        variables.set(entry);
    }
    variables.0.retain(|(key, _)| !unset.contains(key));
    variables.into_list()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &CreateOptions) -> Vec<String> {
        let mut image = ImageConfig::default();
        image.set_env(Some(vec!["PATH=/bin".to_owned(), "A=image".to_owned()]));
        environment(options, &image, "web")
    }

    fn list(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|&entry| entry.to_owned()).collect()
    }

    #[test]
    fn the_image_wins_over_the_host_and_the_request_over_both() {
        let options = CreateOptions {
            host_env: list(&["A=host", "B=host", "C=host"]),
            env: list(&["C=asked"]),
            ..CreateOptions::default()
        };
        assert_eq!(
            of(&options),
            list(&[
                "PATH=/bin",
                "container=podman",
                "HOSTNAME=web",
                "A=image",
                "B=host",
                "C=asked"
            ])
        );
    }

    #[test]
    fn what_is_left_out_may_be_asked_for() {
        let options = CreateOptions {
            unset_all_env: true,
            env: list(&["A=asked"]),
            ..CreateOptions::default()
        };
        assert_eq!(of(&options), list(&["A=asked"]));
        let options = CreateOptions {
            unset_env: list(&["A", "HOSTNAME"]),
            ..CreateOptions::default()
        };
        assert_eq!(of(&options), list(&["PATH=/bin", "container=podman"]));
    }

    #[test]
    fn variables_change_where_they_are() {
        let before = list(&["A=1", "B=2", "C=3"]);
        let after = changed(&before, &list(&["A=x=y", "D=4"]), &list(&["B", "none"]));
        assert_eq!(after, list(&["A=x=y", "C=3", "D=4"]));
    }

    #[test]
    fn values_are_merged_with_what_came_before() {
        let options = CreateOptions {
            merged_env: list(&["A=${A}-x$HOSTNAME.$$NONE", "PATH=/opt:$PATH"]),
            unset_all_env: true,
            ..CreateOptions::default()
        };
        assert_eq!(of(&options), list(&["PATH=/opt:/bin", "A=image-xweb.$"]));
    }
}
