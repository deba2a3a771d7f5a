//! What people say to the product, and what they see of its answers.

use std::time::Duration;

use kernel::{AllocationId, Uuid};
use platform::call::CONSISTENCY_TOKEN_HEADER;
use proto::allocation::v1::{
    Allocation, CancelAllocationRequest, GetAllocationRequest, RequestAllocationRequest,
};
use proto::dashboard::v1::{DrivingInfo, GetDrivingInfoRequest};
use proto::driving::v1::{
    AcceptDrivingRequest, Driving, FinishDrivingRequest, GetDrivingRequest, StartDrivingRequest,
};
use proto::google::r#type::Money;
use proto::payment::v1::{GetPaymentRequest, Payment, RefundPaymentRequest, SettlePaymentRequest};
use proto::r#type::v1::Place;
use testkit::{AllocationClient, DashboardClient, DrivingClient, Known, PaymentClient};
use tonic::{Request, Response, Status};

use crate::history::{Seen, What};

/// One call of the public API.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Request {
        address: String,
    },
    Cancel {
        allocation: String,
    },
    GetAllocation {
        allocation: String,
    },
    Accept(Offer),
    Start(Offer),
    Finish(Offer),
    GetDriving(Offer),
    GetInfo {
        ride: Uuid,
        token: String,
    },
    Settle(Bill),
    /// So much of it; all that is left, when nobody says.
    Refund {
        bill: Bill,
        amount: Option<i64>,
    },
    GetPayment(Bill),
}

/// A driving, and the ride that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// `drivings/<id>`.
    pub(crate) driving: String,
    pub(crate) ride: Option<Uuid>,
}

/// A payment, and the ride that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bill {
    /// `payments/<id>`.
    pub(crate) payment: String,
    pub(crate) ride: Option<Uuid>,
}

/// What an answer says.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) seen: Seen,
    pub(crate) ride: Option<Uuid>,
    /// What names the version that a command wrote.
    pub(crate) token: String,
}

impl Call {
    /// The method.
    pub(crate) const fn what(&self) -> What {
        match self {
            Call::Request { .. } => What::RequestAllocation,
            Call::Cancel { .. } => What::CancelAllocation,
            Call::GetAllocation { .. } => What::GetAllocation,
            Call::Accept(_) => What::AcceptDriving,
            Call::Start(_) => What::StartDriving,
            Call::Finish(_) => What::FinishDriving,
            Call::GetDriving(_) => What::GetDriving,
            Call::GetInfo { .. } => What::GetDrivingInfo,
            Call::Settle(_) => What::SettlePayment,
            Call::Refund { .. } => What::RefundPayment,
            Call::GetPayment(_) => What::GetPayment,
        }
    }

    /// Whom it goes to.
    pub(crate) const fn context(&self) -> &'static str {
        match self {
            Call::Request { .. } | Call::Cancel { .. } | Call::GetAllocation { .. } => "allocation",
            Call::Accept(_) | Call::Start(_) | Call::Finish(_) | Call::GetDriving(_) => "driving",
            Call::GetInfo { .. } => "dashboard",
            Call::Settle(_) | Call::Refund { .. } | Call::GetPayment(_) => "payment",
        }
    }

    /// The ride that it is about, as far as one knows before the answer.
    pub(crate) fn ride(&self) -> Option<Uuid> {
        match self {
            Call::Request { .. } => None,
            Call::Cancel { allocation } | Call::GetAllocation { allocation } => ride_of(allocation),
            Call::Accept(offer)
            | Call::Start(offer)
            | Call::Finish(offer)
            | Call::GetDriving(offer) => offer.ride,
            Call::GetInfo { ride, .. } => Some(*ride),
            Call::Settle(bill) | Call::Refund { bill, .. } | Call::GetPayment(bill) => bill.ride,
        }
    }

    /// How many won it asks for, when it names a sum.
    pub(crate) const fn asks_for(&self) -> Option<i64> {
        match self {
            Call::Refund { amount, .. } => *amount,
            _ => None,
        }
    }

    /// How long one attempt may take. A cancel waits for a decision, a finish for a payment.
    pub(crate) const fn patience(&self) -> Duration {
        Duration::from_millis(match self {
            Call::Cancel { .. } => 4_000,
            _ => 2_500,
        })
    }

    /// Says it once.
    pub(crate) async fn send(
        self,
        line: Known,
        request_id: Option<Uuid>,
    ) -> Result<Answer, Status> {
        let patience = self.patience();
        let request_id = request_id.as_ref().map(Uuid::to_string).unwrap_or_default();
        match self {
            Call::Request { address } => {
                let destination = Some(Place { address, location: None });
                let allocation = Some(Allocation { destination, ..Allocation::default() });
                let body = RequestAllocationRequest { allocation, request_id };
                let request = timed(body, patience);
                AllocationClient::new(line).request_allocation(request).await.map(allocation_seen)
            }
            Call::Cancel { allocation: name } => {
                let reason = "changed my mind".to_owned();
                let body =
                    CancelAllocationRequest { name, request_id, reason, etag: String::new() };
                let request = timed(body, patience);
                AllocationClient::new(line).cancel_allocation(request).await.map(allocation_seen)
            }
            Call::GetAllocation { allocation: name } => {
                let request = timed(GetAllocationRequest { name }, patience);
                AllocationClient::new(line).get_allocation(request).await.map(allocation_seen)
            }
            Call::Accept(Offer { driving: name, .. }) => {
                let body = AcceptDrivingRequest { name, request_id, etag: String::new() };
                let request = timed(body, patience);
                DrivingClient::new(line).accept_driving(request).await.map(driving_seen)
            }
            Call::Start(Offer { driving: name, .. }) => {
                let body = StartDrivingRequest { name, request_id, etag: String::new() };
                let request = timed(body, patience);
                DrivingClient::new(line).start_driving(request).await.map(driving_seen)
            }
            Call::Finish(Offer { driving: name, .. }) => {
                let body = FinishDrivingRequest { name, request_id, etag: String::new() };
                let request = timed(body, patience);
                DrivingClient::new(line).finish_driving(request).await.map(driving_seen)
            }
            Call::GetDriving(Offer { driving: name, .. }) => {
                let request = timed(GetDrivingRequest { name }, patience);
                DrivingClient::new(line).get_driving(request).await.map(driving_seen)
            }
            Call::GetInfo { ride, token: consistency_token } => {
                let name = format!("drivingInfos/{ride}");
                let body = GetDrivingInfoRequest { name, consistency_token };
                let request = timed(body, patience);
                DashboardClient::new(line).get_driving_info(request).await.map(info_seen)
            }
            Call::Settle(Bill { payment: name, .. }) => {
                let body = SettlePaymentRequest { name, request_id, etag: String::new() };
                let request = timed(body, patience);
                PaymentClient::new(line).settle_payment(request).await.map(payment_seen)
            }
            Call::Refund { bill: Bill { payment: name, .. }, amount } => {
                let (amount, etag) = (amount.map(money), String::new());
                let reason = "the driver took a detour".to_owned();
                let body = RefundPaymentRequest { name, request_id, etag, reason, amount };
                let request = timed(body, patience);
                PaymentClient::new(line).refund_payment(request).await.map(payment_seen)
            }
            Call::GetPayment(Bill { payment: name, .. }) => {
                let request = timed(GetPaymentRequest { name }, patience);
                PaymentClient::new(line).get_payment(request).await.map(payment_seen)
            }
        }
    }
}

/// A request whose server knows how long somebody waits.
pub(crate) fn timed<T>(body: T, patience: Duration) -> Request<T> {
    let mut request = Request::new(body);
    request.set_timeout(patience);
    request
}

/// The id in `allocations/<id>`.
pub(crate) fn ride_of(allocation: &str) -> Option<Uuid> {
    allocation.parse().ok().map(|AllocationId(id)| id)
}

fn allocation_seen(answer: Response<Allocation>) -> Answer {
    let token = token(&answer);
    let allocation = answer.into_inner();
    let seen = Seen {
        resource: allocation.name.clone(),
        state: state(allocation.state().as_str_name()),
        version: revision(&allocation.etag),
        driver: some(&allocation.driver),
        digest: format!("{allocation:?}"),
        ..Seen::default()
    };
    Answer { seen, ride: ride_of(&allocation.name), token }
}

fn driving_seen(answer: Response<Driving>) -> Answer {
    let token = token(&answer);
    let driving = answer.into_inner();
    let payment_state = driving.payment_state().as_str_name();
    let payment_state = payment_state.trim_start_matches("PAYMENT_STATE_");
    let seen = Seen {
        resource: driving.name.clone(),
        state: state(driving.state().as_str_name()),
        version: revision(&driving.etag),
        fee: driving.fare.as_ref().map(won),
        driver: some(&driving.driver),
        payment_state: some(payment_state).filter(|state| state != "UNSPECIFIED"),
        digest: format!("{driving:?}"),
    };
    Answer { seen, ride: ride_of(&driving.allocation), token }
}

fn info_seen(answer: Response<DrivingInfo>) -> Answer {
    let info = DrivingInfo { as_of: None, ..answer.into_inner() };
    let payment_state = state(info.payment_status().as_str_name());
    let seen = Seen {
        resource: info.name.clone(),
        state: state(info.alloc_status().as_str_name()),
        version: i64::try_from(info.timeline.len()).unwrap_or(i64::MAX),
        fee: info.fee.as_ref().map(won),
        driver: some(&info.driver),
        payment_state: Some(payment_state).filter(|state| state != "UNSPECIFIED"),
        digest: format!("{info:?}"),
    };
    Answer { seen, ride: ride_of(&info.allocation), token: String::new() }
}

fn payment_seen(answer: Response<Payment>) -> Answer {
    let token = token(&answer);
    let payment = answer.into_inner();
    let seen = Seen {
        resource: payment.name.clone(),
        state: state(payment.state().as_str_name()),
        version: revision(&payment.etag),
        fee: payment.amount.as_ref().map(won),
        digest: format!("{payment:?}"),
        ..Seen::default()
    };
    Answer { seen, ride: ride_of(&payment.allocation), token }
}

fn token<T>(answer: &Response<T>) -> String {
    let token = answer.metadata().get(CONSISTENCY_TOKEN_HEADER);
    token.and_then(|token| token.to_str().ok()).unwrap_or_default().to_owned()
}

fn state(name: &str) -> String {
    name.trim_start_matches("STATE_").to_owned()
}

/// The number in an etag.
fn revision(etag: &str) -> i64 {
    etag.trim_matches('"').parse().unwrap_or_default()
}

const fn won(money: &Money) -> i64 {
    money.units
}

fn money(won: i64) -> Money {
    Money { currency_code: "KRW".to_owned(), units: won, nanos: 0 }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
