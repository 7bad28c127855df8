//! Who is in: the token, the sessions that were opened with it, and how often it may be guessed.
//!
//! Time is an argument, since the start of the console, so that a clock that is set back lengthens nothing.
//!
//! ## Guarantees
//! * A browser keeps a random session id and never the token; a session ends by itself.
//! * At most [`GUESSES_MAX`] wrong tokens are looked at in [`GUESSES_WINDOW`], whoever sends them, and however: in
//!   the form or as a bearer. After these no token is looked at until the window is over, the right one neither.
//!   Sessions stay.
//!
//! ## Does not guarantee
//! * That nobody can keep others from logging in: whoever reaches the port can send wrong tokens.

use std::collections::HashMap;
use std::time::Duration;

use signpost_txmgr::units::sha256;

/// A session's length: a working day.
pub(super) const SESSION_LASTS: Duration = Duration::from_hours(8);
/// Sessions at one time; the one that ends first makes room for another.
const SESSIONS_MAX: usize = 64;
/// Wrong tokens looked at within the window.
const GUESSES_MAX: u32 = 10;
/// From the first wrong token on.
const GUESSES_WINDOW: Duration = Duration::from_mins(1);

/// Bytes of a session id.
pub(super) const SESSION_ID_BYTES: usize = 32;

/// Who is in.
pub(super) struct Door {
    /// Hash of the token.
    token: Option<[u8; 32]>,
    /// When each session ends, by the hash of its id.
    sessions: HashMap<[u8; 32], Duration>,
    wrong: u32,
    window_ends: Duration,
}

/// What came of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    /// It is the one.
    Right,
    /// It is not.
    Wrong,
    /// It was not looked at; ask again after so long.
    Wait(Duration),
}

impl Door {
    /// Opens to whoever has the token; to everybody if there is none.
    pub(super) fn new(token: Option<&str>) -> Self {
        let token = token.map(|token| sha256(token.as_bytes()));
        Self { token, sessions: HashMap::new(), wrong: 0, window_ends: Duration::ZERO }
    }

    /// Whether nothing is asked for.
    pub(super) fn is_open(&self) -> bool {
        self.token.is_none()
    }

    /// Looks at a token. Compared by hash, in a time that does not depend on how much of it is right.
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

    /// Begins a session under this random id.
    pub(super) fn begin(&mut self, id: &str, now: Duration) {
        self.sessions.retain(|_, ends| *ends > now);
        if self.sessions.len() >= SESSIONS_MAX {
            let first = self.sessions.iter().min_by_key(|(_, ends)| **ends).map(|(id, _)| *id);
            first.and_then(|id| self.sessions.remove(&id));
        }
        self.sessions.insert(sha256(id.as_bytes()), now.saturating_add(SESSION_LASTS));
    }

    /// How long the session under this id still lasts.
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
    fn a_session_is_known_by_its_id_until_it_ends() {
        let mut door = Door::new(Some(TOKEN));
        door.begin("one", SECOND);
        assert_eq!(door.session("one", SECOND), Some(SESSION_LASTS));
        assert_eq!(door.session("two", SECOND), None);
        assert_eq!(door.session(TOKEN, SECOND), None, "the token is no session");
        assert_eq!(door.session("one", SESSION_LASTS), Some(SECOND));
        assert_eq!(door.session("one", SECOND + SESSION_LASTS), None);
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_makes_room() {
        let mut door = Door::new(Some(TOKEN));
        for number in 0..=u32::try_from(SESSIONS_MAX).unwrap() {
            door.begin(&number.to_string(), SECOND * number);
        }
        let now = SECOND * 100;
        assert_eq!(door.sessions.len(), SESSIONS_MAX);
        assert_eq!(door.session("0", now), None);
        assert!(door.session("1", now).is_some() && door.session("64", now).is_some());
        door.begin("later", SESSION_LASTS + now);
        assert_eq!(door.sessions.len(), 1, "those that ended are forgotten");
    }

    #[test]
    fn after_ten_wrong_tokens_none_is_looked_at_until_the_window_is_over() {
        let mut door = Door::new(Some(TOKEN));
        door.begin("one", Duration::ZERO);
        for number in 0..10 {
            assert_eq!(door.try_token("wrong", SECOND * number), Tried::Wrong);
        }
        assert_eq!(door.try_token("wrong", SECOND * 10), Tried::Wait(SECOND * 50));
        assert_eq!(door.try_token(TOKEN, SECOND * 59), Tried::Wait(SECOND));
        assert!(door.session("one", SECOND * 59).is_some(), "who is in stays in");
        assert_eq!(door.try_token(TOKEN, SECOND * 60), Tried::Right);
        for number in 60..70 {
            assert_eq!(door.try_token("wrong", SECOND * number), Tried::Wrong);
        }
        assert_eq!(door.try_token(TOKEN, SECOND * 70), Tried::Wait(SECOND * 50), "a right one forgives nothing");
    }

    #[test]
    fn only_the_token_is_right() {
        let mut door = Door::new(Some(TOKEN));
        for wrong in ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF"] {
            assert_eq!(door.try_token(wrong, SECOND), Tried::Wrong, "{wrong}");
        }
        assert_eq!(door.try_token(TOKEN, SECOND), Tried::Right);
        assert!(!door.is_open() && Door::new(None).is_open());
    }
}
