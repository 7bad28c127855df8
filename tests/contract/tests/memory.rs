//! The fakes in memory keep the contract, so a test on the fakes relies on nothing but the contract.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use signpost_contract::keys::KeyRing;
use signpost_contract::queue::Pipe;
use signpost_contract::topic::{Channel, Subscriber};
use signpost_txmgr::fake::{
    Interceptor, Journal, MemoryKeys, MemoryQueue, MemoryQueues, MemoryStore, MemoryTopic, QueueRules, SimClock,
};
use signpost_txmgr::wire::OutcomeMessage;

macro_rules! in_memory {
    ($suite:ident: $($claim:ident),* $(,)?) => {
        mod $suite {
            $(
                #[tokio::test]
                async fn $claim() {
                    signpost_contract::$suite::$claim(&super::fixture::$suite(stringify!($claim))).await;
                }
            )*
        }
    };
}

signpost_contract::store_claims!(in_memory);
signpost_contract::lanes_claims!(in_memory);
signpost_contract::registry_claims!(in_memory);
signpost_contract::spend_claims!(in_memory);
signpost_contract::requests_claims!(in_memory);
signpost_contract::pool_claims!(in_memory);
signpost_contract::keys_claims!(in_memory);
signpost_contract::queue_claims!(in_memory);
signpost_contract::topic_claims!(in_memory);

/// All that was ever published.
struct Copies(MemoryTopic);

impl Subscriber for Copies {
    async fn take_all(&self) -> Vec<OutcomeMessage> {
        self.0.copies()
    }
}

/// Fresh fakes for each claim.
mod fixture {
    use super::*;

    pub(crate) fn store(_: &str) -> MemoryStore {
        MemoryStore::default()
    }

    pub(crate) fn lanes(claim: &str) -> MemoryStore {
        store(claim)
    }

    pub(crate) fn registry(claim: &str) -> MemoryStore {
        store(claim)
    }

    pub(crate) fn pool(claim: &str) -> MemoryStore {
        store(claim)
    }

    pub(crate) fn spend(claim: &str) -> MemoryStore {
        store(claim)
    }

    pub(crate) fn requests(claim: &str) -> MemoryStore {
        store(claim)
    }

    pub(crate) fn keys(_: &str) -> KeyRing<MemoryKeys> {
        let ring = KeyRing {
            keys: MemoryKeys::default(),
            able: "alias/able".parse().unwrap(),
            disabled: "alias/disabled".parse().unwrap(),
        };
        let able = "arn:aws:kms:eu-west-1:000000000000:key/able".parse().unwrap();
        ring.keys.add(&able, [7; 32]);
        ring.keys.set_alias(&ring.able, &able);
        ring.keys.add(&ring.disabled, [8; 32]);
        ring.keys.set_disabled(&ring.disabled, true);
        ring
    }

    pub(crate) fn queue(claim: &str) -> Pipe<MemoryQueues, MemoryQueue> {
        let queues =
            MemoryQueues::new(QueueRules::FIFO, &SimClock::default(), &Interceptor::default(), &Journal::default());
        let resign = claim == "every_request_poked_arrives_as_it_was_sent";
        let inbox = if resign { queues.resign.clone() } else { queues.broadcast.clone() };
        Pipe { queue: queues, inbox }
    }

    pub(crate) fn topic(_: &str) -> Channel<MemoryTopic, Copies> {
        let topic = MemoryTopic::default();
        Channel { topic: topic.clone(), subscriber: Copies(topic) }
    }
}
