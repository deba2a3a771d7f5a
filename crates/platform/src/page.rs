//! Parts of lists, and the opaque tokens with which a client asks for more.
//!
//! A token is base64url of a digest and a payload. The digest binds the payload to what it is for
//! (the list's query, the kind of stream), so a token that was altered, cut, or carried over to
//! another query is refused instead of misread. It is a checksum, not a signature: replicas share no
//! key, and a token grants nothing, since every read is limited to what the caller may see anyway.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use kernel::{PageRequest, Rejection};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// How many items a part has when the client does not say.
pub const DEFAULT_PAGE_SIZE: u64 = 50;
/// How many items a part has at most; a client that asks for more gets this many.
pub const MAX_PAGE_SIZE: u64 = 1000;

const DIGEST_LENGTH: usize = 8;

/// Parses the paging fields of a list request. `query` is everything else that decides what the
/// list contains, in any stable text form: the token of one query is refused by another.
pub fn page_request(size: i32, token: &str, query: &str) -> Result<PageRequest, Rejection> {
    let size = match u64::try_from(size) {
        Ok(0) => DEFAULT_PAGE_SIZE,
        Ok(size) => size.min(MAX_PAGE_SIZE),
        Err(_) => {
            let message = "must not be negative";
            return Err(Rejection::invalid("page_size", "INVALID_PAGE_SIZE", message));
        }
    };
    if token.is_empty() {
        return Ok(PageRequest { size, after: None });
    }
    let after = open(&page_kind(query), token).and_then(|key| Uuid::from_slice(&key).ok());
    match after {
        Some(after) => Ok(PageRequest { size, after: Some(after) }),
        None => Err(Rejection::invalid(
            "page_token",
            "INVALID_PAGE_TOKEN",
            "must be the next_page_token of the same query, unchanged",
        )),
    }
}

/// The token of the part after `next`; empty when there is none.
pub fn next_page_token(next: Option<Uuid>, query: &str) -> String {
    next.map(|key| seal(&page_kind(query), key.as_bytes())).unwrap_or_default()
}

fn page_kind(query: &str) -> String {
    format!("page of {query}")
}

/// An opaque token of one kind around a payload of ours.
pub fn encode_token(kind: &str, payload: &str) -> String {
    seal(kind, payload.as_bytes())
}

/// The payload of a token of this kind; `None` when it is not one.
pub fn decode_token(kind: &str, token: &str) -> Option<String> {
    open(kind, token).and_then(|payload| String::from_utf8(payload).ok())
}

/// The payload of a watch request's `resume_token`; `None` when the client starts afresh.
pub fn resume_payload(kind: &str, token: &str) -> Result<Option<String>, Rejection> {
    if token.is_empty() {
        return Ok(None);
    }
    decode_token(kind, token).map(Some).ok_or_else(invalid_resume_token)
}

/// The refusal of a resume token whose payload makes no sense.
pub fn invalid_resume_token() -> Rejection {
    let message = "must be a resume_token of the same stream, unchanged";
    Rejection::invalid("resume_token", "INVALID_RESUME_TOKEN", message)
}

fn seal(kind: &str, payload: &[u8]) -> String {
    let mut token = digest(kind, payload).to_vec();
    token.extend_from_slice(payload);
    BASE64_URL_SAFE_NO_PAD.encode(token)
}

fn open(kind: &str, token: &str) -> Option<Vec<u8>> {
    let token = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
    let (found, payload) = token.split_at_checked(DIGEST_LENGTH)?;
    (found == digest(kind, payload)).then(|| payload.to_vec())
}

fn digest(kind: &str, payload: &[u8]) -> [u8; DIGEST_LENGTH] {
    let digest = Sha256::new()
        .chain_update((kind.len() as u64).to_be_bytes())
        .chain_update(kind)
        .chain_update(payload)
        .finalize();
    std::array::from_fn(|at| digest[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &str = "state=OPEN";

    #[test]
    fn a_page_has_50_items_by_default_and_1000_at_most() {
        for (asked, size) in [(0, 50), (1, 1), (1000, 1000), (i32::MAX, 1000)] {
            let page = page_request(asked, "", QUERY).expect("a size");
            assert_eq!(page, PageRequest { size, after: None });
        }
        let refused = page_request(-1, "", QUERY).expect_err("negative");
        assert_eq!(
            (refused.reason, refused.field.as_deref()),
            ("INVALID_PAGE_SIZE", Some("page_size"))
        );
    }

    #[test]
    fn a_page_token_leads_to_the_next_part_of_the_same_query() {
        let key = Uuid::from_u128(7);
        let token = next_page_token(Some(key), QUERY);
        assert_eq!(page_request(10, &token, QUERY), Ok(PageRequest { size: 10, after: Some(key) }));
        assert_eq!(next_page_token(None, QUERY), "");
        assert!(page_request(10, &token, "state=CLOSED").is_err());
    }

    #[test]
    fn an_altered_token_is_refused() {
        let token = next_page_token(Some(Uuid::from_u128(7)), QUERY);
        let forged = BASE64_URL_SAFE_NO_PAD.encode(Uuid::from_u128(7));
        for at in 0..token.len() {
            let mut altered = token.clone();
            let letter = if altered.as_bytes()[at] == b'A' { "B" } else { "A" };
            altered.replace_range(at..=at, letter);
            let refused = page_request(10, &altered, QUERY).expect_err("altered");
            assert_eq!(refused.reason, "INVALID_PAGE_TOKEN");
        }
        for token in [&token[1..], &forged, "?", "가"] {
            assert!(page_request(10, token, QUERY).is_err(), "{token}");
        }
    }

    #[test]
    fn tokens_of_one_kind_are_nothing_to_another() {
        let token = encode_token("orders", "42");
        assert_eq!(decode_token("orders", &token).as_deref(), Some("42"));
        assert_eq!(decode_token("parcels", &token), None);
        assert_eq!(resume_payload("orders", ""), Ok(None));
        assert_eq!(resume_payload("orders", &token), Ok(Some("42".to_owned())));
        let refused = resume_payload("parcels", &token).expect_err("another kind");
        assert_eq!(refused.reason, "INVALID_RESUME_TOKEN");
    }
}
