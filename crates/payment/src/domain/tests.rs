//! Every transition; every order of them is in [`sequences`].

mod sequences;

use std::collections::BTreeSet;

use super::*;

const RETRY: Retry = Retry { first: Duration::from_secs(1), max: Duration::from_secs(60) };

fn fee() -> Fee {
    let (driving, allocation) = (DrivingId(Uuid::from_u128(2)), AllocationId(Uuid::nil()));
    Fee::new(driving, allocation, CustomerId::from_subject("C1"), Money::won(3000)).expect("a fee")
}

const ID: PaymentId = PaymentId(Uuid::from_u128(1));

fn requested() -> Payment {
    Payment::request(ID, fee(), Timestamp::default()).0
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::default().plus(Duration::from_secs(seconds))
}

fn claim(id: u128, seconds: u64) -> Claim {
    Claim { id: Uuid::from_u128(id), time: at(seconds) }
}

fn wish(key: u128, won: Option<i64>) -> RefundWish {
    let amount = won.map(Money::won);
    RefundWish { key: Uuid::from_u128(key), amount, reason: "a detour".to_owned() }
}

/// A payment in this state; when IN_FLIGHT, claimed by the first attempt since time 0.
fn in_state(state: State) -> Payment {
    let mut payment = Payment::pay(ID, fee(), claim(1, 0)).0;
    let said = match state {
        State::Requested => return requested(),
        State::InFlight => Ok(vec![]),
        State::Approved => payment.approved(claim(1, 0), "ch_1".to_owned(), at(1)),
        State::Deferred => payment.deferred(claim(1, 0), at(1), RETRY),
        State::Declined => payment.declined(claim(1, 0), "no money".to_owned()),
        State::Unknown => payment.unknown(claim(1, 0), at(1), RETRY),
        State::Refunded => {
            payment = refunding();
            payment.refunded(claim(1, 0))
        }
    };
    said.expect("allowed");
    payment
}

/// An approved payment, 1000 of which are being given back since time 0.
fn refunding() -> Payment {
    let mut payment = in_state(State::Approved);
    payment.refund(wish(7, Some(1000)), claim(1, 0)).expect("taken");
    payment
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::PaymentApproved => "approved",
        Event::PaymentDeferred => "deferred",
        Event::PaymentDeclined => "declined",
        Event::PaymentRefunded(_) => "refunded",
    }
}

type Decision = fn(&mut Payment) -> Result<Vec<Event>, Rejection>;
type Said = Result<(State, &'static str), &'static str>;

/// What all these decisions say of payments in all states, one line a state.
fn table(decisions: &[Decision], expected: &[(Payment, &[Said])]) {
    for (payment, outcomes) in expected {
        assert_eq!(decisions.len(), outcomes.len());
        for (column, (decide, outcome)) in decisions.iter().zip(*outcomes).enumerate() {
            let mut after = payment.clone();
            let said = decide(&mut after).map_err(|no| no.reason);
            let event = |events: Vec<Event>| events.first().map_or("", name);
            let said = said.map(|events| (after.state, event(events)));
            assert_eq!(said, *outcome, "{:?}, column {column}", payment.state);
        }
    }
}

#[test]
fn the_transitions_of_a_charge() {
    use State::*;
    let decisions: [Decision; 11] = [
        |payment| payment.claim(claim(2, 9)),
        |payment| payment.claim(claim(2, 10)),
        |payment| payment.settle(claim(2, 9)),
        |payment| payment.settle(claim(2, 10)),
        |payment| payment.take_up(claim(2, 9)),
        |payment| payment.take_up(claim(2, 10)),
        |payment| payment.approved(claim(1, 0), "ch_1".to_owned(), at(1)),
        |payment| payment.declined(claim(1, 0), "no money".to_owned()),
        |payment| payment.deferred(claim(1, 0), at(1), RETRY),
        |payment| payment.unknown(claim(1, 0), at(1), RETRY),
        |payment| payment.approved(claim(2, 0), "ch_1".to_owned(), at(1)),
    ];
    let flies: Said = Ok((InFlight, ""));
    let (busy, settled): (Said, Said) = (Err("PAYMENT_IN_FLIGHT"), Err("PAYMENT_NOT_OUTSTANDING"));
    let (early, late): (Said, Said) = (Err("PAYMENT_NOT_DUE"), Err("ATTEMPT_OVERTAKEN"));
    let waits = [flies, flies, flies, flies, flies, flies, late, late, late, late, late];
    let done = [settled, settled, settled, settled, early, early, late, late, late, late, late];
    let refused = [settled, settled, flies, flies, early, early, late, late, late, late, late];
    let in_flight = [
        busy,
        flies,
        busy,
        flies,
        early,
        flies,
        Ok((Approved, "approved")),
        Ok((Declined, "declined")),
        Ok((Deferred, "deferred")),
        Ok((Unknown, "deferred")),
        late,
    ];
    let mut refunding_row = done;
    refunding_row[5] = Ok((Approved, ""));
    table(
        &decisions,
        &[
            (in_state(Requested), &waits),
            (in_state(InFlight), &in_flight),
            (in_state(Approved), &done),
            (in_state(Deferred), &waits),
            (in_state(Declined), &refused),
            (in_state(Unknown), &waits),
            (in_state(Refunded), &done),
            (refunding(), &refunding_row),
        ],
    );
}

#[test]
fn the_transitions_of_a_refund() {
    use State::*;
    let decisions: [Decision; 8] = [
        |payment| payment.refund(wish(8, Some(1000)), claim(2, 9)),
        |payment| payment.refund(wish(8, None), claim(2, 9)),
        |payment| payment.refund(wish(8, Some(3001)), claim(2, 9)),
        |payment| payment.refund(wish(8, Some(0)), claim(2, 9)),
        |payment| payment.refunded(claim(1, 0)),
        |payment| payment.refund_refused(claim(1, 0)),
        |payment| payment.refund_unknown(claim(1, 0), at(1), RETRY),
        |payment| payment.refunded(claim(2, 0)),
    ];
    let (nothing, busy): (Said, Said) = (Err("PAYMENT_NOT_TAKEN"), Err("REFUND_IN_PROGRESS"));
    let (much, none): (Said, Said) = (Err("REFUND_EXCEEDS_PAYMENT"), Err("INVALID_AMOUNT"));
    let late: Said = Err("ATTEMPT_OVERTAKEN");
    let not_taken = [nothing, nothing, nothing, none, late, late, late, late];
    let taken = |state| [Ok((state, "")), Ok((state, "")), much, none, late, late, late, late];
    let under_way = [
        busy,
        busy,
        busy,
        none,
        Ok((Refunded, "refunded")),
        Ok((Approved, "")),
        Ok((Approved, "")),
        late,
    ];
    table(
        &decisions,
        &[
            (in_state(Requested), &not_taken),
            (in_state(InFlight), &not_taken),
            (in_state(Approved), &taken(Approved)),
            (in_state(Deferred), &not_taken),
            (in_state(Declined), &not_taken),
            (in_state(Unknown), &not_taken),
            (in_state(Refunded), &taken(Refunded)),
            (refunding(), &under_way),
        ],
    );
}

#[test]
fn the_pause_doubles_up_to_its_maximum_less_up_to_a_half() {
    let pauses = |jitter| {
        [1, 2, 3, 7, 40, u32::MAX].map(|attempts| RETRY.pause(attempts, jitter).as_millis())
    };
    assert_eq!(pauses(0.0), [1000, 2000, 4000, 60_000, 60_000, 60_000]);
    assert_eq!(pauses(1.0), [500, 1000, 2000, 30_000, 30_000, 30_000]);
    let deferred = in_state(State::Deferred);
    assert_eq!(deferred.due_time(), deferred.next_attempt_time);
    let pause = |payment: &Payment| payment.due_time().expect("a time").since(at(1));
    assert!((RETRY.pause(1, 1.0)..=RETRY.pause(1, 0.0)).contains(&pause(&deferred)));
    let others = (1..100u128).map(|id| {
        let payment = Payment::defer(PaymentId(Uuid::from_u128(id)), fee(), at(1), RETRY).0;
        pause(&payment)
    });
    assert!(others.collect::<BTreeSet<_>>().len() > 90, "hardly two of them wait equally long");
}

#[test]
fn only_the_providers_word_ends_a_doubt() {
    let mut payment = in_state(State::InFlight);
    payment.claim(claim(2, 10)).expect("the first attempt has died");
    payment.deferred(claim(2, 10), at(11), RETRY).expect("in flight");
    assert_eq!(payment.state, State::Unknown, "the first attempt may have taken the fee");
    payment.claim(claim(3, 20)).expect("unknown");
    payment.declined(claim(3, 20), "no money".into()).expect("in flight");
    assert_eq!((payment.state, payment.in_doubt), (State::Declined, false));
}

#[test]
fn a_fee_that_nobody_has_time_for_is_deferred_at_once() {
    let (payment, events) = Payment::defer(ID, fee(), at(1), RETRY);
    assert_eq!((payment.state, payment.attempt_count), (State::Deferred, 0));
    assert_eq!(events, [Event::PaymentDeferred]);
    assert!(payment.next_attempt_time > Some(at(1)) && payment.claim.is_none());
}

#[test]
fn what_is_refused_is_settled_under_a_new_key() {
    let mut payment = in_state(State::Declined);
    let refused = payment.charge_key();
    payment.settle(claim(2, 2)).expect("declined");
    assert_ne!(payment.charge_key(), refused);
    assert_eq!((payment.decline_reason.as_str(), payment.in_doubt), ("", false));
    let told = payment.deferred(claim(2, 2), at(3), RETRY).expect("in flight");
    assert_eq!(told, [Event::PaymentDeferred], "after a refusal it is news");

    let mut payment = in_state(State::Unknown);
    let open = payment.charge_key();
    payment.settle(claim(2, 2)).expect("unknown");
    assert_eq!((payment.charge_key(), payment.in_doubt), (open, true));
}

#[test]
fn a_hint_makes_due_what_waits_and_nothing_else() {
    for state in [State::Requested, State::Deferred, State::Unknown] {
        let mut payment = Payment { next_attempt_time: Some(at(50)), ..in_state(state) };
        assert_eq!(payment.hint(at(5)), []);
        assert_eq!((payment.state, payment.due_time()), (state, Some(at(5))));
        payment.hint(at(6));
        assert_eq!(payment.due_time(), Some(at(5)), "never later");
    }
    for state in [State::InFlight, State::Approved, State::Declined, State::Refunded] {
        let mut payment = in_state(state);
        payment.hint(at(5));
        assert_eq!(payment, in_state(state));
    }
    let mut payment = refunding();
    payment.refund_unknown(claim(1, 0), at(1), RETRY).expect("under way");
    payment.hint(at(1));
    assert_eq!(payment.due_time(), Some(at(1)));
}

#[test]
fn a_refund_without_an_amount_gives_back_all_that_is_left() {
    let mut payment = in_state(State::Refunded);
    payment.refund(wish(8, None), claim(2, 2)).expect("something is left");
    assert_eq!(payment.refund.as_ref().map(|refund| refund.amount), Some(Money::won(2000)));
    payment.refunded(claim(2, 2)).expect("under way");
    assert_eq!(payment.refunded_amount, fee().amount);
    let said = payment.refund(wish(9, None), claim(3, 3)).map_err(|no| no.reason);
    assert_eq!(said, Err("REFUND_EXCEEDS_PAYMENT"));
}

#[test]
fn a_reason_has_an_end() {
    let long = "왜".repeat(501);
    for reason in [long.as_str(), "line\nbreak"] {
        let mut payment = in_state(State::Approved);
        let wish = RefundWish { reason: reason.to_owned(), ..wish(8, None) };
        let said = payment.refund(wish, claim(2, 2)).map_err(|no| no.reason);
        assert_eq!(said, Err("INVALID_REASON"), "{reason:?}");
    }
}

#[test]
fn another_fee_for_the_same_driving_is_refused() {
    let payment = requested();
    assert_eq!(payment.require_same(&fee()), Ok(()));
    for other in [
        Fee { amount: Money::won(3001), ..fee() },
        Fee { customer: CustomerId::from_subject("C2"), ..fee() },
        Fee { allocation: AllocationId(Uuid::from_u128(9)), ..fee() },
    ] {
        let said = payment.require_same(&other).map_err(|no| no.reason);
        assert_eq!(said, Err("DRIVING_CHARGED_DIFFERENTLY"));
    }
    let Fee { driving, allocation, customer, .. } = fee();
    let nothing = Fee::new(driving, allocation, customer, Money::won(0));
    assert_eq!(nothing.map_err(|no| no.reason), Err("INVALID_AMOUNT"));
}

#[test]
fn the_key_belongs_to_the_driving() {
    let another = Payment { id: PaymentId(Uuid::from_u128(9)), ..requested() };
    assert_eq!(requested().charge_key(), another.charge_key());
    let first = Uuid::new_v5(&fee().driving.0, b"charge");
    assert_eq!(requested().charge_key(), first, "it has been handed out: it stays");
    assert_ne!(requested().outcome_cause(), in_state(State::InFlight).outcome_cause());
}
