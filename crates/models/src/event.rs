//! Events as the models see them: a place in a history, and nothing else.

use std::fmt;

/// An event, by its aggregate and its number in the history of that aggregate. It reads as `A2`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Event {
    /// What it happened to.
    pub aggregate: char,
    /// Its number there: 1..n.
    pub version: i64,
}

impl Event {
    /// The one before it in the same history; none before the first.
    pub fn predecessor(self) -> Option<Event> {
        (self.version > 1).then_some(Event { version: self.version - 1, ..self })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.aggregate, self.version)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether no event comes twice.
pub(crate) fn is_once(events: &[Event]) -> bool {
    events.iter().enumerate().all(|(place, event)| !events[..place].contains(event))
}

/// Whether each event comes behind its predecessor, so that no history has a gap. Repetitions are
/// not this rule's business.
pub(crate) fn is_in_order(events: &[Event]) -> bool {
    let comes_before = |place: usize, event: &Event| events[..place].contains(event);
    events.iter().enumerate().all(|(place, event)| {
        event.predecessor().is_none_or(|predecessor| comes_before(place, &predecessor))
    })
}

/// The events that have these names, such as `A1 B1 A2`.
#[cfg(test)]
pub(crate) fn events(names: &str) -> Vec<Event> {
    let event = |name: &str| {
        let (aggregate, version) = name.split_at(1);
        let aggregate = aggregate.chars().next().expect("an aggregate");
        Event { aggregate, version: version.parse().expect("a version") }
    };
    names.split_whitespace().map(event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_in_order_when_nothing_is_missing_before_anything() {
        for (names, in_order, once) in [
            ("", true, true),
            ("A1 B1 A2", true, true),
            ("A1 A1 A2", true, false),
            ("A1 A2 A1", true, false),
            ("A1 A3", false, true),
            ("A2", false, true),
            ("B1 A2 A1", false, true),
        ] {
            let events = events(names);
            assert_eq!((is_in_order(&events), is_once(&events)), (in_order, once), "{names}");
        }
    }
}
