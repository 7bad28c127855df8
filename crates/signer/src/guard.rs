//! The settings of a signer that must not come from a table: the key of seals, and the accounts it may sign for.
//!
//! Read once per process, before the first message. No error contains a key or a part of one.

use std::path::Path;

use aws_config::SdkConfig;
use signpost_aws::secrets;
use signpost_host::config::{AccountsFrom, SealFrom};
use signpost_host::error_chain;
use signpost_host::start::StartError;
use signpost_txmgr::pins::{Pin, Pins};
use signpost_txmgr::seal::Sealer;
use signpost_txmgr::units::ChainId;

/// The pinned accounts and the sealer.
#[derive(Debug, Clone)]
pub struct Guard {
    /// The accounts that may be signed for.
    pub pins: Pins,
    /// Seals accepted requests, and checks the seal before each signature.
    pub sealer: Sealer,
}

impl Guard {
    /// Reads both from the configured sources.
    pub async fn read(
        sdk: &SdkConfig,
        chain_id: u64,
        seal: Option<&SealFrom>,
        accounts: Option<&AccountsFrom>,
    ) -> Result<Self, StartError> {
        let pins = pins(chain_id, accounts)?;
        match pins.count() {
            None => tracing::warn!(
                "the registry is trusted: anybody with write access to the accounts table can add an account with a key"
            ),
            Some(0) => tracing::warn!("no account is pinned: nothing is signed until the deployment lists an account"),
            Some(_) => {}
        }
        let sealer = sealer(sdk, seal).await?;
        Ok(Self { pins, sealer })
    }
}

/// The configured accounts that may be signed for.
pub fn pins(chain_id: u64, accounts: Option<&AccountsFrom>) -> Result<Pins, StartError> {
    let listed = match accounts {
        Some(AccountsFrom::Registry) => {
            return Ok(Pins::Registry);
        }
        Some(AccountsFrom::Listed(listed)) => listed,
        None => {
            let missing = "the list is missing; name the accounts, NAME=0xADDRESS=KMS_KEY each, \
                           as `signpost account register` prints them";
            return Err(StartError::Pins(missing.to_owned()));
        }
    };
    let read = |line: &String| {
        // The line may be the text of another variable by mistake: only the name, which is public, is printed.
        let name: String = line.split('=').next().unwrap_or_default().chars().take(64).collect();
        Pin::read(line, ChainId(chain_id)).map_err(|error| {
            StartError::Pins(format!("{}: {}", signpost_txmgr::text::plain(&name), error_chain(&error)))
        })
    };
    let pins = listed.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let pins = Pins::listed(pins).map_err(|error| StartError::Pins(error_chain(&error)))?;
    Ok(pins)
}

async fn sealer(sdk: &SdkConfig, seal: Option<&SealFrom>) -> Result<Sealer, StartError> {
    let secret = match seal {
        Some(SealFrom::Secret(secret)) => secret,
        Some(SealFrom::File(path)) => return sealer_of(path),
        None => {
            let missing =
                "it is missing; set a secret of Secrets Manager, or a file with at least 32 random characters";
            return Err(StartError::Seal(missing.to_owned()));
        }
    };
    let keys = secrets::texts(sdk, secret)
        .await
        .map_err(|error| StartError::Seal(format!("the secret cannot be read: {}", error_chain(&error))))?;
    Sealer::new(&keys).map_err(|error| StartError::Seal(format!("the key in the secret {error}")))
}

/// The sealer with the keys in a file.
pub fn sealer_of(path: &Path) -> Result<Sealer, StartError> {
    Sealer::new(lines(path)?).map_err(|error| StartError::Seal(format!("the key in {} {error}", path.display())))
}

fn lines(path: &Path) -> Result<Vec<String>, StartError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| StartError::Seal(format!("cannot read {}: {error}", path.display())))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}
