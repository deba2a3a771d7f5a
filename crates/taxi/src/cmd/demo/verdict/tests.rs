//! One sound course, and one thing wrong with it at a time.

use std::collections::BTreeMap;

use kernel::Timestamp;
use tokio::time::Instant;

use super::super::debt::Debt;
use super::super::ledger::Ride;
use super::super::outage::Moment;
use super::super::scenario::Scenario;
use super::super::witness::{Breaker, Breakers};
use super::*;

/// A demo of three rides, one in each phase; the fault lasts from the tenth second to the fifteenth.
struct Scene {
    origin: Instant,
    course: Course,
    ledger: Ledger,
    fees: Vec<Fee>,
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn time(at: f64) -> Timestamp {
    Timestamp::default().plus(seconds(at))
}

impl Scene {
    fn of(scenario: Scenario, meanwhile: PaymentState) -> Scene {
        let origin = Instant::now();
        let moment = |at| Moment { at: origin + seconds(at), time: time(at) };
        let course = Course {
            fault: scenario.fault().expect("something goes wrong"),
            began: origin,
            set: moment(10.0),
            cleared: moment(15.0),
            breakers: Breakers::default(),
        };
        let call = |at| Call { began: origin + seconds(at), took: seconds(0.01), tries: 1 };
        let ride = |begin: f64, fee| Ride {
            calls: BTreeMap::from([
                (Command::Request, call(begin)),
                (Command::Accept, call(begin + 1.0)),
                (Command::Start, call(begin + 2.0)),
                (Command::Finish, call(begin + 3.0)),
            ]),
            fee: Some(fee),
            ..Ride::default()
        };
        let approved = PaymentState::Approved;
        let rides = vec![ride(1.0, approved), ride(11.0, meanwhile), ride(16.0, approved)];
        let fee = |(ride, taken)| Fee {
            ride,
            label: format!("ride {ride}"),
            approved: Some(time(taken)),
            ..Fee::default()
        };
        let fees = [4.0, 18.0, 19.0].into_iter().enumerate().map(fee).collect();
        let mut scene =
            Scene { origin, course, ledger: Ledger { rides, ..Ledger::default() }, fees };
        scene.breaker(&[(0.0, 7, 7, true), (14.0, 8, 7, false), (17.0, 8, 8, true)]);
        scene
    }

    /// Payment is down.
    fn down() -> Scene {
        Scene::of(Scenario::PaymentDown, PaymentState::Deferred)
    }

    /// The provider declines, and the rider settles the fee later.
    fn declined() -> Scene {
        let mut scene = Scene::of(Scenario::PaymentDeclined, PaymentState::Declined);
        let (refusal, settled) = (REFUSAL.to_owned(), Some(SETTLED.to_owned()));
        scene.fees[1].declined = true;
        scene.ledger.debts = vec![Debt { rider: 1, ride: 1, refusal, settled }];
        scene
    }

    /// What is seen of driving's breaker.
    fn breaker(&mut self, seen: &[(f64, u64, u64, bool)]) {
        self.course.breakers = Breakers::default();
        for (at, opened, closed, is_closed) in seen.iter().copied() {
            let breaker = Breaker { opened, closed, is_closed };
            let now = self.origin + seconds(at);
            self.course.breakers.saw(now, BTreeMap::from([(DRIVINGS, breaker)]));
        }
    }

    fn call(&mut self, ride: usize, command: Command) -> &mut Call {
        self.ledger.rides[ride].calls.get_mut(&command).expect("there")
    }

    fn violations(&self) -> Vec<String> {
        let label = |ride| format!("ride {ride}");
        let deadline = Duration::from_millis(800);
        let Scene { course, ledger, fees, .. } = self;
        Evidence { course, ledger, fees, deadline, slack: 1, label: &label }.violations()
    }
}

#[track_caller]
fn assert_wrong(mut scene: Scene, change: impl FnOnce(&mut Scene), says: &str) {
    change(&mut scene);
    let said = scene.violations();
    assert!(said.iter().any(|it| it.starts_with(says)), "{says:?} is not in {said:#?}");
}

#[test]
fn a_sound_course_is_sound() {
    for scene in [
        Scene::down(),
        Scene::declined(),
        Scene::of(Scenario::PaymentSlow, PaymentState::Deferred),
        Scene::of(Scenario::PaymentFlaky, PaymentState::Deferred),
        Scene::of(Scenario::AnswerLost, PaymentState::Deferred),
    ] {
        assert_eq!(scene.violations(), [""; 0], "{:?}", scene.course.fault);
    }
}

#[test]
fn nobody_waits_for_payment() {
    let slow = |it: &mut Scene| it.call(1, Command::Finish).took = seconds(1.9);
    assert_wrong(Scene::down(), slow, "ride 1: its finish took 1.9s, not 1.8s");
    let twice = |it: &mut Scene| it.call(1, Command::Finish).tries = 2;
    assert_wrong(Scene::down(), twice, "ride 1: Finish failed 1 times before it was done");
}

#[test]
fn nobody_else_feels_it() {
    for command in [Command::Request, Command::Accept, Command::Start] {
        let failed = |it: &mut Scene| it.call(1, command).tries = 3;
        let says = format!("ride 1: {command:?} failed 2 times");
        assert_wrong(Scene::down(), failed, &says);
    }
    let slow = |it: &mut Scene| it.call(1, Command::Request).took = seconds(0.6);
    assert_wrong(Scene::down(), slow, "asking for a car took 600.0ms (p99) during the fault");
    let nobody = |it: &mut Scene| it.ledger.rides[1].calls.clear();
    assert_wrong(Scene::down(), nobody, "nobody asked for a car");

    // On a machine that is as slow before, that is what it takes.
    let mut scene = Scene::down();
    scene.call(0, Command::Request).took = seconds(0.4);
    scene.call(1, Command::Request).took = seconds(0.9);
    assert_eq!(scene.violations(), [""; 0]);
}

#[test]
fn a_fault_without_effect_shows_nothing() {
    let approved = |it: &mut Scene| it.ledger.rides[1].fee = Some(PaymentState::Approved);
    let says = "ride 1: its driver was told PAYMENT_STATE_APPROVED, and payment could not know";
    assert_wrong(Scene::down(), approved, says);
    let flaky = Scene::of(Scenario::PaymentFlaky, PaymentState::Approved);
    assert_wrong(flaky, |_| {}, "the fault has deferred no fee");
    let taken = |it: &mut Scene| it.fees[1].declined = false;
    assert_wrong(Scene::declined(), taken, "the fault has declined no fee");
}

#[test]
fn the_breaker_opens_and_closes() {
    let never = |it: &mut Scene| it.breaker(&[(0.0, 7, 7, true)]);
    assert_wrong(Scene::down(), never, "driving's breaker never opened");
    let open = |it: &mut Scene| it.breaker(&[(0.0, 7, 7, true), (14.0, 8, 7, false)]);
    assert_wrong(Scene::down(), open, "driving's breaker has not closed again");
    let early = |it: &mut Scene| it.breaker(&[(0.0, 7, 7, true), (9.0, 8, 8, true)]);
    assert_wrong(Scene::down(), early, "driving's breaker opened while all was well");

    let mut provider = Scene::of(Scenario::AnswerLost, PaymentState::Deferred);
    never(&mut provider);
    assert_eq!(provider.violations(), [""; 0], "payment itself answers");
}

#[test]
fn the_last_fee_is_taken_soon() {
    let never = |it: &mut Scene| it.fees[1].approved = None;
    assert_wrong(Scene::down(), never, "ride 1: its fee has not been taken");
    let late = |it: &mut Scene| it.fees[1].approved = Some(time(15.0 + 20.1));
    assert_wrong(Scene::down(), late, "ride 1: its fee was taken 20.1s after the fault's end");
    let mut scene = Scene::down();
    scene.fees[2].approved = Some(time(60.0));
    assert_eq!(scene.violations(), [""; 0], "that was no fault's fault");
}

#[test]
fn whoever_owes_a_fee_settles_it_first() {
    let granted = |it: &mut Scene| it.ledger.debts[0].refusal = "OK".to_owned();
    assert_wrong(Scene::declined(), granted, "ride 1: its rider owes the fee, and hears \"OK\"");
    let refused = |it: &mut Scene| it.ledger.debts[0].settled = Some("STATE_DECLINED".to_owned());
    let says = "ride 1: its rider settles the fee, and hears Some(\"STATE_DECLINED\")";
    assert_wrong(Scene::declined(), refused, says);
    let forgot = |it: &mut Scene| it.ledger.debts[0].settled = None;
    assert_wrong(Scene::declined(), forgot, "ride 1: its rider settles the fee, and hears None");
    let nobody = |it: &mut Scene| it.ledger.debts.clear();
    assert_wrong(Scene::declined(), nobody, "ride 1: its fee was declined, and nobody owes it");

    let mut later = Scene::declined();
    later.ledger.rides[1].fee = Some(PaymentState::Deferred);
    assert_eq!(later.violations(), [""; 0], "payment was busy, and it was declined a bit later");
}
