//! What the people of the city have been told: the demo's own record, which the service's must match.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use proto::allocation::v1::allocation::State as AllocationState;
use proto::driving::v1::driving::PaymentState;
use serde::Serialize;
use tokio::time::Instant;

use super::debt::Debt;
use super::places::Lang;
use super::report::won;

/// How many of the last happenings are shown.
const RECENT: usize = 6;

/// What people ask for, by the rpc that does it; of those a ride has seen, the greatest is the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Command {
    /// RequestAllocation.
    Request,
    /// AcceptDriving.
    Accept,
    /// StartDriving.
    Start,
    /// CancelAllocation.
    Cancel,
    /// FinishDriving.
    Finish,
}

impl Command {
    /// All of them.
    pub(super) const ALL: [Command; 5] =
        [Command::Request, Command::Accept, Command::Start, Command::Cancel, Command::Finish];
}

/// How far a ride has come, as far as its people know; it never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Nobody has asked yet.
    #[default]
    Planned,
    /// The rider waits for a driver.
    Asked,
    /// A driver is on the way.
    Accepted,
    /// The rider is on board.
    Driving,
    /// Arrived.
    Finished,
    /// Cancelled.
    Cancelled,
    /// No driver came in time.
    Expired,
    /// It could not even be asked for.
    Refused,
}

impl Stage {
    /// What an allocation's state tells about the ride; CANCELLING tells nothing yet.
    pub(super) fn of(state: AllocationState) -> Option<Stage> {
        Some(match state {
            AllocationState::Requested => Stage::Asked,
            AllocationState::Approved => Stage::Accepted,
            AllocationState::DrivingStarted => Stage::Driving,
            AllocationState::DrivingFinished => Stage::Finished,
            AllocationState::Cancelled => Stage::Cancelled,
            AllocationState::Expired => Stage::Expired,
            AllocationState::Cancelling | AllocationState::Unspecified => return None,
        })
    }

    /// Whether nothing more can happen to the ride.
    pub(super) fn is_final(self) -> bool {
        self >= Stage::Finished
    }
}

/// What a rider who cancels is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    /// It is cancelled.
    Done,
    /// It will be decided later.
    Pending,
    /// The driving had started before.
    TooLate,
    /// Something else: code, reason and message.
    Refused(String),
}

/// What a driver who accepts is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Accept {
    /// The ride is theirs.
    Won,
    /// ALREADY_ACCEPTED: another driver was first.
    Lost,
    /// DRIVER_BUSY: they have another ride.
    Busy,
    /// DRIVING_CLOSED or NOT_FOUND: there is nothing to accept any more.
    Gone,
    /// Something else: code, reason and message.
    Refused(String),
}

/// A command that did what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// When it was asked for first.
    pub(super) began: Instant,
    /// From then to the answer.
    pub(super) took: Duration,
    /// How often it was asked for; once, if nothing failed.
    pub(super) tries: u32,
}

/// One ride as its people know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ride {
    /// How far it has come.
    pub(super) stage: Stage,
    /// The allocation's name, once the rider has it.
    pub(super) allocation: String,
    /// Which drivers were told that it is theirs; more than one is a scandal.
    pub(super) drivers: Vec<usize>,
    /// What the rider was told who cancelled.
    pub(super) cancel: Option<Cancel>,
    /// The consistency tokens of its commands.
    pub(super) wrote: BTreeMap<Command, String>,
    /// How long they took.
    pub(super) calls: BTreeMap<Command, Call>,
    /// The fare in won, as the driver was told it.
    pub(super) fare: Option<i64>,
    /// What had become of the fee, as the driver was told it.
    pub(super) fee: Option<PaymentState>,
    /// Its driver has left, and takes another.
    pub(super) left: bool,
}

/// What kind of contest it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Several free drivers accept one ride at the same instant.
    Race,
    /// One free driver accepts two rides at the same instant.
    Double,
    /// Free drivers accept what was accepted before.
    Late,
}

/// Several accepts at the same instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contest {
    /// What kind.
    pub(super) kind: Kind,
    /// Who and what it was about, for the sentence that tells what was wrong.
    pub(super) about: String,
    /// What each accept was told.
    pub(super) told: Vec<Accept>,
}

/// Something worth telling about a ride.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    /// The rider has asked.
    Asked,
    /// A driver has accepted.
    Accepted(String),
    /// A driver was faster than others.
    Raced(String, usize),
    /// The rider is on board.
    Started(String),
    /// Arrived; the fare in won.
    Finished(i64),
    /// The fee was declined, and the rider wants another ride.
    Owing,
    /// The rider settles the fee.
    Settled,
    /// The rider has cancelled.
    Cancelled,
    /// The rider wanted to cancel.
    TooLate,
    /// No driver came.
    Expired,
}

impl Happening {
    /// A few words about it.
    pub(super) fn said_in(&self, lang: Lang) -> String {
        use Happening::*;
        use Lang::{En, Ko};
        match (self, lang) {
            (Asked, En) => "asks for a car".to_owned(),
            (Asked, Ko) => "차를 부릅니다".to_owned(),
            (Accepted(driver), En) => format!("accepted by {driver}"),
            (Accepted(driver), Ko) => format!("{driver} 기사님이 수락했습니다"),
            (Raced(driver, drivers), En) => format!("{driver} was the first of {drivers} drivers"),
            (Raced(driver, drivers), Ko) => {
                format!("{driver} 기사님이 {drivers}명 중 먼저 수락했습니다")
            }
            (Started(driver), En) => format!("on board with {driver}"),
            (Started(driver), Ko) => format!("{driver} 기사님과 출발했습니다"),
            (Finished(fare), En) => format!("arrived for {}", won(*fare, lang)),
            (Finished(fare), Ko) => format!("도착했습니다, 요금 {}", won(*fare, lang)),
            (Owing, En) => "owes the fee and gets no other car".to_owned(),
            (Owing, Ko) => "미납 요금이 있어 차를 부르지 못합니다".to_owned(),
            (Settled, En) => "settles the fee".to_owned(),
            (Settled, Ko) => "미납 요금을 냅니다".to_owned(),
            (Cancelled, En) => "cancelled".to_owned(),
            (Cancelled, Ko) => "취소했습니다".to_owned(),
            (TooLate, En) => "too late to cancel: on board already".to_owned(),
            (TooLate, Ko) => "이미 출발해서 취소하지 못했습니다".to_owned(),
            (Expired, En) => "no driver came".to_owned(),
            (Expired, Ko) => "배정된 기사님이 없습니다".to_owned(),
        }
    }
}

/// The record of a whole demo.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The rides, in the order of the plan.
    pub(super) rides: Vec<Ride>,
    /// Which ride an allocation is.
    pub(super) known: HashMap<String, usize>,
    /// Which ride a rider has begun last.
    pub(super) current: Vec<Option<usize>>,
    /// How long after the finish the dashboard had it.
    pub(super) shown: Vec<Duration>,
    /// How often a driver was not the first.
    pub(super) lost: usize,
    /// The contests of a driver race.
    pub(super) contests: Vec<Contest>,
    /// The riders whose fee was declined.
    pub(super) debts: Vec<Debt>,
    /// What goes wrong on purpose right now.
    pub(super) fault: Option<String>,
    /// What nobody expected, each as a sentence.
    pub(super) troubles: Vec<String>,
    /// The last happenings, oldest first.
    pub(super) recent: VecDeque<String>,
}

impl Ledger {
    /// A record of this many rides and riders, all of it ahead.
    pub(super) fn new(rides: usize, riders: usize) -> Ledger {
        Ledger {
            rides: vec![Ride::default(); rides],
            current: vec![None; riders],
            ..Ledger::default()
        }
    }

    /// A ride has come at least this far.
    pub(super) fn reached(&mut self, ride: usize, stage: Stage) {
        self.rides[ride].stage = self.rides[ride].stage.max(stage);
    }

    /// A command did what was asked.
    pub(super) fn done(&mut self, ride: usize, command: Command, call: Call, wrote: String) {
        self.rides[ride].calls.insert(command, call);
        self.rides[ride].wrote.insert(command, wrote);
    }

    /// Whether a rider has a declined fee that they have not settled.
    pub(super) fn owes(&self, rider: usize) -> bool {
        self.debts.iter().any(|debt| debt.rider == rider && debt.settled.is_none())
    }

    /// Whether a rider had one, and has settled it.
    pub(super) fn has_settled(&self, rider: usize) -> bool {
        !self.owes(rider) && self.debts.iter().any(|debt| debt.rider == rider)
    }

    /// A rider has tried to settle what they owe; this came of it.
    pub(super) fn settled(&mut self, rider: usize, how: String) {
        let open = |debt: &&mut Debt| debt.rider == rider && debt.settled.is_none();
        if let Some(debt) = self.debts.iter_mut().find(open) {
            debt.settled = Some(how);
        }
    }

    /// Something happened that is worth a line.
    pub(super) fn tell(&mut self, line: String) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(line);
    }

    /// How many rides are at this stage.
    pub(super) fn at(&self, stage: Stage) -> usize {
        self.rides.iter().filter(|ride| ride.stage == stage).count()
    }

    /// How many rides have come to an end.
    pub(super) fn ended(&self) -> usize {
        self.rides.iter().filter(|ride| ride.stage.is_final()).count()
    }

    /// How long all commands of a kind took.
    pub(super) fn calls(&self, command: Command) -> impl Iterator<Item = Call> {
        self.rides.iter().filter_map(move |ride| ride.calls.get(&command).copied())
    }

    /// All fares, in won.
    pub(super) fn fares(&self) -> i64 {
        self.rides.iter().filter_map(|ride| ride.fare).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ride_never_goes_back() {
        let mut ledger = Ledger::new(1, 1);
        for (told, known) in [
            (Stage::Accepted, Stage::Accepted),
            (Stage::Asked, Stage::Accepted),
            (Stage::Finished, Stage::Finished),
            (Stage::Driving, Stage::Finished),
        ] {
            ledger.reached(0, told);
            assert_eq!(ledger.rides[0].stage, known);
        }
        assert_eq!((ledger.at(Stage::Finished), ledger.ended()), (1, 1));
    }

    #[test]
    fn the_last_command_of_a_ride_is_the_greatest() {
        let mut ledger = Ledger::new(1, 1);
        for command in [Command::Accept, Command::Request, Command::Finish, Command::Cancel] {
            let call = Call { began: Instant::now(), took: Duration::ZERO, tries: 1 };
            ledger.done(0, command, call, format!("{command:?}"));
        }
        let last = ledger.rides[0].wrote.values().next_back();
        assert_eq!(last.map(String::as_str), Some("Finish"));
    }

    #[test]
    fn only_the_last_happenings_are_kept() {
        let mut ledger = Ledger::new(0, 0);
        (0..9).for_each(|line| ledger.tell(line.to_string()));
        assert_eq!(ledger.recent, ["3", "4", "5", "6", "7", "8"]);
    }
}
