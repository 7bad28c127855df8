//! Who sends: SQS's own `SenderId`, and the patterns that policy lists.
//!
//! A `SenderId` is a user's id (`AIDA...`), or `ROLEID:SESSION` of an assumed role (`AROA...:task-7`). AWS makes the
//! ids, and they are never given twice; the name of the session is chosen by the one that assumes the role. So a
//! session tells nobody apart, and a pattern may leave open what follows a whole role id, and nothing else: `A*` would
//! take everyone.
//!
//! Read next: [`super::requests`].

use std::str::FromStr;

/// How the id of a role begins.
const ROLE: &str = "AROA";

/// A sender, or all sessions of a role whose names begin alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderPattern {
    /// This one.
    Exact(String),
    /// Written with one `*` at the end, which stands behind a whole role id and a colon.
    Prefix(String),
}

/// A text that is not a valid pattern of senders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPattern {
    /// Nothing, or `*` alone.
    #[error("is empty or matches everyone; leave it out instead")]
    Everyone,
    /// A `*` that is not its end.
    #[error("may have one * and only at its end")]
    Star,
    /// A `*` that is not behind a whole role id.
    #[error("may have its * only behind a whole role id, as AROAEXAMPLEROLEID:*; shorter, it takes roles of others")]
    NotBehindRole,
}

impl SenderPattern {
    pub(super) fn matches(&self, sender: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == sender,
            Self::Prefix(prefix) => sender.starts_with(prefix),
        }
    }
}

impl FromStr for SenderPattern {
    type Err = NoPattern;

    fn from_str(text: &str) -> Result<Self, NoPattern> {
        let start = text.strip_suffix('*').unwrap_or(text);
        match start.split_once(':') {
            _ if start.contains('*') => Err(NoPattern::Star),
            _ if start.is_empty() => Err(NoPattern::Everyone),
            _ if start.len() == text.len() => Ok(Self::Exact(text.to_owned())),
            Some((role, _)) if is_role(role) => Ok(Self::Prefix(start.to_owned())),
            Some(_) | None => Err(NoPattern::NotBehindRole),
        }
    }
}

fn is_role(id: &str) -> bool {
    let rest = id.strip_prefix(ROLE).unwrap_or_default();
    !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// Who a sender is, without the name of its session: `AROAEXAMPLE:task-7` and `AROAEXAMPLE:task-8` are two
/// tasks of one service.
#[must_use]
pub fn principal(sender: &str) -> &str {
    sender.split_once(':').map_or(sender, |(principal, _)| principal)
}
