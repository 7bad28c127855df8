//! Decodes raw transactions as strictly as the node's decoder, which names the wrong field (geth's `rlp` and
//! `core/types`). Independent of the encoder that it checks.
//!
//! Types 0, 1, 2 and 4. Checks the encoding only; the pool's checks are in [`super::rules`].

use rlp::{DecoderError, Rlp, RlpStream};
use signpost_txmgr::units::{Address, SigningHash, TxHash, U256, keccak256};

use super::refusal::Refusal;

/// A decoded transaction.
#[derive(Debug, Clone)]
pub(crate) struct Tx {
    /// 0, 1, 2 or 4.
    pub(crate) kind: u8,
    /// `None`: a legacy transaction without replay protection.
    pub(crate) chain_id: Option<U256>,
    pub(crate) nonce: u64,
    /// Highest price in wei per gas; equal to the tip for types 0 and 1.
    pub(crate) fee_cap: Wide,
    pub(crate) tip_cap: Wide,
    pub(crate) gas: u64,
    pub(crate) to: Option<Address>,
    pub(crate) value: Wide,
    pub(crate) data: Vec<u8>,
    /// Number of addresses and storage keys in the access list.
    pub(crate) access: (u64, u64),
    /// Number of authorizations of a type 4.
    pub(crate) authorizations: Option<u64>,
    /// Parity of y, if `v` is valid.
    pub(crate) y_odd: Option<bool>,
    pub(crate) r: Wide,
    pub(crate) s: Wide,
    pub(crate) signing_hash: SigningHash,
    pub(crate) hash: TxHash,
    pub(crate) raw: Vec<u8>,
}

/// An integer of any width, as RLP allows; saturated at 2^256 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wide {
    pub(crate) number: U256,
    pub(crate) fits: bool,
}

impl Tx {
    /// The highest cost: gas × fee cap + value.
    pub(crate) fn cost(&self) -> U256 {
        self.fee_cap.number.saturating_mul(U256::from(self.gas)).saturating_add(self.value.number)
    }
}

/// Decodes the argument of `eth_sendRawTransaction`.
pub(crate) fn decode(raw: &[u8]) -> Result<Tx, Refusal> {
    let (kind, fields) = match raw {
        [first, ..] if *first > 0x7f => (0, Fields::of(raw, "types.LegacyTx")?),
        [] | [_] => return Err(Refusal::TypedTooShort),
        [1, list @ ..] => (1, Fields::of(list, "types.AccessListTx")?),
        [2, list @ ..] => (2, Fields::of(list, "types.DynamicFeeTx")?),
        [4, list @ ..] => (4, Fields::of(list, "types.SetCodeTx")?),
        _ => return Err(Refusal::TypeNotSupported),
    };
    let mut tx = read(kind, fields)?;
    tx.hash = TxHash(keccak256(raw));
    tx.raw = raw.to_vec();
    Ok(tx)
}

fn read(kind: u8, mut fields: Fields<'_>) -> Result<Tx, Refusal> {
    let typed_chain_id = if kind == 0 { None } else { Some(fields.wide("ChainID")?) };
    let nonce = fields.small("Nonce")?;
    let (tip_cap, fee_cap) = if matches!(kind, 0 | 1) {
        let price = fields.wide("GasPrice")?;
        (price, price)
    } else {
        (fields.wide("GasTipCap")?, fields.wide("GasFeeCap")?)
    };
    let gas = fields.small("Gas")?;
    let to = if kind == 4 { Some(fields.address("To")?) } else { fields.address_or_none("To")? };
    let value = fields.wide("Value")?;
    let data = fields.data("Data", "[]uint8")?.to_vec();
    let access = if kind == 0 { (0, 0) } else { access_list(fields.list("AccessList", "types.AccessList")?)? };
    let authorizations = if kind == 4 {
        Some(authorization_list(fields.list("AuthList", "[]types.SetCodeAuthorization")?)?)
    } else {
        None
    };
    let unsigned = fields.taken.clone();
    let (v, r, s) = (fields.wide("V")?, fields.wide("R")?, fields.wide("S")?);
    fields.end()?;
    let (chain_id, y_odd) = match typed_chain_id {
        Some(chain_id) => (Some(chain_id.number), parity(v.number)),
        None => legacy_v(v.number),
    };
    let signing_hash = signing_hash(kind, &unsigned, chain_id);
    Ok(Tx {
        kind,
        chain_id,
        nonce,
        fee_cap,
        tip_cap,
        gas,
        to,
        value,
        data,
        access,
        authorizations,
        y_odd,
        r,
        s,
        signing_hash,
        hash: TxHash([0; 32]),
        raw: Vec::new(),
    })
}

/// The signed hash: of the unchanged fields before the signature.
fn signing_hash(kind: u8, unsigned: &[&[u8]], chain_id: Option<U256>) -> SigningHash {
    let protected = kind == 0 && chain_id.is_some();
    let mut stream = RlpStream::new();
    if kind != 0 {
        stream.append_raw(&[kind], 0);
    }
    stream.begin_list(unsigned.len().saturating_add(if protected { 3 } else { 0 }));
    for field in unsigned {
        stream.append_raw(field, 1);
    }
    if let (true, Some(chain_id)) = (protected, chain_id) {
        let bytes = chain_id.to_big_endian();
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        stream.append(&&bytes[start..]).append_empty_data().append_empty_data();
    }
    SigningHash(keccak256(stream.as_raw()))
}

/// Chain id and parity of a legacy `v`. 0, 1, 27 and 28 are without replay protection; below 35 the node's subtraction
/// wraps around and gives a strange chain id.
fn legacy_v(v: U256) -> (Option<U256>, Option<bool>) {
    let small = u64::try_from(v).ok();
    match small {
        Some(0 | 1) => (None, parity(v)),
        Some(27 | 28) => (None, Some(v == U256::from(28))),
        Some(small) => {
            let doubled = small.wrapping_sub(35);
            (Some(U256::from(doubled / 2)), Some(doubled % 2 == 1))
        }
        None => {
            let doubled = v.saturating_sub(U256::from(35));
            (doubled.checked_div(U256::from(2)), Some(doubled.bit(0)))
        }
    }
}

fn parity(v: U256) -> Option<bool> {
    if v > U256::one() { None } else { Some(!v.is_zero()) }
}

/// Number of addresses and keys in an access list.
fn access_list(mut tuples: Elements<'_>) -> Result<(u64, u64), Refusal> {
    let (mut addresses, mut keys) = (0_u64, 0_u64);
    while let Some(mut tuple) = tuples.next_struct("types.AccessTuple")? {
        tuple.address("Address")?;
        let mut of_tuple = tuple.list("StorageKeys", "[]common.Hash")?;
        while of_tuple.next_hash()? {
            keys = keys.saturating_add(1);
        }
        tuple.end()?;
        addresses = addresses.saturating_add(1);
    }
    Ok((addresses, keys))
}

/// Number of authorizations. Their validity is not part of the encoding.
fn authorization_list(mut tuples: Elements<'_>) -> Result<u64, Refusal> {
    let mut count = 0_u64;
    while let Some(mut tuple) = tuples.next_struct("types.SetCodeAuthorization")? {
        tuple.wide("ChainID")?;
        tuple.address("Address")?;
        tuple.small("Nonce")?;
        tuple.unsigned("V", "uint8", 1)?;
        tuple.wide("R")?;
        tuple.wide("S")?;
        tuple.end()?;
        count = count.saturating_add(1);
    }
    Ok(count)
}

/// One RLP item.
#[derive(Debug, Clone, Copy)]
struct Item<'a> {
    is_list: bool,
    payload: &'a [u8],
    raw: &'a [u8],
}

/// The fields of a Go struct, read in order.
#[derive(Debug)]
struct Fields<'a> {
    target: &'static str,
    /// The Go place it is decoded into, if it is inside another struct: `(types.SetCodeTx).AuthList[0]`.
    place: Option<String>,
    /// Whether integers have at most 256 bits, as in type 4; other types have integers of any width.
    narrow: bool,
    rest: &'a [u8],
    /// The bytes after the list.
    after: &'a [u8],
    /// The raw items read so far.
    taken: Vec<&'a [u8]>,
}

/// The elements of a Go slice, read in order.
#[derive(Debug)]
struct Elements<'a> {
    place: String,
    narrow: bool,
    index: u64,
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    /// The next item and the Go place it is decoded into, if there is one.
    fn next(&mut self, go_type: &str) -> Result<Option<(Item<'a>, String)>, Refusal> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let place = format!("{}[{}]", self.place, self.index);
        let context = || format!(" for {go_type}, decoding into {place}");
        let (item, rest) = take(self.rest, "element is larger than containing list", context)?;
        self.rest = rest;
        self.index = self.index.saturating_add(1);
        Ok(Some((item, place)))
    }

    fn next_struct(&mut self, target: &'static str) -> Result<Option<Fields<'a>>, Refusal> {
        let Some((item, place)) = self.next(target)? else { return Ok(None) };
        Fields::of_item(&item, target, Some(place), self.narrow).map(Some)
    }

    /// Reads another hash, and returns whether there was one.
    fn next_hash(&mut self) -> Result<bool, Refusal> {
        let Some((item, place)) = self.next("common.Hash")? else { return Ok(false) };
        exactly(&item, 32, || format!(" for common.Hash, decoding into {place}")).map(|()| true)
    }
}

/// Checks the bytes of a Go array.
fn exactly(item: &Item<'_>, length: usize, context: impl Fn() -> String) -> Result<(), Refusal> {
    let wrong = |what: &str| Err(rlp(format!("{what}{}", context())));
    match item.payload.len() {
        _ if item.is_list => wrong("expected input string or byte"),
        found if found > length => wrong("input string too long"),
        found if found < length => wrong("input string too short"),
        _ => Ok(()),
    }
}

impl<'a> Fields<'a> {
    fn of(bytes: &'a [u8], target: &'static str) -> Result<Self, Refusal> {
        let (item, after) = take(bytes, "value size exceeds available input length", || format!(" for {target}"))?;
        let fields = Self::of_item(&item, target, None, target == "types.SetCodeTx")?;
        Ok(Self { after, ..fields })
    }

    fn of_item(item: &Item<'a>, target: &'static str, place: Option<String>, narrow: bool) -> Result<Self, Refusal> {
        let fields = Self { target, place, narrow, rest: item.payload, after: &[], taken: Vec::new() };
        if item.is_list { Ok(fields) } else { Err(fields.wrong("expected input list")) }
    }

    /// An error about the struct itself.
    fn wrong(&self, what: &str) -> Refusal {
        let place = self.place.as_ref().map(|place| format!(", decoding into {place}")).unwrap_or_default();
        rlp(format!("{what} for {}{place}", self.target))
    }

    fn next(&mut self, field: &'static str, go_type: &'static str) -> Result<Item<'a>, Refusal> {
        if self.rest.is_empty() {
            return Err(self.wrong("too few elements"));
        }
        let context = || self.context(field, go_type);
        let (item, rest) = take(self.rest, "element is larger than containing list", context)?;
        self.rest = rest;
        self.taken.push(item.raw);
        Ok(item)
    }

    /// The Go place that a field is decoded into.
    fn place_of(&self, field: &str) -> String {
        let place = self.place.clone().unwrap_or_else(|| format!("({})", self.target));
        format!("{place}.{field}")
    }

    fn context(&self, field: &str, go_type: &str) -> String {
        format!(" for {go_type}, decoding into {}", self.place_of(field))
    }

    fn data(&mut self, field: &'static str, go_type: &'static str) -> Result<&'a [u8], Refusal> {
        let item = self.next(field, go_type)?;
        let wrong = |what: &str| Err(rlp(format!("{what}{}", self.context(field, go_type))));
        match item.raw {
            _ if item.is_list => wrong("expected input string or byte"),
            // A byte below 0x80 must encode itself.
            [0x81, byte] if *byte < 0x80 => wrong("non-canonical size information"),
            _ => Ok(item.payload),
        }
    }

    fn list(&mut self, field: &'static str, go_type: &'static str) -> Result<Elements<'a>, Refusal> {
        let item = self.next(field, go_type)?;
        if !item.is_list {
            return Err(rlp(format!("expected input list{}", self.context(field, go_type))));
        }
        Ok(Elements { place: self.place_of(field), narrow: self.narrow, index: 0, rest: item.payload })
    }

    /// An integer of at most this number of bytes.
    fn integer(&mut self, field: &'static str, go_type: &'static str, most: usize) -> Result<&'a [u8], Refusal> {
        let bytes = self.data(field, go_type)?;
        let wrong = |what: &str| Err(rlp(format!("{what}{}", self.context(field, go_type))));
        match bytes {
            _ if bytes.len() > most => wrong("input string too long"),
            [0, ..] => wrong("non-canonical integer (leading zero bytes)"),
            _ => Ok(bytes),
        }
    }

    fn wide(&mut self, field: &'static str) -> Result<Wide, Refusal> {
        let go_type = if self.narrow { "*uint256.Int" } else { "*big.Int" };
        let bytes = self.integer(field, go_type, usize::MAX)?;
        let fits = bytes.len() <= 32;
        if self.narrow && !fits {
            return Err(rlp("value too large for uint256"));
        }
        Ok(Wide { number: if fits { U256::from_big_endian(bytes) } else { U256::MAX }, fits })
    }

    fn small(&mut self, field: &'static str) -> Result<u64, Refusal> {
        self.unsigned(field, "uint64", 8)
    }

    fn unsigned(&mut self, field: &'static str, go_type: &'static str, most: usize) -> Result<u64, Refusal> {
        let bytes = self.integer(field, go_type, most)?;
        Ok(bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    fn address(&mut self, field: &'static str) -> Result<Address, Refusal> {
        let item = self.next(field, "common.Address")?;
        self.address_of(&item, field)
    }

    /// An address, or nothing for a contract creation.
    fn address_or_none(&mut self, field: &'static str) -> Result<Option<Address>, Refusal> {
        let go_type = "*common.Address";
        let item = self.next(field, go_type)?;
        match (item.payload, item.is_list) {
            ([], false) => Ok(None),
            ([], true) => {
                let wrong = "wrong kind of empty value (got List, want String)";
                Err(rlp(format!("{wrong}{}", self.context(field, go_type))))
            }
            _ => self.address_of(&item, field).map(Some),
        }
    }

    fn address_of(&self, item: &Item<'_>, field: &str) -> Result<Address, Refusal> {
        let context = || self.context(field, "common.Address");
        exactly(item, 20, context)?;
        let bytes = item.payload.try_into().map_err(|_| rlp(format!("input string too short{}", context())))?;
        Ok(Address(bytes))
    }

    fn end(self) -> Result<(), Refusal> {
        if !self.rest.is_empty() {
            return Err(self.wrong("input list has too many elements"));
        }
        if !self.after.is_empty() {
            return Err(rlp("input contains more than one value"));
        }
        Ok(())
    }
}

/// The first item of `bytes`, and the rest.
fn take<'a>(
    bytes: &'a [u8],
    too_large: &'static str,
    context: impl Fn() -> String,
) -> Result<(Item<'a>, &'a [u8]), Refusal> {
    let not_canonical = || rlp(format!("non-canonical size information{}", context()));
    let info = Rlp::new(bytes).payload_info().map_err(|error| match error {
        DecoderError::RlpInvalidIndirection
        | DecoderError::RlpDataLenWithZeroPrefix
        | DecoderError::RlpListLenWithZeroPrefix => not_canonical(),
        DecoderError::RlpIsTooBig
        | DecoderError::RlpIsTooShort
        | DecoderError::RlpExpectedToBeList
        | DecoderError::RlpExpectedToBeData
        | DecoderError::RlpIncorrectListLen
        | DecoderError::RlpInconsistentLengthAndData
        | DecoderError::RlpInvalidLength
        | DecoderError::Custom(_) => rlp(too_large),
    })?;
    let (raw, rest) = bytes.split_at_checked(info.total()).ok_or_else(|| rlp(too_large))?;
    let (_, payload) = raw.split_at_checked(info.header_len).ok_or_else(|| rlp(too_large))?;
    let is_list = raw.first().is_some_and(|first| *first >= 0xc0);
    Ok((Item { is_list, payload, raw }, rest))
}

fn rlp(message: impl Into<String>) -> Refusal {
    Refusal::Rlp(message.into())
}
