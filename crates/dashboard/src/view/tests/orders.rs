//! Each context publishes by itself: what comes in which order across aggregates is chance, above all
//! when a stream is restored and its events are sent again. Only the order of each aggregate's own
//! events is kept, and the ride must be the same in all of them.

use proptest::prelude::*;
use proptest::sample::select;
use proto::driving::v1::driving::PaymentState;

use super::*;

/// How many events of the allocation, of the driving and of the payment have been folded.
type Known = [usize; 3];

/// Asserts that wherever two orders have folded the same events, the ride is the same. Each step is
/// taken from each such place once, so this holds for all orders.
fn assert_any_order(history: &History) {
    let [allocation, driving, payment] = [RIDE, DRIVING, PAYMENT].map(|aggregate| {
        let own = history.deliveries.iter().filter(|delivery| delivery.aggregate == aggregate);
        own.collect::<Vec<_>>()
    });
    let histories = [allocation, driving, payment];
    let mut rides = BTreeMap::<Known, DrivingInfo>::new();
    for a in 0..=histories[0].len() {
        for d in 0..=histories[1].len() {
            for p in 0..=histories[2].len() {
                let known = [a, d, p];
                let mut ways = (0..3).filter(|last| known[*last] > 0).map(|last| {
                    let mut before = known;
                    before[last] -= 1;
                    let delivery = histories[last][before[last]];
                    let ride = rides.get(&before).cloned();
                    let mut ride = ride.unwrap_or_else(|| DrivingInfo::before(delivery));
                    fold(&mut ride, delivery);
                    (last, ride)
                });
                let Some((_, ride)) = ways.next() else { continue };
                for (last, other) in ways {
                    let last = &histories[last][known[last] - 1].kind;
                    assert_eq!(other, ride, "{known:?}, {last} last");
                }
                rides.insert(known, ride);
            }
        }
    }
}

fn settled(state: PaymentState) -> DrivingPaymentSettled {
    let payment = PaymentId(PAYMENT).to_string();
    DrivingPaymentSettled { payment, payment_state: state.into(), ..Default::default() }
}

fn refunded(units: i64) -> PaymentRefunded {
    PaymentRefunded { refunded_amount: won(units), ..Default::default() }
}

fn driving_cancelled(reason: &str) -> DrivingCancelled {
    DrivingCancelled { reason: reason.to_owned(), ..Default::default() }
}

fn cancelled(reason: &str) -> AllocationCancelled {
    AllocationCancelled { reason: reason.to_owned(), ..Default::default() }
}

/// The events of a ride, in the order in which they happen.
macro_rules! history {
    ($($event:expr),+ $(,)?) => {{
        let mut history = History::default();
        $(history.then($event);)+
        history
    }};
}

#[test]
fn a_ride_is_the_same_in_whatever_order_its_contexts_are_heard() {
    use PaymentState as S;
    let (wish, call_off) = (CancelCause::Customer, CancelCause::Unanswered);
    for history in [
        // Paid at once, later, after a refusal; given back.
        history![
            requested(),
            opened(),
            approved(),
            started(),
            finished(),
            PaymentApproved::default(),
            settled(S::Approved),
        ],
        history![
            requested(),
            opened(),
            approved(),
            started(),
            finished(),
            PaymentDeferred::default(),
            settled(S::Deferred),
            PaymentApproved::default(),
            settled(S::Approved),
        ],
        history![
            requested(),
            opened(),
            approved(),
            started(),
            finished(),
            PaymentDeclined::default(),
            settled(S::Declined),
            PaymentApproved::default(),
            settled(S::Approved),
            refunded(1_000),
            settled(S::Refunded),
            refunded(3_000),
        ],
        // Cancelled before a driver came, and after one had accepted.
        history![
            requested(),
            opened(),
            cancel_requested(wish),
            driving_cancelled("too long"),
            cancelled("too long"),
        ],
        history![
            requested(),
            opened(),
            approved(),
            cancel_requested(wish),
            driving_cancelled("too long"),
            cancelled("far too long"),
        ],
        // A cancel that came too late.
        history![
            requested(),
            opened(),
            approved(),
            cancel_requested(wish),
            started(),
            cancel_rejected(D::Started),
            finished(),
            PaymentApproved::default(),
            settled(S::Approved),
        ],
        // Nobody answers; somebody does at the last moment; the customer is tired of it by then.
        history![
            requested(),
            opened(),
            cancel_requested(call_off),
            driving_cancelled(""),
            AllocationExpired::default(),
        ],
        history![
            requested(),
            opened(),
            cancel_requested(call_off),
            approved(),
            cancel_rejected(D::Approved),
            started(),
            finished(),
            PaymentApproved::default(),
        ],
        history![
            requested(),
            opened(),
            approved(),
            cancel_requested(call_off),
            cancel_requested(wish),
            cancel_rejected(D::Approved),
            driving_cancelled("tired"),
            cancelled("tired"),
        ],
    ] {
        assert_any_order(&history);
    }
}

/// Adds an event to a history.
type Happens = fn(&mut History) -> Delivery;

/// Everything that can happen.
const ANYTHING: [Happens; 19] = [
    |history| history.then(requested()),
    |history| history.then(cancel_requested(CancelCause::Customer)),
    |history| history.then(cancel_requested(CancelCause::Unanswered)),
    |history| history.then(cancelled("")),
    |history| history.then(cancelled("too long")),
    |history| history.then(AllocationExpired::default()),
    |history| history.then(opened()),
    |history| history.then(approved()),
    |history| history.then(started()),
    |history| history.then(finished()),
    |history| history.then(driving_cancelled("tired")),
    |history| history.then(cancel_rejected(D::Approved)),
    |history| history.then(cancel_rejected(D::Started)),
    |history| history.then(settled(PaymentState::Deferred)),
    |history| history.then(settled(PaymentState::Approved)),
    |history| history.then(PaymentApproved::default()),
    |history| history.then(PaymentDeferred::default()),
    |history| history.then(PaymentDeclined::default()),
    |history| history.then(refunded(1_000)),
];

proptest! {
    /// Not even what can never happen is told in two ways.
    #[test]
    fn no_history_depends_on_the_order_across_aggregates(
        happens in proptest::collection::vec(select(&ANYTHING[..]), 1..12),
    ) {
        let mut history = History::default();
        for happens in happens {
            happens(&mut history);
        }
        assert_any_order(&history);
    }
}
