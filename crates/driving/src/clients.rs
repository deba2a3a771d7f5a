//! The outbound adapters: our ports over gRPC.

use std::time::Duration;

use kernel::Rejection;
use platform::auth::ServiceTokens;
use platform::client::{Balanced, CallPolicy, Unary, unary};
use proto::payment::v1::payment::State;
use proto::payment::v1::payment_service_client::PaymentServiceClient;
use proto::payment::v1::{PayFeeRequest, Payment};
use proto::words;
use tonic::Request;

use crate::domain::{Charge, Fee};
use crate::ports::Payments;

/// The payment context as a neighbour.
pub struct PaymentClient {
    client: PaymentServiceClient<Unary>,
}

impl PaymentClient {
    /// A client of the payment service, called in our own name.
    pub fn new(payment: Balanced, tokens: ServiceTokens, pay_fee: CallPolicy) -> PaymentClient {
        let stack = unary("pay_fee", payment, tokens, pay_fee);
        PaymentClient { client: PaymentServiceClient::new(stack) }
    }
}

impl Payments for PaymentClient {
    async fn charge(&self, fee: &Fee, within: Duration) -> Charge {
        let mut request = Request::new(PayFeeRequest {
            driving: fee.driving.to_string(),
            allocation: fee.allocation.to_string(),
            customer: fee.customer.to_string(),
            amount: Some(words::money(fee.amount)),
            // One fee for each driving: whoever repeats the call repeats the request.
            request_id: fee.driving.0.to_string(),
        });
        request.set_timeout(within);
        match self.client.clone().pay_fee(request).await {
            Ok(payment) => charge(payment.get_ref()).unwrap_or_else(|no| {
                tracing::error!(driving = %fee.driving, %no, "payment's answer makes no sense");
                Charge::Deferred(None)
            }),
            Err(status) => {
                let (code, message) = (status.code(), status.message());
                tracing::warn!(driving = %fee.driving, ?code, message, "the payment is deferred");
                Charge::Deferred(None)
            }
        }
    }
}

fn charge(payment: &Payment) -> Result<Charge, Rejection> {
    let id = payment.name.parse()?;
    Ok(match payment.state() {
        // What has been given back was taken; the refund is news of its own.
        State::Approved | State::Refunded => Charge::Approved(id),
        State::Declined => Charge::Declined(id),
        State::Unspecified
        | State::Requested
        | State::InFlight
        | State::Deferred
        | State::Unknown => Charge::Deferred(Some(id)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::{PaymentId, Uuid};
    use platform::client::balanced;

    #[test]
    fn what_is_not_decided_is_deferred() {
        let id = PaymentId(Uuid::from_u128(7));
        for (state, outcome) in [
            (State::Approved, Charge::Approved(id)),
            (State::Refunded, Charge::Approved(id)),
            (State::Declined, Charge::Declined(id)),
            (State::Requested, Charge::Deferred(Some(id))),
            (State::InFlight, Charge::Deferred(Some(id))),
            (State::Deferred, Charge::Deferred(Some(id))),
            (State::Unknown, Charge::Deferred(Some(id))),
        ] {
            let payment =
                Payment { name: id.to_string(), state: state.into(), ..Payment::default() };
            assert_eq!(charge(&payment), Ok(outcome), "{state:?}");
        }
        assert!(charge(&Payment::default()).is_err());
    }

    #[tokio::test]
    async fn a_neighbour_that_cannot_be_reached_is_no_error() {
        let nobody = ServiceTokens::new("http://127.0.0.1:1", "driving", "");
        let policy = CallPolicy::once(Duration::from_millis(500));
        let payment = balanced("127.0.0.1:1").expect("an address");
        let payments = PaymentClient::new(payment, nobody, policy);
        let fee = crate::tests::fee();
        let charge = payments.charge(&fee, Duration::from_millis(500)).await;
        assert_eq!(charge, Charge::Deferred(None));
    }
}
