//! `signpost account register`: binds a name to a key, and sets the first nonce of its lane from the chain's count.
//!
//! Only waits, and prints what to do: registration itself is in [`signpost_txmgr::registration`]. The key is stored by
//! the ARN that KMS returns: an alias may be moved to another key later, and another key means another address.

use std::time::Duration;

use aws_config::SdkConfig;
use signpost_txmgr::account::Head;
use signpost_txmgr::pins::Pin;
use signpost_txmgr::ports::{Chain, Keys, Store};
use signpost_txmgr::registration::counts::Unfit;
use signpost_txmgr::registration::{Asked, Candidate, Found, Registered, find};
use signpost_txmgr::units::{Address, ChainId, Millis, Nonce};

use super::show;
use crate::command::{CommandError, ConfigOption, Session};
use crate::config::AccountsFrom;
use crate::stack::provision;
use crate::terminal::remark;
use crate::{clock, ports};

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
    let (store, keys, chain) = (ports::store(&session), ports::keys(&session), ports::chain(&session)?);
    let first = match nonce {
        Some(nonce) => First::Given(Nonce(nonce)),
        None if wait => First::WhenSettled,
        None => First::IfSettled,
    };
    let asked = Asked { name: &name, key: &key, chain_id: ChainId(session.config.chain.chain_id) };
    let Registered { head, key_id, is_new } = register(&store, &keys, &chain, asked, first).await?;
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

/// The first nonce of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// This one.
    Given(Nonce),
    /// The chain's count, if all counts of a node agree.
    IfSettled,
    /// The chain's count, as soon as all counts agree.
    WhenSettled,
}

/// Registers an account. Registering it again changes nothing; a known name with another key is refused.
pub async fn register(
    store: &impl Store,
    keys: &impl Keys,
    chain: &impl Chain,
    asked: Asked<'_>,
    first: First,
) -> Result<Registered, CommandError> {
    let candidate = match find(store, keys, chain, asked).await? {
        Found::Known(registered) => return Ok(*registered),
        Found::New(candidate) => candidate,
    };
    let nonce = match first {
        First::Given(nonce) => {
            if let Some(risk) = candidate.given(chain, nonce).await? {
                remark(format!("note: {risk}"));
            }
            nonce
        }
        First::IfSettled => candidate.settled(chain).await?.map_err(|unfit| unsure(candidate.address(), unfit))?,
        First::WhenSettled => when_settled(chain, &candidate).await?,
    };
    Ok(candidate.register(store, nonce, Millis(clock::now_ms())).await?)
}

fn unsure(address: Address, unfit: Unfit) -> CommandError {
    let hint = match unfit {
        Unfit::InPool { pending, .. } => format!(
            "stop that program and add --wait, or start after its transactions with --nonce {pending}; then give it \
             its own key"
        ),
        Unfit::NotFinal { .. } => "add --wait: it takes seconds".to_owned(),
        Unfit::Disagree { .. } => {
            "add --wait; if they still disagree, one of them is wrong or behind: see `signpost doctor`".to_owned()
        }
        Unfit::NoSecond => "try again when the other one answers, or remove it from rpc_urls".to_owned(),
        Unfit::PoolBehind(_) | Unfit::Used { .. } => "try again, or use another node".to_owned(),
    };
    CommandError::Input(format!("{address} has no certain next nonce: {unfit}. Nothing is registered; {hint}"))
}

async fn when_settled(chain: &impl Chain, candidate: &Candidate) -> Result<Nonce, CommandError> {
    let mut reported = None;
    let mut left_ms = WAIT_MAX_MS;
    loop {
        let unfit = match candidate.settled(chain).await? {
            Ok(nonce) => return Ok(nonce),
            Err(unfit) if left_ms == 0 => return Err(unsure(candidate.address(), unfit)),
            Err(unfit) => unfit,
        };
        if reported != Some(unfit) {
            remark(format!("waiting: {unfit}"));
            reported = Some(unfit);
        }
        tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
        left_ms = left_ms.saturating_sub(LOOK_EVERY_MS);
    }
}

#[cfg(test)]
mod tests {
    use signpost_txmgr::fake::{Interceptor, Journal, MemoryChain, MemoryKeys, MemoryStore, NodeFaults, Second};

    use super::*;

    const CHAIN: ChainId = ChainId(97);
    const ARN: &str = "arn:aws:kms:eu-west-1:000000000000:key/hot";
    const ALIAS: &str = "alias/hot";

    struct Fixture {
        store: MemoryStore,
        keys: MemoryKeys,
        chain: MemoryChain,
        address: Address,
    }

    impl Fixture {
        fn new() -> Self {
            let keys = MemoryKeys::default();
            let address = keys.add(&ARN.parse().unwrap(), [7; 32]);
            keys.set_alias(&ALIAS.parse().unwrap(), &ARN.parse().unwrap());
            let chain = MemoryChain::new(CHAIN, Interceptor::default(), Journal::default());
            Self { store: MemoryStore::default(), keys, chain, address }
        }

        async fn register(&self, name: &str, first: First) -> Result<Registered, String> {
            let asked = Asked { name, key: ALIAS, chain_id: CHAIN };
            register(&self.store, &self.keys, &self.chain, asked, first).await.map_err(|error| error.to_string())
        }

        fn another_program_sends(&self, nonces: std::ops::Range<u64>) {
            for nonce in nonces {
                self.chain.foreign(self.address, Nonce(nonce));
            }
        }
    }

    #[tokio::test]
    async fn alias_is_registered_as_the_key_it_names() {
        let fixture = Fixture::new();
        let Registered { head, is_new, .. } = fixture.register("hot", First::IfSettled).await.unwrap();
        assert_eq!((head.kms_key_id.as_str(), head.next_nonce, is_new), (ARN, Nonce(0), true));
        assert_eq!(fixture.store.head(&head.account).await.unwrap(), Some(head));
    }

    #[tokio::test]
    async fn account_with_foreign_pool_transactions_is_not_registered() {
        let fixture = Fixture::new();
        fixture.another_program_sends(0..2);
        let refused = fixture.register("hot", First::IfSettled).await.unwrap_err();
        assert!(refused.contains("2 transaction(s)") && refused.contains("--nonce 2"), "{refused}");
        let refused = fixture.register("hot", First::Given(Nonce(1))).await.unwrap_err();
        assert!(refused.contains("cannot begin at nonce 1"), "{refused}");
        assert!(fixture.store.accounts().await.unwrap().heads.is_empty());
        let after = fixture.register("hot", First::Given(Nonce(2))).await.unwrap();
        assert_eq!(after.head.next_nonce, Nonce(2));
    }

    #[tokio::test]
    async fn first_nonce_needs_two_nodes_to_agree_if_there_are_two() {
        let fixture = Fixture::new();
        fixture.another_program_sends(0..1);
        for _ in 0..4 {
            fixture.chain.mine();
        }
        // The node that is asked first has not seen that transaction.
        fixture.chain.set_second(Some(Second::Honest));
        fixture.chain.set_faults(NodeFaults { lag: 4, ..NodeFaults::default() });
        let refused = fixture.register("hot", First::IfSettled).await.unwrap_err();
        assert!(refused.contains("two nodes count differently: one 0") && refused.contains("--wait"), "{refused}");
        fixture.chain.set_faults(NodeFaults::default());
        fixture.chain.set_second(Some(Second::Silent));
        let refused = fixture.register("hot", First::IfSettled).await.unwrap_err();
        assert!(refused.contains("only one answers"), "{refused}");
        assert!(fixture.store.accounts().await.unwrap().heads.is_empty());
        fixture.chain.set_second(Some(Second::Honest));
        assert_eq!(fixture.register("hot", First::IfSettled).await.unwrap().head.next_nonce, Nonce(1));
    }

    #[tokio::test]
    async fn count_that_a_reorganisation_can_undo_is_refused() {
        let fixture = Fixture::new();
        fixture.another_program_sends(0..1);
        fixture.chain.mine();
        let refused = fixture.register("hot", First::IfSettled).await.unwrap_err();
        assert!(refused.contains("not final (1 mined, 0 final)") && refused.contains("--wait"), "{refused}");
        fixture.chain.mine();
        fixture.chain.mine();
        assert_eq!(fixture.register("hot", First::IfSettled).await.unwrap().head.next_nonce, Nonce(1));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_the_pool_is_empty_and_all_is_final() {
        let fixture = Fixture::new();
        fixture.another_program_sends(0..2);
        let mining = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS * 2)).await;
                fixture.chain.mine();
            }
        };
        let (registered, ()) = tokio::join!(fixture.register("hot", First::WhenSettled), mining);
        assert_eq!(registered.unwrap().head.next_nonce, Nonce(2));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_even_if_a_transaction_is_never_mined() {
        let fixture = Fixture::new();
        fixture.another_program_sends(0..1);
        let refused = fixture.register("hot", First::WhenSettled).await.unwrap_err();
        assert!(refused.contains("1 transaction(s)"), "{refused}");
    }

    #[tokio::test]
    async fn account_in_use_can_be_registered_again_at_any_time() {
        let fixture = Fixture::new();
        let first = fixture.register("hot", First::IfSettled).await.unwrap();
        fixture.another_program_sends(0..3);
        let again = fixture.register("hot", First::IfSettled).await.unwrap();
        assert_eq!((again.head, again.is_new), (first.head, false));
        let refused = fixture.register("cold", First::IfSettled).await.unwrap_err();
        assert!(refused.contains("registered already, as hot"), "{refused}");
    }
}
