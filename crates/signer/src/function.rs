//! The stage as a Lambda function: one for the signing and the resign queue.
//!
//! The start reads the accounts' public keys, which is also where the connections to KMS and DynamoDB are made.
//! A key that cannot be used stops its own account and not the function. Read next: [`signpost_host::lambda`].

use std::path::PathBuf;
use std::sync::Arc;

use signpost_host::config::Shared as _;
use signpost_host::config::environment::{ConfiguredAccount, Deployed, PolicyFrom, SignerEnvironment, Variables};
use signpost_host::consumer::Stop;
use signpost_host::inbox::Incoming;
use signpost_host::lambda::event::is_queue;
use signpost_host::lambda::time::TimeLeft;
use signpost_host::lambda::{Failed, Function, Swept, batch, sdk};
use signpost_host::session::Session;
use signpost_host::start::{self, StartError};
use signpost_host::told;
use signpost_txmgr::policy::Policies;
use signpost_txmgr::signer::Disposition;
use signpost_txmgr::units::{Address, KmsKeyId};

use crate::RealSigner;
use crate::handlers::{Resigning, Signing};

/// The policy in the function's package.
const PACKAGED_POLICY: &str = "policy.toml";

/// The function, ready for records.
#[derive(Debug)]
pub struct SigningFunction {
    deployed: Deployed,
    signer: Arc<RealSigner>,
}

/// Reads the environment and the policy, and checks what can be checked before the first record.
pub async fn start() -> Result<SigningFunction, StartError> {
    let SignerEnvironment { deployed, policy, accounts } =
        SignerEnvironment::read(&Variables::of_process()).map_err(StartError::Configuration)?;
    let policies = policies(policy)?;
    let session = Session { sdk: sdk::from_environment().map_err(StartError::Configuration)?, config: deployed };
    let signer = crate::signer(&session, policies).await?;
    for account in &accounts {
        check(&signer, account).await?;
    }
    let Session { config: deployed, .. } = session;
    tracing::info!(chain_id = deployed.chain_id(), accounts = accounts.len(), "the signer is ready");
    Ok(SigningFunction { deployed, signer: Arc::new(signer) })
}

fn policies(from: PolicyFrom) -> Result<Policies, StartError> {
    match from {
        PolicyFrom::Text(text) => Policies::from_toml(&text)
            .map_err(|error| StartError::Policy { path: "in SIGNPOST_POLICY".into(), reason: error.to_string() }),
        PolicyFrom::File(path) => start::policies(&path),
        PolicyFrom::Package => {
            let directory = std::env::current_exe().ok().and_then(|program| program.parent().map(PathBuf::from));
            start::policies(&directory.unwrap_or_default().join(PACKAGED_POLICY))
        }
    }
}

/// Whether the KMS key of an account in `SIGNPOST_ACCOUNTS` has the address given there. An entry that cannot be
/// read is a fault of the configuration; a key that is not the account's is its own account's fault alone.
async fn check(signer: &RealSigner, account: &ConfiguredAccount) -> Result<(), StartError> {
    let wrong = |problem: &str| StartError::Accounts(format!("SIGNPOST_ACCOUNTS: {}: {problem}", account.name));
    let address: Address = account.address.parse().map_err(|error| wrong(&told(&error)))?;
    let key: KmsKeyId = account.kms_key_id.parse().map_err(|error| wrong(&told(&error)))?;
    if let Err(trouble) = signer.check_key(&key, address).await {
        tracing::warn!(error = told(&trouble), name = account.name, %address, "SIGNPOST_ACCOUNTS: this account's key cannot be used; all others can");
    }
    Ok(())
}

impl Function for SigningFunction {
    async fn batch(&self, queue_arn: &str, messages: Vec<Incoming>, time: TimeLeft, stop: &Stop) -> Vec<Disposition> {
        let queues = self.deployed.queues();
        if is_queue(queue_arn, &queues.signing_url) {
            let handler = Arc::new(Signing(Arc::clone(&self.signer)));
            return batch::handle(&handler, &messages, false, time, stop).await;
        }
        if is_queue(queue_arn, &queues.resign_url) {
            let handler = Arc::new(Resigning(Arc::clone(&self.signer)));
            return batch::handle(&handler, &messages, false, time, stop).await;
        }
        tracing::error!(
            queue_arn,
            "records of a queue that is neither SIGNPOST_SIGNING_QUEUE_URL nor SIGNPOST_RESIGN_QUEUE_URL; they are returned"
        );
        vec![Disposition::Retry; messages.len()]
    }

    async fn scheduled(&self, _task: &str, _time: TimeLeft) -> Option<Result<Swept, Failed>> {
        None
    }
}
