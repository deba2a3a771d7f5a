//! The document and the page, as a browser gets them.

use axum::body::{Body, to_bytes};
use gateway::openapi::router;
use http::{Request, StatusCode};
use tower::ServiceExt as _;

use crate::taxi;

/// What a path answers: its status, a header, and the body.
async fn get(path: &str, known: Option<&str>, header: &str) -> (StatusCode, String, Vec<u8>) {
    let mut request = Request::get(path);
    if let Some(tag) = known {
        request = request.header("if-none-match", tag);
    }
    let request = request.body(Body::empty()).expect("a request");
    let response = router(&taxi().1).oneshot(request).await.expect("infallible");
    let header = response.headers().get(header);
    let header = header.map_or("", |value| value.to_str().expect("text")).to_owned();
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    (status, header, body.to_vec())
}

#[tokio::test]
async fn the_document_is_sent_once() {
    let (status, tag, body) = get("/openapi.json", None, "etag").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).expect("JSON"), taxi().1);
    assert!(tag.starts_with('"') && tag.len() == 34, "{tag}");
    for known in [tag.as_str(), &format!("\"x\", W/{tag}"), "*"] {
        let (status, again, body) = get("/openapi.json", Some(known), "etag").await;
        assert_eq!((status, again, body.len()), (StatusCode::NOT_MODIFIED, tag.clone(), 0));
    }
    let (status, _, _) = get("/openapi.json", Some("\"x\""), "etag").await;
    assert_eq!(status, StatusCode::OK);
    let (_, kind, _) = get("/openapi.json", None, "content-type").await;
    assert_eq!(kind, "application/json");
}

#[tokio::test]
async fn the_page_and_all_it_names_are_there() {
    let (status, to, _) = get("/docs", None, "location").await;
    assert_eq!((status, to.as_str()), (StatusCode::PERMANENT_REDIRECT, "docs/"));
    let (status, _, page) = get("/docs/", None, "etag").await;
    assert_eq!(status, StatusCode::OK);
    let page = String::from_utf8(page).expect("text");
    let named = page.split(['"']).filter(|text| text.ends_with(".css") || text.ends_with(".js"));
    let mut count = 0;
    for name in named {
        let (status, kind, body) = get(&format!("/docs/{name}"), None, "content-type").await;
        assert_eq!(status, StatusCode::OK, "{name}");
        assert_eq!(kind.contains("css"), name.ends_with(".css"), "{name}");
        assert!(!body.is_empty(), "{name}");
        count += 1;
    }
    assert_eq!(count, 4);
    let (status, _, _) = get("/docs/LICENSE", None, "etag").await;
    assert_eq!(status, StatusCode::OK);
    let (status, _, _) = get("/docs/..%2fCargo.toml", None, "etag").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_page_may_load_nothing_from_elsewhere() {
    let (_, policy, page) = get("/docs/", None, "content-security-policy").await;
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"));
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    let page = String::from_utf8(page).expect("text");
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("<style"));
    let (_, kind, _) = get("/docs/", None, "x-content-type-options").await;
    assert_eq!(kind, "nosniff");
}
