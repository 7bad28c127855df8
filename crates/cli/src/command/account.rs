//! `signpost account`: which names may sign, with which key, from which address.
//!
//! Registering reads the key's public half and the chain's transaction count once; from then on the
//! count in the table is the only one that hands out nonces. A paused account reserves and signs nothing;
//! what it has signed is watched to its end. A retired one is paused for good.

use std::process::ExitCode;

use aws_config::SdkConfig;
use clap::Subcommand;
use serde_json::json;
use signpost_aws::store::operator::RetireVerdict;
use signpost_txmgr::account::Head;
use signpost_txmgr::ports::{Chain, Keys, RegisterVerdict, Store};
use signpost_txmgr::signature::PublicKey;
use signpost_txmgr::units::{AccountKey, AccountName, ChainId, KmsKeyId, Millis, Nonce};

use super::confirm::Yes;
use super::{CommandError, ConfigOption, when};
use crate::stack::provision;
use crate::terminal::{Colour, paint, remark, say};
use crate::{clock, world};

const EXAMPLES: &str = "\
Examples:
  signpost account register hot --kms-key alias/hot
  signpost account register hot --create-key
  signpost account list
  signpost account pause hot
  signpost account resume hot
  signpost account retire old-hot
  signpost account show hot --json";

const PAUSE: &str = "\
Examples:
  signpost account pause hot
  signpost account resume hot

From the next batch on nothing is reserved or signed for it: no request, no bump, no cancel. Requests that
arrive meanwhile are rejected with `accountPaused` and may be sent again, under the same id, once it is resumed.
What was signed before is sent and watched to its end.";

const RETIRE: &str = "\
Examples:
  signpost account pause old-hot
  signpost account retire old-hot

An account that is retired is paused for good: `resume` refuses it, and its name and its address are not given
out again. It is refused while a slot is open; pause it and wait for its requests, or cancel them first. Its
records, slots and KMS key stay, for `audit` and `export`. Move its coins with the key's own program: no request
of it is signed any more.";

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
    #[command(after_help = EXAMPLES)]
    Register {
        /// The name requests use
        #[arg(value_name = "NAME")]
        name: String,
        /// Key id, ARN or alias of a secp256k1 signing key
        #[arg(long, value_name = "KEY", required_unless_present = "create_key")]
        kms_key: Option<String>,
        /// Make a key with the alias signpost-NAME, or take it if it is there
        #[arg(long, conflicts_with = "kms_key")]
        create_key: bool,
        /// First nonce to use; else the address's transaction count on the chain
        #[arg(long, value_name = "NONCE")]
        nonce: Option<u64>,
        /// One JSON line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigOption,
    },
    /// Show all accounts
    #[command(after_help = EXAMPLES)]
    List {
        /// One JSON line each
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigOption,
    },
    /// Show one account, with its balance and transaction count on the chain
    #[command(after_help = EXAMPLES)]
    Show(One),
    /// Sign nothing more for an account until it is resumed
    #[command(after_help = PAUSE)]
    Pause(One),
    /// Sign for a paused account again
    #[command(after_help = EXAMPLES)]
    Resume(One),
    /// Pause an account for good
    #[command(after_help = RETIRE)]
    Retire {
        #[command(flatten)]
        one: One,
        #[command(flatten)]
        yes: Yes,
    },
}

/// One account.
#[derive(Debug, clap::Args)]
struct One {
    /// The name it was registered with
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
        Action::Register { name, kms_key, create_key: _, nonce, json, config } => {
            let session = config.open().await?;
            let key = match kms_key {
                Some(key) => key,
                None => create_key(&session.sdk, &name).await?,
            };
            let nonce = nonce.map(Nonce);
            let (store, keys) = (world::store(&session), world::keys(&session));
            let chain = world::chain(&session)?;
            let asked = Asked { name: &name, key: &key, chain_id: ChainId(session.config.chain.chain_id), nonce };
            let head = register(&store, &keys, &chain, asked).await?;
            let policy = session.config.policy_file.display();
            remark(format!(
                "it may sign what [account.{name}] or [default] in {policy} allows, which a worker reads when it starts"
            ));
            show(&head, json, None);
        }
        Action::List { json, config } => {
            let session = config.open().await?;
            let heads = world::store(&session).accounts().await?;
            if heads.is_empty() {
                remark("no account is registered; see `signpost account register --help`");
            }
            for head in &heads {
                show(head, json, None);
            }
        }
        Action::Show(One { name, json, config }) => {
            let session = config.open().await?;
            let head = named(&world::store(&session), &name).await?;
            let chain = world::chain(&session)?;
            let address = head.account.address;
            let (balance, count) = tokio::try_join!(chain.balance(address), chain.latest_nonce(address))?;
            show(&head, json, Some((balance.to_string(), count)));
        }
        Action::Pause(one) => set_paused(one, true).await?,
        Action::Resume(one) => set_paused(one, false).await?,
        Action::Retire { one, yes } => retire(one, yes).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The account with a name; what `signpost account list` calls it, or its key, or its address.
pub async fn named(store: &impl Store, name: &str) -> Result<Head, CommandError> {
    let is = |head: &Head| {
        let account = head.account;
        head.name.as_str() == name
            || account.to_string() == name
            || account.address.to_string().eq_ignore_ascii_case(name)
    };
    let way_out = "`signpost account list` shows those that are";
    let unknown = || CommandError::Unknown(format!("no account is registered as {name}; {way_out}"));
    store.accounts().await?.into_iter().find(is).ok_or_else(unknown)
}

async fn set_paused(one: One, paused: bool) -> Result<(), CommandError> {
    let session = one.config.open().await?;
    let store = world::store(&session);
    let head = named(&store, &one.name).await?;
    if !paused && head.retired_at.is_some() {
        return Err(CommandError::Input(format!("{} is retired, and that is for good", head.name)));
    }
    store.set_paused(&head.account, paused).await?;
    // Read again: what is shown is what is stored.
    let head = named(&store, &one.name).await?;
    show(&head, one.json, None);
    if paused && head.open_slots() > 0 {
        let open = head.open_slots();
        remark(format!("{open} slot(s) are open: what is signed of them is still sent and watched; the rest waits"));
    } else if !paused && head.open_slots() > 0 {
        remark("what waits for a signature is signed within a minute");
    }
    Ok(())
}

async fn retire(one: One, yes: Yes) -> Result<(), CommandError> {
    let session = one.config.open().await?;
    let store = world::store(&session);
    let head = named(&store, &one.name).await?;
    let (name, address) = (&head.name, head.account.address);
    yes.or_ask(&format!("{name} ({address}) will never sign again; this cannot be undone."))?;
    match store.retire(&head.account, clock::now()).await? {
        RetireVerdict::Retired => {
            show(&named(&store, &one.name).await?, one.json, None);
            Ok(())
        }
        RetireVerdict::Open(head) => {
            let (open, from) = (head.open_slots(), head.lowest_open_nonce);
            let way_out =
                format!("see `signpost requests list --account {name} --open`, and wait for them or cancel them");
            Err(CommandError::Input(format!("{name} has {open} open slot(s) from nonce {from} on; {way_out}")))
        }
        RetireVerdict::NotRegistered => Err(CommandError::Unknown(format!("{name} is not registered any more"))),
    }
}

async fn create_key(sdk: &SdkConfig, name: &str) -> Result<String, CommandError> {
    Ok(provision::key(sdk, &format!("signpost-{name}")).await?)
}

/// What to register.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The name requests use.
    pub name: &'a str,
    /// KMS key id, ARN or alias.
    pub key: &'a str,
    /// The chain it signs for.
    pub chain_id: ChainId,
    /// First nonce; else the chain's count.
    pub nonce: Option<Nonce>,
}

/// Registers an account. Asking again for the same is harmless; another key under a known name is
/// refused.
pub async fn register(
    store: &impl Store,
    keys: &impl Keys,
    chain: &impl Chain,
    asked: Asked<'_>,
) -> Result<Head, CommandError> {
    let input = |what: &str, value: &str, error: &dyn std::fmt::Display| {
        CommandError::Input(format!("{value} is no {what}: it {error}"))
    };
    let name: AccountName = asked.name.parse().map_err(|error| input("account name", asked.name, &error))?;
    let kms_key_id: KmsKeyId = asked.key.parse().map_err(|error| input("KMS key", asked.key, &error))?;
    let der = keys.public_key(&kms_key_id).await?;
    let public = PublicKey::from_spki(&der).map_err(|error| {
        let way_out = "make it with key spec ECC_SECG_P256K1 and usage SIGN_VERIFY";
        CommandError::Input(format!("{} cannot sign for a chain: {error}; {way_out}", asked.key))
    })?;
    let found = chain.chain_id().await?;
    if found != asked.chain_id {
        let text = format!("the nodes are of chain {found}, the configuration says {}; correct one", asked.chain_id);
        return Err(CommandError::Input(text));
    }
    let address = public.address();
    if chain.has_code(address).await? {
        let text = format!(
            "{address} has code (an EIP-7702 delegation): nodes keep one transaction of it at a time; use another key"
        );
        return Err(CommandError::Input(text));
    }
    let nonce = match asked.nonce {
        Some(nonce) => nonce,
        None => chain.latest_nonce(address).await?,
    };
    let account = AccountKey { chain_id: asked.chain_id, address };
    let head = Head::new(account, name, kms_key_id, nonce, Millis(clock::now_ms()));
    match store.register(&head).await? {
        RegisterVerdict::Registered => Ok(head),
        RegisterVerdict::Exists(existing) if existing.name == head.name => Ok(existing),
        RegisterVerdict::Exists(existing) => {
            Err(CommandError::Input(format!("{address} is registered already, as {}", existing.name)))
        }
        RegisterVerdict::NameTaken => {
            Err(CommandError::Input(format!("{} is the name of another account; choose another", head.name)))
        }
    }
}

fn show(head: &Head, as_json: bool, on_chain: Option<(String, Nonce)>) {
    let address = head.account.address.to_string();
    if as_json {
        let mut line = json!({
            "name": head.name.as_str(),
            "address": address,
            "account": head.account.to_string(),
            "chainId": head.account.chain_id.0,
            "kmsKeyId": head.kms_key_id.as_str(),
            "nextNonce": head.next_nonce.0,
            "openSlots": head.open_slots(),
            "paused": head.paused,
            "registeredAt": head.registered_at.0,
        });
        if let (Some(at), Some(fields)) = (head.retired_at, line.as_object_mut()) {
            fields.insert("retiredAt".to_owned(), json!(at.0));
        }
        if let (Some((balance, count)), Some(fields)) = (on_chain, line.as_object_mut()) {
            fields.insert("balanceWei".to_owned(), json!(balance));
            fields.insert("transactionCount".to_owned(), json!(count.0));
        }
        say(line.to_string());
        return;
    }
    let state = match head.retired_at {
        Some(at) => format!("  {}", paint(Colour::Grey, &format!("retired {}", when::date(at)))),
        None if head.paused => format!("  {}", paint(Colour::Yellow, "paused")),
        None => String::new(),
    };
    let chain_id = head.account.chain_id;
    say(format!("{:<16}{address}  chain {chain_id}  key {}{state}", head.name.as_str(), head.kms_key_id.as_str()));
    say(format!("{:<16}next nonce {}, {} slot(s) open", "", head.next_nonce, head.open_slots()));
    if let Some((balance, count)) = on_chain {
        say(format!("{:<16}balance {balance} wei, transaction count {count}", ""));
    }
}
