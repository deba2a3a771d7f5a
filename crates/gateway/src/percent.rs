//! Percent-encoding, strictly: a `%` without two hex digits, or bytes that are no UTF-8, are an
//! error of the caller and not text.

use std::borrow::Cow;

/// Decodes all escapes.
pub(crate) fn decode(text: &str) -> Option<Cow<'_, str>> {
    decoded(text, |_| false, false)
}

/// Decodes all escapes except `%2F`, which a value of several segments keeps: there a `/` separates
/// segments and an encoded one does not.
pub(crate) fn decode_but_slash(text: &str) -> Option<Cow<'_, str>> {
    decoded(text, |byte| byte == b'/', false)
}

/// Decodes a name or a value of a query, where `+` is a space.
pub(crate) fn decode_form(text: &str) -> Option<Cow<'_, str>> {
    decoded(text, |_| false, true)
}

fn decoded(text: &str, keep: impl Fn(u8) -> bool, plus_is_space: bool) -> Option<Cow<'_, str>> {
    let encoded = text.contains('%') || plus_is_space && text.contains('+');
    if !encoded {
        return Some(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let byte = hex(*bytes.get(at + 1)?)? << 4 | hex(*bytes.get(at + 2)?)?;
                if keep(byte) {
                    decoded.extend_from_slice(&bytes[at..at + 3]);
                } else {
                    decoded.push(byte);
                }
                at += 3;
                continue;
            }
            b'+' if plus_is_space => decoded.push(b' '),
            byte => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded() {
        assert_eq!(decode("a%2Fb%20%E2%82%AC+").as_deref(), Some("a/b €+"));
        assert_eq!(decode_but_slash("a%2Fb%2f%20+").as_deref(), Some("a%2Fb%2f +"));
        assert_eq!(decode_form("a+b%2B").as_deref(), Some("a b+"));
        assert!(matches!(decode("plain"), Some(Cow::Borrowed("plain"))));
    }

    #[test]
    fn malformed_escapes_are_refused() {
        for text in ["%", "%2", "%zz", "a%2", "%+1", "%ff", "%c3%28"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
