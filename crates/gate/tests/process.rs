//! The gates as processes, as end-to-end tests start them.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use support::Rpc;

/// Starts a gate with `--leash` and reads its URLs.
fn start(arguments: &[&str]) -> (Child, Vec<String>) {
    let mut gate = Command::new(env!("CARGO_BIN_EXE_gate"))
        .args(arguments)
        .arg("--leash")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(gate.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let urls = ready["urls"].as_array().unwrap().iter().map(|url| url.as_str().unwrap().to_owned()).collect();
    (gate, urls)
}

/// Closes the gate's standard input, which ends it.
fn close(mut gate: Child) {
    drop(gate.stdin.take());
    assert!(gate.wait().unwrap().success());
}

#[tokio::test]
async fn two_nodes_run_with_a_script_file_until_stdin_ends() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("script.json");
    std::fs::write(&file, json!([{ "fault": "html", "status": 200 }]).to_string()).unwrap();
    let listen = ["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"];
    let rest = ["--upstream", "http://127.0.0.1:1", "--faults", file.to_str().unwrap(), "--reinject"];
    let (gate, urls) = start(&[&["bsc"], &listen[..], &rest[..]].concat());
    assert_eq!(urls.len(), 2);
    for url in &urls {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": [] });
        let response = Rpc::new(url).post(&call).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.text().await.unwrap().starts_with("<html>"));
    }
    close(gate);
    assert!(Rpc::new(&urls[0]).post(&json!({})).await.is_err(), "the gate has stopped");
}

#[tokio::test]
async fn aws_gate_shows_its_seeded_script() {
    let (gate, urls) = start(&["aws", "--upstream", "http://127.0.0.1:1", "--faults", "all", "--seed", "7"]);
    let rpc = Rpc::new(&format!("{}/_gate/script", urls[0]));
    let shown: Value = rpc.http.get(&rpc.url).send().await.unwrap().json().await.unwrap();
    let faults: Vec<_> = shown.as_array().unwrap().iter().map(|rule| rule["fault"].as_str().unwrap()).collect();
    assert!(faults.contains(&"transactionConflict") && faults.contains(&"replyLost"), "{faults:?}");
    close(gate);
}

#[test]
fn invalid_script_or_taken_port_is_reported_in_one_line() {
    let errors = |arguments: &[&str]| {
        let mut gate = Command::new(env!("CARGO_BIN_EXE_gate")).args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut words = String::new();
        gate.stderr.take().unwrap().read_to_string(&mut words).unwrap();
        assert!(!gate.wait().unwrap().success());
        words
    };
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("wrong.json");
    std::fs::write(&file, "[{\"fault\": \"htlm\"}]").unwrap();
    let words = errors(&["bsc", "--upstream", "http://127.0.0.1:1", "--faults", file.to_str().unwrap()]);
    assert!(words.contains("unknown variant `htlm`") && words.lines().count() == 1, "{words}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let words = errors(&["aws", "--upstream", "http://127.0.0.1:1", "--listen", &address]);
    assert!(words.starts_with(&format!("cannot listen on {address}: ")), "{words}");
}
