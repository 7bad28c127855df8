//! The signing stage on AWS: accept, reserve, sign, store, poke.
//!
//! Takes requests and pokes and changes records through the driver in `signpost_txmgr::signer`. Never
//! talks to a node.
//!
//! Read in this order: [`handlers`], the driver itself, and [`function`], which hosts it in Lambda.
//! [`direct`] is another program, which only signs.
//!
//! **Architecture invariant:** does not depend on `signpost-bsc`.

pub mod direct;
pub mod function;
pub mod guard;
pub mod handlers;

use std::time::Duration;

use signpost_aws::kms::KmsKeys;
use signpost_aws::sns::SnsOutcomeTopic;
use signpost_aws::sqs::SqsBroadcastQueue;
use signpost_aws::store::DynamoStore;
use signpost_host::clock::now;
use signpost_host::config::StageSettings;
use signpost_host::ports;
use signpost_host::session::Session;
use signpost_host::start::{StartError, retention_ms};
use signpost_txmgr::policy::{NetworkRules, Policies};
use signpost_txmgr::signer::{Signer, SignerConfig};
use signpost_txmgr::units::{ChainId, Wei};
use signpost_txmgr::wire::hex_digest;

use self::guard::Guard;

/// Concurrent signatures within one batch of ten; KMS takes 10 ms and allows hundreds per second.
const SIGN_CONCURRENCY: usize = 10;

/// The driver over the real ports.
pub type RealSigner = Signer<DynamoStore, KmsKeys, SqsBroadcastQueue, SnsOutcomeTopic>;

/// Time limit for reading the keys before the first message; the others are read with their first requests. Lambda
/// allows ten seconds for a start, which also reads the accounts.
const WARM_UP_MAX: Duration = Duration::from_secs(4);

/// Creates the stage and makes the checks that are possible before the first message: the chain of the registered
/// accounts, and their keys. An unusable key stops its account, not the start.
pub async fn signer(
    session: &Session<impl StageSettings>,
    policies: Policies,
    guard: Guard,
) -> Result<RealSigner, StartError> {
    let (policy_digest, code_version) = (hex_digest(&policies.digest()), signpost_txmgr::code_version());
    tracing::info!(policy_digest, code_version, "signing with this policy, identified by the SHA-256 of its text");
    let config = &session.config;
    let config = SignerConfig {
        chain_id: ChainId(config.chain_id()),
        policies,
        pins: guard.pins,
        sealer: guard.sealer,
        network: NetworkRules { fee_floor: Wei::from(config.fee_floor_wei()) },
        retention_ms: retention_ms(config),
        sign_concurrency: SIGN_CONCURRENCY,
    };
    let (store, keys) = (ports::store(session), keys(session));
    let signer = Signer::new(store, keys, ports::broadcast_queue(session), ports::topic(session), config);
    let (at, accounts) = (now(), signer.load_accounts().await?);
    if tokio::time::timeout(WARM_UP_MAX, signer.warm_keys(accounts, at)).await.is_err() {
        tracing::warn!("some accounts' keys were not read in time; they are read with their first requests");
    }
    Ok(signer)
}

/// The accounts' keys.
pub fn keys<C>(session: &Session<C>) -> KmsKeys {
    KmsKeys::new(&session.sdk)
}
