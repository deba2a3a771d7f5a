//! A small run to do harm to: one ride to the paid fare, one that is cancelled, one whose fee is
//! declined, settled and given back, one that is still owed, a copy and poison.

mod money;
mod rides;

use std::collections::BTreeMap;
use std::time::Duration;

use kernel::Uuid;
use prost::Name;
use proto::driving::v1::{DrivingApproved, DrivingFinished, DrivingStarted};
use proto::message::v1::Message;
use proto::message::v1::message::{State as Sent, Template};
use tonic::Code;

pub(super) use self::money::{OWED, SETTLED};
use self::rides::{PAID, allocation, driving};
use super::super::Expected;
use super::super::contract::{BOOKKEEPERS, listens_to};
use super::super::fold::fold;
use crate::evidence::{
    Allocation, Consumer, Driving, Event, Evidence, Happening, OutboxRow, Parked, Payment, Records,
    Spent, Told, View,
};
use crate::history::{Operation, Outcome, Seen, What};

pub(super) const RIDE: Uuid = Uuid::from_u128(0xa1);
pub(super) const DRIVING: Uuid = Uuid::from_u128(0xd1);
pub(super) const PAYMENT: Uuid = Uuid::from_u128(0xe1);
/// The ride that is cancelled, and its driving.
pub(super) const CANCELLED: Uuid = Uuid::from_u128(0xa2);
pub(super) const CALLED_OFF: Uuid = Uuid::from_u128(0xd2);
pub(super) const DRIVER: &str = "drivers/D1";
/// Who comes too late.
const LATE: &str = "drivers/D2";
const CUSTOMER: &str = "customers/C1";
/// Who rides and drives where fees are declined.
pub(super) const PAYER: &str = "customers/C2";
const OTHER_DRIVER: &str = "drivers/D3";
const OPERATOR: &str = "operators/O1";
const POISON: Uuid = Uuid::from_u128(0xff);

/// A run: what was done, what is on record, what the harness has put into the stream.
#[derive(Clone)]
pub(super) struct Scene {
    pub(super) operations: Vec<Operation>,
    pub(super) evidence: Evidence,
    pub(super) expected: Expected,
}

/// The request id by this number.
pub(super) fn request(number: u128) -> Uuid {
    Uuid::from_u128(0xc000 + number)
}

pub(super) fn refused(reason: &str) -> Outcome {
    Outcome::Failed { code: Code::FailedPrecondition, reason: reason.to_owned() }
}

/// Refused after an attempt that nobody answered.
pub(super) fn lost(reason: &str) -> Outcome {
    let message = format!("refused ({reason}) after an attempt without an answer");
    Outcome::Unknown { code: Code::FailedPrecondition, message }
}

/// Who rides, and who drives.
fn people(ride: Uuid) -> [&'static str; 2] {
    match [SETTLED.ride, OWED.ride].contains(&ride) {
        true => [PAYER, OTHER_DRIVER],
        false => [CUSTOMER, DRIVER],
    }
}

pub(super) fn seen(id: Uuid, collection: &str) -> Seen {
    Seen { resource: format!("{collection}/{id}"), ..Seen::default() }
}

impl Scene {
    /// A run in which all is well.
    pub(super) fn good() -> Scene {
        let mut scene = Scene {
            operations: Vec::new(),
            evidence: Evidence::default(),
            expected: Expected::default(),
        };
        for context in ["allocation", "driving", "payment", "dashboard", "message"] {
            scene.evidence.records.insert(context.to_owned(), Records::default());
        }
        scene.finished_ride();
        scene.cancelled_ride();
        scene.refused_accept();
        scene.settled_ride();
        scene.owed_ride();
        scene.copy_and_poison();
        scene.settle();
        scene
    }

    /// What the harness puts into the stream: an event again, and one that nobody can read.
    fn copy_and_poison(&mut self) {
        let original = self.evidence.stream[2].clone();
        self.expected.injected.push(original.id);
        self.inject(original);
        let poison = Event {
            id: POISON,
            kind: DrivingFinished::full_name(),
            aggregate: POISON,
            version: 1,
            correlation: POISON,
            payload: vec![0xff],
            happening: None,
            ..self.evidence.stream[1].clone()
        };
        self.expected.parked.push(POISON);
        self.inject(poison);
        for context in ["allocation", "payment", "dashboard", "message"] {
            let records = self.evidence.records.get_mut(context).expect("kept");
            let parked = Parked {
                event: POISON,
                aggregate: POISON,
                version: 1,
                kind: DrivingFinished::full_name(),
                reason: "cannot be read".to_owned(),
            };
            records.parked.insert(POISON, parked);
        }
    }

    fn inject(&mut self, event: Event) {
        let sequence = self.evidence.stream.len() as u64 + 1;
        let message_id = Some(format!("torture-{sequence}"));
        self.evidence.stream.push(Event { sequence, message_id, ..event });
    }

    /// The rows that follow from the events, and nothing left to do.
    fn settle(&mut self) {
        let history =
            |aggregate| self.evidence.stream.iter().filter(move |it| it.aggregate == aggregate);
        let versions = |aggregate| history(aggregate).map(|event| event.version).max().unwrap_or(0);
        let rides = [RIDE, CANCELLED, SETTLED.ride, OWED.ride];
        let drivings = [DRIVING, CALLED_OFF, SETTLED.driving, OWED.driving];
        let rows = rides.map(|id| (id, allocation(id, versions(id))));
        let drivings = drivings.map(|id| (id, driving(id, versions(id))));
        self.evidence.allocations = rows.into();
        self.evidence.drivings = drivings.into();
        self.balance();
        self.fold();
        let end = self.evidence.stream.len() as i64;
        self.evidence.shards = 1;
        self.evidence.checkpoints = BTreeMap::from([(0, end)]);
        let consumers = BOOKKEEPERS.map(|name| format!("{name}-0"));
        self.evidence.consumers = consumers
            .into_iter()
            .chain(["message-all".to_owned()])
            .map(|name| Consumer { name, pending: 0, unacknowledged: 0 })
            .collect();
        self.evidence.told_ever = self.evidence.told.len() as u64;
    }

    fn fold(&mut self) {
        for ride in [RIDE, CANCELLED, SETTLED.ride, OWED.ride] {
            let events = self.evidence.stream.iter();
            let folded = fold(events.filter(|it| it.correlation == ride && !it.is_injected()));
            let entries = folded.timeline.iter().enumerate().map(
                |(time, (event, id))| serde_json::json!({"event": event, "time": time, "id": id}),
            );
            let timeline = serde_json::Value::from_iter(entries).to_string();
            self.evidence.view.insert(ride, View { timeline, ..folded.view });
        }
    }

    /// Somebody commands something and is told OK; answers with the request id.
    fn command(&mut self, what: What, ride: Uuid, seen: Seen) -> Uuid {
        let [customer, driver] = people(ride);
        let (context, who) = match what {
            What::RequestAllocation | What::CancelAllocation => ("allocation", customer),
            What::SettlePayment => ("payment", customer),
            What::RefundPayment => ("payment", OPERATOR),
            _ => ("driving", driver),
        };
        let number = self.operations.len();
        let request = request(number as u128);
        let aggregate = super::super::case::id_in(&seen.resource).expect("an id");
        self.cause_book(context).push(Spent { id: request, actor: "person".to_owned(), aggregate });
        self.log(who, what, Some(request), ride, Outcome::Ok(seen));
        request
    }

    /// Somebody reads an allocation.
    pub(super) fn read(&mut self, ride: Uuid, version: i64, state: &str) {
        let seen = Seen { version, state: state.to_owned(), ..seen(ride, "allocations") };
        self.log(CUSTOMER, What::GetAllocation, None, ride, Outcome::Ok(seen));
    }

    /// The first operation by this method once more, with the same answer.
    pub(super) fn repeat(&mut self, what: What) {
        let Operation { who, request_id, ride, outcome, .. } = self.operation(what).clone();
        self.log(&who, what, request_id, ride.expect("a ride"), outcome);
    }

    pub(super) fn log(
        &mut self,
        who: &str,
        what: What,
        request_id: Option<Uuid>,
        ride: Uuid,
        outcome: Outcome,
    ) {
        let number = self.operations.len();
        let from = Duration::from_secs(number as u64);
        self.operations.push(Operation {
            number,
            who: who.to_owned(),
            what,
            request_id,
            ride: Some(ride),
            asked: None,
            from,
            until: from + Duration::from_millis(500),
            attempts: 1,
            outcome,
        });
    }

    /// Something happens: a row in the outbox, an event in the stream, consumers who know it, and
    /// perhaps a message. Answers with the event's id.
    fn commit<M: Name>(
        &mut self,
        aggregate: Uuid,
        ride: Uuid,
        causation: Uuid,
        message: &M,
        template: Option<Template>,
    ) -> Uuid {
        let sequence = self.evidence.stream.len() as u64 + 1;
        let id = Uuid::from_u128(0xe000 + u128::from(sequence));
        let kind = M::full_name();
        let context = kind.split('.').nth(1).expect("a context").to_owned();
        let before = self.evidence.stream.iter().filter(|it| it.aggregate == aggregate);
        let version = before.map(|event| event.version).max().unwrap_or(0) + 1;
        let payload = message.encode_to_vec();
        let time = self.operations.len() as i64 * 1_000_000 - 900_000;
        let outbox = self.outbox(&context);
        outbox.push(OutboxRow {
            id: outbox.len() as i64 + 1,
            event: id,
            aggregate,
            version,
            kind: kind.clone(),
            correlation: ride,
            causation,
            time,
            payload: payload.clone(),
            sent_at: Some(time),
        });
        let happening = Happening::decode(&kind, &payload);
        let (message_id, stored_at) = (Some(id.to_string()), time + 10_000);
        for listener in BOOKKEEPERS.into_iter().filter(|it| listens_to(it).contains(&&*context)) {
            self.known(listener).insert(aggregate, version);
        }
        self.evidence.stream.push(Event {
            sequence,
            stored_at,
            shard: 0,
            context,
            message_id,
            id,
            kind,
            aggregate,
            version,
            correlation: ride,
            causation,
            payload,
            happening,
        });
        self.tell(id, ride, template);
        id
    }

    fn tell(&mut self, cause: Uuid, ride: Uuid, template: Option<Template>) {
        let Some(template) = template else { return };
        let language = if ride == RIDE { "en" } else { "ko" };
        let message = Message {
            name: format!("messages/{cause}"),
            customer: people(ride)[0].to_owned(),
            allocation: format!("allocations/{ride}"),
            template: template.into(),
            language: language.to_owned(),
            state: Sent::Sent.into(),
            ..Default::default()
        };
        let sequence = self.evidence.told.len() as u64 + 1;
        self.evidence.told.push(Told { sequence, cause: Some(cause), message: Some(message) });
    }

    /// A second driver is approved for a driving.
    pub(super) fn approve_again(&mut self, driving: Uuid, driver: &str) {
        let approved = DrivingApproved {
            allocation: format!("allocations/{RIDE}"),
            driving: format!("drivings/{driving}"),
            driver: driver.to_owned(),
            ..Default::default()
        };
        self.commit(driving, RIDE, request(98), &approved, None);
    }

    /// A driver is approved for another driving before all that this run does.
    pub(super) fn approve_first(&mut self, ride: Uuid, driver: &str) {
        self.approve_again(ride, driver);
        let outbox = self.outbox("driving");
        let first = outbox.pop().expect("the approval");
        outbox.insert(0, first);
    }

    /// The driving that is cancelled was started, too.
    pub(super) fn start_cancelled(&mut self) {
        let started = DrivingStarted { driver: DRIVER.to_owned(), ..Default::default() };
        self.commit(CALLED_OFF, CANCELLED, request(97), &started, None);
    }

    pub(super) fn allocation(&mut self, id: Uuid) -> &mut Allocation {
        self.evidence.allocations.get_mut(&id).expect("an allocation")
    }

    pub(super) fn driving(&mut self, id: Uuid) -> &mut Driving {
        self.evidence.drivings.get_mut(&id).expect("a driving")
    }

    pub(super) fn payment(&mut self) -> &mut Payment {
        self.payment_of(PAID.payment)
    }

    pub(super) fn payment_of(&mut self, id: Uuid) -> &mut Payment {
        self.evidence.payments.get_mut(&id).expect("a payment")
    }

    pub(super) fn view(&mut self) -> &mut View {
        self.evidence.view.get_mut(&RIDE).expect("a ride")
    }

    pub(super) fn outbox(&mut self, context: &str) -> &mut Vec<OutboxRow> {
        &mut self.evidence.records.get_mut(context).expect("a context").outbox
    }

    pub(super) fn known(&mut self, context: &str) -> &mut BTreeMap<Uuid, i64> {
        &mut self.evidence.records.get_mut(context).expect("a context").known
    }

    fn cause_book(&mut self, context: &str) -> &mut Vec<Spent> {
        &mut self.evidence.records.get_mut(context).expect("a context").causes
    }

    pub(super) fn message(&mut self, number: usize) -> &mut Message {
        self.evidence.told[number].message.as_mut().expect("a message")
    }

    /// The first operation by this method.
    pub(super) fn operation(&mut self, what: What) -> &mut Operation {
        self.operations.iter_mut().find(|operation| operation.what == what).expect("an operation")
    }

    /// The accept of the driver who came too late.
    pub(super) fn late_accept(&mut self) -> &mut Operation {
        self.operations.iter_mut().find(|operation| operation.who == LATE).expect("an operation")
    }

    /// What was answered to it.
    pub(super) fn told(&mut self, what: What) -> &mut Seen {
        match &mut self.operation(what).outcome {
            Outcome::Ok(seen) => seen,
            other => panic!("{other:?}"),
        }
    }
}
