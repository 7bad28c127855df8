//! Repeatable randomness: `SplitMix64` from a seed. For faults and tests, never for secrets.

/// A stream of random numbers, which is the same for the same seed.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The stream of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A random number below `end`, which must not be 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).expect("the end is not 0")
    }

    /// A random index below `count`, which must not be 0.
    pub fn index(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).expect("no more than 64 bits");
        usize::try_from(self.below(count)).expect("below a usize")
    }

    /// A random element; there must be at least one.
    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        *choices.get(self.index(choices.len())).expect("the index is below the length")
    }

    /// Whether an event with this probability happens this time.
    pub(crate) fn hits(&mut self, probability: f64) -> bool {
        let upper = u32::try_from(self.next() >> 32).expect("the upper half of 64 bits is 32 bits");
        f64::from(upper) < probability * f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_follow_the_probability() {
        let mut chance = Chance::new(7);
        assert!((0..1_000).all(|_| chance.hits(1.1)));
        assert!((0..1_000).all(|_| !chance.hits(0.0)));
        let hits = (0..10_000).filter(|_| chance.hits(0.2)).count();
        assert!((1_800..2_200).contains(&hits), "{hits}");
    }

    #[test]
    fn same_seed_gives_the_same_stream() {
        let draw = |seed| {
            let mut chance = Chance::new(seed);
            (0..64).map(|_| chance.hits(0.5)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
