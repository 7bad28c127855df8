//! Announced forks, and the node versions that support them.
//!
//! A node that does not support a fork follows its own branch after it: it still answers, but about a chain that
//! nobody else uses. So operators are warned in advance. This table decides nothing, and a node's version string is
//! used for this warning only.
//!
//! When a fork is announced, add it here and to this crate's `README.md`, each with its source.

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

/// Block interval in milliseconds, since Fermi (main network 2026-01-14, Chapel 2025-11-10). Jenner does not change it.
pub const BLOCK_MS: u64 = 450;

/// A fork is reported if it activates within this time, in seconds.
pub const NEAR_S: u64 = 30 * 86_400;

/// Maximum length of a node's client name, in characters.
const NAME_CHARS: usize = 100;

/// An announced change of the chain's rules and when it activates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fork {
    /// The fork's name.
    pub name: &'static str,
    /// Activation on the main network, in Unix seconds.
    pub mainnet_at: u64,
    /// Activation on the test network, in Unix seconds.
    pub chapel_at: u64,
    /// The first version of bsc that supports it.
    pub bsc: Version,
    /// The first version of reth-bsc that supports it.
    pub reth_bsc: Version,
}

/// The forks, the newest last. An entry may be removed once every node in use supports it.
pub const FORKS: &[Fork] = &[
    // bsc v1.8.2 (2026-11-03) and reth-bsc v0.1.4, by their release notes and docs.bnbchain.org.
    Fork {
        name: "Jenner",
        // 2026-12-08 02:30 UTC.
        mainnet_at: 1_796_697_000,
        // 2026-10-29; the hour is not known.
        chapel_at: 1_793_232_000,
        bsc: Version(1, 8, 2),
        reth_bsc: Version(0, 1, 4),
    },
];

impl Fork {
    /// Activation on a chain, in Unix seconds; `None` if the chain is not a BSC network.
    #[must_use]
    pub fn at(&self, chain: ChainId) -> Option<u64> {
        match chain {
            MAINNET => Some(self.mainnet_at),
            CHAPEL => Some(self.chapel_at),
            _ => None,
        }
    }

    /// Whether a node supports the fork; `None` if its program or version is unknown.
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

/// The node program, as far as its client name shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// bsc, whose client name is `Geth`. go-ethereum has the same name but other version numbers, and does not run BSC.
    Bsc,
    /// reth-bsc.
    RethBsc,
    /// A provider's gateway, a stand-in, or something new.
    Unknown,
}

/// A node's client version (`web3_clientVersion`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The text the node gave, escaped and shortened.
    pub name: String,
    /// The program.
    pub program: Program,
    /// The version, if it is where bsc and reth-bsc put it.
    pub version: Option<Version>,
}

impl Client {
    /// Reads `Geth/v1.8.2-54afaff2-20261103/linux-amd64/go1.25.1` and `reth-bsc/v0.1.4-457f81a/linux`; anything else
    /// is an unknown program. A build name between program and version (`Geth/my-node/v1.8.2`) is skipped.
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

/// Reads `v1.8.2`; a suffix that starts with a non-digit is ignored.
fn version_of(part: &str) -> Option<Version> {
    let mut numbers = part.trim().strip_prefix('v')?.splitn(3, '.');
    let (major, minor, rest) = (numbers.next()?, numbers.next()?, numbers.next()?);
    let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    Some(Version(major.parse().ok()?, minor.parse().ok()?, rest.get(..end)?.parse().ok()?))
}

impl BscChain {
    /// Asks a node for its client version.
    pub async fn client(&self) -> Result<Client, PortError> {
        self.ask("web3_clientVersion", json!([]), |answer| answer.as_str().map(Client::read)).await
    }

    /// The number of blocks that a validator makes in a row. Only bsc has this call, and few providers forward it.
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
    fn client_names_of_bsc_and_reth_bsc_are_read() {
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
    fn other_client_names_are_unknown_versions() {
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
    fn node_knows_fork_from_first_supporting_version() {
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
    fn forks_apply_to_bsc_networks_only() {
        for fork in FORKS {
            assert_eq!((fork.at(MAINNET), fork.at(CHAPEL)), (Some(fork.mainnet_at), Some(fork.chapel_at)));
            assert_eq!(fork.at(ChainId(1337)), None);
            assert!(fork.chapel_at < fork.mainnet_at, "the test network forks first");
        }
    }
}
