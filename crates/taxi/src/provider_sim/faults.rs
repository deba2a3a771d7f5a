//! What can be made to go wrong with the simulated provider, and the dice that decide when.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::faults::{Board, Knob, SWITCH, Takes};

const LATENCY: Knob = Knob {
    name: "provider.latency",
    takes: Takes::Duration,
    about: "takes this long, and finishes even when nobody waits any more",
};
const ERROR_RATE: Knob = Knob {
    name: "provider.error_rate",
    takes: Takes::Fraction,
    about: "so many requests end with 500, before anything has happened",
};
const DECLINES: Knob = Knob {
    name: "provider.declines",
    takes: Takes::Fraction,
    about: "so many new charges are declined",
};
const LOSE_ANSWERS: Knob = Knob {
    name: "provider.lose_answers",
    takes: Takes::Fraction,
    about: "so many charges and refunds are made, and the answer is lost",
};
const HANG: Knob =
    Knob { name: "provider.hang", takes: SWITCH, about: "takes requests and never answers" };
const DOWN: Knob = Knob {
    name: "provider.down",
    takes: Takes::Word(&["true", "close", "false"]),
    about: "refuses with 503, or closes the connection",
};
const DUPLICATE_WEBHOOKS: Knob = Knob {
    name: "provider.duplicate_webhooks",
    takes: Takes::Count,
    about: "sends each webhook so many times",
};

/// All of them.
pub(crate) const KNOBS: [Knob; 7] =
    [LATENCY, ERROR_RATE, DECLINES, LOSE_ANSWERS, HANG, DOWN, DUPLICATE_WEBHOOKS];

/// The faults of one provider. Clones are the same.
#[derive(Clone)]
pub(super) struct Faults {
    /// What is set.
    pub(super) board: Board,
    dice: Arc<Mutex<StdRng>>,
}

/// How a request ends that never had a chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// With 503.
    Refused,
    /// Without an answer, at once.
    Cut,
    /// Without an answer, ever.
    Hangs,
    /// With 500.
    Error,
}

/// How an answer gets lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// The connection is cut.
    Cut,
    /// Something on the way says 502.
    BadGateway,
}

impl Faults {
    /// None yet; what happens by chance follows from the seed.
    pub(super) fn new(seed: u64) -> Faults {
        let dice = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
        Faults { board: Board::new(&KNOBS), dice }
    }

    /// What stands in the way of the next request, if anything.
    pub(super) fn obstacle(&self) -> Option<Obstacle> {
        match self.board.value(&DOWN).as_deref() {
            Some("true") => return Some(Obstacle::Refused),
            Some("close") => return Some(Obstacle::Cut),
            _ => {}
        }
        if self.board.is_on(&HANG) {
            return Some(Obstacle::Hangs);
        }
        self.chance(&ERROR_RATE).then_some(Obstacle::Error)
    }

    /// How long the next request takes.
    pub(super) fn latency(&self) -> Duration {
        self.board.duration(&LATENCY)
    }

    /// Whether the next new charge is declined.
    pub(super) fn declines(&self) -> bool {
        self.chance(&DECLINES)
    }

    /// How the next answer gets lost, if it does.
    pub(super) fn loses_answer(&self) -> Option<Loss> {
        let cut = self.throw(0.5);
        self.chance(&LOSE_ANSWERS).then_some(if cut { Loss::Cut } else { Loss::BadGateway })
    }

    /// How many times the next webhook is sent.
    pub(super) fn copies(&self) -> u32 {
        self.board.count(&DUPLICATE_WEBHOOKS).unwrap_or(1)
    }

    fn chance(&self, knob: &Knob) -> bool {
        self.throw(self.board.fraction(knob))
    }

    fn throw(&self, chance: f64) -> bool {
        // No code panics while it holds this lock.
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).random_bool(chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(settings: &[(&str, &str)], seed: u64) -> Faults {
        let faults = Faults::new(seed);
        for (name, value) in settings {
            faults.board.set(name, value).expect("accepted");
        }
        faults
    }

    #[test]
    fn nothing_goes_wrong_by_itself() {
        let faults = with(&[], 1);
        assert_eq!((faults.obstacle(), faults.loses_answer()), (None, None));
        assert_eq!((faults.declines(), faults.copies()), (false, 1));
        assert_eq!(faults.latency(), Duration::ZERO);
    }

    #[test]
    fn what_stands_in_the_way() {
        for (settings, obstacle) in [
            (&[("provider.down", "true"), ("provider.hang", "true")][..], Some(Obstacle::Refused)),
            (&[("provider.down", "close")], Some(Obstacle::Cut)),
            (&[("provider.hang", "true")], Some(Obstacle::Hangs)),
            (&[("provider.error_rate", "1")], Some(Obstacle::Error)),
            (&[("provider.down", "false"), ("provider.hang", "false")], None),
        ] {
            assert_eq!(with(settings, 1).obstacle(), obstacle, "{settings:?}");
        }
    }

    #[test]
    fn chance_follows_from_the_seed() {
        let thrown = |seed| {
            let faults = with(&[("provider.lose_answers", "0.5")], seed);
            (0..64).map(|_| faults.loses_answer()).collect::<Vec<_>>()
        };
        assert_eq!(thrown(7), thrown(7));
        assert_ne!(thrown(7), thrown(8));
        for kind in [None, Some(Loss::Cut), Some(Loss::BadGateway)] {
            assert!(thrown(7).contains(&kind), "{kind:?}");
        }
    }
}
