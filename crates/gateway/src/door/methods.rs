//! The methods that can be called from outside: those with a `google.api.http` rule, and those that
//! the configuration names. Whatever else a service offers is not there, by gRPC either.

use std::collections::HashMap;

use platform::metrics::calls::kept;
use prost_reflect::{DescriptorPool, MethodDescriptor};

use super::GatewayError;
use crate::routes::RouteTable;
use crate::upstream::{Upstream, Upstreams};

/// All public methods, by their gRPC paths.
pub(super) struct Methods(HashMap<String, Method>);

/// A public method.
pub(super) struct Method {
    /// `package.Service/Method`.
    pub(super) name: &'static str,
    pub(super) upstream: Upstream,
    /// Whether a call of it is a stream, in either direction.
    pub(super) streaming: bool,
}

impl Methods {
    pub(super) fn new(
        routes: &RouteTable,
        upstreams: &Upstreams,
        open: &[String],
    ) -> Result<Methods, GatewayError> {
        let with_rule = routes.routes().iter().map(|route| Ok(route.rpc.clone()));
        let named = open.iter().map(|name| {
            named(routes.pool(), name).ok_or_else(|| GatewayError::NoMethod(name.clone()))
        });
        let method = |rpc: Result<MethodDescriptor, GatewayError>| {
            let rpc = rpc?;
            let service = rpc.parent_service().full_name();
            let upstream = upstreams.of(service);
            let upstream = upstream.ok_or_else(|| GatewayError::NoUpstream(service.to_owned()))?;
            let streaming = rpc.is_client_streaming() || rpc.is_server_streaming();
            let name = kept(&format!("{service}/{}", rpc.name()));
            Ok((format!("/{name}"), Method { name, upstream: upstream.clone(), streaming }))
        };
        with_rule.chain(named).map(method).collect::<Result<_, _>>().map(Methods)
    }

    /// The method of this gRPC path.
    pub(super) fn get(&self, path: &str) -> Option<&Method> {
        self.0.get(path)
    }
}

fn named(pool: &DescriptorPool, name: &str) -> Option<MethodDescriptor> {
    let (service, method) = name.split_once('/')?;
    pool.get_service_by_name(service)?.methods().find(|it| it.name() == method)
}
