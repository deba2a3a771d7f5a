//! The token endpoint: client credentials, in the words of RFC 6749.
//!
//! A client says who it is by HTTP Basic or in the form, never both ways (2.3.1); whoever it says it
//! is, the secret is [`SECRET`].

use axum::Json;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kernel::Role;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::json;

use super::{Issuer, LIFETIME, SECRET};

/// How a client is asked to say who it is.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"taxi\", charset=\"UTF-8\"");

#[derive(Deserialize)]
pub(super) struct TokenRequest {
    grant_type: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    #[serde(default)]
    scope: String,
}

/// Why there is no token: RFC 6749, 5.2.
struct Refusal {
    error: &'static str,
    description: String,
}

impl Refusal {
    fn new(error: &'static str, description: impl Into<String>) -> Refusal {
        Refusal { error, description: description.into() }
    }

    fn invalid_request(description: impl Into<String>) -> Refusal {
        Refusal::new("invalid_request", description)
    }

    fn invalid_client(description: impl Into<String>) -> Refusal {
        Refusal::new("invalid_client", description)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Json(json!({"error": self.error, "error_description": self.description}));
        match self.error {
            "invalid_client" => {
                let challenge = [(header::WWW_AUTHENTICATE, CHALLENGE)];
                (StatusCode::UNAUTHORIZED, challenge, uncached(body)).into_response()
            }
            _ => (StatusCode::BAD_REQUEST, uncached(body)).into_response(),
        }
    }
}

fn uncached(body: impl IntoResponse) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")], body)
}

/// Answers a request for a token.
pub(super) async fn grant(
    State(issuer): State<Issuer>,
    headers: HeaderMap,
    form: Result<Form<TokenRequest>, FormRejection>,
) -> Response {
    match granted(&issuer, &headers, form) {
        Ok(token) => uncached(token).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

fn granted(
    issuer: &Issuer,
    headers: &HeaderMap,
    form: Result<Form<TokenRequest>, FormRejection>,
) -> Result<Json<serde_json::Value>, Refusal> {
    let Form(request) = form.map_err(|error| Refusal::invalid_request(error.body_text()))?;
    match request.grant_type.as_deref() {
        Some("client_credentials") => {}
        None => return Err(Refusal::invalid_request("grant_type is missing")),
        Some(_) => {
            let description = "grant_type must be client_credentials";
            return Err(Refusal::new("unsupported_grant_type", description));
        }
    }
    let client = client(headers, &request)?;
    let Some(role) = Role::ALL.into_iter().find(|role| role.as_str() == request.scope) else {
        let scopes = Role::ALL.map(Role::as_str).join(", ");
        return Err(Refusal::new("invalid_scope", format!("scope must be one of {scopes}")));
    };
    Ok(Json(json!({
        "access_token": issuer.sign(&client, role),
        "token_type": "Bearer",
        "expires_in": LIFETIME.as_secs(),
        "scope": role.as_str(),
    })))
}

/// Who asks.
fn client(headers: &HeaderMap, request: &TokenRequest) -> Result<String, Refusal> {
    let (id, secret) = match basic(headers)? {
        None => (
            request.client_id.clone().unwrap_or_default(),
            request.client_secret.clone().unwrap_or_default(),
        ),
        Some((id, secret)) => {
            // Many repeat their name in the form: that is no second proof.
            let repeated = request.client_id.as_ref().is_none_or(|told| *told == id);
            if request.client_secret.is_some() || !repeated {
                let description = "give the client's credentials once: by Basic, or in the form";
                return Err(Refusal::invalid_request(description));
            }
            (id, secret)
        }
    };
    match kernel::is_subject(&id) && secret == SECRET {
        true => Ok(id),
        false => {
            let description = "client_id is the subject you want to be, client_secret is dev";
            Err(Refusal::invalid_client(description))
        }
    }
}

/// The credentials of an `Authorization` header, if there is one.
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::invalid_request("there is more than one Authorization"));
    }
    let credentials = value.to_str().ok().and_then(credentials);
    let credentials = credentials.ok_or_else(|| {
        Refusal::invalid_client("Authorization must be Basic, with client_id and client_secret")
    })?;
    Ok(Some(credentials))
}

/// Name and secret are encoded as in a form first, so that there may be a colon in them.
fn credentials(value: &str) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_once(' ')?;
    let text = BASE64_STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(text).ok()?;
    let (id, secret) = text.split_once(':').filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        percent_decode_str(&text).decode_utf8().ok().map(|text| text.into_owned())
    };
    Some((decoded(id)?, decoded(secret)?))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    const GRANT: &str = "grant_type=client_credentials&scope=operator";

    struct Answer {
        status: StatusCode,
        headers: HeaderMap,
        body: serde_json::Value,
    }

    impl Answer {
        fn error(&self) -> (u16, &str) {
            (self.status.as_u16(), self.body["error"].as_str().unwrap_or_default())
        }

        /// Whose token it is.
        fn subject(&self) -> String {
            assert_eq!(self.status, 200, "{}", self.body);
            let token = self.body["access_token"].as_str().expect("a token");
            let claims = token.split('.').nth(1).expect("three parts");
            let claims = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(claims).expect("base64");
            let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
            claims["sub"].as_str().expect("a subject").to_owned()
        }
    }

    async fn ask(form: &str, authorization: &[&str]) -> Answer {
        let mut request = Request::post("/oauth2/token")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        for value in authorization {
            request = request.header(header::AUTHORIZATION, *value);
        }
        let request = request.body(Body::from(form.to_owned())).expect("a request");
        let router = Issuer::new("http://issuer.test", "house").router();
        let response = router.oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        let body = serde_json::from_slice(&body).expect("JSON");
        Answer { status: parts.status, headers: parts.headers, body }
    }

    fn basic(credentials: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(credentials))
    }

    #[tokio::test]
    async fn a_client_with_the_secret_gets_a_token() {
        let answer = ask(&format!("{GRANT}&client_id=C1&client_secret=dev"), &[]).await;
        assert_eq!(answer.subject(), "C1");
        let body = &answer.body;
        assert_eq!((&body["token_type"], &body["expires_in"]), (&"Bearer".into(), &3600.into()));
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.headers["pragma"], "no-cache");
    }

    #[tokio::test]
    async fn basic_is_as_good_as_the_form() {
        for (credentials, subject) in [
            ("C1:dev", "C1"),
            ("auth0|C1:dev", "auth0|C1"),
            ("auth0%7CC1:d%65v", "auth0|C1"),
            ("urn%3Auser%3A1:dev", "urn:user:1"),
            ("C+1:dev", "C 1"),
            ("C%2B1:dev", "C+1"),
            ("%ED%95%9C:dev", "한"),
        ] {
            let answer = ask(GRANT, &[&basic(credentials)]).await;
            assert_eq!(answer.subject(), subject, "{credentials}");
        }
        let lower = basic("C1:dev").replace("Basic", "basic");
        assert_eq!(ask(GRANT, &[&lower]).await.subject(), "C1");
        let repeated = ask(&format!("{GRANT}&client_id=C1"), &[&basic("C1:dev")]).await;
        assert_eq!(repeated.subject(), "C1");
    }

    #[tokio::test]
    async fn who_is_no_client_is_asked_for_basic() {
        for (form, authorization) in [
            (GRANT.to_owned(), None),
            (format!("{GRANT}&client_id=C1"), None),
            (format!("{GRANT}&client_id=C1&client_secret=wrong"), None),
            (format!("{GRANT}&client_secret=dev"), None),
            (GRANT.to_owned(), Some(basic("C1:wrong"))),
            (GRANT.to_owned(), Some(basic(":dev"))),
            (GRANT.to_owned(), Some(basic("C1"))),
            (GRANT.to_owned(), Some(basic("C%FF:dev"))),
            (GRANT.to_owned(), Some("Basic !".to_owned())),
            (GRANT.to_owned(), Some("Basic".to_owned())),
            (GRANT.to_owned(), Some("Bearer abc".to_owned())),
        ] {
            let authorization: Vec<&str> = authorization.iter().map(String::as_str).collect();
            let answer = ask(&form, &authorization).await;
            assert_eq!(answer.error(), (401, "invalid_client"), "{form} {authorization:?}");
            assert_eq!(answer.headers["www-authenticate"], CHALLENGE);
            assert_eq!(answer.headers["cache-control"], "no-store");
        }
    }

    #[tokio::test]
    async fn everything_else_is_an_oauth_error() {
        let good = basic("C1:dev");
        for (form, authorization, error) in [
            ("", vec![], "invalid_request"),
            ("scope=operator", vec![&good], "invalid_request"),
            ("grant_type=a&grant_type=b", vec![&good], "invalid_request"),
            ("grant_type=password", vec![&good], "unsupported_grant_type"),
            ("grant_type=client_credentials", vec![&good], "invalid_scope"),
            ("grant_type=client_credentials&scope=root", vec![&good], "invalid_scope"),
            (GRANT, vec![&good, &good], "invalid_request"),
            (&format!("{GRANT}&client_secret=dev"), vec![&good], "invalid_request"),
            (&format!("{GRANT}&client_id=C1&client_secret=dev"), vec![&good], "invalid_request"),
            (&format!("{GRANT}&client_id=C2"), vec![&good], "invalid_request"),
        ] {
            let authorization: Vec<&str> = authorization.into_iter().map(String::as_str).collect();
            let answer = ask(form, &authorization).await;
            assert_eq!(answer.error(), (400, error), "{form} {authorization:?}");
            assert!(!answer.headers.contains_key("www-authenticate"));
        }
    }
}
