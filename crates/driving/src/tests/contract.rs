//! The contract of PayFee, our side: what we send, and what we make of each answer. That payment
//! answers like this is for its own test of the same contract to say.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kernel::{PaymentId, Role, Uuid};
use platform::auth::Access;
use platform::client::{CallPolicy, balanced};
use platform::server::Routes;
use proto::payment::v1 as wire;
use testkit::Served;
use testkit::contract::{Interaction, Means, PayFeeContract};
use tonic::{Request, Response, Status};
use wire::payment::State;
use wire::payment_service_server::{PaymentService, PaymentServiceServer};

use super::house::{allocation, fee};
use crate::clients::PaymentClient;
use crate::domain::{Charge, Fee};
use crate::ports::Payments;

/// Long enough for two attempts on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A payment context that says what the contract says, and keeps what it was asked.
struct ByContract {
    says: Result<wire::Payment, Status>,
    asked: Arc<Mutex<Vec<wire::PayFeeRequest>>>,
}

#[tonic::async_trait]
impl PaymentService for ByContract {
    async fn pay_fee(
        &self,
        request: Request<wire::PayFeeRequest>,
    ) -> Result<Response<wire::Payment>, Status> {
        self.asked.lock().expect("no panic").push(request.into_inner());
        self.says.clone().map(Response::new)
    }

    async fn get_payment(
        &self,
        _: Request<wire::GetPaymentRequest>,
    ) -> Result<Response<wire::Payment>, Status> {
        Err(no_contract())
    }

    async fn list_payments(
        &self,
        _: Request<wire::ListPaymentsRequest>,
    ) -> Result<Response<wire::ListPaymentsResponse>, Status> {
        Err(no_contract())
    }

    async fn settle_payment(
        &self,
        _: Request<wire::SettlePaymentRequest>,
    ) -> Result<Response<wire::Payment>, Status> {
        Err(no_contract())
    }

    async fn refund_payment(
        &self,
        _: Request<wire::RefundPaymentRequest>,
    ) -> Result<Response<wire::Payment>, Status> {
        Err(no_contract())
    }
}

fn no_contract() -> Status {
    Status::unimplemented("there is no contract about it")
}

/// Asks for the fee where payment answers so; what we make of it, and what we have sent.
async fn charge(says: Result<wire::Payment, Status>) -> (Charge, Vec<wire::PayFeeRequest>) {
    const ACCESS: Access = Access(&[("PayFee", &[Role::Service])]);
    let asked = Arc::default();
    let service = PaymentServiceServer::new(ByContract { says, asked: Arc::clone(&asked) });
    let served = Served::start(Routes::new("payment").service(service, ACCESS)).await;
    let policy =
        CallPolicy { attempts: 2, attempt_timeout: PATIENCE / 3, ..CallPolicy::once(PATIENCE) };
    let payment = balanced(served.address()).expect("an address");
    let payments = PaymentClient::new(payment, served.tokens(crate::NAME), policy);
    let fee = Fee { allocation: allocation(2), ..fee() };
    let charge = payments.charge(&fee, PATIENCE).await;
    let asked = asked.lock().expect("no panic").clone();
    (charge, asked)
}

/// What we make of an answer, as the contract has it.
fn expected(means: Means, payment: Option<PaymentId>) -> Charge {
    let known = || payment.expect("an answer that names the payment");
    match means {
        Means::Approved => Charge::Approved(known()),
        Means::Declined => Charge::Declined(known()),
        Means::Deferred => Charge::Deferred(payment),
    }
}

#[tokio::test]
async fn we_keep_the_contract_of_pay_fee() {
    let PayFeeContract { request, interactions } = PayFeeContract::read();
    for Interaction { given, answer, asks_again, means } in interactions {
        let says = answer.say(Uuid::from_u128(7));
        let payment = says.as_ref().ok().map(|it| it.name.parse().expect("a name"));
        let (charge, asked) = charge(says).await;
        assert_eq!(charge, expected(means, payment), "{given:?}");
        assert_eq!(asked, vec![request.clone(); 1 + usize::from(asks_again)], "{given:?}");
    }
}

#[test]
fn the_contract_has_every_state_of_a_payment() {
    let answers = PayFeeContract::read().interactions.into_iter().map(|it| it.answer);
    let payments = answers.filter_map(|answer| answer.say(Uuid::nil()).ok());
    let states: Vec<State> = payments.map(|payment| payment.state()).collect();
    let all = (1..).map_while(|number| State::try_from(number).ok());
    all.for_each(|state| assert!(states.contains(&state), "{state:?}"));
}
