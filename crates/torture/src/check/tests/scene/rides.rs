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
    CALLED_OFF, CANCELLED, CUSTOMER, DRIVER, DRIVING, LATE, PAYMENT, RIDE, Scene, refused, seen,
};
use crate::evidence::{Allocation, Charge, Driving, Payment};
use crate::history::{Seen, What};

impl Scene {
    pub(super) fn finished_ride(&mut self) {
        let (allocation, driving) = (format!("allocations/{RIDE}"), format!("drivings/{DRIVING}"));
        let (customer, driver) = (CUSTOMER.to_owned(), DRIVER.to_owned());
        let fare = Some(Money { currency_code: "KRW".to_owned(), units: 1000, nanos: 0 });

        let asked = self.command(What::RequestAllocation, RIDE, seen(RIDE, "allocations"));
        let requested = AllocationRequested {
            allocation: allocation.clone(),
            customer: customer.clone(),
            language: "en".to_owned(),
            ..Default::default()
        };
        let requested =
            self.commit(RIDE, RIDE, asked, &requested, Some(Template::AllocationRequested));
        let opened = DrivingOpened {
            allocation: allocation.clone(),
            customer: customer.clone(),
            driving: driving.clone(),
            ..Default::default()
        };
        self.commit(DRIVING, RIDE, requested, &opened, None);
        let accept = self.command(What::AcceptDriving, RIDE, seen(DRIVING, "drivings"));
        let approved = DrivingApproved {
            allocation: allocation.clone(),
            customer: customer.clone(),
            driving: driving.clone(),
            driver: driver.clone(),
            approve_time: None,
        };
        self.commit(DRIVING, RIDE, accept, &approved, Some(Template::AllocationApproved));
        let start = self.command(What::StartDriving, RIDE, seen(DRIVING, "drivings"));
        let started = DrivingStarted {
            allocation: allocation.clone(),
            customer: customer.clone(),
            driving: driving.clone(),
            driver: driver.clone(),
            start_time: None,
        };
        self.commit(DRIVING, RIDE, start, &started, Some(Template::DrivingStarted));
        let paid = Seen { fee: Some(1000), ..seen(DRIVING, "drivings") };
        let finish = self.command(What::FinishDriving, RIDE, paid);
        let finished = DrivingFinished {
            allocation: allocation.clone(),
            customer: customer.clone(),
            driving: driving.clone(),
            driver: driver.clone(),
            fare: fare.clone(),
            ..Default::default()
        };
        self.commit(DRIVING, RIDE, finish, &finished, Some(Template::DrivingFinished));
        let outcome = Uuid::new_v5(&PAYMENT, b"outcome 1");
        let taken = PaymentApproved {
            allocation: allocation.clone(),
            customer: customer.clone(),
            driving: driving.clone(),
            payment: format!("payments/{PAYMENT}"),
            amount: fare.clone(),
            ..Default::default()
        };
        self.commit(PAYMENT, RIDE, outcome, &taken, Some(Template::PaymentApproved));
        let settled = DrivingPaymentSettled {
            allocation,
            customer,
            driving,
            driver,
            payment: format!("payments/{PAYMENT}"),
            payment_state: PaymentState::Approved.into(),
            amount: fare,
            settle_time: None,
        };
        let settlement = Uuid::new_v5(&finish, b"payment settled");
        self.commit(DRIVING, RIDE, settlement, &settled, None);
        self.read(RIDE, 4, "DRIVING_FINISHED");
        self.evidence.payments.insert(PAYMENT, payment());
        self.evidence.charges.push(charge());
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
    let ride = id == RIDE;
    Allocation {
        id,
        version,
        customer: CUSTOMER.to_owned(),
        state: if ride { "DRIVING_FINISHED" } else { "CANCELLED" }.to_owned(),
        expiring: false,
        driving: Some(if ride { DRIVING } else { CALLED_OFF }),
        driver: ride.then(|| DRIVER.to_owned()),
        cancel_reason: if ride { "" } else { "late" }.to_owned(),
    }
}

pub(super) fn driving(id: Uuid, version: i64) -> Driving {
    let ride = id == DRIVING;
    Driving {
        id,
        version,
        allocation: if ride { RIDE } else { CANCELLED },
        customer: CUSTOMER.to_owned(),
        driver: ride.then(|| DRIVER.to_owned()),
        active_driver: None,
        state: if ride { "FINISHED" } else { "CANCELLED" }.to_owned(),
        start_time: None,
        finish_time: None,
        fare: ride.then_some(1000),
        payment: ride.then_some(PAYMENT),
        payment_state: ride.then(|| "APPROVED".to_owned()),
    }
}

pub(super) fn payment() -> Payment {
    Payment {
        id: PAYMENT,
        version: 1,
        driving: DRIVING,
        allocation: RIDE,
        customer: CUSTOMER.to_owned(),
        amount: 1000,
        state: "APPROVED".to_owned(),
        attempt_count: 1,
        provider_reference: "ch_1".to_owned(),
    }
}

pub(super) fn charge() -> Charge {
    Charge {
        id: "ch_1".to_owned(),
        idempotency_key: Uuid::new_v5(&DRIVING, b"charge").to_string(),
        amount: 1000,
        customer: CUSTOMER.to_owned(),
        driving: format!("drivings/{DRIVING}"),
        status: "approved".to_owned(),
    }
}
