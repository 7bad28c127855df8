//! The modules inside a crate import in one direction.
//!
//! ## The rule
//! * A file is a module; `foo/mod.rs` is `foo`. Tests (`#[cfg(test)]`, `tests.rs`, `tests/`) and programs (`main.rs`,
//!   `bin/`) do not count.
//! * An arrow goes from the module that names a path (`crate::…`, `self::…`, `super::…`, in a `use` or in code) to the
//!   module that the path leads to. Where the path leads to a name that a parent imports or re-exports from one of its
//!   children, the arrow goes to that child.
//! * Arrows count between siblings: a module stands with everything below it. A parent and its children are one to
//!   everyone outside, so an arrow between a module and its own parent, in either direction, does not count.
//! * **No circles:** among siblings no module leads back to itself.
//! * **No arrow upward:** [`LAYERS`] lists the modules at each crate's root from the bottom up; a module imports only
//!   what is listed before it. A new module gets a place in the list.
//!
//! What this does not see: paths that a macro makes, and what a glob import brings.

#![allow(clippy::arithmetic_side_effects, reason = "places in texts that fit into memory")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use signpost_tidy::root;

/// The modules at the root of each crate, from the bottom up.
const LAYERS: &[(&str, &str)] = &[
    (
        "txmgr",
        "units tx signature unusable text fees header meters spelling encoding request record account \
         policy pins seal revert machine trace wire poke ports inbox publish registration start signer \
         broadcaster evidence fake",
    ),
    ("aws", "clients item fault repeat store kms secrets batch sqs receiver inbox sns"),
    (
        "bsc",
        "classify limit refusals batch_size methods quantity answer reply rpc private endpoint endpoints \
         batch price send finality receipt parents evidence view corroborate search chain payment_lane forks said \
         fuzzing",
    ),
    ("client", "outcome body follow request send"),
    ("gate", "stats chance change script http control bsc aws"),
    ("host", "aws config session ports consumer start clock observe lambda"),
    ("signer", "handlers direct guard function"),
    ("broadcaster", "chain lanes function"),
    ("cli", "ports worker terminal stack find figures amount payment_lane random error when set_aside console command"),
];

/// A module by its names from the crate's root, which is the empty path.
type Module = Vec<String>;

/// Folders whose members are crates.
const FOLDERS: [&str; 2] = ["crates", "tests"];

/// The modules of one crate, with the paths that each names.
struct Sources {
    name: String,
    modules: BTreeMap<Module, Source>,
}

/// One file.
#[derive(Default)]
struct Source {
    /// Paths of the crate, as names from its root.
    paths: BTreeSet<Module>,
    /// What this module imports, by the name it has here.
    imports: BTreeMap<String, Module>,
}

/// Arrows among siblings: by parent, from one child to others, each with a place where it is.
type Arrows = BTreeMap<Module, BTreeMap<String, BTreeMap<String, String>>>;

impl Sources {
    fn read(folder: &Path) -> Self {
        let source = folder.join("src");
        let mut files = Vec::new();
        rust_files(&source, &mut files);
        let paths: Vec<(Module, PathBuf)> =
            files.into_iter().filter_map(|file| Some((module_of(file.strip_prefix(&source).ok()?)?, file))).collect();
        let known: BTreeSet<Module> = paths.iter().map(|(module, _)| module.clone()).collect();
        let read = |(module, file): (Module, PathBuf)| {
            let text = fs::read_to_string(&file).expect("a source file is text");
            let source = Source::read(&module, &text, &known);
            (module, source)
        };
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self { name, modules: paths.into_iter().map(read).collect() }
    }

    /// The module that a path leads to.
    fn target(&self, path: &[String]) -> Module {
        let mut path = path.to_vec();
        // Each step goes to a child; no chain of re-exports is as long as this.
        for _ in 0..8 {
            let deepest = (0..=path.len()).rev().find(|length| self.modules.contains_key(&path[..*length]));
            let module = &path[..deepest.unwrap_or(0)];
            let name = path.get(module.len());
            let imported = name.and_then(|name| self.modules.get(module)?.imports.get(name));
            match imported {
                Some(onward) if onward.starts_with(module) && onward.len() > module.len() => path = onward.clone(),
                Some(_) | None => return module.to_vec(),
            }
        }
        panic!("{path:?} is re-exported in a circle");
    }

    fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (from, source) in &self.modules {
            for path in &source.paths {
                let to = self.target(path);
                let shared = from.iter().zip(&to).take_while(|(left, right)| left == right).count();
                if let (Some(child), Some(next)) = (from.get(shared), to.get(shared)) {
                    let siblings = arrows.entry(to[..shared].to_vec()).or_default();
                    let place = format!("{} names {}", from.join("::"), path.join("::"));
                    siblings.entry(child.clone()).or_default().insert(next.clone(), place);
                }
            }
        }
        arrows
    }

    /// Groups of siblings that lead to each other, and arrows at the root that go up in these layers.
    fn faults(&self, layers: &[&str]) -> (Vec<String>, Vec<String>) {
        let (mut circles, mut upward) = (Vec::new(), Vec::new());
        for (parent, arrows) in self.arrows() {
            let place = format!("{}::{}", self.name, parent.join("::"));
            for group in groups_in_a_circle(&arrows) {
                let inside = |name: &String| group.contains(name);
                let arrows = arrows.iter().filter(|(from, _)| inside(from)).flat_map(|(_, targets)| targets);
                let places: Vec<&str> = arrows.filter(|(to, _)| inside(to)).map(|(_, place)| place.as_str()).collect();
                circles.push(format!("{place}: {} import each other: {}", group.join(", "), places.join("; ")));
            }
            if !parent.is_empty() {
                continue;
            }
            let at = |name: &String| layers.iter().position(|listed| listed == name);
            for (from, targets) in &arrows {
                for (to, place) in targets {
                    if at(from).zip(at(to)).is_some_and(|(from, to)| from < to) {
                        upward.push(format!("{}: {from} imports {to}, which is above it: {place}", self.name));
                    }
                }
            }
        }
        (circles, upward)
    }
}

impl Source {
    fn read(module: &[String], text: &str, known: &BTreeSet<Module>) -> Self {
        let mut source = Self::default();
        let code = without_tests(&without_comments(text));
        let tokens = tokens(&code);
        let mut at = 0;
        let mut is_use = false;
        while at < tokens.len() {
            let token = tokens[at];
            is_use = token == "use" || is_use && token != ";";
            let starts_path = at == 0 || tokens[at - 1] != "::";
            let is_child = is_use && at > 0 && tokens[at - 1] == "use" && known.contains(&child(module, token));
            if starts_path && (is_child || is_rooted(&tokens, at)) {
                let base = if is_child { module.to_vec() } else { Vec::new() };
                let mut found = Vec::new();
                at = read_paths(&tokens, at, &base, &mut found);
                for (path, name) in found {
                    let path = absolute(module, &path);
                    if is_use {
                        source.imports.insert(name, path.clone());
                    }
                    source.paths.insert(path);
                }
            } else {
                at += 1;
            }
        }
        source
    }
}

/// A path begins here: with the crate, this module or the one above.
fn is_rooted(tokens: &[&str], at: usize) -> bool {
    matches!(tokens[at], "crate" | "self" | "super") && tokens.get(at + 1) == Some(&"::")
}

fn child(module: &[String], name: &str) -> Module {
    [module, &[name.to_owned()]].concat()
}

/// Reads a path or a tree of them from `at`; the place behind it. Each with the name it is imported by.
fn read_paths(tokens: &[&str], mut at: usize, base: &[String], found: &mut Vec<(Module, String)>) -> usize {
    let mut path = base.to_vec();
    loop {
        match tokens.get(at).copied() {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| *token != "}") {
                    at = read_paths(tokens, at, &path, found);
                    if tokens.get(at) == Some(&",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            Some(name) if is_name(name) => {
                if name != "self" || path.is_empty() {
                    path.push(name.to_owned());
                }
                at += 1;
            }
            // A glob, or what is no path after all.
            Some(_) | None => {
                found.push((path, "*".to_owned()));
                return at + 1;
            }
        }
        if tokens.get(at) == Some(&"::") {
            at += 1;
            continue;
        }
        let mut name = path.last().cloned().unwrap_or_default();
        if tokens.get(at) == Some(&"as") {
            tokens.get(at + 1).copied().unwrap_or_default().clone_into(&mut name);
            at += 2;
        }
        found.push((path, name));
        return at;
    }
}

fn is_name(token: &str) -> bool {
    token.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// A path as names from the crate's root.
fn absolute(module: &[String], path: &[String]) -> Module {
    let mut names = match path.first().map(String::as_str) {
        Some("crate") => Vec::new(),
        Some("self" | "super") => module.to_vec(),
        Some(_) | None => return path.to_vec(),
    };
    for name in path {
        match name.as_str() {
            "crate" | "self" => {}
            "super" => drop(names.pop()),
            name => names.push(name.to_owned()),
        }
    }
    names
}

/// Siblings that lead back to themselves, each group once.
fn groups_in_a_circle(arrows: &BTreeMap<String, BTreeMap<String, String>>) -> BTreeSet<Vec<String>> {
    let reached = |from: &String| {
        let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(next) = open.pop() {
            for to in arrows.get(next).into_iter().flat_map(BTreeMap::keys) {
                if reached.insert(to.clone()) {
                    open.push(to);
                }
            }
        }
        reached
    };
    let all: BTreeMap<&String, BTreeSet<String>> = arrows.keys().map(|from| (from, reached(from))).collect();
    let in_circle = all.iter().filter(|(from, reached)| reached.contains(**from));
    in_circle
        .map(|(from, reached)| {
            reached.iter().filter(|to| all.get(to).is_some_and(|back| back.contains(*from))).cloned().collect()
        })
        .collect()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The module of a file below `src`; `None` for tests and programs.
fn module_of(file: &Path) -> Option<Module> {
    let mut module: Module =
        file.with_extension("").components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    if module.iter().any(|name| name == "tests") || module.first().is_some_and(|name| name == "bin" || name == "main") {
        return None;
    }
    module.pop_if(|name| *name == "mod" || *name == "lib");
    Some(module)
}

/// The text with comments and the contents of literals taken out.
fn without_comments(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' && is_char(rest) {
            quoted(rest, '\'')
        } else {
            out.push(first);
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    out
}

/// The length of a raw string that begins here.
fn raw_string(text: &str) -> Option<usize> {
    let marks = text.strip_prefix('r')?;
    let count = marks.len() - marks.trim_start_matches('#').len();
    let body = marks[count..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(count));
    Some(2 + count + body.find(&end).map_or(body.len(), |at| at + end.len()))
}

/// A character, and not a lifetime.
fn is_char(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    }
}

/// The length of a literal between two marks.
fn quoted(text: &str, mark: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == mark => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// The code without the items under `#[cfg(test)]`. Comments and literals are out already.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let (mut out, mut rest) = (String::new(), code);
    while let Some((before, item)) = rest.split_once(MARK) {
        out.push_str(before);
        let mut depth = 0_usize;
        let end = item.char_indices().find_map(|(at, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            (depth == 0 && (c == ';' || c == '}')).then_some(at + 1)
        });
        rest = &item[end.unwrap_or(item.len())..];
    }
    out.push_str(rest);
    out
}

/// Names, `::`, and each other character alone.
fn tokens(code: &str) -> Vec<&str> {
    let (mut tokens, mut rest) = (Vec::new(), code);
    while let Some(first) = rest.chars().next() {
        let name = rest.len() - rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
        let length = if name > 0 {
            name
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            tokens.push(&rest[..length]);
        }
        rest = &rest[length..];
    }
    tokens
}

/// The modules of a crate from the bottom up; none of a crate without layers.
fn layers_of(name: &str) -> Vec<&'static str> {
    LAYERS.iter().find(|(listed, _)| *listed == name).map_or(Vec::new(), |(_, layers)| layers.split(' ').collect())
}

fn crates() -> Vec<Sources> {
    let mut crates = Vec::new();
    for folder in FOLDERS {
        let mut members: Vec<_> = fs::read_dir(root().join(folder))
            .expect("the repository can be read")
            .map(|entry| entry.expect("an entry can be read").path())
            .filter(|path| path.join("src/lib.rs").exists())
            .collect();
        members.sort();
        crates.extend(members.iter().map(|path| Sources::read(path)));
    }
    assert!(crates.len() > 8, "the crates are found");
    crates
}

#[test]
fn sibling_modules_import_in_one_direction() {
    let (mut circles, mut upward, mut arrows) = (Vec::new(), Vec::new(), 0);
    for sources in crates() {
        arrows += sources.arrows().values().flat_map(BTreeMap::values).map(BTreeMap::len).sum::<usize>();
        let (circle, up) = sources.faults(&layers_of(&sources.name));
        circles.extend(circle);
        upward.extend(up);
    }
    assert!(arrows > 300, "the imports are found: {arrows}");
    assert!(circles.is_empty(), "{} circles:\n{}", circles.len(), circles.join("\n"));
    assert!(upward.is_empty(), "{} arrows upward:\n{}", upward.len(), upward.join("\n"));
}

#[test]
fn every_module_has_its_layer() {
    for sources in crates().iter().filter(|sources| root().join("crates").join(&sources.name).exists()) {
        let modules: BTreeSet<&str> =
            sources.modules.keys().filter_map(|module| Some(module.first()?.as_str())).collect();
        let listed: BTreeSet<&str> = layers_of(&sources.name).into_iter().collect();
        assert_eq!(listed, modules, "LAYERS lists the modules of {}", sources.name);
    }
}

#[test]
fn paths_are_read_with_groups_re_exports_and_without_tests() {
    let known =
        BTreeSet::from([Vec::new(), vec!["a".to_owned()], vec!["b".to_owned()], vec!["b".to_owned(), "c".to_owned()]]);
    let text = r#"
        use crate::{a::{One, Two as Deux}, b::c};
        use super::b;
        pub use c::Inner; // use crate::no::Comment
        const TEXT: &str = "use crate::no::String";
        fn f<'x>(it: &'x str) -> char { crate::a::call(it); super::b::other(); '"' }
        #[cfg(test)]
        mod tests { use crate::no::Test; }
    "#;
    let source = Source::read(&["b".to_owned()], text, &known);
    let paths: Vec<String> = source.paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(paths, ["a::One", "a::Two", "a::call", "b", "b::c", "b::c::Inner", "b::other"]);
    assert_eq!(source.imports["Deux"].join("::"), "a::Two");
}

#[test]
fn a_circle_is_found_through_a_re_export() {
    let names = |path: &str| path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect::<Module>();
    let files =
        [("", ""), ("a", "use crate::b::Thing;"), ("b", "pub use self::c::Thing;\nuse crate::a;"), ("b::c", "")];
    let sources = |files: &[(&str, &str)]| {
        let known: BTreeSet<Module> = files.iter().map(|(module, _)| names(module)).collect();
        let read = |(module, text): &(&str, &str)| (names(module), Source::read(&names(module), text, &known));
        Sources { name: "x".to_owned(), modules: files.iter().map(read).collect() }
    };
    let of_two = "x::: a, b import each other: a names b::Thing; b names a";
    assert_eq!(sources(&files).faults(&[]).0, [of_two]);
    let inside = [("", ""), ("b", "pub use self::d::Thing;"), ("b::c", "use super::Thing;"), ("b::d", "use super::c;")];
    let of_children = "x::b: c, d import each other: b::c names b::Thing; b::d names b::c";
    assert_eq!(sources(&inside).faults(&[]).0, [of_children]);
    let fine = [("", ""), ("a", "use super::b;"), ("b", "use self::c::x;"), ("b::c", "")];
    assert_eq!(sources(&fine).faults(&["b", "a"]), (Vec::new(), Vec::new()));
    assert_eq!(sources(&fine).faults(&["a", "b"]).1, ["x: a imports b, which is above it: a names b"]);
}
