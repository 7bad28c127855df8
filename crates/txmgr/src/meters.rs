//! The list of all metrics: names, units, and when an operator should look.
//!
//! The drivers use the `metrics` facade, which costs nothing until a host installs a recorder. No decision depends on a
//! metric. Read next: [`crate::machine`].

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only increases.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// A distribution of values.
    Histogram,
}

/// The unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of items or events.
    Count,
    /// Milliseconds.
    Milliseconds,
    /// 10⁹ wei.
    Gwei,
}

impl Unit {
    /// The unit's name in the documentation.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Milliseconds => "ms",
            Self::Gwei => "gwei",
        }
    }
}

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meter {
    /// The name, in Prometheus style.
    pub name: &'static str,
    /// The type.
    pub kind: Kind,
    /// The unit.
    pub unit: Unit,
    /// The labels. Each has few values: fixed names, registered accounts, configured nodes.
    pub labels: &'static [&'static str],
    /// What it measures.
    pub meaning: &'static str,
    /// When an operator should look; empty if it needs no alarm.
    pub alarm: &'static str,
}

/// A number as gauges take it; exact up to 2⁵³.
pub(crate) fn gauge(number: u64) -> f64 {
    let half = |bits: u64| f64::from(u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX));
    half(number >> 32) * 4_294_967_296.0 + half(number)
}

macro_rules! meters {
    ($($constant:ident: $kind:ident($unit:ident) $name:literal by [$($label:literal),*], $meaning:literal, alarm $alarm:literal;)+) => {
        $(#[doc = $meaning] pub const $constant: &str = $name;)+

        /// Every metric.
        pub const ALL: &[Meter] = &[$(Meter {
            name: $name, kind: Kind::$kind, unit: Unit::$unit, labels: &[$($label),*], meaning: $meaning, alarm: $alarm,
        },)+];
    };
}

meters! {
    ACCEPTED: Counter(Count) "signpost_accepted_total" by [], "Requests that got a slot.", alarm "";
    REJECTED: Counter(Count) "signpost_rejected_total" by ["code"], "Messages refused.", alarm "a sudden rise; `senderNotAllowed`: a sender that no policy lists, or not for that account";
    SIGNED: Counter(Count) "signpost_signed_total" by ["kind"], "Attempts signed and stored.", alarm "";
    NOT_SIGNED: Counter(Count) "signpost_not_signed_total" by [], "Attempts that could not be signed or stored now.", alarm "above zero for minutes: KMS or DynamoDB";
    KMS_SIGNATURES: Counter(Count) "signpost_kms_signatures_total" by [], "Signatures made by KMS: one per attempt, more only when workers race.", alarm "well above `signpost_signed_total`";
    KMS_SIGN: Histogram(Milliseconds) "signpost_kms_sign_ms" by [], "Duration of one `Sign`, retries included.", alarm "p99 above a second";
    AWS_REPEATS: Counter(Count) "signpost_aws_repeats_total" by ["operation", "cause"], "Retried calls to AWS; KMS throttling is operation `Sign`, cause `throttled`.", alarm "`throttled` for minutes: ask for a higher quota";
    SENDS: Counter(Count) "signpost_sends_total" by ["class"], "Transactions sent to nodes, by the class of the answer.", alarm "any `refused` or `misconfigured`";
    BUMPS: Counter(Count) "signpost_bumps_total" by [], "Replacements requested at a higher price.", alarm "";
    CANCELS: Counter(Count) "signpost_cancels_total" by ["cause"], "Cancels wanted.", alarm "any `refused`";
    LANE_OPEN_SLOTS: Gauge(Count) "signpost_lane_open_slots" by ["account"], "Slots reserved and not closed.", alarm "grows without bound";
    LANE_SET_ASIDE: Gauge(Count) "signpost_lane_set_aside" by ["account"], "Slots that could not be closed and are set aside.", alarm "above zero: `signpost doctor` names them";
    SET_ASIDE: Counter(Count) "signpost_set_aside_total" by ["cause"], "Slots set aside, by cause: `unproven`, `unpublished`, `late`; and gaps of `lost` slots left behind.", alarm "any";
    LANE_HEAD_AGE: Gauge(Milliseconds) "signpost_lane_head_age_ms" by ["account"], "How long the lowest unmined slot has been the lane's head.", alarm "above a minute: the lane is stuck";
    AT_CAP: Counter(Count) "signpost_at_cap_total" by ["account"], "Times a stuck head could not be bumped because of its cap; it is cancelled after policy `max_head_s`.", alarm "any";
    BALANCE: Gauge(Gwei) "signpost_account_balance_gwei" by ["account"], "The account's balance at the newest block, read at the start of a pass and every ten minutes.", alarm "below the cost of a day";
    FUNDS: Counter(Count) "signpost_funds_low_total" by ["account"], "Sends answered with insufficient funds.", alarm "any";
    PAUSED: Counter(Count) "signpost_paused_total" by [], "Times an account was paused because a node called us misconfigured.", alarm "any";
    ACCOUNT_UNUSABLE: Counter(Count) "signpost_account_unusable_total" by ["account", "fault"], "Times an account's key was found unusable, or its head unreadable: this account stops, all others continue.", alarm "any: `signpost doctor` says what to do";
    UNSEALED: Counter(Count) "signpost_unsealed_total" by ["account", "fault"], "Times a record was not signed because its seal is missing or wrong.", alarm "any: someone else wrote the record, or the sealing key has changed";
    OTHER_CHAIN: Counter(Count) "signpost_other_chain_total" by ["message"], "Pokes and asks dropped because their account is on another chain.", alarm "any: two Signposts share a queue";
    DELEGATED: Counter(Count) "signpost_delegated_total" by ["account"], "Times an account's address was found to have code (EIP-7702).", alarm "any";
    DISPLACED: Counter(Count) "signpost_displaced_total" by [], "Requests displaced by a transaction not signed here.", alarm "any: the key is used elsewhere";
    WAITS: Counter(Count) "signpost_waits_total" by ["cause"], "Times a request had made no progress for 30 s, by what it waits for.", alarm "any but `predecessor` for minutes";
    CONTRADICTED: Counter(Count) "signpost_contradicted_total" by ["account"], "Times two nodes contradicted each other about something final.", alarm "any: one of them lies or is on a dead branch";
    TOO_FAR_AHEAD: Counter(Count) "signpost_too_far_ahead_total" by ["account"], "Times the chain's count was more than 1,000 nonces ahead of an idle lane.", alarm "any: a node lies, or the key is used elsewhere";
    FAST_FORWARDS: Counter(Count) "signpost_fast_forwards_total" by [], "Times an idle lane adopted the chain's count.", alarm "any: the key is used elsewhere";
    SETTLED: Counter(Count) "signpost_settled_total" by ["status"], "Requests settled.", alarm "";
    MINED_AFTER: Histogram(Milliseconds) "signpost_mined_after_ms" by [], "From the reservation to the first receipt seen.", alarm "p99 above a minute";
    FINAL_AFTER: Histogram(Milliseconds) "signpost_final_after_ms" by [], "From the reservation to the settlement.", alarm "p99 above a minute";
    PUBLISHED: Counter(Count) "signpost_published_total" by [], "Outcomes published.", alarm "";
    NOT_PUBLISHED: Counter(Count) "signpost_not_published_total" by [], "Outcomes that could not be published now.", alarm "above zero for minutes: SNS";
    OUTCOMES_REDUCED: Counter(Count) "signpost_outcomes_reduced_total" by [], "Outcomes that the topic refused for good and that were published without metadata and texts.", alarm "any";
    NO_CHAIN: Counter(Count) "signpost_no_chain_total" by [], "Rounds in which no node answered.", alarm "above zero for a minute";
    RPC_REQUESTS: Counter(Count) "signpost_rpc_requests_total" by ["host", "outcome"], "HTTP requests to nodes, by host and port: `answered`, `limited` or `failed`.", alarm "`limited` or `failed` of one host for minutes";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_end_in_their_unit() {
        let mut names: Vec<_> = ALL.iter().map(|meter| meter.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for meter in ALL {
            let ending = match (meter.kind, meter.unit) {
                (Kind::Counter, Unit::Count) => "_total",
                (_, Unit::Milliseconds) => "_ms",
                (_, Unit::Gwei) => "_gwei",
                (Kind::Gauge | Kind::Histogram, Unit::Count) => "",
            };
            assert!(meter.name.starts_with("signpost_") && meter.name.ends_with(ending), "{}", meter.name);
        }
    }
}
