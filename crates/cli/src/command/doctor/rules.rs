//! Checks the rules of the chain: upcoming forks and the nodes that support them, validator turns, the payment lane.
//!
//! Only a node that does not support an active fork is a problem; all other findings are informative.

use signpost_bsc::BscChain;
use signpost_bsc::forks::{BLOCK_MS, Client, FORKS, Fork, NEAR_S};
use signpost_bsc::payment_lane::LaneRules;
use signpost_txmgr::machine::Tuning;
use signpost_txmgr::units::{ChainId, Millis};

use super::{Check, Checks, State};
use crate::command::error_chain;
use crate::payment_lane::NOT_ACTIVE;
use crate::when::date;

const DAY_S: u64 = 86_400;
/// How many listed contracts are shown.
const LISTED_SHOWN: usize = 5;

/// Reports the forks of a chain at `now_s`.
pub(super) fn forks(chain: ChainId, now_s: u64, checks: &mut Checks) {
    for (fork, at) in FORKS.iter().filter_map(|fork| Some((fork, fork.at(chain)?))) {
        checks.0.push(of_fork(fork, at, now_s));
    }
}

fn of_fork(fork: &Fork, at: u64, now_s: u64) -> Check {
    let what = format!("fork: {}", fork.name);
    let day = date(Millis(at.saturating_mul(1_000)));
    let needs = format!("it needs bsc {} or reth-bsc {}", fork.bsc, fork.reth_bsc);
    let left_s = at.saturating_sub(now_s);
    let (state, found, todo) = match left_s {
        0 => (State::Ok, format!("active since {day}; {needs}"), String::new()),
        1..NEAR_S => (
            State::Look,
            format!("in {} day(s), {day}; {needs}", left_s / DAY_S),
            "an older node will leave the chain: update your own nodes before, and ask your providers".to_owned(),
        ),
        _ => (State::Ok, format!("in {} days, {day}; {needs}", left_s / DAY_S), String::new()),
    };
    Check { what, state, found, todo, shown: None }
}

/// Checks the version and the turn length that a node reports.
pub(super) async fn node(name: &str, node: &BscChain, chain: ChainId, now_s: u64, checks: &mut Checks) {
    let what = format!("{name}: version");
    match node.client().await {
        Ok(client) => checks.0.push(of_client(what, &client, chain, now_s)),
        Err(_) => checks.ok(what, "not reported"),
    }
    turn(name, node.turn_length().await.ok(), checks);
}

/// Checks that the node supports active and near forks. The worst result is reported.
fn of_client(what: String, client: &Client, chain: ChainId, now_s: u64) -> Check {
    let name = &client.name;
    let judged = FORKS.iter().filter_map(|fork| {
        let at = fork.at(chain)?;
        let day = date(Millis(at.saturating_mul(1_000)));
        let needs = format!("{} needs bsc {} or reth-bsc {}", fork.name, fork.bsc, fork.reth_bsc);
        let (is_past, is_near) = (at <= now_s, at > now_s && at.saturating_sub(now_s) < NEAR_S);
        match fork.is_known_to(client) {
            Some(true) => None,
            Some(false) if is_past => Some((
                State::Problem,
                format!("{name}: too old: {needs}, active since {day}"),
                "update it: it may be on another chain, and its answers may be wrong".to_owned(),
            )),
            Some(false) => Some((
                State::Look,
                format!("{name}: too old: {needs}, from {day} on"),
                format!("update it before {day}"),
            )),
            None if is_near => Some((
                State::Look,
                format!("{name}: unknown version; {needs}, from {day} on"),
                "ask its operator whether it supports the fork".to_owned(),
            )),
            None => Some((State::Ok, format!("{name}: unknown version"), String::new())),
        }
    });
    let rank = |(state, ..): &(State, String, String)| match state {
        State::Ok => 0,
        State::Look => 1,
        State::Problem => 2,
    };
    let (state, found, todo) = judged.max_by_key(rank).unwrap_or_else(|| (State::Ok, name.clone(), String::new()));
    Check { what, state, found, todo, shown: None }
}

/// Compares a validator's turn with the number of blocks before a bump.
fn turn(name: &str, length: Option<u64>, checks: &mut Checks) {
    let what = format!("{name}: turn");
    let wait = Tuning::BSC.bump_after_blocks;
    let Some(length) = length else {
        checks.ok(what, "not reported (parlia_getTurnLength is not available); 8 blocks on mainnet in 2026-09");
        return;
    };
    let turns = wait.checked_div(length).unwrap_or(0);
    let found = format!(
        "{length} blocks ({}): the {wait} blocks before a bump ({}) are {turns} full turn(s)",
        seconds(length),
        seconds(wait)
    );
    if turns >= 2 {
        checks.ok(what, found);
    } else {
        let todo = "a bump may happen before a second validator could include the transaction: this only costs more";
        checks.look(what, found, todo);
    }
}

fn seconds(blocks: u64) -> String {
    let ms = blocks.saturating_mul(BLOCK_MS);
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

/// Reports the current ratio and list of BEP-703.
pub(super) async fn payment_lane(nodes: &BscChain, checks: &mut Checks) {
    let what = "payment lane";
    match nodes.payment_lane().await {
        Ok(None) => checks.ok(what, NOT_ACTIVE),
        Ok(Some(rules)) => checks.ok(what, of_lane(&rules)),
        Err(error) => checks.look(what, error_chain(&error), "no node answered"),
    }
}

fn of_lane(rules: &LaneRules) -> String {
    let shown: Vec<String> = rules.listed.iter().take(LISTED_SHOWN).map(ToString::to_string).collect();
    let listed = match (rules.listed_count, shown.len()) {
        (0, _) => "no contract is listed".to_owned(),
        (count, 0) => format!("{count} contract(s) listed"),
        (count, _) => format!("{count} contract(s) listed: {}", shown.join(", ")),
    };
    let more = if rules.listed_count > u64::try_from(shown.len()).unwrap_or(u64::MAX) { ", …" } else { "" };
    format!("{} of a block's gas is reserved for payments; {listed}{more}", rules.percent())
}

#[cfg(test)]
mod tests {
    use signpost_bsc::forks::{CHAPEL, MAINNET};
    use signpost_txmgr::units::Address;

    use super::*;

    /// 2026-11-26.
    const NOW_S: u64 = 1_795_651_200;
    const JENNER: &Fork = &FORKS[0];

    fn client(name: &str, chain: ChainId, now_s: u64) -> (State, String, String) {
        let Check { state, found, todo, .. } = of_client("version".to_owned(), &Client::read(name), chain, now_s);
        (state, found, todo)
    }

    #[test]
    fn fork_needs_a_look_from_thirty_days_before() {
        let at = JENNER.mainnet_at;
        let at_time = |now_s| {
            let Check { state, found, .. } = of_fork(JENNER, at, now_s);
            (state, found)
        };
        let (state, found) = at_time(NOW_S);
        assert_eq!(state, State::Look);
        assert!(
            found.starts_with("in 12 day(s), 2026-12-08T02:30:00Z; it needs bsc v1.8.2 or reth-bsc v0.1.4"),
            "{found}"
        );
        assert_eq!(at_time(at - NEAR_S).0, State::Ok, "exactly thirty days");
        assert_eq!(at_time(at - NEAR_S + 1).0, State::Look);
        let (state, found) = at_time(at);
        assert!(state == State::Ok && found.starts_with("active since"), "{found}");
    }

    #[test]
    fn outdated_node_is_a_problem_once_the_fork_is_active() {
        let old = "Geth/v1.7.7-6c154fb3-20260723/linux-amd64/go1.26.5";
        let (state, found, todo) = client(old, MAINNET, NOW_S);
        assert!(state == State::Look && found.contains("too old: Jenner needs bsc v1.8.2"), "{found}");
        assert_eq!(todo, "update it before 2026-12-08T02:30:00Z");
        assert_eq!(client(old, MAINNET, JENNER.mainnet_at).0, State::Problem);
        assert_eq!(client(old, CHAPEL, NOW_S).0, State::Problem);
        assert_eq!(client(old, MAINNET, JENNER.mainnet_at - 10 * NEAR_S).0, State::Look, "long before, too");
        assert_eq!(client("reth-bsc/v0.1.3-aa/linux", CHAPEL, NOW_S).0, State::Problem);
        let new = "Geth/v1.8.2-54afaff2-20261103/linux-amd64/go1.25.1";
        assert_eq!(client(new, MAINNET, NOW_S), (State::Ok, new.to_owned(), String::new()));
    }

    #[test]
    fn unknown_version_is_reported_and_not_a_problem() {
        let (state, found, _) = client("Alchemy/v1.0.0/linux-amd64", MAINNET, NOW_S);
        assert!(state == State::Look && found.contains("unknown version"), "{found}");
        for now_s in [JENNER.mainnet_at, JENNER.mainnet_at - 2 * NEAR_S] {
            assert_eq!(
                client("anvil/v1.7.1", MAINNET, now_s),
                (State::Ok, "anvil/v1.7.1: unknown version".to_owned(), String::new())
            );
        }
        assert_eq!(client("anything", ChainId(1337), NOW_S).0, State::Ok);
    }

    #[test]
    fn turn_is_compared_with_the_blocks_before_a_bump() {
        for (length, state, words) in [
            (Some(8), State::Ok, "8 blocks (3.6 s): the 16 blocks before a bump (7.2 s) are 2 full turn(s)"),
            (Some(16), State::Look, "16 blocks (7.2 s): the 16 blocks before a bump (7.2 s) are 1 full turn(s)"),
            (None, State::Ok, "not reported"),
        ] {
            let mut checks = Checks::default();
            turn("node 1", length, &mut checks);
            let Check { what, state: found_state, found, .. } = &checks.0[0];
            assert_eq!((what.as_str(), *found_state), ("node 1: turn", state));
            assert!(found.starts_with(words), "{found}");
        }
    }

    #[test]
    fn lane_is_reported_with_ratio_and_list() {
        let rules = |listed: usize, listed_count| LaneRules {
            ratio: 500,
            listed: vec![Address([0x55; 20]); listed],
            listed_count,
        };
        assert_eq!(of_lane(&rules(0, 0)), "5 % of a block's gas is reserved for payments; no contract is listed");
        assert!(of_lane(&rules(1, 1)).ends_with("1 contract(s) listed: 0x5555555555555555555555555555555555555555"));
        let many = of_lane(&rules(7, 200));
        assert!(
            many.contains("200 contract(s) listed: ") && many.ends_with(", …") && many.matches("0x").count() == 5,
            "{many}"
        );
    }
}
