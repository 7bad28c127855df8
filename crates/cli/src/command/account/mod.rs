//! `signpost account`: registers and manages accounts. An account is a name with a KMS key and its address.
//!
//! Registration reads the public key and the chain's transaction counts once; from then on nonces come only from the
//! counter in the table. A paused account reserves and signs nothing; transactions it has signed are still watched
//! until they are final. A retired account is paused permanently, and an unregistered one is removed from the table.
//!
//! Read next: [`register`], then the commands.

pub mod register;

mod nonce;
mod retire;
mod switch;

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};
use signpost_txmgr::account::Head;
use signpost_txmgr::ports::{Chain as _, Counts};

use super::registered::{self, any_named, of_our_chain};
use super::{CommandError, ConfigOption};
use crate::terminal::{Colour, paint, remark, say, say_json};
use crate::when;
use crate::{amount, ports};

const EXAMPLES: &str = "\
Examples:
  signpost account register hot --kms-key alias/hot
  signpost account register hot --create-key
  signpost account list
  signpost account show hot --json
  signpost account pause hot
  signpost account pause --all
  signpost account resume hot
  signpost account set-nonce hot 42
  signpost account retire old-hot
  signpost account unregister old-hot";

/// `signpost account`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Register a name with a KMS key
    #[command(after_help = register::HELP)]
    Register(register::Arguments),
    /// Show all accounts
    #[command(after_help = EXAMPLES)]
    List {
        /// One JSON line per account
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigOption,
    },
    /// Show one account with its balance and transaction counts
    #[command(after_help = EXAMPLES)]
    Show(One),
    /// Stop signing for one account or for all until resumed
    #[command(after_help = switch::HELP)]
    Pause(switch::Arguments),
    /// Resume signing for one account or for all
    #[command(after_help = switch::HELP)]
    Resume(switch::Arguments),
    /// Set the next nonce of an account that has no open slots
    #[command(after_help = nonce::HELP)]
    SetNonce(nonce::Arguments),
    /// Pause an account permanently
    #[command(after_help = retire::RETIRE_HELP)]
    Retire(retire::Arguments),
    /// Remove an account that was retired at least 30 days ago
    #[command(after_help = retire::UNREGISTER_HELP)]
    Unregister(retire::Arguments),
}

/// One account.
#[derive(Debug, clap::Args)]
struct One {
    /// The name of the account
    #[arg(value_name = "NAME")]
    name: String,
    /// One JSON line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    match arguments.action {
        Action::Register(asked) => register::run(asked).await?,
        Action::List { json, config } => {
            let session = config.open().await?;
            let heads = registered::ours(&session).await?;
            if heads.is_empty() {
                remark("no account is registered; see `signpost account register --help`");
            }
            for head in &heads {
                show(head, json);
            }
        }
        Action::Show(one) => show_with_chain(one).await?,
        Action::Pause(asked) => return switch::run(asked, true).await,
        Action::Resume(asked) => return switch::run(asked, false).await,
        Action::SetNonce(asked) => nonce::run(asked).await?,
        Action::Retire(asked) => retire::retire(asked).await?,
        Action::Unregister(asked) => retire::unregister(asked).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn show_with_chain(One { name, json, config }: One) -> Result<(), CommandError> {
    let session = config.open().await?;
    let head = any_named(&ports::store(&session), &name).await?;
    of_our_chain(&session, &head.account)?;
    let chain = ports::chain(&session)?;
    let address = head.account.address;
    let (balance, counts) = tokio::try_join!(chain.balance(address), chain.counts(address))?;
    if !json {
        show(&head, json);
        let counted = counts_line(&counts);
        say(format!("{:<16}balance {}, transaction count {counted}", "", amount::wei(balance)));
        return Ok(());
    }
    let mut line = as_json(&head);
    if let Some(fields) = line.as_object_mut() {
        fields.insert("balanceWei".to_owned(), json!(balance.to_string()));
        fields.extend(counts_as_json(&counts));
    }
    say_json(&line);
    Ok(())
}

fn as_json(head: &Head) -> Value {
    let mut line = json!({
        "name": head.name.as_str(),
        "address": head.account.address.to_string(),
        "account": head.account.to_string(),
        "chainId": head.account.chain_id.0,
        "kmsKeyId": head.kms_key_id.as_str(),
        "nextNonce": head.next_nonce.0,
        "openSlots": head.open_slots(),
        "setAside": head.set_aside.iter().map(|slot| slot.nonce.0).collect::<Vec<_>>(),
        "paused": head.paused,
        "registeredAt": head.registered_at.0,
    });
    if let (Some(mark), Some(fields)) = (head.unusable, line.as_object_mut()) {
        let (since, fault) = (mark.since.0, mark.fault.as_str());
        fields.insert("unusable".to_owned(), json!({ "since": since, "fault": fault }));
    }
    if let (Some(at), Some(fields)) = (head.retired_at, line.as_object_mut()) {
        fields.insert("retiredAt".to_owned(), json!(at.0));
    }
    line
}

fn counts_as_json(counts: &Counts) -> [(String, Value); 3] {
    [
        ("transactionCount".to_owned(), json!(counts.latest.0)),
        ("pendingCount".to_owned(), json!(counts.pending.0)),
        ("finalizedCount".to_owned(), json!(counts.finalized.map(|count| count.0))),
    ]
}

fn show(head: &Head, json: bool) {
    if json {
        say_json(&as_json(head));
        return;
    }
    let state = match head.retired_at {
        Some(at) => format!("  {}", paint(Colour::Grey, &format!("retired {}", when::date(at)))),
        None if head.paused => format!("  {}", paint(Colour::Yellow, "paused")),
        None => String::new(),
    };
    let (address, chain_id) = (head.account.address, head.account.chain_id);
    say(format!("{:<16}{address}  chain {chain_id}  key {}{state}", head.name.as_str(), head.kms_key_id.as_str()));
    if let Some(mark) = head.unusable {
        let text = format!("not signing since {}: {}", when::date(mark.since), mark.fault.meaning());
        say(format!("{:<16}{}", "", paint(Colour::Red, &text)));
    }
    say(format!("{:<16}next nonce {}, {} slot(s) open", "", head.next_nonce, head.open_slots()));
    for line in crate::set_aside::lines(head) {
        say(format!("{:<16}{line}", ""));
    }
}

/// The counts in one line.
fn counts_line(counts: &Counts) -> String {
    let finalized = counts.finalized.map_or_else(|| "final unknown".to_owned(), |count| format!("{count} final"));
    format!("{} ({finalized}, {} with the pool)", counts.latest, counts.pending)
}
