//! The __name__: what it is, and what can happen to it.

use std::fmt;
use std::str::FromStr;

use kernel::{Aggregate, AllocationId, CustomerId, Rejection, Uuid};

/// The longest note, in characters.
pub const MAX_NOTE: usize = 500;

/// The identity of a __name__.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct __Name__Id(pub Uuid);

/// A __name__ of a customer.
#[derive(Clone, Debug, PartialEq)]
pub struct __Name__ {
    /// Its identity.
    pub id: __Name__Id,
    /// Whose it is.
    pub customer: CustomerId,
    /// The ride it is about, if it is about one.
    pub allocation: Option<AllocationId>,
    /// What there is to say.
    pub note: String,
}

/// What can happen to a __name__.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is a new one.
    __Name__Created,
}

/// What is wished for.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Whose it is to be.
    pub customer: CustomerId,
    /// The ride it is about.
    pub allocation: Option<AllocationId>,
    /// What there is to say.
    pub note: String,
}

impl __Name__ {
    /// **The note rule**: at most [`MAX_NOTE`] characters, none of control.
    pub fn create(id: __Name__Id, draft: Draft) -> Result<(__Name__, Vec<Event>), Rejection> {
        let Draft { customer, allocation, note } = draft;
        if note.chars().count() > MAX_NOTE || note.contains(|c: char| c.is_control()) {
            let message = format!("must be at most {MAX_NOTE} characters, none of control");
            return Err(Rejection::invalid("__name__.note", "INVALID___NAME__", message));
        }
        Ok((__Name__ { id, customer, allocation, note }, vec![Event::__Name__Created]))
    }
}

impl fmt::Display for __Name__Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "__names__/{}", self.0)
    }
}

impl FromStr for __Name__Id {
    type Err = Rejection;

    fn from_str(name: &str) -> Result<__Name__Id, Rejection> {
        let id = name.strip_prefix("__names__/").and_then(|id| id.parse().ok()).map(__Name__Id);
        // The hyphenated form only: one id has one name.
        let id = id.filter(|id| id.to_string() == name);
        id.ok_or_else(|| Rejection::invalid("name", "INVALID_NAME", "must be __names__/{uuid}"))
    }
}

/// Nobody may see a __name__ of this id.
pub fn not_found(id: __Name__Id) -> Rejection {
    Rejection::not_found("__NAME___NOT_FOUND", id)
}

impl Aggregate for __Name__ {
    type Event = Event;
    type Filter = ();
    const KIND: &'static str = "__name__";

    fn id(&self) -> Uuid {
        self.id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(note: &str) -> Result<(__Name__, Vec<Event>), Rejection> {
        let customer = CustomerId::from_subject("C1");
        let draft = Draft { customer, allocation: None, note: note.to_owned() };
        __Name__::create(__Name__Id(Uuid::from_u128(1)), draft)
    }

    #[test]
    fn a_note_has_its_length_and_no_control_characters() {
        let (longest, too_long) = ("가".repeat(MAX_NOTE), "가".repeat(MAX_NOTE + 1));
        for good in ["", "well driven", longest.as_str()] {
            let (created, events) = create(good).expect("a good note");
            assert_eq!((created.note.as_str(), events), (good, vec![Event::__Name__Created]));
        }
        for bad in ["a\nb", "\u{0}", too_long.as_str()] {
            let refused = create(bad).expect_err("a bad note");
            assert_eq!(refused.reason, "INVALID___NAME__");
        }
    }
}
