//! The word that was meant, where one was misspelt.

/// The nearest of some words: at most a third of its letters are other ones, and case does not count.
pub fn nearest<'a>(word: &str, among: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().collect();
    let distances = among.into_iter().map(|candidate| {
        let letters: Vec<char> = candidate.to_lowercase().chars().collect();
        (distance(&word, &letters), candidate)
    });
    let near =
        distances.filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3).min(4));
    near.min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters have to be put in, taken out, changed or swapped with their neighbour.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut rows = vec![vec![0; other.len() + 1]; one.len() + 1];
    for (index, row) in rows.iter_mut().enumerate() {
        row[0] = index;
    }
    rows[0] = (0..=other.len()).collect();
    for i in 1..=one.len() {
        for j in 1..=other.len() {
            let changed = usize::from(one[i - 1] != other[j - 1]);
            let mut best = rows[i - 1][j - 1] + changed;
            best = best.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found() {
        let keys = ["PublishPort", "Volume", "Image", "ImageTag", "ReadOnly"];
        for (word, expected) in [
            ("PublishPorts", Some("PublishPort")),
            ("Ports", None),
            ("volumes", Some("Volume")),
            ("Iamge", Some("Image")),
            ("readonly", Some("ReadOnly")),
            ("X", None),
        ] {
            assert_eq!(nearest(word, keys), expected, "{word}");
        }
    }
}
