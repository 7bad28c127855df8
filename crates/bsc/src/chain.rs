//! [`BscChain`]: the chain port on the JSON-RPC of one or more endpoints.
//!
//! A round's view comes from one endpoint in two or three requests, so that its parts are consistent.
//! A missing answer is "unknown" there, never "absent". Holds no high-water marks: the caller compares rounds.
//!
//! Read next: `view.rs`, `send.rs`, `search.rs`.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use signpost_txmgr::machine::Corroboration;
use signpost_txmgr::ports::{
    Chain, ChainView, Counts, Finality, NonceUse, PortError, UseQuery, ViewQuery, WitnessQuery,
};
use signpost_txmgr::record::{BlockRef, Foreign, Receipt, SendAnswer, SendClass};
use signpost_txmgr::tx::{Intent, RawTx};
use signpost_txmgr::units::{Address, ChainId, Nonce, TxHash, U256, Wei};

use crate::classify::is_execution_error;
use crate::corroborate;
use crate::endpoints::{Endpoint, EndpointFailure, Endpoints, SendTo, count_at, port_error};
use crate::price::PriceSeen;
use crate::private::{AuthorizationHeader, EndpointKind, PrivateEndpoint};
use crate::quantity;
use crate::refusals::Refusals;
use crate::rpc::{Answer, CallFailure, ClientError, NodeError, RpcClient, need};
use crate::search::Search;
use crate::send::{Privacy, SentOnce};
use crate::view;

/// The configuration of [`BscChain`]. `Debug` does not print URLs.
#[derive(Clone)]
pub struct BscConfig {
    /// The chain that every endpoint must serve.
    pub chain_id: ChainId,
    /// URLs in order of preference; `http` or `https`. May hold keys.
    pub endpoints: Vec<String>,
    /// Send-only endpoints. If there are any, transactions go to them first.
    pub private: Vec<PrivateEndpoint>,
    /// If true, transactions never go to the public endpoints. If false, they go there too when they are sent again, or
    /// when no private endpoint was reached. Has no effect without private endpoints.
    pub private_only: bool,
    /// Which public endpoints, and which private ones, get a transaction.
    pub send_to: SendTo,
    /// Timeout of one HTTP request.
    pub timeout_ms: u64,
    /// Maximum number of calls in one batch.
    pub batch_items: usize,
    /// An endpoint this many blocks behind another is read from last.
    pub max_lag_blocks: u64,
    /// Interval at which endpoints are asked for their height, if there are several.
    pub probe_every_ms: u64,
    /// Interval at which the network's price is read.
    pub price_every_ms: u64,
    /// A single node's refusal is confirmed after this time, if no other node refuses the transaction.
    pub refusal_confirm_ms: u64,
    /// When a block counts as final.
    pub finality: Finality,
    /// Lower bound of the reported price, in wei per gas: validators do not mine below it.
    pub fee_floor: Wei,
    /// Upper bound of the reported price, in wei per gas, whatever blocks paid.
    pub fee_ceiling: Wei,
}

impl BscConfig {
    /// The defaults: transactions go to every endpoint; a timeout of 5 s, several blocks' time even for a busy
    /// node; batches of 20, the smallest limit of a known provider; a lag of 10 blocks (4.5 s); heights
    /// every 10 s; the price every 3 s, which is within a proposer's turn of 8 blocks (3.6 s); one minute to confirm
    /// the refusal of a single node.
    #[must_use]
    pub fn new(chain_id: ChainId, endpoints: Vec<String>) -> Self {
        Self {
            chain_id,
            endpoints,
            private: Vec::new(),
            private_only: true,
            send_to: SendTo::All,
            timeout_ms: 5_000,
            batch_items: 20,
            max_lag_blocks: 10,
            probe_every_ms: 10_000,
            price_every_ms: 3_000,
            refusal_confirm_ms: 60_000,
            finality: Finality::Finalized,
            fee_floor: Wei::ZERO,
            fee_ceiling: Wei(U256::MAX),
        }
    }
}

impl fmt::Debug for BscConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BscConfig")
            .field("chain_id", &self.chain_id)
            .field("endpoints", &self.endpoints.len())
            .field("private", &self.private)
            .field("private_only", &self.private_only)
            .field("send_to", &self.send_to)
            .field("timeout_ms", &self.timeout_ms)
            .field("batch_items", &self.batch_items)
            .field("max_lag_blocks", &self.max_lag_blocks)
            .field("probe_every_ms", &self.probe_every_ms)
            .field("price_every_ms", &self.price_every_ms)
            .field("refusal_confirm_ms", &self.refusal_confirm_ms)
            .field("finality", &self.finality)
            .field("fee_floor", &self.fee_floor)
            .field("fee_ceiling", &self.fee_ceiling)
            .finish()
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BscConfigError {
    /// The list of endpoints is empty.
    #[error("at least one RPC endpoint is needed")]
    NoEndpoint,
    /// An endpoint cannot be used. It is named by its position, because its URL may hold a key.
    #[error("RPC endpoint {position} of the list cannot be used")]
    Endpoint {
        /// Position in the list, from 1.
        position: usize,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// A private endpoint cannot be used.
    #[error("private endpoint {position} cannot be used")]
    Private {
        /// Position in the list, from 1.
        position: usize,
        /// Why.
        #[source]
        source: ClientError,
    },
}

/// How long a second endpoint's answer is waited for; it is asked again later.
const SECOND_TIMEOUT: Duration = Duration::from_secs(2);

/// The final block is two below the newest, or five if votes are late (BEP-126). A larger distance is a fault of the
/// node, or of all nodes.
const FINALITY_LAG_BLOCKS: u64 = 20;

/// The chain port. Cheap to share by reference; keeps connections and the endpoints' health.
#[derive(Debug)]
pub struct BscChain {
    pub(crate) endpoints: Endpoints,
    price: PriceSeen,
    privacy: Privacy,
    refusals: Refusals,
    finality: Finality,
}

impl BscChain {
    /// Checks the configuration. Nothing is sent yet.
    pub fn new(config: &BscConfig) -> Result<Self, BscConfigError> {
        if config.endpoints.is_empty() {
            return Err(BscConfigError::NoEndpoint);
        }
        let timeout = Duration::from_millis(config.timeout_ms);
        let clients = config.endpoints.iter().zip(1..).map(|(url, position)| {
            RpcClient::new(url, timeout, config.batch_items)
                .map_err(|source| BscConfigError::Endpoint { position, source })
        });
        let endpoints = Endpoints::new(
            clients.collect::<Result<_, _>>()?,
            config.chain_id,
            config.send_to,
            config.max_lag_blocks,
            Duration::from_millis(config.probe_every_ms),
        );
        let private = config.private.iter().zip(1..).map(|(endpoint, position)| {
            // One transaction a request: no provider documents more.
            let client = RpcClient::new(&endpoint.url, timeout, 1);
            let client = client.map_err(|source| BscConfigError::Private { position, source })?;
            let authorization = endpoint.authorization.as_ref().map(AuthorizationHeader::header);
            let kind = EndpointKind::Private(endpoint.shape.clone());
            Ok(Endpoint::new(client.with_authorization(authorization), kind))
        });
        let endpoints = endpoints.with_private(private.collect::<Result<_, _>>()?);
        let privacy = match (config.private.is_empty(), config.private_only) {
            (true, _) => Privacy::None,
            (false, true) => Privacy::Always,
            (false, false) => Privacy::First(SentOnce::default()),
        };
        let every = Duration::from_millis(config.price_every_ms);
        let price = PriceSeen::new(every, config.fee_floor, config.fee_ceiling);
        let refusals = Refusals::new(Duration::from_millis(config.refusal_confirm_ms));
        Ok(Self { endpoints, price, privacy, refusals, finality: config.finality })
    }

    /// Makes one call and reads its answer.
    pub(crate) async fn ask<T: Send>(
        &self,
        method: &'static str,
        params: Value,
        read: impl Fn(&Value) -> Option<T> + Send + Sync,
    ) -> Result<T, PortError> {
        let (params, read) = (&params, &read);
        self.endpoints
            .read(method, |endpoint| async move { need(endpoint.call(method, params.clone()).await, method, read) })
            .await
    }
}

impl Chain for BscChain {
    async fn chain_id(&self) -> Result<ChainId, PortError> {
        const METHOD: &str = "eth_chainId";
        self.endpoints
            .read_unverified(METHOD, |endpoint| async move {
                need(endpoint.call(METHOD, json!([])).await, METHOD, quantity::number).map(ChainId)
            })
            .await
    }

    async fn view(&self, query: &ViewQuery) -> Result<ChainView, PortError> {
        let ask = |endpoint| view::view(endpoint, query, self.finality, &self.price);
        // Boxed: a view is a large part of a pass's state while it waits.
        let view = Box::pin(self.endpoints.read("view", ask)).await?;
        if self.lags(&view, query) {
            self.endpoints.doubt(&view.source);
        }
        if query.head_waits && self.is_ahead_elsewhere(&view, query.address).await {
            self.endpoints.doubt(&view.source);
            return Box::pin(self.endpoints.read("view", ask)).await;
        }
        Ok(view)
    }

    async fn send(&self, raw: &RawTx) -> SendAnswer {
        let answers = self.send_all(std::slice::from_ref(raw)).await;
        answers.into_iter().next().unwrap_or_else(|| SendAnswer::new(SendClass::Unknown, "no answer"))
    }

    async fn send_all(&self, raws: &[RawTx]) -> Vec<SendAnswer> {
        crate::send::send_all(&self.endpoints, &self.privacy, &self.refusals, raws).await
    }

    async fn revert_bytes(
        &self,
        from: Address,
        intent: &Intent,
        block: BlockRef,
    ) -> Result<Option<Vec<u8>>, PortError> {
        const METHOD: &str = "eth_call";
        let mut call = json!({
            "from": from.lower(),
            "value": quantity::hex_wei(intent.value),
            "gas": quantity::hex_number(intent.gas.0),
            "data": quantity::hex_bytes(&intent.data),
        });
        if let (Some(to), Some(fields)) = (intent.to, call.as_object_mut()) {
            fields.insert("to".to_owned(), json!(to.lower()));
        }
        let params = &json!([call, quantity::hex_number(block.number.0)]);
        let replayed = self
            .endpoints
            .read(METHOD, |endpoint| async move { reverted(endpoint.call(METHOD, params.clone()).await) })
            .await;
        match replayed {
            // The call was executed, and the node gives no revert data.
            Err(error) if ended_without_data(&error) => Ok(None),
            replayed => replayed,
        }
    }

    async fn witness(&self, query: &WitnessQuery) -> Vec<Corroboration> {
        if self.endpoints.count() < 2 {
            return vec![Corroboration::Alone; query.finals.len()];
        }
        let mut tallies = vec![Tally::default(); query.finals.len()];
        for endpoint in self.endpoints.others(&query.source) {
            let ask = |endpoint| corroborate::witness(endpoint, query, self.finality);
            let asked = tokio::time::timeout(SECOND_TIMEOUT, self.endpoints.ask_one(endpoint, ask)).await;
            let Ok(Ok(answers)) = asked else { continue };
            for (tally, corroboration) in tallies.iter_mut().zip(answers) {
                tally.note(corroboration);
            }
            // A third endpoint is asked only if the first two contradict each other or the second has no answer.
            if tallies.iter().all(|tally| tally.corroboration() == Corroboration::Agrees) {
                break;
            }
        }
        let answers: Vec<Corroboration> = tallies.iter().map(|tally| tally.corroboration()).collect();
        if answers.contains(&Corroboration::Contradicts) {
            self.endpoints.doubt(&query.source);
        }
        answers
    }

    async fn nonce_use(&self, query: &UseQuery) -> Result<NonceUse, PortError> {
        if let Some(found) = self.shown_elsewhere(query).await {
            return Ok(found);
        }
        // A node may lack the block or the old counts: ask the next one too.
        let mut nothing = None;
        let mut failure = None;
        for endpoint in self.endpoints.readable() {
            let search = |endpoint| crate::search::nonce_use(endpoint, query, self.finality);
            match self.endpoints.ask_one(endpoint, search).await {
                Ok(Search::Found(used)) => return Ok(self.weigh_use(endpoint, query, used).await),
                Ok(Search::NotFound(searched)) => {
                    nothing.get_or_insert(NonceUse::NotFound(searched));
                }
                Err(error) => {
                    failure.get_or_insert(endpoint.failure(error));
                }
            }
        }
        // The first endpoint reports the nonce as used, and no node shows by which transaction: prefer another one.
        if nothing.is_some()
            && self.endpoints.count() > 1
            && let Some(leader) = self.endpoints.readable().first()
        {
            self.endpoints.doubt(leader.name());
        }
        match (nothing, failure) {
            (Some(nothing), _) => Ok(nothing),
            (None, failure) => Err(port_error("nonce_use", failure.into_iter().collect())),
        }
    }

    async fn final_count(&self, address: Address) -> Result<(Nonce, Corroboration), PortError> {
        let mut counts = Vec::new();
        let mut failures = Vec::new();
        for endpoint in self.endpoints.readable() {
            let ask = |endpoint| view::final_pair(endpoint, address, self.finality);
            match self.endpoints.ask_one(endpoint, ask).await {
                Ok(pair) => counts.push(pair.nonce),
                Err(error) => failures.push(endpoint.failure(error)),
            }
            if counts.len() == 2 {
                break;
            }
        }
        let Some(lowest) = counts.iter().min() else { return Err(port_error("final_count", failures)) };
        let corroboration = match (counts.len(), self.endpoints.count()) {
            (_, 1) => Corroboration::Alone,
            (1, _) => Corroboration::Silent,
            _ if counts.iter().all(|count| count == lowest) => Corroboration::Agrees,
            _ => Corroboration::NotYet,
        };
        Ok((*lowest, corroboration))
    }

    async fn has_code(&self, address: Address) -> Result<bool, PortError> {
        let code = self.ask("eth_getCode", json!([address.lower(), "latest"]), quantity::bytes).await?;
        Ok(!code.is_empty())
    }

    async fn balance(&self, address: Address) -> Result<Wei, PortError> {
        self.ask("eth_getBalance", json!([address.lower(), "latest"]), quantity::wei).await
    }

    async fn counts(&self, address: Address) -> Result<Counts, PortError> {
        self.endpoints.read("eth_getTransactionCount", |endpoint| view::counts(endpoint, address, self.finality)).await
    }
}

/// The answers of the other endpoints about one fact that the first endpoint reported.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    agree: usize,
    contradict: usize,
    not_yet: usize,
}

impl Tally {
    fn note(&mut self, corroboration: Corroboration) {
        match corroboration {
            Corroboration::Agrees => self.agree = self.agree.saturating_add(1),
            Corroboration::Contradicts => self.contradict = self.contradict.saturating_add(1),
            Corroboration::NotYet => self.not_yet = self.not_yet.saturating_add(1),
            Corroboration::Alone | Corroboration::Silent => {}
        }
    }

    /// The majority of the endpoints that gave an answer, the first included.
    fn corroboration(self) -> Corroboration {
        match (self.agree, self.contradict) {
            (0, 0) if self.not_yet > 0 => Corroboration::NotYet,
            (0, 0) => Corroboration::Silent,
            (agree, contradict) if agree > 0 && agree.saturating_add(1) > contradict => Corroboration::Agrees,
            _ => Corroboration::Contradicts,
        }
    }
}

impl BscChain {
    /// Whether a node answers but makes no progress: its count is below one that another node reported, or its final
    /// block stays far behind its newest. Another node is then preferred for a while; if all lag, all stay in use.
    fn lags(&self, view: &ChainView, query: &ViewQuery) -> bool {
        let unfinal = view.latest.number.0.saturating_sub(view.finalized.number.0);
        let stays_behind = self.finality == Finality::Finalized && unfinal > FINALITY_LAG_BLOCKS;
        stays_behind || view.latest_nonce < query.latest_seen
    }

    /// Whether the next endpoint counts more transactions of the account.
    async fn is_ahead_elsewhere(&self, view: &ChainView, address: Address) -> bool {
        let Some(next) = self.endpoints.others(&view.source).into_iter().next() else { return false };
        let ask = |endpoint| count_at(endpoint, address, json!("latest"));
        let asked = tokio::time::timeout(SECOND_TIMEOUT, self.endpoints.ask_one(next, ask)).await;
        asked.is_ok_and(|count| count.is_ok_and(|count| count > view.latest_nonce.0))
    }

    /// The receipt of one of our attempts, from the first endpoint that shows it final.
    async fn shown_elsewhere(&self, query: &UseQuery) -> Option<NonceUse> {
        for endpoint in self.endpoints.readable() {
            let ask =
                |endpoint| corroborate::own_receipt(endpoint, query.address, query.nonce, &query.own, self.finality);
            if let Ok(Some(receipt)) = self.endpoints.ask_one(endpoint, ask).await {
                let corroboration = self.witness_of(endpoint, query, receipt).await;
                return Some(NonceUse::Ours(receipt, corroboration));
            }
        }
        None
    }

    async fn witness_of(&self, source: &Endpoint, query: &UseQuery, receipt: Receipt) -> Corroboration {
        let finals = vec![(query.nonce, receipt)];
        let asked = WitnessQuery { address: query.address, source: source.name().to_owned(), finals, now: query.now };
        self.witness(&asked).await.first().copied().unwrap_or(Corroboration::Silent)
    }

    /// Classifies a transaction that an endpoint found in a block: ours or foreign, and whether others confirm it.
    async fn weigh_use(&self, source: &Endpoint, query: &UseQuery, used: Foreign) -> NonceUse {
        if query.own.contains(&used.tx_hash) {
            for endpoint in self.endpoints.readable() {
                let ask =
                    |endpoint| async move { Ok(corroborate::block_receipt(endpoint, &used.block, used.tx_hash).await) };
                if let Ok(Some(receipt)) = self.endpoints.ask_one(endpoint, ask).await {
                    let corroboration = self.witness_of(source, query, receipt).await;
                    return NonceUse::Ours(receipt, corroboration);
                }
            }
            return NonceUse::Unshown(used);
        }
        if self.endpoints.count() < 2 {
            return NonceUse::Found(used, Corroboration::Alone);
        }
        let mut tally = Tally::default();
        for endpoint in self.endpoints.others(source.name()) {
            let at = (used.tx_hash, used.block);
            let ask =
                |endpoint| corroborate::of_use(endpoint, query.address, query.nonce, at, self.finality, query.now);
            let asked = tokio::time::timeout(SECOND_TIMEOUT, self.endpoints.ask_one(endpoint, ask)).await;
            if let Ok(Ok(corroboration)) = asked {
                tally.note(corroboration);
            }
            if tally.corroboration() == Corroboration::Agrees {
                break;
            }
        }
        if tally.corroboration() == Corroboration::Contradicts {
            self.endpoints.doubt(source.name());
        }
        NonceUse::Found(used, tally.corroboration())
    }

    /// Sender and nonce of a transaction, pending or mined; `None` if the node does not know it. For display only:
    /// `None` proves nothing.
    pub async fn sender_of(&self, hash: TxHash) -> Result<Option<(Address, Nonce)>, PortError> {
        self.ask("eth_getTransactionByHash", json!([hash.to_string()]), |answer| {
            if answer.is_null() {
                return Some(None);
            }
            let from = answer.get("from").and_then(quantity::address)?;
            let nonce = answer.get("nonce").and_then(quantity::number)?;
            Some(Some((from, Nonce(nonce))))
        })
        .await
    }
}

/// The revert data of a replay; `None` if it does not revert now.
pub(crate) fn reverted(answer: Answer) -> Result<Option<Vec<u8>>, CallFailure> {
    match answer {
        Ok(_) => Ok(None),
        Err(CallFailure::Node(error)) => match revert_data(&error) {
            Some(data) => Ok(Some(data)),
            None => Err(CallFailure::Node(error)),
        },
        Err(failure) => Err(failure),
    }
}

/// The revert data where clients put it: `error.data` (geth, BSC, reth, anvil, Besu), after a word
/// (`Reverted 0x…`), or inside an object (`data.data` hardhat, `data.result` ganache).
fn revert_data(error: &NodeError) -> Option<Vec<u8>> {
    let data = error.data.as_ref()?;
    let nested = ["data", "result"].iter().find_map(|name| data.get(name).filter(|value| value.is_string()));
    let text = nested.unwrap_or(data).as_str()?;
    let at = text.find("0x")?;
    quantity::bytes(&Value::String(text.get(at..)?.to_owned()))
}

fn ended_without_data(error: &PortError) -> bool {
    let failure = error.source().and_then(|source| source.downcast_ref::<EndpointFailure>());
    failure.is_some_and(
        |it| matches!(&it.failure, CallFailure::Node(error) if is_execution_error(error.code, &error.message)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node_error(data: Value) -> NodeError {
        NodeError { code: 3, message: "execution reverted".to_owned(), data: Some(data) }
    }

    #[test]
    fn revert_data_of_every_client_is_found() {
        for data in [
            json!("0xdeadbeef"),
            json!("Reverted 0xdeadbeef"),
            json!({"message": "reverted", "data": "0xdeadbeef"}),
            json!({"hash": "0x11", "result": "0xdeadbeef", "reason": null}),
        ] {
            assert_eq!(revert_data(&node_error(data.clone())), Some(vec![0xde, 0xad, 0xbe, 0xef]), "{data}");
        }
        assert_eq!(revert_data(&node_error(json!("0x"))), Some(Vec::new()));
        for data in [json!("nothing"), json!(7), json!({}), json!("0xzz")] {
            assert_eq!(revert_data(&node_error(data.clone())), None, "{data}");
        }
    }

    #[test]
    fn configuration_error_names_position_not_url() {
        let config = BscConfig::new(ChainId(97), Vec::new());
        assert!(matches!(BscChain::new(&config), Err(BscConfigError::NoEndpoint)));
        for wrong in ["ftp://user:topsecret@host/", "topsecret", "http://"] {
            let config = BscConfig::new(ChainId(97), vec!["http://127.0.0.1:1".to_owned(), wrong.to_owned()]);
            let error = BscChain::new(&config).unwrap_err();
            assert_eq!(error.to_string(), "RPC endpoint 2 of the list cannot be used");
            assert!(!format!("{error:?} {config:?}").contains("topsecret"), "{error:?}");
        }
    }

    #[test]
    fn endpoint_is_named_by_host_only() {
        let url = "https://user:topsecret@node.example:8443/v3/topsecret?key=topsecret";
        let config = BscConfig::new(ChainId(56), vec![url.to_owned()]);
        let chain = BscChain::new(&config).unwrap();
        let text = format!("{chain:?} {config:?}");
        assert!(text.contains("node.example:8443") && !text.contains("topsecret"), "{text}");
    }
}
