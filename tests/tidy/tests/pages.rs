//! What sources and pages cite is there: promises and invariants by number, pages, and the files that
//! `crates/README.md` names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use signpost_tidy::{metadata, root};

/// The page with the promises and invariants.
const ARCHITECTURE: &str = "crates/README.md";

/// Kinds of files that cite.
const KINDS: [&str; 9] = ["rs", "py", "mjs", "ts", "md", "toml", "yaml", "yml", "txt"];

/// Not ours, or made by a build.
const PASSED_OVER: [&str; 6] = [".git", "target", "node_modules", "__pycache__", ".pytest_cache", ".mypy_cache"];

/// Tests of pages have the words that they look for, and pages that they make up.
const OF_PAGES: [&str; 2] = ["tests/tidy/tests/pages.rs", "tests/infra/test_pages.py"];

/// How a comment cites a page that only its writer had.
const CITATIONS: [&str; 9] = [
    "the design ",
    "the design'",
    "the design.",
    "(design",
    "design, section",
    "design page",
    "(style,",
    "style guide",
    "house style",
];

/// Every text that cites, by its path from the root.
fn texts() -> Vec<(String, String)> {
    let mut open = vec![root()];
    let mut found = Vec::new();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).expect("the repository can be read") {
            let path = entry.expect("an entry can be read").path();
            if PASSED_OVER.iter().any(|name| path.ends_with(name)) {
                continue;
            }
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
            let script = path.ends_with("run");
            if let (true, Ok(text)) = (script || KINDS.contains(&kind), fs::read_to_string(&path)) {
                let name = path.strip_prefix(root()).expect("it is below the root").to_string_lossy().into_owned();
                found.push((name, text));
            }
        }
    }
    assert!(found.len() > 200, "the files are found");
    found
}

/// Words of letters, digits and underscores.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|one: char| !one.is_ascii_alphanumeric() && one != '_')
}

/// Whether a word is the number of a promise or an invariant: `G` or `I` and one or two digits.
fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix(['G', 'I']).unwrap_or_default();
    (1..=2).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
}

/// The rows of the tables: those with an anchor of their own.
fn rows(page: &str) -> BTreeSet<String> {
    let anchored = |line: &str| {
        let (anchor, rest) = line.strip_prefix("| <a id=\"")?.split_once("\"></a>")?;
        let number = rest.split_once(" |")?.0;
        assert_eq!(anchor, number.to_lowercase(), "an anchor is the number in small letters");
        Some(number.to_owned())
    };
    page.lines().filter_map(anchored).collect()
}

fn architecture() -> String {
    fs::read_to_string(root().join(ARCHITECTURE)).expect("the page about the architecture is there")
}

#[test]
fn every_promise_and_invariant_cited_is_in_the_table() {
    let known = rows(&architecture());
    let numbered = |kind: char| {
        let all: Vec<&String> = known.iter().filter(|number| number.starts_with(kind)).collect();
        (1..=all.len()).all(|number| known.contains(&format!("{kind}{number}"))) && !all.is_empty()
    };
    assert!(numbered('G') && numbered('I'), "they are numbered without a gap: {known:?}");
    let mut cited = BTreeSet::new();
    let mut unknown = BTreeSet::new();
    for (path, text) in texts() {
        for word in words(&text).filter(|word| is_number(word)) {
            let _ = if known.contains(word) {
                cited.insert(word.to_owned())
            } else {
                unknown.insert(format!("{word} in {path}"))
            };
        }
    }
    assert!(unknown.is_empty(), "not in {ARCHITECTURE}: {unknown:?}");
    assert!(cited.len() > 15, "citations are found: {cited:?}");
}

#[test]
fn numbers_are_told_from_other_words() {
    for number in ["I1", "I18", "G8"] {
        assert!(is_number(number), "{number}");
    }
    for other in ["I", "G", "II1", "I1a", "I123", "i1", "1", "H1", "GI", ""] {
        assert!(!is_number(other), "{other}");
    }
    assert_eq!(words("(I1–I16)").filter(|word| is_number(word)).count(), 2);
    assert_eq!(rows("| <a id=\"g1\"></a>G1 | x |\n| I1 | y |\n"), BTreeSet::from(["G1".to_owned()]));
}

/// The places where a text cites by one of the phrases, in lower case and over line ends.
fn citations(text: &str) -> Vec<&'static str> {
    let marks = ["///", "//!", "//", "#"];
    let line = |line: &str| {
        let line = line.trim();
        marks.iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line).trim().to_lowercase()
    };
    let joined = text.lines().map(line).collect::<Vec<_>>().join(" ");
    CITATIONS.into_iter().filter(|phrase| joined.contains(phrase)).collect()
}

#[test]
fn no_source_cites_a_page_that_nobody_has() {
    let mut found = Vec::new();
    for (path, text) in texts().into_iter().filter(|(path, _)| !OF_PAGES.contains(&path.as_str())) {
        found.extend(citations(&text).into_iter().map(|phrase| format!("{phrase:?} in {path}")));
    }
    assert!(found.is_empty(), "cite {ARCHITECTURE}, or give the reason: {found:?}");
}

#[test]
fn a_citation_is_found_over_line_ends() {
    assert_eq!(citations("/// Once a minute, as the\n    /// design has it."), ["the design "]);
    assert_eq!(citations("# Time is an argument (txmgr, design page \"Crates\")."), ["design page"]);
    assert!(citations("let designed = style;").is_empty());
}

/// Whether a path names a page.
fn is_of_page(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "md")
}

/// Names of pages in a text: words that end in `.md`, with their directories.
fn pages_named(text: &str) -> BTreeSet<String> {
    let part = |one: char| one.is_ascii_alphanumeric() || "_-./".contains(one);
    let named = text.split(|one: char| !part(one)).map(|word| word.trim_end_matches('.'));
    named.filter(|word| is_of_page(word)).map(str::to_owned).collect()
}

/// Whether a page is in the repository: from its root, from the file that names it, or below some directory.
fn is_page(name: &str, from: &str, all: &BTreeSet<String>) -> bool {
    let beside = root().join(from).parent().map(|directory| directory.join(name));
    root().join(name).is_file()
        || beside.is_some_and(|path| path.is_file())
        || all.iter().any(|page| Path::new(page).ends_with(name.trim_start_matches(['.', '/'])))
}

#[test]
fn every_page_that_a_source_names_is_there() {
    let texts = texts();
    let all: BTreeSet<String> = texts.iter().map(|(path, _)| path.clone()).filter(|path| is_of_page(path)).collect();
    let mut missing = Vec::new();
    for (path, text) in texts.iter().filter(|(path, _)| !OF_PAGES.contains(&path.as_str()) && !is_of_page(path)) {
        let absent = pages_named(text).into_iter().filter(|name| !is_page(name, path, &all));
        missing.extend(absent.map(|name| format!("{name} in {path}")));
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn names_of_pages_are_read_from_texts() {
    let named = pages_named("see `infra/README.md`, metrics.md. And [x](../a-b/C_d.md#e); not .md or cmd");
    assert_eq!(named, ["../a-b/C_d.md", "infra/README.md", "metrics.md"].map(str::to_owned).into());
}

/// What a page links to within the repository, without anchors.
fn links(page: &str) -> Vec<String> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let targets = targets.map(|target| target.split('#').next().unwrap_or_default());
    targets.filter(|target| !target.is_empty() && !target.contains("://")).map(str::to_owned).collect()
}

#[test]
fn every_file_that_the_architecture_names_is_there() {
    let page = architecture();
    let links = links(&page);
    assert!(links.len() > 40, "its links are found");
    let gone: Vec<_> = links.into_iter().filter(|link| !root().join("crates").join(link).exists()).collect();
    assert!(gone.is_empty(), "{gone:?}");
}

#[test]
fn the_crate_map_has_every_crate() {
    let page = architecture();
    let map =
        page.split("## Crate map").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("it has a crate map");
    let metadata = metadata(&["--no-deps"]);
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    assert!(packages.len() > 10, "the crates are found");
    let here = fs::canonicalize(root()).expect("the root is there");
    for package in packages {
        let manifest = package["manifest_path"].as_str().map(PathBuf::from).expect("a package has a manifest");
        let directory = manifest.parent().and_then(|path| path.strip_prefix(&here).ok()).expect("it is below the root");
        let link = match directory.strip_prefix("crates") {
            Ok(name) => name.display().to_string(),
            Err(_) => format!("../{}", directory.display()),
        };
        assert!(map.contains(&format!("]({link}) |")), "the crate map lacks {}", directory.display());
    }
}

#[test]
fn ten_typical_changes_name_their_files_and_tests() {
    let page = architecture();
    let table = page.split("## Where to change what").nth(1).expect("it says where to change what");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| to change"))
        .map(|line| line.trim_matches('|').split(" | ").collect())
        .collect();
    assert!(rows.len() >= 10, "{} changes", rows.len());
    for row in rows {
        let [what, edit, judged] = row.as_slice() else { panic!("three columns: {row:?}") };
        assert!(!links(edit).is_empty() && !links(judged).is_empty(), "{what}: files and tests");
    }
}
