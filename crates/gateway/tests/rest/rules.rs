//! The route table when it is built: what it has, and which rules it refuses.

use gateway::routes::{Body, RouteTable};
use http::Method;
use prost_reflect::DescriptorPool;

use crate::protos;

/// Why there is no table for an rpc with this rule. Its request has the fields below.
fn refused(rule: &str) -> String {
    of_rpcs(&format!(
        "rpc Do(Request) returns (Answer) {{ option (google.api.http) = {{{rule}}}; }}"
    ))
}

fn of_rpcs(rpcs: &str) -> String {
    let proto = format!(
        r#"
        syntax = "proto3";
        package written.v1;
        import "google/api/annotations.proto";
        service Service {{ {rpcs} }}
        message Request {{
            string name = 1;
            repeated string tags = 2;
            map<string, string> labels = 3;
            Request inner = 4;
            repeated Request list = 5;
        }}
        message Answer {{ string name = 1; }}
        "#
    );
    RouteTable::new(&protos::written(&proto)).expect_err(rpcs).to_string()
}

#[test]
fn rules_that_cannot_work_are_refused() {
    for (rule, why) in [
        ("", "it has no HTTP method and path"),
        ("body: '*'", "it has no HTTP method and path"),
        ("get: ''", "the path template \"\" is malformed at character 1: it must begin with /"),
        ("get: '/v1/{name'", "is malformed at character 10: expected }"),
        ("get: '/v1/{nothing}'", "written.v1.Request has no field nothing"),
        ("get: '/v1/{inner.nothing}'", "written.v1.Request has no field inner.nothing"),
        (
            "get: '/v1/{name.first}'",
            "name.first is in the path, but is repeated, a map or a message",
        ),
        ("get: '/v1/{tags}'", "tags is in the path, but is repeated"),
        ("get: '/v1/{labels}'", "labels is in the path, but is repeated, a map"),
        ("get: '/v1/{inner}'", "inner is in the path, but is repeated, a map or a message"),
        ("get: '/v1/{list.name}'", "list.name is in the path, but is repeated"),
        ("get: '/v1/{name}/{name}'", "name is in the path twice"),
        ("post: '/v1' body: 'nothing'", "written.v1.Request has no field nothing"),
        ("post: '/v1' body: 'inner.name'", "written.v1.Request has no field inner.name"),
        ("post: '/v1/{name}' body: 'name'", "name is in the path and is the body"),
        ("get: '/v1' body: '*'", "GET has no body"),
        ("delete: '/v1' body: 'inner'", "DELETE has no body"),
        ("custom: {kind: 'HEAD' path: '/v1'} body: '*'", "HEAD has no body"),
        ("custom: {kind: 'A B' path: '/v1'}", "\"A B\" is no HTTP method"),
        ("custom: {kind: '' path: '/v1'}", "\"\" is no HTTP method"),
        ("get: '/v1' response_body: 'nothing'", "written.v1.Answer has no field nothing"),
        ("get: '/v1' additional_bindings {}", "it has no HTTP method and path"),
        (
            "get: '/v1' additional_bindings {get: '/v2' additional_bindings {get: '/v3'}}",
            "an additional binding cannot have additional bindings",
        ),
        (
            "get: '/v1' additional_bindings {get: '/v1'}",
            "GET /v1 is claimed by written.v1.Service.Do already",
        ),
    ] {
        let refused = refused(rule);
        let start = "the google.api.http rule of written.v1.Service.Do cannot be used: ";
        assert!(refused.starts_with(start) && refused.contains(why), "{rule}: {refused}");
    }
}

#[test]
fn a_stream_of_requests_is_no_http_request() {
    for answer in ["Answer", "stream Answer"] {
        let refused = of_rpcs(&format!(
            "rpc Do(stream Request) returns ({answer}) {{
                option (google.api.http) = {{post: '/v1' body: '*'}};
            }}"
        ));
        assert!(refused.ends_with("the rpc takes a stream, which one HTTP request is not"));
    }
}

#[test]
fn two_rpcs_cannot_claim_the_same_requests() {
    let pair = |one: &str, other: &str| {
        of_rpcs(&format!(
            "rpc One(Request) returns (Answer) {{ option (google.api.http) = {{{one}}}; }}
             rpc Two(Request) returns (Answer) {{ option (google.api.http) = {{{other}}}; }}"
        ))
    };
    for (one, other) in [
        ("get: '/v1/a'", "get: '/v1/a'"),
        ("get: '/v1/{name}'", "get: '/v1/{inner.name}'"),
        ("get: '/v1/{name=a/*}'", "get: '/v1/a/{inner.name}'"),
        ("get: '/v1/{name=**}:b'", "get: '/v1/**:b'"),
        ("get: '/v1/%61'", "custom: {kind: 'GET' path: '/v1/a'}"),
        ("custom: {kind: '*' path: '/v1'}", "custom: {kind: '*' path: '/v1'}"),
    ] {
        let refused = pair(one, other);
        assert!(refused.contains("rule of written.v1.Service.Two"), "{refused}");
        assert!(refused.ends_with("is claimed by written.v1.Service.One already"), "{refused}");
    }
}

#[test]
fn the_table_knows_where_each_field_goes() {
    let table = RouteTable::new(&protos::library()).expect("good rules");
    let routes = |rpc: &str| -> Vec<_> {
        table.routes().iter().filter(|route| route.rpc.name() == rpc).collect()
    };
    let fields = |fields: &[prost_reflect::FieldDescriptor]| -> Vec<String> {
        fields.iter().map(|field| field.name().to_owned()).collect()
    };

    let update = routes("UpdateBook");
    assert_eq!(update.len(), 2);
    assert_eq!(update[0].method, Some(Method::PATCH));
    assert_eq!(update[0].grpc_path, "/library.v1.Library/UpdateBook");
    assert_eq!(update[0].template.to_string(), "/v1/{book.name=shelves/*/books/*}");
    assert_eq!(fields(&update[0].variables[0]), ["book", "name"]);
    assert!(matches!(&update[0].body, Body::Field(field) if field.name() == "book"));
    assert_eq!(fields(&update[0].query_fields()), ["update_mask", "etag"]);

    let list = routes("ListBooks");
    assert_eq!(fields(&list[0].query_fields()), ["page_size", "page_token"]);
    assert_eq!(fields(&list[1].query_fields()), ["parent", "page_size", "page_token"]);
    assert_eq!((&list[2].body, list[2].query_fields().len()), (&Body::All, 0));
    assert_eq!(list[0].response_body.as_ref().map(|field| field.name()), Some("books"));
    assert_eq!(list[2].response_body, None);

    assert!(routes("Reindex").is_empty());
    assert_eq!(routes("AnyMethod")[0].method, None);
}

#[test]
fn the_table_of_taxi_has_every_rpc_but_one_with_its_comments() {
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("our protos");
    let table = RouteTable::new(&pool).expect("good rules");
    let rpcs = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    let without: Vec<String> = rpcs
        .filter(|rpc| !table.routes().iter().any(|route| route.rpc == *rpc))
        .map(|rpc| rpc.full_name().to_owned())
        .collect();
    assert_eq!(without, ["taxi.payment.v1.PaymentService.PayFee"]);
    for route in table.routes() {
        let file = route.rpc.parent_file();
        let info = file.file_descriptor_proto().source_code_info.as_ref().expect("source info");
        let comment = info.location.iter().find(|location| location.path == route.rpc.path());
        assert!(comment.is_some_and(|comment| comment.leading_comments.is_some()));
    }
}

#[test]
fn without_rules_there_are_no_routes() {
    let proto = "syntax = 'proto3'; service S { rpc Do(M) returns (M); } message M {}";
    let table = RouteTable::new(&protos::written(proto)).expect("a table");
    assert!(table.routes().is_empty());
    assert!(table.find(&Method::GET, "/").is_err());
}
