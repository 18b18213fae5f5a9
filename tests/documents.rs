//! Documents say what is there: links lead somewhere, and the tests that are named exist.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every page of the tree, but for what was built or belongs to others.
fn pages() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            match path.is_dir() {
                true if name == "target" || name.starts_with('.') => {}
                true => walk(&path, found),
                false if name.ends_with(".md") => found.push(path),
                false => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.sort();
    found
}

/// The text without its blocks of code.
fn prose(text: &str) -> String {
    let (mut out, mut code) = (String::new(), false);
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// What the headings of a page are called in links to them.
fn anchors(page: &Path) -> Vec<String> {
    let text = prose(&std::fs::read_to_string(page).unwrap());
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
    headings.map(|heading| heading.chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for page in pages() {
        let text = prose(&std::fs::read_to_string(&page).unwrap());
        // What stands in backticks is no link: an attribute of Rust looks like one.
        let text: String = text.split('`').step_by(2).collect();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")) {
            let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
            let to = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            let there = to.exists() && anchor.is_none_or(|anchor| anchors(&to).iter().any(|known| known == anchor));
            if !there {
                wrong.push(format!("{}: {target}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(wrong.is_empty(), "these links lead nowhere:\n{}", wrong.join("\n"));
}

#[test]
fn features_name_tests_that_exist() {
    let text = std::fs::read_to_string(root().join("docs/features.md")).unwrap();
    let mut ids = Vec::new();
    for row in text.lines().filter(|line| line.starts_with("| ") && line.as_bytes().get(3).is_some_and(u8::is_ascii_digit)) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [id, _, state, shown] = cells[..] else { panic!("four cells are wanted: {row}") };
        let [done, partly, not] = ["done", "partly: ", "not"].map(|word| state.starts_with(word));
        assert!(done || partly || not, "{id} is neither done, nor partly, nor not: {state}");
        let mut file = String::new();
        for word in shown.split('`').skip(1).step_by(2) {
            if word.ends_with(".rs") {
                file = std::fs::read_to_string(root().join(word)).unwrap_or_else(|error| panic!("{id}: {word}: {error}"));
            } else {
                assert!(file.contains(&format!("fn {word}(")), "{id}: there is no test {word}");
            }
        }
        assert_eq!(shown.contains('`'), !not, "{id}: what is there is shown by a test, and what is not by none");
        ids.push(id.to_owned());
    }
    let wanted = [('S', 52), ('D', 6), ('E', 20), ('P', 36), ('F', 16)];
    let wanted = wanted
        .iter()
        .flat_map(|(kind, count)| (1..=*count).map(move |n| if *kind == 'D' { format!("D{n}") } else { format!("{kind}{n:02}") }));
    assert_eq!(ids, wanted.collect::<Vec<_>>());
}
