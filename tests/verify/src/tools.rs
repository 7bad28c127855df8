//! What only the tests need, and `signpost` does not: npm packages (a browser's driver, TypeScript and
//! the AWS SDK for it), pinned in `tests/e2e/node/package-lock.json`; Python packages that make types of schemas and
//! check them, pinned in `tests/e2e/python/requirements.txt`, both by digest; Chromium and Prometheus from the system.
//!
//! Installs them or fails: a test that needs a thing gets it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::remark;

const PACKAGES: &str = include_str!("../../e2e/node/package.json");
/// Their versions and digests with all that comes along. Made by `npm install --package-lock-only
/// --omit-lockfile-registry-resolved`: which registry gives them is the machine's own matter.
const LOCK: &str = include_str!("../../e2e/node/package-lock.json");
const REQUIREMENTS: &str = include_str!("../../e2e/python/requirements.txt");
/// From the system: what it is for, its names, and Debian's packages of it.
const CHROMIUM: System = System {
    wanted_by: "the console's tests need Chromium",
    names: &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"],
    packages: &["chromium", "fonts-dejavu-core"],
};
const PROMETHEUS: System =
    System { wanted_by: "the dashboard's test needs Prometheus", names: &["prometheus"], packages: &["prometheus"] };

/// A program of the system's packages.
struct System {
    wanted_by: &'static str,
    names: &'static [&'static str],
    packages: &'static [&'static str],
}

/// What `signpost` itself runs the local stack on.
#[derive(Debug)]
pub(crate) struct Tools {
    /// Where all of it lives.
    pub(crate) directory: PathBuf,
    /// Python of the environment, with pytest.
    pub(crate) python: PathBuf,
    /// A real node, if it was asked for.
    pub(crate) geth: Option<PathBuf>,
}

/// Lets `signpost` install it, with a real node or without; it shows its progress by itself.
pub(crate) fn of_stack(program: &Path, real: bool) -> Result<Tools, String> {
    let asked = Command::new(program)
        .args(["dev", "--install-only", "--json", "--node", if real { "geth" } else { "anvil" }])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    if !asked.status.success() {
        return Err("the local stack cannot be set up".to_owned());
    }
    let told: Value = serde_json::from_slice(&asked.stdout).map_err(|error| format!("the set-up's answer: {error}"))?;
    let named = |name: &str| told.get(name).and_then(Value::as_str).map(PathBuf::from);
    let path = |name: &str| named(name).ok_or("the set-up named no path");
    let geth = if real { Some(path("geth")?) } else { None };
    Ok(Tools { directory: path("directory")?, python: path("python")?, geth })
}

/// Where they are.
#[derive(Debug)]
pub(crate) struct TestTools {
    /// The directory with `node_modules`.
    pub(crate) node: PathBuf,
    /// The browser.
    pub(crate) chromium: PathBuf,
    /// What scrapes metrics.
    pub(crate) prometheus: PathBuf,
}

/// Installs what is missing.
pub(crate) fn install(tools: &Tools) -> Result<TestTools, String> {
    let node = tools.directory.join("node-tests");
    if !is_installed(&node, LOCK) {
        remark("Installing what the browser's and the TypeScript tests need");
        let written = fs::create_dir_all(&node)
            .and_then(|()| fs::write(node.join("package.json"), PACKAGES))
            .and_then(|()| fs::write(node.join("package-lock.json"), LOCK));
        written.map_err(|error| format!("cannot write {}: {error}", node.display()))?;
        // Install scripts stay off: they would fetch browsers.
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        run(npm.current_dir(&node))?;
        stamp(&node, LOCK)?;
    }
    // Into the stack's environment: the stamp is in it, and goes with it.
    let python = tools.python.parent().ok_or("the Python environment has no directory")?;
    if !is_installed(python, REQUIREMENTS) {
        remark("Installing what the Python tests need");
        let list = tools.directory.join("python-tests.txt");
        fs::write(&list, REQUIREMENTS).map_err(|error| format!("cannot write {}: {error}", list.display()))?;
        let mut pip = Command::new(&tools.python);
        pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
        pip.args(["--require-hashes", "--only-binary", ":all:", "--no-deps", "-r"]).arg(&list);
        run(&mut pip)?;
        stamp(python, REQUIREMENTS)?;
    }
    Ok(TestTools { node, chromium: CHROMIUM.install()?, prometheus: PROMETHEUS.install()? })
}

const STAMP: &str = "installed-for-tests";

fn is_installed(directory: &Path, wanted: &str) -> bool {
    fs::read_to_string(directory.join(STAMP)).is_ok_and(|found| found == wanted)
}

fn stamp(directory: &Path, wanted: &str) -> Result<(), String> {
    let path = directory.join(STAMP);
    fs::write(&path, wanted).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

impl System {
    fn install(&self) -> Result<PathBuf, String> {
        if let Some(found) = self.on_path() {
            return Ok(found);
        }
        let way_out = format!("{}: install it, then run again", self.wanted_by);
        if Path::new("/usr/bin/apt-get").exists() {
            remark(format!("Installing {} with apt-get", self.packages.join(", ")));
            let mut apt = Command::new("apt-get");
            apt.env("DEBIAN_FRONTEND", "noninteractive");
            apt.args(["install", "-y", "-qq", "--no-install-recommends"]).args(self.packages);
            let installed = run(Command::new("apt-get").args(["update", "-qq"])).and_then(|()| run(&mut apt));
            installed.map_err(|error| format!("{error}; {way_out}"))?;
        }
        self.on_path().ok_or(way_out)
    }

    fn on_path(&self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH")?;
        let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
        self.names.iter().flat_map(|name| directories.iter().map(move |dir| dir.join(name))).find(|file| file.is_file())
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} ended with {status}")),
        Err(error) => Err(format!("cannot run {name}: {error}")),
    }
}
