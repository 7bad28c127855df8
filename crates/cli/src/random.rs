//! Random bytes from the operating system, for secrets.

/// `BYTES` random bytes in hex; `None` if the operating system provides none.
pub(crate) fn hex<const BYTES: usize>() -> Option<String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).ok()?;
    Some(hex::encode(bytes))
}
