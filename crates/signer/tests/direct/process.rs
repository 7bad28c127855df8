//! The real program, started as Lambda starts it.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::cases::{self, Case, KEY_ID, error};
use crate::kms::{Behaviour, KMS_REQUEST_ID, Kms};
use crate::runtime_api::{Heard, INVOCATION, RuntimeApi};

/// Timeout for the program's next message.
const MESSAGE_TIMEOUT: Duration = Duration::from_mins(2);

/// The longest time that Lambda gives a function.
const AMPLE_MS: u64 = 900_000;

/// The running program. It is killed when dropped.
struct Program {
    child: Child,
    api: RuntimeApi,
    log: JoinHandle<String>,
}

impl Program {
    async fn start<'e>(kms: &Kms, env: impl IntoIterator<Item = (&'e str, &'e str)>) -> Self {
        let api = RuntimeApi::start().await;
        let mut child = Command::new(env!("CARGO_BIN_EXE_sign-direct"))
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", &api.address)
            .env("AWS_LAMBDA_FUNCTION_NAME", "sign-direct")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_ENDPOINT_URL", &kms.url)
            .env("KMS_KEY_ID", KEY_ID)
            // The contract has no policy.
            .env("SIGNPOST_POLICY", "none")
            .envs(env)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let log = tokio::spawn(async move {
            let mut text = String::new();
            stderr.read_to_string(&mut text).await.unwrap();
            text
        });
        Self { child, api, log }
    }

    /// The program's next message to the Runtime API.
    async fn heard(&mut self) -> Heard {
        let message = async {
            tokio::select! {
                biased;
                heard = self.api.heard.recv() => heard.unwrap(),
                ended = self.child.wait() => panic!("the program ended without a message: {ended:?}"),
            }
        };
        tokio::time::timeout(MESSAGE_TIMEOUT, message).await.expect("the program sends a message")
    }

    async fn invoke(&mut self, payload: &str, time_ms: u64) -> Value {
        self.api.invoke(payload, time_ms).await;
        match self.heard().await {
            Heard::Response(body) => serde_json::from_str(&body).unwrap(),
            heard @ (Heard::Failure(_) | Heard::InitError(_)) => panic!("no normal response to {payload}: {heard:?}"),
        }
    }

    /// Why the program does not start; waits until it ended by itself.
    async fn refusal(mut self) -> String {
        let Heard::InitError(text) = self.heard().await else { panic!("it started") };
        assert!(!self.child.wait().await.unwrap().success());
        let error: Value = serde_json::from_str(&text).unwrap();
        let message = error["errorMessage"].as_str().unwrap().to_owned();
        assert!(self.log.await.unwrap().contains("does not start"), "the log has the error too");
        message
    }

    /// Ends the program and returns its complete log.
    async fn end(mut self) -> String {
        self.child.kill().await.unwrap();
        self.log.await.unwrap()
    }
}

fn pairs(env: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    env.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

/// Rules that allow the tests' transactions.
const RULES: &str = "[default]\nmax_gas_price_wei = \"10000000000\"";

const TESTNET: [(&str, &str); 1] = [("ETH_NETWORK", "bsc-testnet")];

fn transfer() -> String {
    let request = json!({ "to": "0x3535353535353535353535353535353535353535", "nonce": 3, "gas": 100_000,
        "gasPrice": 10_000_000_000_u64, "data": "0xa9059cbb5ca1ab1e" });
    request.to_string()
}

#[tokio::test]
async fn every_contract_case_holds_in_the_real_program() {
    let kms = Kms::start(Behaviour::HighS).await;
    let mut by_env = BTreeMap::<_, Vec<Case>>::new();
    for case in cases::all() {
        by_env.entry(case.env.clone()).or_default().push(case);
    }
    for (env, cases) in by_env {
        let mut program = Program::start(&kms, pairs(&env)).await;
        if let [case] = &cases[..]
            && case.refuses_to_start()
        {
            let message = program.refusal().await;
            assert!(message.contains(case.variable()), "{}: {message}", case.id);
            continue;
        }
        for case in cases {
            case.judge(&program.invoke(&case.request, AMPLE_MS).await);
        }
    }
}

#[tokio::test]
async fn any_payload_gets_a_normal_response() {
    let kms = Kms::start(Behaviour::LowS).await;
    let mut program = Program::start(&kms, TESTNET).await;
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let large = format!(r#"{{"data":"0x{}"}}"#, "00".repeat(2_000_000));
    let number = format!(r#"{{"nonce":1e{}}}"#, "9".repeat(400));
    for payload in [
        "[]",
        "\"\"",
        "true",
        "-1.5e300",
        " {} ",
        "[[{}]]",
        "",
        "{",
        "gas=1",
        "{\"\\u0000\":1}",
        &deep,
        &large,
        &number,
    ] {
        error(&program.invoke(payload, AMPLE_MS).await);
    }
    assert_eq!(kms.calls("Sign"), 0);
    assert!(program.invoke(&transfer(), AMPLE_MS).await["signed_tx"].is_object(), "the program still works");
}

#[tokio::test]
async fn public_key_is_read_once_and_each_request_signs_once() {
    let kms = Kms::start(Behaviour::LowS).await;
    let mut program = Program::start(&kms, TESTNET).await;
    for _ in 0..5 {
        program.invoke(&transfer(), AMPLE_MS).await;
    }
    assert_eq!((kms.calls("GetPublicKey"), kms.calls("Sign")), (1, 5));
}

#[tokio::test]
async fn kms_refusal_is_reported_and_the_next_request_is_signed() {
    let kms = Kms::start(Behaviour::LowS).await;
    let mut program = Program::start(&kms, TESTNET).await;
    for (behaviour, time_ms, code) in [
        (Behaviour::Throttles, AMPLE_MS, "throttled"),
        (Behaviour::Disabled, AMPLE_MS, "keyDisabled"),
        (Behaviour::Silent, 300, "kmsTimeout"),
    ] {
        kms.set(behaviour);
        assert_eq!(error(&program.invoke(&transfer(), time_ms).await).1, code);
    }
    kms.set(Behaviour::Throttles);
    let before = kms.calls("Sign");
    program.invoke(&transfer(), AMPLE_MS).await;
    assert_eq!(kms.calls("Sign") - before, 5, "a throttled call is retried within bounds");
    kms.set(Behaviour::ThrottlesOnce);
    assert!(program.invoke(&transfer(), AMPLE_MS).await["signed_tx"].is_object());
}

#[tokio::test]
async fn key_of_another_spec_prevents_the_start() {
    let kms = Kms::start(Behaviour::OtherSpec).await;
    let message = Program::start(&kms, TESTNET).await.refusal().await;
    assert!(message.contains("KMS_KEY_ID") && message.contains("ECC_SECG_P256K1"), "{message}");
}

#[tokio::test]
async fn debug_log_contains_no_calldata_and_no_signature() {
    let kms = Kms::start(Behaviour::LowS).await;
    let mut program = Program::start(&kms, [("CHAIN_ID", "97"), ("LOG_LEVEL", "debug")]).await;
    let answer = program.invoke(&transfer(), AMPLE_MS).await;
    let signed = &answer["signed_tx"];
    error(&program.invoke(r#"{"private_key":"0xdeadbeef","data":"0x5ca1ab1e"}"#, AMPLE_MS).await);
    let log = program.end().await;
    assert!(log.contains(signed["hash"].as_str().unwrap()), "the log names the signed transaction: {log}");
    for hidden in ["5ca1ab1e", "deadbeef"] {
        assert!(!log.contains(hidden), "{hidden} in {log}");
    }
    for hidden in ["r", "s", "rawTransaction"] {
        let digits = signed[hidden].as_str().unwrap().trim_start_matches("0x");
        assert!(!log.to_lowercase().contains(digits), "{hidden} in {log}");
    }
}

/// The lines of a log.
fn lines(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn with_message(lines: &[Value], message: &str) -> Vec<Value> {
    lines.iter().filter(|line| line["message"] == message).cloned().collect()
}

#[tokio::test]
async fn each_signature_is_logged_in_one_line() {
    let kms = Kms::start(Behaviour::HighS).await;
    let mut program = Program::start(&kms, [("ETH_NETWORK", "bsc-testnet"), ("SIGNPOST_POLICY", RULES)]).await;
    let answer = program.invoke(&transfer(), AMPLE_MS).await;
    let hash = format!("0x{}", hex::encode(kms.signed()));
    program.invoke("null", AMPLE_MS).await;
    let log = lines(&program.end().await);
    let [line] = &with_message(&log, "signed")[..] else { panic!("{log:?}") };
    let logged =
        ["level", "to", "value", "selector", "nonce", "signing_hash", "tx_hash", "kms_request_id", "request_id"];
    let logged = logged.map(|name| (name, line[name].clone()));
    let expected = [
        ("level", json!("INFO")),
        ("to", json!("0x3535353535353535353535353535353535353535")),
        ("value", json!("0")),
        ("selector", json!("0xa9059cbb")),
        ("nonce", json!(3)),
        ("signing_hash", json!(hash)),
        ("tx_hash", answer["signed_tx"]["hash"].clone()),
        ("kms_request_id", json!(KMS_REQUEST_ID)),
        ("request_id", json!(INVOCATION)),
    ];
    assert_eq!(logged, expected);
    let [refusal] = &with_message(&log, "nothing was signed")[..] else { panic!("{log:?}") };
    assert_eq!((&refusal["request_id"], &refusal["code"]), (&json!(INVOCATION), &json!("notAnObject")));
    assert!(log.iter().all(|line| line["level"] == "INFO"), "with a policy there is nothing to warn of: {log:?}");
}

#[tokio::test]
async fn start_without_a_policy_must_be_requested_and_warns() {
    let kms = Kms::start(Behaviour::LowS).await;
    let message = Program::start(&kms, [("CHAIN_ID", "97"), ("SIGNPOST_POLICY", "")]).await.refusal().await;
    assert!(message.contains("there is no policy") && message.contains("SIGNPOST_POLICY=none"), "{message}");
    assert_eq!(kms.calls("GetPublicKey"), 0);
    let mut program = Program::start(&kms, [("CHAIN_ID", "97"), ("LOG_LEVEL", "warning")]).await;
    program.invoke(&transfer(), AMPLE_MS).await;
    let log = lines(&program.end().await);
    let [warning] = &log[..] else { panic!("{log:?}") };
    assert!(warning["level"] == "WARN" && warning["message"].as_str().unwrap().contains("no policy"), "{warning}");
}
