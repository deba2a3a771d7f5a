//! The body of a request: JSON into the request, or into one of its fields.

use http::Method;
use kernel::Rejection;
use prost_reflect::{DynamicMessage, Value};
use serde_json::Value as Json;

use crate::json;
use crate::mask;
use crate::routes::{Body, Route};

/// A request as its body says it.
pub(crate) struct Read {
    pub(crate) request: DynamicMessage,
    /// For an update that names no fields: those that its body has.
    pub(crate) mask: Option<Vec<String>>,
}

/// Reads the body that the rule asks for. None at all is an empty request, or an unset field.
pub(crate) fn read(route: &Route, body: &[u8]) -> Result<Read, Rejection> {
    let body = body.trim_ascii();
    let empty = || Read { request: DynamicMessage::new(route.input()), mask: None };
    let parse = |field: &str| {
        json::parse(body).map_err(|error| {
            let field = Some(field).filter(|field| !field.is_empty()).map(str::to_owned);
            Rejection { field, ..Rejection::invalid("", "MALFORMED_JSON", error.to_string()) }
        })
    };
    match &route.body {
        _ if body.is_empty() => Ok(empty()),
        // What some clients send when they have nothing to say.
        Body::None if body == b"{}" => Ok(empty()),
        Body::None => {
            let message = "this rpc takes no body: its fields are in the path and the query";
            Err(Rejection { field: None, ..Rejection::invalid("", "BODY_NOT_ALLOWED", message) })
        }
        Body::All => {
            let json = parse("")?;
            let request = json::message(&route.input(), &json);
            Ok(Read { request: request.map_err(|fault| fault.rejection(None))?, mask: None })
        }
        Body::Field(field) => {
            let json = parse(field.name())?;
            let mut read = empty();
            let value = json::field(field, &json);
            if let Some(value) = value.map_err(|fault| fault.rejection(Some(field.name())))? {
                read.mask = paths(route, &value, &json);
                read.request.set_field(field, value);
            }
            Ok(read)
        }
    }
}

fn paths(route: &Route, value: &Value, json: &Json) -> Option<Vec<String>> {
    let message = value.as_message().filter(|_| route.method == Some(Method::PATCH))?;
    mask::field(&route.input())?;
    Some(mask::paths(message, json))
}
