//! What the library offers changes on purpose alone: each change of it is a change of `tests/fixtures/public-api.txt`, and seen where that is read.

use std::collections::BTreeSet;

/// What is offered, an item a line. What is derived, or follows from what else is there, is left out.
const LISTING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/public-api.txt");

/// The words of the library that are not in `of`, each after a sign.
fn beyond<'a>(sign: char, these: &'a BTreeSet<&str>, of: &BTreeSet<&str>) -> impl Iterator<Item = String> + use<'a> {
    these.difference(of).map(move |item| format!("{sign} {item}")).collect::<Vec<_>>().into_iter()
}

#[test]
#[ignore = "reads what rustdoc says of the library: bash .ci/public-api"]
fn what_is_public_changes_on_purpose_alone() {
    let json =
        std::env::var_os("ROOMKEEPER_RUSTDOC_JSON").expect("ROOMKEEPER_RUSTDOC_JSON names what rustdoc says of the library, as JSON");
    let builder = public_api::Builder::from_rustdoc_json(json);
    let public = builder.omit_blanket_impls(true).omit_auto_trait_impls(true).omit_auto_derived_impls(true).build().unwrap();
    let found: String = public.items().map(|item| format!("{item}\n")).collect();
    if std::env::var_os("ROOMKEEPER_ACCEPT").is_some() {
        std::fs::write(LISTING, &found).unwrap();
    }
    let agreed = std::fs::read_to_string(LISTING).unwrap();
    let [found, agreed] = [&found, &agreed].map(|text| text.lines().collect::<BTreeSet<_>>());
    let differences: Vec<String> = beyond('-', &agreed, &found).chain(beyond('+', &found, &agreed)).collect();
    assert!(
        differences.is_empty(),
        "the library offers something else than tests/fixtures/public-api.txt says. If that is meant, `ROOMKEEPER_ACCEPT=1 bash .ci/public-api` writes \
        it anew, and the changelog tells users:\n{}",
        differences.join("\n")
    );
}
