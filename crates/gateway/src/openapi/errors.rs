//! What can go wrong with an rpc, by HTTP status.
//!
//! The comment of an rpc names its reasons: `Errors: NOT_FOUND SHELF_NOT_FOUND; ABORTED
//! ETAG_MISMATCH.` A service's comment names those of all its rpcs, behind `any rpc can answer`. What
//! the door itself refuses is known here.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use platform::status::{DOMAIN, http_status_of};
use serde_json::{Map, Value, json};
use tonic::Code;

use super::comment::Comment;
use super::schema::Schemas;
use crate::routes::{Body, Route};

const STATUS: &str = "google.rpc.Status";
const OF_RPC: &str = "Errors:";
const OF_SERVICE: &str = "any rpc can answer";

/// What any rpc can answer, commented or not.
const ALWAYS: [&str; 6] = [
    "INVALID_ARGUMENT",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
];

/// Reasons by their codes.
type Reasons = BTreeMap<String, BTreeSet<String>>;

/// Answers that several operations share, by the names they have as components.
#[derive(Default)]
pub(super) struct Shared(BTreeMap<String, Value>);

impl Shared {
    /// The answers of a route that are no success, by HTTP status.
    pub(super) fn responses(&mut self, route: &Route) -> Map<String, Value> {
        let service = route.rpc.parent_service();
        let service = Comment::of(&service.parent_file(), service.path());
        let rpc = Comment::of(&route.rpc.parent_file(), route.rpc.path());
        let named = read(rpc.sentence_after(OF_RPC).unwrap_or_default());
        let common = read(service.sentence_after(OF_SERVICE).unwrap_or_default());
        let mut by_status: BTreeMap<u16, Reasons> = BTreeMap::new();
        for (name, reasons) in [always(route), common, named.clone()].into_iter().flatten() {
            let Some(code) = code(&name) else { continue };
            let of_status = by_status.entry(http_status_of(code)).or_default();
            of_status.entry(name).or_default().extend(reasons);
        }
        let mut responses = Map::new();
        for (status, reasons) in by_status {
            let own = reasons.keys().any(|code| named.contains_key(code));
            let response = response(status, &reasons, &named);
            let response = if own { response } else { self.share(status, response) };
            responses.insert(status.to_string(), response);
        }
        responses.insert("default".to_owned(), refer("responses", "Error"));
        responses
    }

    /// A reference to an answer, or itself when another one has its name.
    fn share(&mut self, status: u16, response: Value) -> Value {
        let phrase = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        let name = phrase.unwrap_or("Error").replace(' ', "");
        if *self.0.entry(name.clone()).or_insert_with(|| response.clone()) == response {
            return refer("responses", &name);
        }
        response
    }

    /// All of them, and the one for whatever is not listed.
    pub(super) fn finish(mut self) -> BTreeMap<String, Value> {
        let any = json!({
            "description": "Any other error, such as 405 for another method or 500 for a defect.",
            "content": { "application/json": { "schema": refer("schemas", STATUS) } },
        });
        self.0.insert("Error".to_owned(), any);
        self.0
    }
}

/// What a route can answer whatever the rpc does.
fn always(route: &Route) -> Reasons {
    let mut reasons: Reasons = ALWAYS.map(|code| (code.to_owned(), BTreeSet::new())).into();
    if !route.variables.is_empty() {
        reasons.entry("NOT_FOUND".to_owned()).or_default();
    }
    let at_the_door = at_the_door(route).map(str::to_owned);
    reasons.entry("INVALID_ARGUMENT".to_owned()).or_default().extend(at_the_door);
    reasons
}

/// What is refused before the rpc is reached.
fn at_the_door(route: &Route) -> impl Iterator<Item = &'static str> {
    let query = ["INVALID_QUERY_PARAMETER", "UNKNOWN_QUERY_PARAMETER"];
    let body = match route.body {
        Body::None => &["BODY_NOT_ALLOWED"][..],
        _ => &["INVALID_FIELD_VALUE", "MALFORMED_JSON", "UNKNOWN_FIELD"],
    };
    let path = &["INVALID_PATH_PARAMETER"][..usize::from(!route.variables.is_empty())];
    query.into_iter().chain(body.iter().copied()).chain(path.iter().copied())
}

/// The codes of a sentence, each with the reasons behind it. Words in capitals are one or the other.
fn read(sentence: &str) -> Reasons {
    let mut reasons = Reasons::new();
    let mut current = None;
    for word in sentence.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_') {
        let capital = word.starts_with(|letter: char| letter.is_ascii_uppercase());
        if word.len() < 4 || !capital || word.contains(char::is_lowercase) {
            continue;
        }
        if code(word).is_some() {
            reasons.entry(word.to_owned()).or_default();
            current = Some(word);
        } else if let Some(reasons) = current.and_then(|code| reasons.get_mut(code)) {
            reasons.insert(word.to_owned());
        }
    }
    reasons
}

/// The code of a name such as `NOT_FOUND`.
fn code(name: &str) -> Option<Code> {
    let camel = name.replace('_', "");
    (1..=16).map(Code::from_i32).find(|code| format!("{code:?}").eq_ignore_ascii_case(&camel))
}

/// An answer, with an example of each reason that the rpc's own comment names.
fn response(status: u16, reasons: &Reasons, named: &Reasons) -> Value {
    let line = |(code, reasons): (&String, &BTreeSet<String>)| {
        let reasons: Vec<String> = reasons.iter().map(|reason| format!("`{reason}`")).collect();
        let colon = if reasons.is_empty() { "" } else { ": " };
        format!("- {code}{colon}{}", reasons.join(", "))
    };
    let lines: Vec<String> = reasons.iter().map(line).collect();
    let own = named.iter().filter(|(code, _)| reasons.contains_key(*code));
    let own = own.flat_map(|(code, own)| own.iter().map(move |reason| (code, reason)));
    let examples: Map<String, Value> =
        own.map(|(code, reason)| (reason.clone(), example(code, reason))).collect();
    let mut content = json!({ "schema": refer("schemas", STATUS) });
    if !examples.is_empty() {
        content["examples"] = examples.into();
    }
    let mut response = json!({
        "description": lines.join("\n"),
        "content": { "application/json": content },
    });
    match status {
        401 => response["headers"] = header("WWW-Authenticate", "WwwAuthenticate"),
        429 | 503 => response["headers"] = header("Retry-After", "RetryAfter"),
        _ => {}
    }
    response
}

fn example(name: &str, reason: &str) -> Value {
    let code = code(name).unwrap_or(Code::Unknown) as i32;
    let info = json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": DOMAIN,
        "metadata": {},
    });
    json!({
        "summary": name,
        "value": { "code": code, "message": "in words, for people", "details": [info] },
    })
}

fn header(name: &str, component: &str) -> Value {
    json!({ name: refer("headers", component) })
}

fn refer(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

/// The headers of errors.
pub(super) fn headers() -> Map<String, Value> {
    let header =
        |description: &str, schema: Value| json!({ "description": description, "schema": schema });
    let after = header(
        "The seconds after which it makes sense to ask again: `RetryInfo`, rounded up.",
        json!({ "type": "integer", "minimum": 0 }),
    );
    let authenticate = header(
        "`Bearer`, and perhaps what is wrong with the token that was sent.",
        json!({ "type": "string" }),
    );
    [("RetryAfter", after), ("WwwAuthenticate", authenticate)]
        .map(|(name, header)| (name.to_owned(), header))
        .into_iter()
        .collect()
}

/// The schemas of errors: `google.rpc.Status`, and of its details those that occur.
pub(super) fn add_schemas(schemas: &mut Schemas) {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let items = |item: Value| json!({ "type": "array", "items": item });
    let details = [
        detail(
            schemas,
            "ErrorInfo",
            "What it is, for programs. Every error has it.",
            json!({
                "reason": text("What it is, in UPPER_SNAKE. Stable."),
                "domain": text("Whose reasons these are."),
                "metadata": { "type": "object", "additionalProperties": { "type": "string" } },
            }),
        ),
        detail(
            schemas,
            "BadRequest",
            "Which fields of the request are at fault.",
            json!({
                "fieldViolations": items(json!({
                    "type": "object",
                    "properties": {
                        "field": text("The field, by its path in the request, as the proto names it."),
                        "description": text("What is wrong with it."),
                        "reason": text("Not used: see ErrorInfo."),
                        "localizedMessage": { "type": ["object", "null"] },
                    },
                })),
            }),
        ),
        detail(
            schemas,
            "PreconditionFailure",
            "Which state does not allow it.",
            json!({
                "violations": items(json!({
                    "type": "object",
                    "properties": {
                        "type": text("The reason once more."),
                        "subject": text("What is in that state."),
                        "description": text("What is wrong with it."),
                    },
                })),
            }),
        ),
        detail(
            schemas,
            "RetryInfo",
            "When it makes sense to ask again.",
            json!({
                "retryDelay": { "type": ["string", "null"], "description": "Not before this time is over, such as `1.500s`." },
            }),
        ),
    ];
    let other = json!({
        "type": "object",
        "description": "Any other detail.",
        "properties": { "@type": { "type": "string" } },
    });
    let details: Vec<Value> = details.into_iter().chain([other]).collect();
    schemas.add(STATUS, json!({
        "type": "object",
        "title": "Status",
        "description": "An error.",
        "required": ["code", "message", "details"],
        "properties": {
            "code": { "type": "integer", "format": "int32", "description": "The code of `google.rpc.Code`." },
            "message": text("What people read. It can change."),
            "details": items(json!({ "anyOf": details })),
        },
    }));
}

fn detail(schemas: &mut Schemas, name: &str, description: &str, mut properties: Value) -> Value {
    let names: Vec<String> =
        properties.as_object().into_iter().flat_map(|fields| fields.keys().cloned()).collect();
    properties["@type"] = json!({ "const": format!("type.googleapis.com/google.rpc.{name}") });
    let required: Vec<String> = std::iter::once("@type".to_owned()).chain(names).collect();
    schemas.add(
        &format!("google.rpc.{name}"),
        json!({
            "type": "object",
            "title": name,
            "description": description,
            "required": required,
            "properties": properties,
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_read_for_codes_and_reasons() {
        let reasons = read(
            " FAILED_PRECONDITION A_BUSY when STATE is so, CLOSED when not; NOT_FOUND X_NOT_FOUND, \
             also of KRW; DEADLINE_EXCEEDED, and UNAVAILABLE (AWAY and its like).",
        );
        let read: Vec<(&str, Vec<&str>)> = reasons
            .iter()
            .map(|(code, reasons)| (code.as_str(), reasons.iter().map(String::as_str).collect()))
            .collect();
        assert_eq!(
            read,
            [
                ("DEADLINE_EXCEEDED", vec![]),
                ("FAILED_PRECONDITION", vec!["A_BUSY", "CLOSED", "STATE"]),
                ("NOT_FOUND", vec!["X_NOT_FOUND"]),
                ("UNAVAILABLE", vec!["AWAY"]),
            ]
        );
        assert_eq!(code("ABORTED"), Some(Code::Aborted));
        assert_eq!(code("OK"), None);
    }
}
