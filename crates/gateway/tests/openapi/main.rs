//! The API as a document, and the page that shows it.

#[expect(dead_code, reason = "not all of it is needed here")]
#[path = "../../fuzz/mod.rs"]
mod fuzz;
#[path = "../rest/protos.rs"]
mod protos;
#[path = "../differential/python.rs"]
mod python;

mod browser;
mod document;
mod facts;
mod validator;
mod web;

use gateway::openapi::{self, Info};
use gateway::routes::RouteTable;
use prost_reflect::DescriptorPool;
use serde_json::Value;

/// The document of taxi itself.
fn taxi() -> (RouteTable, Value) {
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("our protos");
    let info = Info {
        title: "taxi".to_owned(),
        version: "1".to_owned(),
        description: "Ride hailing.".to_owned(),
        license: Some("MIT OR Apache-2.0".to_owned()),
        servers: Vec::new(),
        openid_url: Some("/.well-known/openid-configuration".to_owned()),
        token_url: Some("/oauth2/token".to_owned()),
        scopes: [("customer", "Rides."), ("driver", "Drives."), ("operator", "Looks after both.")]
            .map(|(name, meaning)| (name.to_owned(), meaning.to_owned()))
            .into(),
    };
    documented(&pool, &info)
}

/// The document of the test protos.
fn library() -> (RouteTable, Value) {
    documented(&protos::library(), &Info { title: "library".to_owned(), ..Info::default() })
}

fn documented(pool: &DescriptorPool, info: &Info) -> (RouteTable, Value) {
    let table = RouteTable::new(pool).expect("good rules");
    let document = openapi::document(&table, info);
    (table, document)
}
