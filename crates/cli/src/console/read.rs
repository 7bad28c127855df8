//! Reads the data of the page from the tables and a node, with limits on accounts, open slots and newest requests. A
//! request whose outcome is published never changes and is read once.
//!
//! Read-only. Messages without a known account are not in the index, so they are found only by their id.

use std::collections::{HashMap, HashSet};

use aws_sdk_dynamodb::types::AttributeValue;
use signpost_aws::store::DynamoStore;
use signpost_bsc::chain::BscChain;
use signpost_txmgr::account::{Accounts, Head, UnreadableHead};
use signpost_txmgr::ports::{Chain as _, PortError, Store as _};
use signpost_txmgr::start::OfChain;
use signpost_txmgr::units::{AccountKey, ChainId, Nonce, RequestId, TxHash};
use signpost_txmgr::wire::RequestStatus;

use super::model::{self, AccountData, AccountView, Snapshot};
use crate::aws;
use crate::clock;
use crate::{ports, set_aside};
use signpost_host::error_chain;
use signpost_host::session::Session;

/// The limit of accounts shown. Accounts with open slots or an unusable key come first.
const ACCOUNTS_MAX: usize = 40;
/// The limit of open slots shown for a lane.
const SLOTS_MAX: usize = 120;
/// How many of an account's newest requests are in the lists and charts.
const NEWEST_MAX: i32 = 500;
/// Rounds between two reads of the balances.
const BALANCE_ROUNDS: u64 = 10;

/// The clients of tables and nodes, and a cache.
#[derive(Debug)]
pub(super) struct Reader {
    store: DynamoStore,
    chain: BscChain,
    dynamodb: aws_sdk_dynamodb::Client,
    requests_table: String,
    chain_id: ChainId,
    round: u64,
    balances: HashMap<AccountKey, String>,
    /// Requests whose outcome is published.
    closed: HashMap<RequestId, RequestStatus>,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Request(String),
    Nothing(&'static str),
}

impl Reader {
    pub(super) fn new(session: &Session, chain: BscChain) -> Self {
        Self {
            store: ports::store(session),
            chain,
            dynamodb: aws_sdk_dynamodb::Client::new(&session.sdk),
            requests_table: session.config.tables.requests.clone(),
            chain_id: ChainId(session.config.chain.chain_id),
            round: 0,
            balances: HashMap::new(),
            closed: HashMap::new(),
        }
    }

    /// Reads the data of the page. Problems are listed, and the rest is shown.
    pub(super) async fn snapshot(&mut self, now: u64) -> Snapshot {
        let mut problems = Vec::new();
        let registered = self.store.accounts().await.unwrap_or_else(|error| {
            problems.push(format!("the accounts cannot be read: {}", error_chain(&error)));
            Accounts::default()
        });
        // Accounts on other chains belong to another Signpost.
        let OfChain { mut heads, unreadable, others: _ } = OfChain::of(registered, self.chain_id);
        let cannot = |entry: &UnreadableHead| format!("{} cannot be read: {}", entry.name, entry.problem);
        problems.extend(unreadable.iter().map(cannot));
        heads.sort_by(|left, right| {
            let quiet = |head: &Head| !head.needs_passes() && head.unusable.is_none();
            let key = |head: &Head| (quiet(head), head.name.to_string());
            key(left).cmp(&key(right))
        });
        let accounts_left_out = heads.len().saturating_sub(ACCOUNTS_MAX);
        heads.truncate(ACCOUNTS_MAX);
        if self.round.checked_rem(BALANCE_ROUNDS) == Some(0) {
            self.read_balances(&heads, &mut problems).await;
        }
        self.round = self.round.saturating_add(1);
        for head in &heads {
            problems.extend(set_aside::lines(head).into_iter().map(|line| format!("{}: {line}", head.name)));
        }
        let mut lanes = Vec::with_capacity(heads.len());
        let mut newest = Vec::new();
        for head in &heads {
            match self.ids_of(head).await {
                Ok((slots, recent)) => {
                    newest.extend(recent);
                    lanes.push((head, slots));
                }
                Err(problem) => problems.push(format!("{} cannot be read: {problem}", head.name)),
            }
        }
        let open = lanes.iter().flat_map(|(_, slots)| slots.iter().map(|(_, id)| id));
        let wanted: HashSet<RequestId> = open.chain(&newest).cloned().collect();
        let requests = self.requests(&wanted).await.unwrap_or_else(|error| {
            problems.push(format!("the requests cannot be read: {}", error_chain(&error)));
            HashMap::new()
        });
        let names = heads.iter().map(|head| (head.account.to_string(), head.name.to_string())).collect();
        let mut accounts: Vec<AccountView> = lanes
            .iter()
            .map(|(head, slots)| {
                let slots = slots.iter().map(|(nonce, id)| (*nonce, id.to_string(), requests.get(id))).collect();
                let balance = self.balances.get(&head.account).cloned();
                AccountView::new(&AccountData { head, balance, slots }, now)
            })
            .collect();
        accounts.sort_by_key(AccountView::order);
        Snapshot {
            at: now,
            chain_id: self.chain_id.0,
            accounts,
            accounts_left_out,
            outcomes: model::outcomes(requests.values(), &names),
            series: model::series(&requests.values(), now),
            problems,
        }
    }

    /// A request with everything that is stored for it.
    pub(super) async fn request(&self, id: &RequestId) -> Result<Option<RequestStatus>, PortError> {
        let found = self.store.load(std::slice::from_ref(id), clock::now()).await?;
        Ok(found.first().map(RequestStatus::of))
    }

    /// Finds a request by its id, or by the hash of one of its transactions.
    pub(super) async fn search(&self, text: &str) -> Result<Found, PortError> {
        if let Ok(hash) = text.to_ascii_lowercase().parse::<TxHash>() {
            return self.by_transaction(hash).await;
        }
        let Ok(id) = text.parse::<RequestId>() else {
            return Ok(Found::Nothing("neither a request id nor a transaction hash"));
        };
        Ok(match self.request(&id).await? {
            Some(status) => Found::Request(status.request_id),
            None => Found::Nothing("no such request is in the table; its message may still be in the queue"),
        })
    }

    async fn by_transaction(&self, hash: TxHash) -> Result<Found, PortError> {
        let text = hash.to_string();
        let known = self.closed.values().find(|status| status.attempts.iter().any(|attempt| attempt.tx_hash == text));
        if let Some(status) = known {
            return Ok(Found::Request(status.request_id.clone()));
        }
        let Some((address, nonce)) = self.chain.sender_of(hash).await? else {
            return Ok(Found::Nothing("the node does not know this transaction; search by the request id"));
        };
        let account = AccountKey { chain_id: self.chain_id, address };
        let slot = self.store.slots(&account, nonce, 1).await?.into_iter().find(|(found, _)| *found == nonce);
        Ok(match slot {
            Some((_, id)) => Found::Request(id.to_string()),
            None => Found::Nothing("the transaction's sender and nonce belong to no request here"),
        })
    }

    async fn read_balances(&mut self, heads: &[Head], problems: &mut Vec<String>) {
        let asked = heads.iter().map(|head| self.chain.balance(head.account.address));
        let answers = futures_util::future::join_all(asked).await;
        self.balances.clear();
        let mut failed = None;
        for (head, answer) in heads.iter().zip(answers) {
            match answer {
                Ok(balance) => drop(self.balances.insert(head.account, balance.to_string())),
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            problems.push(format!("balances cannot be read: {}", error_chain(&error)));
        }
    }

    /// The open slots of a lane and the newest requests of its account.
    async fn ids_of(&self, head: &Head) -> Result<(Vec<(Nonce, RequestId)>, Vec<RequestId>), String> {
        let count = usize::try_from(head.open_slots()).unwrap_or(SLOTS_MAX).min(SLOTS_MAX);
        let slots = self.store.slots(&head.account, head.lowest_open_nonce, count);
        let newest = self
            .dynamodb
            .query()
            .table_name(&self.requests_table)
            .index_name("byAccount")
            .key_condition_expression("#account = :account")
            .expression_attribute_names("#account", "account")
            .expression_attribute_values(":account", AttributeValue::S(head.account.to_string()))
            .scan_index_forward(false)
            .limit(NEWEST_MAX)
            .send();
        let (slots, newest) = tokio::join!(slots, newest);
        let newest = newest.map_err(|error| aws::reason(&error))?;
        let id = |key: &HashMap<String, AttributeValue>| key.get("requestId")?.as_s().ok()?.parse().ok();
        Ok((slots.map_err(|error| error_chain(&error))?, newest.items().iter().filter_map(id).collect()))
    }

    /// The requests with these ids: closed ones from the cache, the others from the table.
    async fn requests(&mut self, wanted: &HashSet<RequestId>) -> Result<HashMap<RequestId, RequestStatus>, PortError> {
        self.closed.retain(|id, _| wanted.contains(id));
        let unknown: Vec<RequestId> = wanted.iter().filter(|id| !self.closed.contains_key(id)).cloned().collect();
        let mut requests = self.closed.clone();
        for stored in self.store.load(&unknown, clock::now()).await? {
            let mut status = RequestStatus::of(&stored);
            // The page does not show calldata here; it may have 128 KiB for each request.
            status.data = None;
            let Ok(id) = status.request_id.parse::<RequestId>() else { continue };
            // A rejected id may still be accepted later.
            if status.published_at.is_some() && status.nonce.is_some() {
                self.closed.insert(id.clone(), status.clone());
            }
            requests.insert(id, status);
        }
        Ok(requests)
    }
}
