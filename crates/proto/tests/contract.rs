//! The descriptor set as the gateway and reflection read it.

use std::collections::BTreeMap;

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};

/// Every method with a REST twin: its name, the verb and path, the body.
const REST: &[(&str, &str, &str)] = &[
    ("allocation.v1.AllocationService.RequestAllocation", "POST /v1/allocations", "allocation"),
    ("allocation.v1.AllocationService.GetAllocation", "GET /v1/{name=allocations/*}", ""),
    ("allocation.v1.AllocationService.ListAllocations", "GET /v1/allocations", ""),
    (
        "allocation.v1.AllocationService.CancelAllocation",
        "POST /v1/{name=allocations/*}:cancel",
        "*",
    ),
    ("allocation.v1.AllocationService.WatchAllocation", "GET /v1/{name=allocations/*}:watch", ""),
    ("dashboard.v1.DashboardService.GetDrivingInfo", "GET /v1/{name=drivingInfos/*}", ""),
    ("dashboard.v1.DashboardService.ListDrivingInfos", "GET /v1/drivingInfos", ""),
    ("dashboard.v1.DashboardService.WatchDrivingInfos", "GET /v1/drivingInfos:watch", ""),
    ("dashboard.v1.DashboardService.GetSummary", "GET /v1/drivingInfos:summary", ""),
    ("driving.v1.DrivingService.ListDrivings", "GET /v1/drivings", ""),
    ("driving.v1.DrivingService.GetDriving", "GET /v1/{name=drivings/*}", ""),
    ("driving.v1.DrivingService.AcceptDriving", "POST /v1/{name=drivings/*}:accept", "*"),
    ("driving.v1.DrivingService.DeclineDriving", "POST /v1/{name=drivings/*}:decline", "*"),
    ("driving.v1.DrivingService.StartDriving", "POST /v1/{name=drivings/*}:start", "*"),
    ("driving.v1.DrivingService.FinishDriving", "POST /v1/{name=drivings/*}:finish", "*"),
    ("driving.v1.DrivingService.WatchOpenDrivings", "GET /v1/drivings:watch", ""),
    ("message.v1.MessageService.ListMessages", "GET /v1/{parent=customers/*}/messages", ""),
    ("message.v1.MessageService.GetMessage", "GET /v1/{name=messages/*}", ""),
    ("message.v1.MessageService.WatchMessages", "GET /v1/{parent=customers/*}/messages:watch", ""),
    ("payment.v1.PaymentService.GetPayment", "GET /v1/{name=payments/*}", ""),
    ("payment.v1.PaymentService.ListPayments", "GET /v1/payments", ""),
    ("payment.v1.PaymentService.SettlePayment", "POST /v1/{name=payments/*}:settle", "*"),
    ("payment.v1.PaymentService.RefundPayment", "POST /v1/{name=payments/*}:refund", "*"),
];

/// The one method that only services call.
const GRPC_ONLY: &str = "taxi.payment.v1.PaymentService.PayFee";

fn pool() -> DescriptorPool {
    DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("the descriptor set decodes")
}

/// The verb, path and body of a method's `google.api.http` option, if it has one.
fn http_rule(pool: &DescriptorPool, method: &MethodDescriptor) -> Option<(String, String)> {
    let http = pool.get_extension_by_name("google.api.http").expect("google.api.http is known");
    let options = method.options();
    if !options.has_extension(&http) {
        return None;
    }
    let extension = options.get_extension(&http);
    let rule: &DynamicMessage = extension.as_message()?;
    let body = rule.get_field_by_name("body")?.as_str()?.to_owned();
    let route = ["get", "put", "post", "delete", "patch"].into_iter().find_map(|verb| {
        if !rule.has_field_by_name(verb) {
            return None;
        }
        let path = rule.get_field_by_name(verb)?.into_owned();
        match path {
            Value::String(path) => Some(format!("{} {path}", verb.to_uppercase())),
            _ => None,
        }
    })?;
    Some((route, body))
}

#[test]
fn rest_is_the_table_and_nothing_else() {
    let pool = pool();
    let expected: BTreeMap<String, Option<(String, String)>> = REST
        .iter()
        .map(|(name, route, body)| {
            (format!("taxi.{name}"), Some(((*route).to_owned(), (*body).to_owned())))
        })
        .chain([(GRPC_ONLY.to_owned(), None)])
        .collect();
    let found: BTreeMap<String, Option<(String, String)>> = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .map(|method| (method.full_name().to_owned(), http_rule(&pool, &method)))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn each_watch_is_a_stream_and_nothing_else_is() {
    let pool = pool();
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        assert!(!method.is_client_streaming(), "{}", method.full_name());
        assert_eq!(
            method.is_server_streaming(),
            method.name().starts_with("Watch"),
            "{}",
            method.full_name()
        );
    }
}

#[test]
fn every_event_begins_with_allocation_customer_and_driving() {
    let pool = pool();
    for file in pool.files().filter(|file| file.name().ends_with("/events.proto")) {
        for event in file.messages() {
            let first: Vec<String> =
                (1..=3).filter_map(|n| event.get_field(n)).map(|f| f.name().to_owned()).collect();
            assert_eq!(first, ["allocation", "customer", "driving"], "{}", event.full_name());
        }
    }
}

#[test]
fn comments_are_in_the_descriptor_set() {
    let pool = pool();
    let file = pool.get_file_by_name("taxi/type/v1/place.proto").expect("place.proto is there");
    let info = file.file_descriptor_proto().source_code_info.as_ref().expect("source info");
    assert!(info.location.iter().any(|location| location.leading_comments.is_some()));
}
