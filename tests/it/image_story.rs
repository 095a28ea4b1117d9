//! What is told of images: how they came to be, what happened to them, and what they take.

use serde_json::{Value, json};

use crate::archive::Layer;
use crate::env::Env;
use crate::image::Image;

/// An image of two layers, of 2,000 bytes and 30, that tells of four steps.
fn told() -> Image {
    let step = |second: u32, by: &str, empty: bool| {
        let created = format!("2020-01-01T00:00:0{second}.123456789Z");
        json!({"created": created, "created_by": by, "empty_layer": empty})
    };
    let copy = "/bin/sh -c #(nop) COPY file:b90192951ed9a05a1aa2946d23b1b170 in /s";
    Image::empty()
        .layer(Layer::default().file("low", 0o644, &[b'x'; 2000]))
        .layer(Layer::default().file("top", 0o644, &[b'y'; 30]))
        .history(json!([
            step(1, "ADD low", false),
            step(2, "ENV A=b", true),
            step(3, copy, false),
            step(4, "CMD [\"sh\"]", true),
        ]))
}

#[test]
fn a_history_has_podmans_columns() {
    let Some(env) = Env::new() else { return };
    let image = env.image("told", &told);
    let id = env.kelp(&["images", "-q", "--no-trunc"]).succeeds();
    let id = id.trim().strip_prefix("sha256:").unwrap_or(id.trim());
    let history = |words: &[&str]| {
        let words = [&["history"], words, &[&image]].concat();
        env.kelp(&words).succeeds()
    };
    let steps = "{{.ID}}|{{.CreatedAt}}|{{.CreatedBy}}|{{.Size}}|{{.Comment}}|{{.Tags}}";
    let short = &id[..12];
    assert_eq!(
        history(&["--format", steps]),
        format!(
            "{short}|2020-01-01T00:00:04Z|CMD [\"sh\"]|0B||[{image}]\n\
             <missing>|2020-01-01T00:00:03Z|/bin/sh -c #(nop) COPY file:b90192951ed9a0...|30B||[{image}]\n\
             <missing>|2020-01-01T00:00:02Z|ENV A=b|0B||[]\n\
             <missing>|2020-01-01T00:00:01Z|ADD low|2kB||[]\n"
        )
    );
    let table = history(&["--human=false", "--no-trunc"]);
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    assert_eq!(lines[0], ["ID", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
    assert_eq!(lines[1], [id, "2020-01-01T00:00:04Z", "CMD [\"sh\"]", "0"]);
    assert_eq!(lines[2][1], "2020-01-01T00:00:03Z");
    assert!(lines[2][2].ends_with(" in /s"), "{table}");
    assert_eq!(
        lines[4],
        ["<missing>", "2020-01-01T00:00:01Z", "ADD low", "2000"]
    );
    assert!(history(&[]).contains("years ago"));
    assert_eq!(
        history(&["-q"]),
        format!("{short}\n<missing>\n<missing>\n<missing>\n")
    );
    let json: Value = serde_json::from_str(&history(&["--format", "json"])).unwrap();
    assert_eq!(
        json[0],
        json!({
            "id": id,
            "created": "2020-01-01T00:00:04.123456789Z",
            "Created": "2020-01-01T00:00:04Z",
            "CreatedBy": "CMD [\"sh\"]",
            "size": 0,
            "tags": [image],
        })
    );
    assert_eq!(json[3]["size"], 2000);
    let group = ["image", "history", "-q", short];
    assert_eq!(env.kelp(&group).succeeds(), history(&["-q"]));
    let said = env.kelp(&["history", "nothing"]).fails(125);
    assert!(said.contains("nothing"), "{said}");
}

#[test]
fn what_an_image_says_does_nothing_to_a_terminal() {
    let Some(env) = Env::new() else { return };
    let history = json!([{
        "created": "2020-01-02T03:04:05Z",
        "created_by": "RUN \u{1b}]0;title\u{7}",
        "comment": "\u{9b}2J",
    }]);
    let image = env.image("escapes", &|| Image::busybox().history(history.clone()));
    let shown = env.kelp(&["history", "--no-trunc", &image]).succeeds();
    assert!(shown.contains("RUN \\u{1b}]0;title\\u{7}"), "{shown}");
    assert!(shown.contains("\\u{9b}2J\n"), "{shown}");
    let format = ["history", "--no-trunc", "--format={{.CreatedBy}}", &image];
    assert_eq!(env.kelp(&format).succeeds(), "RUN \u{1b}]0;title\u{7}\n");
    let script = "touch \"$1\"";
    let run = ["run", "--name=c", &image, "sh", "-c", script, "\u{1b}[31m"];
    let words = [&run[..], &["/tmp/a\u{1b}[2J\nb"]].concat();
    env.kelp(&words).succeeds();
    let changed = env.kelp(&["diff", "c"]).succeeds();
    assert!(changed.contains("A /tmp/a\\u{1b}[2J\\nb\n"), "{changed}");
    let listed = env.kelp(&["ps", "-a", "--no-trunc"]).succeeds();
    assert!(listed.contains("\\u{1b}[31m"), "{listed}");
    for text in [shown, changed, listed] {
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{9b}']), "{text:?}");
    }
    env.kelp(&["rm", "c"]).succeeds();
}

#[test]
fn what_happens_to_images_is_an_event() {
    let Some(env) = Env::new() else { return };
    let image = env.image("told", &told);
    let id = env
        .kelp(&["inspect", "--format", "{{.Id}}", &image])
        .succeeds();
    let id = id.trim();
    env.kelp(&["tag", &image, "one", "localhost/two:2"])
        .succeeds();
    env.kelp(&["untag", "one"]).succeeds();
    env.kelp(&["tag", id, "three"]).succeeds();
    env.kelp(&["tag", id, "four"]).succeeds();
    env.kelp(&["rmi", "three"]).succeeds();
    env.kelp(&["rmi", "four"]).succeeds();
    let missing = format!("{}/nothing", env.registry().address);
    let error = env.kelp(&["pull", "-q", &missing]).fails(125);
    let format = "{{.Type}} {{.Status}} {{.ID}} {{.Name}}";
    let told = |filter: &str| {
        let words = [
            "events",
            "--stream=false",
            "--filter",
            filter,
            "--format",
            format,
        ];
        env.kelp(&words).succeeds()
    };
    let line = |action: &str, name: &str| format!("image {action} {id} {name}\n");
    let expected = [
        line("pull", &image),
        line("tag", "one"),
        line("tag", "localhost/two:2"),
        line("untag", &image),
        line("untag", "localhost/one:latest"),
        line("untag", "localhost/two:2"),
        line("tag", "three"),
        line("tag", "four"),
        line("untag", "localhost/three:latest"),
        line("remove", "localhost/four:latest"),
        line("untag", "localhost/four:latest"),
        format!("image pull-error  {missing}\n"),
    ];
    assert_eq!(told("type=image"), expected.concat());
    assert_eq!(told("event=remove"), expected[9]);
    let words = ["events", "--stream=false", "--filter=event=pull-error"];
    let human = env.kelp(&words).succeeds();
    let reason = error.strip_prefix("Error: ").unwrap();
    assert!(
        human.ends_with(&format!(" image pull-error  {missing} {reason}\n")),
        "{human}"
    );
    // What a prune takes is told as well.
    env.kelp(&["pull", "-q", &image]).succeeds();
    env.kelp(&["image", "prune", "-af"]).succeeds();
    assert_eq!(
        told("event=remove"),
        [&expected[9][..], &line("remove", &image)].concat()
    );
}

#[test]
fn only_a_name_of_the_image_itself_is_taken_away() {
    let Some(env) = Env::new() else { return };
    let image = env.image("told", &told);
    let other = env.busybox();
    env.kelp(&["tag", &image, "one"]).succeeds();
    let id = env.kelp(&["images", "-q", &image]).succeeds();
    assert_eq!(
        env.kelp(&["untag", &image, "one", &other]).fails(125),
        format!("Error: {other} is no name of image {}", id.trim())
    );
    env.kelp(&["image", "exists", "one"]).succeeds();
    env.kelp(&["image", "exists", &other]).succeeds();
    env.kelp(&["untag", &image, "one"]).succeeds();
    assert_eq!(env.kelp(&["image", "exists", "one"]).done().code, 1);
}

#[test]
fn df_tells_who_uses_what() {
    let Some(env) = Env::new() else { return };
    let low = || Layer::default().file("low", 0o644, &[b'x'; 2000]);
    let one = env.image("told", &told);
    let two = env.image("told-two", &|| {
        Image::empty()
            .layer(low())
            .layer(Layer::default().file("own", 0o644, &[b'z'; 500]))
    });
    env.kelp(&["tag", &two, "second"]).succeeds();
    let summary = "{{.Type}} {{.Total}} {{.Active}}";
    let df = || {
        let words = ["system", "df", "--format", summary];
        let said = env.kelp(&words).succeeds();
        said.lines().next().unwrap().to_owned()
    };
    assert_eq!(df(), "Images 2 0");
    // An image that is only mounted is used as well.
    let mount = format!("type=image,source={two},dst=/i");
    env.kelp(&["create", "--name=user", "--mount", &mount, &one, "x"])
        .succeeds();
    assert_eq!(df(), "Images 2 2");
    env.kelp(&["rm", "user"]).succeeds();
    env.kelp(&["create", "--name=user", "-v", "data:/d", &one, "x"])
        .succeeds();
    assert_eq!(df(), "Images 2 1");
    let said = env.kelp(&["system", "df", "-v"]).succeeds();
    let rows = |title: &str| {
        let (_, rest) = said
            .split_once(&format!("{title} space usage:\n\n"))
            .unwrap();
        let mut rows: Vec<Vec<String>> = rest
            .lines()
            .take_while(|line| !line.is_empty())
            .map(|line| {
                let cells = line.split("  ").map(str::trim);
                cells
                    .filter(|cell| !cell.is_empty())
                    .map(str::to_owned)
                    .collect()
            })
            .collect();
        rows[1..].sort();
        rows
    };
    let images = rows("Images");
    assert_eq!(
        images[0],
        [
            "REPOSITORY",
            "TAG",
            "IMAGE ID",
            "CREATED",
            "SIZE",
            "SHARED SIZE",
            "UNIQUE SIZE",
            "CONTAINERS"
        ]
    );
    let cells = |name: &str| {
        let mut found = images[1..].iter().filter(|row| row[0] == name);
        let row = found.next().unwrap();
        row[row.len() - 1].clone()
    };
    let repository = |name: &str| name.strip_suffix(":latest").unwrap().to_owned();
    assert_eq!(images.len(), 4);
    assert_eq!(cells(&repository(&one)), "1");
    for name in [&repository(&two), "localhost/second"] {
        assert_eq!(cells(name), "0");
    }
    let containers = rows("Containers");
    assert_eq!(
        containers[0],
        [
            "CONTAINER ID",
            "IMAGE",
            "COMMAND",
            "LOCAL VOLUMES",
            "SIZE",
            "CREATED",
            "STATUS",
            "NAMES"
        ]
    );
    assert_eq!(containers[1][2..4], ["x", "1"]);
    env.kelp(&["rm", "user"]).succeeds();
}

#[test]
fn only_force_takes_containers_along() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let make = || env.kelp(&["create", "--name=user", "--network=none", &image, "true"]);
    make().succeeds();
    let refused = env.kelp(&["rmi", "-a"]).fails(2);
    assert!(refused.contains("is in use by container"), "{refused}");
    let named = ["ps", "-a", "--format", "{{.Names}}"];
    assert_eq!(env.kelp(&named).succeeds(), "user\n");
    // By its id all of it goes, whatever names it has.
    env.kelp(&["tag", &image, "another"]).succeeds();
    let id = env.kelp(&["images", "-q", "another"]).succeeds();
    env.kelp(&["rmi", id.trim()]).fails(2);
    env.kelp(&["rmi", "-f", id.trim()]).succeeds();
    assert_eq!(env.kelp(&named).succeeds(), "");
    assert_eq!(env.kelp(&["images", "-q"]).succeeds(), "");
}

#[test]
fn times_beyond_all_clocks_are_told() {
    let Some(env) = Env::new() else { return };
    let image = env.image("of-the-far-future", &|| {
        let layer = Layer::default().file("low", 0o644, b"low");
        let step = json!([{"created": "9999999999999999999", "created_by": "x"}]);
        Image::empty().layer(layer).history(step)
    });
    env.kelp(&["images"]).succeeds();
    env.kelp(&["history", &image]).succeeds();
    env.kelp(&["system", "df", "-v"]).succeeds();
    let said = env
        .kelp(&["events", "--since", "1e19", "--until", "1s"])
        .fails(125);
    assert!(said.contains("is no time"), "{said}");
}
