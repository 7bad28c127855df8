//! A request, built from typed values: [`Request::build`] writes it as JSON and reads
//! it back with the service's parser, to ensure that both agree.

use serde_json::{Map, Value, json};
use signpost_txmgr::request::{AccountRef, FeeAsk, Message, Refused, SigningRequest};
use signpost_txmgr::tx::Fee;
use signpost_txmgr::units::{Address, ChainId, Gas, Millis, RequestId, Wei};

use crate::Body;

/// A request to sign one transaction.
///
/// ```
/// use signpost_client::{Request, Wei};
/// let to = "0x55d398326f99059fF775485246999027B3197955".parse()?;
/// let body = Request::call("invoice-4711".parse()?, to, 21_000).value(Wei::from(1_000)).build()?;
/// assert!(body.text().contains(r#""value":"1000""#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Request(SigningRequest);

impl Request {
    /// A transfer or a call. You choose the id, which makes it safe to send the request again; `gas` is the gas limit.
    #[must_use]
    pub fn call(id: RequestId, to: Address, gas: u64) -> Self {
        Self::new(id, Some(to), gas)
    }

    /// The creation of a contract, if the account's policy allows it.
    #[must_use]
    pub fn creation(id: RequestId, init_code: &[u8], gas: u64) -> Self {
        Self::new(id, None, gas).data(init_code)
    }

    fn new(id: RequestId, to: Option<Address>, gas: u64) -> Self {
        Self(SigningRequest {
            id,
            account: None,
            to,
            value: Wei::ZERO,
            data: [].into(),
            gas: Gas(gas),
            fee: FeeAsk::Configured,
            max_gas_price: None,
            deadline: None,
            chain_id: None,
            metadata: None,
        })
    }

    /// The account that signs. Optional if only one is registered. On a FIFO queue always use the same form of an
    /// account's name, because the name is the message group.
    #[must_use]
    pub fn account(mut self, account: impl Into<AccountRef>) -> Self {
        self.0.account = Some(account.into());
        self
    }

    /// The amount to transfer.
    #[must_use]
    pub fn value(mut self, value: Wei) -> Self {
        self.0.value = value;
        self
    }

    /// Calldata, or a creation's init code.
    #[must_use]
    pub fn data(mut self, data: &[u8]) -> Self {
        self.0.data = data.into();
        self
    }

    /// The price of the first attempt. The default is the account's configured price, or the network's.
    #[must_use]
    pub fn fee(mut self, fee: Fee) -> Self {
        self.0.fee = FeeAsk::Fixed(fee);
        self
    }

    /// The maximum gas price of all attempts.
    #[must_use]
    pub fn max_gas_price(mut self, price: Wei) -> Self {
        self.0.max_gas_price = Some(price);
        self
    }

    /// Unix time in seconds after which the request is cancelled, unless it is mined.
    #[must_use]
    pub fn deadline(mut self, unix_seconds: u64) -> Self {
        self.0.deadline = Some(Millis(unix_seconds.saturating_mul(1_000)));
        self
    }

    /// The expected chain id: the request is refused if the account is on another chain.
    #[must_use]
    pub fn chain_id(mut self, id: u64) -> Self {
        self.0.chain_id = Some(ChainId(id));
        self
    }

    /// Your own JSON object, which is returned in the outcome. It is visible to all readers of the requests table.
    #[must_use]
    pub fn metadata(mut self, metadata: Map<String, Value>) -> Self {
        self.0.metadata = Some(Value::Object(metadata));
        self
    }

    /// The message's body, if the request is well-formed. The service checks the account's policy and the
    /// network's rules later.
    pub fn build(&self) -> Result<Body, Refused> {
        let text = written(&self.0).to_string();
        let read = Message::parse(&text)?;
        assert!(read == Message::Sign(self.0.clone()), "the parser reads what the builder wrote");
        Body::parse(text)
    }
}

/// The request as JSON. All numbers are decimal strings, because many JSON parsers round large numbers.
fn written(request: &SigningRequest) -> Value {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
    put("requestId", json!(request.id.as_str()));
    if let Some(account) = &request.account {
        put("account", Value::String(account.to_string()));
    }
    put("to", request.to.map_or(Value::Null, |to| Value::String(to.to_string())));
    put("value", json!(request.value.to_string()));
    if !request.data.is_empty() {
        put("data", Value::String(format!("0x{}", hex::encode(&request.data))));
    }
    put("gas", json!(request.gas.to_string()));
    match request.fee {
        FeeAsk::Configured => {}
        FeeAsk::Fixed(Fee::Legacy { gas_price }) => {
            put("gasPrice", json!(gas_price.to_string()));
        }
        FeeAsk::Fixed(Fee::Dynamic { max_fee_per_gas, max_priority_fee_per_gas }) => {
            put("maxFeePerGas", json!(max_fee_per_gas.to_string()));
            put("maxPriorityFeePerGas", json!(max_priority_fee_per_gas.to_string()));
        }
    }
    if let Some(price) = request.max_gas_price {
        put("maxGasPrice", json!(price.to_string()));
    }
    if let Some(deadline) = request.deadline {
        put("deadline", json!((deadline.0 / 1_000).to_string()));
    }
    if let Some(chain_id) = request.chain_id {
        put("chainId", json!(chain_id.to_string()));
    }
    if let Some(metadata) = &request.metadata {
        put("metadata", metadata.clone());
    }
    Value::Object(body)
}
