//! Sends the same transactions to geth and to the BSC gate with anvil behind it. Both must give the same verdict, class
//! and text, and must keep and mine the same transactions in the end. This compares the gate's rules with a real pool.
//! Every allowed difference is in [`KNOWN`] with its reason.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use signpost_bsc::classify::classify;
use signpost_cli::stack::geth::{Begin, Geth};
use signpost_cli::stack::supervised::{Server, SupervisedServer};
use signpost_cli::stack::{rpc, servers, setup};
use signpost_gate::bsc::{BscGate, BscGateConfig};
use signpost_gate::chance::Chance;
use signpost_txmgr::units::U256;

use crate::draft::{Draft, SignatureKind};
use crate::node::{self, Node, RICH, Sent, begin, by_hand};
use crate::support::{CHAIN, FLOOR, Rpc, address, bytes, hexed, list, number};

/// Signatures that no node accepts.
const BAD_SIGNATURES: [SignatureKind; 5] =
    [SignatureKind::HighS, SignatureKind::ZeroR, SignatureKind::ZeroS, SignatureKind::Parity, SignatureKind::OffCurve];

/// Transactions of a run. The random seed is `SIGNPOST_SEED`, or 1.
const SENDS: usize = 800;
const ACCOUNTS: u8 = 40;
const GWEI: u64 = 1_000_000_000;
const CALLDATA_FLOOR: u64 = 40;
const MAX_TX_GAS: u64 = 16_777_216;
/// Balance of a poor account: a little more than three plain transfers cost.
const POOR: u64 = 3 * 21_000 * FLOOR + 1_000;
const ANVIL: &str = "--host 127.0.0.1 --chain-id 97 --accounts 0 --base-fee 0 --gas-limit 55000000 --hardfork osaka \
    --enable-tx-gas-limit --slots-in-an-epoch 1 --no-mining --order fees -q";

/// An allowed difference.
struct Known {
    reason: &'static str,
    /// Whether both answers have the same class.
    same_class: bool,
    is: fn(&str, &str) -> bool,
}

/// Each compares geth's text and the gate's, in this order.
const KNOWN: [Known; 6] = [
    Known {
        reason: "geth puts `invalid sender: ` before a signature error, BSC v1.7.3 does not",
        same_class: true,
        is: |geth, gate| geth.strip_prefix("invalid sender: ") == Some(gate),
    },
    Known {
        reason: "geth checks the signature after size, gas and fees, BSC before: of two faults each names another",
        same_class: false,
        is: |geth, gate| {
            let late = ["invalid chain id", "invalid transaction v, r, s", "recovery failed"];
            let early =
                ["oversized", "max initcode", "transaction gas limit", "exceeds block gas", "max fee", "max priority"];
            late.iter().any(|words| gate.starts_with(words)) && early.iter().any(|words| geth.starts_with(words))
        },
    },
    Known {
        reason: "geth after 1.17.3 decodes no chain id or signature wider than 256 bits; BSC reports another fault",
        same_class: false,
        is: |geth, gate| {
            let later = ["invalid chain id", "invalid transaction v, r, s", "tx fee", "only replay-protected"];
            geth == "transaction chain id or signature value exceeds 256 bits"
                && later.iter().any(|words| gate.starts_with(words))
        },
    },
    Known {
        reason: "geth after 1.17.3 names no numbers where a value is wider than 256 bits",
        same_class: true,
        is: |geth, gate| geth == FUNDS && gate.starts_with(FUNDS),
    },
    Known {
        reason: "the gate's amounts have 256 bits: a larger fee is shown as another number",
        same_class: true,
        is: |geth, gate| {
            let digits = |words: &str| words.strip_prefix("tx fee (")?.find('.');
            digits(geth) > Some(58) && digits(gate) > Some(58)
        },
    },
    Known {
        reason: "geth has a pool for blobs and reads them, the gate has none",
        same_class: true,
        is: |geth, gate| gate == "transaction type not supported" && geth.starts_with("rlp: "),
    },
];
const FUNDS: &str = "insufficient funds for gas * price + value";

/// Both nodes.
struct Pair {
    geth: Node,
    /// The gate's endpoint.
    bsc: Rpc,
    _gate: BscGate,
    _anvil: SupervisedServer,
}

impl Pair {
    async fn start(name: &str) -> Self {
        let accounts: Vec<_> = (1..=ACCOUNTS).map(account).collect();
        let geth = Geth { taken_from_wei: FLOOR, accounts: accounts.clone(), ..by_hand() };
        let geth = Node::start(name, geth).await;
        let (anvil, url) = anvil(name).await;
        let behind = Rpc::new(&url);
        for Begin { address, balance, nonce, code } in &accounts {
            behind.call("anvil_setBalance", json!([address, balance])).await;
            behind.call("anvil_setNonce", json!([address, format!("{nonce:#x}")])).await;
            if let Some(code) = code {
                behind.call("anvil_setCode", json!([address, code])).await;
            }
        }
        let gate = BscGate::start(BscGateConfig::new(&url, CHAIN)).await.unwrap();
        let bsc = Rpc::new(&gate.url());
        Self { geth, bsc, _gate: gate, _anvil: anvil }
    }

    async fn send(&self, raw: &[u8]) -> (Sent, Sent) {
        let raw = hexed(raw);
        (self.geth.rpc.send(&raw).await, self.bsc.send(&raw).await)
    }
}

/// The initial state of an account: most are rich, some have made transactions, some are poor, two are delegated.
fn account(key: u8) -> Begin {
    match key {
        25..=30 => Begin { nonce: 5, ..begin(key, RICH) },
        31..=36 => begin(key, POOR),
        37..=38 => Begin { code: Some(format!("0xef0100{}", "77".repeat(20))), ..begin(key, RICH) },
        _ => begin(key, RICH),
    }
}

async fn anvil(name: &str) -> (SupervisedServer, String) {
    let tools = tokio::task::spawn_blocking(setup::install).await.unwrap().unwrap();
    let directory = node::fresh_directory(&format!("anvil-{name}"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut arguments: Vec<String> = ANVIL.split_whitespace().map(str::to_owned).collect();
    arguments.extend(["--port".to_owned(), port.to_string()]);
    arguments.extend(["--cache-path".to_owned(), directory.join("cache").display().to_string()]);
    let server = Server { name: "anvil", program: &tools.anvil, arguments, environment: vec![], directory: &directory };
    let url = format!("http://127.0.0.1:{port}");
    let asked = rpc::Rpc::at(&url).unwrap();
    let process =
        servers::await_ready(SupervisedServer::start(server).unwrap(), async || asked.chain_id().await.is_ok());
    (process.await.unwrap(), url)
}

/// Generates transactions, and remembers the accepted ones.
struct Generator {
    chance: Chance,
    /// The last accepted transaction, by account and nonce.
    taken: BTreeMap<(u8, u64), Draft>,
}

impl Generator {
    /// The account's next nonce after the contiguous accepted ones.
    fn next(&self, key: u8) -> u64 {
        let first = account(key).nonce;
        (first..=u64::MAX).find(|nonce| !self.taken.contains_key(&(key, *nonce))).unwrap()
    }

    /// A valid transaction with the next nonce, of any type and price, with or without data and access list.
    fn good(&mut self, key: u8) -> Draft {
        let kind = self.chance.of(&[0, 0, 1, 2, 2, 2, 4]);
        let mut draft = Draft::new(key, kind, self.next(key));
        if account(key).balance == begin(key, RICH).balance {
            let cap = FLOOR + self.chance.below(9 * FLOOR);
            draft.price(cap);
            if kind >= 2 {
                draft.tip = U256::from(FLOOR + self.chance.below(cap - FLOOR + 1));
            }
            draft.value = U256::from(self.chance.below(GWEI));
            self.with_data(&mut draft);
        }
        draft
    }

    fn with_data(&mut self, draft: &mut Draft) {
        if draft.kind > 0 && self.chance.below(3) == 0 {
            let keys = u8::try_from(self.chance.below(4)).unwrap();
            draft.access = Some(keys);
            draft.gas += 2_400 + 1_900 * u64::from(keys);
        }
        if self.chance.below(3) == 0 {
            let length = self.chance.below(2_000);
            draft.data = (0..length).map(|at| u8::from(at % 3 != 0)).collect();
            draft.gas += CALLDATA_FLOOR * length;
        }
        if draft.kind != 4 && self.chance.below(8) == 0 {
            draft.to = None;
            draft.gas += 32_000 + 2 * draft.data.len().div_ceil(32) as u64;
        }
    }

    /// A replacement of an accepted transaction, raised by a random percentage in each field.
    fn replacement(&mut self, key: u8) -> Draft {
        let of_account: Vec<u64> = self.taken.range((key, 0)..=(key, u64::MAX)).map(|((_, nonce), _)| *nonce).collect();
        if of_account.is_empty() {
            return self.good(key);
        }
        let nonce = self.chance.of(&of_account);
        let mut draft = self.taken[&(key, nonce)].clone();
        let mut raised = |price: U256| {
            let percent = self.chance.of(&[0, 5, 9, 10, 10, 11, 25]);
            price * (100 + percent) / 100 + U256::from(self.chance.of(&[0, 0, 1]))
        };
        (draft.cap, draft.tip) = (raised(draft.cap), raised(draft.tip));
        if draft.kind < 2 {
            draft.tip = draft.cap;
        }
        draft.value = U256::from(self.chance.below(3));
        draft
    }

    /// A random case, valid or not, with its name.
    fn draw(&mut self, key: u8) -> (&'static str, Vec<u8>, Option<Draft>) {
        let mut draft = self.good(key);
        let case = match self.chance.below(44) {
            0..=7 => "good",
            8..=10 => {
                draft.nonce += 1 + self.chance.below(4);
                "gap"
            }
            11 => {
                draft.nonce = draft.nonce.saturating_add(self.chance.of(&[1_000_000, u64::from(u32::MAX), 1 << 62]));
                "far ahead"
            }
            12 => {
                draft.nonce = self.chance.below(5);
                "low or not"
            }
            13 => {
                draft.nonce = u64::MAX;
                "last nonce"
            }
            14..=19 => {
                draft = self.replacement(key);
                "replacement"
            }
            20 => {
                draft.gas = self.chance.of(&[0, 20_999, 21_000, 30_000]);
                "little gas"
            }
            21 => {
                draft.data = vec![1; 1_000];
                draft.gas = self.chance.of(&[37_000, 60_999, 61_000, 90_000]);
                "floor gas"
            }
            22 => {
                (draft.kind, draft.authorizations, draft.access, draft.to) = (2, 0, None, None);
                draft.data = vec![0; self.chance.of(&[49_152, 49_153, 60_000])];
                draft.gas = 1_000_000;
                "long init code"
            }
            23 => {
                draft.gas = self.chance.of(&[MAX_TX_GAS, MAX_TX_GAS + 1, 60_000_000, 120_000_000, u64::MAX]);
                draft.price(FLOOR);
                "much gas"
            }
            24 => {
                draft.price(self.chance.of(&[47_619 * GWEI, 47_620 * GWEI, 50_000 * GWEI]));
                (draft.gas, draft.data, draft.access) = (21_000, vec![], None);
                "one coin's fee"
            }
            25 => {
                draft.tip = draft.cap + 1;
                "tip above fee"
            }
            26 => {
                draft.chain = self.chance.of(&[96, 98, 56, 1, 0]);
                "another chain"
            }
            27 => {
                (draft.kind, draft.signature) = (0, SignatureKind::Unprotected);
                "unprotected"
            }
            28..=30 => {
                draft.signature = self.chance.of(&BAD_SIGNATURES);
                "bad signature"
            }
            31 => {
                draft.value = U256::from(RICH) * self.chance.of(&[1, 2, 1_000_000]);
                "too much value"
            }
            32 => {
                draft.value = U256::from(RICH / 3);
                "stacked value"
            }
            33 => {
                draft.price(FLOOR - 1 - self.chance.below(FLOOR));
                "too cheap"
            }
            34 => {
                draft.data = vec![0; self.chance.of(&[130_900, 131_072, 200_000])];
                draft.gas = 2_500_000;
                "much data"
            }
            35 => {
                (draft.kind, draft.authorizations, draft.to) = (4, 0, Some([0x77; 20]));
                "no authorization"
            }
            36 => {
                draft.price(0);
                "for nothing"
            }
            37 => match self.taken.range((key, 0)..=(key, u64::MAX)).next_back() {
                Some((_, last)) => {
                    draft = last.clone();
                    "again"
                }
                None => "good",
            },
            _ => return self.mangled(draft),
        };
        (case, draft.raw(), Some(draft))
    }

    /// Bytes that are not a valid transaction.
    fn mangled(&mut self, mut draft: Draft) -> (&'static str, Vec<u8>, Option<Draft>) {
        if self.chance.below(2) == 0 {
            let fields = [
                vec![],
                vec![0x81, 0x05],
                vec![0xb8, 0x01, 0x05],
                bytes(&[]),
                bytes(&[0, 1]),
                bytes(&[1; 9]),
                bytes(&[1; 19]),
                bytes(&[1; 21]),
                bytes(&[1; 32]),
                bytes(&[1; 33]),
                list(&[]),
                list(&[bytes(&[7; 20])]),
                list(&[list(&[bytes(&[7; 20])])]),
                list(&[list(&[bytes(&[7; 20]), list(&[bytes(&[7; 31])])])]),
                list(&[list(&[bytes(&[7; 20]), list(&[]), number(1)])]),
                list(&[list(&[number(97), bytes(&[7; 20]), number(0), bytes(&[1; 2]), number(1), number(1)])]),
            ];
            let odd = self.chance.index(fields.len());
            draft.odd = Some((self.chance.index(16), fields[odd].clone()));
            return ("a field changed", draft.raw(), None);
        }
        let mut raw = draft.raw();
        let length = raw.len();
        match self.chance.below(6) {
            0 => {
                raw.truncate(self.chance.index(length));
                ("truncated", raw, None)
            }
            1 => {
                raw.push(u8::try_from(self.chance.below(256)).unwrap());
                ("a byte more", raw, None)
            }
            2 => {
                let kind = self.chance.of(&[0x05, 0x03, 0x7f, 0x00, 0x80, 0xb8, 0xc0]);
                raw.insert(0, kind);
                ("another type", raw, None)
            }
            3 => {
                let at = self.chance.index(length.min(12));
                raw[at] = raw[at].wrapping_add(u8::try_from(1 + self.chance.below(255)).unwrap());
                ("a byte of the beginning changed", raw, None)
            }
            _ => {
                let at = self.chance.index(length);
                raw[at] ^= 1 << self.chance.below(8);
                ("a bit changed", raw, None)
            }
        }
    }
}

/// Compares two answers to the same bytes: equal, a known difference (`Some`), or an error.
fn judge(geth: &Sent, gate: &Sent) -> Result<Option<&'static str>, String> {
    let (geth, gate) = match (geth, gate) {
        (Ok(one), Ok(other)) if one == other => return Ok(None),
        (Err(geth), Err(gate)) if geth == gate => return Ok(None),
        (Err(geth), Err(gate)) => (geth, gate),
        _ => return Err("different verdicts".to_owned()),
    };
    let found = KNOWN.iter().find(|known| (known.is)(&geth.1, &gate.1));
    let found = found.ok_or_else(|| "different texts".to_owned())?;
    let class = |said: &(i64, String)| classify(said.0, &said.1);
    if found.same_class && class(geth) != class(gate) {
        return Err(format!("{:?} is not {:?}", class(geth), class(gate)));
    }
    Ok(Some(found.reason))
}

#[tokio::test]
async fn gate_answers_like_a_real_pool() {
    let seed = std::env::var("SIGNPOST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("SIGNPOST_SEED={seed}");
    let pair = Pair::start("differential").await;
    let mut generator = Generator { chance: Chance::new(seed), taken: BTreeMap::new() };
    let (mut differ, mut known, mut counts) = (Vec::new(), BTreeMap::new(), BTreeMap::<_, (u32, u32)>::new());
    let mut hashes = BTreeSet::new();
    for at in 0..SENDS {
        // Accounts take turns, so that geth has sorted an account's last transaction before the next one.
        let key = 1 + u8::try_from(at % usize::from(ACCOUNTS)).unwrap();
        let (case, raw, draft) = generator.draw(key);
        let (geth, gate) = pair.send(&raw).await;
        let count = counts.entry(case).or_default();
        match &geth {
            Ok(hash) => {
                count.0 += 1;
                hashes.insert(hash.clone());
                if let Some(draft) = draft {
                    generator.taken.insert((draft.key, draft.nonce), draft);
                }
            }
            Err(_) => count.1 += 1,
        }
        match judge(&geth, &gate) {
            Ok(None) => {}
            Ok(Some(reason)) => *known.entry(reason).or_insert(0) += 1,
            Err(how) => differ.push(format!(
                "{at} {case}, account {key}: {how}\n  geth {geth:?}\n  gate {gate:?}\n  {}",
                hexed(&raw[..raw.len().min(200)])
            )),
        }
    }
    println!("{SENDS} sends, taken and refused: {counts:?}\nknown differences: {known:#?}");
    assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
    same_pool(&pair, &hashes).await;
}

/// Asserts that both have the same transactions and mine the same.
async fn same_pool(pair: &Pair, hashes: &BTreeSet<String>) {
    for hash in hashes {
        let found = async |rpc: &Rpc| !rpc.call("eth_getTransactionByHash", json!([hash])).await.is_null();
        assert_eq!(found(&pair.geth.rpc).await, found(&pair.bsc).await, "{hash}");
    }
    let counts = async |rpc: &Rpc, tag: &str| {
        let mut counts = Vec::new();
        for key in 1..=ACCOUNTS {
            counts.push(node::number(&rpc.call("eth_getTransactionCount", json!([address(key).lower(), tag])).await));
        }
        counts
    };
    assert_eq!(counts(&pair.geth.rpc, "pending").await, counts(&pair.bsc, "pending").await);
    // Mine until nothing executable is left.
    let mut before = Vec::new();
    loop {
        pair.geth.mine().await;
        pair.bsc.call("evm_mine", json!([])).await;
        let now = (counts(&pair.geth.rpc, "latest").await, counts(&pair.bsc, "latest").await);
        if before == now.0 {
            assert_eq!(now.0, now.1, "mined");
            break;
        }
        before = now.0;
    }
}
