//! Senders: the `SenderId` from SQS, and the patterns in policy.
//!
//! A `SenderId` is the id of a user (`AIDA...`), or `ROLEID:SESSION` of an assumed role (`AROA...:task-7`). AWS creates
//! the ids and never reuses them, but the caller that assumes the role chooses the session. So a session does not
//! identify a sender. A pattern may have a wildcard only after a whole role id: `A*` would match everyone.
//!
//! Read next: [`super::requests`].

use std::str::FromStr;

/// The prefix of role ids.
const ROLE: &str = "AROA";

/// A pattern for senders: one sender, or all sessions of a role whose names have a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderPattern {
    /// Exactly this `SenderId`.
    Exact(String),
    /// All `SenderId`s with this prefix, which contains a whole role id and a colon. Written with one `*` at the end.
    Prefix(String),
}

/// A text that is not a valid sender pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPattern {
    /// An empty text, or `*` alone.
    #[error("is empty or matches everyone; leave it out instead")]
    Everyone,
    /// A `*` that is not at the end.
    #[error("may have one * and only at its end")]
    Star,
    /// A `*` that does not follow a whole role id and a colon.
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

/// The id of a sender without the session name: `AROAEXAMPLE:task-7` and `AROAEXAMPLE:task-8` are two tasks of one
/// service.
#[must_use]
pub fn principal(sender: &str) -> &str {
    sender.split_once(':').map_or(sender, |(principal, _)| principal)
}
