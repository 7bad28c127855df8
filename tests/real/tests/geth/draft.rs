//! Transactions of every type, valid and invalid, encoded from their fields and signed by keys in memory.

use signpost_txmgr::units::{SigningHash, U256, keccak256};

use crate::support::{CHAIN, FLOOR, bytes, list, number, sign};

/// Order of secp256k1 (SEC 2).
const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

/// The fault of a signature, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignatureKind {
    Good,
    HighS,
    ZeroR,
    ZeroS,
    /// An invalid parity, or an invalid `v`.
    Parity,
    /// An `r` that is on no point of the curve.
    OffCurve,
    /// A legacy transaction without replay protection.
    Unprotected,
}

/// A transaction before it is signed.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) key: u8,
    /// The transaction type: 0, 1, 2 or 4.
    pub(crate) kind: u8,
    pub(crate) chain: u64,
    pub(crate) nonce: u64,
    pub(crate) cap: U256,
    pub(crate) tip: U256,
    pub(crate) gas: u64,
    pub(crate) to: Option<[u8; 20]>,
    pub(crate) value: U256,
    pub(crate) data: Vec<u8>,
    /// Number of storage keys of one address in the access list.
    pub(crate) access: Option<u8>,
    /// Number of authorizations of a type 4; none is valid.
    pub(crate) authorizations: u8,
    /// RLP that replaces the field with this number.
    pub(crate) odd: Option<(usize, Vec<u8>)>,
    pub(crate) signature: SignatureKind,
}

impl Draft {
    /// A plain transfer.
    pub(crate) fn new(key: u8, kind: u8, nonce: u64) -> Self {
        Self {
            key,
            kind,
            chain: CHAIN,
            nonce,
            cap: U256::from(FLOOR),
            tip: U256::from(FLOOR),
            gas: if kind == 4 { 46_000 } else { 21_000 },
            to: Some([0x77; 20]),
            value: U256::one(),
            data: Vec::new(),
            access: None,
            authorizations: u8::from(kind == 4),
            odd: None,
            signature: SignatureKind::Good,
        }
    }

    /// Sets the same price in both fields, as in types without a tip.
    pub(crate) fn price(&mut self, price: u64) {
        (self.cap, self.tip) = (U256::from(price), U256::from(price));
    }

    fn fields(&self) -> Vec<Vec<u8>> {
        let mut fields = if self.kind == 0 { vec![] } else { vec![number(self.chain)] };
        fields.push(number(self.nonce));
        if self.kind >= 2 {
            fields.push(wide(self.tip));
        }
        fields.push(wide(self.cap));
        fields.extend([number(self.gas), bytes(self.to.as_ref().map_or(&[], |to| &to[..]))]);
        fields.extend([wide(self.value), bytes(&self.data)]);
        if self.kind > 0 {
            let keys = |count: u8| list(&(0..count).map(|at| bytes(&[at; 32])).collect::<Vec<_>>());
            let tuples: Vec<_> = self.access.iter().map(|count| list(&[bytes(&[9; 20]), keys(*count)])).collect();
            fields.push(list(&tuples));
        }
        if self.kind == 4 {
            let one = |at: u8| {
                let nonce = number(u64::from(at));
                list(&[number(self.chain), bytes(&[8; 20]), nonce, number(0), number(1), number(1)])
            };
            fields.push(list(&(0..self.authorizations).map(one).collect::<Vec<_>>()));
        }
        if let Some((at, odd)) = &self.odd {
            let at = at % fields.len();
            fields[at].clone_from(odd);
        }
        fields
    }

    /// The signed transaction, as it is sent.
    pub(crate) fn raw(&self) -> Vec<u8> {
        let fields = self.fields();
        let prefix: &[u8] = if self.kind == 0 { &[] } else { std::slice::from_ref(&self.kind) };
        let protected = self.kind == 0 && self.signature != SignatureKind::Unprotected;
        let mut signed = fields.clone();
        if protected {
            signed.extend([number(self.chain), number(0), number(0)]);
        }
        let hash = SigningHash(keccak256(&[prefix, &list(&signed)].concat()));
        let good = sign(self.key, &hash);
        let (mut r, mut s, mut odd) = (good.r.to_vec(), good.s.to_vec(), u64::from(good.y_odd));
        match self.signature {
            SignatureKind::Good | SignatureKind::Unprotected => {}
            SignatureKind::HighS => {
                let order = U256::from_str_radix(ORDER, 16).unwrap();
                s = (order - U256::from_big_endian(&good.s)).to_big_endian().to_vec();
                odd ^= 1;
            }
            SignatureKind::ZeroR => r = vec![],
            SignatureKind::ZeroS => s = vec![],
            SignatureKind::Parity => odd = if self.kind == 0 { 0 } else { 2 },
            SignatureKind::OffCurve => r = vec![5],
        }
        let v = match (self.kind, protected, self.signature) {
            // A `v` without a chain id or a valid parity.
            (0, true, SignatureKind::Parity) => 30,
            (0, true, _) => 35 + 2 * self.chain + odd,
            (0, false, _) => 27 + odd,
            _ => odd,
        };
        let trimmed = |word: &[u8]| bytes(&word[word.iter().position(|byte| *byte != 0).unwrap_or(word.len())..]);
        let all = list(&[fields, vec![number(v), trimmed(&r), trimmed(&s)]].concat());
        [prefix, &all].concat()
    }
}

fn wide(number: U256) -> Vec<u8> {
    let word = number.to_big_endian();
    bytes(&word[word.iter().position(|byte| *byte != 0).unwrap_or(word.len())..])
}
