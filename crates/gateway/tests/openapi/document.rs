//! What holds for the whole of a document.

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs};

use gateway::errors;
use gateway::openapi::Info;
use kernel::Rejection;
use platform::status::status;
use serde_json::Value;

use crate::{documented, library, protos, taxi};

/// Set to write the document of taxi anew.
const UPDATE: &str = "UPDATE_OPENAPI";

#[test]
fn the_document_of_taxi_is_the_one_in_the_repository() {
    let (_, document) = taxi();
    let text = serde_json::to_string_pretty(&document).expect("JSON") + "\n";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi/taxi.json");
    if env::var_os(UPDATE).is_some() {
        fs::write(&file, &text).expect("a file that can be written");
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    let at = kept.lines().zip(text.lines()).position(|(kept, now)| kept != now);
    let at = at.unwrap_or(kept.lines().count().min(text.lines().count())) + 1;
    assert!(
        kept == text,
        "{} is not the document of the protos, from line {at} on. If it should change: \
         {UPDATE}=1 cargo test -p gateway --test openapi",
        file.display()
    );
}

#[test]
fn the_same_descriptors_give_the_same_document() {
    assert_eq!(taxi().1.to_string(), taxi().1.to_string());
    assert_eq!(library().1.to_string(), library().1.to_string());
}

#[test]
fn every_route_is_there_and_nothing_else() {
    for (table, document) in [taxi(), library()] {
        let mut ids = BTreeSet::new();
        let mut rpcs = BTreeSet::new();
        let mut count = 0;
        for operation in operations(&document) {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
            assert!(
                table.routes().iter().any(|route| operation["x-grpc-path"] == *route.grpc_path)
            );
            rpcs.insert(operation["x-grpc-path"].as_str().expect("a path").to_owned());
            count += 1;
        }
        let routed: BTreeSet<String> =
            table.routes().iter().map(|route| route.grpc_path.clone()).collect();
        assert_eq!(rpcs, routed);
        // A route for all methods is an operation for each one that is left, and one is taken.
        let any = table.routes().iter().filter(|route| route.method.is_none()).count();
        assert_eq!(count, table.routes().len() - any + 7 * any);
        println!("{count} operations of {} rpcs", rpcs.len());
    }
}

#[test]
fn every_reference_leads_somewhere_and_everything_is_referred_to() {
    for (_, document) in [taxi(), library()] {
        let mut references = BTreeSet::new();
        walk(&document, &mut |value| {
            if let Some(Value::String(reference)) = value.get("$ref") {
                references.insert(reference.clone());
            }
        });
        for reference in &references {
            let pointer = reference.strip_prefix('#').expect("a reference within the document");
            assert!(document.pointer(pointer).is_some_and(Value::is_object), "{reference}");
        }
        for name in document["components"]["schemas"].as_object().expect("schemas").keys() {
            let reference = format!("#/components/schemas/{name}");
            assert!(references.contains(&reference), "nothing refers to {name}");
        }
        println!("{} references", references.len());
    }
}

#[test]
fn every_variable_of_a_path_is_a_parameter() {
    for (_, document) in [taxi(), library()] {
        for (path, item) in document["paths"].as_object().expect("paths") {
            let names: BTreeSet<&str> = path
                .split('{')
                .skip(1)
                .map(|rest| rest.split('}').next().unwrap_or_default())
                .collect();
            for operation in item.as_object().expect("an item").values() {
                let parameters = operation["parameters"].as_array().expect("parameters");
                let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
                let in_path: BTreeSet<&str> =
                    in_path.map(|parameter| parameter["name"].as_str().expect("a name")).collect();
                assert_eq!(in_path, names, "{path}");
            }
        }
    }
}

#[test]
fn everything_of_taxi_says_what_it_is() {
    let (_, document) = taxi();
    for operation in operations(&document) {
        let id = &operation["operationId"];
        assert_ne!(operation["summary"], "", "{id}");
        for parameter in operation["parameters"].as_array().expect("parameters") {
            let said = parameter.get("$ref").is_some() || parameter["description"] != "";
            assert!(said, "{parameter} of {id}");
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        assert_ne!(schema["description"], "", "{name}");
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            let told = property.get("description").is_some() || name.starts_with("google.");
            assert!(told, "{field} of {name}");
        }
    }
}

#[test]
fn errors_are_as_the_document_says() {
    let (table, document) = taxi();
    let schemas = &document["components"]["schemas"];
    let names = |object: &Value| -> BTreeSet<String> {
        object.as_object().expect("an object").keys().cloned().collect()
    };
    let mut seen = BTreeSet::new();
    for rejection in [
        Rejection::invalid("name", "INVALID_NAME", "no"),
        Rejection::precondition("DRIVING_CLOSED", "no"),
        Rejection::exhausted("OVERLOADED", "no"),
    ] {
        let response = errors::error(&status(rejection), table.pool());
        let error: Value = serde_json::from_slice(&response.body).expect("JSON");
        assert_eq!(names(&error), names(&schemas["google.rpc.Status"]["properties"]));
        for detail in error["details"].as_array().expect("details") {
            let kind =
                detail["@type"].as_str().expect("a type").rsplit('/').next().expect("a name");
            assert_eq!(names(detail), names(&schemas[kind]["properties"]), "{kind}");
            seen.insert(kind.to_owned());
        }
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn services_with_one_name_are_told_apart() {
    let service = |package: &str| {
        format!(
            "syntax = 'proto3';
             package {package};
             import 'google/api/annotations.proto';
             service S {{
                 rpc Do(M) returns (M) {{ option (google.api.http) = {{get: '/{package}'}}; }}
             }}
             message M {{}}"
        )
    };
    let mut pool = protos::written(&service("a"));
    let (_, document) = documented(&pool, &Info::default());
    assert_eq!(document["tags"][0]["name"], "S");

    let other = protos::written(&service("b")).encode_to_vec();
    let other = replaced(&other, b"written.proto", b"another.proto");
    pool.decode_file_descriptor_set(other.as_slice()).expect("another file");
    let (_, document) = documented(&pool, &Info::default());
    assert_eq!(document["tags"][0]["name"], "a.S");
    assert_eq!(document["paths"]["/b"]["get"]["operationId"], "b.S_Do");
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).expect("it is there");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

/// All operations, wherever they are.
fn operations(document: &Value) -> impl Iterator<Item = &Value> {
    let places = [document.get("paths"), document.get("x-other-operations")];
    let items = places.into_iter().flatten().flat_map(|items| items.as_object().expect("items"));
    items.flat_map(|(_, item)| item.as_object().expect("an item").values())
}

fn walk(value: &Value, visit: &mut impl FnMut(&Value)) {
    visit(value);
    match value {
        Value::Object(object) => object.values().for_each(|value| walk(value, visit)),
        Value::Array(items) => items.iter().for_each(|value| walk(value, visit)),
        _ => {}
    }
}
