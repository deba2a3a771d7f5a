//! Money is whole Korean won: an integer, never a float.

use std::fmt;

/// An amount in whole won.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money {
    won: i64,
}

impl Money {
    /// This many won.
    pub const fn won(won: i64) -> Money {
        Money { won }
    }

    /// How many won.
    pub const fn as_won(self) -> i64 {
        self.won
    }

    /// This many times the amount; the largest amount there is when that is too much.
    pub const fn times(self, factor: i64) -> Money {
        Money { won: self.won.saturating_mul(factor) }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KRW", self.won)
    }
}
