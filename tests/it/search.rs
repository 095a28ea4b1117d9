//! `search` and `image tree`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use serde_json::{Value, json};

use crate::archive::Layer;
use crate::env::Env;
use crate::http::Registry;
use crate::image::Image;

fn small(content: &str) -> Image {
    Image::empty().layer(Layer::default().file("a", 0o644, content.as_bytes()))
}

#[test]
fn a_registry_is_searched_by_its_catalog_and_its_tags() {
    let Some(env) = Env::new() else { return };
    let address = &env.registry().address;
    for name in ["search/one", "search/two", "other/one"] {
        env.push(name, &|| small("x"));
    }
    for tag in ["v1", "v2", "v3"] {
        small("x").push(&Registry(address), "search/one", tag);
    }
    let found = |words: &[&str]| {
        let words = [&["search"], words, &["--format", "{{.Index}} {{.Name}}"]].concat();
        env.kelp(&words).succeeds()
    };
    let line = |name: &str| format!("{address} {address}/{name}\n");
    let term = format!("{address}/search/");
    assert_eq!(found(&[&term]), line("search/one") + &line("search/two"));
    assert_eq!(found(&["--limit", "1", &term]), line("search/one"));
    let all = found(&["--limit", "1000", &format!("{address}/")]);
    assert!(all.contains(&line("other/one")), "{all}");
    assert_eq!(found(&[&format!("{address}/no-such-thing")]), "");
    let table = env
        .kelp(&["search", &format!("{address}/search/tw")])
        .succeeds();
    let heading = format!(
        "{:<width$}  DESCRIPTION\n",
        "NAME",
        width = address.len() + 11
    );
    assert!(table.starts_with(&heading), "{table}");
    // More tags than fit a page are asked for page by page.
    let name = format!("{address}/search/one");
    let tags = env.kelp(&["search", "--list-tags", &name]).succeeds();
    let tags: Vec<_> = tags
        .lines()
        .map(|line| line.split_whitespace().last())
        .collect();
    assert_eq!(tags, ["TAG", "latest", "v1", "v2", "v3"].map(Some));
    let few = [
        "search",
        "--list-tags",
        "--limit",
        "2",
        "--format",
        "json",
        &name,
    ];
    let few: Value = serde_json::from_str(&env.kelp(&few).succeeds()).unwrap();
    assert_eq!(few, json!([{"Name": name, "Tags": ["latest", "v1"]}]));
    let line = env.kelp(&["search", "--list-tags", "one"]).fails(125);
    assert!(line.contains("must be a fully qualified name"), "{line}");
    let line = env
        .kelp(&["search", "--list-tags", &format!("{address}/none")])
        .fails(125);
    assert!(line.contains("listing the tags of"), "{line}");
    env.kelp(&["search", "--filter", "foo=1", "x"]).fails(125);
    let conf = env.path("c/containers/registries.conf");
    let before = fs::read_to_string(&conf).unwrap();
    fs::write(
        &conf,
        format!("unqualified-search-registries = []\n{before}"),
    )
    .unwrap();
    let line = env.kelp(&["search", "x"]).fails(125);
    assert!(line.contains("there is no registry to search"), "{line}");
    let configured = format!("unqualified-search-registries = [\"{address}\"]\n{before}");
    fs::write(&conf, configured).unwrap();
    let said = env
        .kelp(&["search", "search/tw", "--format", "{{.Name}}"])
        .succeeds();
    assert_eq!(said, format!("{address}/search/two\n"));
}

#[test]
fn an_index_of_version_1_is_searched_by_its_own_api() {
    let Some(env) = Env::new() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let body = json!({
        "num_pages": 1, "num_results": 2, "page": 1, "page_size": 25, "query": "alpine",
        "results": [
            {"name": "x/alpine", "description": "A minimal image with a complete index of packages",
             "star_count": 9, "is_official": true, "is_automated": false},
            {"name": "y/alpine", "description": "", "star_count": 2, "is_official": false,
             "is_automated": true},
        ],
    })
    .to_string();
    let (asked, paths) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let count = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..count]);
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            // TLS, which it does not speak.
            if !request.starts_with("GET ") {
                continue;
            }
            let (status, body) = match path.as_str() {
                path if path.starts_with("/v1/search?") => ("200 OK", body.as_str()),
                "/v2/" => ("200 OK", "{}"),
                _ => ("404 Not Found", ""),
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: \
                 close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes());
            if asked.send(path).is_err() {
                return;
            }
        }
    });
    let term = format!("{address}/alpine");
    let search = |flags: &[&str]| {
        let words = [
            &["search", "--tls-verify=false", "--limit", "7"],
            flags,
            &[&term],
        ]
        .concat();
        env.kelp(&words).succeeds()
    };
    let name = |name: &str| format!("{address}/{name}");
    let rows = |text: String| -> Vec<Vec<String>> {
        let row = |line: &str| {
            line.split("  ")
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect()
        };
        text.lines().map(row).collect()
    };
    let described = "A minimal image with a complete index of pac...";
    assert_eq!(
        rows(search(&["--compatible"])),
        [
            vec!["NAME", "DESCRIPTION", "STARS", "OFFICIAL", "AUTOMATED"],
            vec![name("x/alpine").as_str(), described, "9", "[OK]"],
            vec![name("y/alpine").as_str(), "2", "[OK]"],
        ]
    );
    let queries: Vec<_> = paths
        .try_iter()
        .filter(|path| path.contains("search"))
        .collect();
    assert_eq!(queries, ["/v1/search?q=alpine&n=7"]);
    for (filter, expected) in [
        ("stars=3", "x/alpine"),
        ("is-official=false", "y/alpine"),
        ("is-automated=true", "y/alpine"),
    ] {
        let said = search(&["--filter", filter, "--format", "{{.Name}}"]);
        assert_eq!(said, name(expected) + "\n", "{filter}");
    }
    let whole = search(&["--no-trunc", "--format", "{{.Description}}"]);
    assert!(whole.starts_with("A minimal image with a complete index of packages\n"));
}

#[test]
fn a_tree_shows_which_images_end_at_a_layer() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    env.kelp(&["tag", &image, "low"]).succeeds();
    env.kelp(&["create", "--name", "c", &image, "true"])
        .succeeds();
    env.kelp(&["commit", "c", "top:1"]).succeeds();
    let template = "{{range .RootFS.Layers}}{{.}} {{end}}{{.Id}}";
    let layers = env
        .kelp(&["image", "inspect", "-f", template, "top:1"])
        .succeeds();
    let layers: Vec<_> = layers.split_whitespace().collect();
    let first = &layers[0]["sha256:".len()..][..12];
    let tree = env.kelp(&["image", "tree", "top:1"]).succeeds();
    let lines: Vec<_> = tree.lines().collect();
    assert_eq!(lines[0], format!("Image ID: {}", &layers[3][..12]));
    assert_eq!(lines[1], "Tags:     [localhost/top:1]");
    assert!(lines[2].starts_with("Size:     "), "{tree}");
    assert_eq!((lines[3], lines.len()), ("Image Layers", 7));
    assert!(
        lines[4].starts_with(&format!("├── ID: {first} Size: ")),
        "{tree}"
    );
    assert!(!lines[4].contains("Top"), "{tree}");
    let ends = lines[5].contains("Top Layer of: [") && lines[5].contains("localhost/low:latest");
    assert!(ends, "{tree}");
    assert!(lines[6].starts_with("└── ID: "), "{tree}");
    assert!(
        lines[6].ends_with(" Top Layer of: [localhost/top:1]"),
        "{tree}"
    );
    let tree = env
        .kelp(&["image", "tree", "--whatrequires", "low"])
        .succeeds();
    let lines: Vec<_> = tree.lines().skip(4).collect();
    assert!(
        lines[0].starts_with("└── ID: ") && lines[0].contains("low:latest"),
        "{tree}"
    );
    assert!(
        lines[1].starts_with("    └── ID: ") && lines[1].ends_with("[localhost/top:1]"),
        "{tree}"
    );
    env.kelp(&["rm", "c"]).succeeds();
}

#[test]
fn what_refers_to_an_image_is_listed() {
    let Some(env) = Env::new() else { return };
    let address = &env.registry().address;
    env.push("referred", &|| small("x"));
    let name = format!("{address}/referred");
    let list = |words: &[&str], name: &str| {
        let words = [&["image", "referrers"], words, &[name]].concat();
        env.kelp(&words).succeeds()
    };
    assert_eq!(list(&["-q"], &name), "");
    env.kelp(&["pull", "-q", &name]).succeeds();
    let format = "--format={{.Digest}}";
    let subject = env.kelp(&["image", "inspect", format, &name]).succeeds();
    let subject = subject.trim();
    // The registry has no such API: what a client of it leaves is an index under a tag.
    let referrer = |kind: &str| {
        json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": subject,
            "size": 7682,
            "artifactType": format!("application/vnd.example.{kind}"),
            "annotations": {"made.by": "a test"},
        })
    };
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [referrer("sbom"), referrer("signature")],
    });
    let tag = subject.replace(':', "-");
    Registry(address).push_manifest("referred", &tag, index.to_string().as_bytes());
    let table = format!(
        "{:<width$}  ARTIFACT TYPE                      SIZE\n",
        "DIGEST",
        width = subject.len()
    );
    let said = list(&[], &name);
    assert!(said.starts_with(&table), "{said}");
    let by_digest = format!("{name}@{subject}");
    for name in [&name, &by_digest] {
        let wanted = ["--artifact-type", "application/vnd.example.sbom"];
        let row = "{{.Digest}} {{.ArtifactType}} {{.Size}} {{index .Annotations \"made.by\"}}";
        let said = list(&[&wanted[..], &["--format", row]].concat(), name);
        let expected = format!("{subject} application/vnd.example.sbom 7.682kB a test\n");
        assert_eq!(said, expected);
    }
    let line = env.kelp(&["image", "referrers", "referred"]).fails(125);
    assert!(line.contains("put one before it"), "{line}");
}
