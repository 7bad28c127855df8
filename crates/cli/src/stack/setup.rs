//! Installs pinned tools for the local stack into its own directory: a Python environment with ministack (and packages
//! for the end-to-end tests), and anvil. Changes nothing else on the machine. A second run reads two stamp files and
//! returns.
//!
//! Concurrent runs wait for each other with a lock file; a killed run leaves no stamp, so the next one starts again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use signpost_txmgr::units::sha256;

use super::supervised::supervised;
use super::{StackError, file, place};
use crate::terminal;

const REQUIREMENTS: &str = include_str!("requirements.txt");
/// anvil and its dependencies, by version and digest. Made by `npm install --package-lock-only
/// --omit-lockfile-registry-resolved`: the machine selects the registry.
const NODE_PACKAGES: [(&str, &str); 2] = [
    ("package.json", include_str!("anvil/package.json")),
    ("package-lock.json", include_str!("anvil/package-lock.json")),
];
const PYTHON_HINT: &str = "Python 3.11 or newer (python3, with its venv module)";
/// The Python version that the packages in `requirements.txt` require.
const OLDEST_PYTHON: (u32, u32) = (3, 11);
const NODE_HINT: &str = "Node.js 18 or newer (it brings npm)";

/// The tools of the local stack, installed.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The directory of the local stack.
    pub directory: PathBuf,
    /// The Python of the environment, with ministack, boto3 and pytest.
    pub python: PathBuf,
    /// The anvil program, not npm's wrapper.
    pub anvil: PathBuf,
}

/// Installs missing tools, with one line of progress per step on stderr, and returns their paths.
pub fn install() -> Result<Tools, StackError> {
    install_in(&place::directory()?)
}

fn install_in(directory: &Path) -> Result<Tools, StackError> {
    fs::create_dir_all(directory).map_err(file(directory))?;
    let _lock = lock(&directory.join("setup.lock"))?;
    // Each version of the requirements has its own directory, so that programs running from an old one continue.
    let version = hex::encode(sha256(REQUIREMENTS.as_bytes()));
    let environment = directory.join(format!("python-{}", version.get(..8).unwrap_or_default()));
    let node = directory.join("node");
    let locked = hex::encode(sha256(NODE_PACKAGES.map(|(_, contents)| contents).concat().as_bytes()));
    let tools = Tools {
        directory: directory.to_path_buf(),
        python: environment.join("bin/python"),
        anvil: node.join(format!("node_modules/@foundry-rs/anvil-{}/bin/anvil", platform()?)),
    };
    let parts: [(PathBuf, &str, &Path, Install); 2] = [
        (environment.join("installed"), &version, &tools.python, &|| install_python(directory, &environment)),
        (node.join("installed"), &locked, &tools.anvil, &|| install_anvil(directory, &node, &tools.anvil)),
    ];
    let is_missing = |stamp: &Path, version: &str, program: &Path| {
        !(program.exists() && fs::read_to_string(stamp).is_ok_and(|found| found == version))
    };
    let mut announced = false;
    for (stamp, version, program, install) in parts {
        if is_missing(&stamp, version, program) {
            if !announced {
                terminal::remark(format!("Setting up the local stack in {}", directory.display()));
                // Missing programs are reported before anything takes time.
                find_python()?;
                find_npm()?;
                announced = true;
            }
            // Without the stamp, the installation counts as incomplete.
            let _ = fs::remove_file(&stamp);
            install()?;
            fs::write(&stamp, version).map_err(file(&stamp))?;
        }
    }
    Ok(tools)
}

/// One part of the set-up.
type Install<'a> = &'a dyn Fn() -> Result<(), StackError>;

/// This platform's name in anvil's packages.
fn platform() -> Result<&'static str, StackError> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    match (os, arch) {
        ("linux", "x86_64") => Ok("linux-amd64"),
        ("linux", "aarch64") => Ok("linux-arm64"),
        ("macos", "x86_64") => Ok("darwin-amd64"),
        ("macos", "aarch64") => Ok("darwin-arm64"),
        _ => Err(StackError::NoAnvil { os, arch }),
    }
}

/// Waits for another run of the set-up. The lock ends with its process, even if that is killed.
pub(super) fn lock(path: &Path) -> Result<File, StackError> {
    let lock = File::options().create(true).truncate(false).write(true).open(path).map_err(file(path))?;
    if lock.try_lock().is_err() {
        terminal::remark("Waiting for another run of the set-up ...");
        lock.lock().map_err(file(path))?;
    }
    Ok(lock)
}

fn find_python() -> Result<PathBuf, StackError> {
    let ask = "import sys; print('%d.%d' % sys.version_info[:2]); print(sys.executable)";
    let answer =
        output("python3", &["-c", ask]).ok_or(StackError::Missing { program: "python3", hint: PYTHON_HINT })?;
    let mut lines = answer.lines();
    let version = lines.next().unwrap_or_default().trim().to_owned();
    if !at_least(&version, OLDEST_PYTHON) {
        return Err(StackError::TooOld { program: "python3", found: version, hint: PYTHON_HINT });
    }
    let program = PathBuf::from(lines.next().unwrap_or("python3").trim());
    output("python3", &["-c", "import venv, ensurepip"]).ok_or(StackError::NoVenv)?;
    Ok(program)
}

fn find_npm() -> Result<(), StackError> {
    let node = output("node", &["--version"]).ok_or(StackError::Missing { program: "node", hint: NODE_HINT })?;
    let version = node.trim().trim_start_matches('v').to_owned();
    if !at_least(&version, (18, 0)) {
        return Err(StackError::TooOld { program: "node", found: version, hint: NODE_HINT });
    }
    output("npm", &["--version"]).ok_or(StackError::Missing { program: "npm", hint: NODE_HINT })?;
    Ok(())
}

pub(super) fn at_least(version: &str, wanted: (u32, u32)) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= wanted
}

/// The output of a program; `None` if it is missing or fails.
pub(super) fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn install_python(directory: &Path, environment: &Path) -> Result<(), StackError> {
    let python = find_python()?;
    terminal::step("creating a Python environment", || {
        run(directory, "the Python environment", Command::new(python).args(["-m", "venv", "--clear"]).arg(environment))
    })?;
    let requirements = environment.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS).map_err(file(&requirements))?;
    terminal::step("installing ministack, boto3 and pytest", || {
        let mut pip = Command::new(environment.join("bin/python"));
        pip.args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]);
        // Only the listed packages with their digests, and no packages that run code during installation.
        pip.args(["--require-hashes", "--only-binary", ":all:", "--no-deps", "-r"]);
        run(directory, "pip", pip.arg(&requirements))
    })
}

fn install_anvil(directory: &Path, prefix: &Path, anvil: &Path) -> Result<(), StackError> {
    fs::create_dir_all(prefix).map_err(file(prefix))?;
    for (name, contents) in NODE_PACKAGES {
        let path = prefix.join(name);
        fs::write(&path, contents).map_err(file(&path))?;
    }
    terminal::step("installing anvil", || {
        let mut npm = Command::new("npm");
        // Without install scripts: the platform's package contains the program.
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]);
        run(directory, "npm", npm.arg(prefix))
    })?;
    if anvil.exists() {
        return Ok(());
    }
    let reason = format!("the package has no {}; check that npm installs optional packages", anvil.display());
    Err(StackError::Install { what: "npm", reason, log: directory.join("setup.log") })
}

/// Runs an installer; its output goes to a file.
pub(super) fn run(directory: &Path, what: &'static str, command: &Command) -> Result<(), StackError> {
    let log = directory.join("setup.log");
    let out = File::create(&log).map_err(file(&log))?;
    let err = out.try_clone().map_err(file(&log))?;
    let failed = |error: std::io::Error| StackError::Install { what, reason: error.to_string(), log: log.clone() };
    let mut running = supervised("setup", command, directory).stdout(out).stderr(err).spawn().map_err(failed)?;
    // Installers are supervised too: one that outlived this program would write into the next run's files.
    let pipe = running.stdin.take();
    let status = running.wait().map_err(failed)?;
    drop(pipe);
    if status.success() {
        return Ok(());
    }
    let written = fs::read_to_string(&log).unwrap_or_default();
    Err(StackError::Install { what, reason: error_line(&written), log })
}

/// The line of an installer's output that best explains the failure: the last one with "error", else the last one.
fn error_line(written: &str) -> String {
    let lines = || written.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_error = |line: &&str| line.to_ascii_lowercase().contains("error");
    lines().rfind(is_error).or_else(|| lines().next_back()).unwrap_or("no output").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_numerically() {
        assert!(at_least("3.11", (3, 10)));
        assert!(at_least("20.20.2", (18, 0)));
        assert!(!at_least("3.9", (3, 10)));
        assert!(!at_least("nonsense", (3, 10)));
    }

    #[test]
    fn line_with_the_error_is_shown() {
        let pip = "Collecting x\nERROR: Could not find a version\n\nnotice: a new release\n";
        assert_eq!(error_line(pip), "ERROR: Could not find a version");
        assert_eq!(error_line("only this\n"), "only this");
    }

    #[test]
    fn python_packages_are_pinned_by_digest() {
        // Backslashes at line ends join the lines of a package.
        let joined = REQUIREMENTS.replace("\\\n", " ");
        let packages: Vec<&str> = joined.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(packages.len() > 20, "{packages:?}");
        for package in packages {
            assert!(package.contains("=="), "{package}");
            assert!(package.contains("--hash=sha256:"), "{package}");
        }
    }

    #[test]
    fn node_packages_are_pinned_by_digest_without_a_registry() {
        let [(_, package), (_, lock)] = NODE_PACKAGES.map(|(name, contents)| {
            (name, serde_json::from_str::<serde_json::Value>(contents).expect("npm's files are JSON"))
        });
        let locked = lock["packages"].as_object().expect("a lock lists packages");
        assert_eq!(locked[""]["dependencies"], package["dependencies"], "the lock is stale");
        assert!(locked.len() > 2, "{locked:?}");
        for (name, entry) in locked.iter().filter(|(name, _)| !name.is_empty()) {
            assert!(entry["integrity"].is_string(), "{name}");
            assert!(entry["resolved"].is_null(), "{name}");
        }
    }
}
