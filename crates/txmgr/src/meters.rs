//! The one list of what is measured: names, units, and when someone should look.
//!
//! The drivers count through the `metrics` facade, which costs nothing until a host installs a
//! recorder. A meter is never evidence: verdicts come from records. Read next: [`crate::machine`].

/// How a meter moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One thing that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meter {
    /// The name, in Prometheus' style with the unit last.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// What it says.
    pub meaning: &'static str,
    /// When someone should look; empty when never by itself.
    pub alarm: &'static str,
}

macro_rules! meters {
    ($($constant:ident: $kind:ident $name:literal, $meaning:literal, alarm $alarm:literal;)+) => {
        $(#[doc = $meaning] pub const $constant: &str = $name;)+

        /// Every meter there is.
        pub const ALL: &[Meter] = &[$(Meter { name: $name, kind: Kind::$kind, meaning: $meaning, alarm: $alarm },)+];
    };
}

meters! {
    ACCEPTED: Counter "signpost_accepted_total", "Requests that got a slot.", alarm "";
    REJECTED: Counter "signpost_rejected_total", "Messages refused, by `code`.", alarm "a sudden rise";
    SIGNED: Counter "signpost_signed_total", "Attempts signed and stored, by `kind`.", alarm "";
    NOT_SIGNED: Counter "signpost_not_signed_total", "Attempts that could not be signed or stored now.", alarm "above zero for minutes: KMS or DynamoDB";
    SENDS: Counter "signpost_sends_total", "Transactions handed to nodes, by the `class` of the answer.", alarm "any `refused` or `misconfigured`";
    BUMPS: Counter "signpost_bumps_total", "Replacements at a higher price asked for.", alarm "";
    CANCELS: Counter "signpost_cancels_total", "Cancels asked for, by `cause`.", alarm "any `refused`";
    LANE_OPEN_SLOTS: Gauge "signpost_lane_open_slots", "Slots reserved and not closed, by `account`.", alarm "grows without end";
    LANE_HEAD_AGE: Gauge "signpost_lane_head_age_ms", "How long the lowest unmined slot has been the lane's head, by `account`.", alarm "above a minute: the lane is stuck";
    AT_CAP: Counter "signpost_at_cap_total", "Times a stuck head could not be bumped because of its cap, by `account`.", alarm "any";
    FUNDS: Counter "signpost_funds_low_total", "Sends answered with insufficient funds, by `account`.", alarm "any";
    PAUSED: Counter "signpost_paused_total", "Times an account was paused because a node called us misconfigured.", alarm "any";
    DELEGATED: Counter "signpost_delegated_total", "Times an account's address was found to have code (EIP-7702), by `account`.", alarm "any";
    DISPLACED: Counter "signpost_displaced_total", "Requests displaced by a transaction not signed here.", alarm "any: the key is used elsewhere";
    FAST_FORWARDS: Counter "signpost_fast_forwards_total", "Times an idle lane took up the chain's count.", alarm "any: the key is used elsewhere";
    SETTLED: Counter "signpost_settled_total", "Requests settled, by `status`.", alarm "";
    MINED_AFTER: Histogram "signpost_mined_after_ms", "From the reservation to the first receipt seen.", alarm "";
    FINAL_AFTER: Histogram "signpost_final_after_ms", "From the reservation to the settlement.", alarm "";
    PUBLISHED: Counter "signpost_published_total", "Outcomes published.", alarm "";
    NOT_PUBLISHED: Counter "signpost_not_published_total", "Outcomes that could not be published now.", alarm "above zero for minutes: SNS";
    NO_CHAIN: Counter "signpost_no_chain_total", "Rounds in which no node answered.", alarm "above zero for a minute";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_end_with_their_unit() {
        let mut names: Vec<_> = ALL.iter().map(|meter| meter.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for meter in ALL {
            let fits = match meter.kind {
                Kind::Counter => meter.name.ends_with("_total"),
                Kind::Gauge => true,
                Kind::Histogram => meter.name.ends_with("_ms"),
            };
            assert!(fits, "{}", meter.name);
        }
    }
}
