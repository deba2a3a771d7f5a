use super::lines::{Key, LookUp, NotFound, Outcome, Provider as Keys, Record, Silence};
use super::*;
use crate::check::assert::{breaks, breaks_by, holds};

/// Two calls, the reconciler twice, two things that go wrong.
fn a_fee(lines: Lines) -> Charge {
    Charge { calls: 2, take_ups: 2, faults: 2, lines, ..Charge::default() }
}

#[test]
fn everything_holds_when_a_fee_is_taken() {
    let three_faults = Charge { take_ups: 3, faults: 3, ..a_fee(Lines::default()) };
    holds("a fee, three faults", three_faults, 20_000);
}

#[test]
fn everything_holds_when_a_refused_fee_is_settled() {
    let settled = Charge { calls: 1, settlements: 2, ..a_fee(Lines::default()) };
    holds("a fee, two settlements", settled, 40_000);
}

#[test]
fn everything_holds_when_a_fee_is_given_back() {
    let given_back = Charge { calls: 1, refunds: 2, faults: 3, ..a_fee(Lines::default()) };
    holds("a fee, two refunds", given_back, 20_000);
}

#[test]
fn everything_holds_when_all_of_it_comes_together() {
    let all = Charge { settlements: 1, refunds: 1, ..a_fee(Lines::default()) };
    holds("a fee, a settlement, a refund", all, 80_000);
}

/// The slow first attempt and the one that has taken over, each under its own key.
const TAKEN_TWICE: [&str; 7] = [
    "driving calls",
    "driving calls",
    "attempt 0 asks",
    "attempt 1 looks it up",
    "attempt 1 asks",
    "the charge of attempt 0 arrives: yes",
    "the charge of attempt 1 arrives: yes",
];

#[test]
fn a_key_for_each_attempt_takes_the_fee_twice() {
    let lines = Lines { key: Key::OfTheAttempt, ..Lines::default() };
    breaks("keys of attempts", a_fee(lines), &[TAKEN_ONCE, LEDGER_IS_TRUE, NOT_TAKEN_IS_TRUE]);
    breaks_by(a_fee(lines), TAKEN_ONCE, &TAKEN_TWICE);
}

#[test]
fn a_look_up_that_finds_nothing_decides_nothing() {
    let lines = Lines { not_found: NotFound::ForGood, ..Lines::default() };
    breaks("not found for good", a_fee(lines), &[TAKEN_ONCE, LEDGER_IS_TRUE, NOT_TAKEN_IS_TRUE]);
    // The look-up misses the request of attempt 0, which is on its way.
    breaks_by(a_fee(lines), TAKEN_ONCE, &TAKEN_TWICE);
}

#[test]
fn a_provider_without_keys_takes_the_fee_twice() {
    let lines = Lines { provider: Keys::IgnoresKeys, ..Lines::default() };
    breaks("no keys", a_fee(lines), &[TAKEN_ONCE, LEDGER_IS_TRUE, NOT_TAKEN_IS_TRUE]);
    breaks_by(a_fee(lines), TAKEN_ONCE, &TAKEN_TWICE);
}

#[test]
fn an_attempt_that_is_not_on_record_before_it_asks_leaves_no_trace() {
    let lines = Lines { record: Record::AfterAsking, ..Lines::default() };
    breaks("recorded after asking", a_fee(lines), &[NOT_TAKEN_IS_TRUE]);
    // From here on it may die, and the payment says that nobody has asked.
    breaks_by(a_fee(lines), NOT_TAKEN_IS_TRUE, &["driving calls", "attempt 0 asks"]);
}

#[test]
fn silence_does_not_mean_that_nothing_was_taken() {
    let lines = Lines { silence: Silence::NotCharged, ..Lines::default() };
    breaks("silence is a no", a_fee(lines), &[NOT_TAKEN_IS_TRUE]);
    breaks_by(
        a_fee(lines),
        NOT_TAKEN_IS_TRUE,
        &[
            "driving calls",
            "attempt 0 asks",
            "attempt 0 gives up waiting",
            "attempt 0 puts the outcome on record",
        ],
    );
}

#[test]
fn only_the_attempt_that_holds_the_claim_has_the_say() {
    let lines = Lines { outcome: Outcome::OfAnybody, ..Lines::default() };
    let rules = [LEDGER_IS_TRUE, NOT_TAKEN_IS_TRUE, SETTLED];
    breaks("an outcome of anybody", a_fee(lines), &rules);
    // Attempt 1 has taken over and then could not ask; that undoes what attempt 0 has learned.
    breaks_by(
        a_fee(lines),
        NOT_TAKEN_IS_TRUE,
        &[
            "driving calls",
            "driving calls",
            "attempt 0 asks",
            "attempt 1 looks it up",
            "attempt 1 cannot reach the provider",
            "the charge of attempt 0 arrives: yes",
            "attempt 0 puts the outcome on record",
            "attempt 1 puts the outcome on record",
        ],
    );
    // Both know that the fee is taken, and each writes it down.
    breaks_by(
        a_fee(lines),
        LEDGER_IS_TRUE,
        &[
            "driving calls",
            "driving calls",
            "attempt 0 asks",
            "the charge of attempt 0 arrives: yes",
            "attempt 0 puts the outcome on record",
            "attempt 1 looks it up",
            "attempt 1 puts the outcome on record",
        ],
    );
}

#[test]
fn with_one_key_the_look_up_is_for_prudence() {
    let lines = Lines { look_up: LookUp::Never, ..Lines::default() };
    holds("no look-up", a_fee(lines), 4_000);
}
