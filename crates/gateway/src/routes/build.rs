//! Reads `google.api.http` rules and refuses those that cannot work.

use http::Method;
use prost_reflect::{
    DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value,
};
use proto::google::api::HttpRule;
use proto::google::api::http_rule::Pattern;

use super::trie::Trie;
use super::{Body, Route, RouteTable, Target};
use crate::template::{Template, TemplateError};

/// The methods whose body proxies and clients drop.
const WITHOUT_BODY: [Method; 3] = [Method::GET, Method::HEAD, Method::DELETE];

/// Why there is no route table: one rule, of one rpc.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the google.api.http rule of {rpc} cannot be used: {why}")]
pub struct RouteError {
    rpc: String,
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Why {
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    #[error("it has no HTTP method and path")]
    NoPattern,
    #[error("{0:?} is no HTTP method")]
    NoMethod(String),
    #[error("an additional binding cannot have additional bindings")]
    Nested,
    #[error("the rpc takes a stream, which one HTTP request is not")]
    ClientStream,
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("{message} has no field {path}")]
    NoField { message: String, path: String },
    #[error("{0} is in the path, but is repeated, a map or a message")]
    NotInPath(String),
    #[error("{0} is in the path twice")]
    TwiceInPath(String),
    #[error("{0} is in the path and is the body")]
    PathAndBody(String),
    #[error("{0} has no body")]
    MethodWithoutBody(Method),
    #[error("{0} is claimed by {1} already")]
    Taken(String, String),
}

pub(super) fn table(pool: &DescriptorPool) -> Result<RouteTable, RouteError> {
    let mut routes = Vec::new();
    let mut trie = Trie::default();
    for rpc in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let error = |why| RouteError { rpc: rpc.full_name().to_owned(), why };
        let Some(rule) = rule(&rpc).map_err(error)? else { continue };
        for rule in bindings(rule).map_err(error)? {
            let route = route(&rpc, &rule).map_err(error)?;
            add(&mut trie, &mut routes, route).map_err(error)?;
        }
    }
    Ok(RouteTable { pool: pool.clone(), routes, trie })
}

fn add(trie: &mut Trie, routes: &mut Vec<Route>, route: Route) -> Result<(), Why> {
    trie.add(&route.template, route.method.clone(), routes.len()).map_err(|taken| {
        let claim = match &route.method {
            Some(method) => format!("{method} {}", route.template),
            None => format!("any method on {}", route.template),
        };
        Why::Taken(claim, routes[taken].rpc.full_name().to_owned())
    })?;
    routes.push(route);
    Ok(())
}

/// The rule of an rpc, if it has one.
fn rule(rpc: &MethodDescriptor) -> Result<Option<HttpRule>, Why> {
    let Some(http) = rpc.parent_pool().get_extension_by_name("google.api.http") else {
        return Ok(None);
    };
    let options = rpc.options();
    if !options.has_extension(&http) {
        return Ok(None);
    }
    match options.get_extension(&http).as_ref() {
        Value::Message(rule) => rule
            .transcode_to()
            .map(Some)
            .map_err(|error: prost::DecodeError| Why::Unreadable(error.to_string())),
        other => Err(Why::Unreadable(format!("it is {other:?}"))),
    }
}

/// A rule and its additional bindings.
fn bindings(mut rule: HttpRule) -> Result<Vec<HttpRule>, Why> {
    let additional = std::mem::take(&mut rule.additional_bindings);
    if additional.iter().any(|binding| !binding.additional_bindings.is_empty()) {
        return Err(Why::Nested);
    }
    Ok(std::iter::once(rule).chain(additional).collect())
}

fn route(rpc: &MethodDescriptor, rule: &HttpRule) -> Result<Route, Why> {
    if rpc.is_client_streaming() {
        return Err(Why::ClientStream);
    }
    let (method, path) = pattern(rule)?;
    let template = Template::parse(path)?;
    let variables = variables(&rpc.input(), &template)?;
    let body = body(&rpc.input(), &rule.body, &variables)?;
    if body != Body::None
        && let Some(method) = method.as_ref().filter(|method| WITHOUT_BODY.contains(method))
    {
        return Err(Why::MethodWithoutBody(method.clone()));
    }
    let response_body = match rule.response_body.as_str() {
        "" => None,
        name => Some(field(&rpc.output(), name)?),
    };
    let grpc_path = format!("/{}/{}", rpc.parent_service().full_name(), rpc.name());
    Ok(Route { rpc: rpc.clone(), grpc_path, method, template, variables, body, response_body })
}

fn variables(input: &MessageDescriptor, template: &Template) -> Result<Vec<Target>, Why> {
    let mut targets: Vec<Target> = Vec::new();
    for variable in &template.variables {
        let path = &variable.field_path;
        let target = target(input, path)?;
        let primitive = |field: &FieldDescriptor| {
            !field.is_list() && !field.is_map() && !matches!(field.kind(), Kind::Message(_))
        };
        if !target.last().is_some_and(primitive) {
            return Err(Why::NotInPath(path.clone()));
        }
        if targets.contains(&target) {
            return Err(Why::TwiceInPath(path.clone()));
        }
        targets.push(target);
    }
    Ok(targets)
}

/// The fields that a path such as `book.name` goes through, all but the last of them messages.
fn target(input: &MessageDescriptor, path: &str) -> Result<Target, Why> {
    let mut target = Target::new();
    let mut message = Some(input.clone());
    for name in path.split('.') {
        let Some(parent) = message else { return Err(Why::NotInPath(path.to_owned())) };
        let field = field(&parent, name)
            .map_err(|_| Why::NoField { message: parent.full_name().into(), path: path.into() })?;
        message = match field.kind() {
            Kind::Message(message) if !field.is_list() && !field.is_map() => Some(message),
            _ => None,
        };
        target.push(field);
    }
    Ok(target)
}

fn body(input: &MessageDescriptor, body: &str, variables: &[Target]) -> Result<Body, Why> {
    match body {
        "" => Ok(Body::None),
        "*" => Ok(Body::All),
        name => {
            let field = field(input, name)?;
            if variables.iter().any(|target| target.as_slice() == [field.clone()]) {
                return Err(Why::PathAndBody(name.to_owned()));
            }
            Ok(Body::Field(field))
        }
    }
}

fn field(message: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, Why> {
    message.get_field_by_name(name).ok_or_else(|| Why::NoField {
        message: message.full_name().to_owned(),
        path: name.to_owned(),
    })
}

fn pattern(rule: &HttpRule) -> Result<(Option<Method>, &str), Why> {
    Ok(match rule.pattern.as_ref().ok_or(Why::NoPattern)? {
        Pattern::Get(path) => (Some(Method::GET), path),
        Pattern::Put(path) => (Some(Method::PUT), path),
        Pattern::Post(path) => (Some(Method::POST), path),
        Pattern::Delete(path) => (Some(Method::DELETE), path),
        Pattern::Patch(path) => (Some(Method::PATCH), path),
        Pattern::Custom(custom) if custom.kind == "*" => (None, &custom.path),
        Pattern::Custom(custom) => {
            let method = Method::from_bytes(custom.kind.as_bytes());
            let method = method.map_err(|_| Why::NoMethod(custom.kind.clone()))?;
            (Some(method), &custom.path)
        }
    })
}
