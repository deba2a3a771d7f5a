//! From the outbox into the stream.

use std::collections::BTreeMap;
use std::fmt;

use super::lines::{Expecting, Marking, Reading, Wave, Window};
use super::{Backbone, Row, State, Step as AnyStep};
use crate::event::Event;

/// A relay, as far as it is in its process's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Relay {
    /// Read as unsent, not yet published.
    batch: Vec<Event>,
    /// Published, and not all of it answered yet.
    wave: Vec<Publishing>,
    /// To be marked as sent.
    sent: Vec<Event>,
    /// What it knows of the stream.
    tails: BTreeMap<char, Tail>,
    /// How many rows it passes over, when it reads behind a cursor.
    cursor: usize,
}

/// An event for whose acknowledgement a relay waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Publishing {
    copy: Copy,
    answer: Option<Answer>,
}

/// A message on its way to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Copy {
    /// What it says.
    pub event: Event,
    /// The place in the stream where the last event of the aggregate must be.
    pub expected: Option<usize>,
}

/// What a relay knows of what it has published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Answer {
    /// It is in the stream.
    Acknowledged,
    /// The broker does not take it: another one is the last of its aggregate.
    Refused,
    /// There was none in time, or there is no use in asking.
    Failed,
}

/// The last event of an aggregate in the stream; both are 0 when there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Tail {
    version: i64,
    /// From 1.
    place: usize,
}

/// What a relay does, and what happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reads what is unsent.
    Read,
    /// Sends the next wave.
    Publish,
    /// This one of the wave reaches the broker, and the answer the relay.
    Arrive(Event),
    /// Marks what was acknowledged.
    Mark,
    /// An answer is late or lost: what has become of the event is unknown.
    GiveUp,
    /// Its process is killed.
    Die,
}

impl Step {
    pub(super) fn is_fault(self) -> bool {
        matches!(self, Step::GiveUp | Step::Die)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Read => write!(f, "reads what is unsent"),
            Step::Publish => write!(f, "publishes"),
            Step::Arrive(event) => write!(f, "brings {event} to the broker"),
            Step::Mark => write!(f, "marks what was acknowledged"),
            Step::GiveUp => write!(f, "gives up waiting"),
            Step::Die => write!(f, "dies"),
        }
    }
}

impl Backbone {
    pub(super) fn relay_does(&self, state: &mut State, id: usize, step: Step) {
        if step.is_fault() {
            state.relay_faults -= 1;
        }
        match step {
            Step::Read => {
                let cursor = state.relays[id].cursor;
                state.relays[id].batch = state.unsent(cursor).collect();
            }
            Step::Publish => self.publish(state, id),
            Step::Arrive(event) => self.hear(state, id, event),
            Step::Mark => self.mark_sent(state, id),
            Step::GiveUp => {
                state.let_go(id);
                self.settle(&mut state.relays[id]);
            }
            Step::Die => {
                state.let_go(id);
                state.relays[id] = Relay::default();
                if let Some((leader, _)) = &mut state.leaders {
                    *leader = (id + 1) % self.relays;
                }
            }
        }
    }

    /// Sends the events that come next.
    fn publish(&self, state: &mut State, id: usize) {
        let batch = std::mem::take(&mut state.relays[id].batch);
        let repeats = |place: &usize| {
            batch[..*place].iter().any(|earlier| earlier.aggregate == batch[*place].aggregate)
        };
        let end = match self.lines.wave {
            Wave::OneOfEachAggregate => (0..batch.len()).find(repeats).unwrap_or(batch.len()),
            Wave::Everything => batch.len(),
        };
        let (wave, rest) = batch.split_at(end);
        state.relays[id].wave = wave.iter().map(|event| self.address(state, id, *event)).collect();
        state.relays[id].batch = rest.to_vec();
        self.settle(&mut state.relays[id]);
    }

    /// Finds out behind which event this one belongs.
    fn address(&self, state: &mut State, id: usize, event: Event) -> Publishing {
        let tail = self.before(state, id, event);
        let (expected, answer) = match self.lines.expecting {
            Expecting::Nothing => (None, None),
            Expecting::WhateverIsLast => (Some(state.tail(event.aggregate).place), None),
            Expecting::Predecessor => match event.version - tail.version {
                ..=0 => (Some(tail.place), Some(Answer::Acknowledged)),
                1 => (Some(tail.place), None),
                2.. => {
                    state.send_again(event, tail.version);
                    (Some(tail.place), Some(Answer::Failed))
                }
            },
        };
        Publishing { copy: Copy { event, expected }, answer }
    }

    /// The last event of the aggregate, as far as the relay knows.
    fn before(&self, state: &mut State, id: usize, event: Event) -> Tail {
        match state.relays[id].tails.get(&event.aggregate).copied() {
            Some(tail) => tail,
            // The first of its aggregate: if that is wrong the broker says so.
            None if event.version == 1 => Tail::default(),
            None => state.look(id, event.aggregate),
        }
    }

    /// A copy for which the relay waits reaches the broker.
    fn hear(&self, state: &mut State, id: usize, event: Event) {
        let is_it = |publishing: &Publishing| publishing.copy.event == event;
        let Some(place) = state.relays[id].wave.iter().position(is_it) else { return };
        let answer = self.arrive(state, state.relays[id].wave[place].copy);
        state.look(id, event.aggregate);
        state.relays[id].wave[place] = match answer {
            Answer::Refused => self.address(state, id, event),
            answer => Publishing { answer: Some(answer), ..state.relays[id].wave[place] },
        };
        self.settle(&mut state.relays[id]);
    }

    /// The broker takes a copy, or does not.
    pub(super) fn arrive(&self, state: &mut State, copy: Copy) -> Answer {
        let last = state.tail(copy.event.aggregate).place;
        if copy.expected.is_some_and(|expected| expected != last) {
            return Answer::Refused;
        }
        if !state.remembered.contains(&copy.event) {
            state.stream.push(copy.event);
        }
        if self.lines.window != Window::Closed {
            state.remembered.insert(copy.event);
        }
        Answer::Acknowledged
    }

    /// Once a wave is answered: decides what is sent, and whether to go on.
    pub(super) fn settle(&self, relay: &mut Relay) {
        if relay.unanswered().next().is_some() {
            return;
        }
        let wave = std::mem::take(&mut relay.wave);
        let acknowledged = |it: &&Publishing| it.answer == Some(Answer::Acknowledged);
        let sent: Vec<&Publishing> = match self.lines.marking {
            Marking::AcknowledgedPrefix => wave.iter().take_while(acknowledged).collect(),
            Marking::Acknowledged => wave.iter().filter(acknowledged).collect(),
            Marking::Published => wave.iter().collect(),
        };
        relay.sent.extend(sent.iter().map(|publishing| publishing.copy.event));
        if sent.len() < wave.len() {
            relay.batch.clear();
        }
    }

    fn mark_sent(&self, state: &mut State, id: usize) {
        for event in std::mem::take(&mut state.relays[id].sent) {
            state.mark(event, Row::Sent);
            if self.lines.reading == Reading::BehindACursor {
                let row = state.outbox.iter().position(|(of, _)| *of == event);
                state.relays[id].cursor = row.map_or(0, |row| row + 1);
            }
        }
    }
}

impl Relay {
    pub(super) fn forget(&mut self) {
        self.tails.clear();
    }

    pub(super) fn has_marked(&self) -> bool {
        self.sent.is_empty()
    }

    /// The copies for whose answer it waits.
    fn unanswered(&self) -> impl Iterator<Item = &Copy> {
        self.wave.iter().filter(|it| it.answer.is_none()).map(|publishing| &publishing.copy)
    }
}

impl State {
    /// What relays may do now.
    pub(super) fn steps_of_relays(&self, steps: &mut Vec<AnyStep>) {
        for (id, relay) in self.relays.iter().enumerate() {
            if self.leaders.is_some_and(|(leader, _)| leader != id) {
                continue;
            }
            let mut may = |step| steps.push(AnyStep::Relay(id, step));
            relay.unanswered().for_each(|copy| may(Step::Arrive(copy.event)));
            match relay {
                Relay { wave, .. } if !wave.is_empty() => {}
                Relay { batch, .. } if !batch.is_empty() => may(Step::Publish),
                Relay { sent, .. } if !sent.is_empty() => may(Step::Mark),
                Relay { cursor, .. } if self.unsent(*cursor).next().is_some() => may(Step::Read),
                Relay { .. } => {}
            }
            if self.relay_faults > 0 {
                if relay.unanswered().next().is_some() {
                    may(Step::GiveUp);
                }
                if !(relay.batch.is_empty() && relay.wave.is_empty() && relay.sent.is_empty()) {
                    may(Step::Die);
                }
            }
        }
    }

    /// The rows behind the cursor that are unsent.
    fn unsent(&self, cursor: usize) -> impl Iterator<Item = Event> {
        let rows = self.outbox.iter().skip(cursor);
        rows.filter(|(_, row)| *row == Row::Unsent).map(|(event, _)| *event)
    }

    /// The last event of an aggregate in the stream.
    fn tail(&self, aggregate: char) -> Tail {
        let last = self.stream.iter().rposition(|event| event.aggregate == aggregate);
        last.map_or(Tail::default(), |at| Tail { version: self.stream[at].version, place: at + 1 })
    }

    /// A relay asks for the last event of an aggregate, and keeps the answer in mind.
    fn look(&mut self, id: usize, aggregate: char) -> Tail {
        let tail = self.tail(aggregate);
        self.relays[id].tails.insert(aggregate, tail);
        tail
    }

    /// The stream has lost what is between these two versions: that goes first.
    fn send_again(&mut self, event: Event, after: i64) {
        for (lost, row) in &mut self.outbox {
            let between = (after + 1..event.version).contains(&lost.version);
            if lost.aggregate == event.aggregate && between && *row == Row::Sent {
                *row = Row::Unsent;
            }
        }
    }

    /// The relay does not wait any longer; its copies are still under way.
    pub(super) fn let_go(&mut self, id: usize) {
        for publishing in self.relays[id].wave.iter_mut().filter(|it| it.answer.is_none()) {
            publishing.answer = Some(Answer::Failed);
            self.late.push(publishing.copy);
        }
        self.late.sort_unstable();
    }
}
