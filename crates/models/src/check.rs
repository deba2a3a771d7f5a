//! Two questions to a model: does everything hold, and if not, how does it break?
//!
//! Both are answered by stateright, which visits every state that a model can reach. Its
//! `eventually` is not used: it is not sound for models with loops and joins. That things come to a
//! good end is an `always` here: *from this state, if nothing goes wrong any more, they do*.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::hash::Hash;

use stateright::{Checker, Model, Property, Representative};

/// What a visit of all states has found.
#[derive(Debug)]
pub struct Verdict {
    /// How many states there are.
    pub states: usize,
    /// The rules that some state breaks, and the examples that no state gives.
    pub broken: BTreeSet<&'static str>,
}

/// Visits every state that the model can reach.
pub fn explore<M>(model: M) -> Verdict
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Hash + PartialEq + Representative + Send + Sync + 'static,
    M::Action: Clone + PartialEq,
{
    let properties = model.properties();
    let checker = model.checker().symmetry().spawn_dfs().join();
    let discovered = checker.discoveries();
    let broken = properties.into_iter().filter(|property| {
        discovered.contains_key(property.name) == property.expectation.discovery_is_failure()
    });
    Verdict {
        states: checker.unique_state_count(),
        broken: broken.map(|property| property.name).collect(),
    }
}

/// The shortest way to break a rule, step by step; none when it holds.
pub fn shortest_way_to_break<M>(model: M, rule: &'static str) -> Option<Vec<String>>
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Display + PartialEq + Send + Sync,
{
    let property = model.property(rule);
    // Breadth first, the first counterexample is the shortest; with nothing else to look for, the
    // search ends there.
    let checker = OneRule { model, property }.checker().spawn_bfs().join();
    let steps = checker.discovery(rule)?.into_actions();
    Some(steps.iter().map(ToString::to_string).collect())
}

/// A model of which only one property is asked.
struct OneRule<M: Model> {
    model: M,
    property: Property<M>,
}

impl<M: Model> Model for OneRule<M> {
    type State = M::State;
    type Action = M::Action;

    fn init_states(&self) -> Vec<M::State> {
        self.model.init_states()
    }

    fn actions(&self, state: &M::State, actions: &mut Vec<M::Action>) {
        self.model.actions(state, actions);
    }

    fn next_state(&self, state: &M::State, action: M::Action) -> Option<M::State> {
        self.model.next_state(state, action)
    }

    fn within_boundary(&self, state: &M::State) -> bool {
        self.model.within_boundary(state)
    }

    fn properties(&self) -> Vec<Property<OneRule<M>>> {
        vec![Property::always(self.property.name, |this, state| {
            (this.property.condition)(&this.model, state)
        })]
    }
}

/// What the tests of a model say.
#[cfg(test)]
pub(crate) mod assert {
    use super::*;

    /// Everything holds, in at least this many states: a model that visits nothing shows nothing.
    pub(crate) fn holds<M>(what: &str, model: M, at_least: usize)
    where
        M: Model + Send + Sync + 'static,
        M::State: Clone + Hash + PartialEq + Representative + Send + Sync + 'static,
        M::Action: Clone + PartialEq,
    {
        let Verdict { states, broken } = explore(model);
        println!("{what}: {states} states");
        assert!(broken.is_empty(), "{what}: {broken:?}");
        assert!(states >= at_least, "{what}: only {states} states");
    }

    /// These rules break and all others hold.
    pub(crate) fn breaks<M>(what: &str, model: M, rules: &[&'static str])
    where
        M: Model + Send + Sync + 'static,
        M::State: Clone + Hash + PartialEq + Representative + Send + Sync + 'static,
        M::Action: Clone + PartialEq,
    {
        let Verdict { states, broken } = explore(model);
        println!("{what}: {states} states, broken: {broken:?}");
        assert_eq!(broken, rules.iter().copied().collect(), "{what}");
    }

    /// This is the shortest way to break the rule.
    pub(crate) fn breaks_by<M>(model: M, rule: &'static str, story: &[&str])
    where
        M: Model + Send + Sync + 'static,
        M::State: Clone + Hash + PartialEq + Send + Sync + 'static,
        M::Action: Clone + Display + PartialEq + Send + Sync,
    {
        let found = shortest_way_to_break(model, rule).unwrap_or_default();
        assert_eq!(found, story, "{rule}: {found:#?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts up to a limit, by one or by two.
    struct Counter {
        limit: u8,
    }

    #[derive(Clone, Hash, PartialEq)]
    struct Count(u8);

    impl Representative for Count {
        fn representative(&self) -> Count {
            self.clone()
        }
    }

    impl Model for Counter {
        type State = Count;
        type Action = u8;

        fn init_states(&self) -> Vec<Count> {
            vec![Count(0)]
        }

        fn actions(&self, _: &Count, actions: &mut Vec<u8>) {
            actions.extend([1, 2]);
        }

        fn next_state(&self, count: &Count, step: u8) -> Option<Count> {
            Some(Count(count.0 + step)).filter(|count| count.0 <= self.limit)
        }

        fn properties(&self) -> Vec<Property<Counter>> {
            vec![
                Property::always("stays below five", |_, count: &Count| count.0 < 5),
                Property::sometimes("reaches four", |_, count: &Count| count.0 == 4),
            ]
        }
    }

    #[test]
    fn what_holds_is_seen_in_every_state() {
        assert::holds("counts to four", Counter { limit: 4 }, 5);
        assert_eq!(shortest_way_to_break(Counter { limit: 4 }, "stays below five"), None);
    }

    #[test]
    fn what_breaks_is_told_in_the_fewest_steps() {
        assert::breaks("counts to nine", Counter { limit: 9 }, &["stays below five"]);
        assert::breaks_by(Counter { limit: 9 }, "stays below five", &["1", "2", "2"]);
    }

    #[test]
    fn a_model_that_never_comes_to_the_point_is_broken_too() {
        assert::breaks("counts to three", Counter { limit: 3 }, &["reaches four"]);
    }
}
