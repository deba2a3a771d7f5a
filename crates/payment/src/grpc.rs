//! The inbound adapter for gRPC.

use std::sync::Arc;
use std::time::Duration;

use kernel::{Aggregate, Clock, Failure, Money, PaymentId, Recorded, Rejection, Role};
use platform::auth::Access;
use platform::call::{Call, consistency_token, reply};
use platform::page::{next_page_token, page_request};
use platform::server::{MAX_MESSAGE_BYTES, Routes};
use platform::status::status;
use platform::telemetry;
use proto::payment::v1 as wire;
use proto::words;
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use wire::payment::State as WireState;
use wire::payment_service_server::{PaymentService, PaymentServiceServer};

use crate::app::{Outcome, Payments, RefundRequest};
use crate::domain::{Fee, Filter, Payment, State};
use crate::measure;

const ACCESS: Access = Access(&[
    ("PayFee", &[Role::Service]),
    ("GetPayment", &[Role::Customer, Role::Operator]),
    ("ListPayments", &[Role::Customer, Role::Operator]),
    ("SettlePayment", &[Role::Customer, Role::Operator]),
    ("RefundPayment", &[Role::Operator]),
]);

/// What a command keeps of the caller's time to put the outcome on record and to answer in.
const ANSWER_TIME: Duration = Duration::from_millis(100);

pub(crate) fn routes(payments: Arc<Payments>, clock: Arc<dyn Clock>) -> Routes {
    let service = PaymentServiceServer::new(Grpc { payments, clock })
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    Routes::new(crate::NAME).service(service, ACCESS)
}

pub(crate) struct Grpc {
    pub(crate) payments: Arc<Payments>,
    pub(crate) clock: Arc<dyn Clock>,
}

#[tonic::async_trait]
impl PaymentService for Grpc {
    async fn pay_fee(
        &self,
        request: Request<wire::PayFeeRequest>,
    ) -> Result<Response<wire::Payment>, Status> {
        let call = Call::of(&request)?;
        let mut body = request.into_inner();
        let request_id = std::mem::take(&mut body.request_id);
        let cause = call.cause("PayFee", &request_id, &body, &*self.clock).map_err(status)?;
        let fee = parse_fee(&body).map_err(status)?;
        let (payments, until) = (self.payments.clone(), until(&call));
        let work = async move { payments.pay(&cause, fee, until).await };
        to_its_end(work).await
    }

    async fn get_payment(
        &self,
        request: Request<wire::GetPaymentRequest>,
    ) -> Result<Response<wire::Payment>, Status> {
        let call = Call::of(&request)?;
        let id = request.get_ref().name.parse::<PaymentId>().map_err(status)?;
        self.payments.get(&call.actor, id).await.map(answer).map_err(status)
    }

    async fn list_payments(
        &self,
        request: Request<wire::ListPaymentsRequest>,
    ) -> Result<Response<wire::ListPaymentsResponse>, Status> {
        let call = Call::of(&request)?;
        let body = request.into_inner();
        let query = format!("{:?} {:?}", call.actor, body.states);
        let page = page_request(body.page_size, &body.page_token, &query).map_err(status)?;
        let states = body.states.into_iter().map(parse_state).collect::<Result<_, _>>();
        let filter = Filter { states: states.map_err(status)?, ..Filter::default() };
        let page = self.payments.list(&call.actor, &filter, &page).await.map_err(status)?;
        Ok(Response::new(wire::ListPaymentsResponse {
            payments: page.items.iter().map(payment).collect(),
            next_page_token: next_page_token(page.next, &query),
        }))
    }

    async fn settle_payment(
        &self,
        request: Request<wire::SettlePaymentRequest>,
    ) -> Result<Response<wire::Payment>, Status> {
        let call = Call::of(&request)?;
        let mut body = request.into_inner();
        let request_id = std::mem::take(&mut body.request_id);
        let cause =
            call.cause("SettlePayment", &request_id, &body, &*self.clock).map_err(status)?;
        let id = body.name.parse::<PaymentId>().map_err(status)?;
        let (payments, until) = (self.payments.clone(), until(&call));
        let work = async move { payments.settle(&cause, id, etag(body.etag), until).await };
        to_its_end(work).await
    }

    async fn refund_payment(
        &self,
        request: Request<wire::RefundPaymentRequest>,
    ) -> Result<Response<wire::Payment>, Status> {
        let call = Call::of(&request)?;
        let mut body = request.into_inner();
        let request_id = std::mem::take(&mut body.request_id);
        let cause =
            call.cause("RefundPayment", &request_id, &body, &*self.clock).map_err(status)?;
        let refund = parse_refund(body).map_err(status)?;
        let (payments, until) = (self.payments.clone(), until(&call));
        let work = async move { payments.refund(&cause, refund, until).await };
        to_its_end(work).await
    }
}

/// Until when the provider may be waited for.
fn until(call: &Call) -> Option<Instant> {
    call.deadline.map(|at| at.checked_sub(ANSWER_TIME).unwrap_or(at))
}

/// What has begun comes to its end, also when the caller hangs up: a payment left in flight would
/// have to wait for its claim to run out.
async fn to_its_end(
    work: impl Future<Output = Outcome> + Send + 'static,
) -> Result<Response<wire::Payment>, Status> {
    let done = tokio::spawn(telemetry::kept(work)).await;
    let outcome = done.unwrap_or_else(|error| Err(Failure::Internal(error.into())));
    measure::answered(&outcome);
    outcome.map(answer).map_err(status)
}

fn etag(etag: String) -> Option<String> {
    (!etag.is_empty()).then_some(etag)
}

fn parse_refund(body: wire::RefundPaymentRequest) -> Result<RefundRequest, Rejection> {
    let amount = body.amount.as_ref();
    Ok(RefundRequest {
        payment: body.name.parse()?,
        etag: etag(body.etag),
        amount: amount.map(|amount| words::parse_money("amount", Some(amount))).transpose()?,
        reason: body.reason,
    })
}

pub(crate) fn parse_fee(body: &wire::PayFeeRequest) -> Result<Fee, Rejection> {
    Fee::new(
        parse_name("driving", &body.driving)?,
        parse_name("allocation", &body.allocation)?,
        parse_name("customer", &body.customer)?,
        words::parse_money("amount", body.amount.as_ref())?,
    )
}

fn parse_name<T: std::str::FromStr<Err = Rejection>>(
    field: &str,
    name: &str,
) -> Result<T, Rejection> {
    name.parse().map_err(|no| Rejection { field: Some(field.to_owned()), ..no })
}

fn answer(recorded: Recorded<Payment>) -> Response<wire::Payment> {
    let token = consistency_token(Payment::KIND, recorded.id.0, recorded.version);
    reply(payment(&recorded), &token)
}

fn payment(recorded: &Recorded<Payment>) -> wire::Payment {
    let this = &recorded.aggregate;
    let refunded = Some(this.refunded_amount).filter(|amount| *amount > Money::won(0));
    wire::Payment {
        name: this.id.to_string(),
        driving: this.fee.driving.to_string(),
        allocation: this.fee.allocation.to_string(),
        customer: this.fee.customer.to_string(),
        amount: Some(words::money(this.fee.amount)),
        state: state(this.state).into(),
        provider_reference: this.provider_reference.clone(),
        attempt_count: this.attempt_count.cast_signed(),
        next_attempt_time: this.next_attempt_time.map(words::time),
        decline_reason: this.decline_reason.clone(),
        refunded_amount: refunded.map(words::money),
        create_time: Some(words::time(recorded.create_time)),
        approve_time: this.approve_time.map(words::time),
        update_time: Some(words::time(recorded.update_time)),
        etag: recorded.etag(),
        pending_refund_amount: this.refund.as_ref().map(|refund| words::money(refund.amount)),
    }
}

fn state(state: State) -> WireState {
    match state {
        State::Requested => WireState::Requested,
        State::InFlight => WireState::InFlight,
        State::Approved => WireState::Approved,
        State::Deferred => WireState::Deferred,
        State::Declined => WireState::Declined,
        State::Unknown => WireState::Unknown,
        State::Refunded => WireState::Refunded,
    }
}

fn parse_state(number: i32) -> Result<State, Rejection> {
    Ok(match WireState::try_from(number).unwrap_or_default() {
        WireState::Requested => State::Requested,
        WireState::InFlight => State::InFlight,
        WireState::Approved => State::Approved,
        WireState::Deferred => State::Deferred,
        WireState::Declined => State::Declined,
        WireState::Unknown => State::Unknown,
        WireState::Refunded => State::Refunded,
        WireState::Unspecified => {
            let message = "must be one of the states of a payment";
            return Err(Rejection::invalid("states", "INVALID_STATE", message));
        }
    })
}
