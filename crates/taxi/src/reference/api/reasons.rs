//! What can go wrong: the errors that the comment of a method names, name the method.

use std::fs;

use prost_reflect::DescriptorPool;

use super::{ERRORS, comment_of_method};
use crate::reference::repository;

/// Where a reason comes from, as `docs/errors.md` has it.
fn from<'a>(errors: &'a str, reason: &str) -> Option<&'a str> {
    let (_, section) = errors.split_once(&format!("\n### {reason}\n"))?;
    let (_, from) = section.split_once("- **From:**")?;
    from.split("\n- **").next()
}

#[test]
fn errors_come_from_the_methods_that_promise_them() {
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("descriptors");
    let errors = fs::read_to_string(repository("docs/errors.md")).expect("the errors");
    let mut seen = 0;
    for method in pool.services().flat_map(|it| it.methods().collect::<Vec<_>>()) {
        let comment = comment_of_method(&method);
        let promised = comment.sentence_after(ERRORS).unwrap_or_default();
        let words = promised.split(|c: char| !c.is_alphanumeric() && c != '_');
        for (reason, from) in words.filter_map(|word| Some((word, from(&errors, word)?))) {
            seen += 1;
            let named = from.contains(method.name()) || from.contains("any rpc");
            assert!(named, "docs/errors.md: {reason} does not come from {}", method.name());
        }
    }
    assert!(seen > 50, "only {seen} reasons are promised");
}
