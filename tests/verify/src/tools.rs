//! Installs what only the tests need: npm packages (a browser driver, TypeScript, the AWS SDK), pinned by digest in
//! `tests/e2e/node/package-lock.json`; Python packages that generate types from schemas and check them, pinned by digest
//! in `tests/e2e/python/requirements.txt`; Chromium and Prometheus from the system's packages.
//!
//! Fails if something cannot be installed: no test is skipped for want of a tool.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::remark;

const PACKAGES: &str = include_str!("../../e2e/node/package.json");
/// Versions and digests of these packages and their dependencies. Made by `npm install --package-lock-only
/// --omit-lockfile-registry-resolved`, so that it names no registry.
const LOCK: &str = include_str!("../../e2e/node/package-lock.json");
const REQUIREMENTS: &str = include_str!("../../e2e/python/requirements.txt");
const CHROMIUM: System = System {
    wanted_by: "the console's tests need Chromium",
    names: &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"],
    packages: &["chromium", "fonts-dejavu-core"],
};
const PROMETHEUS: System =
    System { wanted_by: "the dashboard's test needs Prometheus", names: &["prometheus"], packages: &["prometheus"] };

/// A program from the system's packages: who needs it, the names of its binary, and Debian's packages.
struct System {
    wanted_by: &'static str,
    names: &'static [&'static str],
    packages: &'static [&'static str],
}

/// What `signpost` installs for the local stack.
#[derive(Debug)]
pub(crate) struct Tools {
    /// The directory that all of it is in.
    pub(crate) directory: PathBuf,
    /// The environment's Python, with pytest.
    pub(crate) python: PathBuf,
    /// The program of the real node, if one was asked for.
    pub(crate) geth: Option<PathBuf>,
}

/// Runs the installation of `signpost`, which shows its own progress.
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
    let answer: Value =
        serde_json::from_slice(&asked.stdout).map_err(|error| format!("the set-up's answer: {error}"))?;
    let named = |name: &str| answer.get(name).and_then(Value::as_str).map(PathBuf::from);
    let path = |name: &str| named(name).ok_or("the set-up named no path");
    let geth = if real { Some(path("geth")?) } else { None };
    Ok(Tools { directory: path("directory")?, python: path("python")?, geth })
}

/// Paths of what the tests need.
#[derive(Debug)]
pub(crate) struct TestTools {
    /// The directory with `node_modules`.
    pub(crate) node: PathBuf,
    /// The browser's program.
    pub(crate) chromium: PathBuf,
    /// The program of Prometheus, which scrapes metrics.
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
        // Install scripts stay off: they would download browsers.
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        run(npm.current_dir(&node))?;
        stamp(&node, LOCK)?;
    }
    // Into the stack's environment. The stamp is in that directory, so it is removed with it.
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
        let remedy = format!("{}: install it, then run again", self.wanted_by);
        if Path::new("/usr/bin/apt-get").exists() {
            remark(format!("Installing {} with apt-get", self.packages.join(", ")));
            let mut apt = Command::new("apt-get");
            apt.env("DEBIAN_FRONTEND", "noninteractive");
            apt.args(["install", "-y", "-qq", "--no-install-recommends"]).args(self.packages);
            let installed = run(Command::new("apt-get").args(["update", "-qq"])).and_then(|()| run(&mut apt));
            installed.map_err(|error| format!("{error}; {remedy}"))?;
        }
        self.on_path().ok_or(remedy)
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
