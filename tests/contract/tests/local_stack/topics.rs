//! Tests of what only SNS and SQS have: filter policies on attributes, FIFO topics, standard queues.

use signpost_aws::receiver::Receiver;
use signpost_aws::sns::SnsOutcomeTopic;
use signpost_aws::sqs::SqsBroadcastQueue;
use signpost_contract::topic::{Subscriber as _, outcomes};
use signpost_txmgr::ports::{BroadcastQueue as _, OutcomeTopic as _};
use signpost_txmgr::wire::{LanePoke, OutcomeMessage, Status};

use crate::fixture::{resources, run, subscribe};

#[test]
fn subscriber_gets_what_its_filter_policy_selects() {
    run(async {
        let (sdk, made) = resources("filtered").await;
        let mut published = outcomes(8);
        published[1].account = Some("97:0x00000000000000000000000000000000000000ff".to_owned());
        published[0].chain_id = Some(56);
        let filters = [
            ("status", r#"{"status":["reverted","rejected"]}"#.to_owned()),
            ("account", format!(r#"{{"account":["{}"]}}"#, published[1].account.as_ref().unwrap())),
            ("chain", r#"{"chainId":[{"numeric":["=",56]}]}"#.to_owned()),
        ];
        let mut subscribers = Vec::new();
        for (name, filter) in &filters {
            let queue = format!("filtered-by-{name}");
            subscribers.push(subscribe(&sdk, &made.outcomes_arn, &queue, Some(filter)).await);
        }
        for answer in SnsOutcomeTopic::new(&sdk, &made.outcomes_arn).publish(&published).await {
            answer.unwrap();
        }
        let by_status: Vec<Status> = subscribers[0].take_all().await.iter().map(|outcome| outcome.status).collect();
        assert_eq!(by_status.len(), 4, "{by_status:?}");
        assert!(by_status.iter().all(|status| [Status::Reverted, Status::Rejected].contains(status)));
        assert_eq!(subscribers[1].take_all().await, published[1..2]);
        assert_eq!(subscribers[2].take_all().await, published[..1]);
    });
}

#[test]
fn a_fifo_topic_keeps_the_order_of_an_account_and_drops_copies() {
    run(async {
        let (sdk, _) = resources("ordered").await;
        let sns = aws_sdk_sns::Client::new(&sdk);
        let made = sns.create_topic().name("ordered.fifo").attributes("FifoTopic", "true").send().await.unwrap();
        let arn = made.topic_arn.unwrap();
        let subscriber = subscribe(&sdk, &arn, "ordered.fifo", None).await;
        let topic = SnsOutcomeTopic::new(&sdk, arn);
        let published = outcomes(22);
        for answer in topic.publish(&published).await.into_iter().chain(topic.publish(&published[..3]).await) {
            answer.unwrap();
        }
        let arrived: Vec<OutcomeMessage> = subscriber.take_all().await;
        assert_eq!(arrived, published);
    });
}

#[test]
fn pokes_go_over_a_standard_queue_too() {
    run(async {
        let (sdk, _) = resources("unordered").await;
        let sqs = aws_sdk_sqs::Client::new(&sdk);
        let url = sqs.create_queue().queue_name("unordered-broadcast").send().await.unwrap().queue_url.unwrap();
        let queue = SqsBroadcastQueue::new(&sdk, &url);
        let poke = LanePoke { account: "97:0x01".to_owned(), cause: "signed".to_owned() };
        queue.poke_lanes(&[poke.clone(), poke.clone()]).await.unwrap();
        let receiver = Receiver::new(&sdk, url);
        assert!(!receiver.is_fifo());
        let messages = receiver.receive(10, std::time::Duration::ZERO, None).await.unwrap();
        assert_eq!(messages.len(), 2, "no deduplication here");
        assert!(messages.iter().all(|message| message.sender.is_some()), "SQS itself sets SenderId");
        assert_eq!(serde_json::from_str::<LanePoke>(&messages[0].body).unwrap(), poke);
    });
}
