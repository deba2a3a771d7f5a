//! The way of an event: outbox, relay, broker, durable consumer, effect.
//!
//! Commands commit events. Two relays bring them into the stream, two consumers to their effect; of
//! each kind both act, always. Whatever a process, the network or the broker does happens in one
//! step of its own, and any step of anybody may come next.
//!
//! | modelled | how |
//! |---|---|
//! | a command | commits row, outbox and cause in one step; rows with smaller ids may be committed later |
//! | a relay | reads what is unsent, sends a wave, waits, marks; at any moment it may give up or die |
//! | the network | a copy for which nobody waits any more stays under way, and arrives at any later time, or never |
//! | the broker | refuses a copy whose predecessor is not the last of its aggregate; knows ids again until it forgets them, at any moment; may lose the end of its stream |
//! | the durable consumer | hands out in order, and again whatever is not acknowledged, to either consumer, the new before the old |
//! | a consumer | looks at what is known with [`platform::consumer::hold`], then commits, then acknowledges; at any moment it may die, and an acknowledgement may be lost |
//!
//! Left out, because it only makes fewer steps possible: time, the real lease, batch sizes, shards and
//! lanes (here all events share one), what a consumer remembers of the database (it is never ahead of
//! it), and the moment between a relay's question to the broker and its copy (that may be late as it
//! is). Left out, because it is another question: parked events, rows that are pruned before they are
//! sent again, others who write into the stream, acknowledgements that outlive the broker's fall, and
//! a broker of several servers.
//!
//! # What was found
//!
//! With all [`lines`] everything holds: about 28 000 states for two relays and two aggregates, 14 000
//! for two consumers and two aggregates, 18 000 for the whole way with one relay and 11 000 with two,
//! 14 000 with a power failure. Without one of them:
//!
//! | without | what breaks |
//! |---|---|
//! | the hold rule | effects change their order at a fail-over, however good the lease |
//! | the cause | two consumers with one event in hand apply it twice; with a perfect lease nothing |
//! | the record in the effect's transaction | a death in between applies the event twice, however good the lease |
//! | the expected predecessor | a late copy comes into the stream once the broker has forgotten its id, however good the lease; its effect still happens once |
//! | the acknowledgement before the mark | an event is never sent |
//! | reading from the start | a row that is committed late is never sent |
//! | one event of each aggregate in flight | nothing: the expected predecessor keeps the order. Without that, too, they overtake each other |
//! | the *prefix* of the acknowledged | nothing: what was acknowledged behind the first failure could be marked as well |
//! | the broker's window | nothing, it saves round trips. If it were endless it could replace the expected predecessor |
//! | the lease | nothing: all of the above is found with processes that never ask for one |
//! | a relay's memory that ends with the connection | only after a power failure: what the operator has sent again is marked without being sent, and an event that has got the place of another is taken for it |
//!
//! The operator's part in a power failure has a rule, too: have events sent again only once the relays
//! have marked what was acknowledged before. Otherwise the mark undoes the wish.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use stateright::{Model, Property, Representative};

use self::lines::{Lease, Lines, Memory, Window};
use crate::event::{Event, is_in_order, is_once};

pub mod consumer;
pub mod lines;
pub mod producer;
#[cfg(test)]
mod tests;

/// What is to happen, among how many, and what may go wrong.
#[derive(Clone, Debug, Default)]
pub struct Backbone {
    /// The events that commands commit, in the order of the ids of their rows. Those of one
    /// aggregate are committed in this order, those of several as it comes.
    pub events: Vec<Event>,
    /// Processes with a relay. Without any, what is committed is in the stream.
    pub relays: usize,
    /// How many timeouts and deaths the relays suffer, altogether.
    pub relay_faults: u8,
    /// Processes with a consumer. Without any, the stream is the end.
    pub replicas: usize,
    /// How many deaths and lost acknowledgements the consumers suffer, altogether.
    pub replica_faults: u8,
    /// How often the broker loses the end of its stream.
    pub power_failures: u8,
    /// What keeps the promise.
    pub lines: Lines,
}

/// Everything there is at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The rows of the outbox, in the order of their ids.
    outbox: Vec<(Event, Row)>,
    relays: Vec<producer::Relay>,
    /// Copies in the network for which nobody waits any more. They may arrive, or never.
    late: Vec<producer::Copy>,
    stream: Vec<Event>,
    /// The ids by which the broker would know a message again.
    remembered: BTreeSet<Event>,
    /// How much of the stream the durable consumer has handed out.
    handed_out: usize,
    /// The places in the stream that the durable consumer need not hand out again.
    acknowledged: BTreeSet<usize>,
    replicas: Vec<consumer::Replica>,
    /// In the consuming database: the version known of each aggregate.
    known: BTreeMap<char, i64>,
    /// In the consuming database: the events that have had their effect.
    causes: BTreeSet<Event>,
    /// The effects, in the order of their transactions.
    effects: Vec<Event>,
    relay_faults: u8,
    replica_faults: u8,
    power_failures: u8,
    /// The power has failed, and the operator has not had the events sent again.
    to_republish: bool,
    /// The relay and the consumer that lead, when the lease is perfect.
    leaders: Option<(usize, usize)>,
}

/// What the outbox says of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Row {
    NotCommitted,
    Unsent,
    Sent,
}

/// One step of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A command commits its change with this event.
    Commit(Event),
    /// Towards the stream.
    Relay(usize, producer::Step),
    /// A copy arrives for which nobody waits any more.
    LateArrival(producer::Copy),
    /// The broker forgets the ids of messages.
    WindowPasses,
    /// The broker starts again without the end of its stream. Connections are lost, and what is in
    /// them.
    PowerFailure {
        /// How much of the stream is left.
        left: usize,
    },
    /// An operator has everything sent again.
    Republish,
    /// Towards the effect.
    Replica(usize, consumer::Step),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Commit(event) => write!(f, "{event} is committed"),
            Step::Relay(id, step) => write!(f, "relay {id} {step}"),
            Step::LateArrival(copy) => write!(f, "a late copy of {} arrives", copy.event),
            Step::WindowPasses => write!(f, "the broker forgets the ids"),
            Step::PowerFailure { left } => write!(f, "the power fails: {left} events are left"),
            Step::Republish => write!(f, "the operator has everything sent again"),
            Step::Replica(id, step) => write!(f, "consumer {id} {step}"),
        }
    }
}

/// No event is in the stream twice.
pub const STREAM_ONCE: &str = "no event is in the stream twice";
/// The stream has the versions of each aggregate in order and without a gap.
pub const STREAM_IN_ORDER: &str = "the stream has each aggregate's versions in order";
/// No event has its effect twice.
pub const EFFECT_ONCE: &str = "no event has its effect twice";
/// Effects come in the order of versions and without a gap.
pub const EFFECT_IN_ORDER: &str = "effects come in the order of versions";
/// From every state: if nothing goes wrong any more, all that is committed gets there.
pub const NOTHING_LOST: &str = "what is committed gets into the stream and has its effect";

impl Model for Backbone {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            outbox: self.events.iter().map(|event| (*event, Row::NotCommitted)).collect(),
            relays: vec![producer::Relay::default(); self.relays],
            late: Vec::new(),
            stream: Vec::new(),
            remembered: BTreeSet::new(),
            handed_out: 0,
            acknowledged: BTreeSet::new(),
            replicas: vec![consumer::Replica::default(); self.replicas],
            known: BTreeMap::new(),
            causes: BTreeSet::new(),
            effects: Vec::new(),
            relay_faults: self.relay_faults,
            replica_faults: self.replica_faults,
            power_failures: self.power_failures,
            to_republish: false,
            leaders: (self.lines.lease == Lease::Perfect).then_some((0, 0)),
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        self.steps_of_processes(state, steps);
        if state.power_failures > 0 {
            steps.extend((0..state.stream.len()).map(|left| Step::PowerFailure { left }));
        }
        if self.lines.window == Window::Passes && !state.remembered.is_empty() {
            steps.push(Step::WindowPasses);
        }
        steps.extend(state.late.iter().copied().map(Step::LateArrival));
        steps.extend(state.committable().map(Step::Commit));
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        self.take(&mut next, step);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Backbone>> {
        let mut properties = vec![
            Property::<Backbone>::always(STREAM_ONCE, |_, state| is_once(&state.stream)),
            Property::<Backbone>::always(STREAM_IN_ORDER, |_, state| is_in_order(&state.stream)),
            Property::<Backbone>::always(EFFECT_ONCE, |_, state| is_once(&state.effects)),
            Property::<Backbone>::always(EFFECT_IN_ORDER, |_, state| is_in_order(&state.effects)),
            Property::<Backbone>::always(NOTHING_LOST, Backbone::ends_well),
            Property::<Backbone>::sometimes("everything is done", |model, state| {
                state.committable().next().is_none() && model.is_done(state)
            }),
        ];
        if self.relay_faults > 0 && self.lines.window != Window::Endless {
            properties.push(Property::<Backbone>::sometimes(
                "a copy comes late, and the broker has forgotten its id",
                |_, state| {
                    let forgotten = |event: &Event| !state.remembered.contains(event);
                    let repeats = |event: &Event| state.stream.contains(event);
                    state.late.iter().any(|late| repeats(&late.event) && forgotten(&late.event))
                },
            ));
        }
        if self.replicas > 1 {
            properties.push(Property::<Backbone>::sometimes(
                "a consumer is given an event before its predecessor",
                |_, state| state.replicas.iter().any(|replica| replica.has_an_early_one(state)),
            ));
        }
        properties
    }

    /// What is broken need not be broken again.
    fn within_boundary(&self, state: &State) -> bool {
        state.stream.len().max(state.effects.len()) <= self.events.len() + 1
    }
}

impl Backbone {
    /// What relays, consumers and the operator may do, in an order in which things come to an end.
    fn steps_of_processes(&self, state: &State, steps: &mut Vec<Step>) {
        state.steps_of_consumers(steps);
        state.steps_of_relays(steps);
        // The operator waits until the relays have nothing in hand from before.
        if state.to_republish && state.relays.iter().all(producer::Relay::has_marked) {
            steps.push(Step::Republish);
        }
    }

    fn take(&self, state: &mut State, step: Step) {
        match step {
            Step::Commit(event) => self.commit(state, event),
            Step::Relay(id, step) => self.relay_does(state, id, step),
            Step::LateArrival(copy) => {
                let place = state.late.iter().position(|late| *late == copy);
                place.map(|place| state.late.remove(place));
                self.arrive(state, copy);
            }
            Step::WindowPasses => state.remembered.clear(),
            Step::PowerFailure { left } => self.power_fails(state, left),
            Step::Republish => state.republish(),
            Step::Replica(id, step) => self.replica_does(state, id, step),
        }
    }

    fn commit(&self, state: &mut State, event: Event) {
        if self.relays == 0 {
            state.stream.push(event);
            state.mark(event, Row::Sent);
        } else {
            state.mark(event, Row::Unsent);
        }
    }

    /// The end of the stream is gone, and so is what was under way.
    fn power_fails(&self, state: &mut State, left: usize) {
        state.power_failures -= 1;
        state.to_republish = true;
        let State { stream, remembered, .. } = state;
        stream.truncate(left);
        remembered.retain(|event| stream.contains(event));
        for id in 0..state.relays.len() {
            state.let_go(id);
            self.settle(&mut state.relays[id]);
            if self.lines.memory == Memory::OfTheConnection {
                state.relays[id].forget();
            }
        }
        state.late.clear();
        // The broker sets its durable consumers back to what it has.
        state.handed_out = left.min(state.handed_out);
        state.acknowledged.retain(|place| *place < left);
        state.replicas.fill(consumer::Replica::default());
    }

    /// Whether everything comes to its end when nothing goes wrong any more.
    fn ends_well(&self, state: &State) -> bool {
        const LONG_ENOUGH: usize = 100;
        let mut state = state.clone();
        let mut steps = Vec::new();
        for _ in 0..LONG_ENOUGH {
            if self.is_done(&state) {
                return true;
            }
            steps.clear();
            self.steps_of_processes(&state, &mut steps);
            match steps.iter().find(|step| !step.is_fault()) {
                Some(step) => self.take(&mut state, *step),
                None => return false,
            }
        }
        false
    }

    /// All that is committed is in the stream and, if anybody consumes, has had its effect.
    fn is_done(&self, state: &State) -> bool {
        state.outbox.iter().filter(|(_, row)| *row != Row::NotCommitted).all(|(event, _)| {
            state.stream.contains(event) && (self.replicas == 0 || state.effects.contains(event))
        })
    }
}

impl State {
    /// What commands may commit now: the next version of each aggregate.
    fn committable(&self) -> impl Iterator<Item = Event> {
        let waits = |event: &Event| {
            self.outbox.iter().any(|(of, row)| of == event && *row == Row::NotCommitted)
        };
        self.outbox.iter().map(|(event, _)| *event).filter(move |event| {
            waits(event) && !event.predecessor().is_some_and(|before| waits(&before))
        })
    }

    fn mark(&mut self, event: Event, row: Row) {
        for (_, of) in self.outbox.iter_mut().filter(|(is, _)| *is == event) {
            *of = row;
        }
    }

    fn republish(&mut self) {
        self.to_republish = false;
        for (_, row) in self.outbox.iter_mut().filter(|(_, row)| *row == Row::Sent) {
            *row = Row::Unsent;
        }
    }
}

/// Processes are interchangeable: states that differ only in who is who count as one.
impl Representative for State {
    fn representative(&self) -> State {
        let mut state = self.clone();
        if state.leaders.is_none() {
            state.relays.sort_unstable();
            state.replicas.sort_unstable();
        }
        state
    }
}

impl Step {
    /// Whether it only happens when something goes wrong.
    fn is_fault(&self) -> bool {
        match self {
            Step::Relay(_, step) => step.is_fault(),
            Step::Replica(_, step) => step.is_fault(),
            Step::PowerFailure { .. } => true,
            Step::Commit(_) | Step::LateArrival(_) | Step::WindowPasses | Step::Republish => false,
        }
    }
}
