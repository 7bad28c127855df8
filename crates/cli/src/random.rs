//! Chance from the operating system, for what nobody may guess.

/// Random bytes of this number, in hex; none if the machine has none.
pub(crate) fn hex<const BYTES: usize>() -> Option<String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).ok()?;
    Some(hex::encode(bytes))
}
