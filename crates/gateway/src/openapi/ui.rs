//! The document and a page that shows it, over HTTP.
//!
//! | path | is |
//! |---|---|
//! | `/openapi.json` | the document |
//! | `/docs/` | Swagger UI, which reads the document and calls the API |
//!
//! The page is in the binary, as vendored in `assets/swagger-ui`. It loads nothing from elsewhere,
//! and its `Content-Security-Policy` sees to it.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// The files below `/docs/`.
macro_rules! files {
    ($($name:literal: $kind:expr,)*) => {
        const FILES: &[(&str, &str, &[u8])] = &[$((
            $name,
            $kind,
            include_bytes!(concat!("../../assets/swagger-ui/", $name)),
        ),)*];
    };
}

files! {
    "index.html": HTML,
    "page.css": CSS,
    "page.js": JAVASCRIPT,
    "swagger-ui.css": CSS,
    "swagger-ui-bundle.js": JAVASCRIPT,
    "swagger-ui-bundle.js.LICENSE.txt": TEXT,
    "LICENSE": TEXT,
    "NOTICE": TEXT,
}

/// Serves a document, and the page for it.
pub fn router(document: &Value) -> Router {
    let document = Asset::new("application/json", document.to_string().into_bytes().into());
    let assets: Vec<(&'static str, Asset)> = FILES
        .iter()
        .map(|(name, kind, bytes)| (*name, Asset::new(kind, Bytes::from_static(bytes))))
        .collect();
    let page = {
        let assets = assets.clone();
        move |headers: HeaderMap| async move { file(&assets, "index.html", &headers) }
    };
    let below = move |Path(name): Path<String>, headers: HeaderMap| async move {
        file(&assets, &name, &headers)
    };
    Router::new()
        .route(
            "/openapi.json",
            get(move |headers: HeaderMap| async move { document.answer(&headers) }),
        )
        .route("/docs", get(|| async { to_page() }))
        .route("/docs/", get(page))
        .route("/docs/{name}", get(below))
}

fn file(assets: &[(&'static str, Asset)], name: &str, headers: &HeaderMap) -> Response {
    match assets.iter().find(|(known, _)| *known == name) {
        Some((_, asset)) => asset.answer(headers),
        None => empty(StatusCode::NOT_FOUND),
    }
}

/// The page names its files from where it is: it must be in a directory. Relative itself, for proxies
/// that serve the API below a path.
fn to_page() -> Response {
    let mut response = empty(StatusCode::PERMANENT_REDIRECT);
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("docs/"));
    response
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Something that stays the same for as long as the process lives.
#[derive(Clone)]
struct Asset {
    kind: &'static str,
    tag: HeaderValue,
    bytes: Bytes,
}

impl Asset {
    fn new(kind: &'static str, bytes: Bytes) -> Asset {
        let digest = Sha256::digest(&bytes);
        let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let tag = HeaderValue::try_from(format!("\"{digest}\""));
        Asset { kind, tag: tag.unwrap_or(HeaderValue::from_static("\"\"")), bytes }
    }

    /// All of it, unless the client has it.
    fn answer(&self, request: &HeaderMap) -> Response {
        let mut response = match self.is_known(request) {
            true => empty(StatusCode::NOT_MODIFIED),
            false => Response::new(self.bytes.clone().into()),
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(ETAG, self.tag.clone());
        for (name, value) in [
            (CACHE_CONTROL, "no-cache"),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn is_known(&self, request: &HeaderMap) -> bool {
        let tags = request.get_all(IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
        let mut tags = tags.flat_map(|tags| tags.split(',')).map(str::trim);
        tags.any(|tag| tag == "*" || tag.trim_start_matches("W/").as_bytes() == self.tag.as_bytes())
    }
}
