//! What others say of the documents, and of whether the door keeps to them: `openapi-spec-validator`
//! and `jsonschema`, from PyPI.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use gateway::routes::{Route, RouteTable};
use gateway::transcode;
use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, ReflectMessage as _, Value as Field};
use serde_json::{Value, json};

use crate::fuzz::messages::Generator;
use crate::{library, python, taxi};

const ANSWERS: usize = 1000;

#[test]
fn the_documents_are_openapi() {
    let Some(python) = python::with("openapi_spec_validator") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    for (name, document) in [("taxi.json", taxi().1), ("library.json", library().1)] {
        let file = directory.path().join(name);
        fs::write(&file, document.to_string()).expect("a file");
        let mut command = Command::new(&python);
        command.args(["-m", "openapi_spec_validator", "--schema", "3.1", "--subschema-errors"]);
        let said = command.arg("all").arg(&file).output().expect("a Python that starts");
        let words = [said.stdout, said.stderr].concat();
        assert!(said.status.success(), "{name}: {}", String::from_utf8_lossy(&words));
    }
}

/// Whatever an rpc answers, its JSON is as the schema of the answer says.
#[test]
fn answers_are_as_the_documents_say() {
    let Some(python) = python::with("jsonschema, referencing") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    for (name, (table, document)) in [("taxi", taxi()), ("library", library())] {
        let answers = answers(&table, &document);
        println!("{} answers of {name}", answers.len());
        assert!(answers.len() > ANSWERS / 5, "too few answers of {name} to mean something");
        let wrong = wrong(&python, directory.path(), &document, &answers);
        assert!(wrong.is_empty(), "{name}:\n{wrong}");
    }
}

/// Made-up answers, each with where its schema is.
fn answers(table: &RouteTable, document: &Value) -> Vec<Value> {
    let mut generator = Generator::new(table.pool(), 1);
    let same = |one: &Route, other: &Route| one.rpc == other.rpc && one.method == other.method;
    // Of two bindings with one method, the document does not say which is which.
    let alone =
        |route: &Route| table.routes().iter().filter(|other| same(route, other)).count() == 1;
    let unary = |route: &&Route| !route.rpc.is_server_streaming() && alone(route);
    let routes = table.routes().iter().filter(unary).cycle().take(ANSWERS);
    let answer = |route: &Route| {
        let answer = generator.message(&route.output());
        let at = schema_of(document, route)?;
        let bytes = transcode::response(route, &answer.encode_to_vec()).expect("JSON");
        let json: Value = serde_json::from_slice(&bytes).expect("JSON");
        is_plain(&answer).then(|| json!({ "at": at, "json": json }))
    };
    routes.filter_map(answer).collect()
}

/// Where the schema of a route's answer is.
fn schema_of(document: &Value, route: &Route) -> Option<Vec<String>> {
    let method = route.method.as_ref()?.as_str().to_ascii_lowercase();
    let ours = |operation: &Value| operation["x-grpc-path"] == *route.grpc_path;
    let paths = document["paths"].as_object().expect("paths");
    let (path, _) = paths.iter().find(|(_, item)| item.get(&method).is_some_and(ours))?;
    let below = ["responses", "200", "content", "application/json", "schema"];
    let at = ["paths", path, &method].into_iter().chain(below);
    Some(at.map(str::to_owned).collect())
}

/// Whether a message is one that our own services answer with: with what is required, without values
/// of enums from a later version, and without numbers that are none.
fn is_plain(message: &DynamicMessage) -> bool {
    let required = |field: &FieldDescriptor| {
        let extension = field.parent_pool().get_extension_by_name("google.api.field_behavior");
        extension.is_some_and(|extension| {
            let options = field.options();
            let behaviors = options.get_extension(&extension);
            behaviors.as_list().is_some_and(|list| list.contains(&Field::EnumNumber(2)))
        })
    };
    let mut fields = message.descriptor().fields().collect::<Vec<_>>().into_iter();
    fields.all(|field| match message.has_field(&field) {
        true => is_plain_value(&message.get_field(&field), &field),
        false => field.kind().as_message().is_none() || !required(&field),
    })
}

fn is_plain_value(value: &Field, field: &FieldDescriptor) -> bool {
    match value {
        Field::F32(value) => value.is_finite(),
        Field::F64(value) => value.is_finite(),
        Field::EnumNumber(number) => {
            let kind = field.kind();
            kind.as_enum().is_none_or(|kind| kind.get_value(*number).is_some())
        }
        Field::Message(message) => is_plain(message),
        Field::List(items) => items.iter().all(|item| is_plain_value(item, field)),
        Field::Map(entries) => {
            let kind = field.kind();
            let entry = kind.as_message().map(|entry| entry.map_entry_value_field());
            entry.is_some_and(|field| entries.values().all(|value| is_plain_value(value, &field)))
        }
        _ => true,
    }
}

/// What is wrong with answers.
fn wrong(python: &Path, directory: &Path, document: &Value, answers: &[Value]) -> String {
    let (described, lines) = (directory.join("document"), directory.join("answers"));
    fs::write(&described, document.to_string()).expect("a file");
    let text: String = answers.iter().map(|answer| format!("{answer}\n")).collect();
    fs::write(&lines, text).expect("a file");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openapi/answers.py");
    let mut command = Command::new(python);
    command.arg(script).arg(&described).stdin(File::open(&lines).expect("a file"));
    let output = command.output().expect("a Python that starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}
