//! The real signer on the store under test; its keys, queues and topic are in memory. Read next: [`crate::spend`],
//! [`crate::pool`].

use signpost_txmgr::fake::{Interceptor, Journal, MemoryKeys, MemoryQueues, MemoryTopic, QueueRules, SimClock, sealer};
use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::pins::Pins;
use signpost_txmgr::policy::{NetworkRules, Policies};
use signpost_txmgr::ports::Store;
use signpost_txmgr::signer::{Signer, SignerConfig};
use signpost_txmgr::units::{ChainId, RequestId, Wei};

use crate::lane::{NOW, TestLane};

/// Concurrent signers, each like a process of its own.
pub const SIGNERS: u64 = 16;
/// The beginning of a policy: rules for every account.
pub const RULES: &str = "[default]\nmax_gas_price_wei = 2\ngas_price_wei = 1\n";

/// A signer on the store under test.
pub type LaneSigner<S> = Signer<S, MemoryKeys, MemoryQueues, MemoryTopic>;

/// A signer that has just started, with the keys of these lanes.
#[must_use]
pub fn signer<S: Store>(store: S, lanes: &[&TestLane], policy: &str) -> LaneSigner<S> {
    let (interceptor, journal) = (Interceptor::default(), Journal::default());
    let keys = MemoryKeys::new(interceptor.clone(), journal.clone());
    for lane in lanes {
        keys.add(&lane.head().kms_key_id, lane.secret());
    }
    let config = SignerConfig {
        pins: Pins::Registry,
        sealer: sealer(),
        chain_id: ChainId(97),
        policies: Policies::from_toml(policy).unwrap(),
        network: NetworkRules { fee_floor: Wei::from(1) },
        retention_ms: 86_400_000,
        sign_concurrency: 4,
    };
    let queues = MemoryQueues::new(QueueRules::STANDARD, &SimClock::at(NOW), &interceptor, &journal);
    Signer::new(store, keys, queues, MemoryTopic::new(interceptor, journal), config)
}

/// A transfer of 1,000 wei with 21,000 gas.
#[must_use]
pub fn transfer(id: &RequestId, account: &str) -> Incoming {
    let to = "0x55d398326f99059fF775485246999027B3197955";
    Incoming {
        receipt: String::new(),
        message_id: id.as_str().replace(':', "-"),
        group: None,
        sender: None,
        trace: None,
        receives: 1,
        body: format!(r#"{{"requestId":"{id}","account":"{account}","to":"{to}","value":1000,"gas":21000}}"#),
    }
}

/// Hands a batch to a signer until every message is done.
pub async fn handle_all<S: Store>(signer: &LaneSigner<S>, mut batch: Vec<Incoming>) {
    // Each other signer conflicts at most once per message, and a turn makes several tries.
    for _ in 0..SIGNERS * 20 {
        let dispositions = signer.handle(&batch, NOW).await;
        let mut left = dispositions.iter();
        batch.retain(|_| left.next() == Some(&Disposition::Retry));
        if batch.is_empty() {
            return;
        }
    }
    panic!("{} messages never got an answer", batch.len());
}
