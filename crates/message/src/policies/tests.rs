//! Events in, messages out, with a real broker.

use kernel::{PageRequest, Uuid};
use proto::message::v1::message::Template;

use super::*;
use testkit::TestClock;

use crate::testing::{NOW, Nats, RIDE, event, requested};

fn telling(nats: &Nats) -> Telling {
    Telling {
        inbox: nats.inbox(),
        deferrals: deferrals(nats, 0),
        languages: Languages::new(nats.broker.clone()),
        clock: Arc::new(TestClock::at(NOW)),
    }
}

/// Those of test number n.
fn deferrals(nats: &Nats, n: usize) -> Deferrals {
    Deferrals::new(&nats.broker, &crate::Config { bucket: format!("TEST{n}") })
}

fn approved() -> DrivingApproved {
    DrivingApproved {
        allocation: format!("allocations/{RIDE}"),
        customer: "customers/C1".to_owned(),
        driver: "drivers/D%7C1".to_owned(),
        ..Default::default()
    }
}

async fn messages(telling: &Telling) -> Vec<Message> {
    let customer = CustomerId::from_subject("C1");
    let page = PageRequest { size: 50, after: None };
    telling.inbox.list(&customer, &page).await.expect("a list").items
}

#[tokio::test]
async fn an_event_is_told_once_in_the_language_of_its_ride() {
    let nats = Nats::start().await;
    let telling = telling(&nats);
    for _ in 0..2 {
        telling.apply(&event(1, &requested("en"))).await.expect("told");
        telling.apply(&event(2, &approved())).await.expect("told");
    }
    let [second, first] = &messages(&telling).await[..] else { panic!("not two messages") };
    assert_eq!(
        (first.template(), second.template()),
        (Template::AllocationRequested, Template::AllocationApproved)
    );
    assert!(first.text.contains("서울역") && second.text.contains("driver D|1"), "{second:?}");
    assert_eq!((first.language.as_str(), second.language.as_str()), ("en", "en"));
    assert_eq!(first.name, format!("messages/{}", Uuid::from_u128(1)));
    assert_eq!(first.allocation, format!("allocations/{RIDE}"));
    assert_eq!((first.state(), first.channel(), first.attempts), (State::Sent, Channel::Inbox, 1));
    assert_eq!((first.create_time, first.send_time), (Some(time(NOW)), Some(time(NOW))));
}

#[tokio::test]
async fn the_language_is_read_back_from_the_stream() {
    let nats = Nats::start().await;
    nats.publish("allocation", &event(1, &requested("en"))).await;
    let telling = telling(&nats);
    telling.apply(&event(2, &approved())).await.expect("told");
    assert_eq!(messages(&telling).await[0].language, "en");
}

#[tokio::test]
async fn an_unknown_language_is_korean() {
    let nats = Nats::start().await;
    let telling = telling(&nats);
    telling.apply(&event(2, &approved())).await.expect("told");
    assert_eq!(messages(&telling).await[0].language, "ko");
}

#[tokio::test]
async fn a_cancel_is_not_told() {
    let nats = Nats::start().await;
    let telling = telling(&nats);
    let cancelled = proto::allocation::v1::AllocationCancelled::default();
    telling.apply(&event(1, &cancelled)).await.expect("nothing to do");
    assert!(messages(&telling).await.is_empty());
}

#[tokio::test]
async fn an_event_without_its_data_is_refused_for_good() {
    let nats = Nats::start().await;
    let telling = telling(&nats);
    let nowhere = AllocationRequested { destination: None, ..requested("ko") };
    let nobody = DrivingApproved { driver: String::new(), ..approved() };
    let free = DrivingFinished { allocation: approved().allocation, ..Default::default() };
    for broken in [event(1, &nowhere), event(2, &nobody), event(3, &free)] {
        let refused = telling.apply(&broken).await;
        assert!(matches!(refused, Err(Failure::Rejected(_))), "{refused:?}");
    }
    assert!(messages(&telling).await.is_empty());
}

const DRIVING: Uuid = Uuid::from_u128(43);

/// One ride's names and fee in an event of its payment.
macro_rules! of_the_ride {
    ($event:ident $(, $field:ident: $value:expr)?) => {
        $event {
            allocation: format!("allocations/{RIDE}"),
            customer: "customers/C1".to_owned(),
            driving: format!("drivings/{DRIVING}"),
            amount: Some(proto::words::money(Money::won(12_000))),
            $($field: $value,)?
            ..Default::default()
        }
    };
}

/// What can be said of a payment, and by which context.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    /// By driving: the outcome of its own call.
    Settled(PaymentState),
    /// By payment, as the event with this number.
    Approved(i64),
    Deferred(i64),
    Declined(i64),
}

impl Said {
    fn event(self, id: usize) -> Delivery {
        let id = id as u128;
        match self {
            Said::Settled(state) => {
                event(id, &of_the_ride!(DrivingPaymentSettled, payment_state: state.into()))
            }
            Said::Approved(version) => {
                Delivery { version, ..event(id, &of_the_ride!(PaymentApproved)) }
            }
            Said::Deferred(version) => {
                Delivery { version, ..event(id, &of_the_ride!(PaymentDeferred)) }
            }
            Said::Declined(version) => {
                Delivery { version, ..event(id, &of_the_ride!(PaymentDeclined)) }
            }
        }
    }
}

/// The story of a payment, as its events come and as the customer hears it, by the places of the
/// events that are told.
#[tokio::test]
async fn that_a_fee_comes_later_is_told_once_and_never_behind_the_verdict() {
    use Said::*;
    const LATER: Said = Settled(PaymentState::Deferred);
    const PAID: Said = Settled(PaymentState::Approved);
    let nats = Nats::start().await;
    let table: &[(&[Said], &[usize])] = &[
        // Taken at once: driving says what payment says, and is not listened to.
        (&[Approved(1), PAID], &[0]),
        (&[PAID, Approved(1)], &[1]),
        // Payment could not be reached, and takes the fee when it is back.
        (&[LATER, Approved(1)], &[0, 1]),
        // Payment could not reach the provider; driving learns it from the answer, and again from
        // the event.
        (&[Deferred(1), LATER, LATER, Approved(2)], &[0, 3]),
        (&[LATER, Deferred(1), LATER, Approved(2)], &[0, 3]),
        // The answer was lost, and driving speaks when all is over.
        (&[Approved(1), LATER], &[0]),
        (&[Declined(1), LATER], &[0]),
        (&[Approved(2), Deferred(1), LATER], &[0]),
        // Declined, and settled at the first, the second or a deferred attempt.
        (&[Declined(1), Approved(2)], &[0, 1]),
        (&[Declined(1), Declined(2), Approved(3)], &[0, 1, 2]),
        (&[LATER, Declined(1), Deferred(2), Approved(3)], &[0, 1, 2, 3]),
    ];
    for (row, (said, told)) in table.iter().enumerate() {
        let telling = Telling { deferrals: deferrals(&nats, row), ..telling(&nats) };
        let telling = Telling { inbox: Inbox::new(nats.bucket(&format!("T{row}"))), ..telling };
        // Ids sort by time of telling, so that the list is the order in which it was told.
        let place = |at: usize| 10 + at;
        for (at, said) in said.iter().enumerate() {
            for _ in 0..2 {
                telling.apply(&said.event(place(at))).await.expect("told or not");
            }
        }
        let told: Vec<String> = told
            .iter()
            .map(|at| format!("messages/{}", Uuid::from_u128(place(*at) as u128)))
            .collect();
        let mut heard: Vec<_> = messages(&telling).await.into_iter().map(|it| it.name).collect();
        heard.reverse();
        assert_eq!(heard, told, "{said:?}");
    }
}

/// A replica says that it tells of the delay and dies; another one has the verdict.
#[tokio::test]
async fn a_delay_that_was_claimed_is_told_before_the_verdict() {
    let nats = Nats::start().await;
    let telling = telling(&nats);
    let deferred = Said::Deferred(1).event(1);
    let fee = Notice::PaymentDeferred { fee: Money::won(12_000) };
    let ride = format!("allocations/{RIDE}");
    let message = telling.message(&deferred, "customers/C1", ride, &fee).await.expect("made");
    telling.deferrals.deferred(kernel::DrivingId(DRIVING), &message).await.expect("claimed");
    assert!(messages(&telling).await.is_empty());

    telling.apply(&Said::Approved(2).event(2)).await.expect("told");
    let names = |told: Vec<Message>| told.into_iter().map(|it| it.template()).collect::<Vec<_>>();
    let story = [Template::PaymentApproved, Template::PaymentDeferred];
    assert_eq!(names(messages(&telling).await), story, "newest first");
    telling.apply(&deferred).await.expect("told before");
    assert_eq!(names(messages(&telling).await), story);
}
