//! The gateway of this mesh: every context behind one door, and the pages beside it.

use std::sync::Arc;

use gateway::openapi::{self, Info};
use gateway::routes::RouteTable;
use gateway::{Gateway, Upstreams};
use platform::auth::Verifier;
use prost_reflect::DescriptorPool;
use serde_json::Value;

use crate::config::Settings;
use crate::contexts::Name;
use crate::exit::Exit;
use crate::tls::Tls;

/// What it is called in commands and addresses.
pub(crate) const NAME: &str = "gateway";

/// A gateway to the contexts at the configured addresses.
pub(crate) fn gateway(settings: &Settings, tls: &Tls, verifier: Verifier) -> Result<Gateway, Exit> {
    let pool = descriptors()?;
    let mut upstreams = Upstreams::new();
    for context in Name::ALL {
        let channel = tls.neighbour(context, &settings.upstream)?;
        let package = format!("taxi.{context}.v1");
        let services = pool.services().filter(|service| service.package_name() == package);
        let names: Vec<String> = services.map(|it| it.full_name().to_owned()).collect();
        upstreams = upstreams.with(context.as_str(), channel, names);
    }
    let table = Arc::new(table(&pool)?);
    let (config, server) = (settings.gateway.clone(), settings.server.clone());
    let pages = openapi::router(&document(&table, &settings.auth.issuer));
    Gateway::new(table, upstreams, verifier, config, server)
        .map(|gateway| gateway.beside(pages))
        .map_err(|error| Exit::config(format!("gateway: {error}")))
}

/// The API of the gateway as an OpenAPI document; tokens come from this issuer, if one is given.
pub(crate) fn openapi(issuer: &str) -> Result<Value, Exit> {
    Ok(document(&table(&descriptors()?)?, issuer))
}

fn document(table: &RouteTable, issuer: &str) -> Value {
    let issuer = Some(issuer.trim_end_matches('/')).filter(|issuer| !issuer.is_empty());
    let info = Info {
        title: "taxi".to_owned(),
        version: "v1".to_owned(),
        description: "A customer asks for a car, a driver accepts, drives and is paid.".to_owned(),
        license: Some("MIT OR Apache-2.0".to_owned()),
        servers: Vec::new(),
        openid_url: issuer.map(|issuer| format!("{issuer}/.well-known/openid-configuration")),
        token_url: issuer.map(|issuer| format!("{issuer}/oauth2/token")),
        scopes: [
            ("customer", "asks for cars"),
            ("driver", "drives"),
            ("operator", "sees everything, and gives money back"),
        ]
        .map(|(scope, meaning)| (scope.to_owned(), meaning.to_owned()))
        .into(),
    };
    openapi::document(table, &info)
}

fn descriptors() -> Result<DescriptorPool, Exit> {
    DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET)
        .map_err(|error| Exit::failed(format!("the descriptors cannot be read: {error}")))
}

fn table(pool: &DescriptorPool) -> Result<RouteTable, Exit> {
    RouteTable::new(pool).map_err(|error| Exit::failed(format!("the routes: {error}")))
}
