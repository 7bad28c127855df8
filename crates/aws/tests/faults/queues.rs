//! Batches of SQS and SNS: limits, partial failures, and the fields of a received message.

use std::time::Duration;

use serde_json::{Value, json};
use signpost_aws::receiver::Receiver;
use signpost_aws::sns::SnsOutcomeTopic;
use signpost_aws::sqs::{SqsBroadcastQueue, SqsResignQueue};
use signpost_txmgr::ports::{BroadcastQueue as _, Happened, OutcomeTopic as _, ResignQueue as _};
use signpost_txmgr::publish;
use signpost_txmgr::wire::{LanePoke, OutcomeMessage, SignerPoke, Status, WireKind};

use crate::script::{Asked, IMPATIENT, Script, Step};

const URL: &str = "https://sqs.eu-central-1.amazonaws.com/1/broadcast.fifo";

fn lanes(count: usize) -> Vec<LanePoke> {
    (0..count).map(|at| LanePoke { account: format!("97:0x{at:040x}"), cause: "signed".to_owned() }).collect()
}

fn queue(script: &Script, url: &str) -> SqsBroadcastQueue {
    SqsBroadcastQueue::with_client(aws_sdk_sqs::Client::new(&script.sdk()), url, IMPATIENT)
}

/// All entries were accepted except these: id, code, and whether the fault is the sender's.
fn accepted_except(failed: &[(&str, &str, bool)]) -> Step {
    let failed: Vec<Value> = failed
        .iter()
        .map(|(id, code, ours)| json!({ "Id": id, "Code": code, "SenderFault": ours, "Message": "no" }))
        .collect();
    Step::ok(json!({ "Successful": [], "Failed": failed }))
}

fn bodies(asked: &Asked) -> Vec<String> {
    let entries = asked.json()["Entries"].clone();
    entries.as_array().unwrap().iter().map(|entry| entry["MessageBody"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn pokes_go_ten_at_a_time_grouped_by_account() {
    let script = Script::new([accepted_except(&[]), accepted_except(&[]), accepted_except(&[])]);
    queue(&script, URL).poke_lanes(&lanes(23)).await.unwrap();
    let asked = script.asked();
    assert_eq!(asked.iter().map(|asked| bodies(asked).len()).collect::<Vec<_>>(), [10, 10, 3]);
    let entry = asked[0].json()["Entries"][1].clone();
    assert_eq!(entry["MessageGroupId"], format!("97:0x{:040x}", 1));
    assert_eq!(entry["MessageDeduplicationId"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn pokes_with_different_causes_are_different_messages() {
    let script = Script::new([accepted_except(&[])]);
    let poke = |cause: &str| SignerPoke {
        account: "97:0x00".to_owned(),
        request_id: "r-1".to_owned(),
        attempt: 0,
        kind: WireKind::Execute,
        fee: None,
        to_self: 0,
        cause: cause.to_owned(),
    };
    let client = aws_sdk_sqs::Client::new(&script.sdk());
    let queue = SqsResignQueue::with_client(client, URL, IMPATIENT);
    queue.poke_signer(&[poke("a"), poke("b"), poke("a")]).await.unwrap();
    let entries = script.asked()[0].json()["Entries"].clone();
    let id = |at: usize| entries[at]["MessageDeduplicationId"].clone();
    assert_ne!(id(0), id(1));
    assert_eq!(id(0), id(2));
}

#[tokio::test]
async fn standard_queue_gets_no_group() {
    let script = Script::new([accepted_except(&[])]);
    queue(&script, "https://sqs.eu-central-1.amazonaws.com/1/broadcast").poke_lanes(&lanes(1)).await.unwrap();
    let entry = script.asked()[0].json()["Entries"][0].clone();
    assert_eq!((&entry["MessageGroupId"], &entry["MessageDeduplicationId"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn no_pokes_make_no_call() {
    let script = Script::new([]);
    queue(&script, URL).poke_lanes(&[]).await.unwrap();
    assert!(script.asked().is_empty());
}

#[tokio::test]
async fn only_entries_that_were_not_accepted_are_sent_again() {
    let script = Script::new([
        accepted_except(&[("0", "InternalError", false), ("3", "ThrottlingException", true)]),
        accepted_except(&[("1", "InternalError", false)]),
        accepted_except(&[]),
    ]);
    queue(&script, URL).poke_lanes(&lanes(4)).await.unwrap();
    let asked = script.asked();
    let first = bodies(&asked[0]);
    assert_eq!(bodies(&asked[1]), [first[0].clone(), first[3].clone()]);
    assert_eq!(bodies(&asked[2]), [first[3].clone()]);
}

#[tokio::test]
async fn entry_with_sender_fault_is_not_sent_again() {
    let script = Script::new([accepted_except(&[("1", "InvalidMessageContents", true)])]);
    let error = queue(&script, URL).poke_lanes(&lanes(2)).await.unwrap_err();
    assert_eq!((error.happened, error.throttled), (Happened::No, false));
    assert!(error.source.to_string().contains("InvalidMessageContents"), "{}", error.source);
    script.asked();
}

#[tokio::test]
async fn failing_batch_is_an_error_after_bounded_tries() {
    let script = Script::new([Step::Lost, Step::Refused, Step::Refused]);
    let error = queue(&script, URL).poke_lanes(&lanes(2)).await.unwrap_err();
    assert_eq!((error.happened, error.operation), (Happened::Unknown, "SendMessageBatch"));
    let throttled = || Step::error(400, "RequestThrottled");
    let script = Script::new([throttled(), throttled(), throttled()]);
    let error = queue(&script, URL).poke_lanes(&lanes(2)).await.unwrap_err();
    assert_eq!((error.happened, error.throttled), (Happened::No, true));
}

#[tokio::test]
async fn received_message_has_its_sender_and_hides_its_body() {
    let message = json!({
        "MessageId": "m-1", "ReceiptHandle": "h-1", "Body": "{\"privateKey\":\"0x1\"}",
        "Attributes": {
            "SenderId": "AIDA", "MessageGroupId": "g", "ApproximateReceiveCount": "3", "AWSTraceHeader": "Root=1-2",
        },
        "MessageAttributes": { "traceparent": { "StringValue": "00-1", "DataType": "String" } },
    });
    let script = Script::new([Step::ok(json!({ "Messages": [message] }))]);
    let receiver = Receiver::with_client(aws_sdk_sqs::Client::new(&script.sdk()), URL, IMPATIENT);
    let received = receiver.receive(10, Duration::from_mins(1), Some(Duration::from_secs(30))).await.unwrap();
    let message = &received[0];
    assert_eq!((message.sender.as_deref(), message.group.as_deref()), (Some("AIDA"), Some("g")));
    assert_eq!((message.receives, message.trace.as_deref()), (3, Some("00-1")));
    assert!(!format!("{message:?}").contains("privateKey"));
    let asked = script.asked();
    let body = asked[0].json();
    assert_eq!((&body["WaitTimeSeconds"], &body["VisibilityTimeout"]), (&json!(20), &json!(30)));
    assert_eq!(body["ReceiveRequestAttemptId"].as_str().unwrap().len(), 32);
}

#[tokio::test]
async fn fifo_receive_is_repeated_with_the_same_attempt_id() {
    let script = Script::new([Step::Lost, Step::ok("{}"), Step::ok("{}")]);
    let receiver = Receiver::with_client(aws_sdk_sqs::Client::new(&script.sdk()), URL, IMPATIENT);
    assert!(receiver.receive(1, Duration::ZERO, None).await.unwrap().is_empty());
    assert!(receiver.receive(1, Duration::ZERO, None).await.unwrap().is_empty());
    let ids: Vec<Value> = script.asked().iter().map(|asked| asked.json()["ReceiveRequestAttemptId"].clone()).collect();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[1], ids[2]);
}

#[tokio::test]
async fn each_acknowledgement_has_its_own_answer() {
    let script = Script::new([accepted_except(&[("1", "ReceiptHandleIsInvalid", true)]), accepted_except(&[])]);
    let receiver = Receiver::with_client(aws_sdk_sqs::Client::new(&script.sdk()), URL, IMPATIENT);
    let answers = receiver.delete(&["a", "b", "c"]).await;
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    let answers = receiver.set_visibility(&["a"], Duration::ZERO).await;
    assert!(answers[0].is_ok());
    assert_eq!(script.asked()[1].json()["Entries"][0]["VisibilityTimeout"], json!(0));
}

fn outcome(at: usize, account: Option<&str>, bytes: usize) -> OutcomeMessage {
    OutcomeMessage {
        schema: OutcomeMessage::SCHEMA.to_owned(),
        event_id: format!("event-{at}"),
        request_id: format!("r-{at}"),
        status: Status::Confirmed,
        digest: None,
        account: account.map(str::to_owned),
        chain_id: account.map(|_| 97),
        from: None,
        nonce: None,
        tx_hash: None,
        block_number: None,
        block_hash: None,
        gas_used: None,
        effective_gas_price: None,
        witnesses: None,
        contract_address: None,
        reason: None,
        metadata: Some(json!("x".repeat(bytes))),
        sender: None,
        message_id: None,
        settled_at: Some(1),
        reduced: false,
        trace: None,
    }
}

fn topic(script: &Script, arn: &str) -> SnsOutcomeTopic {
    SnsOutcomeTopic::with_client(aws_sdk_sns::Client::new(&script.sdk()), arn, IMPATIENT)
}

/// The same for SNS, which answers in XML.
fn published_except(failed: &[(&str, &str, bool)]) -> Step {
    let failed: String = failed
        .iter()
        .map(|(id, code, ours)| {
            format!("<member><Id>{id}</Id><Code>{code}</Code><Message>no</Message><SenderFault>{ours}</SenderFault></member>")
        })
        .collect();
    Step::ok(format!(
        "<PublishBatchResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishBatchResult>\
         <Successful/><Failed>{failed}</Failed></PublishBatchResult></PublishBatchResponse>"
    ))
}

fn count(asked: &Asked) -> usize {
    asked.body.matches(".Message=").count()
}

#[tokio::test]
async fn outcomes_have_the_attributes_that_subscribers_filter_by() {
    let script = Script::new([published_except(&[])]);
    let answers =
        topic(&script, "arn:aws:sns:eu-central-1:1:outcomes.fifo").publish(&[outcome(1, Some("97:0x0a"), 1)]).await;
    assert!(answers[0].is_ok());
    let body = &script.asked()[0].body;
    for part in [
        "Name=status&",
        "StringValue=confirmed&",
        "Name=account&",
        "StringValue=97%3A0x0a&",
        "Name=chainId&",
        "DataType=Number&",
        "StringValue=97&",
        "MessageGroupId=97%3A0x0a",
        "MessageDeduplicationId=event-1",
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
}

#[tokio::test]
async fn outcome_without_an_account_has_its_own_group() {
    let script = Script::new([published_except(&[]), published_except(&[])]);
    topic(&script, "arn:aws:sns:eu-central-1:1:outcomes.fifo").publish(&[outcome(7, None, 1)]).await.remove(0).unwrap();
    topic(&script, "arn:aws:sns:eu-central-1:1:outcomes").publish(&[outcome(7, None, 1)]).await.remove(0).unwrap();
    let asked = script.asked();
    assert!(asked[0].body.contains("MessageGroupId=r-7"));
    assert!(!asked[0].body.contains("chainId%22%2C") && !asked[0].body.contains("Name=chainId"));
    assert!(!asked[1].body.contains("MessageGroupId"));
}

#[tokio::test]
async fn outcomes_go_ten_at_a_time_within_256_kib() {
    let script = Script::new((0..3).map(|_| published_except(&[])));
    let small: Vec<OutcomeMessage> = (0..23).map(|at| outcome(at, None, 10)).collect();
    let answers = topic(&script, "arn:aws:sns:eu-central-1:1:outcomes").publish(&small).await;
    assert_eq!((answers.len(), answers.iter().filter(|answer| answer.is_ok()).count()), (23, 23));
    assert_eq!(script.asked().iter().map(count).collect::<Vec<_>>(), [10, 10, 3]);

    let script = Script::new((0..3).map(|_| published_except(&[])));
    let large: Vec<OutcomeMessage> = (0..5).map(|at| outcome(at, None, 100_000)).collect();
    topic(&script, "arn:aws:sns:eu-central-1:1:outcomes").publish(&large).await;
    assert_eq!(script.asked().iter().map(count).collect::<Vec<_>>(), [2, 2, 1]);
}

#[tokio::test]
async fn each_outcome_has_its_own_answer() {
    let script = Script::new([
        published_except(&[("0", "InternalError", false), ("2", "InvalidParameter", true)]),
        published_except(&[("0", "InternalError", false)]),
        published_except(&[("0", "InternalError", false)]),
    ]);
    let outcomes: Vec<OutcomeMessage> = (0..3).map(|at| outcome(at, None, 10)).collect();
    let answers = topic(&script, "arn:aws:sns:eu-central-1:1:outcomes").publish(&outcomes).await;
    assert_eq!(answers[0].as_ref().unwrap_err().happened, Happened::Unknown);
    assert!(answers[1].is_ok());
    let refused = answers[2].as_ref().unwrap_err();
    assert!(refused.happened == Happened::No && refused.is_refused_for_good(), "{refused:?}");
    assert_eq!(script.asked().iter().map(count).collect::<Vec<_>>(), [3, 1, 1]);
}

/// SNS refuses the whole call.
fn refused_call(code: &str) -> Step {
    let error = format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>no\u{9b}2J</Message></Error>");
    Step::Answer(400, format!("<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>"))
}

const TOPIC: &str = "arn:aws:sns:eu-central-1:1:outcomes";

#[tokio::test]
async fn refused_publish_call_is_repeated_for_each_entry() {
    let taken = || published_except(&[]);
    let script = Script::new([refused_call("BatchRequestTooLong"), taken(), refused_call("InvalidParameter"), taken()]);
    let outcomes: Vec<OutcomeMessage> = (0..3).map(|at| outcome(at, None, 10)).collect();
    let answers = topic(&script, TOPIC).publish(&outcomes).await;
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    let refused = answers[1].as_ref().unwrap_err();
    assert!(refused.is_refused_for_good(), "{refused:?}");
    assert!(refused.source.to_string().ends_with("InvalidParameter: no\\u{9b}2J"), "{}", refused.source);
    assert_eq!(script.asked().iter().map(count).collect::<Vec<_>>(), [3, 1, 1, 1]);
}

#[tokio::test]
async fn missing_permission_is_not_a_fault_of_the_contents() {
    let denied = || refused_call("AuthorizationError");
    let script = Script::new([denied()]);
    let answers = topic(&script, TOPIC).publish(&[outcome(0, None, 10)]).await;
    let error = answers[0].as_ref().unwrap_err();
    assert!(error.happened == Happened::No && !error.is_refused_for_good(), "{error:?}");
    script.asked();
    let script = Script::new([published_except(&[("0", "KMS.AccessDenied", true), ("1", "NoSuchCodeYet", true)])]);
    let answers = topic(&script, TOPIC).publish(&[outcome(0, None, 10), outcome(1, None, 10)]).await;
    let of_contents = |at: usize| answers[at].as_ref().unwrap_err().is_refused_for_good();
    assert_eq!((of_contents(0), of_contents(1)), (false, true));
}

#[tokio::test]
async fn permanently_refused_outcome_is_published_reduced() {
    let script = Script::new([published_except(&[("1", "InvalidParameter", true)]), published_except(&[])]);
    let outcomes: Vec<OutcomeMessage> = (0..3).map(|at| outcome(at, None, 10)).collect();
    let answers = publish::all(&topic(&script, TOPIC), &outcomes).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let asked = script.asked();
    assert_eq!(asked.iter().map(count).collect::<Vec<_>>(), [3, 1]);
    assert!(asked[1].body.contains("%22reduced%22%3Atrue") && asked[1].body.contains("event-1"), "{}", asked[1].body);
    assert!(!asked[1].body.contains("metadata"));
}

#[tokio::test]
async fn outcome_refused_when_reduced_stays_unpublished() {
    let no = || published_except(&[("0", "InvalidParameter", true)]);
    let script = Script::new([no(), no()]);
    let answers = publish::all(&topic(&script, TOPIC), &[outcome(0, None, 10)]).await;
    assert!(answers[0].is_err());
    script.asked();
}

#[tokio::test]
async fn bodies_hold_only_accepted_characters() {
    let script = Script::new([published_except(&[])]);
    let odd = OutcomeMessage { metadata: Some(json!({ "memo": "a\u{ffff}\u{9b}" })), ..outcome(0, None, 1) };
    topic(&script, TOPIC).publish(&[odd]).await.remove(0).unwrap();
    let body = &script.asked()[0].body;
    assert!(body.contains("a%5Cuffff%5Cu009b"), "{body}");
    let script = Script::new([accepted_except(&[])]);
    let poke = LanePoke { account: "97:0x01".to_owned(), cause: "\u{1b}\u{fffe}".to_owned() };
    queue(&script, URL).poke_lanes(&[poke]).await.unwrap();
    assert!(bodies(&script.asked()[0])[0].ends_with("\"cause\":\"\\u001b\\ufffe\"}"));
}

#[tokio::test]
async fn refused_send_call_is_repeated_for_each_poke() {
    let refused = || Step::error(400, "InvalidMessageContents");
    let script =
        Script::new([Step::error(400, "BatchRequestTooLong"), refused(), accepted_except(&[]), accepted_except(&[])]);
    let error = queue(&script, URL).poke_lanes(&lanes(3)).await.unwrap_err();
    assert!(error.is_refused_for_good(), "{error:?}");
    assert_eq!(script.asked().iter().map(|asked| bodies(asked).len()).collect::<Vec<_>>(), [3, 1, 1, 1]);
}

#[tokio::test]
async fn uncertain_try_before_a_split_stays_uncertain() {
    let denied = || Step::error(403, "AccessDenied");
    let script = Script::new([Step::Lost, denied(), denied(), denied()]);
    let error = queue(&script, URL).poke_lanes(&lanes(2)).await.unwrap_err();
    assert_eq!(error.happened, Happened::Unknown, "the first try may have been accepted");
    script.asked();
}
