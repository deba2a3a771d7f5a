//! From the stream to the effect.

use std::fmt;

use platform::consumer::{InOrder, hold};

use super::lines::{Gaps, Record};
use super::{Backbone, State, Step as AnyStep};
use crate::event::Event;

/// A consumer, as far as it is in its process's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica {
    /// What it was given, by the places in the stream, in the order of arrival.
    lane: Vec<usize>,
    /// What it will apply, because it was the next one when it looked.
    next: Option<usize>,
    /// What has had its effect and is to be written down.
    unrecorded: Option<usize>,
}

/// What a consumer does, and what happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Is given an event for the first time.
    Receive(usize, Event),
    /// Is given an event again, because nobody has acknowledged it.
    ReceiveAgain(usize, Event),
    /// Looks how the event at hand stands to what is known.
    Judge,
    /// Commits the effect, and acknowledges.
    Apply,
    /// Commits the effect; the acknowledgement is lost.
    ApplyUnheard,
    /// Writes down that the event has had its effect, and acknowledges.
    WriteDown,
    /// Its process is killed.
    Die,
}

impl Step {
    pub(super) fn is_fault(self) -> bool {
        matches!(self, Step::ApplyUnheard | Step::Die)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Receive(_, event) => write!(f, "receives {event}"),
            Step::ReceiveAgain(_, event) => write!(f, "receives {event} again"),
            Step::Judge => write!(f, "looks up what is known"),
            Step::Apply => write!(f, "applies it"),
            Step::ApplyUnheard => write!(f, "applies it; the acknowledgement is lost"),
            Step::WriteDown => write!(f, "writes it down"),
            Step::Die => write!(f, "dies"),
        }
    }
}

impl Backbone {
    pub(super) fn replica_does(&self, state: &mut State, id: usize, step: Step) {
        if step.is_fault() {
            state.replica_faults -= 1;
        }
        match step {
            Step::Receive(place, _) => {
                state.handed_out += 1;
                state.replicas[id].lane.push(place);
            }
            Step::ReceiveAgain(place, _) => state.replicas[id].lane.push(place),
            Step::Judge => self.judge(state, id),
            Step::Apply => {
                let place = self.apply(state, id);
                if state.replicas[id].unrecorded.is_none() {
                    state.acknowledged.extend(place);
                }
            }
            Step::ApplyUnheard => {
                self.apply(state, id);
            }
            Step::WriteDown => {
                let place = state.replicas[id].unrecorded.take();
                if let Some(place) = place {
                    state.write_down(state.stream[place]);
                    state.acknowledged.insert(place);
                }
            }
            Step::Die => {
                state.replicas[id] = Replica::default();
                if let Some((_, leader)) = &mut state.leaders {
                    *leader = (id + 1) % self.replicas;
                }
            }
        }
    }

    /// How the event at hand stands to what is known, by the platform's own rule.
    fn judge(&self, state: &mut State, id: usize) {
        let place = state.replicas[id].lane.remove(0);
        let order = match self.lines.gaps {
            Gaps::Hold => state.order(state.stream[place]),
            Gaps::Ignore => InOrder::Next,
        };
        match order {
            InOrder::Known => drop(state.acknowledged.insert(place)),
            InOrder::Next => state.replicas[id].next = Some(place),
            // Given back: the broker delivers it again.
            InOrder::Early | InOrder::BehindParked => {}
        }
    }

    /// The transaction of the effect; answers what it was about.
    fn apply(&self, state: &mut State, id: usize) -> Option<usize> {
        let place = state.replicas[id].next.take()?;
        let event = state.stream[place];
        let spent = self.lines.record != Record::WithoutCause && state.causes.contains(&event);
        if !spent {
            state.effects.push(event);
        }
        match self.lines.record {
            Record::WithTheEffect | Record::WithoutCause => state.write_down(event),
            Record::AfterTheEffect => state.replicas[id].unrecorded = Some(place),
        }
        Some(place)
    }
}

impl Replica {
    fn has(&self, place: usize) -> bool {
        self.lane.contains(&place) || self.next == Some(place) || self.unrecorded == Some(place)
    }

    /// Whether it has been given an event before which there is a gap.
    pub(super) fn has_an_early_one(&self, state: &State) -> bool {
        self.lane.iter().any(|place| state.order(state.stream[*place]) == InOrder::Early)
    }
}

impl State {
    /// What consumers may do now.
    pub(super) fn steps_of_consumers(&self, steps: &mut Vec<AnyStep>) {
        let leading = || {
            let replicas = self.replicas.iter().enumerate();
            replicas.filter(|(id, _)| self.leaders.is_none_or(|(_, leader)| leader == *id))
        };
        for (id, replica) in leading() {
            let mut may = |step| steps.push(AnyStep::Replica(id, step));
            match replica {
                Replica { unrecorded: Some(_), .. } => may(Step::WriteDown),
                Replica { next: Some(_), .. } => {
                    may(Step::Apply);
                    if self.replica_faults > 0 {
                        may(Step::ApplyUnheard);
                    }
                }
                Replica { lane, .. } if !lane.is_empty() => may(Step::Judge),
                Replica { .. } => {}
            }
            if self.replica_faults > 0 && *replica != Replica::default() {
                may(Step::Die);
            }
        }
        for (id, replica) in leading() {
            let places = (0..self.handed_out).filter(|place| !replica.has(*place));
            for place in places.filter(|place| !self.acknowledged.contains(place)) {
                let step = Step::ReceiveAgain(place, self.stream[place]);
                steps.push(AnyStep::Replica(id, step));
            }
            if let Some(event) = self.stream.get(self.handed_out) {
                let step = Step::Receive(self.handed_out, *event);
                steps.push(AnyStep::Replica(id, step));
            }
        }
    }

    fn order(&self, event: Event) -> InOrder {
        hold(self.known.get(&event.aggregate).copied().unwrap_or(0), event.version)
    }

    fn write_down(&mut self, event: Event) {
        let known = self.known.entry(event.aggregate).or_default();
        *known = event.version.max(*known);
        self.causes.insert(event);
    }
}
