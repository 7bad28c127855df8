//! What only the tests need, and `signpost` does not: npm packages (a browser's driver, TypeScript and
//! the AWS SDK for it), pinned in `tests/e2e/node/package.json`, and Chromium from the system.
//!
//! Installs them or fails: a test that needs a thing gets it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::remark;

const PACKAGES: &str = include_str!("../../e2e/node/package.json");
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// What `signpost` itself runs the local stack on.
#[derive(Debug)]
pub(crate) struct Tools {
    /// Where all of it lives.
    pub(crate) directory: PathBuf,
    /// Python of the environment, with pytest.
    pub(crate) python: PathBuf,
}

/// Lets `signpost` install it; it shows its progress by itself.
pub(crate) fn of_stack(program: &Path) -> Result<Tools, String> {
    let asked = Command::new(program)
        .args(["dev", "--install-only", "--json"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    if !asked.status.success() {
        return Err("the local stack cannot be set up".to_owned());
    }
    let told: Value = serde_json::from_slice(&asked.stdout).map_err(|error| format!("the set-up's answer: {error}"))?;
    let path = |name: &str| told.get(name).and_then(Value::as_str).map(PathBuf::from).ok_or("the set-up named no path");
    Ok(Tools { directory: path("directory")?, python: path("python")? })
}

/// Where they are.
#[derive(Debug)]
pub(crate) struct TestTools {
    /// The directory with `node_modules`.
    pub(crate) node: PathBuf,
    /// The browser.
    pub(crate) chromium: PathBuf,
}

/// Installs what is missing.
pub(crate) fn install(tools: &Tools) -> Result<TestTools, String> {
    let node = tools.directory.join("node-tests");
    let stamp = node.join("installed");
    if fs::read_to_string(&stamp).ok().as_deref() != Some(PACKAGES) {
        remark("Installing what the browser's and the TypeScript tests need");
        let written = fs::create_dir_all(&node).and_then(|()| fs::write(node.join("package.json"), PACKAGES));
        written.map_err(|error| format!("cannot write {}: {error}", node.display()))?;
        // Install scripts stay off: they would fetch browsers.
        let mut npm = Command::new("npm");
        npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]);
        run(npm.current_dir(&node))?;
        fs::write(&stamp, PACKAGES).map_err(|error| format!("cannot write {}: {error}", stamp.display()))?;
    }
    Ok(TestTools { node, chromium: chromium()? })
}

fn chromium() -> Result<PathBuf, String> {
    if let Some(found) = on_path() {
        return Ok(found);
    }
    if Path::new("/usr/bin/apt-get").exists() {
        remark("Installing chromium with apt-get");
        let mut apt = Command::new("apt-get");
        apt.args(["install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-dejavu-core"]);
        let installed = run(Command::new("apt-get").args(["update", "-qq"])).and_then(|()| run(&mut apt));
        installed.map_err(|error| format!("{error}; the console's tests need Chromium: install it, then run again"))?;
    }
    on_path().ok_or_else(|| "the console's tests need Chromium on PATH: install it, then run again".to_owned())
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    BROWSERS.iter().flat_map(|name| directories.iter().map(move |dir| dir.join(name))).find(|file| file.is_file())
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
