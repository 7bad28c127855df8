//! The chain's own rules: forks that come and which nodes know them, the turn of a validator, the payment lane.
//!
//! Nothing here keeps Signpost from working today, but for a node that does not know a fork that is past.

use signpost_bsc::BscChain;
use signpost_bsc::forks::{BLOCK_MS, Client, FORKS, Fork, NEAR_S};
use signpost_bsc::lane::LaneRules;
use signpost_txmgr::machine::Tuning;
use signpost_txmgr::units::{ChainId, Millis};

use super::{Check, Checks, State};
use crate::command::told;
use crate::lane::NOT_ACTIVE;
use crate::when::date;

const DAY_S: u64 = 86_400;
/// Listed contracts that are named.
const LISTED_SHOWN: usize = 5;

/// The forks of a chain, as they stand at `now_s`.
pub(super) fn forks(chain: ChainId, now_s: u64, checks: &mut Checks) {
    for (fork, at) in FORKS.iter().filter_map(|fork| Some((fork, fork.at(chain)?))) {
        checks.0.push(of_fork(fork, at, now_s));
    }
}

fn of_fork(fork: &Fork, at: u64, now_s: u64) -> Check {
    let what = format!("fork: {}", fork.name);
    let day = date(Millis(at.saturating_mul(1_000)));
    let wants = format!("it wants bsc {} or reth-bsc {}", fork.bsc, fork.reth_bsc);
    let left_s = at.saturating_sub(now_s);
    let (state, found, todo) = match left_s {
        0 => (State::Ok, format!("in force since {day}; {wants}"), String::new()),
        1..NEAR_S => (
            State::Look,
            format!("in {} day(s), {day}; {wants}", left_s / DAY_S),
            "a node that is older then goes on alone: update your own before, and ask providers".to_owned(),
        ),
        _ => (State::Ok, format!("in {} days, {day}; {wants}", left_s / DAY_S), String::new()),
    };
    Check { what, state, found, todo }
}

/// What one node says of itself.
pub(super) async fn node(name: &str, node: &BscChain, chain: ChainId, now_s: u64, checks: &mut Checks) {
    let what = format!("{name}: version");
    match node.client().await {
        Ok(client) => checks.0.push(of_client(what, &client, chain, now_s)),
        Err(_) => checks.ok(what, "not told"),
    }
    turn(name, node.turn_length().await.ok(), checks);
}

/// Whether the node knows the forks that are past or near. The worst result is reported.
fn of_client(what: String, client: &Client, chain: ChainId, now_s: u64) -> Check {
    let name = &client.name;
    let judged = FORKS.iter().filter_map(|fork| {
        let at = fork.at(chain)?;
        let day = date(Millis(at.saturating_mul(1_000)));
        let wants = format!("{} wants bsc {} or reth-bsc {}", fork.name, fork.bsc, fork.reth_bsc);
        let (is_past, is_near) = (at <= now_s, at > now_s && at.saturating_sub(now_s) < NEAR_S);
        match fork.is_known_to(client) {
            Some(true) => None,
            Some(false) if is_past => Some((
                State::Problem,
                format!("{name}: older than {wants}, in force since {day}"),
                "update it: it may follow a chain of its own, and what it says be of no worth".to_owned(),
            )),
            Some(false) => Some((
                State::Look,
                format!("{name}: older than {wants}, from {day} on"),
                format!("update it before {day}"),
            )),
            None if is_near => Some((
                State::Look,
                format!("{name}: unknown version; {wants}, from {day} on"),
                "ask whoever runs it whether it knows the fork".to_owned(),
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
    Check { what, state, found, todo }
}

/// How long a validator's turn is, and what the blocks before a bump are beside it.
fn turn(name: &str, length: Option<u64>, checks: &mut Checks) {
    let what = format!("{name}: turn");
    let wait = Tuning::BSC.bump_after_blocks;
    let Some(length) = length else {
        checks.ok(what, "not told (parlia_getTurnLength is not open); 8 blocks on the main network in 2026-09");
        return;
    };
    let turns = wait.checked_div(length).unwrap_or(0);
    let found = format!(
        "{length} blocks ({}): the {wait} blocks before a bump ({}) hold {turns} whole turn(s)",
        seconds(length),
        seconds(wait)
    );
    if turns >= 2 {
        checks.ok(what, found);
    } else {
        let todo = "a bump may come before a second validator could have taken the transaction: it costs more, no more";
        checks.look(what, found, todo);
    }
}

fn seconds(blocks: u64) -> String {
    let ms = blocks.saturating_mul(BLOCK_MS);
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

/// Ratio and list of BEP-703, as the nodes have them now.
pub(super) async fn payment_lane(nodes: &BscChain, checks: &mut Checks) {
    let what = "payment lane";
    match nodes.payment_lane().await {
        Ok(None) => checks.ok(what, NOT_ACTIVE),
        Ok(Some(rules)) => checks.ok(what, of_lane(&rules)),
        Err(error) => checks.look(what, told(&error), "no node could say"),
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
    format!("{} of a block's gas are kept for payments; {listed}{more}", rules.percent())
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
    fn a_fork_is_told_from_thirty_days_before() {
        let at = JENNER.mainnet_at;
        let told = |now_s| {
            let Check { state, found, .. } = of_fork(JENNER, at, now_s);
            (state, found)
        };
        let (state, found) = told(NOW_S);
        assert_eq!(state, State::Look);
        assert!(
            found.starts_with("in 12 day(s), 2026-12-08T02:30:00Z; it wants bsc v1.8.2 or reth-bsc v0.1.4"),
            "{found}"
        );
        assert_eq!(told(at - NEAR_S).0, State::Ok, "thirty days are not less than thirty");
        assert_eq!(told(at - NEAR_S + 1).0, State::Look);
        let (state, found) = told(at);
        assert!(state == State::Ok && found.starts_with("in force since"), "{found}");
    }

    #[test]
    fn a_node_that_is_too_old_is_a_problem_only_once_the_fork_is_past() {
        let old = "Geth/v1.7.7-6c154fb3-20260723/linux-amd64/go1.26.5";
        let (state, found, todo) = client(old, MAINNET, NOW_S);
        assert!(state == State::Look && found.contains("older than Jenner wants bsc v1.8.2"), "{found}");
        assert_eq!(todo, "update it before 2026-12-08T02:30:00Z");
        assert_eq!(client(old, MAINNET, JENNER.mainnet_at).0, State::Problem);
        assert_eq!(client(old, CHAPEL, NOW_S).0, State::Problem);
        assert_eq!(client(old, MAINNET, JENNER.mainnet_at - 10 * NEAR_S).0, State::Look, "long before, too");
        assert_eq!(client("reth-bsc/v0.1.3-aa/linux", CHAPEL, NOW_S).0, State::Problem);
        let new = "Geth/v1.8.2-54afaff2-20261103/linux-amd64/go1.25.1";
        assert_eq!(client(new, MAINNET, NOW_S), (State::Ok, new.to_owned(), String::new()));
    }

    #[test]
    fn an_unknown_version_is_said_and_is_no_problem() {
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
    fn a_turn_is_told_with_what_the_blocks_before_a_bump_are() {
        for (length, state, words) in [
            (Some(8), State::Ok, "8 blocks (3.6 s): the 16 blocks before a bump (7.2 s) hold 2 whole turn(s)"),
            (Some(16), State::Look, "16 blocks (7.2 s): the 16 blocks before a bump (7.2 s) hold 1 whole turn(s)"),
            (None, State::Ok, "not told"),
        ] {
            let mut checks = Checks::default();
            turn("node 1", length, &mut checks);
            let Check { what, state: found_state, found, .. } = &checks.0[0];
            assert_eq!((what.as_str(), *found_state), ("node 1: turn", state));
            assert!(found.starts_with(words), "{found}");
        }
    }

    #[test]
    fn the_lane_is_told_with_ratio_and_list() {
        let rules = |listed: usize, listed_count| LaneRules {
            ratio: 500,
            listed: vec![Address([0x55; 20]); listed],
            listed_count,
        };
        assert_eq!(of_lane(&rules(0, 0)), "5 % of a block's gas are kept for payments; no contract is listed");
        assert!(of_lane(&rules(1, 1)).ends_with("1 contract(s) listed: 0x5555555555555555555555555555555555555555"));
        let many = of_lane(&rules(7, 200));
        assert!(
            many.contains("200 contract(s) listed: ") && many.ends_with(", …") && many.matches("0x").count() == 5,
            "{many}"
        );
    }
}
