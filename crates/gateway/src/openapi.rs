//! The API as an OpenAPI 3.1 document, from the same route table that serves it.
//!
//! What the table does is what the document says: each [`Route`](crate::routes::Route) is an
//! operation, each field is where the transcoder reads or writes it. The words come from the comments
//! of the protos, the rules for fields from `google.api.field_behavior`. What neither knows, such as
//! where tokens are to be had, is [`Info`].
//!
//! | module | says |
//! |---|---|
//! | `operation` | one route: its parameters, its body, its answers |
//! | `path` | templates as paths: `/v1/{name=shelves/*}` is `/v1/shelves/{shelf}` |
//! | `query` | the keys of a query |
//! | `schema` | messages and enums, as the transcoder writes them |
//! | `errors` | what can go wrong, by HTTP status, with the reasons that a comment names |
//! | `comment` | what people read |
//! | `example` | what people try it with |
//!
//! The same descriptors give the same document, byte for byte.

mod comment;
mod errors;
mod example;
mod operation;
mod path;
mod query;
mod schema;
mod ui;

use std::collections::BTreeMap;

use http::Method;
use prost_reflect::ServiceDescriptor;
use serde_json::{Map, Value, json};

pub use comment::Comment;
pub use schema::Behaviors;
pub use ui::router;

use crate::routes::{Route, RouteTable};
use operation::Operations;
use path::Paths;

/// The methods that OpenAPI 3.1 has a place for.
const METHODS: [Method; 8] = [
    Method::GET,
    Method::PUT,
    Method::POST,
    Method::DELETE,
    Method::OPTIONS,
    Method::HEAD,
    Method::PATCH,
    Method::TRACE,
];
/// Where routes are that OpenAPI 3.1 has no place for: those with a method of their own, and those
/// whose path differs from another one's only by `**`.
const OTHERS: &str = "x-other-operations";

/// What the descriptors do not say of an API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Its name.
    pub title: String,
    /// Its version.
    pub version: String,
    /// What it is, in `CommonMark`.
    pub description: String,
    /// Its license, as SPDX writes it.
    pub license: Option<String>,
    /// The addresses it is at. None at all is the one that the document comes from.
    pub servers: Vec<String>,
    /// Where an OpenID provider describes itself, if tokens come from one.
    pub openid_url: Option<String>,
    /// Where tokens are given for client credentials, if they are.
    pub token_url: Option<String>,
    /// The scopes that such a token can have, and what they mean.
    pub scopes: Vec<(String, String)>,
}

/// The document of all routes of a table.
pub fn document(table: &RouteTable, info: &Info) -> Value {
    let mut paths = Paths::default();
    let mut operations = Operations::new(table);
    let mut items: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut others: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    // A route that takes every method gets those that are left.
    let (any, some): (Vec<&Route>, Vec<&Route>) =
        table.routes().iter().partition(|route| route.method.is_none());
    for route in some.into_iter().chain(any) {
        let path = paths.path(route);
        let item = items.entry(path.text.clone()).or_default();
        for (method, id) in operations.ids(route) {
            let key = method.as_str().to_ascii_lowercase();
            let free = METHODS.contains(&method) && !item.contains_key(&key);
            if free {
                item.insert(key, operations.operation(route, &path, &id));
            } else if route.method.is_some() {
                let item = others.entry(route.template.to_string()).or_default();
                item.insert(method.to_string(), operations.operation(route, &path, &id));
            }
        }
    }
    items.retain(|_, item| !item.is_empty());
    let mut document = json!({
        "openapi": "3.1.0",
        "info": about(info),
        "servers": servers(info),
        "tags": tags(table),
        "paths": items,
        "components": operations.components(),
    });
    let schemes = security_schemes(info);
    document["security"] = schemes.keys().map(|name| json!({ name: [] })).collect();
    document["components"]["securitySchemes"] = schemes.into();
    if !others.is_empty() {
        document[OTHERS] = json!(others);
    }
    document
}

fn about(info: &Info) -> Value {
    let mut about = json!({
        "title": info.title,
        "version": info.version,
        "description": info.description,
    });
    if let Some(license) = &info.license {
        about["license"] = json!({ "name": license, "identifier": license });
    }
    about
}

fn servers(info: &Info) -> Value {
    match info.servers.as_slice() {
        [] => json!([{ "url": "/" }]),
        servers => servers.iter().map(|url| json!({ "url": url })).collect(),
    }
}

fn security_schemes(info: &Info) -> Map<String, Value> {
    let mut schemes = Map::new();
    schemes.insert(
        "bearer".to_owned(),
        json!({
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A token of the identity provider, in the header `Authorization`.",
        }),
    );
    if let Some(url) = &info.openid_url {
        schemes.insert(
            "openId".to_owned(),
            json!({
                "type": "openIdConnect",
                "openIdConnectUrl": url,
                "description": "The identity provider whose tokens are believed.",
            }),
        );
    }
    if let Some(url) = &info.token_url {
        let scopes: Map<String, Value> = info
            .scopes
            .iter()
            .map(|(name, meaning)| (name.clone(), Value::from(meaning.as_str())))
            .collect();
        schemes.insert(
            "clientCredentials".to_owned(),
            json!({
                "type": "oauth2",
                "flows": { "clientCredentials": { "tokenUrl": url, "scopes": scopes } },
            }),
        );
    }
    schemes
}

/// A tag for each service that has a route, in the order of the routes.
fn tags(table: &RouteTable) -> Vec<Value> {
    let mut services: Vec<&ServiceDescriptor> = Vec::new();
    for route in table.routes() {
        let service = route.rpc.parent_service();
        if !services.contains(&service) {
            services.push(service);
        }
    }
    let tag = |service: &ServiceDescriptor| {
        let comment = Comment::of(&service.parent_file(), service.path());
        json!({ "name": service_name(table, service), "description": comment.text() })
    };
    services.into_iter().map(tag).collect()
}

/// The name of a service: the short one, unless another service has it too.
fn service_name(table: &RouteTable, service: &ServiceDescriptor) -> String {
    let same = |other: &ServiceDescriptor| other.name() == service.name();
    match table.pool().services().filter(same).count() {
        1 => service.name().to_owned(),
        _ => service.full_name().to_owned(),
    }
}
