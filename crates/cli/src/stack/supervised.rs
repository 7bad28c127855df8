//! Supervised server processes: a server ends when it is stopped, and when this program ends or is killed.
//!
//! The supervision uses a pipe. Each server runs under a small shell whose standard input is a pipe that
//! only this program holds open. Whatever ends this program closes the pipe, even `kill -9`; the shell then ends the
//! server and its process group: with SIGTERM first, and with SIGKILL after a second, since its data need not be kept.
//! Each server has its own process group, so that Ctrl-C reaches only this program, which stops servers in order.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, ChildStdin, Command};

use super::{StackError, file};

/// The foreground `wait` reports the server's exit; the background watcher reads the pipe, whose end means stop. The
/// server gets neither the pipe nor the supervisor's signals.
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

/// `command` under the supervisor, in `directory`. It ends when the standard input of the spawned process is closed.
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

/// A running server that cannot outlive this program.
#[derive(Debug)]
pub struct SupervisedServer {
    name: &'static str,
    log: PathBuf,
    supervisor: Child,
    /// Closing it stops the server.
    pipe: ChildStdin,
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
    /// Additional environment variables.
    pub environment: Vec<(&'static str, String)>,
    /// Its working directory.
    pub directory: &'a Path,
}

impl SupervisedServer {
    /// Starts a server; its output goes to `<name>.log` in its directory. Must be called in a tokio runtime.
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
        let pipe = supervisor.stdin.take().expect("stdin was asked to be a pipe");
        Ok(Self { name, log, supervisor, pipe })
    }

    /// The name of the server.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The process group it runs in, with its supervisor; `None` once it is gone.
    pub fn group(&self) -> Option<u32> {
        self.supervisor.id()
    }

    /// The file with its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.supervisor.try_wait().ok().flatten()
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self) {
        // An error means that the process is no longer ours, which counts as ended.
        let _ = self.supervisor.wait().await;
    }

    /// Ends the server and waits until it is gone, for slightly more than a second at most.
    pub async fn stop(self) {
        let Self { mut supervisor, pipe, .. } = self;
        drop(pipe);
        let _ = supervisor.wait().await;
    }
}
