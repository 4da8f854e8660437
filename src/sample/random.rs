//! Random numbers that are the same on every machine and in every version.

/// `SplitMix64`, one generator per row: a row's values depend on nothing but the seed, its table and its number.
pub(super) struct Random {
    state: u64,
}

impl Random {
    /// The generator of one row. `table` keeps rows of equal numbers in different tables apart.
    pub(super) fn for_row(seed: u64, table: u64, row: u64) -> Self {
        let mut random = Random { state: seed ^ table.rotate_left(48) };
        random.state = random.next() ^ row;
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to, but not including, `bound`, which is at least 1.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // The bias of a plain remainder is 1 in 2^40 for the bounds in use.
        self.next() % bound
    }

    /// The same for values that Delta keeps as signed.
    pub(super) fn below_i64(&mut self, bound: i64) -> i64 {
        self.below(bound.unsigned_abs()) as i64
    }

    /// Whether something that happens so many times out of a hundred happens.
    pub(super) fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    /// One of the choices, of which there is at least one.
    pub(super) fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }
}
