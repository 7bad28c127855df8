//! The repository's own rules, as tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use signpost_tidy::{made, messages, metadata, root};
use signpost_txmgr::request::{Code, Message};
use signpost_txmgr::wire::schema::schemas;

/// The most lines of a source file without its tests. A longer file should be split by subject.
const MAX_LINES: usize = 600;

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the repository can be read") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

fn all_rust_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for dir in ["crates", "tests"] {
        rust_files(&root().join(dir), &mut files);
    }
    assert!(files.len() > 20, "the sources are found");
    files
}

#[test]
fn source_files_stay_small() {
    let long: Vec<_> = all_rust_files()
        .into_iter()
        .filter_map(|path| {
            let text = fs::read_to_string(&path).expect("a source file is text");
            let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
            (lines > MAX_LINES).then(|| format!("{} ({lines})", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "over {MAX_LINES} lines: {long:?}");
}

#[test]
fn the_machine_imports_no_port() {
    for part in ["machine/mod.rs", "machine/next.rs", "machine/waits.rs"] {
        let machine = fs::read_to_string(root().join("crates/txmgr/src").join(part)).expect("the machine is there");
        let imports = machine.lines().filter(|line| line.trim_start().starts_with("use "));
        assert!(imports.clone().count() > 0, "its imports are found");
        let ports: Vec<_> = imports.filter(|line| line.contains("ports")).collect();
        assert!(ports.is_empty(), "{part}: {ports:?}");
    }
}

#[test]
fn nothing_unfinished_is_left_in_the_sources() {
    let marks = ["todo", "unimplemented"].map(|word| format!("{word}!("));
    let ignored = format!("#[{}", "ignore");
    let mut found = Vec::new();
    for path in all_rust_files() {
        let text = fs::read_to_string(&path).expect("a source file is text");
        if marks.iter().chain([&ignored]).any(|mark| text.contains(mark.as_str())) {
            found.push(path);
        }
    }
    assert!(found.is_empty(), "{found:?}");
}

/// Workspace packages that a package depends on, without dev-dependencies.
fn workspace_dependencies(metadata: &Value, package: &str) -> BTreeSet<String> {
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    let package = packages.iter().find(|found| found["name"] == package).expect("the package is in the workspace");
    package["dependencies"]
        .as_array()
        .expect("a package lists dependencies")
        .iter()
        .filter(|dependency| dependency["kind"].is_null() && dependency["path"].is_string())
        .map(|dependency| dependency["name"].as_str().expect("a dependency has a name").to_owned())
        .collect()
}

#[test]
fn dependencies_point_from_adapters_to_the_core() {
    let metadata = metadata(&["--no-deps"]);
    assert!(workspace_dependencies(&metadata, "signpost-txmgr").is_empty(), "the core depends on none of our crates");
    for adapter in ["signpost-aws", "signpost-bsc"] {
        let core = BTreeSet::from(["signpost-txmgr".to_owned()]);
        assert_eq!(workspace_dependencies(&metadata, adapter), core, "{adapter} depends on the core alone");
    }
}

#[test]
fn the_signer_knows_no_node_and_the_broadcaster_no_key() {
    let metadata = metadata(&["--no-deps"]);
    let ours = |package: &str| workspace_dependencies(&metadata, package);
    let named = |names: &[&str]| names.iter().map(|name| format!("signpost-{name}")).collect::<BTreeSet<_>>();
    assert_eq!(ours("signpost-host"), named(&["aws", "txmgr"]));
    assert_eq!(ours("signpost-signer"), named(&["aws", "host", "txmgr"]));
    assert_eq!(ours("signpost-broadcaster"), named(&["aws", "bsc", "host", "txmgr"]));
    for package in ["signpost-host", "signpost-broadcaster"] {
        let features = features_asked_for(&metadata, package, "signpost-aws");
        assert!(features.len() > 1 && !features.contains("kms"), "{package} asks for {features:?}");
    }
}

#[test]
fn a_client_knows_no_key_and_no_node() {
    let metadata = metadata(&["--no-deps"]);
    let known = workspace_dependencies(&metadata, "signpost-client");
    assert_eq!(known, BTreeSet::from(["signpost-aws".to_owned(), "signpost-txmgr".to_owned()]));
    let features = features_asked_for(&metadata, "signpost-client", "signpost-aws");
    assert_eq!(features, BTreeSet::from(["dynamodb".to_owned()]), "the stored shapes alone");
}

/// The features that a package asks for in a dependency.
fn features_asked_for(metadata: &Value, package: &str, dependency: &str) -> BTreeSet<String> {
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    let package = packages.iter().find(|found| found["name"] == package).expect("the package is in the workspace");
    let dependencies = package["dependencies"].as_array().expect("a package lists dependencies");
    let found = dependencies.iter().find(|found| found["name"] == dependency).expect("it has this dependency");
    let features = found["features"].as_array().expect("a dependency lists features");
    features.iter().map(|feature| feature.as_str().expect("a feature has a name").to_owned()).collect()
}

#[test]
fn the_core_links_no_runtime_and_no_network() {
    let metadata = metadata(&["--no-deps"]);
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    let core = packages.iter().find(|package| package["name"] == "signpost-txmgr").expect("the core is there");
    let banned = ["tokio", "reqwest", "hyper", "aws-config", "rand", "chrono", "time"];
    for dependency in core["dependencies"].as_array().expect("a package lists dependencies") {
        let name = dependency["name"].as_str().expect("a dependency has a name");
        assert!(!dependency["kind"].is_null() || !banned.contains(&name), "the core must not depend on {name}");
    }
}

fn stale(is_asked: impl Fn(&str) -> bool) -> Vec<String> {
    let asked: Vec<(String, String)> = made().into_iter().filter(|(path, _)| is_asked(path)).collect();
    assert!(!asked.is_empty(), "files are made from code");
    let is_stale = |(path, text): &(String, String)| {
        let written = fs::read_to_string(root().join(path)).unwrap_or_default();
        written != *text
    };
    asked.into_iter().filter(is_stale).map(|(path, _)| path).collect()
}

const HINT: &str = "run: cargo run -p signpost-tidy";

#[test]
fn schemas_match_the_code() {
    let stale = stale(|path| path.starts_with("schemas/") && path.ends_with(".v1.json"));
    assert!(stale.is_empty(), "{stale:?} are stale; {HINT}");
}

#[test]
fn pages_about_messages_match_the_code() {
    let stale = stale(|path| path.starts_with("schemas/") && !path.ends_with(".v1.json"));
    assert!(stale.is_empty(), "{stale:?} are stale; {HINT}");
}

#[test]
fn metrics_page_matches_the_code() {
    let stale = stale(|path| path == "infra/metrics.md");
    assert!(stale.is_empty(), "{stale:?} is stale; {HINT}");
}

#[test]
fn message_page_has_every_part_from_code() {
    let page = messages::page();
    let parts: Vec<String> = schemas().iter().map(|(name, _)| name.trim_end_matches(".json").to_owned()).collect();
    let others = ["statuses", "refusal codes", "waiting codes"].map(str::to_owned);
    for part in parts.iter().chain(&others) {
        assert!(page.contains(&format!("<!-- from code: {part} -->")), "schemas/README.md lacks {part}");
    }
    for code in Code::ALL {
        assert!(!code.meaning().is_empty() && page.contains(&format!("| `{code}` | {} |", code.meaning())), "{code}");
    }
}

/// Metric names come from the list. A literal name would be measured without being documented.
#[test]
fn every_metric_is_on_the_list() {
    let mut found = Vec::new();
    for path in all_rust_files().into_iter().filter(|path| path.starts_with(root().join("crates"))) {
        let text = fs::read_to_string(&path).expect("a source file is text");
        for kind in ["counter", "gauge", "histogram"] {
            let by_literal = format!("metrics::{kind}!(\"");
            if text.contains(&by_literal) {
                found.push(path.clone());
            }
        }
    }
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn examples_validate_and_parse_alike() {
    let schemas = schemas();
    for (name, schema) in &schemas {
        let validator = jsonschema::validator_for(schema).expect("a schema is a schema");
        let examples = root().join("schemas/examples").join(name.trim_end_matches(".json"));
        let mut count = 0;
        for entry in fs::read_dir(&examples).unwrap_or_else(|_| panic!("{} holds examples", examples.display())) {
            let path = entry.expect("an entry can be read").path();
            let text = fs::read_to_string(&path).expect("an example is text");
            let example: Value = serde_json::from_str(&text).expect("an example is JSON");
            let bad = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("bad-"));
            assert_eq!(validator.is_valid(&example), !bad, "{}", path.display());
            if name.contains("-request.") {
                assert_eq!(Message::parse(&text).is_ok(), !bad, "the parser on {}", path.display());
            }
            count += 1;
        }
        assert!(count > 1, "{name} has examples");
    }
}
