//! The rides of the scene, and the rows that they end in.

use kernel::Uuid;
use proto::allocation::v1::allocation_cancel_requested::CancelCause;
use proto::allocation::v1::{AllocationCancelRequested, AllocationCancelled, AllocationRequested};
use proto::driving::v1::driving::{PaymentState, State};
use proto::driving::v1::{
    DrivingApproved, DrivingCancelRejected, DrivingCancelled, DrivingFinished, DrivingOpened,
    DrivingPaymentSettled, DrivingStarted,
};
use proto::google::r#type::Money;
use proto::message::v1::message::Template;
use proto::payment::v1::PaymentApproved;

use super::{
    CALLED_OFF, CANCELLED, CUSTOMER, DRIVER, DRIVING, LATE, OWED, PAYMENT, RIDE, SETTLED, Scene,
    people, refused, seen,
};
use crate::evidence::{Allocation, Driving, Payment};
use crate::history::{Seen, What};

/// A ride, and what belongs to it.
#[derive(Clone, Copy)]
pub(in super::super) struct Ride {
    pub(in super::super) ride: Uuid,
    pub(in super::super) driving: Uuid,
    pub(in super::super) payment: Uuid,
}

/// The one whose fee is taken at once.
pub(super) const PAID: Ride = Ride { ride: RIDE, driving: DRIVING, payment: PAYMENT };

/// What each ride costs.
pub(super) const FEE: i64 = 1000;

pub(super) fn won(units: i64) -> Option<Money> {
    Some(Money { currency_code: "KRW".to_owned(), units, nanos: 0 })
}

impl Ride {
    /// The names of its allocation, customer, driving and payment.
    pub(super) fn names(self) -> [String; 4] {
        [
            format!("allocations/{}", self.ride),
            people(self.ride)[0].to_owned(),
            format!("drivings/{}", self.driving),
            format!("payments/{}", self.payment),
        ]
    }
}

impl Scene {
    pub(super) fn finished_ride(&mut self) {
        let finish = self.drive(PAID);
        let [allocation, customer, driving, payment] = PAID.names();
        let taken = PaymentApproved {
            allocation,
            customer,
            driving,
            payment,
            amount: won(FEE),
            ..Default::default()
        };
        let outcome = Uuid::new_v5(&PAYMENT, b"outcome 1");
        self.commit(PAYMENT, RIDE, outcome, &taken, Some(Template::PaymentApproved));
        let settlement = Uuid::new_v5(&finish, b"payment settled");
        self.driving_knows(PAID, settlement, PaymentState::Approved);
        self.read(RIDE, 4, "DRIVING_FINISHED");
        self.evidence.payments.insert(PAYMENT, payment_row(PAID));
        self.charged(PAID, 1, "approved");
    }

    /// From the request to the finish; answers with the finish's request id.
    pub(super) fn drive(&mut self, it: Ride) -> Uuid {
        let Ride { ride, driving: id, .. } = it;
        let [allocation, customer, driving, _] = it.names();
        let driver = people(ride)[1].to_owned();
        let asked = self.command(What::RequestAllocation, ride, seen(ride, "allocations"));
        let requested = AllocationRequested {
            allocation: allocation.clone(),
            customer: customer.clone(),
            language: if ride == RIDE { "en" } else { "ko" }.to_owned(),
            ..Default::default()
        };
        let requested =
            self.commit(ride, ride, asked, &requested, Some(Template::AllocationRequested));
        let opened = DrivingOpened {
            allocation: allocation.clone(),
            customer: customer.clone(),
            driving: driving.clone(),
            ..Default::default()
        };
        self.commit(id, ride, requested, &opened, None);
        let accept = self.command(What::AcceptDriving, ride, seen(id, "drivings"));
        let approved = DrivingApproved {
            allocation: allocation.clone(),
            customer: customer.clone(),
            driving: driving.clone(),
            driver: driver.clone(),
            approve_time: None,
        };
        self.commit(id, ride, accept, &approved, Some(Template::AllocationApproved));
        let start = self.command(What::StartDriving, ride, seen(id, "drivings"));
        let started = DrivingStarted {
            allocation: allocation.clone(),
            customer: customer.clone(),
            driving: driving.clone(),
            driver: driver.clone(),
            start_time: None,
        };
        self.commit(id, ride, start, &started, Some(Template::DrivingStarted));
        let paid = Seen { fee: Some(FEE), ..seen(id, "drivings") };
        let finish = self.command(What::FinishDriving, ride, paid);
        let finished = DrivingFinished {
            allocation,
            customer,
            driving,
            driver,
            fare: won(FEE),
            ..Default::default()
        };
        self.commit(id, ride, finish, &finished, Some(Template::DrivingFinished));
        finish
    }

    /// Driving says what it knows of the fee.
    pub(super) fn driving_knows(&mut self, it: Ride, cause: Uuid, state: PaymentState) {
        let [allocation, customer, driving, payment] = it.names();
        let settled = DrivingPaymentSettled {
            allocation,
            customer,
            driving,
            driver: people(it.ride)[1].to_owned(),
            payment,
            payment_state: state.into(),
            amount: won(FEE),
            settle_time: None,
        };
        self.commit(it.driving, it.ride, cause, &settled, None);
    }

    pub(super) fn cancelled_ride(&mut self) {
        let allocation = format!("allocations/{CANCELLED}");
        let driving = format!("drivings/{CALLED_OFF}");
        let (customer, reason) = (CUSTOMER.to_owned(), "late".to_owned());
        let asked =
            self.command(What::RequestAllocation, CANCELLED, seen(CANCELLED, "allocations"));
        let requested = AllocationRequested {
            allocation: allocation.clone(),
            customer: customer.clone(),
            language: "ko".to_owned(),
            ..Default::default()
        };
        let template = Some(Template::AllocationRequested);
        let requested = self.commit(CANCELLED, CANCELLED, asked, &requested, template);
        let opened = DrivingOpened {
            allocation: allocation.clone(),
            customer: customer.clone(),
            driving: driving.clone(),
            ..Default::default()
        };
        self.commit(CALLED_OFF, CANCELLED, requested, &opened, None);
        let told = Seen { state: "CANCELLED".to_owned(), ..seen(CANCELLED, "allocations") };
        let cancel = self.command(What::CancelAllocation, CANCELLED, told);
        let wished = AllocationCancelRequested {
            allocation: allocation.clone(),
            customer: customer.clone(),
            driving: driving.clone(),
            reason: reason.clone(),
            cause: CancelCause::Customer.into(),
            request_time: None,
        };
        let wished = self.commit(CANCELLED, CANCELLED, cancel, &wished, None);
        let called_off = DrivingCancelled {
            allocation: allocation.clone(),
            customer: customer.clone(),
            driving: driving.clone(),
            reason: reason.clone(),
            ..Default::default()
        };
        let called_off = self.commit(CALLED_OFF, CANCELLED, wished, &called_off, None);
        let cancelled =
            AllocationCancelled { allocation, customer, driving, reason, cancel_time: None };
        self.commit(CANCELLED, CANCELLED, called_off, &cancelled, None);
    }

    /// A driver who comes too late, and whose call was answered twice.
    pub(super) fn refused_accept(&mut self) {
        self.command(What::AcceptDriving, CANCELLED, seen(CALLED_OFF, "drivings"));
        let late = self.operations.last_mut().expect("the accept");
        (late.outcome, late.who) = (refused("DRIVING_CLOSED"), LATE.to_owned());
        self.cause_book("driving").pop();
        self.repeat(What::RequestAllocation);
    }

    /// The customer of the finished ride wanted to cancel, and driving said no.
    pub(in super::super) fn cancel_too_late(&mut self) {
        let (allocation, driving) = (format!("allocations/{RIDE}"), format!("drivings/{DRIVING}"));
        let customer = CUSTOMER.to_owned();
        let cancel = self.command(What::CancelAllocation, RIDE, seen(RIDE, "allocations"));
        self.operations.last_mut().expect("the cancel").outcome =
            refused("DRIVING_ALREADY_STARTED");
        let wished = AllocationCancelRequested {
            allocation: allocation.clone(),
            customer: customer.clone(),
            driving: driving.clone(),
            cause: CancelCause::Customer.into(),
            ..Default::default()
        };
        let wished = self.commit(RIDE, RIDE, cancel, &wished, None);
        let rejected = DrivingCancelRejected {
            allocation,
            customer,
            driving,
            driver: DRIVER.to_owned(),
            state: State::Finished.into(),
            reject_time: None,
        };
        self.commit(DRIVING, RIDE, wished, &rejected, None);
        self.settle();
    }
}

pub(super) fn allocation(id: Uuid, version: i64) -> Allocation {
    let driving = [PAID, SETTLED, OWED].into_iter().find(|it| it.ride == id);
    let finished = driving.is_some();
    Allocation {
        id,
        version,
        customer: people(id)[0].to_owned(),
        state: if finished { "DRIVING_FINISHED" } else { "CANCELLED" }.to_owned(),
        expiring: false,
        driving: Some(driving.map_or(CALLED_OFF, |it| it.driving)),
        driver: finished.then(|| people(id)[1].to_owned()),
        cancel_reason: if finished { "" } else { "late" }.to_owned(),
    }
}

pub(super) fn driving(id: Uuid, version: i64) -> Driving {
    let ends = [(PAID, "APPROVED"), (SETTLED, "REFUNDED"), (OWED, "DECLINED")];
    let end = ends.into_iter().find(|(it, _)| it.driving == id);
    let finished = end.is_some();
    let ride = end.map_or(CANCELLED, |(it, _)| it.ride);
    let [customer, driver] = people(ride);
    Driving {
        id,
        version,
        allocation: ride,
        customer: customer.to_owned(),
        driver: finished.then(|| driver.to_owned()),
        active_driver: None,
        state: if finished { "FINISHED" } else { "CANCELLED" }.to_owned(),
        start_time: None,
        finish_time: None,
        fare: finished.then_some(FEE),
        payment: end.map(|(it, _)| it.payment),
        payment_state: end.map(|(_, state)| state.to_owned()),
    }
}

/// The row of a payment that was taken at once.
pub(super) fn payment_row(it: Ride) -> Payment {
    Payment {
        id: it.payment,
        version: 1,
        driving: it.driving,
        allocation: it.ride,
        customer: people(it.ride)[0].to_owned(),
        amount: FEE,
        state: "APPROVED".to_owned(),
        attempt_count: 1,
        charge_number: 1,
        provider_reference: "ch_1".to_owned(),
        refunded_amount: 0,
        refund: None,
    }
}
