//! Who calls: a bearer token, looked at before anybody behind the door hears of the call. The
//! service looks at it again, for it trusts nobody.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use kernel::Rejection;

use super::Door;

impl Door {
    /// The subject of the caller's token, who is within their rate.
    pub(super) async fn admit(&self, headers: &HeaderMap) -> Result<String, Rejection> {
        let principal = self.verifier.verify(bearer(headers)).await?;
        self.limits.principal(&principal.subject)?;
        Ok(principal.subject)
    }
}

/// The token of the first `Authorization`, which is the one that services read.
fn bearer(headers: &HeaderMap) -> &str {
    let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = value.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    token.unwrap_or_default()
}
