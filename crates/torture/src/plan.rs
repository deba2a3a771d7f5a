//! What goes wrong, and when: drawn from a seed before anything starts, so that the same seed is
//! the same plan.
//!
//! Every kind that was asked for comes at least once; the rest is drawn by weight. Who is killed and
//! what the provider does wrong is dealt like cards: nobody twice before everybody once. Faults
//! overlap as they fall. Each is over when the run is, but for what it takes to come up again.

mod deck;
#[cfg(test)]
mod tests;
mod whim;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde::Serialize;
use testkit::{Backing, CONTEXTS, RELATIONAL};

use self::deck::Deck;
pub(crate) use self::whim::Whim;

/// A fault begins about this often.
const PACE: Duration = Duration::from_millis(2_200);
/// Nothing happens before, so that a ride or two are under way.
const QUIET: Duration = Duration::from_millis(1_500);
/// Replicas of each context when nothing scales.
pub(crate) const REPLICAS: usize = 2;
/// Replicas of a context that has been scaled up.
pub(crate) const MOST_REPLICAS: usize = 3;

/// The kinds of faults, as they are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// SIGKILL for a replica or the payment provider.
    Kill,
    /// The payment provider is slow, forgetful, mean or mute for a while.
    Provider,
    /// SIGSTOP for a replica, and SIGCONT.
    Freeze,
    /// SIGKILL for the broker.
    Broker,
    /// SIGKILL or SIGQUIT for Postgres.
    Database,
    /// Trouble between replicas and the broker, Postgres or a neighbour.
    Network,
    /// Events come again: in their order, in reverse, or because an operator sends them again.
    Redelivery,
    /// An event that nobody can decode.
    Poison,
    /// A context has one replica, then three, then one.
    Scale,
    /// Every replica is restarted with SIGTERM.
    Rolling,
}

impl Kind {
    const ALL: [Kind; 10] = [
        Kind::Kill,
        Kind::Provider,
        Kind::Freeze,
        Kind::Broker,
        Kind::Database,
        Kind::Network,
        Kind::Redelivery,
        Kind::Poison,
        Kind::Scale,
        Kind::Rolling,
    ];

    /// How often it is drawn.
    const fn weight(self) -> usize {
        match self {
            Kind::Kill | Kind::Network | Kind::Provider => 5,
            Kind::Freeze => 4,
            Kind::Redelivery => 3,
            Kind::Broker | Kind::Poison => 2,
            // Nothing at all goes on while Postgres recovers, which takes several seconds.
            Kind::Database | Kind::Scale | Kind::Rolling => 1,
        }
    }

    /// Takes so long that it has to begin in the first half.
    const fn is_long(self) -> bool {
        matches!(self, Kind::Scale | Kind::Rolling)
    }

    /// SQLite has no server, and allows one process for each file.
    const fn is_possible(self, backing: Backing) -> bool {
        match backing {
            Backing::Postgres => true,
            Backing::Sqlite => !matches!(self, Kind::Database | Kind::Scale),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{self:?}").to_lowercase())
    }
}

/// The kinds that were asked for: `all`, `none`, or names with commas between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kinds(BTreeSet<Kind>);

impl FromStr for Kinds {
    type Err = String;

    fn from_str(text: &str) -> Result<Kinds, String> {
        let named = |name: &str| Kind::ALL.into_iter().find(|kind| kind.to_string() == name);
        match text {
            "all" => Ok(Kinds(Kind::ALL.into())),
            "none" => Ok(Kinds(BTreeSet::new())),
            names => names
                .split(',')
                .map(|name| named(name.trim()).ok_or_else(|| unknown(name)))
                .collect::<Result<_, _>>()
                .map(Kinds),
        }
    }
}

fn unknown(name: &str) -> String {
    let known: Vec<String> = Kind::ALL.iter().map(ToString::to_string).collect();
    format!("{name:?} is none of all, none, {}", known.join(", "))
}

/// One replica of a context: `payment-2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) context: &'static str,
    /// From 1.
    pub(crate) number: usize,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.context, self.number)
    }
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    Replica(Name),
    Provider,
}

/// How Postgres ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// SIGKILL for the first process: its backends notice.
    Kill,
    /// SIGQUIT: all of them at once.
    Abort,
}

/// What a connection goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Broker,
    Database,
    /// Payment for driving, the provider for payment.
    Neighbour,
}

/// What is wrong with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// All takes this much longer, each way.
    Delay(Duration),
    /// Nothing passes; what was sent arrives later.
    BlackHole,
    /// Connections are reset, again and again.
    Resets,
    /// Nobody listens.
    Refused,
}

/// In which order events come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Same,
    Reversed,
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill(Victim),
    Provider(Whim),
    Freeze(Name),
    Broker,
    Database(End),
    /// Between one replica (all, when none is named) of a context and somebody.
    Network {
        context: &'static str,
        number: Option<usize>,
        peer: Peer,
        trouble: Trouble,
    },
    Redelivery {
        events: usize,
        order: Order,
    },
    /// `taxi outbox republish` of everything a context has ever sent.
    Republish(&'static str),
    /// By its place in the list of events that somebody listens to.
    Poison(usize),
    Scale(&'static str),
    Rolling,
}

impl Fault {
    /// Its kind.
    pub(crate) const fn kind(self) -> Kind {
        match self {
            Fault::Kill(_) => Kind::Kill,
            Fault::Provider(_) => Kind::Provider,
            Fault::Freeze(_) => Kind::Freeze,
            Fault::Broker => Kind::Broker,
            Fault::Database(_) => Kind::Database,
            Fault::Network { .. } => Kind::Network,
            Fault::Redelivery { .. } | Fault::Republish(_) => Kind::Redelivery,
            Fault::Poison(_) => Kind::Poison,
            Fault::Scale(_) => Kind::Scale,
            Fault::Rolling => Kind::Rolling,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kill(Victim::Replica(name)) => write!(f, "kill -9 {name}"),
            Fault::Kill(Victim::Provider) => write!(f, "kill -9 the payment provider"),
            Fault::Provider(whim) => write!(f, "the payment provider: {whim}"),
            Fault::Freeze(name) => write!(f, "freeze {name}"),
            Fault::Broker => write!(f, "kill -9 the broker"),
            Fault::Database(End::Kill) => write!(f, "kill -9 Postgres"),
            Fault::Database(End::Abort) => write!(f, "abort Postgres"),
            Fault::Network { context, number, peer, trouble } => {
                let number = number.map_or_else(|| "*".to_owned(), |number| number.to_string());
                let peer = match peer {
                    Peer::Broker => "broker",
                    Peer::Database => "database",
                    Peer::Neighbour => "neighbour",
                };
                write!(f, "network {context}-{number} to the {peer}: {trouble}")
            }
            Fault::Redelivery { events, order: Order::Same } => write!(f, "{events} events again"),
            Fault::Redelivery { events, order: Order::Reversed } => {
                write!(f, "{events} events again, backwards")
            }
            Fault::Republish(context) => write!(f, "republish all events of {context}"),
            Fault::Poison(which) => write!(f, "poison number {which}"),
            Fault::Scale(context) => write!(f, "scale {context} to 1, {MOST_REPLICAS}, 1"),
            Fault::Rolling => write!(f, "restart all replicas in turn"),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Delay(delay) => write!(f, "{} ms late", delay.as_millis()),
            Trouble::BlackHole => write!(f, "black hole"),
            Trouble::Resets => write!(f, "resets"),
            Trouble::Refused => write!(f, "refused"),
        }
    }
}

/// A fault and its time, from the beginning of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) fault: Fault,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7.1} s  {}", self.at.as_secs_f64(), self.fault)?;
        match self.lasts {
            Duration::ZERO => Ok(()),
            lasts => write!(f, ", {:.1} s", lasts.as_secs_f64()),
        }
    }
}

/// All that goes wrong in a run, in the order of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan(pub(crate) Vec<Step>);

impl Plan {
    /// Draws a plan.
    pub(crate) fn draw(
        rng: &mut StdRng,
        duration: Duration,
        kinds: &Kinds,
        backing: Backing,
    ) -> Plan {
        let possible = kinds.0.iter().copied().filter(|kind| kind.is_possible(backing));
        let possible: Vec<Kind> = possible.collect();
        let time = duration.saturating_sub(QUIET);
        let steps = possible.len().max((time.as_millis() / PACE.as_millis()) as usize);
        let gap = time / steps.max(1) as u32;
        let order = dealt(rng, &possible, steps);
        let mut decks = Decks::default();
        let step = |(n, kind): (usize, Kind)| {
            let at = QUIET + gap * n as u32 + gap.mul_f64(rng.random_range(0.0..0.8));
            let (fault, lasts) = fault(rng, kind, backing, &mut decks);
            Step { at, lasts: lasts.min(duration.saturating_sub(at)), fault }
        };
        Plan(order.into_iter().enumerate().map(step).collect())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

/// Which kind when: each possible one, then by weight; the long ones in the first half.
fn dealt(rng: &mut StdRng, possible: &[Kind], steps: usize) -> Vec<Kind> {
    if possible.is_empty() {
        return Vec::new();
    }
    let mut kinds = possible.to_vec();
    let deck: Vec<Kind> =
        possible.iter().flat_map(|kind| std::iter::repeat_n(*kind, kind.weight())).collect();
    while kinds.len() < steps {
        kinds.extend(deck.choose(rng));
    }
    let (long, mut order): (Vec<Kind>, Vec<Kind>) =
        kinds.into_iter().partition(|kind| kind.is_long());
    order.shuffle(rng);
    for kind in long {
        order.insert(rng.random_range(0..=order.len() / 2), kind);
    }
    order
}

/// Whom a kill is meant for.
#[derive(Clone, Copy, Debug)]
enum Target {
    Context(&'static str),
    Anybody,
    Provider,
}

/// What is dealt.
struct Decks {
    targets: Deck<Target>,
    whims: Deck<whim::Draw>,
}

impl Default for Decks {
    fn default() -> Decks {
        use Target::{Anybody, Context, Provider};
        // Money is between these three.
        let targets = [Context("payment"), Context("driving"), Provider, Anybody, Anybody];
        Decks { targets: Deck::new(&targets), whims: Deck::new(&whim::ALL) }
    }
}

/// One fault of this kind, and how long it lasts.
fn fault(rng: &mut StdRng, kind: Kind, backing: Backing, decks: &mut Decks) -> (Fault, Duration) {
    match kind {
        Kind::Kill => {
            let victim = match decks.targets.deal(rng) {
                Target::Provider => Victim::Provider,
                Target::Context(context) => {
                    Victim::Replica(Name { context, number: number(rng, backing) })
                }
                Target::Anybody => Victim::Replica(replica(rng, backing)),
            };
            (Fault::Kill(victim), seconds(rng, 0.0..5.0))
        }
        Kind::Provider => {
            let (whim, lasts) = decks.whims.deal(rng)(rng);
            (Fault::Provider(whim), lasts)
        }
        Kind::Freeze => (Fault::Freeze(replica(rng, backing)), seconds(rng, 1.0..8.0)),
        Kind::Broker => (Fault::Broker, seconds(rng, 0.5..5.0)),
        Kind::Database => {
            let end = if rng.random() { End::Kill } else { End::Abort };
            (Fault::Database(end), seconds(rng, 0.5..5.0))
        }
        Kind::Network => network(rng, backing),
        Kind::Redelivery if rng.random_bool(0.25) => {
            let writers = ["allocation", "driving", "payment"];
            (Fault::Republish(writers[rng.random_range(0..writers.len())]), Duration::ZERO)
        }
        Kind::Redelivery => {
            let order = if rng.random() { Order::Same } else { Order::Reversed };
            (Fault::Redelivery { events: rng.random_range(5..=60), order }, Duration::ZERO)
        }
        Kind::Poison => (Fault::Poison(rng.random_range(0..1_000)), Duration::ZERO),
        Kind::Scale => {
            (Fault::Scale(CONTEXTS[rng.random_range(0..CONTEXTS.len())]), seconds(rng, 6.0..15.0))
        }
        Kind::Rolling => (Fault::Rolling, Duration::ZERO),
    }
}

fn network(rng: &mut StdRng, backing: Backing) -> (Fault, Duration) {
    let peer = match (rng.random_range(0..5), backing) {
        (0, _) => Peer::Neighbour,
        (1 | 2, Backing::Postgres) => Peer::Database,
        _ => Peer::Broker,
    };
    let contexts = match peer {
        Peer::Broker => CONTEXTS.as_slice(),
        Peer::Database => RELATIONAL.as_slice(),
        Peer::Neighbour => ["driving", "payment"].as_slice(),
    };
    let context = contexts[rng.random_range(0..contexts.len())];
    let number = rng.random_bool(0.6).then(|| number(rng, backing));
    let (trouble, lasts) = match rng.random_range(0..4) {
        0 => {
            let delay = Duration::from_millis(rng.random_range(50..=500));
            (Trouble::Delay(delay), seconds(rng, 2.0..8.0))
        }
        1 => (Trouble::BlackHole, seconds(rng, 2.0..10.0)),
        2 => (Trouble::Resets, seconds(rng, 1.0..4.0)),
        _ => (Trouble::Refused, seconds(rng, 1.0..6.0)),
    };
    (Fault::Network { context, number, peer, trouble }, lasts)
}

fn replica(rng: &mut StdRng, backing: Backing) -> Name {
    let context = CONTEXTS[rng.random_range(0..CONTEXTS.len())];
    Name { context, number: number(rng, backing) }
}

fn number(rng: &mut StdRng, backing: Backing) -> usize {
    rng.random_range(1..=replicas(backing))
}

/// How many replicas a context has.
pub(crate) const fn replicas(backing: Backing) -> usize {
    match backing {
        Backing::Postgres => REPLICAS,
        Backing::Sqlite => 1,
    }
}

fn seconds(rng: &mut StdRng, range: std::ops::Range<f64>) -> Duration {
    Duration::from_millis((rng.random_range(range) * 1e3) as u64)
}
