//! The stage as a Lambda function: one function for the signing queue and the resign queue.
//!
//! The start reads the accounts' public keys, and opens the connections to KMS and DynamoDB by that.
//! An unusable key stops its account, not the function. Read next: [`signpost_host::lambda`].

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use signpost_host::config::environment::{Deployed, PolicyFrom, SignerEnvironment, Variables};
use signpost_host::config::{AccountsFrom, StageSettings as _};
use signpost_host::consumer::Stop;
use signpost_host::lambda::event::is_queue;
use signpost_host::lambda::time::TimeLeft;
use signpost_host::lambda::{Failed, Function, Swept, batch, sdk};
use signpost_host::session::Session;
use signpost_host::start::{self, StartError};
use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::policy::Policies;

use crate::RealSigner;
use crate::guard::Guard;
use crate::handlers::{Resigning, Signing};

/// The policy in the function's package.
const PACKAGED_POLICY: &str = "policy.toml";
/// The accounts that may be signed for, in the function's package: one per line, if there are too many for a variable.
const PACKAGED_ACCOUNTS: &str = "accounts.txt";

/// The started function.
#[derive(Debug)]
pub struct SigningFunction {
    deployed: Deployed,
    signer: Arc<RealSigner>,
}

/// Reads the environment and the policy, and makes all checks that are possible before the first record.
pub async fn start() -> Result<SigningFunction, StartError> {
    let SignerEnvironment { deployed, policy, seal, accounts } =
        SignerEnvironment::read(&Variables::of_process()).map_err(StartError::Configuration)?;
    let policies = policies(policy)?;
    let session = Session { sdk: sdk::from_environment().map_err(StartError::Configuration)?, config: deployed };
    let accounts = with_packaged(accounts)?;
    let guard = Guard::read(&session.sdk, session.config.chain_id(), Some(&seal), Some(&accounts)).await?;
    let listed = guard.pins.count();
    let signer = crate::signer(&session, policies, guard).await?;
    let Session { config: deployed, .. } = session;
    tracing::info!(chain_id = deployed.chain_id(), accounts = listed, "the signer is ready");
    Ok(SigningFunction { deployed, signer: Arc::new(signer) })
}

fn policies(from: PolicyFrom) -> Result<Policies, StartError> {
    match from {
        PolicyFrom::Text(text) => Policies::from_toml(&text)
            .map_err(|error| StartError::Policy { path: "in SIGNPOST_POLICY".into(), reason: error.to_string() }),
        PolicyFrom::File(path) => start::policies(&path),
        PolicyFrom::Package => start::policies(&packaged(PACKAGED_POLICY)),
    }
}

/// A file beside the program.
fn packaged(name: &str) -> PathBuf {
    let directory = std::env::current_exe().ok().and_then(|program| program.parent().map(PathBuf::from));
    directory.unwrap_or_default().join(name)
}

/// The accounts of the package's list, if the environment lists none and the package has a list. Text after a `#` is a
/// comment.
fn with_packaged(accounts: AccountsFrom) -> Result<AccountsFrom, StartError> {
    if accounts != AccountsFrom::Listed(Vec::new()) {
        return Ok(accounts);
    }
    let text = match std::fs::read_to_string(packaged(PACKAGED_ACCOUNTS)) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(accounts),
        Err(error) => return Err(StartError::Pins(format!("cannot read {PACKAGED_ACCOUNTS} in the package: {error}"))),
    };
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    Ok(AccountsFrom::Listed(lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()))
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
            "records from a queue other than SIGNPOST_SIGNING_QUEUE_URL and SIGNPOST_RESIGN_QUEUE_URL; they are returned"
        );
        vec![Disposition::Retry; messages.len()]
    }

    async fn scheduled(&self, _task: &str, _time: TimeLeft) -> Option<Result<Swept, Failed>> {
        None
    }
}
