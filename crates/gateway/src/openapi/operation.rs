//! One route as an operation.

use std::collections::{BTreeSet, HashMap};

use http::Method;
use platform::call::{CONSISTENCY_TOKEN_HEADER, IDEMPOTENCY_KEY_HEADER};
use prost_reflect::{FieldDescriptor, Kind};
use serde_json::{Map, Value, json};

use super::comment::Comment;
use super::example;
use super::path::Path;
use super::schema::{Behaviors, Schemas};
use super::{METHODS, errors, query, service_name};
use crate::routes::{Body, Route, RouteTable};
use crate::stream::{Format, RESUME_TOKEN};

/// Headers of a request that are described where a comment speaks of them: the name of the metadata,
/// and of the parameter.
const HEADERS: [(&str, &str); 2] =
    [("accept-language", "AcceptLanguage"), (IDEMPOTENCY_KEY_HEADER, "IdempotencyKey")];

/// The operations so far, and what they refer to.
pub(super) struct Operations<'t> {
    table: &'t RouteTable,
    schemas: Schemas,
    errors: errors::Shared,
    /// How many routes each rpc has had.
    bindings: HashMap<String, usize>,
}

impl<'t> Operations<'t> {
    pub(super) fn new(table: &'t RouteTable) -> Operations<'t> {
        let mut schemas = Schemas::new(table);
        errors::add_schemas(&mut schemas);
        Operations { table, schemas, errors: errors::Shared::default(), bindings: HashMap::new() }
    }

    /// The methods of a route, each with the id of its operation: the rpc's name, numbered for
    /// additional bindings.
    pub(super) fn ids(&mut self, route: &Route) -> Vec<(Method, String)> {
        let service = service_name(self.table, route.rpc.parent_service());
        let mut id = format!("{service}_{}", route.rpc.name());
        let nth = self.bindings.entry(route.rpc.full_name().to_owned()).or_default();
        *nth += 1;
        if *nth > 1 {
            id = format!("{id}_{nth}");
        }
        match &route.method {
            Some(method) => vec![(method.clone(), id)],
            None => METHODS.map(|method| (method.clone(), format!("{id}_{method}"))).into(),
        }
    }

    /// The operation of a route.
    pub(super) fn operation(&mut self, route: &Route, path: &Path, id: &str) -> Value {
        let rpc = &route.rpc;
        let comment = Comment::of(&rpc.parent_file(), rpc.path());
        let mut parameters = path.parameters(route, &mut self.schemas);
        parameters.extend(query::parameters(route, &mut self.schemas));
        parameters.extend(headers(route, &comment));
        let mut responses = self.errors.responses(route);
        responses.insert("200".to_owned(), self.answer(route));
        let mut operation = json!({
            "operationId": id,
            "tags": [service_name(self.table, rpc.parent_service())],
            "summary": comment.summary().replace('`', ""),
            "description": comment.details(),
            "parameters": parameters,
            "responses": responses,
            "x-grpc-path": route.grpc_path,
        });
        if let Some(body) = self.body(route, id) {
            operation["requestBody"] = body;
        }
        let options = &rpc.method_descriptor_proto().options;
        if options.as_ref().is_some_and(|options| options.deprecated()) {
            operation["deprecated"] = true.into();
        }
        operation
    }

    fn body(&mut self, route: &Route, id: &str) -> Option<Value> {
        let (schema, required, example) = match &route.body {
            Body::None => return None,
            Body::All => self.request(route, id),
            Body::Field(field) => (
                self.schemas.property(field),
                Behaviors::of(field).required(),
                example::of_body(field),
            ),
        };
        let mut json = json!({ "schema": schema });
        if let Some(example) = example {
            json["example"] = example;
        }
        Some(json!({ "required": required, "content": { "application/json": json } }))
    }

    /// The whole request but for what the path says, whether it must be there at all, and an example.
    fn request(&mut self, route: &Route, id: &str) -> (Value, bool, Option<Value>) {
        let plain = route.variables.iter().filter(|target| target.len() == 1);
        let in_path: BTreeSet<String> = plain.map(|target| target[0].name().to_owned()).collect();
        let input = route.input();
        let needed = |field: &FieldDescriptor| {
            Behaviors::of(field).required() && !in_path.contains(field.name())
        };
        let required = input.fields().any(|field| needed(&field));
        let example = example::of_message(&input, &in_path);
        if in_path.is_empty() {
            return (self.schemas.message(&input), required, example);
        }
        let schema = self.schemas.object(&input, &in_path);
        (self.schemas.add(&format!("{id}.Body"), schema), required, example)
    }

    fn answer(&mut self, route: &Route) -> Value {
        let output = route.output();
        let schema = match &route.response_body {
            Some(field) => self.schemas.property(field),
            None => self.schemas.message(&output),
        };
        let comment = Comment::of(&output.parent_file(), output.path());
        let description = match comment.summary() {
            "" => "It is done.".to_owned(),
            summary => format!("{summary}."),
        };
        let mut answer = json!({ "description": description });
        answer["content"] = match route.rpc.is_server_streaming() {
            true => stream(schema),
            false => json!({ "application/json": { "schema": schema } }),
        };
        if is_command(route) {
            let token = json!({ "$ref": "#/components/headers/ConsistencyToken" });
            answer["headers"] = json!({ CONSISTENCY_TOKEN_HEADER: token });
        }
        answer
    }

    /// All that operations refer to.
    pub(super) fn components(self) -> Value {
        let mut headers: Map<String, Value> = errors::headers();
        let token = "Names what was written. A read that is told this token sees at least that.";
        headers.insert(
            "ConsistencyToken".to_owned(),
            json!({ "description": token, "schema": { "type": "string" } }),
        );
        json!({
            "schemas": self.schemas.finish(),
            "headers": headers,
            "responses": self.errors.finish(),
            "parameters": {
                "AcceptLanguage": header(
                    "Accept-Language",
                    "The languages that the caller reads, best first, as in `ko, en;q=0.5`.",
                    json!({ "type": "string" }),
                ),
                "IdempotencyKey": header(
                    "Idempotency-Key",
                    "Makes the request safe to repeat, where `requestId` is not set: a UUID.",
                    json!({ "type": "string", "format": "uuid" }),
                ),
                "LastEventId": header(
                    "Last-Event-ID",
                    "Carries the stream on after the event with this `id`, where `resumeToken` is \
                     not set. What reads server-sent events sends it on its own.",
                    json!({ "type": "string" }),
                ),
                "GrpcTimeout": lasting(),
            },
        })
    }
}

fn header(name: &str, description: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "header", "description": description, "schema": schema })
}

/// How a client that reads an answer only when it has ended gets one of a stream.
fn lasting() -> Value {
    let description = "How long the stream may last: hours (`H`), minutes (`M`), seconds (`S`) or \
                       milliseconds (`m`). Without it, for as long as there can be more to say.";
    let mut lasting = header(
        "Grpc-Timeout",
        description,
        json!({ "type": "string", "pattern": "^[0-9]{1,8}[HMSmun]$" }),
    );
    lasting["example"] = "5S".into();
    lasting
}

/// Whether a route changes something, as HTTP sees it.
fn is_command(route: &Route) -> bool {
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE];
    let reads = route.method.as_ref().is_some_and(|method| reads.contains(method));
    !reads && !route.rpc.is_server_streaming()
}

/// The headers of which the comments of the rpc or of its request's fields speak, and what carries a
/// stream on and ends it.
fn headers(route: &Route, comment: &Comment) -> Vec<Value> {
    let input = route.input();
    let spoken_of = |name: &str| {
        let of_field =
            |field: FieldDescriptor| Comment::of(&field.parent_file(), field.path()).names(name);
        comment.names(name) || input.fields().any(of_field)
    };
    let token = input.get_field_by_name(RESUME_TOKEN);
    let resumed = route.rpc.is_server_streaming()
        && token.is_some_and(|token| token.kind() == Kind::String && !token.is_list());
    let named = HEADERS.into_iter().filter(|(name, _)| spoken_of(name)).map(|(_, name)| name);
    let ends = route.rpc.is_server_streaming().then_some("GrpcTimeout");
    let names = named.chain(resumed.then_some("LastEventId")).chain(ends);
    names.map(|name| json!({ "$ref": format!("#/components/parameters/{name}") })).collect()
}

/// A stream, in both its formats.
fn stream(element: Value) -> Value {
    let line = json!({
        "description": "One line. The last one is the error that ended the stream, if there was one.",
        "oneOf": [
            { "type": "object", "required": ["result"], "properties": { "result": element } },
            {
                "type": "object",
                "required": ["error"],
                "properties": { "error": { "$ref": "#/components/schemas/google.rpc.Status" } },
            },
        ],
    });
    let events = json!({
        "type": "string",
        "description": "Server-sent events. `data` is one element, `id` is its resume token. The \
                        last event is an `error`, whose `data` is a `google.rpc.Status`, or `end`.",
    });
    json!({
        Format::Ndjson.content_type(): { "schema": line },
        Format::Sse.content_type(): { "schema": events },
    })
}
