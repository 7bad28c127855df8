//! `signpost dev` as a process: what it prints, that the other commands find it, and that nothing is
//! left of it, however it ends.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not as it should be")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

const SIGNPOST: &str = env!("CARGO_BIN_EXE_signpost");

struct Dev {
    process: Child,
    ready: Value,
}

/// Starts the stack alone and waits for its one line.
fn dev(options: &[&str]) -> Dev {
    let mut process = Command::new(SIGNPOST)
        .args(["dev", "--no-worker", "--json"])
        .args(options)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    Dev { process, ready }
}

impl Dev {
    fn text(&self, key: &str) -> String {
        self.ready[key].as_str().unwrap_or_else(|| panic!("{key} is missing in {}", self.ready)).to_owned()
    }

    fn servers(&self) -> [String; 2] {
        ["awsEndpoint", "rpcUrl"].map(|key| self.text(key).trim_start_matches("http://").to_owned())
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

/// Waits on an open connection, which ends with the server, until a new one is refused.
fn assert_gone(server: &str) {
    for _ in 0..100 {
        let Ok(mut connection) = TcpStream::connect(server) else { return };
        connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let _ = connection.read(&mut [0]);
    }
    panic!("{server} still answers");
}

#[test]
fn a_killed_dev_leaves_no_server_behind() {
    let mut dev = dev(&[]);
    let servers = dev.servers();
    for server in &servers {
        TcpStream::connect(server).unwrap();
    }
    dev.process.kill().unwrap();
    dev.process.wait().unwrap();
    for server in &servers {
        assert_gone(server);
    }
}

#[test]
fn a_dev_asked_to_stop_stops_its_servers_first() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        let mut dev = dev(&[]);
        dev.signal(signal);
        assert!(dev.process.wait().unwrap().success(), "{signal}");
        for server in dev.servers() {
            assert!(TcpStream::connect(&server).is_err(), "{server} still answers after {signal}");
        }
    }
}

#[test]
fn a_dev_whose_server_dies_says_so_and_ends() {
    let mut dev = dev(&[]);
    let port = dev.text("rpcUrl").rsplit(':').next().unwrap().to_owned();
    let found =
        Command::new("pgrep").args(["-f", &format!("anvil --host 127.0.0.1 .*--port {port}")]).output().unwrap();
    let pids = String::from_utf8(found.stdout).unwrap();
    assert!(Command::new("kill").arg("-9").args(pids.split_whitespace()).status().unwrap().success());
    assert_eq!(dev.process.wait().unwrap().code(), Some(1));
    assert_gone(&dev.servers()[0]);
}

#[test]
fn a_request_goes_from_the_command_line_into_the_queue() {
    let mut dev = dev(&["--account", "hot", "--account", "cold"]);
    let names: Vec<&str> =
        dev.ready["accounts"].as_array().unwrap().iter().map(|account| account["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["hot", "cold"]);

    let config = dev.text("configFile");
    let sent = Command::new(SIGNPOST)
        .args(["submit", "--config", &config, "--id", "a-1", "--account", "hot", "--to", "0xaa", "--json"])
        .env_remove("AWS_ENDPOINT_URL")
        .output()
        .unwrap();
    assert!(sent.status.success(), "{sent:?}");
    let line: Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!(line["requestId"], "a-1");

    let mut piped = Command::new(SIGNPOST)
        .args(["submit", "--config", &config])
        .env_remove("AWS_ENDPOINT_URL")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let bodies: Vec<String> = (0..12).map(|at| format!("{{\"requestId\":\"b-{at}\"}}")).collect();
    piped.stdin.take().unwrap().write_all(bodies.join("\n").as_bytes()).unwrap();
    let output = piped.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 12);

    dev.signal("-TERM");
    assert!(dev.process.wait().unwrap().success());
}

#[test]
fn a_command_without_a_stack_names_the_way_out() {
    let nothing = Command::new(SIGNPOST)
        .args(["submit", "--to", "0xaa", "--config", "/nonexistent/signpost.toml"])
        .output()
        .unwrap();
    assert_eq!(nothing.status.code(), Some(2));
    let told = String::from_utf8(nothing.stderr).unwrap();
    assert!(told.contains("cannot read /nonexistent/signpost.toml"), "{told}");
}
