//! The route table: every rpc that has a `google.api.http` rule, found by method and path.
//!
//! It is built from descriptors alone and checked while it is built: a rule that cannot work, or two
//! that claim the same requests, stop the start with a [`RouteError`]. Each [`Route`] keeps the
//! descriptors of what it binds, so whoever describes the API has all of it here: where the fields
//! go ([`Route::variables`], [`Route::body`], [`Route::query_fields`]), and with the file of the
//! [`Route::rpc`] the comments.

mod build;
mod trie;

use std::borrow::Cow;

use http::Method;
use kernel::Rejection;
use prost_reflect::{DescriptorPool, FieldDescriptor, MessageDescriptor, MethodDescriptor};

pub use build::RouteError;

use crate::percent;
use crate::template::{Template, Variable};
use trie::{Found, Trie};

/// One way to call an rpc over HTTP.
#[derive(Clone, Debug)]
pub struct Route {
    /// The rpc.
    pub rpc: MethodDescriptor,
    /// Its path in gRPC: `/package.Service/Method`.
    pub grpc_path: String,
    /// The HTTP method; `None` for a rule that takes all of them.
    pub method: Option<Method>,
    /// The path.
    pub template: Template,
    /// Where the variables of the template go, in their order.
    pub variables: Vec<Target>,
    /// What the body of the request is.
    pub body: Body,
    /// The field of the answer that is the body of the response; `None` for the whole answer.
    pub response_body: Option<FieldDescriptor>,
}

/// A field of the request, from the request down.
pub type Target = Vec<FieldDescriptor>;

/// What the body of a request is.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Nothing: there is none.
    None,
    /// All fields that are not in the path.
    All,
    /// One field.
    Field(FieldDescriptor),
}

impl Route {
    /// The request.
    pub fn input(&self) -> MessageDescriptor {
        self.rpc.input()
    }

    /// The answer, or one element of its stream.
    pub fn output(&self) -> MessageDescriptor {
        self.rpc.output()
    }

    /// The fields of the request that the query can set, whole or in part.
    pub fn query_fields(&self) -> Vec<FieldDescriptor> {
        let in_path = |field: &FieldDescriptor| {
            self.variables.iter().any(|target| target.len() == 1 && target[0] == *field)
        };
        let in_query = |field: &FieldDescriptor| match &self.body {
            Body::None => !in_path(field),
            Body::All => false,
            Body::Field(body) => field != body && !in_path(field),
        };
        self.input().fields().filter(in_query).collect()
    }

    /// What of a path goes into which field.
    fn captures<'r, 'p>(&'r self, path: &'p str) -> Result<Vec<Capture<'r, 'p>>, Rejection> {
        let path = match &self.template.verb {
            Some(_) => trie::split_verb(path).map_or(path, |(head, _)| head),
            None => path,
        };
        let variables = self.template.variables.iter().zip(&self.variables);
        variables
            .map(|(variable, target)| {
                let text = span(path, variable);
                let value =
                    if variable.multi { percent::decode_but_slash } else { percent::decode }(text);
                let value = value.ok_or_else(|| {
                    let message = format!("{text} is not percent-encoded UTF-8");
                    invalid_path_parameter(&variable.field_path, message)
                })?;
                Ok(Capture { name: &variable.field_path, target, value })
            })
            .collect()
    }
}

/// The segments of a path that a variable spans. Only the last segment of a template can be `**`, so
/// those before it are as many in the path.
fn span<'p>(path: &'p str, variable: &Variable) -> &'p str {
    let slash = |text: &str, nth: usize| text.match_indices('/').nth(nth).map(|(at, _)| at);
    // The first slash begins the first segment.
    let start = slash(path, variable.segments.start).map_or(path.len(), |at| at + 1);
    let tail = &path[start..];
    match slash(tail, variable.segments.len() - 1) {
        Some(end) if !variable.open => &tail[..end],
        _ => tail,
    }
}

/// The value of a variable of the path.
#[derive(Clone, Debug)]
pub struct Capture<'r, 'p> {
    /// The field as the template names it.
    pub name: &'r str,
    /// The field.
    pub target: &'r Target,
    /// The text, decoded.
    pub value: Cow<'p, str>,
}

/// The route of a request, with what its path says.
#[derive(Clone, Debug)]
pub struct Match<'r, 'p> {
    /// The route.
    pub route: &'r Route,
    /// The variables of the path.
    pub captures: Vec<Capture<'r, 'p>>,
}

/// Why a request reaches no rpc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is malformed, or there is nothing at its path.
    Rejected(Rejection),
    /// There is something at its path, but only by these methods.
    WrongMethod {
        /// The methods that would do, for `Allow`.
        allow: Vec<Method>,
    },
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Refusal {
        Refusal::Rejected(rejection)
    }
}

/// All routes of a set of services.
#[derive(Debug)]
pub struct RouteTable {
    pool: DescriptorPool,
    routes: Vec<Route>,
    trie: Trie,
}

impl RouteTable {
    /// Reads and checks the rules of all services in `pool`.
    pub fn new(pool: &DescriptorPool) -> Result<RouteTable, RouteError> {
        build::table(pool)
    }

    /// The descriptors that the table was built from.
    pub fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// All routes, in the order of their files.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The route of a request. `path` is as it came, percent-encoded and without the query.
    pub fn find<'p>(&self, method: &Method, path: &'p str) -> Result<Match<'_, 'p>, Refusal> {
        match self.trie.find(method, path) {
            Found::Route(index) => {
                let route = &self.routes[index];
                Ok(Match { route, captures: route.captures(path)? })
            }
            Found::OtherMethods(allow) => Err(Refusal::WrongMethod { allow }),
            Found::Nothing => Err(Refusal::Rejected(Rejection {
                message: "no rpc has this path".to_owned(),
                ..Rejection::not_found("ROUTE_NOT_FOUND", "route")
            })),
        }
    }
}

/// What the path says of a field is no value of that field.
pub(crate) fn invalid_path_parameter(field: &str, message: String) -> Rejection {
    Rejection::invalid(field, "INVALID_PATH_PARAMETER", message)
}
