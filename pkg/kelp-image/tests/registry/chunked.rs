//! zstd:chunked layers: what is here in others is not fetched, and never believed.

use kelp_image::Digest;
use serde_json::{Value, json};

use crate::faults::{layer_path, ranges, spoiled};
use crate::fixture::Fixture;
use crate::image::{TestImage, content};
use crate::scripted::{Answer, Scripted};

/// A file of a layer: its name, a seed and its size.
type Content<'a> = (&'a str, &'a str, usize);

/// A layer as containers/storage writes it, as far as a pull looks at it: frames, table and footer.
struct Chunked {
    blob: Vec<u8>,
    /// What the descriptor says about the table.
    position: String,
    /// Where each file's frame is.
    frames: Vec<std::ops::Range<usize>>,
    /// Where the table's own frame begins.
    tail: usize,
}

impl Chunked {
    fn new(files: &[Content<'_>]) -> Self {
        Self::with_table(files, |_| {})
    }

    /// A layer whose table is spoiled.
    fn with_table(files: &[Content<'_>], spoil: impl Fn(&mut Value)) -> Self {
        let pack = |bytes: &[u8]| zstd::bulk::compress(bytes, 3).unwrap();
        let mut blob = Vec::new();
        let mut entries = vec![json!({"type": "dir", "name": "etc/", "mode": 0o755})];
        let mut frames = Vec::new();
        for (name, seed, size) in files {
            blob.extend(pack(format!("header of {name}").as_bytes()));
            let start = blob.len();
            let bytes = content(seed, *size);
            blob.extend(pack(&bytes));
            frames.push(start..blob.len());
            entries.push(json!({
                "type": "reg", "name": name, "mode": 0o644, "size": size,
                "digest": Digest::of(&bytes), "offset": start, "endOffset": blob.len(),
            }));
        }
        let mut table = json!({"version": 1, "entries": entries});
        spoil(&mut table);
        let table = table.to_string();
        let packed = pack(table.as_bytes());
        let tail = blob.len();
        let words = [tail + 8, packed.len(), table.len(), 1];
        let mut footer: Vec<u8> = words.map(|word| (word as u64).to_le_bytes()).concat();
        footer.extend([0; 24]);
        footer.extend(b"GNUlInUx");
        for frame in [packed, footer] {
            blob.extend(0x184d_2a50_u32.to_le_bytes());
            blob.extend((frame.len() as u32).to_le_bytes());
            blob.extend(frame);
        }
        Self {
            blob,
            position: words.map(|word| word.to_string()).join(":"),
            frames,
            tail,
        }
    }

    /// An image with this one layer.
    fn image(&self) -> TestImage {
        let mut image = TestImage::of_layers("chunked", "amd64", vec![self.blob.clone()]);
        let mut manifest = image.describe();
        manifest["layers"][0]["annotations"] =
            json!({"io.github.containers.zstd-chunked.manifest-position": self.position});
        image.manifest = manifest.to_string().into_bytes();
        image
    }

    /// The header that asks for its last part.
    fn tail_range(&self) -> String {
        format!("bytes={}-", self.tail)
    }

    /// The header that asks for everything between two places.
    fn range(from: usize, until: usize) -> String {
        format!("bytes={from}-{}", until - 1)
    }
}

const OLD: [Content<'static>; 3] = [
    ("etc/a", "a", 400_000),
    ("etc/b", "b", 300_000),
    ("etc/c", "c", 400_000),
];

/// Brings the first image here.
fn fixture_with(layer: &Chunked) -> Fixture {
    let fixture = Fixture::new();
    let image = layer.image();
    let server = spoiled(&image, 0, |_, answer| answer);
    fixture.pull(&format!("{}/first", server.address)).unwrap();
    assert_eq!(
        ranges(&server, &image),
        ["all"],
        "there is nothing to share yet"
    );
    fixture.images.add_layer(&layer.blob);
    fixture.shown.take();
    fixture
}

/// Pulls the second image, and says what it was asked for.
fn pull_second(fixture: &Fixture, server: &Scripted, image: &TestImage) -> Vec<String> {
    let id = fixture.pull(&format!("{}/second", server.address)).unwrap();
    assert_eq!(id, image.id());
    // What is fed to the unpacker is right as well: here that is what the diff id is of.
    let digest = Digest::of(&image.layers[0]);
    assert!(fixture.layers.published().contains(&digest));
    assert!(fixture.blobs.is_whole(&digest).unwrap());
    assert_eq!(fixture.partial_files(), 0);
    ranges(server, image)
}

fn second() -> Chunked {
    Chunked::new(&[
        OLD[0],
        ("etc/b", "other", 300_000),
        OLD[2],
        ("etc/d", "d", 50_000),
    ])
}

#[test]
fn what_other_layers_have_is_not_fetched() {
    let fixture = fixture_with(&Chunked::new(&OLD));
    let layer = second();
    let image = layer.image();
    let server = spoiled(&image, 0, |_, answer| answer);
    let asked = pull_second(&fixture, &server, &image);
    let frames = &layer.frames;
    // The header of the changed file is as it was, since its size is. That before the third is too.
    assert_eq!(
        asked,
        [
            layer.tail_range(),
            Chunked::range(frames[1].start, frames[1].end),
            Chunked::range(frames[2].end, layer.tail),
        ]
    );
    let here = frames[1].start + frames[2].end - frames[1].end;
    assert!(fixture.shown.take().contains(&format!("shared {here}")));
}

#[test]
fn frames_that_are_not_what_their_table_says_cost_a_download() {
    let layer = second();
    // The other blob's table says that it has the changed file; what it has there is something else.
    let mut lying = Chunked::new(&[OLD[0], ("etc/b", "other", 300_000), OLD[2]]);
    let middle = lying.frames[1].start + lying.frames[1].len() / 2;
    lying.blob[middle] ^= 1;
    let fixture = fixture_with(&lying);
    let image = layer.image();
    let server = spoiled(&image, 0, |_, answer| answer);
    let asked = pull_second(&fixture, &server, &image);
    let changed = Chunked::range(layer.frames[2].end, layer.tail);
    assert_eq!(asked, [&layer.tail_range(), &changed, "all"]);
}

#[test]
fn a_registry_without_ranges_sends_the_whole() {
    let fixture = fixture_with(&Chunked::new(&OLD));
    let layer = second();
    let image = layer.image();
    let whole = layer.blob.clone();
    let server = spoiled(&image, 9, move |_, _| Answer::new(200, &whole));
    let asked = pull_second(&fixture, &server, &image);
    assert_eq!(asked, [&layer.tail_range(), "all"]);
    // One that has forgotten about them meanwhile is read to the end.
    let fixture = fixture_with(&Chunked::new(&OLD));
    let (tail, whole) = (layer.tail_range(), layer.blob.clone());
    let server = spoiled(&image, 9, move |request, answer| {
        if request.header("range") == Some(&tail) {
            answer
        } else {
            Answer::new(200, &whole)
        }
    });
    assert_eq!(pull_second(&fixture, &server, &image).len(), 2);
}

#[test]
fn a_range_that_is_cut_goes_on() {
    let fixture = fixture_with(&Chunked::new(&OLD));
    let layer = second();
    let image = layer.image();
    let server = spoiled(&image, 2, |_, answer| {
        let length = answer.body.len();
        if length > 100_000 {
            answer.cut_at(length / 2)
        } else {
            answer
        }
    });
    let asked = pull_second(&fixture, &server, &image);
    let frame = &layer.frames[1];
    let half = frame.start + frame.len() / 2;
    assert_eq!(asked[1], Chunked::range(frame.start, frame.end));
    assert_eq!(asked[2], Chunked::range(half, frame.end));
}

#[test]
fn a_pull_that_was_given_up_goes_on_with_what_is_here() {
    let mut fixture = fixture_with(&Chunked::new(&OLD));
    fixture.options.access.retries.limit = 0;
    let layer = second();
    let image = layer.image();
    let missing = format!("bytes={}-", layer.frames[1].start);
    let path = layer_path(&image);
    let server = spoiled(&image, 3, move |request, answer| {
        let range = request.header("range").unwrap_or_default();
        if request.target().ends_with(&path) && range.starts_with(&missing) {
            Answer::new(404, b"{}")
        } else {
            answer
        }
    });
    let name = format!("{}/second", server.address);
    let error = fixture.pull(&name).unwrap_err().to_string();
    assert!(
        error.contains("404") || error.contains("not found"),
        "{error}"
    );
    assert_eq!(fixture.partial_files(), 1);
    let before = ranges(&server, &image).len();
    let asked = pull_second(&fixture, &server, &image);
    assert_eq!(
        asked[before..],
        [
            layer.tail_range(),
            Chunked::range(layer.frames[1].start, layer.frames[1].end),
            Chunked::range(layer.frames[2].end, layer.tail)
        ]
    );
}

#[test]
fn tables_that_contradict_themselves_are_no_use() {
    let fixture = fixture_with(&Chunked::new(&OLD));
    let frames = second().frames;
    for (spoilt, value) in [
        (("entries", 2, "offset"), json!(1)),
        (("entries", 2, "endOffset"), json!(u64::MAX)),
        (("entries", 3, "offset"), json!(frames[3].end + 1)),
        (("entries", 1, "offset"), json!(-1)),
        (("entries", 1, "type"), json!(["reg"])),
    ] {
        let (list, number, key) = spoilt;
        let layer = Chunked::with_table(&[OLD[0], ("etc/b", "other", 300_000), OLD[2]], |table| {
            table[list][number][key] = value.clone();
        });
        let image = layer.image();
        let server = spoiled(&image, 0, |_, answer| answer);
        let asked = pull_second(&fixture, &server, &image);
        assert_eq!(asked, [&layer.tail_range(), "all"], "{key} is {value}");
    }
}

#[test]
fn places_beyond_the_blob_are_not_asked_for() {
    let fixture = fixture_with(&Chunked::new(&OLD));
    for (number, position) in [
        "0:10:10:1",
        "18446744073709551615:1:1:1",
        "8:18446744073709551615:1:1",
        "100:10:999999999999:1",
        "100:10:10:2",
        "100:10",
        "a:b:c:d",
    ]
    .into_iter()
    .enumerate()
    {
        let seed = format!("other {number}");
        let mut layer = Chunked::new(&[OLD[0], ("etc/b", &seed, 300_000)]);
        layer.position = position.to_owned();
        let image = layer.image();
        let server = spoiled(&image, 0, |_, answer| answer);
        let asked = pull_second(&fixture, &server, &image);
        assert_eq!(asked, ["all"], "{position}");
    }
}

#[test]
fn a_registry_that_refuses_a_part_is_asked_for_the_rest() {
    let fixture = fixture_with(&Chunked::new(&OLD));
    let layer = second();
    let image = layer.image();
    let tail = layer.tail_range();
    let server = spoiled(&image, 9, move |request, answer| {
        match request.header("range") {
            Some(range) if *range != tail && !range.ends_with('-') => Answer::new(416, b"{}"),
            _ => answer,
        }
    });
    let asked = pull_second(&fixture, &server, &image);
    let start = layer.frames[1].start;
    assert_eq!(asked.last().unwrap(), &format!("bytes={start}-"));
}

#[test]
fn images_that_cannot_be_read_save_nothing_and_cost_nothing() {
    let fixture = fixture_with(&Chunked::new(&OLD));
    fixture.images.spoil_layers();
    let layer = second();
    let image = layer.image();
    let server = spoiled(&image, 0, |_, answer| answer);
    assert_eq!(pull_second(&fixture, &server, &image), ["all"]);
}

#[test]
fn a_blob_that_was_cut_since_it_was_looked_into_costs_a_download() {
    let old = Chunked::new(&OLD);
    let fixture = fixture_with(&old);
    let path = fixture.blobs.path(&Digest::of(&old.blob));
    let layer = second();
    let image = layer.image();
    // The blob's end has been read when the registry is asked for that of the other.
    let tail = layer.tail_range();
    let server = spoiled(&image, 9, move |request, answer| {
        if request.header("range") == Some(&tail) {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_len(1000).unwrap();
        }
        answer
    });
    let asked = pull_second(&fixture, &server, &image);
    assert!(asked.last().unwrap().ends_with('-'), "{asked:?}");
}

#[test]
fn the_same_frames_over_and_over_are_no_saving() {
    let fixture = fixture_with(&Chunked::new(&OLD));
    // A small layer in truth, whose table has the same file a thousand times.
    let mut layer = Chunked::new(&[OLD[0]]);
    let frame = layer.frames[0].clone();
    let digest = Digest::of(&content("a", 400_000));
    let tail = layer.blob.len() * 1000;
    let entries: Vec<Value> = (0..999)
        .map(|number| {
            let start = frame.start + number * frame.len();
            json!({
                "type": "reg", "name": "etc/a", "mode": 0o644, "size": 400_000, "digest": digest,
                "offset": start, "endOffset": start + frame.len(),
            })
        })
        .collect();
    let table = json!({"version": 1, "entries": entries}).to_string();
    let packed = zstd::bulk::compress(table.as_bytes(), 3).unwrap();
    layer.position = format!("{}:{}:{}:1", tail + 8, packed.len(), table.len());
    let mut image = layer.image();
    let mut manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    let size = tail + 8 + packed.len();
    manifest["layers"][0]["size"] = json!(size);
    image.manifest = manifest.to_string().into_bytes();
    let server = spoiled(&image, 9, move |request, answer| {
        match request.header("range") {
            Some(_) => Answer::new(206, &[&[0; 8], &packed[..]].concat()).header(
                "Content-Range",
                &format!("bytes {tail}-{}/{size}", size - 1),
            ),
            None => answer,
        }
    });
    let name = format!("{}/second", server.address);
    fixture.pull(&name).unwrap_err();
    assert!(
        !fixture
            .shown
            .take()
            .iter()
            .any(|line| line.starts_with("shared"))
    );
}

#[test]
fn the_longest_of_many_stretches_are_copied() {
    let names: Vec<String> = (0..140).map(|number| format!("etc/{number:03}")).collect();
    let size = |number: usize| match number {
        number if number % 2 == 1 => 1000,
        // Six more than are made use of, and these are shorter.
        0..12 => 300_000,
        _ => 330_000,
    };
    let old: Vec<Content<'_>> = names
        .iter()
        .enumerate()
        .map(|(number, name)| (&**name, &**name, size(number)))
        .collect();
    let fixture = fixture_with(&Chunked::new(&old));
    // Every second file is another one: 70 stretches.
    let new: Vec<Content<'_>> = old
        .iter()
        .map(|&(name, seed, size)| match size {
            1000 => (name, "new", 1000),
            _ => (name, seed, size),
        })
        .collect();
    let layer = Chunked::new(&new);
    let image = layer.image();
    let server = spoiled(&image, 0, |_, answer| answer);
    let asked = pull_second(&fixture, &server, &image);
    // The short ones in one, then what is between and behind the others.
    assert_eq!(asked[1], Chunked::range(0, layer.frames[11].end));
    assert_eq!(asked.len(), 1 + 1 + 64);
}
