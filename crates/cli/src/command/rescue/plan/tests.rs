//! Tests of the output for a record in each state.

use std::sync::Arc;

use signpost_host::config::{AuthorizationSource, Private, PrivateEndpoint, PrivateShape, SendTo};
use signpost_txmgr::ports::Finality;
use signpost_txmgr::record::{CancelCause, SendAnswer, SendClass, Sent, Waiting};
use signpost_txmgr::tx::{Fee, Intent, Signature, UnsignedTx};
use signpost_txmgr::units::{AccountKey, Address, ChainId, Digest, Gas, Millis};

use super::*;

const SECRET: &str = "topsecret";

fn chain(chain_id: u64) -> Chain {
    let url = |host: &str| format!("https://user:{SECRET}@{host}/{SECRET}?key={SECRET}");
    Chain {
        chain_id,
        rpc_urls: vec![url("one.example"), url("two.example")],
        send_to: SendTo::All,
        fee_floor_wei: 1,
        fee_ceiling_wei: None,
        private: None,
        finality: Finality::Finalized,
        two_verdicts: false,
        explorer_url: None,
    }
}

fn record(prices: &[u64], phase: Phase) -> Record {
    let intent = Intent {
        chain_id: ChainId(56),
        to: Some(Address([0xbb; 20])),
        value: Wei::from(1),
        data: Arc::from([1, 2, 3]),
        gas: Gas(30_000),
    };
    let attempt = |price: &u64| {
        let fee = Fee::Legacy { gas_price: Wei::from(*price) };
        let signature = Signature { r: [1; 32], s: [2; 32], y_odd: true };
        Attempt {
            kind: AttemptKind::Execute,
            to_self: Wei::ZERO,
            fee,
            signature,
            tx_hash: UnsignedTx { intent: &intent, nonce: Nonce(5), fee }.sign(&signature).hash,
            signed_at: Millis(0),
            kms_request_id: None,
            sent: Some(Sent { at: Millis(0), answer: SendAnswer::new(SendClass::Retry, "try later") }),
        }
    };
    Record {
        request_id: "pay-1".parse().unwrap(),
        digest: Digest([7; 32]),
        version: 1,
        account: AccountKey { chain_id: ChainId(56), address: Address([0xaa; 20]) },
        name: "hot".parse().unwrap(),
        nonce: Nonce(5),
        attempts: prices.iter().map(attempt).collect(),
        intent,
        fee: Fee::Legacy { gas_price: Wei::from(100) },
        fee_cap: Wei::from(130),
        deadline: None,
        acceptance: None,
        metadata: None,
        sender: None,
        message_id: None,
        trace: None,
        seal: None,
        capped_since: None,
        max_head_ms: None,
        cancel: None,
        inquiry: None,
        waiting: Some(Waiting { cause: WaitCause::Node, since: Millis(0) }),
        phase,
        created_at: Millis(0),
        updated_at: Millis(0),
    }
}

fn place(chain: &Chain) -> Place<'_> {
    Place { chain, config: None, is_paused: false, ahead: None }
}

#[test]
fn every_attempt_is_printed_per_node_without_its_url() {
    let (chain, record) = (chain(56), record(&[100, 110], Phase::Sent));
    let place = place(&chain);
    let plan = Plan::of(&record, &place);
    let text = plan.lines().join("\n");
    assert!(!text.contains(SECRET) && !plan.json().to_string().contains(SECRET), "{text}");
    for (number, attempt) in record.attempts.iter().enumerate() {
        let raw = hex::encode(record.raw(attempt).unwrap().bytes);
        assert_eq!(text.matches(&format!("RAW_{number}=0x{raw}")).count(), 1, "{text}");
        assert!(text.contains(&format!("https://bscscan.com/tx/{}", attempt.tx_hash)), "{text}");
        for node in 1..=2 {
            let end = format!(
                "\"$RAW_{number}\" | curl -sS -H 'content-type: application/json' --data-binary @- \"$BSC_RPC_{node}\""
            );
            assert_eq!(text.matches(&end).count(), 1, "{text}");
        }
    }
    assert!(text.contains("export BSC_RPC_2=…   # node 2 (two.example)"), "{text}");
    assert!(text.contains("waits for     node: no node has accepted it"), "{text}");
    assert!(text.contains("last answer: retry (\"try later\")"), "{text}");
    assert!(text.contains("raise price   signpost bump pay-1 --max-gas-price 121\n"), "{text}");
    assert!(text.ends_with("cancel        signpost cancel pay-1"), "{text}");
}

#[test]
fn json_has_complete_commands() {
    let (chain, record) = (chain(56), record(&[100], Phase::Sent));
    let place = place(&chain);
    let json = Plan::of(&record, &place).json();
    let (raw, curl) = (json["attempts"][0]["raw"].as_str().unwrap(), json["attempts"][0]["curl"][1].as_str().unwrap());
    assert!(raw.starts_with("0x") && curl.contains(raw) && curl.ends_with("\"$BSC_RPC_2\""), "{curl}");
    assert_eq!(json["bump"], "signpost bump pay-1 --max-gas-price 110");
    assert_eq!((&json["noBump"], &json["waitingFor"]["code"]), (&Value::Null, &json!("node")));
}

/// The shell runs what is printed, with a `curl` that shows what it was given.
#[test]
fn printed_command_sends_the_bytes_in_one_call() {
    let (chain, record) = (chain(56), record(&[100], Phase::Sent));
    let place = place(&chain);
    let lines = Plan::of(&record, &place).lines();
    let printed = lines.iter().filter(|line| line.starts_with("  RAW_0=") || line.contains("$BSC_RPC_1"));
    let script = format!(
        "curl() {{ cat; echo \" $*\"; }}\nBSC_RPC_1=http://node/key\n{}",
        printed.map(|line| line.trim()).collect::<Vec<_>>().join("\n")
    );
    let ran = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    let out = String::from_utf8(ran.stdout).unwrap();
    let (body, arguments) = out.split_once("} ").unwrap();
    let body: Value = serde_json::from_str(&format!("{body}}}")).unwrap();
    let raw = format!("0x{}", hex::encode(record.raw(&record.attempts[0]).unwrap().bytes));
    assert_eq!((&body["method"], &body["params"]), (&json!("eth_sendRawTransaction"), &json!([raw])));
    assert!(arguments.trim_end().ends_with("--data-binary @- http://node/key"), "{arguments}");
}

#[test]
fn impossible_command_gives_its_reason() {
    let chain = chain(56);
    let text = |record: &Record| Plan::of(record, &place(&chain)).lines().join("\n");
    let capped = text(&record(&[100, 110, 121], Phase::Sent));
    assert!(capped.contains("raise price   no: 134 is above the cap of pay-1, which is 130"), "{capped}");
    let cancelled = text(&Record { cancel: Some(CancelCause::Asked), ..record(&[100], Phase::Sent) });
    assert!(cancelled.contains("cancel        no: a cancel is already requested (asked)"), "{cancelled}");
}

#[test]
fn request_ahead_in_the_lane_is_shown() {
    let (chain, record) = (chain(56), record(&[100], Phase::Signed));
    let ahead = Some(Ahead { nonce: Nonce(3), id: "first-1".parse().unwrap() });
    let config = Some(Path::new("/etc/it's.toml"));
    let place = Place { chain: &chain, config, is_paused: true, ahead };
    let text = Plan::of(&record, &place).lines().join("\n");
    let rescue = r"signpost rescue first-1 --config '/etc/it'\''s.toml'";
    assert!(text.contains(&format!("behind        nonce 3, which must be mined first: {rescue}")), "{text}");
    assert!(text.contains("signpost account resume hot --config"), "{text}");
}

#[test]
fn explorer_link_depends_on_the_chain() {
    let page = |chain: Chain| {
        let record = record(&[100], Phase::Sent);
        Plan::of(&record, &place(&chain)).account_page()
    };
    let address = Address([0xaa; 20]);
    assert_eq!(page(chain(56)), Some(format!("https://bscscan.com/address/{address}")));
    assert_eq!(page(chain(97)), Some(format!("https://testnet.bscscan.com/address/{address}")));
    assert_eq!(page(chain(1337)), None);
    let own = Chain { explorer_url: Some("https://scan.example/".to_owned()), ..chain(1337) };
    assert_eq!(page(own), Some(format!("https://scan.example/address/{address}")));
}

#[test]
fn private_endpoints_lead_to_a_warning() {
    let authorization = AuthorizationSource::Value(SECRET.to_owned());
    let endpoint = PrivateEndpoint {
        url: SECRET.to_owned(),
        shape: PrivateShape::Bloxroute,
        authorization,
        mev_builders: Vec::new(),
    };
    let chain = Chain { private: Some(Private { only: true, endpoints: vec![endpoint] }), ..chain(56) };
    let record = record(&[100], Phase::Sent);
    let text = Plan::of(&record, &place(&chain)).lines().join("\n");
    assert!(
        text.contains("private_only is set: a public node shows what it receives") && !text.contains(SECRET),
        "{text}"
    );
}

#[test]
fn unsigned_request_shows_what_it_waits_for() {
    let unsigned = |waiting| super::super::unsigned(&Record { waiting, ..record(&[], Phase::Reserved) });
    assert!(unsigned(None).contains("it waits for signature: the signer has not signed it"), "{}", unsigned(None));
    let predecessor = Some(Waiting { cause: WaitCause::Predecessor, since: Millis(0) });
    assert!(unsigned(predecessor).contains("pay-1 is not signed yet"), "{}", unsigned(predecessor));
    assert!(unsigned(predecessor).contains("waits for predecessor: "), "{}", unsigned(predecessor));
}

#[test]
fn bytes_with_a_wrong_hash_are_not_printed() {
    let chain = chain(56);
    let mut record = record(&[100], Phase::Sent);
    record.attempts[0].tx_hash = signpost_txmgr::units::TxHash([9; 32]);
    let text = Plan::of(&record, &place(&chain)).lines().join("\n");
    assert!(!text.contains("RAW_0=") && text.contains("signpost audit"), "{text}");
}
