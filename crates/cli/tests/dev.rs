//! `signpost dev` as a process: its output, other commands that use it, and that no process is left, however it ends.

#![allow(clippy::unwrap_used, reason = "a test ends at the first failure")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

const SIGNPOST: &str = env!("CARGO_BIN_EXE_signpost");
const RECIPIENT: &str = "0x00000000000000000000000000000000000a11ce";

struct Dev {
    process: Child,
    ready: Value,
}

/// Starts the stack and waits for its JSON line.
fn dev(options: &[&str]) -> Dev {
    let mut process =
        Command::new(SIGNPOST).args(["dev", "--json"]).args(options).stdout(Stdio::piped()).spawn().unwrap();
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

/// Waits until the server refuses connections; an open connection ends with the server.
fn assert_gone(server: &str) {
    for _ in 0..100 {
        let Ok(mut connection) = TcpStream::connect(server) else { return };
        connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let _ = connection.read(&mut [0]);
    }
    panic!("{server} still answers");
}

#[test]
fn killed_dev_leaves_no_server_behind() {
    let mut dev = dev(&["--no-worker"]);
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

/// Ports that no other test takes: the default ports go to the next stack as soon as they are free.
fn free_ports() -> [String; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port().to_string())
}

#[test]
fn dev_stops_its_servers_before_it_ends() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        let [aws_port, rpc_port] = free_ports();
        let mut dev = dev(&["--no-worker", "--aws-port", &aws_port, "--rpc-port", &rpc_port]);
        dev.signal(signal);
        assert!(dev.process.wait().unwrap().success(), "{signal}");
        for server in dev.servers() {
            assert!(TcpStream::connect(&server).is_err(), "{server} still answers after {signal}");
        }
    }
}

#[test]
fn dev_ends_when_a_server_dies() {
    let mut dev = dev(&["--no-worker"]);
    let port = dev.text("rpcUrl").rsplit(':').next().unwrap().to_owned();
    let found =
        Command::new("pgrep").args(["-f", &format!("anvil --host 127.0.0.1 .*--port {port}")]).output().unwrap();
    let pids = String::from_utf8(found.stdout).unwrap();
    assert!(Command::new("kill").arg("-9").args(pids.split_whitespace()).status().unwrap().success());
    assert_eq!(dev.process.wait().unwrap().code(), Some(1));
    assert_gone(&dev.servers()[0]);
}

#[test]
fn submit_sends_requests_to_the_queue() {
    let mut dev = dev(&["--no-worker", "--account", "hot", "--account", "cold"]);
    let names: Vec<&str> =
        dev.ready["accounts"].as_array().unwrap().iter().map(|account| account["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["hot", "cold"]);

    let config = dev.text("configFile");
    let sent = Command::new(SIGNPOST)
        .args([
            "submit",
            "--config",
            &config,
            "--id",
            "a-1",
            "--account",
            "hot",
            "--to",
            RECIPIENT,
            "--gas",
            "21000",
            "--json",
        ])
        .env_remove("AWS_ENDPOINT_URL")
        .output()
        .unwrap();
    assert!(sent.status.success(), "{sent:?}");
    let line: Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!(line["requestId"], "a-1");

    let mut piped = Command::new(SIGNPOST)
        .args(["submit", "--unchecked", "--config", &config])
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

/// Runs a command to its end.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(SIGNPOST).args(arguments).env_remove("AWS_ENDPOINT_URL").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn submitted_request_is_confirmed_and_shown_and_watched() {
    let mut dev = dev(&[]);
    let config = dev.text("configFile");
    let mut watching = Command::new(SIGNPOST)
        .args(["watch", "--config", &config, "--count", "1", "--json", "--status", "confirmed"])
        .env_remove("AWS_ENDPOINT_URL")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The remark is printed after the subscription.
    let mut remark = String::new();
    BufReader::new(watching.stderr.take().unwrap()).read_line(&mut remark).unwrap();
    assert!(remark.starts_with("Watching"), "{remark}");

    let asked = ["submit", "--config", &config, "--id", "a-1", "--to", RECIPIENT, "--value", "7", "--gas", "21000"];
    assert_eq!(run(&asked).0, Some(0));
    let (code, _, errors) = run(&["status", "a-1", "--watch", "--config", &config]);
    assert_eq!(code, Some(0), "{errors}");
    let (_, line, _) = run(&["status", "a-1", "--json", "--config", &config]);
    let status: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&status["status"], &status["nonce"], &status["value"]), (&"confirmed".into(), &0.into(), &"7".into()));

    let published = watching.wait_with_output().unwrap();
    let outcome: Value = serde_json::from_slice(&published.stdout).unwrap();
    assert_eq!((&outcome["requestId"], &outcome["txHash"]), (&status["requestId"], &status["txHash"]));

    let (code, _, errors) = run(&["status", "never-sent", "--config", &config]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("no request never-sent"), "{errors}");
    dev.signal("-TERM");
    assert!(dev.process.wait().unwrap().success());
}

#[test]
fn accounts_are_registered_listed_and_shown() {
    let mut dev = dev(&["--no-worker"]);
    let config = dev.text("configFile");
    let (code, line, errors) = run(&["account", "register", "cold", "--create-key", "--json", "--config", &config]);
    assert_eq!(code, Some(0), "{errors}");
    let cold: Value = serde_json::from_str(&line).unwrap();
    let again = run(&["account", "register", "cold", "--create-key", "--json", "--config", &config]);
    assert_eq!(serde_json::from_str::<Value>(&again.1).unwrap(), cold, "registering twice is harmless");
    let (code, _, errors) =
        run(&["account", "register", "other", "--kms-key", "alias/signpost-cold", "--config", &config]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("registered already, as cold"), "{errors}");

    assert_eq!(run(&["account", "list", "--json", "--config", &config]).1.lines().count(), 2);
    let (_, line, _) = run(&["account", "show", "hot", "--json", "--config", &config]);
    let hot: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(hot["balanceWei"], "10000000000000000000000");
    let (code, _, errors) = run(&["account", "show", "nobody", "--config", &config]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("signpost account list"), "{errors}");
    dev.signal("-TERM");
    assert!(dev.process.wait().unwrap().success());
}

#[test]
fn worker_stops_on_signal_and_refuses_bad_configuration() {
    let mut dev = dev(&["--no-worker"]);
    let config = dev.text("configFile");
    let mut worker = Command::new(SIGNPOST)
        .args(["worker", "--config", &config])
        .env_remove("AWS_ENDPOINT_URL")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Its log, one JSON object per line, shows when it is ready for signals.
    let mut log = BufReader::new(worker.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("\"working\"")));
    let stopped = Command::new("kill").args(["-TERM", &worker.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    assert!(worker.wait().unwrap().success());

    let text = std::fs::read_to_string(&config).unwrap();
    let wrong = format!("{config}.wrong");
    let elsewhere = text.replace("chain_id = 97", "chain_id = 56");
    for (change, stage, expected) in [
        (elsewhere.clone(), "broadcaster", "chain.chain_id is 56, and the node is on chain 97"),
        (elsewhere, "signer", "chain.chain_id is 56, and the registered accounts are on chain 97"),
        (text.replace("chain_id = 97\n", ""), "all", "chain.chain_id is missing"),
        (text.replace("policy.toml", "none.toml"), "all", "none.toml cannot be used"),
    ] {
        std::fs::write(&wrong, change).unwrap();
        let (code, _, errors) = run(&["worker", "--config", &wrong, "--stage", stage]);
        assert!(errors.contains(expected), "{expected} is not in {errors}");
        assert_eq!(code, Some(2), "{errors}");
    }
    dev.signal("-TERM");
    assert!(dev.process.wait().unwrap().success());
}

#[test]
fn demo_ends_with_totals_counted_from_the_chain() {
    let (code, stdout, errors) = run(&["demo", "--count", "12", "--json"]);
    assert_eq!(code, Some(0), "{errors}");
    let totals: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    let expected = [
        ("submitted", 12),
        ("confirmed", 9),
        ("reverted", 1),
        ("rejected", 2),
        ("duplicates", 0),
        ("kmsSigns", 10),
        ("nonceGaps", 0),
    ];
    for (key, value) in expected {
        assert_eq!(totals[key], value, "{key} in {totals}");
    }
    for key in ["p50MinedMs", "p99MinedMs", "p50FinalMs", "p99FinalMs"] {
        assert!(totals[key].as_u64().is_some_and(|ms| ms > 0), "{key} in {totals}");
    }
    assert_eq!(totals.as_object().unwrap().len(), 11);
}

#[test]
fn missing_go_is_reported_before_anything_is_installed() {
    let nowhere = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-go");
    let asked = Command::new(SIGNPOST)
        .args(["dev", "--node", "geth", "--install-only"])
        .env("PATH", &nowhere)
        .env("CARGO_TARGET_DIR", &nowhere)
        .output()
        .unwrap();
    assert_eq!(asked.status.code(), Some(1));
    let errors = String::from_utf8(asked.stderr).unwrap();
    assert!(errors.contains("go was not found on PATH; install Go 1.25 or newer"), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(!nowhere.exists());
}

#[test]
fn missing_configuration_file_is_named() {
    let nothing = Command::new(SIGNPOST)
        .args(["submit", "--to", RECIPIENT, "--gas", "21000", "--config", "/nonexistent/signpost.toml"])
        .output()
        .unwrap();
    assert_eq!(nothing.status.code(), Some(2));
    let errors = String::from_utf8(nothing.stderr).unwrap();
    assert!(errors.contains("cannot read /nonexistent/signpost.toml"), "{errors}");
}
