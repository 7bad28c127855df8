//! What a function cannot do because it does not link the code: the signer has no client for nodes, the broadcaster
//! none for KMS. The answers come from cargo; `tests/e2e/test_packages.py` checks the built programs.
//!
//! Third-party dependencies count with all their features, our packages only with the features asked for. What is not
//! found here is not linked when a package is built by itself, as `infra/package.py` does.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use signpost_tidy::metadata;

/// The packages of a build and their dependencies.
struct Graph {
    /// By package id: the package's entry in `cargo metadata`, and its resolved dependencies.
    packages: BTreeMap<String, (Value, Value)>,
}

impl Graph {
    fn read() -> Self {
        let metadata = metadata(&["--locked"]);
        let by_id = |list: &Value| -> BTreeMap<String, Value> {
            list.as_array()
                .expect("a list")
                .iter()
                .map(|entry| (text(&entry["id"]).to_owned(), entry.clone()))
                .collect()
        };
        let mut nodes = by_id(&metadata["resolve"]["nodes"]);
        let packages = by_id(&metadata["packages"]).into_iter().map(|(id, package)| {
            let node = nodes.remove(&id).expect("a package is resolved");
            (id, (package, node))
        });
        Self { packages: packages.collect() }
    }

    /// The names of all packages that one of our packages links.
    fn linked(&self, name: &str) -> BTreeSet<String> {
        let start = self.packages.iter().find(|(_, (package, _))| package["name"] == name).expect("it is ours").0;
        let mut features = BTreeMap::from([(start.clone(), BTreeSet::from(["default".to_owned()]))]);
        let mut open = vec![start.clone()];
        while let Some(id) = open.pop() {
            let asked = features.get(&id).cloned().unwrap_or_default();
            for (dependency, wanted) in self.dependencies(&id, &asked) {
                let known = features.contains_key(&dependency);
                let all = features.entry(dependency.clone()).or_default();
                let before = all.len();
                all.extend(wanted);
                if !known || all.len() > before {
                    open.push(dependency);
                }
            }
        }
        features.keys().filter_map(|id| Some(text(&self.packages.get(id)?.0["name"]).to_owned())).collect()
    }

    /// What a package links directly when these of its features are on, with the features it asks for.
    fn dependencies(&self, id: &str, features: &BTreeSet<String>) -> Vec<(String, BTreeSet<String>)> {
        let (package, node) = self.packages.get(id).expect("a dependency is a package");
        let is_ours = package["source"].is_null();
        let enabled = enabled(&package["features"], features);
        let mut found = Vec::new();
        for resolved in list(&node["deps"]) {
            let links = list(&resolved["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            let target = text(&resolved["pkg"]);
            let name = self.packages.get(target).map(|(package, _)| text(&package["name"])).expect("it is a package");
            let declared = list(&package["dependencies"]).iter();
            let declared = declared.filter(|declared| declared["name"] == name && declared["kind"].is_null());
            let declared: Vec<_> =
                declared.filter(|d| !is_ours || d["optional"] == false || enabled.contains(name)).collect();
            if !links || declared.is_empty() {
                continue;
            }
            let mut wanted: BTreeSet<_> =
                declared.iter().flat_map(|declared| list(&declared["features"])).map(|f| text(f).to_owned()).collect();
            wanted.extend(declared.iter().any(|d| d["uses_default_features"] == true).then(|| "default".to_owned()));
            found.push((target.to_owned(), wanted));
        }
        found
    }
}

/// The optional dependencies that these features switch on.
fn enabled(declared: &Value, features: &BTreeSet<String>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<_> = features.iter().cloned().collect();
    let mut on = BTreeSet::new();
    while let Some(feature) = open.pop() {
        if let Some(dependency) = feature.strip_prefix("dep:") {
            on.insert(dependency.to_owned());
        } else if seen.insert(feature.clone()) {
            open.extend(declared[&feature].as_array().into_iter().flatten().map(|next| text(next).to_owned()));
        }
    }
    on
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// Each function, what it must link, and what it must not.
const FUNCTIONS: [(&str, &[&str], &[&str]); 2] = [
    ("signpost-signer", &["aws-sdk-kms", "aws-sdk-dynamodb", "hmac"], &["signpost-bsc", "reqwest"]),
    ("signpost-broadcaster", &["signpost-bsc", "reqwest", "aws-sdk-secretsmanager"], &["aws-sdk-kms"]),
];

#[test]
fn signer_links_no_node_client_and_broadcaster_no_kms() {
    let graph = Graph::read();
    for (function, needed, banned) in FUNCTIONS {
        let linked = graph.linked(function);
        for name in needed {
            assert!(linked.contains(*name), "{function} is found to link {name}");
        }
        for name in banned {
            assert!(!linked.contains(*name), "{function} must not link {name}");
        }
    }
}

#[test]
fn tls_uses_ring_alone() {
    let graph = Graph::read();
    for (function, _, _) in FUNCTIONS {
        let linked = graph.linked(function);
        assert!(linked.contains("ring"), "{function} links ring");
        for other in ["aws-lc-rs", "aws-lc-sys", "openssl-sys", "native-tls"] {
            assert!(!linked.contains(other), "{function} links {other}");
        }
    }
}

#[test]
fn linking_follows_the_features_a_package_asks_for() {
    let graph = Graph::read();
    // The command line contains both stages; the hosts' shared code contains neither.
    let all = graph.linked("signpost");
    assert!(all.contains("aws-sdk-kms") && all.contains("reqwest"), "the command line links both");
    let shared = graph.linked("signpost-host");
    assert!(!shared.contains("aws-sdk-kms") && !shared.contains("reqwest"), "the hosts' shared code links neither");
    assert!(!shared.contains("lambda_runtime"), "a feature that was not asked for is off");
}
