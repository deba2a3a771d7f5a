//! The query of a URL into fields of the request.
//!
//! A key is a field by its name in the proto or in JSON, nested ones with dots: `near.latitude`. A
//! repeated field takes its key several times. Values are written as in JSON, without quotes. What
//! cannot be meant is refused: a key that is no field, that comes from the path or the body, or that
//! comes twice for one value.

use std::collections::HashSet;

use kernel::Rejection;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use serde_json::Value as Json;

use crate::fields::{at, path};
use crate::json;
use crate::percent;
use crate::routes::{Body, Route, Target};
use crate::scalar;
use crate::wkt::{self, Form};

/// How deep a key may go. Nobody means more, and nobody decodes much more.
const DEPTH: usize = 32;

/// Sets the fields that a query names.
pub(crate) fn apply(
    request: &mut DynamicMessage,
    route: &Route,
    query: &str,
) -> Result<(), Rejection> {
    let mut seen = HashSet::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, text) = pair.split_once('=').unwrap_or((pair, ""));
        let malformed = || invalid(key, "is not percent-encoded UTF-8");
        let key = percent::decode_form(key).ok_or_else(malformed)?;
        let text = percent::decode_form(text).ok_or_else(malformed)?;
        let target = resolve(&route.input(), &key)?;
        refuse_foreign(route, &target)?;
        let name = path(&target);
        set(request, &target, &text).map_err(|why| invalid(&name, why))?;
        if target.last().is_some_and(|field| !field.is_list()) && !seen.insert(name.clone()) {
            return Err(invalid(&name, "is there twice, and can have one value"));
        }
    }
    Ok(())
}

fn invalid(field: &str, message: impl Into<String>) -> Rejection {
    Rejection::invalid(field, "INVALID_QUERY_PARAMETER", message)
}

/// The field that a key names.
fn resolve(request: &MessageDescriptor, key: &str) -> Result<Target, Rejection> {
    let unknown = || {
        let message = "the request has no such field";
        Rejection::invalid(key, "UNKNOWN_QUERY_PARAMETER", message)
    };
    let mut target = Target::new();
    let mut message = Some(request.clone());
    for name in key.split('.') {
        if target.last().is_some_and(|field| field.is_list() || field.is_map()) {
            return Err(invalid(&path(&target), "cannot be in a query: it is a list or a map"));
        }
        if target.len() == DEPTH {
            return Err(invalid(key, "is nested too deep"));
        }
        let parent = message.as_ref().ok_or_else(unknown)?;
        let by_name = parent.get_field_by_name(name);
        let field = by_name.or_else(|| parent.get_field_by_json_name(name)).ok_or_else(unknown)?;
        message = match field.kind() {
            Kind::Message(message) if wkt::form(&message) == Form::Fields => Some(message),
            _ => None,
        };
        target.push(field);
    }
    Ok(target)
}

/// Refuses what the path or the body says already.
fn refuse_foreign(route: &Route, target: &[FieldDescriptor]) -> Result<(), Rejection> {
    let message = match &route.body {
        _ if route.variables.iter().any(|variable| variable == target) => "is in the path",
        Body::All => "belongs into the body",
        Body::Field(body) if target.first() == Some(body) => "belongs into the body",
        Body::None | Body::Field(_) => return Ok(()),
    };
    Err(Rejection::invalid(&path(target), "QUERY_PARAMETER_NOT_ALLOWED", message))
}

fn set(request: &mut DynamicMessage, target: &[FieldDescriptor], text: &str) -> Result<(), String> {
    let field = target.last().ok_or("is no field")?;
    if field.is_map() {
        return Err("cannot be in a query: it is a map".to_owned());
    }
    let value = value(&field.kind(), text)?;
    at(request, target, |message, field| {
        match message.get_field_mut(field) {
            Value::List(items) if field.is_list() => items.push(value),
            slot => *slot = value,
        }
        Ok(())
    })?;
    Ok(())
}

/// One value: a scalar, or a message that has a text of its own.
fn value(kind: &Kind, text: &str) -> Result<Value, String> {
    let Kind::Message(message) = kind else { return Ok(scalar::parse(kind, text)?) };
    let json = match wkt::form(message) {
        Form::Wrapper => {
            let inner = wkt::wrapped(message).ok_or("wraps nothing")?;
            let mut wrapper = DynamicMessage::new(message.clone());
            wrapper.set_field(&inner, scalar::parse(&inner.kind(), text)?);
            return Ok(Value::Message(wrapper));
        }
        Form::Text if message.name() == "FieldMask" => Json::String(camel_paths(text)),
        Form::Text => Json::String(text.to_owned()),
        Form::Json => json::parse(text.as_bytes()).map_err(|error| error.to_string())?,
        Form::Fields | Form::Any | Form::Empty => {
            return Err("is a message: name its fields, as in message.field".to_owned());
        }
    };
    json::message(message, &json).map(Value::Message).map_err(|fault| fault.message())
}

/// The paths of a mask as JSON writes them, from either spelling: a query may say `display_name`.
fn camel_paths(text: &str) -> String {
    let mut camel = String::with_capacity(text.len());
    let mut upper = false;
    for letter in text.chars() {
        match letter {
            '_' => upper = true,
            letter if upper && letter.is_ascii_lowercase() => {
                camel.push(letter.to_ascii_uppercase());
                upper = false;
            }
            letter => {
                camel.extend(upper.then_some('_'));
                camel.push(letter);
                upper = false;
            }
        }
    }
    camel.extend(upper.then_some('_'));
    camel
}
