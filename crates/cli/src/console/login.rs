//! Logins: the token, the sessions opened with it, and a limit on wrong tokens.
//!
//! Time is an argument, counted from the start of the console, so that a change of the system clock has no effect.
//!
//! ## Guarantees
//! * A browser keeps a random session id and never the token; a session expires.
//! * At most [`GUESSES_MAX`] wrong tokens are checked per [`GUESSES_WINDOW`], from all senders together, in the form or
//!   as a bearer token. After that no token is accepted until the window is over, not even the right one. Open
//!   sessions stay valid.
//!
//! ## Does not guarantee
//! * That logins are always possible: anybody who reaches the port can send wrong tokens and block them.

use std::collections::HashMap;
use std::time::Duration;

use signpost_txmgr::units::sha256;

/// The length of a session: a working day.
pub(super) const SESSION_LASTS: Duration = Duration::from_hours(8);
/// The limit of open sessions; a new one replaces the one that would expire first.
const SESSIONS_MAX: usize = 64;
/// The limit of wrong tokens per window.
const GUESSES_MAX: u32 = 10;
/// The length of a window, which begins with a wrong token.
const GUESSES_WINDOW: Duration = Duration::from_mins(1);

/// Bytes of a session id.
pub(super) const SESSION_ID_BYTES: usize = 32;

/// The token and the open sessions.
pub(super) struct Logins {
    /// SHA-256 of the token; `None` if no token is required.
    token: Option<[u8; 32]>,
    /// When each session ends, by the hash of its id.
    sessions: HashMap<[u8; 32], Duration>,
    wrong: u32,
    window_ends: Duration,
}

/// The result of checking a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    /// The token is right.
    Right,
    /// The token is wrong.
    Wrong,
    /// The token was not checked; try again after this time.
    Wait(Duration),
}

impl Logins {
    /// Requires the token; without one, everybody is admitted.
    pub(super) fn new(token: Option<&str>) -> Self {
        let token = token.map(|token| sha256(token.as_bytes()));
        Self { token, sessions: HashMap::new(), wrong: 0, window_ends: Duration::ZERO }
    }

    /// Whether no token is required.
    pub(super) fn is_open(&self) -> bool {
        self.token.is_none()
    }

    /// Checks a token. The comparison of hashes takes constant time.
    pub(super) fn try_token(&mut self, given: &str, now: Duration) -> Tried {
        let Some(token) = &self.token else { return Tried::Right };
        if now >= self.window_ends {
            self.wrong = 0;
        }
        if self.wrong >= GUESSES_MAX {
            return Tried::Wait(self.window_ends.saturating_sub(now));
        }
        let differences =
            token.iter().zip(sha256(given.as_bytes())).fold(0, |all, (ours, theirs)| all | (ours ^ theirs));
        if differences == 0 {
            return Tried::Right;
        }
        if self.wrong == 0 {
            self.window_ends = now.saturating_add(GUESSES_WINDOW);
        }
        self.wrong = self.wrong.saturating_add(1);
        Tried::Wrong
    }

    /// Opens a session with this random id.
    pub(super) fn begin(&mut self, id: &str, now: Duration) {
        self.sessions.retain(|_, ends| *ends > now);
        if self.sessions.len() >= SESSIONS_MAX {
            let first = self.sessions.iter().min_by_key(|(_, ends)| **ends).map(|(id, _)| *id);
            first.and_then(|id| self.sessions.remove(&id));
        }
        self.sessions.insert(sha256(id.as_bytes()), now.saturating_add(SESSION_LASTS));
    }

    /// The remaining time of the session with this id.
    pub(super) fn session(&self, id: &str, now: Duration) -> Option<Duration> {
        let ends = self.sessions.get(&sha256(id.as_bytes()))?;
        ends.checked_sub(now).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn session_is_known_by_its_id_until_it_expires() {
        let mut logins = Logins::new(Some(TOKEN));
        logins.begin("one", SECOND);
        assert_eq!(logins.session("one", SECOND), Some(SESSION_LASTS));
        assert_eq!(logins.session("two", SECOND), None);
        assert_eq!(logins.session(TOKEN, SECOND), None, "the token is not a session id");
        assert_eq!(logins.session("one", SESSION_LASTS), Some(SECOND));
        assert_eq!(logins.session("one", SECOND + SESSION_LASTS), None);
    }

    #[test]
    fn session_count_is_bounded_and_the_oldest_is_dropped() {
        let mut logins = Logins::new(Some(TOKEN));
        for number in 0..=u32::try_from(SESSIONS_MAX).unwrap() {
            logins.begin(&number.to_string(), SECOND * number);
        }
        let now = SECOND * 100;
        assert_eq!(logins.sessions.len(), SESSIONS_MAX);
        assert_eq!(logins.session("0", now), None);
        assert!(logins.session("1", now).is_some() && logins.session("64", now).is_some());
        logins.begin("later", SESSION_LASTS + now);
        assert_eq!(logins.sessions.len(), 1, "expired sessions are removed");
    }

    #[test]
    fn no_token_is_accepted_after_ten_wrong_ones_in_a_window() {
        let mut logins = Logins::new(Some(TOKEN));
        logins.begin("one", Duration::ZERO);
        for number in 0..10 {
            assert_eq!(logins.try_token("wrong", SECOND * number), Tried::Wrong);
        }
        assert_eq!(logins.try_token("wrong", SECOND * 10), Tried::Wait(SECOND * 50));
        assert_eq!(logins.try_token(TOKEN, SECOND * 59), Tried::Wait(SECOND));
        assert!(logins.session("one", SECOND * 59).is_some(), "open sessions stay valid");
        assert_eq!(logins.try_token(TOKEN, SECOND * 60), Tried::Right);
        for number in 60..70 {
            assert_eq!(logins.try_token("wrong", SECOND * number), Tried::Wrong);
        }
        assert_eq!(
            logins.try_token(TOKEN, SECOND * 70),
            Tried::Wait(SECOND * 50),
            "a right token does not reset the count"
        );
    }

    #[test]
    fn only_the_token_is_right() {
        let mut logins = Logins::new(Some(TOKEN));
        for wrong in ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF"] {
            assert_eq!(logins.try_token(wrong, SECOND), Tried::Wrong, "{wrong}");
        }
        assert_eq!(logins.try_token(TOKEN, SECOND), Tried::Right);
        assert!(!logins.is_open() && Logins::new(None).is_open());
    }
}
