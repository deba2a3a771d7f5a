//! Typed identities and the resource names (AIP-122) in which clients see them.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::Rejection;

macro_rules! resource_id {
    ($(#[$doc:meta])* $name:ident, $collection:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($collection, "/{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = Rejection;

            fn from_str(name: &str) -> Result<Self, Rejection> {
                name.strip_prefix(concat!($collection, "/"))
                    .filter(|id| id.len() == 36)
                    .and_then(|id| Uuid::try_parse(id).ok())
                    .map(Self)
                    .ok_or_else(|| {
                        let shape = concat!($collection, "/{uuid}");
                        Rejection::invalid("name", "INVALID_NAME", format!("must be {shape}"))
                    })
            }
        }
    };
}

resource_id!(
    /// 차량배정 요청: a customer's request for a car.
    AllocationId, "allocations");
resource_id!(
    /// 운행: a driving that serves one allocation.
    DrivingId, "drivings");
resource_id!(
    /// 요금결제: the payment of one driving's fare.
    PaymentId, "payments");

macro_rules! subject_id {
    ($(#[$doc:meta])* $name:ident, $collection:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

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

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($collection, "/{}"), escape(&self.0))
            }
        }

        impl FromStr for $name {
            type Err = Rejection;

            fn from_str(name: &str) -> Result<Self, Rejection> {
                name.strip_prefix(concat!($collection, "/"))
                    .and_then(unescape)
                    .filter(|subject| !subject.is_empty() && subject.len() <= 255)
                    .map(Self)
                    .ok_or_else(|| {
                        let shape = concat!($collection, "/{subject, percent-encoded}");
                        Rejection::invalid("name", "INVALID_NAME", format!("must be {shape}"))
                    })
            }
        }
    };
}

subject_id!(
    /// 고객: who asks for cars and pays, known by the token's subject.
    CustomerId, "customers");
subject_id!(
    /// 드라이버: who accepts and drives, known by the token's subject.
    DriverId, "drivers");

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn escape(subject: &str) -> String {
    let mut name = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                name.push(char::from(byte));
            }
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    name
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
    String::from_utf8(bytes).ok().filter(|subject| escape(subject) == name)
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
        for name in
            ["", "customers/", "drivers/C1", "customers/a/b", "customers/%zz", "customers/%"]
        {
            assert!(name.parse::<CustomerId>().is_err(), "{name}");
        }
        for name in
            ["allocations/1", "drivings/0192f0c1-0000-7000-8000-000000000000", "allocations"]
        {
            assert!(name.parse::<AllocationId>().is_err(), "{name}");
        }
    }
}
