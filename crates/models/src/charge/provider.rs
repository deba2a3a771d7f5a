//! The provider: what is on its way to it, and what it has done.

use std::collections::BTreeSet;
use std::fmt;

use kernel::Uuid;

use super::lines;

/// A request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Copy {
    /// Under which key it asks.
    pub(super) key: Uuid,
    /// Whether it asks to give back.
    pub(super) gives_back: bool,
    /// The attempt that waits for the answer, if any still does.
    pub(super) waits: Option<u8>,
}

impl fmt::Display for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.gives_back { "refund" } else { "charge" };
        match self.waits {
            Some(id) => write!(f, "the {what} of attempt {id}"),
            None => write!(f, "a late {what}"),
        }
    }
}

/// What the provider says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It takes the money, or gives it back.
    Yes,
    /// It refuses, for good.
    No,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Decision::Yes => "yes",
            Decision::No => "no",
        })
    }
}

/// What the provider has done, by its own record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Provider {
    pub(super) taken: Vec<Uuid>,
    pub(super) given_back: Vec<Uuid>,
    /// The keys, of charges and of refunds, that it has refused.
    pub(super) refused: BTreeSet<Uuid>,
}

impl Provider {
    /// What it can answer to a request: its first answer again, when it knows the key.
    pub(super) fn answers(
        &self,
        keys: lines::Provider,
        copy: &Copy,
    ) -> impl Iterator<Item = Decision> + use<> {
        let known = self.look_up(copy.key).filter(|_| keys == lines::Provider::KnowsKeys);
        [Decision::Yes, Decision::No].into_iter().filter(move |it| known.is_none_or(|is| is == *it))
    }

    /// What it has decided on a key.
    pub(super) fn look_up(&self, key: Uuid) -> Option<Decision> {
        if self.refused.contains(&key) {
            return Some(Decision::No);
        }
        let done = self.taken.contains(&key) || self.given_back.contains(&key);
        done.then_some(Decision::Yes)
    }

    /// Does what it has decided; what it has done before under a key that it knows, it does not do
    /// again.
    pub(super) fn decide(&mut self, keys: lines::Provider, copy: &Copy, decision: Decision) {
        if keys == lines::Provider::KnowsKeys && self.look_up(copy.key).is_some() {
            return;
        }
        match (decision, copy.gives_back) {
            (Decision::Yes, false) => self.taken.push(copy.key),
            (Decision::Yes, true) => self.given_back.push(copy.key),
            (Decision::No, _) => drop(self.refused.insert(copy.key)),
        }
    }

    pub(super) fn gives_back_once(&self) -> bool {
        let keys: BTreeSet<&Uuid> = self.given_back.iter().collect();
        keys.len() == self.given_back.len()
            && (self.given_back.is_empty() || !self.taken.is_empty())
    }
}
