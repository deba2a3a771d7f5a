//! Typed identities and the resource names (AIP-122) in which clients see them.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::Rejection;

/// A typed id with the resource name in which clients see it.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident($value:ty), $collection:literal, $shape:literal, $show:expr, $parse:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $value);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($collection, "/{}"), $show(&self.0))
            }
        }

        impl FromStr for $name {
            type Err = Rejection;

            fn from_str(name: &str) -> Result<Self, Rejection> {
                let id = name.strip_prefix(concat!($collection, "/")).and_then($parse);
                let shape = concat!("must be ", $collection, "/", $shape);
                id.map(Self).ok_or_else(|| Rejection::invalid("name", "INVALID_NAME", shape))
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $collection:literal) => {
        id!($(#[$doc])* #[derive(Copy)] $name(Uuid), $collection, "{uuid}", Uuid::to_string, parse_uuid);
    };
}

macro_rules! subject_id {
    ($(#[$doc:meta])* $name:ident, $collection:literal) => {
        id!($(#[$doc])* $name(String), $collection, "{subject, percent-encoded}", escape, unescape);

        impl $name {
            /// From a token's subject, whatever an identity provider put into it.
            pub fn from_subject(subject: impl Into<String>) -> Self {
                Self(subject.into())
            }

            /// The token's subject.
            pub fn subject(&self) -> &str {
                &self.0
            }
        }
    };
}

uuid_id!(
    /// 차량배정 요청: a customer's request for a car.
    AllocationId, "allocations");
uuid_id!(
    /// 운행: a driving that serves one allocation.
    DrivingId, "drivings");
uuid_id!(
    /// 요금결제: the payment of one driving's fare.
    PaymentId, "payments");
subject_id!(
    /// 고객: who asks for cars and pays, known by the token's subject.
    CustomerId, "customers");
subject_id!(
    /// 드라이버: who accepts and drives, known by the token's subject.
    DriverId, "drivers");

/// The hyphenated form only: one id has one name.
fn parse_uuid(id: &str) -> Option<Uuid> {
    Uuid::try_parse(id).ok().filter(|uuid| uuid.to_string() == id)
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn escape(subject: &str) -> String {
    let escaped = subject.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    });
    escaped.collect()
}

/// Whether an identity provider's subject can be one of ours: 1..255 bytes, no control characters.
pub fn is_subject(subject: &str) -> bool {
    (1..=255).contains(&subject.len()) && !subject.contains(|c: char| c.is_control())
}

/// The inverse of [`escape`]; `None` for what it never makes.
fn unescape(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    let readable = |subject: &String| is_subject(subject) && escape(subject) == name;
    String::from_utf8(bytes).ok().filter(readable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_subject_survives_its_name() {
        for subject in ["C1", "auth0|a.b*>", "김 철수", "a/b%2F", "*", "+"] {
            let customer = CustomerId::from_subject(subject);
            assert_eq!(customer.to_string().parse(), Ok(customer));
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        for name in [
            "",
            "customers/",
            "drivers/C1",
            "customers/a/b",
            "customers/%00",
            "customers/%zz",
            "customers/%",
        ] {
            assert!(name.parse::<CustomerId>().is_err(), "{name}");
        }
        for name in
            ["allocations/1", "drivings/0192f0c1-0000-7000-8000-000000000000", "allocations"]
        {
            assert!(name.parse::<AllocationId>().is_err(), "{name}");
        }
    }
}
