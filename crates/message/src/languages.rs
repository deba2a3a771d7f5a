//! In which language a ride's customer is told: the one they asked for the car in.
//!
//! Only the ride's first event carries it. Whoever meets a later one first, after a restart or on
//! another replica, reads the first one back from the stream.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kernel::{AllocationId, Failure};
use platform::broker::{Broker, Delivery};
use prost::Message as _;
use proto::allocation::v1::AllocationRequested;

use crate::bucket::patiently;
use crate::templates::Language;

/// How many rides are remembered.
const REMEMBERED: usize = 10_000;

/// The languages of rides.
pub(crate) struct Languages {
    broker: Broker,
    recent: Mutex<Recent>,
}

impl Languages {
    /// Nothing is known yet.
    pub(crate) fn new(broker: Broker) -> Languages {
        Languages { broker, recent: Mutex::new(Recent::default()) }
    }

    /// Remembers the language of a ride.
    pub(crate) fn learn(&self, allocation: AllocationId, language: Language) {
        self.recent().insert(allocation, language);
    }

    /// The language of a ride; Korean when its first event is not to be found.
    pub(crate) async fn of(&self, allocation: AllocationId) -> Result<Language, Failure> {
        if let Some(language) = self.recent().languages.get(&allocation) {
            return Ok(*language);
        }
        let AllocationId(id) = allocation;
        let subject = self.broker.subject("allocation", "AllocationRequested", id, id);
        let first = patiently(&self.broker, self.broker.last_on(&subject)).await?;
        let language = first.and_then(language_of).unwrap_or_default();
        self.learn(allocation, language);
        Ok(language)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        // No code panics while it holds this lock.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn language_of(first: Delivery) -> Option<Language> {
    let requested = AllocationRequested::decode(first.payload).ok()?;
    Some(Language::parse(&requested.language))
}

/// The latest rides; the oldest is forgotten for a new one.
#[derive(Default)]
struct Recent {
    languages: HashMap<AllocationId, Language>,
    order: VecDeque<AllocationId>,
}

impl Recent {
    fn insert(&mut self, allocation: AllocationId, language: Language) {
        if self.languages.insert(allocation, language).is_none() {
            self.order.push_back(allocation);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.languages.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel::Uuid;

    use super::*;

    #[test]
    fn the_oldest_ride_is_forgotten_first() {
        let ride = |n: usize| AllocationId(Uuid::from_u128(n as u128));
        let mut recent = Recent::default();
        for n in 0..=REMEMBERED {
            recent.insert(ride(n), Language::English);
            recent.insert(ride(n), Language::English);
        }
        assert_eq!((recent.languages.len(), recent.order.len()), (REMEMBERED, REMEMBERED));
        assert!(!recent.languages.contains_key(&ride(0)));
        assert!(recent.languages.contains_key(&ride(1)));
    }
}
