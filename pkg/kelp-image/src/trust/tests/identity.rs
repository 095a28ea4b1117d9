//! Which names a signature may be for.

use crate::reference::Reference;
use crate::trust::identity::SignedIdentity;

#[test]
fn names_fit_as_the_rule_says() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let at = |name: &str| format!("{name}@{digest}");
    let (x_at, y_at) = (at("r.example/x"), at("r.example/y"));
    let exact = r#"{"type":"exactReference","dockerReference":"r.example/x:1"}"#;
    let repository = r#"{"type":"exactRepository","dockerRepository":"r.example/x"}"#;
    let remap =
        r#"{"type":"remapIdentity","prefix":"mirror.example/m","signedPrefix":"r.example"}"#;
    let usual = r#"{"type":"matchRepoDigestOrExact"}"#;
    let match_exact = r#"{"type":"matchExact"}"#;
    let match_repository = r#"{"type":"matchRepository"}"#;
    for (identity, image, signed, fits) in [
        (match_exact, "r.example/x:1", "r.example/x:1", true),
        (match_exact, "r.example/x:1", "r.example/x:2", false),
        (match_exact, "r.example/x:1", "r.example/x", false),
        (match_exact, "r.example/x", "r.example/x", false),
        (match_exact, &x_at, "r.example/x:1", false),
        (match_exact, &x_at, &x_at, true),
        (match_exact, "docker.io/library/x:1", "x:1", true),
        (match_exact, "r.example/x:1", "nonsense ", false),
        (match_exact, "", "r.example/x:1", false),
        (usual, "r.example/x:1", "r.example/x:1", true),
        (usual, "r.example/x:1", "r.example/x:2", false),
        (usual, "r.example/x:1", "r.example/y:1", false),
        (usual, "r.example/x:1", "docker://r.example/x:1", false),
        (usual, &x_at, "r.example/x:2", true),
        (usual, &x_at, "r.example/x", false),
        (usual, &x_at, "r.example/y:2", false),
        (usual, &y_at, &x_at, false),
        (usual, "", "r.example/x:1", false),
        (match_repository, "r.example/x:1", "r.example/x:2", true),
        (match_repository, "r.example/x:1", "r.example/x", true),
        (match_repository, "r.example/x:1", "r.example/x/y", false),
        (match_repository, "", "r.example/x", false),
        (exact, "other.example/z:9", "r.example/x:1", true),
        (exact, "", "r.example/x:1", true),
        (exact, "", "r.example/x", false),
        (exact, "r.example/x:2", "r.example/x:2", false),
        (repository, "", "r.example/x:1", true),
        (repository, "", "r.example/x", true),
        (repository, "", "r.example/y", false),
        (remap, "mirror.example/m/x:1", "r.example/x:1", true),
        (remap, "mirror.example/m/x:1", "mirror.example/m/x:1", false),
        (remap, "mirror.example/mm/x:1", "r.example/m/x:1", false),
        (
            remap,
            "mirror.example/mm/x:1",
            "mirror.example/mm/x:1",
            true,
        ),
        (remap, "r.example/x:1", "r.example/x:1", true),
        (remap, "", "r.example/x:1", false),
    ] {
        let rule: SignedIdentity = serde_json::from_str(identity).unwrap();
        let image = Some(image)
            .filter(|image| !image.is_empty())
            .map(|image| Reference::parse(image).unwrap());
        assert_eq!(
            rule.fits(image.as_ref(), signed),
            fits,
            "{identity} {image:?} {signed}"
        );
    }
}
