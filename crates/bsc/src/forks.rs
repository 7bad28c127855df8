//! Forks that were announced, and which node programs know them.
//!
//! A node that does not know a fork goes on alone after it: it answers, of a chain nobody else is on. So a person is
//! told beforehand. Nothing is decided by this table, and what a node says of itself is believed no further.
//!
//! When a fork is announced: add it here, with its source, and to the page `README.md` of this crate.

use std::fmt;

use serde_json::{Value, json};
use signpost_txmgr::ports::PortError;
use signpost_txmgr::text;
use signpost_txmgr::units::ChainId;

use crate::chain::BscChain;
use crate::quantity;

/// The main network.
pub const MAINNET: ChainId = ChainId(56);
/// The test network.
pub const CHAPEL: ChainId = ChainId(97);

/// Between two blocks, in milliseconds, since Fermi (main network 2026-01-14, Chapel 2025-11-10); Jenner keeps it.
pub const BLOCK_MS: u64 = 450;

/// A fork that is nearer than this is reported, in seconds.
pub const NEAR_S: u64 = 30 * 86_400;

/// Characters that are kept of what a node calls itself.
const NAME_CHARS: usize = 100;

/// An announced change of the chain's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fork {
    /// Its name.
    pub name: &'static str,
    /// When the main network takes it, in Unix seconds.
    pub mainnet_at: u64,
    /// When the test network takes it, in Unix seconds.
    pub chapel_at: u64,
    /// The first bsc that knows it.
    pub bsc: Version,
    /// The first reth-bsc that knows it.
    pub reth_bsc: Version,
}

/// The forks, the newest last. One that every node in use knows may go.
pub const FORKS: &[Fork] = &[
    // bsc v1.8.2 (2026-11-03) and reth-bsc v0.1.4, by their release notes and docs.bnbchain.org.
    Fork {
        name: "Jenner",
        // 2026-12-08 02:30 UTC.
        mainnet_at: 1_796_697_000,
        // 2026-10-29; the hour was not read.
        chapel_at: 1_793_232_000,
        bsc: Version(1, 8, 2),
        reth_bsc: Version(0, 1, 4),
    },
];

impl Fork {
    /// When a chain takes it; `None` for a chain that is not BSC's.
    #[must_use]
    pub fn at(&self, chain: ChainId) -> Option<u64> {
        match chain {
            MAINNET => Some(self.mainnet_at),
            CHAPEL => Some(self.chapel_at),
            _ => None,
        }
    }

    /// Whether a node knows it; `None` for a program whose versions are not known here.
    #[must_use]
    pub fn is_known_to(&self, client: &Client) -> Option<bool> {
        match (client.program, client.version) {
            (Program::Bsc, Some(version)) => Some(version >= self.bsc),
            (Program::RethBsc, Some(version)) => Some(version >= self.reth_bsc),
            (Program::Bsc | Program::RethBsc, None) | (Program::Unknown, _) => None,
        }
    }
}

/// Major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64, pub u64, pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.0, self.1, self.2)
    }
}

/// The program a node is, as far as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// bsc, which calls itself `Geth`. So does go-ethereum, which has other numbers and is on no BSC.
    Bsc,
    /// reth-bsc.
    RethBsc,
    /// A provider's gateway, a stand-in, or something new.
    Unknown,
}

/// What a node says it is (`web3_clientVersion`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its words, plain and cut.
    pub name: String,
    /// The program.
    pub program: Program,
    /// Its version, if it is where such programs put it.
    pub version: Option<Version>,
}

impl Client {
    /// Reads `Geth/v1.8.2-54afaff2-20261103/linux-amd64/go1.25.1` and `reth-bsc/v0.1.4-457f81a/linux`; anything else
    /// is an unknown program. A build's name between program and version (`Geth/my-node/v1.8.2`) is passed over.
    #[must_use]
    pub fn read(name: &str) -> Self {
        let mut parts = name.split('/');
        let program = match parts.next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "geth" | "bsc" => Program::Bsc,
            "reth-bsc" | "bsc-reth" | "reth_bsc" => Program::RethBsc,
            _ => Program::Unknown,
        };
        let version = parts.find_map(version_of);
        Self { name: text::plain_within(name, NAME_CHARS), program, version }
    }
}

/// `v1.8.2`, and whatever follows it after a sign that is no digit.
fn version_of(part: &str) -> Option<Version> {
    let mut numbers = part.trim().strip_prefix('v')?.splitn(3, '.');
    let (major, minor, rest) = (numbers.next()?, numbers.next()?, numbers.next()?);
    let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    Some(Version(major.parse().ok()?, minor.parse().ok()?, rest.get(..end)?.parse().ok()?))
}

impl BscChain {
    /// What a node says it is.
    pub async fn client(&self) -> Result<Client, PortError> {
        self.ask("web3_clientVersion", json!([]), |answer| answer.as_str().map(Client::read)).await
    }

    /// Blocks that a validator makes in a row. Only bsc knows the call, and few providers let it through.
    pub async fn turn_length(&self) -> Result<u64, PortError> {
        let read = |answer: &Value| answer.as_u64().or_else(|| quantity::number(answer)).filter(|length| *length > 0);
        self.ask("parlia_getTurnLength", json!(["latest"]), read).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str) -> (Program, Option<Version>) {
        let client = Client::read(name);
        (client.program, client.version)
    }

    #[test]
    fn what_nodes_call_themselves_is_read() {
        for (name, program, version) in [
            ("Geth/v1.8.2-54afaff2-20261103/linux-amd64/go1.25.1", Program::Bsc, Some(Version(1, 8, 2))),
            ("Geth/v1.7.7-6c154fb3-20260723/linux-amd64/go1.26.5", Program::Bsc, Some(Version(1, 7, 7))),
            ("Geth/my-node/v1.8.10-stable/linux-amd64/go1.25", Program::Bsc, Some(Version(1, 8, 10))),
            ("reth-bsc/v0.1.4-457f81a/linux", Program::RethBsc, Some(Version(0, 1, 4))),
            ("reth-bsc/v0.1.4-hotfix/linux", Program::RethBsc, Some(Version(0, 1, 4))),
        ] {
            assert_eq!(read(name), (program, version), "{name}");
        }
    }

    #[test]
    fn anything_else_is_an_unknown_version_and_no_fault() {
        let jenner = FORKS.last().unwrap();
        for name in [
            "anvil/v1.7.1",
            "Alchemy/v1.0.0/linux-amd64",
            "reth/v1.9.0-abc/x86_64",
            "Geth/dev",
            "Geth/v1.8",
            "Geth/vx.y.z",
            "Geth/v1.8.99999999999999999999",
            "",
            "/",
            "HardhatNetwork/3.0/edr",
            "erigon/3.1.0",
            "\u{1b}[2J",
        ] {
            assert_eq!(jenner.is_known_to(&Client::read(name)), None, "{name}");
        }
        assert_eq!(Client::read("a\u{1b}b").name, "a\\u{1b}b");
        assert_eq!(Client::read(&"x".repeat(10_000)).name.chars().count(), NAME_CHARS);
    }

    #[test]
    fn a_node_knows_a_fork_from_its_version_on() {
        let jenner = FORKS.last().unwrap();
        for (name, knows) in [
            ("Geth/v1.8.1-aa/linux", false),
            ("Geth/v1.7.99/linux", false),
            ("Geth/v1.8.2-aa/linux", true),
            ("Geth/v1.10.0/linux", true),
            ("reth-bsc/v0.1.3-aa/linux", false),
            ("reth-bsc/v0.2.0/linux", true),
        ] {
            assert_eq!(jenner.is_known_to(&Client::read(name)), Some(knows), "{name}");
        }
    }

    #[test]
    fn forks_are_of_bsc_s_chains_alone() {
        for fork in FORKS {
            assert_eq!((fork.at(MAINNET), fork.at(CHAPEL)), (Some(fork.mainnet_at), Some(fork.chapel_at)));
            assert_eq!(fork.at(ChainId(1337)), None);
            assert!(fork.chapel_at < fork.mainnet_at, "the test network goes first");
        }
    }
}
