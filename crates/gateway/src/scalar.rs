//! Values written as text: in a path, in a query, and as strings in JSON.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{Kind, Value};

/// Why a text is no value: what it must be.
pub(crate) type Wanted = &'static str;

const BASE64: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, BASE64);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, BASE64);

pub(crate) const INT32: Wanted = "must be an integer of 32 bits";
pub(crate) const INT64: Wanted = "must be an integer of 64 bits";
pub(crate) const UINT32: Wanted = "must be an integer of 32 bits, not negative";
pub(crate) const UINT64: Wanted = "must be an integer of 64 bits, not negative";
pub(crate) const DOUBLE: Wanted = "must be a number that a double can hold";
pub(crate) const FLOAT: Wanted = "must be a number that a float can hold";
pub(crate) const BYTES: Wanted = "must be base64";
pub(crate) const ENUM: Wanted = "must be one of the enum's names, or its number";

/// The value of a kind that is no message, in a path or in a query.
pub(crate) fn parse(kind: &Kind, text: &str) -> Result<Value, Wanted> {
    match kind {
        Kind::Bool => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err("must be true or false"),
        },
        Kind::String => Ok(Value::String(text.to_owned())),
        Kind::Bytes => base64(text).map(|bytes| Value::Bytes(bytes.into())).ok_or(BYTES),
        Kind::Enum(kind) => {
            let by_number = || kind.get_value(i32::try_from(integer(text)?).ok()?);
            let value = kind.get_value_by_name(text).or_else(by_number);
            value.map(|value| Value::EnumNumber(value.number())).ok_or(ENUM)
        }
        Kind::Message(_) => Err("is a message: name its fields"),
        number => parse_number(number, text),
    }
}

/// The value of a kind of number.
pub(crate) fn parse_number(kind: &Kind, text: &str) -> Result<Value, Wanted> {
    match kind {
        Kind::Double => double(text).map(Value::F64).ok_or(DOUBLE),
        Kind::Float => float(text).map(Value::F32).ok_or(FLOAT),
        integer_kind => from_integer(integer_kind, integer(text)),
    }
}

/// An integer as a value of a kind that may be too small for it.
pub(crate) fn from_integer(kind: &Kind, integer: Option<i128>) -> Result<Value, Wanted> {
    fn fit<T: TryFrom<i128>>(integer: Option<i128>, wanted: Wanted) -> Result<T, Wanted> {
        integer.and_then(|integer| T::try_from(integer).ok()).ok_or(wanted)
    }
    match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => fit(integer, INT32).map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => fit(integer, INT64).map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => fit(integer, UINT32).map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => fit(integer, UINT64).map(Value::U64),
        _ => Err("is no number"),
    }
}

/// An integer as JSON writes numbers, exactly: `-12`, `1e3` and `2.50e1` are integers, `+1`, `01`
/// and `1.5` are none.
pub(crate) fn integer(text: &str) -> Option<i128> {
    let (negative, number) = match text.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, text),
    };
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent),
        None => (number, "0"),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None => (mantissa, ""),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let well_formed = whole == "0" || !whole.is_empty() && !whole.starts_with('0');
    let power = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if !well_formed || ![whole, fraction, power].into_iter().all(digits) {
        return None;
    }
    let exponent: i32 = exponent.parse().ok()?;
    let all = format!("{whole}{fraction}");
    let significant = all.trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let cut = i32::try_from(all.len() - significant.len()).ok()?;
    let power = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?.checked_add(cut)?;
    let scale = 10_i128.checked_pow(u32::try_from(power).ok()?)?;
    let value = significant.parse::<i128>().ok()?.checked_mul(scale)?;
    Some(if negative { -value } else { value })
}

/// A double as JSON writes numbers, or one of the three words for what is no number there.
fn double(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ if is_number(text) => text.parse().ok().filter(|value: &f64| value.is_finite()),
        _ => None,
    }
}

/// A float likewise; parsed as such, since a double in between would round twice.
fn float(text: &str) -> Option<f32> {
    match text {
        "NaN" => Some(f32::NAN),
        "Infinity" => Some(f32::INFINITY),
        "-Infinity" => Some(f32::NEG_INFINITY),
        _ if is_number(text) => text.parse().ok().filter(|value: &f32| value.is_finite()),
        _ => None,
    }
}

/// Whether a text is a number as JSON writes it. Rust also reads `inf`, `+1`, `.5` and `1.`.
fn is_number(text: &str) -> bool {
    let spaced = text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace);
    !spaced && serde_json::from_str::<serde_json::Number>(text).is_ok()
}

/// Bytes in base64 of either alphabet, with or without padding.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let engine = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    engine.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_exact() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("12", 12),
            ("1e3", 1000),
            ("1E+3", 1000),
            ("2.50e1", 25),
            ("100e-2", 1),
            ("1.0", 1),
            ("0e99", 0),
            ("9007199254740993.0", 9_007_199_254_740_993),
            ("-9223372036854775808", i128::from(i64::MIN)),
            ("18446744073709551615", i128::from(u64::MAX)),
        ] {
            assert_eq!(integer(text), Some(value), "{text}");
        }
        for text in [
            "",
            "-",
            "+1",
            "01",
            "1.",
            ".5",
            "1.5",
            "1e",
            "1e-1",
            "0x1",
            " 1",
            "1 ",
            "1e99",
            "--1",
            "1e+-1",
            "e1",
            "1_000",
            "١",
            "1e9999999999",
        ] {
            assert_eq!(integer(text), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_are_those_of_json() {
        assert_eq!(double("1e308"), Some(1e308));
        assert_eq!(float("0.1"), Some(0.1));
        assert!(double("NaN").is_some_and(f64::is_nan));
        for text in ["inf", "nan", "infinity", "+1", ".5", "1.", "1e309", "", " 1", "1\n", "0x1"] {
            assert_eq!(double(text), None, "{text:?}");
        }
        assert_eq!(float("3.5e38"), None);
    }
}
