//! `signpost account register`: binds a name to a key, and sets the first nonce of its lane from the chain's count.
//!
//! The key is stored by the ARN that KMS returns: an alias may be moved to another key later, and another key means
//! another address.

use std::time::Duration;

use aws_config::SdkConfig;
use signpost_txmgr::account::Head;
use signpost_txmgr::machine::Word;
use signpost_txmgr::pins::Pin;
use signpost_txmgr::ports::{Chain, KeyAnswer, Keys, RegisterVerdict, Store};
use signpost_txmgr::signature::PublicKey;
use signpost_txmgr::units::{AccountKey, AccountName, Address, ChainId, KmsKeyId, Millis, Nonce};

use super::counts::{Unfit, before, settled};
use super::show;
use crate::command::{CommandError, ConfigOption, Session};
use crate::config::AccountsFrom;
use crate::stack::provision;
use crate::terminal::remark;
use crate::{clock, world};

/// How often `--wait` asks for the counts; BSC's block time is half of it.
const LOOK_EVERY_MS: u64 = 1_000;
/// How long `--wait` waits: geth drops transactions that cannot be executed from its pool after three hours.
const WAIT_MAX_MS: u64 = 3 * 3_600_000;

pub(super) const HELP: &str = "\
Examples:
  signpost account register hot --kms-key alias/hot
  signpost account register hot --kms-key alias/hot --wait
  signpost account register hot --create-key

The first nonce is the address's transaction count on the chain. It must be certain: the counts of the finalized block,
of the newest block and of the node's pool must be equal. They differ while transactions of another program are in
the pool or not final. Stop that program first and give it its own key; then --wait waits for its transactions, for
three hours at most. --nonce with the count that includes the pool starts after them without waiting.
An alias is stored as the ARN of its key: moving the alias later changes nothing. Registering again changes nothing.";

/// The options.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The name that requests use for the account
    #[arg(value_name = "NAME")]
    name: String,
    /// Key id, ARN or alias of a secp256k1 signing key
    #[arg(long, value_name = "KEY", required_unless_present = "create_key")]
    kms_key: Option<String>,
    /// Create a key with the alias signpost-NAME, or use the existing one
    #[arg(long, conflicts_with = "kms_key")]
    create_key: bool,
    /// First nonce [default: the address's transaction count on the chain]
    #[arg(long, value_name = "NONCE")]
    nonce: Option<u64>,
    /// Wait until the pool has no transaction of the address and all mined ones are final
    #[arg(long, conflicts_with = "nonce")]
    wait: bool,
    /// One JSON line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), CommandError> {
    let Arguments { name, kms_key, create_key: _, nonce, wait, json, config } = arguments;
    let session = config.open().await?;
    let key = match kms_key {
        Some(key) => key,
        None => create_key(&session.sdk, &name).await?,
    };
    let (store, keys, chain) = (world::store(&session), world::keys(&session), world::chain(&session)?);
    let first = match nonce {
        Some(nonce) => First::Given(Nonce(nonce)),
        None if wait => First::WhenSettled,
        None => First::IfSettled,
    };
    let asked = Asked { name: &name, key: &key, chain_id: ChainId(session.config.chain.chain_id), first };
    let Registered { head, key_id, is_new } = register(&store, &keys, &chain, asked).await?;
    // The ARN ends with the key's id, but never with an alias.
    if !key_id.as_str().ends_with(&key) {
        remark(format!("{key} is {key_id}"));
    }
    if is_new {
        let policy = session.config.policy_file.display();
        remark(format!(
            "it may sign what [account.{name}] or [default] in {policy} allows; a worker reads that file when it starts"
        ));
        remark_of_pins(&session, &head);
    } else {
        remark("it is already registered; nothing changed");
    }
    show(&head, json);
    Ok(())
}

/// Prints the line that the signer's deployment must list, if it is not listed yet.
fn remark_of_pins(session: &Session, head: &Head) {
    let pin = Pin::of(head);
    match &session.config.accounts {
        Some(AccountsFrom::Registry) => {}
        Some(AccountsFrom::Listed(listed))
            if listed.iter().any(|line| Pin::read(line, pin.account.chain_id).as_ref() == Ok(&pin)) => {}
        Some(AccountsFrom::Listed(_)) | None => remark(format!(
            "the signer signs for it once its deployment lists it (SIGNPOST_ACCOUNTS, the template's Accounts, or \
             [accounts] pinned):\n  {pin}"
        )),
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
    /// The first nonce.
    pub first: First,
}

/// The first nonce of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// This one.
    Given(Nonce),
    /// The chain's count, if all counts of a node agree.
    IfSettled,
    /// The chain's count, as soon as they agree.
    WhenSettled,
}

/// An account that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// As it is stored.
    pub head: Head,
    /// The key as KMS names it.
    pub key_id: KmsKeyId,
    /// Since now, not since before.
    pub is_new: bool,
}

/// Registers an account. Asking again for the same is harmless; another key under a known name is
/// refused.
pub async fn register(
    store: &impl Store,
    keys: &impl Keys,
    chain: &impl Chain,
    asked: Asked<'_>,
) -> Result<Registered, CommandError> {
    let input = |what: &str, value: &str, error: &dyn std::fmt::Display| {
        CommandError::Input(format!("{value} is no {what}: it {error}"))
    };
    let name: AccountName = asked.name.parse().map_err(|error| input("account name", asked.name, &error))?;
    let kms_key_id: KmsKeyId = asked.key.parse().map_err(|error| input("KMS key", asked.key, &error))?;
    let KeyAnswer { id: key_id, spki } = keys.public_key(&kms_key_id).await?;
    let public = PublicKey::from_spki(&spki).map_err(|error| {
        let way_out = "make it with key spec ECC_SECG_P256K1 and usage SIGN_VERIFY";
        CommandError::Input(format!("{} cannot sign for a chain: {error}; {way_out}", asked.key))
    })?;
    let account = AccountKey { chain_id: asked.chain_id, address: public.address() };
    // First of all: an account at work has transactions in the pool, its own.
    if let Some(existing) = store.head(&account).await? {
        return known(existing, &name, key_id);
    }
    fit_for_a_lane(chain, account).await?;
    let nonce = match asked.first {
        First::Given(nonce) => given(chain, account.address, nonce).await?,
        First::IfSettled => settled_now(chain, account.address).await?.map_err(|unfit| unsure(account, unfit))?,
        First::WhenSettled => when_settled(chain, account).await?,
    };
    let head = Head::new(account, name, key_id.clone(), nonce, Millis(clock::now_ms()));
    match store.register(&head).await? {
        RegisterVerdict::Registered => Ok(Registered { head, key_id, is_new: true }),
        RegisterVerdict::Exists(existing) => known(existing, &head.name, key_id),
        RegisterVerdict::NameTaken => {
            Err(CommandError::Input(format!("{} is the name of another account; choose another", head.name)))
        }
    }
}

fn known(existing: Head, name: &AccountName, key_id: KmsKeyId) -> Result<Registered, CommandError> {
    if existing.name == *name {
        return Ok(Registered { head: existing, key_id, is_new: false });
    }
    Err(CommandError::Input(format!("{} is registered already, as {}", existing.account.address, existing.name)))
}

/// Whether the nodes are of the account's chain, and take more than one transaction of its address at a time.
async fn fit_for_a_lane(chain: &impl Chain, account: AccountKey) -> Result<(), CommandError> {
    let found = chain.chain_id().await?;
    if found != account.chain_id {
        let text = format!("the nodes are of chain {found}, the configuration says {}; correct one", account.chain_id);
        return Err(CommandError::Input(text));
    }
    let address = account.address;
    if chain.has_code(address).await? {
        let text = format!(
            "{address} has code (an EIP-7702 delegation): nodes keep one transaction of it at a time; use another key"
        );
        return Err(CommandError::Input(text));
    }
    Ok(())
}

async fn given(chain: &impl Chain, address: Address, nonce: Nonce) -> Result<Nonce, CommandError> {
    let risk = before(&chain.counts(address).await?, nonce)
        .map_err(|unfit| CommandError::Input(format!("{address} cannot begin at nonce {nonce}: {unfit}")))?;
    if let Some(risk) = risk {
        remark(format!("note: {risk}"));
    }
    Ok(nonce)
}

async fn settled_now(chain: &impl Chain, address: Address) -> Result<Result<Nonce, Unfit>, CommandError> {
    let nonce = match settled(&chain.counts(address).await?) {
        Ok(nonce) => nonce,
        Err(unfit) => return Ok(Err(unfit)),
    };
    // A lane that begins at a nonce one node made up never gets a transaction mined.
    Ok(match chain.final_count(address).await? {
        (_, Word::Silent) => Err(Unfit::NoSecond),
        (count, Word::Agrees | Word::Alone) if count == nonce => Ok(nonce),
        (lower, _) => Err(Unfit::Disagree { first: nonce, lower }),
    })
}

fn unsure(account: AccountKey, unfit: Unfit) -> CommandError {
    let way_out = match unfit {
        Unfit::InPool { pending, .. } => format!(
            "stop that program and add --wait, or begin after its transactions with --nonce {pending}; then give it a \
             key of its own"
        ),
        Unfit::NotFinal { .. } => "add --wait: it takes seconds".to_owned(),
        Unfit::Disagree { .. } => {
            "add --wait; if it stays so, one of them lies or stands still: `signpost doctor`".to_owned()
        }
        Unfit::NoSecond => "ask again when it does, or take it out of rpc_urls".to_owned(),
        Unfit::PoolBehind(_) | Unfit::Used { .. } => "ask again, or another node".to_owned(),
    };
    CommandError::Input(format!(
        "{} has no sure next nonce: {unfit}. Nothing is registered; {way_out}",
        account.address
    ))
}

async fn when_settled(chain: &impl Chain, account: AccountKey) -> Result<Nonce, CommandError> {
    let mut told = None;
    let mut left_ms = WAIT_MAX_MS;
    loop {
        let unfit = match settled_now(chain, account.address).await? {
            Ok(nonce) => return Ok(nonce),
            Err(unfit) if left_ms == 0 => return Err(unsure(account, unfit)),
            Err(unfit) => unfit,
        };
        if told != Some(unfit) {
            remark(format!("waiting: {unfit}"));
            told = Some(unfit);
        }
        tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
        left_ms = left_ms.saturating_sub(LOOK_EVERY_MS);
    }
}

#[cfg(test)]
mod tests {
    use signpost_txmgr::fake::{Gate, Journal, MemoryChain, MemoryKeys, MemoryStore, NodeMood, Second};

    use super::*;

    const CHAIN: ChainId = ChainId(97);
    const ARN: &str = "arn:aws:kms:eu-west-1:000000000000:key/hot";
    const ALIAS: &str = "alias/hot";

    struct World {
        store: MemoryStore,
        keys: MemoryKeys,
        chain: MemoryChain,
        address: Address,
    }

    impl World {
        fn new() -> Self {
            let keys = MemoryKeys::default();
            let address = keys.add(&ARN.parse().unwrap(), [7; 32]);
            keys.set_alias(&ALIAS.parse().unwrap(), &ARN.parse().unwrap());
            let chain = MemoryChain::new(CHAIN, Gate::default(), Journal::default());
            Self { store: MemoryStore::default(), keys, chain, address }
        }

        async fn register(&self, name: &str, first: First) -> Result<Registered, String> {
            let asked = Asked { name, key: ALIAS, chain_id: CHAIN, first };
            register(&self.store, &self.keys, &self.chain, asked).await.map_err(|error| error.to_string())
        }

        fn another_program_sends(&self, nonces: std::ops::Range<u64>) {
            for nonce in nonces {
                self.chain.foreign(self.address, Nonce(nonce));
            }
        }
    }

    #[tokio::test]
    async fn an_alias_is_registered_as_the_key_it_names() {
        let world = World::new();
        let Registered { head, is_new, .. } = world.register("hot", First::IfSettled).await.unwrap();
        assert_eq!((head.kms_key_id.as_str(), head.next_nonce, is_new), (ARN, Nonce(0), true));
        assert_eq!(world.store.head(&head.account).await.unwrap(), Some(head));
    }

    #[tokio::test]
    async fn nothing_is_registered_over_what_another_program_has_in_the_pool() {
        let world = World::new();
        world.another_program_sends(0..2);
        let refused = world.register("hot", First::IfSettled).await.unwrap_err();
        assert!(refused.contains("2 transaction(s)") && refused.contains("--nonce 2"), "{refused}");
        let refused = world.register("hot", First::Given(Nonce(1))).await.unwrap_err();
        assert!(refused.contains("cannot begin at nonce 1"), "{refused}");
        assert!(world.store.accounts().await.unwrap().heads.is_empty());
        let after = world.register("hot", First::Given(Nonce(2))).await.unwrap();
        assert_eq!(after.head.next_nonce, Nonce(2));
    }

    #[tokio::test]
    async fn the_first_nonce_needs_the_word_of_two_nodes_where_there_are_two() {
        let world = World::new();
        world.another_program_sends(0..1);
        for _ in 0..4 {
            world.chain.mine();
        }
        // The one that is asked first has not seen that transaction.
        world.chain.set_second(Some(Second::Honest));
        world.chain.set_mood(NodeMood { lag: 4, ..NodeMood::default() });
        let refused = world.register("hot", First::IfSettled).await.unwrap_err();
        assert!(refused.contains("two nodes count differently: one 0") && refused.contains("--wait"), "{refused}");
        world.chain.set_mood(NodeMood::default());
        world.chain.set_second(Some(Second::Silent));
        let refused = world.register("hot", First::IfSettled).await.unwrap_err();
        assert!(refused.contains("only one answers"), "{refused}");
        assert!(world.store.accounts().await.unwrap().heads.is_empty());
        world.chain.set_second(Some(Second::Honest));
        assert_eq!(world.register("hot", First::IfSettled).await.unwrap().head.next_nonce, Nonce(1));
    }

    #[tokio::test]
    async fn a_count_that_a_reorganisation_can_take_back_is_not_taken() {
        let world = World::new();
        world.another_program_sends(0..1);
        world.chain.mine();
        let refused = world.register("hot", First::IfSettled).await.unwrap_err();
        assert!(refused.contains("not final (1 mined, 0 final)") && refused.contains("--wait"), "{refused}");
        world.chain.mine();
        world.chain.mine();
        assert_eq!(world.register("hot", First::IfSettled).await.unwrap().head.next_nonce, Nonce(1));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_nothing_is_in_the_pool_and_all_is_final() {
        let world = World::new();
        world.another_program_sends(0..2);
        let mining = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS * 2)).await;
                world.chain.mine();
            }
        };
        let (registered, ()) = tokio::join!(world.register("hot", First::WhenSettled), mining);
        assert_eq!(registered.unwrap().head.next_nonce, Nonce(2));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_what_is_never_mined_ends_too() {
        let world = World::new();
        world.another_program_sends(0..1);
        let refused = world.register("hot", First::WhenSettled).await.unwrap_err();
        assert!(refused.contains("1 transaction(s)"), "{refused}");
    }

    #[tokio::test]
    async fn an_account_at_work_is_registered_again_whatever_is_in_the_pool() {
        let world = World::new();
        let first = world.register("hot", First::IfSettled).await.unwrap();
        world.another_program_sends(0..3);
        let again = world.register("hot", First::IfSettled).await.unwrap();
        assert_eq!((again.head, again.is_new), (first.head, false));
        let refused = world.register("cold", First::IfSettled).await.unwrap_err();
        assert!(refused.contains("registered already, as hot"), "{refused}");
    }
}
