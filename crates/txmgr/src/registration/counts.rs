//! Which nonce of an address is the next one, by the transaction counts a node gives.
//!
//! Pure. A lane hands out nonces from the one it begins with, so that one must be sure: nothing unmined stands
//! before it, and no reorganisation can take it back.

use std::fmt;

use crate::ports::Counts;
use crate::units::Nonce;

/// Why a nonce cannot be the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// Transactions that are not mined use the nonces from the first to the second.
    InPool {
        /// The first of them.
        latest: Nonce,
        /// The first nonce after them.
        pending: Nonce,
    },
    /// The newest transactions are in blocks that may still be replaced.
    NotFinal {
        /// The count of those that are final.
        finalized: Nonce,
        /// The count of all of them.
        latest: Nonce,
    },
    /// The node contradicts itself: its pool is behind its blocks.
    PoolBehind(Counts),
    /// Two nodes count differently.
    Disagree {
        /// What the node that was asked first counts.
        first: Nonce,
        /// The lower count of two at the final block.
        lower: Nonce,
    },
    /// The second node says nothing.
    NoSecond,
    /// A mined transaction has used it.
    Used {
        /// The first nonce that is free.
        latest: Nonce,
    },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InPool { latest, pending } => write!(
                f,
                "{} transaction(s) that Signpost did not sign are in the pool (nonces {latest} to {}): the first \
                 requests would get the same nonces, and one of the two would replace the other",
                pending.since(*latest),
                pending.0.saturating_sub(1),
            ),
            Self::NotFinal { finalized, latest } => write!(
                f,
                "the newest {} transaction(s) are mined and not final ({latest} mined, {finalized} final): a \
                 reorganisation would leave a gap before the first request",
                latest.since(*finalized),
            ),
            Self::PoolBehind(counts) => {
                write!(f, "the node contradicts itself: {} with its pool, {} mined", counts.pending, counts.latest)
            }
            Self::Disagree { first, lower } => {
                write!(
                    f,
                    "two nodes count differently: one {first}, and of two at the final block the lower is {lower}"
                )
            }
            Self::NoSecond => {
                write!(f, "of the nodes in rpc_urls only one answers, and a first nonce needs the word of two")
            }
            Self::Used { latest } => write!(f, "mined transactions have used all nonces below {latest}"),
        }
    }
}

/// The next nonce, when all counts agree about it.
pub fn settled(counts: &Counts) -> Result<Nonce, Unfit> {
    let &Counts { latest, pending, finalized } = counts;
    if pending > latest {
        return Err(Unfit::InPool { latest, pending });
    }
    if pending < latest {
        return Err(Unfit::PoolBehind(*counts));
    }
    match finalized {
        Some(finalized) if finalized != latest => Err(Unfit::NotFinal { finalized, latest }),
        Some(_) | None => Ok(latest),
    }
}

/// Whether a chosen nonce can be the next one; and if so, the risk of beginning there, in a sentence.
pub fn before(counts: &Counts, nonce: Nonce) -> Result<Option<String>, Unfit> {
    let &Counts { latest, pending, finalized } = counts;
    let used = latest.max(finalized.unwrap_or(latest));
    if nonce < used {
        return Err(Unfit::Used { latest: used });
    }
    if nonce < pending {
        return Err(Unfit::InPool { latest, pending });
    }
    let (free, last) = (pending.max(used), nonce.0.saturating_sub(1));
    if nonce > free {
        return Ok(Some(format!(
            "there is a gap below {nonce}: nothing of this account is mined before other transactions have used the \
             nonces {free} to {last}, and Signpost makes none for them"
        )));
    }
    let sure = finalized.unwrap_or(latest);
    Ok((sure < nonce).then(|| {
        format!(
            "the nonces {sure} to {last} are used by transactions that are not final: if one of them is dropped, nothing \
             of this account is mined until another takes its place"
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(finalized: Option<u64>, latest: u64, pending: u64) -> Counts {
        Counts { latest: Nonce(latest), pending: Nonce(pending), finalized: finalized.map(Nonce) }
    }

    #[test]
    fn a_first_nonce_is_one_that_all_counts_agree_about() {
        assert_eq!(settled(&counts(Some(7), 7, 7)), Ok(Nonce(7)));
        assert_eq!(settled(&counts(None, 7, 7)), Ok(Nonce(7)));
        let in_pool = Unfit::InPool { latest: Nonce(7), pending: Nonce(9) };
        assert_eq!(settled(&counts(Some(7), 7, 9)), Err(in_pool));
        assert_eq!(settled(&counts(Some(6), 7, 9)), Err(in_pool), "the pool first: it may stay for long");
        assert!(in_pool.to_string().contains("2 transaction(s)") && in_pool.to_string().contains("nonces 7 to 8"));
        let not_final = Unfit::NotFinal { finalized: Nonce(6), latest: Nonce(7) };
        assert_eq!(settled(&counts(Some(6), 7, 7)), Err(not_final));
        assert_eq!(settled(&counts(Some(8), 7, 7)), Err(Unfit::NotFinal { finalized: Nonce(8), latest: Nonce(7) }));
        assert!(matches!(settled(&counts(Some(7), 7, 6)), Err(Unfit::PoolBehind(_))));
    }

    #[test]
    fn a_chosen_nonce_replaces_nothing_and_names_its_gap() {
        let text = |finalized, latest, pending, nonce| {
            before(&counts(finalized, latest, pending), Nonce(nonce)).map(Option::unwrap_or_default)
        };
        assert_eq!(text(Some(7), 7, 7, 7), Ok(String::new()));
        assert_eq!(text(None, 7, 7, 7), Ok(String::new()));
        for (finalized, latest, pending, nonce, words) in [
            (Some(7), 7, 7, 10, "gap below 10"),
            (Some(7), 7, 7, 10, "nonces 7 to 9"),
            (None, 7, 7, 9, "nonces 7 to 8"),
            (Some(7), 7, 9, 9, "the nonces 7 to 8 are used by transactions that are not final"),
            (Some(5), 7, 7, 7, "the nonces 5 to 6 are used by transactions that are not final"),
            (Some(5), 7, 9, 12, "the nonces 9 to 11"),
        ] {
            let text = text(finalized, latest, pending, nonce).unwrap();
            assert!(text.contains(words), "{text}");
        }
        let used = Unfit::Used { latest: Nonce(7) };
        assert_eq!(text(Some(7), 7, 9, 6), Err(used));
        assert_eq!(text(Some(5), 7, 7, 6), Err(used), "mined, if not final");
        assert_eq!(text(Some(7), 7, 9, 8), Err(Unfit::InPool { latest: Nonce(7), pending: Nonce(9) }));
        assert_eq!(text(Some(8), 7, 7, 7), Err(Unfit::Used { latest: Nonce(8) }), "the node's newest block lags");
    }
}
