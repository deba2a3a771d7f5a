//! Webhooks as Standard Webhooks has them: who sends one signs it, who gets one believes no other.
//!
//! ```text
//! webhook-id: msg_01                  the same when it is sent again
//! webhook-timestamp: 1760000000       seconds since the epoch
//! webhook-signature: v1,<base64>      HMAC-SHA256 of `id.timestamp.body`; several while a key rotates
//! ```
//!
//! The time is signed, too: what somebody has recorded is worth nothing after [`TOLERANCE`].

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac as _};
use http::{HeaderMap, HeaderName};
use kernel::Timestamp;
use serde::{Deserialize, Deserializer, de};
use sha2::Sha256;

/// How far the sender's clock and ours may be apart, the way included.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// What a secret begins with, as people handle it.
const PREFIX: &str = "whsec_";
/// The version of the signature.
const VERSION: &str = "v1,";
/// How long a secret may be, in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;
/// How many signatures of one webhook are looked at.
const MOST_SIGNATURES: usize = 4;

/// What sender and receiver share.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

/// A text that is no secret. It is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret is whsec_ and then the base64 of 24 to 64 bytes")]
pub struct InvalidSecret;

/// Why a webhook is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forged {
    /// A header is missing, or is none.
    #[error("not signed: webhook-id, webhook-timestamp and webhook-signature are needed")]
    NotSigned,
    /// Sent too long ago, or from the future.
    #[error("the timestamp is more than five minutes away")]
    Stale,
    /// Signed by somebody else, or changed on the way.
    #[error("the signature is wrong")]
    WrongSignature,
}

impl FromStr for Secret {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Secret, InvalidSecret> {
        let key = text.strip_prefix(PREFIX).ok_or(InvalidSecret)?;
        let key = BASE64_STANDARD.decode(key).map_err(|_| InvalidSecret)?;
        if !LENGTHS.contains(&key.len()) {
            return Err(InvalidSecret);
        }
        Hmac::new_from_slice(&key).map(Secret).map_err(|_| InvalidSecret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// The headers of a webhook that is sent now.
    pub fn sign(&self, id: &str, now: Timestamp, body: &[u8]) -> [(HeaderName, String); 3] {
        let timestamp = seconds(now).to_string();
        let signature = self.over(id, &timestamp, body).finalize().into_bytes();
        let signature = format!("{VERSION}{}", BASE64_STANDARD.encode(signature));
        [(ID, id.to_owned()), (TIMESTAMP, timestamp), (SIGNATURE, signature)]
    }

    /// Whether a webhook comes from somebody who has the secret, and comes now.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), Forged> {
        let text =
            |name| headers.get(name).and_then(|it| it.to_str().ok()).ok_or(Forged::NotSigned);
        let (id, timestamp, signatures) = (text(ID)?, text(TIMESTAMP)?, text(SIGNATURE)?);
        let sent: i64 = timestamp.parse().map_err(|_| Forged::NotSigned)?;
        if seconds(now).abs_diff(sent) > TOLERANCE.as_secs() {
            return Err(Forged::Stale);
        }
        let expected = self.over(id, timestamp, body);
        let ours = |signature: &str| {
            let signature = signature.strip_prefix(VERSION)?;
            let signature = BASE64_STANDARD.decode(signature).ok()?;
            // In the same time for every wrong one.
            expected.clone().verify_slice(&signature).ok()
        };
        signatures.split(' ').take(MOST_SIGNATURES).find_map(ours).ok_or(Forged::WrongSignature)
    }

    fn over(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        mac
    }
}

fn seconds(time: Timestamp) -> i64 {
    time.micros().div_euclid(1_000_000)
}

/// Reads a secret from a configuration, where an empty text means that there is none.
pub fn optional_secret<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Secret>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.is_empty() {
        true => Ok(None),
        false => text.parse().map(Some).map_err(de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        text.parse().expect("a secret")
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn headers(signed: [(HeaderName, String); 3]) -> HeaderMap {
        signed.into_iter().map(|(name, value)| (name, value.parse().expect("ascii"))).collect()
    }

    const OURS: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn the_signature_is_that_of_the_standard() {
        // The example of the Standard Webhooks libraries.
        let body = br#"{"test": 2432232314}"#;
        let signed = secret(OURS).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at(1_614_265_330), body);
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signed[2], (SIGNATURE, expected.to_owned()));
    }

    #[test]
    fn only_what_is_signed_now_is_believed() {
        let signed = headers(secret(OURS).sign("msg_1", at(1000), b"body"));
        let verify =
            |headers: &HeaderMap, body: &[u8], now| secret(OURS).verify(headers, body, now);
        assert_eq!(verify(&signed, b"body", at(1000)), Ok(()));
        assert_eq!(verify(&signed, b"body", at(1300)), Ok(()));
        assert_eq!(verify(&signed, b"body", at(700)), Ok(()));
        assert_eq!(verify(&signed, b"body", at(1301)), Err(Forged::Stale));
        assert_eq!(verify(&signed, b"body", at(699)), Err(Forged::Stale));
        assert_eq!(verify(&signed, b"Body", at(1000)), Err(Forged::WrongSignature));
        assert_eq!(verify(&HeaderMap::new(), b"body", at(1000)), Err(Forged::NotSigned));
        for (name, value) in [(ID, "msg_2"), (TIMESTAMP, "1001"), (SIGNATURE, "v1,AAAA")] {
            let mut changed = signed.clone();
            changed.insert(&name, value.parse().expect("ascii"));
            assert_eq!(verify(&changed, b"body", at(1000)), Err(Forged::WrongSignature), "{name}");
            changed.remove(&name);
            assert_eq!(verify(&changed, b"body", at(1000)), Err(Forged::NotSigned), "{name}");
        }
        let forged = headers(secret(OTHER).sign("msg_1", at(1000), b"body"));
        assert_eq!(verify(&forged, b"body", at(1000)), Err(Forged::WrongSignature));
    }

    #[test]
    fn while_a_key_rotates_one_good_signature_will_do() {
        let [id, time, new] = secret(OURS).sign("msg_1", at(1000), b"body");
        let [_, _, old] = secret(OTHER).sign("msg_1", at(1000), b"body");
        let both = format!("v1a,asymmetric {} {}", old.1, new.1);
        let both = headers([id.clone(), time.clone(), (SIGNATURE, both)]);
        assert_eq!(secret(OURS).verify(&both, b"body", at(1000)), Ok(()));
        let many = format!("{}{}", "v1,AAAA ".repeat(MOST_SIGNATURES), new.1);
        let many = headers([id, time, (SIGNATURE, many)]);
        assert_eq!(secret(OURS).verify(&many, b"body", at(1000)), Err(Forged::WrongSignature));
    }

    #[test]
    fn a_secret_is_long_enough_and_never_shown() {
        for text in ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_?"]
        {
            assert_eq!(text.parse::<Secret>().err(), Some(InvalidSecret), "{text}");
        }
        assert_eq!(format!("{:?}", secret(OURS)), "Secret(..)");
    }
}
