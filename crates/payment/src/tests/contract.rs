//! The contract of PayFee, our side: in each circumstance, what we answer contains all that driving
//! relies on. What driving makes of it is for its own test of the same contract to say.

use platform::shutdown::Shutdown;
use testkit::contract::{Given, Interaction, PayFeeContract};
use testkit::{PaymentClient, Served};
use tokio::task::JoinHandle;
use tonic::Response;

use super::admission::room;
use super::house::{House, Mood, everywhere_with, fee};
use super::*;

/// A call that waits for the provider while the contract's call is made.
type Meanwhile = Option<JoinHandle<()>>;

fn config(given: Given) -> Config {
    match given {
        Given::TooManyAsked | Given::TooManyAskedAndDue => room(1, 8),
        Given::TooManyServed => room(1, 1),
        _ => Config::default(),
    }
}

/// Brings the circumstance about in which this request is going to be made.
async fn bring_about(
    given: Given,
    house: &House,
    driving: &PaymentClient,
    request: &PayFeeRequest,
) -> Meanwhile {
    let before = PayFeeRequest { request_id: fee(1, 900).request_id, ..request.clone() };
    let takes = async |fee| house.pay(fee).await.expect("an answer");
    match given {
        Given::Approves => {}
        Given::Declines => house.provider.is([Mood::Declines]),
        Given::Away => house.provider.is([Mood::Away]),
        Given::AnswerLost => house.provider.is([Mood::LosesItsAnswer]),
        Given::Taken => drop(takes(before).await),
        Given::GivenBack => {
            let taken = takes(before).await;
            house.refund(&taken, 901, None).await.expect("given back");
        }
        Given::ChargedDifferently => {
            let amount = Some(words::money(Money::won(1)));
            takes(PayFeeRequest { amount, ..before }).await;
        }
        Given::RequestIdUsed => {
            let request_id = request.request_id.clone();
            takes(PayFeeRequest { request_id, ..fee(9, 0) }).await;
        }
        Given::StoreStopped => stop(&house.tasks).await,
        Given::BeingTaken => return Some(being_served(house, driving, before).await),
        Given::TooManyAsked | Given::TooManyServed => {
            return Some(being_served(house, driving, fee(9, 900)).await);
        }
        Given::TooManyAskedAndDue => {
            house.finished(request.clone()).await.expect("a payment");
            return Some(being_served(house, driving, fee(9, 900)).await);
        }
    }
    None
}

/// Lets a call begin that is not answered until the provider may.
async fn being_served(
    house: &House,
    driving: &PaymentClient,
    request: PayFeeRequest,
) -> JoinHandle<()> {
    house.provider.is([Mood::TakesItsTime]);
    let mut driving = driving.clone();
    let mut call =
        tokio::spawn(async move { drop(driving.pay_fee(request).await.expect("served")) });
    tokio::select! {
        over = &mut call => panic!("served too early: {over:?}"),
        () = house.provider.charged.notified() => {}
    }
    call
}

async fn stop(tasks: &Shutdown) {
    tasks.trigger();
    let running = tasks.wait(60 * SECOND).await;
    assert!(running.is_empty(), "{running:?}");
}

/// Makes the contract's call in its circumstance, and looks at the answer.
async fn keep(house: &House, request: &PayFeeRequest, interaction: &Interaction) {
    let Interaction { given, answer, .. } = interaction;
    let served = Served::start(house.routes()).await;
    let mut driving = served.payment("driving");
    let meanwhile = bring_about(*given, house, &driving, request).await;
    let said = driving.pay_fee(request.clone()).await.map(Response::into_inner);
    answer.check(&said).unwrap_or_else(|broken| panic!("{given:?}: {broken}"));
    if let Some(call) = meanwhile {
        house.provider.answers.notify_one();
        call.await.expect("served");
    }
}

#[tokio::test]
async fn we_keep_the_contract_of_pay_fee() {
    let PayFeeContract { request, interactions } = PayFeeContract::read();
    join_all(interactions.iter().map(async |interaction| {
        let test = async |house: &House| keep(house, &request, interaction).await;
        everywhere_with(config(interaction.given), test).await;
    }))
    .await;
}
