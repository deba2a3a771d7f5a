//! Who may do what: no token, a bad token, the wrong role, somebody else's ride.

use proto::allocation::v1::{CancelAllocationRequest, GetAllocationRequest};
use proto::dashboard::v1::GetDrivingInfoRequest;
use proto::driving::v1::GetDrivingRequest;
use proto::payment::v1::PayFeeRequest;
use rstest::rstest;
use testkit::{Backing, Role};
use tonic::Code;

use crate::people::{Customer, Driver, dev, refusal, wish};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_a_token_that_is_good() {
    let mesh = dev(Backing::Sqlite).await;
    let bare = mesh.channel("allocation");
    let mut nobody =
        proto::allocation::v1::allocation_service_client::AllocationServiceClient::new(bare);
    let missing = nobody.request_allocation(wish("Misa")).await;
    assert_eq!(refusal(missing), (Code::Unauthenticated, "TOKEN_MISSING".to_owned()));
    let good = mesh.token(Role::Customer, "C1").await;
    let forged = format!("{}A{}", &good[..good.len() - 20], &good[good.len() - 19..]);
    let alg_none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJDMSIsInJvbGVzIjpbImN1c3RvbWVyIl19.";
    for token in [forged.as_str(), alg_none, "nonsense"] {
        let answer = mesh.allocation(token).request_allocation(wish("Misa")).await;
        assert_eq!(refusal(answer), (Code::Unauthenticated, "TOKEN_INVALID".to_owned()), "{token}");
    }
}

#[rstest]
#[case::driver(Role::Driver)]
#[case::service(Role::Service)]
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_ask_for_a_car(#[case] role: Role) {
    let mesh = dev(Backing::Sqlite).await;
    let token = mesh.token(role, "X1").await;
    let answer = mesh.allocation(&token).request_allocation(wish("Misa")).await;
    assert_eq!(refusal(answer), (Code::PermissionDenied, "ROLE_NOT_ALLOWED".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn money_is_taken_by_services_only() {
    let mesh = dev(Backing::Sqlite).await;
    for role in [Role::Customer, Role::Driver, Role::Operator] {
        let token = mesh.token(role, "X1").await;
        let answer = mesh.payment(&token).pay_fee(PayFeeRequest::default()).await;
        assert_eq!(refusal(answer), (Code::PermissionDenied, "ROLE_NOT_ALLOWED".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_ride_does_not_exist() {
    let mesh = dev(Backing::Sqlite).await;
    let mut owner = Customer::new(&mesh, "C1").await;
    let mut other = Customer::new(&mesh, "C2").await;
    let (driver, rival) = (Driver::new(&mesh, "D1").await, Driver::new(&mesh, "D2").await);
    let name = owner.request().await.name;
    let open = driver.finds(&name).await;
    driver.accept(&open.name).await.expect("nobody else is there");

    let get = other.allocations.get_allocation(GetAllocationRequest { name: name.clone() }).await;
    assert_eq!(refusal(get), (Code::NotFound, "ALLOCATION_NOT_FOUND".to_owned()));
    let cancel = CancelAllocationRequest { name: name.clone(), ..Default::default() };
    let cancel = other.allocations.cancel_allocation(cancel).await;
    assert_eq!(refusal(cancel), (Code::NotFound, "ALLOCATION_NOT_FOUND".to_owned()));
    let info = GetDrivingInfoRequest {
        name: name.replace("allocations", "drivingInfos"),
        ..Default::default()
    };
    let info = other.dashboard.get_driving_info(info).await;
    assert_eq!(refusal(info), (Code::NotFound, "DRIVING_INFO_NOT_FOUND".to_owned()));
    let not_found = (Code::NotFound, "DRIVING_NOT_FOUND".to_owned());
    let get = GetDrivingRequest { name: open.name.clone() };
    let get = rival.drivings.clone().get_driving(get).await;
    assert_eq!(refusal(get), not_found, "accepted by somebody else");
    assert_eq!(refusal(rival.start(&open.name).await), not_found);
    assert_eq!(refusal(rival.finish(&open.name).await), not_found);
}
