//! Several people want the same thing at the same moment.

use futures::future::join_all;
use rstest::rstest;
use testkit::Backing;
use tonic::Code;

use crate::people::{Customer, Driver, dev, refusal, wish};

#[rstest]
#[case::sqlite(Backing::Sqlite)]
#[case::postgres(Backing::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn of_many_drivers_one_wins(#[case] backing: Backing) {
    let mesh = dev(backing).await;
    let mut customer = Customer::new(&mesh, "C1").await;
    let subjects: Vec<String> = (0..8).map(|n| format!("D{n}")).collect();
    let drivers = join_all(subjects.iter().map(|subject| Driver::new(&mesh, subject))).await;
    let allocation = customer.request().await;
    let open = drivers[0].finds(&allocation.name).await;

    let answers = join_all(drivers.iter().map(|driver| driver.accept(&open.name))).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    for answer in lost {
        assert_eq!(refusal(answer), (Code::FailedPrecondition, "ALREADY_ACCEPTED".to_owned()));
    }
}

#[rstest]
#[case::sqlite(Backing::Sqlite)]
#[case::postgres(Backing::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn a_driver_has_one_driving_at_a_time(#[case] backing: Backing) {
    let mesh = dev(backing).await;
    let driver = Driver::new(&mesh, "D1").await;
    let (mut one, mut two) = (Customer::new(&mesh, "C1").await, Customer::new(&mesh, "C2").await);
    let (first, second) = (one.request().await, two.request().await);
    let first = driver.finds(&first.name).await;
    let second = driver.finds(&second.name).await;

    let answers = join_all([&first, &second].map(|open| driver.accept(&open.name))).await;
    let (won, mut lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 1));
    let busy = (Code::FailedPrecondition, "DRIVER_BUSY".to_owned());
    assert_eq!(refusal(lost.remove(0)), busy);
    let other = if won[0].as_ref().is_ok_and(|won| won.get_ref().name == first.name) {
        second
    } else {
        first
    };
    assert_eq!(refusal(driver.accept(&other.name).await), busy, "and it stays so");
}

#[rstest]
#[case::sqlite(Backing::Sqlite)]
#[case::postgres(Backing::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn a_customer_has_one_open_allocation(#[case] backing: Backing) {
    let mesh = dev(backing).await;
    let customer = Customer::new(&mesh, "C1").await;
    let ask = |n: u32| {
        let mut client = customer.allocations.clone();
        async move { client.request_allocation(wish(&format!("Misa {n}"))).await }
    };
    let answers = join_all((0..8).map(ask)).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    for answer in lost {
        let refused = (Code::FailedPrecondition, "OPEN_ALLOCATION_EXISTS".to_owned());
        assert_eq!(refusal(answer), refused);
    }
}
