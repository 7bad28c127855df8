//! What `cargo demo` and `cargo verify` run. Both build the workspace once, in the same way.
//!
//! `cargo demo` then runs `signpost demo`. `cargo verify` sets up the local stack, runs every Rust test and every
//! end-to-end test, passes their output on line by line, and ends with one line, `N passed, N failed`. With `--real`
//! it runs the tests on a real node only, with `--with-real` those as well.
//!
//! The numbers are those of the test runners. A runner that fails without naming a failed test counts as one failed
//! test. So does each skipped test: a test gets what it needs or fails. A run of no test at all fails, too.
//!
//! Read next: [`tally`], and `.ci/run`, which calls this last.

mod tally;
mod tools;

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde_json::Value;
use tally::{Tally, of_cargo, of_pytest};
use tools::Tools;

const HELP: &str = "\
Builds everything and sets it up under the target directory. `cargo demo` runs the main job on the local stack,
`cargo verify` runs every test.

Usage: cargo demo [OPTIONS OF signpost demo]
       cargo verify [--rust-only | --e2e-only | --real | --with-real] [FILTER]

  --rust-only   only `cargo test --workspace`
  --e2e-only    only `pytest tests/infra tests/e2e`: the template, and the local stack
  --real        only the tests on a real node, geth, which is built with Go the first time
  --with-real   these too: without either they are left out
  FILTER        only tests whose name contains it, in both

The last line is `N passed, N failed`; the exit code is 0 only if tests ran and none failed.

Example: cargo verify --rust-only same_id";

/// Which tests to run.
#[derive(Debug, Default)]
struct Options {
    chosen: Option<Chosen>,
    filter: Option<String>,
}

/// Which tests, where it is not all that need no Go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chosen {
    Rust,
    EndToEnd,
    Real,
    /// Those on a real node besides all others.
    WithReal,
}

impl Options {
    fn choose(&mut self, tests: Chosen) -> Result<(), String> {
        match self.chosen.replace(tests) {
            None => Ok(()),
            Some(_) => Err("give at most one of --rust-only, --e2e-only, --real and --with-real".to_owned()),
        }
    }

    fn has_rust(&self) -> bool {
        matches!(self.chosen, None | Some(Chosen::Rust | Chosen::WithReal))
    }

    fn has_end_to_end(&self) -> bool {
        matches!(self.chosen, None | Some(Chosen::EndToEnd | Chosen::WithReal))
    }

    fn has_real(&self) -> bool {
        matches!(self.chosen, Some(Chosen::Real | Chosen::WithReal))
    }
}

/// The argument that `cargo demo` passes before those of its user.
const DEMO: &str = "demo";

fn main() -> ExitCode {
    let arguments = || std::env::args().skip(1);
    if arguments().next().as_deref() == Some(DEMO) {
        return demo(arguments().skip(1)).unwrap_or_else(|problem| {
            remark(problem);
            ExitCode::FAILURE
        });
    }
    let options = match options(arguments()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            say(HELP);
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            remark(format!("{problem}\n\n{HELP}"));
            return ExitCode::from(2);
        }
    };
    let total = verify(&options).unwrap_or_else(|problem| {
        remark(problem);
        Tally::broken()
    });
    say(format!("{} passed, {} failed", total.passed, total.failed));
    if total.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Builds what `cargo verify` builds, so that neither command builds again what the other has built.
fn demo(arguments: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let program = program(&workspace()?)?;
    let mut command = Command::new(&program);
    let status = command.arg(DEMO).args(arguments).status();
    let status = status.map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn options(arguments: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options::default();
    for argument in arguments {
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--rust-only" => options.choose(Chosen::Rust)?,
            "--e2e-only" => options.choose(Chosen::EndToEnd)?,
            "--real" => options.choose(Chosen::Real)?,
            "--with-real" => options.choose(Chosen::WithReal)?,
            other if other.starts_with('-') => return Err(format!("unknown option {other}")),
            other if options.filter.is_none() => options.filter = Some(other.to_owned()),
            other => return Err(format!("give at most one filter; {other} is a second one")),
        }
    }
    Ok(Some(options))
}

/// Writes one line to stdout.
fn say(line: impl AsRef<str>) {
    let _ = writeln!(io::stdout().lock(), "{}", line.as_ref());
}

/// Writes one line to stderr.
fn remark(line: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "{}", line.as_ref());
}

/// Number of processes that run the end-to-end tests.
const END_TO_END_PROCESSES: &str = "2";
/// Number of slowest tests that pytest lists with their times.
const SLOWEST_SHOWN: &str = "15";

fn verify(options: &Options) -> Result<Tally, String> {
    let root = workspace()?;
    let program = program(&root)?;
    let tools = tools::of_stack(&program, options.has_real())?;
    let place = Place { root, program, tools };
    let mut total = Tally::default();
    if options.has_rust() {
        remark("Running the Rust tests");
        let mut tests = place.cargo_test();
        tests.arg("--no-fail-fast").args(options.filter.as_slice());
        total = total.and(run(&mut tests, of_cargo, |_| false)?);
    }
    if options.has_end_to_end() {
        remark("Running the end-to-end tests");
        let more = tools::install(&place.tools)?;
        let mut tests = place.pytest(&["tests/infra", "tests/e2e"], options);
        // Tests mostly wait for blocks. Each process has its own local stack; `tests/e2e/conftest.py` assigns the files.
        tests.args(["--numprocesses", END_TO_END_PROCESSES, "--dist", "loadfile", "--no-loadscope-reorder"]);
        tests.args(["--durations", SLOWEST_SHOWN]);
        tests.env("SIGNPOST_NODE_TOOLS", &more.node).env("SIGNPOST_CHROMIUM", &more.chromium);
        tests.env("SIGNPOST_PROMETHEUS", &more.prometheus);
        total = total.and(run(&mut tests, of_pytest, none_matched(options))?);
    }
    if let Some(geth) = &place.tools.geth {
        total = total.and(on_a_real_node(&place, geth, options)?);
    }
    Ok(total)
}

/// Runs the tests that need a real node, which is built with Go.
fn on_a_real_node(place: &Place, geth: &Path, options: &Options) -> Result<Tally, String> {
    remark("Running the Rust tests on a real node");
    let mut tests = place.cargo_test();
    tests.args(["--features", "signpost-real/geth", "--test", "geth"]).args(options.filter.as_slice());
    let total = run(&mut tests, of_cargo, |_| false)?;
    remark("Running the end-to-end tests on a real node");
    let mut tests = place.pytest(&["tests/e2e/real"], options);
    tests.env("SIGNPOST_GETH", geth);
    Ok(total.and(run(&mut tests, of_pytest, none_matched(options))?))
}

/// pytest exits with 5 if no test's name contains the filter. The other runner may have some.
fn none_matched(options: &Options) -> impl Fn(i32) -> bool {
    let filtered = options.filter.is_some();
    move |code| code == 5 && filtered
}

/// Where the tests run, and on what.
#[derive(Debug)]
struct Place {
    root: PathBuf,
    program: PathBuf,
    tools: Tools,
}

impl Place {
    fn cargo_test(&self) -> Command {
        let mut tests = cargo();
        tests.args(["test", "--locked", "--workspace"]);
        self.prepared(tests)
    }

    fn pytest(&self, directories: &[&str], options: &Options) -> Command {
        let mut tests = Command::new(&self.tools.python);
        tests.args(["-m", "pytest", "-p", "no:cacheprovider", "--color=no", "-v"]).args(directories);
        if let Some(filter) = &options.filter {
            tests.args(["-k", filter]);
        }
        self.prepared(tests)
    }

    fn prepared(&self, mut tests: Command) -> Command {
        tests.current_dir(&self.root);
        tests.env("SIGNPOST_TOOLS", &self.tools.directory).env("SIGNPOST_BIN", &self.program);
        tests.env("PYTHONDONTWRITEBYTECODE", "1");
        tests
    }
}

/// The workspace: cargo says where this package is, also when the build directory is shared.
fn workspace() -> Result<PathBuf, String> {
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let root = package.ancestors().nth(2).ok_or("this package is not in its workspace; run `cargo verify` there")?;
    Ok(root.to_path_buf())
}

/// Cargo, without the variables that describe this package: build scripts of dependencies (ring's, for one) watch some
/// of them and would run again each time.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_package)) {
        cargo.env_remove(name);
    }
    cargo
}

/// Builds the programs that the tests run and returns the path of `signpost`; the others are beside it. The build covers
/// the whole workspace with its examples: otherwise cargo would choose other features than for the tests and build
/// everything twice.
fn program(root: &Path) -> Result<PathBuf, String> {
    remark("Building all programs (the first build takes minutes)");
    let mut command = cargo();
    command.args([
        "build",
        "--locked",
        "--workspace",
        "--bins",
        "--examples",
        "--message-format=json-render-diagnostics",
    ]);
    let built = command
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !built.status.success() {
        return Err("the programs do not build".to_owned());
    }
    // Cargo says where it put each program: the target directory may be anywhere.
    String::from_utf8_lossy(&built.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .find(|program| program.file_stem().is_some_and(|name| name == "signpost"))
        .ok_or_else(|| "cargo built no signpost".to_owned())
}

/// Runs a test runner, passes its output on line by line, and reads its summary lines.
fn run(
    command: &mut Command,
    read: fn(&str) -> Option<Tally>,
    harmless: impl Fn(i32) -> bool,
) -> Result<Tally, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut runner = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run {name}: {error}"))?;
    let output = runner.stdout.take().ok_or("the runner has no output")?;
    let mut tally = Tally::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.map_err(|error| format!("cannot read the output of {name}: {error}"))?;
        let line = String::from_utf8_lossy(&line);
        let _ = writeln!(io::stdout().lock(), "{line}");
        tally = tally.and(read(&line).unwrap_or_default());
    }
    let status = runner.wait().map_err(|error| format!("cannot wait for {name}: {error}"))?;
    if !status.success() && tally.failed == 0 && !status.code().is_some_and(harmless) {
        remark(format!("{name} failed ({status}) without naming a failed test"));
        tally = tally.and(Tally::broken());
    }
    Ok(tally)
}
