//! The view: a fold of the stream, and a checkpoint beside it.
//!
//! Two replicas fold one shard, each in the belief that it is its own: one of them is a zombie, and
//! nobody knows which. A transaction is two steps, the load of the view and the commit, so that
//! others may come in between; a row that is locked makes them wait. The events belong to one ride,
//! which is one row: whoever writes it writes all of it.
//!
//! An event may be poison, and is parked with what follows it in its history; once the program is
//! mended any replica may try again. The broker may lose the end of its stream; what is lost gets
//! into it again, behind or between new events, but in the order of each aggregate.
//!
//! Left out: that a transaction moves the checkpoints of several shards at once (all or none), time,
//! leases, and the sizes of batches (they are of any size here).
//!
//! # What was found
//!
//! With all [`lines`] everything holds: about 1 000 states for three events and two replicas, 3 000
//! with poison, 18 000 with a power failure. That is so even for a view that cannot tell what it
//! contains already, but for the power failure. Without one of the lines:
//!
//! | without | what breaks |
//! |---|---|
//! | the comparison of the checkpoint | a zombie folds again what is folded, or overwrites what it has not seen |
//! | the checkpoint in the view's transaction | a death in between folds a batch twice |
//! | the comparison *first*, and with it the lock | nothing, as long as nothing but batches is folded; another try of a parked event is overwritten |
//! | the fence around another try | it overwrites what another replica has folded meanwhile |
//! | the time in the place | after a power failure events in places that were used before are passed over, and the view says it is complete; neither the end of the stream nor the event at the place tells it |
//! | a view that looks at versions | after a power failure what it contains is folded again |

use std::collections::BTreeSet;
use std::fmt;

use stateright::{Model, Property, Representative};

use self::lines::{Checkpoint, Fold, Lines, Place, Retry};
use crate::event::{Event, is_in_order, is_once};

pub mod lines;
#[cfg(test)]
mod tests;

/// What is to be folded, by how many, and what may go wrong.
#[derive(Clone, Debug, Default)]
pub struct Projection {
    /// The events of one shard. Those of one aggregate get into the stream in this order, those of
    /// several as it comes.
    pub events: Vec<Event>,
    /// An event that cannot be folded before somebody has mended the program.
    pub poison: Option<Event>,
    /// Processes that fold, each in the belief that the shard is its own.
    pub replicas: usize,
    /// How many deaths they suffer, altogether.
    pub deaths: u8,
    /// How often the broker loses the end of its stream.
    pub power_failures: u8,
    /// What keeps the promise.
    pub lines: Lines,
}

/// Everything there is at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    stream: Vec<Message>,
    power_failures: u8,
    /// In the view's database: how much of the stream the view contains, and the last of that.
    checkpoint: usize,
    last: Option<Message>,
    /// In the view's database: what has been folded, in the order of the transactions. It stands
    /// for one row, of one ride: whoever writes it writes all of it.
    view: Vec<Event>,
    /// In the view's database: what has been put aside.
    parked: BTreeSet<Event>,
    /// What was poison can be folded.
    mended: bool,
    replicas: Vec<Replica>,
    deaths: u8,
}

/// An event in the stream, and when it was stored. For the time stands the number of power failures
/// before it: between two of them no place in the stream is used twice.
type Message = (Event, u8);

/// A process that folds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Replica {
    /// Has no session.
    #[default]
    Idle,
    /// Is in a session, and has folded so far.
    At(usize),
    /// Has read what comes next.
    HasRead(Batch),
    /// Is within the transaction of a batch, and has loaded the view.
    Folds(Batch, Vec<Event>),
    /// Has committed the view, and not yet the checkpoint.
    Moves(Batch),
    /// Is within the transaction of another try, and has loaded the view.
    Retries(usize, Event, Vec<Event>),
}

/// What lies behind this place in the stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Batch {
    from: usize,
    messages: Vec<Message>,
}

/// One step of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An event gets into the stream.
    Publish(Event),
    /// The broker starts again without the end of its stream. All sessions end.
    PowerFailure {
        /// How much of the stream is left.
        left: usize,
    },
    /// What was poison can be folded from now on.
    Mend,
    /// A replica opens a session.
    Open(usize),
    /// A replica reads up to this place.
    Read(usize, usize),
    /// A replica begins to fold what it has read.
    Begin(usize),
    /// A replica begins to fold a parked event after all.
    Retry(usize, Event),
    /// A replica ends its transaction.
    Commit(usize),
    /// A replica is killed.
    Die(usize),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Publish(event) => write!(f, "{event} gets into the stream"),
            Step::PowerFailure { left } => write!(f, "the power fails: {left} events are left"),
            Step::Mend => write!(f, "the program is mended"),
            Step::Open(id) => write!(f, "replica {id} opens a session"),
            Step::Read(id, to) => write!(f, "replica {id} reads up to place {to}"),
            Step::Begin(id) => write!(f, "replica {id} begins to fold"),
            Step::Retry(id, event) => write!(f, "replica {id} begins to fold {event} after all"),
            Step::Commit(id) => write!(f, "replica {id} commits"),
            Step::Die(id) => write!(f, "replica {id} dies"),
        }
    }
}

/// The view is the fold of exactly what its checkpoint says, without what is parked.
pub const VIEW_IS_A_PREFIX: &str = "the view is the fold of the stream up to its checkpoint";
/// Each history is folded in order, without a gap, and nothing of it twice.
pub const IN_ORDER_AND_ONCE: &str = "each history is folded in order and once";
/// From every state: if nothing goes wrong any more, all of the stream gets into the view.
pub const CATCHES_UP: &str = "the view catches up with the stream";

impl Model for Projection {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            stream: Vec::new(),
            power_failures: 0,
            checkpoint: 0,
            last: None,
            view: Vec::new(),
            parked: BTreeSet::new(),
            mended: false,
            replicas: vec![Replica::Idle; self.replicas],
            deaths: self.deaths,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        self.steps_of_replicas(state, steps);
        steps.extend(self.publishable(state).map(Step::Publish));
        if state.power_failures < self.power_failures {
            steps.extend((0..state.stream.len()).map(|left| Step::PowerFailure { left }));
        }
        if state.deaths > 0 {
            let in_session = |id: &usize| state.replicas[*id] != Replica::Idle;
            steps.extend((0..self.replicas).filter(in_session).map(Step::Die));
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        self.take(&mut next, step);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Projection>> {
        let mut properties = vec![
            Property::<Projection>::always(IN_ORDER_AND_ONCE, |_, state| {
                is_in_order(&state.view) && is_once(&state.view)
            }),
            Property::<Projection>::always(CATCHES_UP, Projection::ends_well),
            Property::<Projection>::sometimes("everything is in the view", |model, state| {
                model.events.iter().all(|event| state.view.contains(event))
            }),
        ];
        if self.replicas > 1 {
            let was_overtaken = |_: &Projection, state: &State| {
                let behind = |batch: &Batch| batch.from < state.checkpoint;
                state
                    .replicas
                    .iter()
                    .any(|it| matches!(it, Replica::HasRead(batch) if behind(batch)))
            };
            let name = "a replica has read what another one has folded";
            properties.push(Property::<Projection>::sometimes(name, was_overtaken));
        }
        // After a power failure the view may contain what the stream has not yet got again.
        if self.power_failures == 0 {
            let is_prefix = |_: &Projection, state: &State| state.view_is_a_prefix();
            properties.push(Property::<Projection>::always(VIEW_IS_A_PREFIX, is_prefix));
        }
        properties
    }

    /// What is broken need not be broken again.
    fn within_boundary(&self, state: &State) -> bool {
        state.view.len() <= self.events.len() + 1
    }
}

impl Projection {
    /// What replicas may do, in an order in which things come to an end.
    fn steps_of_replicas(&self, state: &State, steps: &mut Vec<Step>) {
        let locked = state.replicas.iter().any(|replica| self.locks_the_checkpoint(replica));
        for (id, replica) in state.replicas.iter().enumerate() {
            let waits = locked && !self.locks_the_checkpoint(replica);
            match replica {
                Replica::Idle if !waits => steps.push(Step::Open(id)),
                Replica::At(from) => {
                    if !(waits && self.lines.retry == Retry::Fenced) {
                        steps.extend(state.due().map(|event| Step::Retry(id, event)));
                    }
                    steps.extend((from + 1..=state.stream.len()).map(|to| Step::Read(id, to)));
                }
                Replica::HasRead(_)
                    if !(waits && self.lines.checkpoint == Checkpoint::ComparedFirst) =>
                {
                    steps.push(Step::Begin(id));
                }
                Replica::Folds(..) | Replica::Moves(_) if !waits => steps.push(Step::Commit(id)),
                Replica::Retries(..) => steps.push(Step::Commit(id)),
                _ => {}
            }
        }
        if !state.parked.is_empty() && !state.mended {
            steps.push(Step::Mend);
        }
    }

    /// Whether others that want to move the checkpoint have to wait for this one.
    fn locks_the_checkpoint(&self, replica: &Replica) -> bool {
        match replica {
            Replica::Folds(..) => self.lines.checkpoint == Checkpoint::ComparedFirst,
            Replica::Retries(..) => self.lines.retry == Retry::Fenced,
            Replica::Idle | Replica::At(_) | Replica::HasRead(_) | Replica::Moves(_) => false,
        }
    }

    fn take(&self, state: &mut State, step: Step) {
        match step {
            Step::Publish(event) => state.stream.push((event, state.power_failures)),
            Step::PowerFailure { left } => {
                state.power_failures += 1;
                state.stream.truncate(left);
                state.replicas.fill(Replica::Idle);
            }
            Step::Mend => state.mended = true,
            Step::Open(id) => self.open(state, id),
            Step::Read(id, to) => {
                if let Replica::At(from) = state.replicas[id] {
                    let messages = state.stream[from..to].to_vec();
                    state.replicas[id] = Replica::HasRead(Batch { from, messages });
                }
            }
            Step::Begin(id) => {
                let replica = std::mem::take(&mut state.replicas[id]);
                let compares = self.lines.checkpoint == Checkpoint::ComparedFirst;
                state.replicas[id] = match replica {
                    Replica::HasRead(batch) if !compares || batch.from == state.checkpoint => {
                        Replica::Folds(batch, state.view.clone())
                    }
                    // Another replica was faster: the session ends.
                    _ => Replica::Idle,
                };
            }
            Step::Retry(id, event) => {
                let replica = std::mem::take(&mut state.replicas[id]);
                let fenced = self.lines.retry == Retry::Fenced;
                state.replicas[id] = match replica {
                    Replica::At(from) if !fenced || from == state.checkpoint => {
                        Replica::Retries(from, event, state.view.clone())
                    }
                    _ => Replica::Idle,
                };
            }
            Step::Commit(id) => self.commit(state, id),
            Step::Die(id) => {
                state.deaths -= 1;
                state.replicas[id] = Replica::Idle;
            }
        }
    }

    /// Reads the checkpoint. If the stream is not the one that it is about, the view begins anew.
    fn open(&self, state: &mut State, id: usize) {
        let here = state.checkpoint.checked_sub(1).and_then(|at| state.stream.get(at)).copied();
        let event = |message: Option<Message>| message.map(|(event, _)| event);
        let recognised = match self.lines.place {
            Place::NumberAndTime => here == state.last,
            Place::NumberAndEvent => event(here) == event(state.last),
            Place::NumberWithinTheStream => state.checkpoint <= state.stream.len(),
            Place::Number => true,
        };
        if !recognised {
            (state.checkpoint, state.last) = (0, None);
        }
        state.replicas[id] = Replica::At(state.checkpoint);
    }

    fn commit(&self, state: &mut State, id: usize) {
        state.replicas[id] = match std::mem::take(&mut state.replicas[id]) {
            Replica::Folds(batch, view) => self.commit_batch(state, batch, view),
            Replica::Moves(batch) => state.move_on(&batch),
            Replica::Retries(from, event, mut view) => {
                self.fold(&mut view, event);
                state.view = view;
                state.parked.remove(&event);
                Replica::At(from)
            }
            replica => replica,
        }
    }

    /// Ends the transaction of a batch; answers how the replica goes on.
    fn commit_batch(&self, state: &mut State, batch: Batch, mut view: Vec<Event>) -> Replica {
        if self.lines.checkpoint == Checkpoint::ComparedLast && batch.from != state.checkpoint {
            return Replica::Idle;
        }
        let mut parked = state.parked.clone();
        for (event, _) in &batch.messages {
            let behind_parked = parked.iter().any(|other| other.aggregate == event.aggregate);
            let poison = self.poison == Some(*event) && !state.mended;
            if poison && batch.messages.len() > 1 {
                // All of it is rolled back, and read again one by one.
                return Replica::At(batch.from);
            }
            if poison || behind_parked {
                parked.insert(*event);
            } else {
                self.fold(&mut view, *event);
            }
        }
        (state.view, state.parked) = (view, parked);
        match self.lines.checkpoint {
            Checkpoint::InItsOwnTransaction => Replica::Moves(batch),
            _ => state.move_on(&batch),
        }
    }

    fn fold(&self, view: &mut Vec<Event>, event: Event) {
        let known = view.iter().filter(|it| it.aggregate == event.aggregate).map(|it| it.version);
        if self.lines.fold == Fold::Blindly || known.max() < Some(event.version) {
            view.push(event);
        }
    }

    /// What may get into the stream now: what is not there, behind its predecessor.
    fn publishable(&self, state: &State) -> impl Iterator<Item = Event> {
        let is_there = |event: &Event| state.stream.iter().any(|(is, _)| is == event);
        self.events.iter().copied().filter(move |event| {
            !is_there(event) && event.predecessor().is_none_or(|before| is_there(&before))
        })
    }

    /// Whether all of the stream gets into the view when nothing goes wrong any more.
    fn ends_well(&self, state: &State) -> bool {
        const LONG_ENOUGH: usize = 50;
        let mut state = state.clone();
        let mut steps = Vec::new();
        for _ in 0..LONG_ENOUGH {
            if state.stream.iter().all(|(event, _)| state.view.contains(event)) {
                return true;
            }
            steps.clear();
            self.steps_of_replicas(&state, &mut steps);
            match steps.first() {
                Some(step) => self.take(&mut state, *step),
                None => return false,
            }
        }
        false
    }
}

impl State {
    /// The parked events that can be folded: the first of each history.
    fn due(&self) -> impl Iterator<Item = Event> {
        let first = |event: &&Event| {
            let earlier =
                |it: &Event| it.aggregate == event.aggregate && it.version < event.version;
            !self.parked.iter().any(earlier)
        };
        self.parked.iter().filter(first).copied().filter(|_| self.mended)
    }

    /// Moves the checkpoint behind a batch.
    fn move_on(&mut self, batch: &Batch) -> Replica {
        self.checkpoint = batch.from + batch.messages.len();
        self.last = batch.messages.last().copied();
        Replica::At(self.checkpoint)
    }

    fn view_is_a_prefix(&self) -> bool {
        let prefix = self.stream.iter().take(self.checkpoint).map(|(event, _)| *event);
        let prefix: BTreeSet<Event> = prefix.filter(|event| !self.parked.contains(event)).collect();
        self.view.iter().copied().collect::<BTreeSet<Event>>() == prefix
    }
}

/// Replicas are interchangeable: states that differ only in who is who count as one.
impl Representative for State {
    fn representative(&self) -> State {
        let mut state = self.clone();
        state.replicas.sort_unstable();
        state
    }
}
