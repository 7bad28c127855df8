//! Reads the summary lines of `cargo test` and `pytest`, and ignores all others.

/// Numbers of passed and failed tests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    /// A runner that ended without a summary.
    pub(crate) fn broken() -> Self {
        Self { passed: 0, failed: 1 }
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self { passed: self.passed.saturating_add(other.passed), failed: self.failed.saturating_add(other.failed) }
    }

    /// Whether tests ran and none failed.
    pub(crate) fn is_good(self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

/// `test result: ok. 6 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s`
pub(crate) fn of_cargo(line: &str) -> Option<Tally> {
    let (_, counts) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
    Some(sum(counts.split(';')))
}

/// `===== 1 failed, 2 passed, 1 error in 0.12s =====`
pub(crate) fn of_pytest(line: &str) -> Option<Tally> {
    let inside = line.trim();
    if !inside.starts_with('=') {
        return None;
    }
    let (counts, took) = inside.trim_matches('=').trim().rsplit_once(" in ")?;
    took.split_whitespace().next()?.strip_suffix('s')?.parse::<f64>().ok()?;
    Some(sum(counts.split(',')))
}

fn sum<'a>(counts: impl Iterator<Item = &'a str>) -> Tally {
    counts.map(count).fold(Tally::default(), Tally::and)
}

fn count(count: &str) -> Tally {
    let Some((number, word)) = count.trim().split_once(' ') else { return Tally::default() };
    let Ok(number) = number.parse() else { return Tally::default() };
    match word {
        "passed" => Tally { passed: number, failed: 0 },
        // Skipped counts as failed: see the module above.
        "failed" | "error" | "errors" | "skipped" | "ignored" | "xfailed" | "xpassed" => {
            Tally { passed: 0, failed: number }
        }
        _ => Tally::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_summary_is_counted() {
        let line = "test result: FAILED. 6 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.00s";
        assert_eq!(of_cargo(line), Some(Tally { passed: 6, failed: 3 }));
        assert_eq!(of_cargo("test machine::tests::result ... ok"), None);
    }

    #[test]
    fn pytest_summary_is_counted_with_errors_and_skips() {
        let line = "========= 1 failed, 20 passed, 2 warnings, 1 error, 1 skipped in 63.21s (0:01:03) =========";
        assert_eq!(of_pytest(line), Some(Tally { passed: 20, failed: 3 }));
        assert_eq!(of_pytest("============ no tests ran in 0.01s ============"), Some(Tally::default()));
        assert_eq!(of_pytest("============ FAILURES ============"), None);
        assert_eq!(of_pytest("====== test session starts in ms ======"), None);
        assert_eq!(of_pytest("3 passed in 1.0s"), None);
    }

    #[test]
    fn nothing_run_is_not_good() {
        assert!(!Tally::default().is_good());
        assert!(!Tally { passed: 1, failed: 1 }.is_good());
        assert!(Tally { passed: 1, failed: 0 }.is_good());
    }
}
