//! The rules of the house, as tests: what may use what, how long files are, no clock in rooms, a prelude that can be globbed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(under: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(under), &mut found);
    found.sort();
    let name = |path: &PathBuf| path.strip_prefix(root()).unwrap().display().to_string();
    found.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// The text without comments and without the tests at the end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

#[test]
fn arrows_point_one_way() {
    let forbidden = [
        ("src/protocol", vec!["room", "client", "store", "host", "sim", "cli", "net", "predict", "admin"]),
        ("src/net", vec!["room", "client", "store", "host", "sim", "cli", "admin"]),
        ("src/room", vec!["client", "store", "host", "sim", "cli", "net", "predict", "admin"]),
        ("src/client", vec!["room", "store", "host", "sim", "cli", "predict", "admin"]),
        ("src/predict", vec!["store", "host", "sim", "cli", "net", "admin"]),
        ("src/store", vec!["room", "client", "host", "sim", "cli", "net", "predict", "admin"]),
        ("src/host", vec!["client", "sim", "cli", "predict", "admin"]),
        ("src/sim", vec!["cli", "admin"]),
        ("src/admin", vec!["sim", "cli", "predict", "net"]),
    ];
    for (folder, others) in forbidden {
        for (name, text) in files(folder) {
            for other in &others {
                assert!(!code(&text).contains(&format!("crate::{other}::")), "{name} uses {other}");
            }
        }
    }
}

#[test]
fn rooms_know_no_clock_no_socket_no_thread_and_no_hash_order() {
    for folder in ["src/protocol", "src/room", "src/predict", "src/sim"] {
        for (name, text) in files(folder) {
            for word in
                ["Instant", "SystemTime", "std::net", "std::thread", "std::collections::HashMap", "std::collections::HashSet", "getrandom"]
            {
                assert!(!code(&text).contains(word), "{name} uses {word}");
            }
        }
    }
}

#[test]
fn only_the_codec_names_bincode() {
    for (name, text) in files("src") {
        assert!(name.ends_with("protocol/codec.rs") || !code(&text).contains("bincode"), "{name} names bincode");
    }
}

#[test]
fn files_and_functions_stay_readable() {
    for (name, text) in files("src") {
        assert!(text.lines().count() <= 640, "{name} has {} lines", text.lines().count());
        // Of functions that are open, where each began and how deep.
        let mut open: Vec<(usize, usize)> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let trimmed = line.trim_start();
            let indent = line.len() - trimmed.len();
            if is_head(trimmed) && !trimmed.ends_with([';', '}']) {
                open.push((number, indent));
            }
            if trimmed == "}" {
                if let Some((begin, _)) = open.last().filter(|(_, depth)| *depth == indent) {
                    assert!(number - begin <= 72, "{name}:{} is a function of {} lines", begin + 1, number - begin);
                }
                // What is told only, by a trait, has no end of its own.
                open.retain(|(_, depth)| *depth < indent);
            }
        }
    }
}

/// True for a line with which a function begins.
fn is_head(line: &str) -> bool {
    let words = ["pub ", "pub(crate) ", "pub(super) ", "const ", "async ", "unsafe "];
    let rest = words.iter().fold(line, |line, word| line.strip_prefix(word).unwrap_or(line));
    rest.starts_with("fn ")
}

#[test]
fn every_folder_opens_with_a_page() {
    for (name, text) in files("src") {
        if name.ends_with("mod.rs") || name.ends_with("lib.rs") || name.ends_with("main.rs") {
            assert!(text.starts_with("//!"), "{name} has no page");
        }
    }
}

#[test]
fn the_prelude_can_be_globbed_beside_bevys() {
    let text = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let prelude = text.split("pub mod prelude {").nth(1).unwrap();
    assert!(!prelude.contains('*'));
    let names: Vec<&str> = prelude
        .split(['{', '}', ',', ';', ' ', '\n'])
        .filter(|word| !word.is_empty() && !word.contains(':') && !["pub", "use"].contains(word))
        .collect();
    assert!(names.len() <= 25, "{} names: {names:?}", names.len());
    let bevy = "Bundle ContiguousMut ContiguousRef DetectChanges DetectChangesMut Mut Ref children Component ContainsEntity Entity EntityMapper \
        BevyError ContextExt Result ResultSeverityExt Severity EntityEvent Event EventPattern ChildOf ChildSpawner ChildSpawnerCommands Children \
        Add Despawn Discard Insert Remove RemovedComponents Message MessageMutator MessageReader MessageWriter Messages PopulatedMessageReader \
        Name NameOrEntity Observer ObserverSystemExt On Added Allow AnyOf Changed Has Or QueryBuilder QueryState With Without related \
        RelationshipTarget Resource ApplyDeferred IntoScheduleConfigs IntoSystemSet Schedule Schedules SystemCondition SystemSet Spawn SpawnIter \
        SpawnRelated SpawnWith WithOneRelated WithRelated Command Commands Deferred EntityCommand EntityCommands If In InMut InRef IntoSystem Local \
        NonSend NonSendMut ParamSet Populated Query ReadOnlySystem Res ResMut Single System SystemIn SystemInput SystemParamBuilder \
        SystemParamFunction FromTemplate Template template EntityMut EntityRef EntityWorldMut FromWorld World Time Timer Fixed Real Virtual";
    for name in names {
        assert!(!bevy.split_whitespace().any(|theirs| theirs == name), "{name} is Bevy's");
    }
}

#[test]
fn the_map_names_only_what_exists() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for word in map.split('`').skip(1).step_by(2).filter(|word| word.starts_with("tests/")) {
        assert!(root().join(word).exists(), "{word} is not there");
    }
    for row in map.lines().filter(|line| line.starts_with("| `")) {
        let cell = row.split('|').nth(1).unwrap();
        let mut folder = "";
        for word in cell.split('`').skip(1).step_by(2) {
            let (place, file) = word.split_once('/').unwrap_or((folder, word));
            folder = place;
            let path = root().join("src").join(folder).join(file);
            assert!(path.with_extension("rs").exists() || path.is_dir(), "{word} is not there");
        }
    }
}

/// True if a licence, as packages write it, is among those that are allowed: of all that are asked for together, of one of each that can be chosen.
fn is_allowed(licence: &str, allowed: &[&str]) -> bool {
    let plain = licence.replace(['(', ')'], "").replace('/', " OR ");
    plain.split(" AND ").all(|part| part.split(" OR ").any(|one| allowed.contains(&one.trim())))
}

#[test]
fn whoever_builds_it_may_do_so_under_the_licences_that_are_allowed() {
    let deny = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let line = deny.lines().find(|line| line.starts_with("allow = [")).unwrap();
    let allowed: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
    assert!(is_allowed("MIT/Apache-2.0", &allowed) && is_allowed("(MIT OR GPL-3.0) AND Unicode-3.0", &allowed));
    assert!(!is_allowed("GPL-3.0", &allowed) && !is_allowed("MIT AND GPL-3.0", &allowed));
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--all-features", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = told["packages"].as_array().unwrap();
    assert!(packages.len() > 200, "{} packages", packages.len());
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(is_allowed(licence, &allowed), "{} is licensed under {licence}", package["name"]);
    }
}
