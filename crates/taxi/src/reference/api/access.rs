//! Who may call: what the comments promise is what the contexts have in their `ACCESS`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use prost_reflect::DescriptorPool;

use super::{CALLERS, comment_of_method};
use crate::reference::repository;
use crate::reference::words::segment;

const ROLES: [&str; 4] = ["customer", "driver", "operator", "service"];

/// The roles that a comment names; `as GetRide` names those of that method.
fn promised(callers: &BTreeMap<String, String>, method: &str) -> BTreeSet<String> {
    let words: Vec<&str> =
        callers[method].split(|c: char| !c.is_alphanumeric()).filter(|it| !it.is_empty()).collect();
    match words.as_slice() {
        ["as", other] => promised(callers, other),
        words => {
            let named = |role: &&&str| words.contains(*role);
            ROLES.iter().filter(named).map(|role| (*role).to_owned()).collect()
        }
    }
}

/// The roles that a line of `ACCESS` has: `("GetRide", &[Role::Customer, Role::Driver]),`, or a const.
fn allowed(source: &str, method: &str) -> BTreeSet<String> {
    let after = |text: &str| source.split_once(text).map_or("", |(_, rest)| rest);
    let mut roles = after(&format!("(\"{method}\", ")).split(')').next().unwrap_or_default();
    if !roles.starts_with('&') {
        roles = after(&format!("const {roles}: &[Role] = ")).split(';').next().unwrap_or_default();
    }
    let roles = roles.split("Role::").skip(1);
    roles.map(|it| it.trim_end_matches([']', ',', ' ']).to_lowercase()).collect()
}

#[test]
fn who_may_call_is_who_is_let_in() {
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("descriptors");
    for service in pool.services() {
        let said = |method: prost_reflect::MethodDescriptor| {
            let comment = comment_of_method(&method);
            let callers = comment.sentence_after(CALLERS).expect("who may call");
            (method.name().to_owned(), callers.to_owned())
        };
        let callers: BTreeMap<String, String> = service.methods().map(said).collect();
        let file = repository("crates").join(segment(service.package_name())).join("src/grpc.rs");
        let source = fs::read_to_string(file).expect("a door");
        for method in callers.keys() {
            assert_eq!(promised(&callers, method), allowed(&source, method), "{method}");
        }
    }
}
