//! Supply chain and contents: packages are pinned by digest, workflow steps by commit, and dependencies build with the
//! oldest supported compiler. No file names a registry or a path of a build machine, and the repository's root holds
//! only known entries.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use signpost_tidy::{metadata, root};

/// Generated files and directories, which are never committed.
const MADE: [&str; 6] = [".git", "target", "node_modules", "__pycache__", ".pytest_cache", ".mypy_cache"];

/// Every text file of the repository, with its path from the root.
fn texts() -> Vec<(PathBuf, String)> {
    let mut open = vec![root()];
    let mut found = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).expect("the repository can be read") {
            let path = entry.expect("an entry can be read").path();
            if MADE.iter().any(|made| path.ends_with(made)) {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.push((path.strip_prefix(root()).expect("it is below the root").to_path_buf(), text));
            }
        }
    }
    assert!(found.len() > 200, "the files are found");
    found
}

fn named(texts: &[(PathBuf, String)], is_one: impl Fn(&str) -> bool) -> Vec<&(PathBuf, String)> {
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).is_some_and(&is_one);
    texts.iter().filter(|(path, _)| name(path)).collect()
}

#[test]
fn repository_root_holds_only_known_entries() {
    let files = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "README.md", "LICENSE"];
    let wanted = BTreeSet::from(files).into_iter().chain(["crates", "infra", "schemas", "tests", "target"]);
    let wanted: BTreeSet<String> = wanted.map(str::to_owned).collect();
    let here = fs::read_dir(root()).expect("the root can be read");
    let here = here.map(|entry| entry.expect("an entry can be read").file_name().to_string_lossy().into_owned());
    let others: Vec<_> = here.filter(|name| !name.starts_with('.') && !wanted.contains(name)).collect();
    assert!(others.is_empty(), "{others:?}");
}

/// The registry is a setting of the machine, and home directories are private.
#[test]
fn no_file_names_a_registry_or_a_local_path() {
    // Split in two, or this file would contain them.
    let hosts = [
        ("crates", ".io"),
        ("pypi", ".org"),
        ("pythonhosted", ".org"),
        ("npmjs", ".org"),
        ("npmjs", ".com"),
        ("yarnpkg", ".com"),
        ("proxy.golang", ".org"),
        ("sum.golang", ".org"),
        ("ghcr", ".io"),
        ("docker", ".io"),
        ("quay", ".io"),
        ("repo.maven", "."),
        ("arti", "factory"),
        ("deb.debian", ".org"),
    ];
    let places = [
        ("/ro", "ot/"),
        ("/ho", "me/"),
        ("/Us", "ers/"),
        ("C:\\", "Users"),
        ("/wo", "rk/"),
        (".rust", "up/"),
        ("registry", "/src/"),
    ];
    let words: Vec<String> = hosts.iter().chain(&places).map(|(one, other)| format!("{one}{other}")).collect();
    let mut found = Vec::new();
    for (path, text) in texts() {
        // Cargo's own name for its default registry, whichever host answers for it.
        let text = if path.file_name().is_some_and(|name| name == "Cargo.lock") {
            text.replace(&format!("registry+https://github.com/rust-lang/{}.io-index", "crates"), "")
        } else {
            text
        };
        found
            .extend(words.iter().filter(|word| text.contains(*word)).map(|word| format!("{}: {word}", path.display())));
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_python_package_is_pinned_by_digest() {
    let texts = texts();
    let lists = named(&texts, |name| name == "requirements.txt" || name == "cross-tools.txt" || name == "checkov.txt");
    let all = "the lists of the local stack, the tests, their checkov, `.ci/run`, and cross builds";
    assert_eq!(lists.len(), 5, "{all}");
    for (path, list) in lists {
        // Backslashes join the lines of one package.
        let joined = list.replace("\\\n", " ");
        let packages: Vec<&str> = joined.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(!packages.is_empty(), "{}", path.display());
        for package in packages {
            let is_pinned = package.contains("==") && package.contains("--hash=sha256:");
            assert!(is_pinned, "{}: {package}", path.display());
        }
    }
    // A package installed without a list would not be pinned: every pip call requires digests.
    let (install, asks) = (format!("{:?}, {:?}", "pip", "install"), format!("{:?}", "--require-hashes"));
    let installs: Vec<_> = texts.iter().filter(|(_, text)| text.contains(&install)).collect();
    assert!(installs.len() >= 3, "they are found");
    for (path, text) in installs {
        assert_eq!(text.matches(&install).count(), text.matches(&asks).count(), "{}", path.display());
    }
}

#[test]
fn every_node_package_is_pinned_by_digest() {
    let texts = texts();
    let locks = named(&texts, |name| name == "package-lock.json");
    assert!(locks.len() >= 2, "they are found");
    for (path, lock) in locks {
        let lock: Value = serde_json::from_str(lock).expect("a lock is JSON");
        let packages = lock["packages"].as_object().expect("a lock lists packages");
        assert!(packages.len() > 2, "{}", path.display());
        for (name, entry) in packages.iter().filter(|(name, _)| !name.is_empty()) {
            assert!(
                entry["integrity"].as_str().is_some_and(|is| is.starts_with("sha512-")),
                "{}: {name}",
                path.display()
            );
        }
    }
    // The scripts of packages do not run.
    let install = format!("args([{:?}, ", "ci");
    let safe = format!("{install}{:?}", "--ignore-scripts");
    let installs: Vec<_> = texts.iter().filter(|(_, text)| text.contains(&install)).collect();
    assert!(installs.len() >= 2, "they are found");
    for (path, text) in installs {
        assert_eq!(text.matches(&install).count(), text.matches(&safe).count(), "{}", path.display());
    }
}

#[test]
fn every_foreign_workflow_step_is_pinned_by_commit() {
    let texts = texts();
    let uses = texts.iter().filter(|(path, _)| path.starts_with(".github/workflows"));
    let uses: Vec<&str> = uses.flat_map(|(_, text)| text.lines()).filter(|line| line.contains("uses:")).collect();
    assert!(uses.len() > 2, "they are found");
    for line in uses {
        let (_, commit) = line.split_once('@').unwrap_or_else(|| panic!("{line}"));
        let (commit, version) = commit.split_once(" # v").unwrap_or_else(|| panic!("{line}"));
        let is_commit = commit.len() == 40 && commit.chars().all(|one| one.is_ascii_hexdigit());
        assert!(is_commit && version.contains('.'), "{line}");
    }
}

/// A version as numbers: 1.9 is older than 1.10.
fn release(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().unwrap_or_else(|_| panic!("{version} is a release"))).collect()
}

/// Clippy checks our own code (`incompatible_msrv`); dependencies declare their compiler in their manifests.
#[test]
fn every_dependency_builds_with_the_oldest_compiler() {
    let metadata = metadata(&["--locked"]);
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    let core = packages.iter().find(|package| package["name"] == "signpost-txmgr").expect("the core is there");
    let oldest = core["rust_version"].as_str().expect("the workspace declares its oldest compiler");
    let asks =
        packages.iter().filter_map(|package| Some((package["name"].as_str()?, package["rust_version"].as_str()?)));
    let asks: Vec<_> = asks.collect();
    assert!(asks.len() > 200, "most packages declare it");
    let newer: Vec<_> = asks.into_iter().filter(|(_, asked)| release(asked) > release(oldest)).collect();
    assert!(newer.is_empty(), "newer than {oldest}: {newer:?}");
}
