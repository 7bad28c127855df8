//! Suggests a known name for a misspelled one.
//!
//! Used only in advice: no code acts on a suggestion. Read next: [`crate::request`].

/// Longer names are not compared.
const MAX_CHARS: usize = 64;
/// The maximum number of edits between a name and a suggestion.
const EDITS_MAX: usize = 2;

/// The known name that is closest to `name`: the same letters, or at most two edits away.
#[must_use]
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let wanted = letters(name);
    if wanted.is_empty() || wanted.len() > MAX_CHARS {
        return None;
    }
    known
        .iter()
        .map(|candidate| (strsim::levenshtein(&wanted, &letters(candidate)), *candidate))
        .filter(|(edits, candidate)| *edits <= EDITS_MAX && edits.saturating_mul(2) < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// The letters and digits in lower case: `private_key`, `Private-Key` and `privateKey` are the same name.
pub(crate) fn letters(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn typo_is_corrected_but_other_word_is_not() {
        assert_eq!(nearest("chain_di", &["chain_id"]), Some("chain_id"));
        assert_eq!(nearest("rpc_url", &["rpc_urls"]), Some("rpc_urls"));
        assert_eq!(nearest("send_too", &["send_to"]), Some("send_to"));
        assert_eq!(nearest("region", &["requests"]), None);
    }
}
