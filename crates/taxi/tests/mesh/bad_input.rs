//! Whatever is wrong with a request: a precise status with reason and field, and nothing stored.

use proto::allocation::v1::{
    CancelAllocationRequest, GetAllocationRequest, ListAllocationsRequest, WatchAllocationRequest,
};
use proto::dashboard::v1::GetSummaryRequest;
use proto::driving::v1::ListDrivingsRequest;
use proto::google::r#type::LatLng;
use proto::message::v1::ListMessagesRequest;
use proto::r#type::v1::Place;
use testkit::{Backing, Role, eventually};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::people::{Customer, Driver, SOON, dev, reason, refusal, wish};

fn at_fault(status: &Status) -> (Code, String, Vec<String>) {
    let fields =
        status.get_details_bad_request().map(|bad| bad.field_violations).into_iter().flatten();
    (status.code(), reason(status), fields.map(|violation| violation.field).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_for_a_car_store_nothing() {
    let mesh = dev(Backing::Sqlite).await;
    let mut customer = Customer::new(&mesh, "C1").await;
    let off_the_globe = Some(LatLng { latitude: 91.0, longitude: 0.0 });
    let place = |address: &str, location| Some(Place { address: address.to_owned(), location });
    let long = "가".repeat(201);
    for (destination, pickup, why, field) in [
        (None, None, "INVALID_ADDRESS", "allocation.destination.address"),
        (place("", None), None, "INVALID_ADDRESS", "allocation.destination.address"),
        (place(&long, None), None, "INVALID_ADDRESS", "allocation.destination.address"),
        (place("Misa", off_the_globe), None, "INVALID_LOCATION", "allocation.destination.location"),
        (place("Misa", None), place("\n", None), "INVALID_ADDRESS", "allocation.pickup.address"),
    ] {
        let mut request = wish("");
        if let Some(allocation) = &mut request.allocation {
            allocation.destination = destination;
            allocation.pickup = pickup;
        }
        let status = customer.ask(request).await.expect_err("refused");
        let expected = (Code::InvalidArgument, why.to_owned(), vec![field.to_owned()]);
        assert_eq!(at_fault(&status), expected);
    }

    let mut request = wish("Misa");
    request.request_id = "not-a-uuid".to_owned();
    let status = customer.ask(request).await.expect_err("refused");
    assert_eq!(at_fault(&status).1, "INVALID_REQUEST_ID");

    let huge = customer.ask(wish(&"x".repeat(5 << 20))).await;
    assert_eq!(refusal(huge), (Code::InvalidArgument, "MESSAGE_TOO_LARGE".to_owned()));
    let mut request = wish("Misa");
    request.allocation.get_or_insert_default().customer = "customers/C2".to_owned();
    let foreign = customer.ask(request).await;
    assert_eq!(refusal(foreign), (Code::PermissionDenied, "CUSTOMER_NOT_ALLOWED".to_owned()));

    let list = customer.allocations.list_allocations(ListAllocationsRequest::default()).await;
    assert_eq!(list.expect("a list").into_inner().allocations, []);
    customer.request().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_reads_say_which_field() {
    let mesh = dev(Backing::Sqlite).await;
    let mut customer = Customer::new(&mesh, "C1").await;
    for name in ["", "allocations/1", "drivings/0192f0c1-7a3b-7c44-9d55-0123456789ab"] {
        let get = GetAllocationRequest { name: name.to_owned() };
        let status = customer.allocations.get_allocation(get).await.expect_err("refused");
        let expected = (Code::InvalidArgument, "INVALID_NAME".to_owned(), vec!["name".to_owned()]);
        assert_eq!(at_fault(&status), expected, "{name}");
    }
    let name = "allocations/0192f0c1-7a3b-7c44-9d55-0123456789ab".to_owned();
    let get =
        customer.allocations.get_allocation(GetAllocationRequest { name: name.clone() }).await;
    assert_eq!(refusal(get), (Code::NotFound, "ALLOCATION_NOT_FOUND".to_owned()));
    let watch = WatchAllocationRequest { name, resume_token: "forged".to_owned() };
    let watch = customer.allocations.watch_allocation(watch).await.map(|_| ());
    assert_eq!(refusal(watch), (Code::InvalidArgument, "INVALID_RESUME_TOKEN".to_owned()));

    for (request, why, field) in [
        (
            ListAllocationsRequest { page_size: -1, ..Default::default() },
            "INVALID_PAGE_SIZE",
            "page_size",
        ),
        (
            ListAllocationsRequest { page_token: "forged".into(), ..Default::default() },
            "INVALID_PAGE_TOKEN",
            "page_token",
        ),
        (
            ListAllocationsRequest { states: vec![99], ..Default::default() },
            "INVALID_STATE",
            "states",
        ),
    ] {
        let status = customer.allocations.list_allocations(request).await.expect_err("refused");
        let expected = (Code::InvalidArgument, why.to_owned(), vec![field.to_owned()]);
        assert_eq!(at_fault(&status), expected);
    }

    let parent = "customers/somebody-else".to_owned();
    let theirs = ListMessagesRequest { parent, ..Default::default() };
    let theirs = customer.messages.list_messages(theirs).await;
    assert_eq!(refusal(theirs), (Code::NotFound, "CUSTOMER_NOT_FOUND".to_owned()));

    let mut driver = Driver::new(&mesh, "D1").await;
    let near = Some(LatLng { latitude: 0.0, longitude: 181.0 });
    let list = ListDrivingsRequest { near, ..Default::default() };
    let list = driver.drivings.list_drivings(list).await;
    assert_eq!(refusal(list), (Code::InvalidArgument, "INVALID_LOCATION".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_nothing_knows_that_it_is_complete() {
    let mesh = dev(Backing::Sqlite).await;
    let operator = mesh.token(Role::Operator, "O1").await;
    eventually(SOON, || async {
        let mut dashboard = mesh.dashboard(&operator);
        let summary = dashboard.get_summary(GetSummaryRequest::default()).await;
        let as_of = summary.expect("an answer").into_inner().as_of.expect("on every answer");
        as_of.age.ok_or("not known to be complete")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_newest_first_and_their_tokens_belong_to_one_query() {
    let mesh = dev(Backing::Sqlite).await;
    let operator = mesh.token(Role::Operator, "O1").await;
    let mut allocations = mesh.allocation(&operator);
    let mut asked = Vec::new();
    for n in 0..5 {
        let mut customer = Customer::new(&mesh, &format!("C{n}")).await;
        asked.push(customer.request().await.name);
    }
    asked.reverse();
    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListAllocationsRequest { page_size: 2, page_token, ..Default::default() };
        let page = allocations.list_allocations(request).await.expect("a page").into_inner();
        seen.extend(page.allocations.into_iter().map(|allocation| allocation.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
        let other = ListAllocationsRequest {
            states: vec![1],
            page_token: page_token.clone(),
            ..Default::default()
        };
        let other = allocations.list_allocations(other).await;
        assert_eq!(refusal(other), (Code::InvalidArgument, "INVALID_PAGE_TOKEN".to_owned()));
    }
    assert_eq!(seen, asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_in_a_wrong_state_is_refused() {
    let mesh = dev(Backing::Sqlite).await;
    let mut customer = Customer::new(&mesh, "C1").await;
    let driver = Driver::new(&mesh, "D1").await;
    let allocation = customer.request().await;
    let stale = allocation.etag.clone();
    let open = driver.finds(&allocation.name).await;
    let not_theirs = (Code::NotFound, "DRIVING_NOT_FOUND".to_owned());
    assert_eq!(refusal(driver.start(&open.name).await), not_theirs);
    assert_eq!(refusal(driver.finish(&open.name).await), not_theirs);
    driver.accept(&open.name).await.expect("nobody else is there");
    let state = |reason: &str| (Code::FailedPrecondition, reason.to_owned());
    assert_eq!(refusal(driver.accept(&open.name).await), state("ALREADY_ACCEPTED"));
    assert_eq!(refusal(driver.finish(&open.name).await), state("DRIVING_NOT_STARTED"));
    let now =
        customer.sees(&allocation.name, proto::allocation::v1::allocation::State::Approved).await;
    assert_ne!(now.etag, stale);
    let cancel = CancelAllocationRequest {
        name: allocation.name.clone(),
        etag: stale,
        ..Default::default()
    };
    let cancel = customer.allocations.cancel_allocation(cancel).await;
    assert_eq!(refusal(cancel), (Code::Aborted, "ETAG_MISMATCH".to_owned()));
    let still = customer.allocation(&allocation.name).await;
    assert_eq!(still, now, "nothing has changed");
    driver.start(&open.name).await.expect("accepted");
    assert_eq!(refusal(driver.start(&open.name).await), state("DRIVING_ALREADY_STARTED"));
    driver.finish(&open.name).await.expect("started");
    assert_eq!(refusal(driver.start(&open.name).await), state("DRIVING_CLOSED"));
    assert_eq!(refusal(driver.finish(&open.name).await), state("DRIVING_CLOSED"));
    assert_eq!(refusal(driver.accept(&open.name).await), state("ALREADY_ACCEPTED"));
}
