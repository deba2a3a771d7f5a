//! The fold: what an event makes of a ride.
//!
//! Pure, and the same whether an event comes once or many times: of each aggregate only what is
//! newer than what has been folded counts. And the same in whatever order the aggregates are heard,
//! for each context publishes by itself: what two of them tell is decided by who tells it or by how
//! far it goes, never by who came last. Allocation publishes no event when a driver accepts, starts
//! or finishes; where the allocation then stands follows from the driving's events.

use kernel::PaymentId;
use platform::broker::Delivery;
use prost::{DecodeError, Message, Name};
use proto::allocation::v1::allocation::State as Allocation;
use proto::allocation::v1::allocation_cancel_requested::CancelCause;
use proto::allocation::v1::{
    AllocationCancelRequested, AllocationCancelled, AllocationExpired, AllocationRequested,
};
use proto::driving::v1::driving::{PaymentState, State as Driving};
use proto::driving::v1::{
    DrivingApproved, DrivingCancelRejected, DrivingCancelled, DrivingFinished, DrivingOpened,
    DrivingPaymentSettled, DrivingStarted,
};
use proto::payment::v1::payment::State as Payment;
use proto::payment::v1::{PaymentApproved, PaymentDeclined, PaymentDeferred, PaymentRefunded};
use proto::r#type::v1::Place as WirePlace;
use proto::words::parse_time;

pub(crate) use crate::entity::Model as DrivingInfo;
use crate::entity::{Entry, Location, Place};

/// An event in the life of a ride, by the aggregate it happened to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Allocation(AllocationEvent),
    Driving(DrivingEvent),
    Payment(PaymentEvent),
}

/// What can happen to an allocation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AllocationEvent {
    Requested(AllocationRequested),
    CancelRequested(AllocationCancelRequested),
    Cancelled(AllocationCancelled),
    Expired(AllocationExpired),
}

/// What can happen to a driving.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DrivingEvent {
    Opened(DrivingOpened),
    Approved(DrivingApproved),
    Started(DrivingStarted),
    Finished(DrivingFinished),
    Cancelled(DrivingCancelled),
    CancelRejected(DrivingCancelRejected),
    PaymentSettled(DrivingPaymentSettled),
}

/// What can happen to a payment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PaymentEvent {
    Approved(PaymentApproved),
    Deferred(PaymentDeferred),
    Declined(PaymentDeclined),
    Refunded(PaymentRefunded),
}

impl Event {
    /// Reads an event; `None` when its kind is not one that this version knows.
    pub(crate) fn decode(kind: &str, payload: &[u8]) -> Result<Option<Event>, DecodeError> {
        use {AllocationEvent as A, DrivingEvent as D, PaymentEvent as P};
        Ok(Some(match kind {
            "taxi.allocation.v1.AllocationRequested" => A::Requested(read(payload)?).into(),
            "taxi.allocation.v1.AllocationCancelRequested" => {
                A::CancelRequested(read(payload)?).into()
            }
            "taxi.allocation.v1.AllocationCancelled" => A::Cancelled(read(payload)?).into(),
            "taxi.allocation.v1.AllocationExpired" => A::Expired(read(payload)?).into(),
            "taxi.driving.v1.DrivingOpened" => D::Opened(read(payload)?).into(),
            "taxi.driving.v1.DrivingApproved" => D::Approved(read(payload)?).into(),
            "taxi.driving.v1.DrivingStarted" => D::Started(read(payload)?).into(),
            "taxi.driving.v1.DrivingFinished" => D::Finished(read(payload)?).into(),
            "taxi.driving.v1.DrivingCancelled" => D::Cancelled(read(payload)?).into(),
            "taxi.driving.v1.DrivingCancelRejected" => D::CancelRejected(read(payload)?).into(),
            "taxi.driving.v1.DrivingPaymentSettled" => D::PaymentSettled(read(payload)?).into(),
            "taxi.payment.v1.PaymentApproved" => P::Approved(read(payload)?).into(),
            "taxi.payment.v1.PaymentDeferred" => P::Deferred(read(payload)?).into(),
            "taxi.payment.v1.PaymentDeclined" => P::Declined(read(payload)?).into(),
            "taxi.payment.v1.PaymentRefunded" => P::Refunded(read(payload)?).into(),
            _ => return Ok(None),
        }))
    }
}

fn read<M: Message + Default>(payload: &[u8]) -> Result<M, DecodeError> {
    M::decode(payload)
}

impl From<AllocationEvent> for Event {
    fn from(event: AllocationEvent) -> Event {
        Event::Allocation(event)
    }
}

impl From<DrivingEvent> for Event {
    fn from(event: DrivingEvent) -> Event {
        Event::Driving(event)
    }
}

impl From<PaymentEvent> for Event {
    fn from(event: PaymentEvent) -> Event {
        Event::Payment(event)
    }
}

impl DrivingInfo {
    /// The ride that this event belongs to, before anything is known of it.
    pub(crate) fn before(first: &Delivery) -> DrivingInfo {
        DrivingInfo {
            id: first.correlation,
            create_time: first.time.micros(),
            ..DrivingInfo::default()
        }
    }

    /// Folds one event; false when nothing changes. One that has been folded before changes nothing
    /// but the ride's place in the stream.
    pub(crate) fn fold(&mut self, happened: &Delivery, event: &Event) -> bool {
        let place = i64::try_from(happened.sequence).unwrap_or(i64::MAX);
        let further = place > self.sequence;
        // One that was parked comes late.
        self.sequence = place.max(self.sequence);
        let folded = match event {
            Event::Allocation(_) => &mut self.allocation_version,
            Event::Driving(_) => &mut self.driving_version,
            Event::Payment(_) => &mut self.payment_version,
        };
        if happened.version <= *folded {
            return further;
        }
        *folded = happened.version;
        self.begins(happened, event);
        match event {
            Event::Allocation(event) => self.fold_allocation(event),
            Event::Driving(event) => {
                self.driving = Some(happened.aggregate);
                self.fold_driving(event);
            }
            Event::Payment(event) => {
                self.payment = Some(happened.aggregate);
                self.fold_payment(event);
            }
        }
        self.note(happened);
        true
    }

    /// A ride begins when it is asked for; until that is known, with the first that is known of it.
    fn begins(&mut self, happened: &Delivery, event: &Event) {
        let time = happened.time.micros();
        if let Event::Allocation(AllocationEvent::Requested(event)) = event {
            self.create_time = micros(event.request_time.as_ref()).unwrap_or(time);
        } else if !self.timeline.0.iter().any(|entry| entry.event == AllocationRequested::NAME) {
            self.create_time = self.create_time.min(time);
        }
    }

    fn fold_allocation(&mut self, event: &AllocationEvent) {
        match event {
            AllocationEvent::Requested(event) => {
                self.journey(&event.customer, event.pickup.as_ref(), event.destination.as_ref());
                self.stands(Allocation::Requested);
            }
            AllocationEvent::CancelRequested(event) => match event.cause() {
                // Comes too late when the driving has started, whether allocation knew it or not.
                CancelCause::Customer => self.stands(Allocation::Cancelling),
                // Nobody accepted yet: it is still the request it was until it expires.
                CancelCause::Unanswered | CancelCause::Unspecified => {}
            },
            AllocationEvent::Cancelled(event) => {
                if !event.reason.is_empty() {
                    self.cancel_reason.clone_from(&event.reason);
                }
                self.stands(Allocation::Cancelled);
            }
            AllocationEvent::Expired(_) => self.stands(Allocation::Expired),
        }
    }

    fn fold_driving(&mut self, event: &DrivingEvent) {
        match event {
            DrivingEvent::Opened(event) => {
                // The request itself knows better.
                if self.customer.is_empty() {
                    let (from, to) = (event.pickup.as_ref(), event.destination.as_ref());
                    self.journey(&event.customer, from, to);
                }
                self.driving_status = Driving::Requested.into();
            }
            DrivingEvent::Approved(event) => {
                self.driver.clone_from(&event.driver);
                self.drives(Driving::Approved);
            }
            DrivingEvent::Started(event) => {
                self.start_time = micros(event.start_time.as_ref());
                self.drives(Driving::Started);
            }
            DrivingEvent::Finished(event) => {
                self.start_time = micros(event.start_time.as_ref()).or(self.start_time);
                self.finish_time = micros(event.finish_time.as_ref());
                self.fee = event.fare.as_ref().map(|fare| fare.units);
                self.drives(Driving::Finished);
                if self.payment_status == i32::from(Payment::Unspecified) {
                    self.payment_status = Payment::Requested.into();
                }
            }
            DrivingEvent::Cancelled(event) => {
                // What allocation says of it counts.
                if self.cancel_reason.is_empty() {
                    self.cancel_reason.clone_from(&event.reason);
                }
                self.driving_status = Driving::Cancelled.into();
            }
            DrivingEvent::CancelRejected(event) => self.goes_on(event.state()),
            // Where the payment stands is payment's to tell; what the driver was told stands until
            // payment's own event is here.
            DrivingEvent::PaymentSettled(event) => {
                if self.payment_version == 0 {
                    self.payment_status = settled(event.payment_state()).into();
                }
                let named = event.payment.parse::<PaymentId>().ok();
                self.payment = self.payment.or(named.map(|payment| payment.0));
            }
        }
    }

    fn fold_payment(&mut self, event: &PaymentEvent) {
        let state = match event {
            PaymentEvent::Approved(_) => Payment::Approved,
            PaymentEvent::Deferred(_) => Payment::Deferred,
            PaymentEvent::Declined(_) => Payment::Declined,
            PaymentEvent::Refunded(event) => {
                self.refunded = event.refunded_amount.as_ref().map_or(0, |amount| amount.units);
                Payment::Refunded
            }
        };
        self.payment_status = state.into();
    }

    fn journey(&mut self, customer: &str, from: Option<&WirePlace>, to: Option<&WirePlace>) {
        customer.clone_into(&mut self.customer);
        self.pickup = from.map(Place::from);
        self.destination = to.map(Place::from);
    }

    /// An allocation only moves on.
    fn stands(&mut self, state: Allocation) {
        let now = Allocation::try_from(self.alloc_status).unwrap_or_default();
        if progress(state) > progress(now) {
            self.alloc_status = state.into();
        }
    }

    /// The driving has moved on, and the allocation with it.
    fn drives(&mut self, state: Driving) {
        self.driving_status = state.into();
        self.goes_on(state);
    }

    /// The allocation stands where its driving does.
    fn goes_on(&mut self, driving: Driving) {
        match driving {
            Driving::Approved => self.stands(Allocation::Approved),
            Driving::Started => self.stands(Allocation::DrivingStarted),
            Driving::Finished => self.stands(Allocation::DrivingFinished),
            // None of these is a driving that goes on.
            Driving::Unspecified | Driving::Requested | Driving::Cancelled => {}
        }
    }

    fn note(&mut self, happened: &Delivery) {
        let time = happened.time.micros();
        self.update_time = self.update_time.max(time);
        self.timeline.0.push(Entry {
            event: happened.event().to_owned(),
            time,
            id: happened.id.to_string(),
        });
        // Of one change all events have the same time, and their ids are in order.
        self.timeline.0.sort_by(|one, other| (one.time, &one.id).cmp(&(other.time, &other.id)));
    }
}

/// How far an allocation has come. A customer's cancel is not decided by a driver's yes, nor by the
/// rejection of a call-off for want of one: only by the start.
fn progress(state: Allocation) -> u8 {
    match state {
        Allocation::Unspecified => 0,
        Allocation::Requested => 1,
        Allocation::Approved => 2,
        Allocation::Cancelling => 3,
        Allocation::DrivingStarted => 4,
        Allocation::DrivingFinished => 5,
        Allocation::Cancelled | Allocation::Expired => 6,
    }
}

fn micros(time: Option<&prost_types::Timestamp>) -> Option<i64> {
    time.map(|time| parse_time(time).micros())
}

impl From<&WirePlace> for Place {
    fn from(place: &WirePlace) -> Place {
        let location = place.location.as_ref();
        Place {
            address: place.address.clone(),
            location: location
                .map(|at| Location { latitude: at.latitude, longitude: at.longitude }),
        }
    }
}

/// What a driver was told of the payment, in payment's own words.
fn settled(state: PaymentState) -> Payment {
    match state {
        PaymentState::Approved => Payment::Approved,
        PaymentState::Declined => Payment::Declined,
        PaymentState::Deferred => Payment::Deferred,
        PaymentState::Refunded => Payment::Refunded,
        PaymentState::Pending | PaymentState::Unspecified => Payment::Requested,
    }
}

#[cfg(test)]
mod tests;
