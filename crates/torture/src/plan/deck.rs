//! Cards: all are dealt before one is dealt again.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// A deck of at least one card.
pub(super) struct Deck<T: 'static> {
    cards: Vec<T>,
    left: Vec<T>,
}

impl<T: Copy> Deck<T> {
    /// One that has these cards.
    pub(super) fn new(cards: &[T]) -> Deck<T> {
        Deck { cards: cards.to_vec(), left: Vec::new() }
    }

    /// Deals a card; when none is left, all are shuffled again.
    pub(super) fn deal(&mut self, rng: &mut StdRng) -> T {
        if self.left.is_empty() {
            self.left.clone_from(&self.cards);
            self.left.shuffle(rng);
        }
        self.left.pop().unwrap_or(self.cards[0])
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn each_card_comes_once_a_round() {
        let (mut deck, mut rng) = (Deck::new(&[1, 2, 3]), StdRng::seed_from_u64(1));
        for _ in 0..5 {
            let mut round: Vec<i32> = (0..3).map(|_| deck.deal(&mut rng)).collect();
            round.sort_unstable();
            assert_eq!(round, [1, 2, 3]);
        }
    }
}
