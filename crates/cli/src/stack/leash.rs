//! A server process on a leash: it ends when we stop it, when we end, and when we are killed.
//!
//! The leash is a pipe. Each server runs under a small shell whose standard input is a pipe that only
//! we hold open; whatever ends us closes it, `kill -9` included, and the shell then ends the server and
//! all of its process group: politely first, for good after a second: nothing
//! it has is worth keeping. The group is its own, so that
//! a Ctrl-C in the terminal reaches only us, and we choose the order in which things stop.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, ChildStdin, Command};

use super::{StackError, file};

/// `wait` in the foreground reports the server's own end; the watcher in the background reads the pipe,
/// whose end is the order to stop. The server gets neither the pipe nor the signals meant for it.
const SUPERVISOR: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
trap '' TERM INT HUP
(
    read -r _ <&3
    kill -TERM 0
    tries=0
    while kill -0 "$server" && [ "$tries" -lt 10 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    kill -KILL 0
) >/dev/null 2>&1 &
exec 3<&-
wait "$server"
"#;

/// `command` under the supervisor, in `directory`: it ends when the standard input of what is spawned is closed.
pub(super) fn supervised(name: &str, command: &std::process::Command, directory: &Path) -> std::process::Command {
    let mut supervised = std::process::Command::new("sh");
    supervised
        .args(["-c", SUPERVISOR, name])
        .arg(command.get_program())
        .args(command.get_args())
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(directory)
        .process_group(0)
        .stdin(Stdio::piped());
    supervised
}

/// A running server that cannot outlive us.
#[derive(Debug)]
pub struct Leashed {
    name: &'static str,
    log: PathBuf,
    supervisor: Child,
    /// Closing it is the order to stop.
    leash: ChildStdin,
}

/// A server to start.
#[derive(Debug)]
pub struct Server<'a> {
    /// Its name in messages.
    pub name: &'static str,
    /// The program.
    pub program: &'a Path,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What it finds in its environment besides ours.
    pub environment: Vec<(&'static str, String)>,
    /// Where it runs.
    pub directory: &'a Path,
}

impl Leashed {
    /// Starts a server; its output goes to `<name>.log` in its directory. Must be called in a tokio
    /// runtime.
    pub fn start(server: Server<'_>) -> Result<Self, StackError> {
        let Server { name, program, arguments, environment, directory } = server;
        let log = directory.join(format!("{name}.log"));
        let out = File::create(&log).map_err(file(&log))?;
        let err = out.try_clone().map_err(file(&log))?;
        let mut command = std::process::Command::new(program);
        command.args(arguments).envs(environment);
        let mut supervisor = Command::from(supervised(name, &command, directory))
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|source| StackError::Start { name, source })?;
        let leash = supervisor.stdin.take().expect("stdin was asked to be a pipe");
        Ok(Self { name, log, supervisor, leash })
    }

    /// The name it was started with.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The process group it runs in, with its supervisor; `None` once it is gone.
    pub fn group(&self) -> Option<u32> {
        self.supervisor.id()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.supervisor.try_wait().ok().flatten()
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self) {
        // An error here means that the process is not ours any more, which is an end as well.
        let _ = self.supervisor.wait().await;
    }

    /// Ends it and waits until it is gone: a second and a bit at most.
    pub async fn stop(self) {
        let Self { mut supervisor, leash, .. } = self;
        drop(leash);
        let _ = supervisor.wait().await;
    }
}
