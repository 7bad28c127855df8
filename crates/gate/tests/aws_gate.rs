//! The AWS gate in front of a stub with fixed answers, and in front of the real ministack, both called with the real
//! AWS SDK.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use aws_sdk_kms::operation::sign::SignError;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeySpec, KeyUsageType, MessageType, SigningAlgorithmSpec};
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use signpost_aws::kms::KmsKeys;
use signpost_aws::repeat::Backoff;
use signpost_aws::sns::SnsOutcomeTopic;
use signpost_cli::aws::{Target, connect};
use signpost_cli::stack::servers::{LocalStack, Options};
use signpost_cli::stack::setup;
use signpost_gate::aws::{AwsFault, AwsGate, AwsGateConfig};
use signpost_gate::script::{Rule, Script};
use signpost_txmgr::ports::{Happened, Keys as _};
use signpost_txmgr::publish;
use signpost_txmgr::units::{KmsKeyId, SigningHash};
use signpost_txmgr::wire::OutcomeMessage;

/// The SDK's clients without retries.
struct Clients {
    dynamodb: aws_sdk_dynamodb::Client,
    kms: aws_sdk_kms::Client,
    sqs: aws_sdk_sqs::Client,
    sns: aws_sdk_sns::Client,
    /// A client with retries.
    patient_kms: aws_sdk_kms::Client,
}

async fn clients(endpoint: &str) -> Clients {
    let target = Target { endpoint: Some(endpoint.to_owned()), region: Some("us-east-1".to_owned()) };
    let patient = connect(&target).await;
    let sdk = patient.to_builder().retry_config(RetryConfig::disabled()).build();
    Clients {
        dynamodb: aws_sdk_dynamodb::Client::new(&sdk),
        kms: aws_sdk_kms::Client::new(&sdk),
        sqs: aws_sdk_sqs::Client::new(&sdk),
        sns: aws_sdk_sns::Client::new(&sdk),
        patient_kms: aws_sdk_kms::Client::new(&patient),
    }
}

/// A server that records every call and answers with success.
#[derive(Clone, Default)]
struct Stub {
    asked: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Stub {
    async fn gate(&self) -> (AwsGate, Clients) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let gate = AwsGate::start(AwsGateConfig::new(&url)).await.unwrap();
        let clients = clients(&gate.url()).await;
        (gate, clients)
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

async fn answer(State(stub): State<Stub>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").map(|target| target.to_str().unwrap().to_owned());
    stub.asked.lock().unwrap().push((headers, body));
    let body = match target.as_deref() {
        Some("TrentService.Sign") => json!({ "KeyId": "k", "Signature": "MAA=", "SigningAlgorithm": "ECDSA_SHA_256" }),
        Some("TrentService.Teapot") => {
            return (StatusCode::IM_A_TEAPOT, [("x-own", "kept")], "short and stout").into_response();
        }
        _ => json!({}),
    };
    ([("content-type", "application/x-amz-json-1.1")], body.to_string()).into_response()
}

fn put(table: &str) -> TransactWriteItem {
    let put = Put::builder().table_name(table).item("id", AttributeValue::S("1".to_owned())).build().unwrap();
    TransactWriteItem::builder().put(put).build()
}

async fn transact(clients: &Clients) -> Result<(), SdkError<TransactWriteItemsError>> {
    let items = vec![put("a"), put("b"), put("c")];
    clients.dynamodb.transact_write_items().set_transact_items(Some(items)).send().await.map(|_| ())
}

async fn put_item(clients: &Clients) -> Result<(), SdkError<PutItemError>> {
    let id = AttributeValue::S("1".to_owned());
    clients.dynamodb.put_item().table_name("a").item("id", id).send().await.map(|_| ())
}

async fn sign(kms: &aws_sdk_kms::Client) -> Result<(), SdkError<SignError>> {
    kms.sign()
        .key_id("k")
        .message(Blob::new([7; 32]))
        .message_type(MessageType::Digest)
        .signing_algorithm(SigningAlgorithmSpec::EcdsaSha256)
        .send()
        .await
        .map(|_| ())
}

#[tokio::test]
async fn traffic_passes_unchanged_without_a_fault() {
    let stub = Stub::default();
    let (gate, _) = stub.gate().await;
    let response = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .post(gate.url())
        .header("x-amz-target", "TrentService.Teapot")
        .header("authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/kms/aws4_request")
        .header("host", "kms.us-east-1.amazonaws.com")
        .body("{\"a\":1.50}")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 418);
    assert_eq!(response.headers()["x-own"], "kept");
    assert_eq!(response.text().await.unwrap(), "short and stout");
    let (headers, body) = stub.asked.lock().unwrap().pop().unwrap();
    assert_eq!(headers["host"], "kms.us-east-1.amazonaws.com");
    assert!(headers["authorization"].to_str().unwrap().ends_with("us-east-1/kms/aws4_request"));
    assert_eq!(&body[..], b"{\"a\":1.50}");
    let stats = gate.control().stats();
    assert_eq!(stats.calls, BTreeMap::from([("kms:Teapot".to_owned(), 1)]));
    assert!(stats.succeeded.is_empty());
}

#[tokio::test]
async fn conflict_names_the_item_and_has_no_effect() {
    let stub = Stub::default();
    let (gate, clients) = stub.gate().await;
    let mut rule = Rule::new(AwsFault::TransactionConflict).times(1);
    rule.item = Some(1);
    gate.control().set(rule);
    let error = transact(&clients).await.unwrap_err().into_service_error();
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = &error else {
        panic!("{error:?}");
    };
    let reasons = cancelled.cancellation_reasons();
    let codes: Vec<_> = reasons.iter().map(|reason| reason.code().unwrap()).collect();
    assert_eq!(codes, ["None", "TransactionConflict", "None"]);
    assert_eq!(reasons[1].message(), Some("Transaction is ongoing for the item"));
    let words = "Transaction cancelled, please refer cancellation reasons for specific reasons \
        [None, TransactionConflict, None]";
    assert_eq!(cancelled.message(), Some(words));
    assert_eq!(stub.count(), 0);
    assert!(transact(&clients).await.is_ok(), "once only");

    gate.control().set(Rule::new(AwsFault::TransactionConflict).methods(&["PutItem"]));
    let error = put_item(&clients).await.unwrap_err().into_service_error();
    assert!(error.is_transaction_conflict_exception(), "{error:?}");
    assert!(transact(&clients).await.is_ok(), "only where the rule says");
}

#[tokio::test]
async fn each_service_has_its_own_throttling_error() {
    let stub = Stub::default();
    let (gate, clients) = stub.gate().await;
    let url = "http://127.0.0.1/000000000000/q";
    let code = async |fault: AwsFault| {
        gate.control().set(Rule::new(fault));
        let code = |code: Option<&str>| code.unwrap_or("none").to_owned();
        let receive = clients.sqs.receive_message().queue_url(url).send().await.unwrap_err().into_service_error();
        let publish = clients.sns.publish().topic_arn("arn:aws:sns:us-east-1:0:t").message("m").send().await;
        [
            code(put_item(&clients).await.unwrap_err().into_service_error().code()),
            code(sign(&clients.kms).await.unwrap_err().into_service_error().code()),
            code(receive.code()),
            code(publish.unwrap_err().into_service_error().code()),
        ]
    };
    assert_eq!(
        code(AwsFault::Throttle).await,
        ["ThrottlingException", "ThrottlingException", "RequestThrottled", "Throttling"]
    );
    assert_eq!(
        code(AwsFault::Http500).await,
        ["InternalServerError", "KMSInternalException", "InternalFailure", "InternalError"]
    );
    let unavailable = code(AwsFault::Http503).await;
    assert_eq!(
        unavailable,
        ["ServiceUnavailableException", "ServiceUnavailableException", "ServiceUnavailable", "ServiceUnavailable"]
    );
    gate.control().set(Rule::new(AwsFault::NoCapacity));
    let error = put_item(&clients).await.unwrap_err().into_service_error();
    assert!(error.is_provisioned_throughput_exceeded_exception(), "{error:?}");
    assert!(sign(&clients.kms).await.is_ok(), "KMS has no capacity fault");
    gate.control().set(Rule::new(AwsFault::Error).methods(&["kms:*"]).error("DisabledException", "k is disabled."));
    let error = sign(&clients.kms).await.unwrap_err().into_service_error();
    assert!(matches!(&error, SignError::DisabledException(_)), "{error:?}");
    assert_eq!(stub.count(), 1, "only one signature passed");
}

#[tokio::test]
async fn call_takes_effect_although_its_reply_is_lost() {
    let stub = Stub::default();
    let (gate, clients) = stub.gate().await;
    gate.control().set(Rule::new(AwsFault::ReplyLost));
    let error = sign(&clients.kms).await.unwrap_err();
    assert!(matches!(&error, SdkError::DispatchFailure(_)), "{error:?}");
    assert_eq!(gate.control().stats().succeeded["kms:Sign"], 1, "it was signed");
    assert!(matches!(transact(&clients).await, Err(SdkError::DispatchFailure(_))));
    assert!(matches!(put_item(&clients).await, Err(SdkError::DispatchFailure(_))));
    assert_eq!(stub.count(), 3);
    let read = clients.dynamodb.get_item().table_name("a").key("id", AttributeValue::S("1".to_owned())).send().await;
    assert!(read.is_ok(), "a read has no effect");

    gate.control().set(Rule::new(AwsFault::Http500AfterForward).times(1));
    assert!(transact(&clients).await.is_err());
    assert_eq!(stub.count(), 5);

    gate.control().set(Rule::new(AwsFault::ResetBeforeForward));
    assert!(matches!(sign(&clients.kms).await, Err(SdkError::DispatchFailure(_))));
    assert_eq!(stub.count(), 5, "this call had no effect");
}

#[tokio::test]
async fn sdk_retry_signs_again_after_a_lost_reply() {
    let stub = Stub::default();
    let (gate, clients) = stub.gate().await;
    gate.control().set(Rule::new(AwsFault::ReplyLost).times(1));
    assert!(sign(&clients.patient_kms).await.is_ok());
    assert_eq!(gate.control().stats().succeeded["kms:Sign"], 2);
}

#[tokio::test]
async fn adapter_distinguishes_the_faults() {
    let (gate, clients) = Stub::default().gate().await;
    let keys = KmsKeys::with_client(clients.kms, Backoff { tries: 2, first_ms: 1, max_ms: 1 });
    let key: KmsKeyId = "k".parse().unwrap();
    let outcome = async |rule: Rule<AwsFault>| {
        gate.control().set(rule);
        let error = keys.sign(&key, &SigningHash([7; 32])).await.err()?;
        Some((error.call.happened, error.call.throttled))
    };
    let disabled = Rule::new(AwsFault::Error).error("DisabledException", "k is disabled.");
    for (rule, expected) in [
        (Rule::new(AwsFault::Throttle), Some((Happened::No, true))),
        (disabled, Some((Happened::No, false))),
        (Rule::new(AwsFault::ReplyLost), Some((Happened::Unknown, false))),
        (Rule::new(AwsFault::Http500AfterForward), Some((Happened::Unknown, false))),
        (Rule::new(AwsFault::ReplyLost).times(1), None),
        (Rule::new(AwsFault::Throttle).times(1), None),
    ] {
        assert_eq!(outcome(rule.clone()).await, expected, "{rule:?}");
    }
    assert_eq!(gate.control().stats().succeeded["kms:Sign"], 7);
}

#[tokio::test]
async fn call_takes_effect_although_its_caller_gives_up() {
    let stub = Stub::default();
    let (gate, clients) = stub.gate().await;
    gate.control().set(Rule::new(AwsFault::TimeoutAfterForward).delay_ms(1));
    assert!(sign(&clients.kms).await.is_err());
    assert_eq!(stub.count(), 1);
    gate.control().set(Rule::new(AwsFault::TimeoutBeforeForward).delay_ms(1));
    assert!(sign(&clients.kms).await.is_err());
    assert_eq!(stub.count(), 1);
    gate.control().set(Rule::new(AwsFault::Slow).delay_ms(1));
    assert!(sign(&clients.kms).await.is_ok());
}

#[tokio::test]
async fn most_calls_succeed_with_all_faults_set_over_http() {
    let stub = Stub::default();
    let (gate, clients) = stub.gate().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let script = json!({ "seed": 5, "faults": "all" });
    let set = http.post(format!("{}/_gate/script", gate.url())).json(&script).send().await.unwrap();
    assert_eq!(set.status(), 200);
    let mut script = Script::<AwsFault>::all(5);
    script.rules.retain(|rule| !format!("{:?}", rule.fault).starts_with("Timeout"));
    gate.control().set(script);
    let mut fine = 0;
    for _ in 0..100 {
        fine += usize::from(transact(&clients).await.is_ok());
    }
    assert!((60..100).contains(&fine), "{fine}");
    let stats: Value = http.get(format!("{}/_gate/stats", gate.url())).send().await.unwrap().json().await.unwrap();
    assert_eq!(stats["calls"]["dynamodb:TransactWriteItems"], 100);
    assert_eq!(stats["succeeded"]["dynamodb:TransactWriteItems"], stub.count());
    assert!(stub.count() > fine, "some calls took effect without an answer");
}

#[tokio::test]
async fn permanently_refused_entries_are_removed_and_reported() {
    let stub = Stub::default();
    let (gate, clients) = stub.gate().await;
    gate.control().set(Rule::new(AwsFault::RefusedForGood).containing("bad"));
    let send = async |bodies: &[&str]| {
        let entry = |(at, body): (usize, &&str)| {
            SendMessageBatchRequestEntry::builder().id(at.to_string()).message_body(*body).build().unwrap()
        };
        let entries = bodies.iter().enumerate().map(entry).collect();
        let call = clients.sqs.send_message_batch().queue_url("http://127.0.0.1/000000000000/q");
        call.set_entries(Some(entries)).send().await
    };
    for _ in 0..2 {
        let failed = send(&["good", "a bad one", "good"]).await.unwrap().failed;
        let [failed] = failed.as_slice() else { panic!("{failed:?}") };
        assert_eq!((failed.id(), failed.code(), failed.sender_fault), ("1", "InvalidMessageContents", true));
    }
    assert!(send(&["good"]).await.unwrap().failed.is_empty());
    let seen: Value = serde_json::from_slice(&stub.asked.lock().unwrap()[0].1).unwrap();
    assert_eq!(seen["Entries"].as_array().unwrap().len(), 2);
    assert_eq!(stub.count(), 3);
    assert_eq!(send(&["bad", "bad too"]).await.unwrap().failed.len(), 2);
    assert_eq!(stub.count(), 3, "nothing is left to forward");
    gate.control().set(Script::parse(&json!({ "fault": "refusedForGood", "contains": "bad", "status": 400 })).unwrap());
    let error = send(&["good", "bad"]).await.unwrap_err().into_service_error();
    assert_eq!(error.code(), Some("InvalidMessageContents"), "the whole call");
    assert!(send(&["good"]).await.is_ok());
}

/// The real emulator behind the gate.
async fn ministack() -> (LocalStack, AwsGate, Clients) {
    let tools = tokio::task::spawn_blocking(setup::install).await.unwrap().unwrap();
    let stack = LocalStack::start(&tools, &Options::default()).await.unwrap();
    let gate = AwsGate::start(AwsGateConfig::new(&stack.aws_endpoint)).await.unwrap();
    let clients = clients(&gate.url()).await;
    (stack, gate, clients)
}

#[tokio::test]
async fn permanently_refused_outcome_arrives_reduced() {
    let (stack, gate, clients) = ministack().await;
    let (sns, sqs) = (&clients.sns, &clients.sqs);
    let arn = sns.create_topic().name("outcomes").send().await.unwrap().topic_arn.unwrap();
    let url = sqs.create_queue().queue_name("s").send().await.unwrap().queue_url.unwrap();
    let subscribe = sns.subscribe().topic_arn(&arn).protocol("sqs").endpoint("arn:aws:sqs:us-east-1:000000000000:s");
    subscribe.attributes("RawMessageDelivery", "true").send().await.unwrap();
    let outcome = |id: &str, memo: &str| -> OutcomeMessage {
        serde_json::from_value(json!({ "schema": "outcome.v1", "eventId": id, "requestId": id, "status": "rejected",
            "reason": { "code": "notJson", "message": "the body is not JSON" }, "metadata": { "memo": memo } }))
        .unwrap()
    };
    let published = [outcome("a", "fine"), outcome("b", "foul"), outcome("c", "fine")];
    gate.control().set(Rule::new(AwsFault::RefusedForGood).containing("foul"));
    let backoff = Backoff { tries: 1, first_ms: 0, max_ms: 0 };
    let topic = SnsOutcomeTopic::with_client(sns.clone(), &arn, backoff);
    for answer in publish::all(&topic, &published).await {
        answer.unwrap();
    }
    let mut arrived = BTreeMap::new();
    while arrived.len() < 3 {
        let received = sqs.receive_message().queue_url(&url).max_number_of_messages(10).wait_time_seconds(5).send();
        for message in received.await.unwrap().messages.expect("they arrive within seconds") {
            let outcome: OutcomeMessage = serde_json::from_str(message.body().unwrap()).unwrap();
            arrived.insert(outcome.event_id.clone(), outcome);
        }
    }
    assert_eq!(arrived["a"], published[0]);
    assert_eq!(arrived["b"], published[1].reduced());
    assert_eq!(arrived["c"], published[2]);
    stack.stop().await;
}

#[tokio::test]
async fn ministack_works_through_the_gate_with_duplicate_delivery() {
    let (stack, gate, clients) = ministack().await;
    let (around, sqs) = (self::clients(&stack.aws_endpoint).await.sqs, &clients.sqs);
    let url = sqs.create_queue().queue_name("q").send().await.unwrap().queue_url.unwrap();
    assert!(url.starts_with(&gate.url()), "a queue made through the gate has the gate's address: {url}");
    let direct = around.get_queue_url().queue_name("q").send().await.unwrap().queue_url.unwrap();
    assert_ne!(direct, url);

    // Both addresses work, and a long poll waits.
    sqs.send_message().queue_url(&direct).message_body("one").send().await.unwrap();
    gate.control().set(Rule::new(AwsFault::DuplicateDelivery).times(1));
    let receive = async |url: &str| {
        let received = sqs.receive_message().queue_url(url).wait_time_seconds(1).visibility_timeout(60).send().await;
        received.unwrap().messages.unwrap_or_default().pop()
    };
    let first = receive(&url).await.unwrap();
    let second = receive(&direct).await.expect("again");
    assert_eq!(first.message_id, second.message_id);
    assert_ne!(first.receipt_handle, second.receipt_handle);
    assert!(receive(&url).await.is_none(), "twice, not three times");
    // Both handles delete, as on SQS.
    let old = sqs.delete_message().queue_url(&url).receipt_handle(first.receipt_handle.unwrap()).send().await;
    assert!(old.is_ok(), "{old:?}");
    let new = sqs.delete_message().queue_url(&url).receipt_handle(second.receipt_handle.unwrap()).send().await;
    assert!(new.is_ok(), "{new:?}");
    let wrong = sqs.delete_message().queue_url(&url).receipt_handle("nonsense").send().await;
    assert!(wrong.is_err(), "other handles are still checked");

    // A FIFO queue delivers once.
    gate.control().set(Rule::new(AwsFault::DuplicateDelivery));
    let fifo = sqs.create_queue().queue_name("q.fifo").attributes(QueueAttributeName::FifoQueue, "true");
    let fifo = fifo.send().await.unwrap().queue_url.unwrap();
    let send =
        sqs.send_message().queue_url(&fifo).message_body("m").message_group_id("g").message_deduplication_id("d");
    send.send().await.unwrap();
    assert!(receive(&fifo).await.is_some());
    assert!(receive(&fifo).await.is_none());
    assert_eq!(gate.control().stats().faults["duplicateDelivery"], 1);
    stack.stop().await;
}

#[tokio::test]
async fn key_that_is_not_enabled_has_no_public_key() {
    let (stack, _gate, clients) = ministack().await;
    let kms = &clients.kms;
    let made = kms.create_key().key_spec(KeySpec::EccSecgP256K1).key_usage(KeyUsageType::SignVerify).send().await;
    let key = made.unwrap().key_metadata.unwrap().key_id;
    let code = async || {
        let answer = kms.get_public_key().key_id(&key).send().await;
        answer.map(|_| ()).map_err(|error| error.code().unwrap_or_default().to_owned())
    };
    assert_eq!(code().await, Ok(()));
    kms.disable_key().key_id(&key).send().await.unwrap();
    assert_eq!(code().await, Err("DisabledException".to_owned()));
    kms.enable_key().key_id(&key).send().await.unwrap();
    assert_eq!(code().await, Ok(()));
    kms.schedule_key_deletion().key_id(&key).pending_window_in_days(7).send().await.unwrap();
    assert_eq!(code().await, Err("KMSInvalidStateException".to_owned()));
    stack.stop().await;
}
