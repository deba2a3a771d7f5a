//! Where we and Python differ, and why it is right that we do. Each row is counted, and all but the
//! last two are what Python reads from JSON that the specification does not have.

use serde_json::Value;

/// A difference that is known.
struct Known {
    name: &'static str,
    /// Whether a difference is this one: what it is, and what was put into the JSON.
    is: fn(&str, &Value) -> bool,
}

const KNOWN: [Known; 7] = [
    Known {
        name: "known: Python takes \"\" and [] for an empty message",
        is: |difference, put| {
            let empty = put.as_str() == Some("") || put.as_array().is_some_and(Vec::is_empty);
            only_python(difference, "must be an object") && empty
        },
    },
    Known {
        name: "known: Python takes for a number what it is in Python: \" 1\", \"+1\", \"1_0\", \"inf\"",
        is: |difference, put| {
            let number = ["must be an integer", "must be a number"];
            number.iter().any(|wanted| only_python(difference, wanted)) && put.is_string()
        },
    },
    Known {
        name: "known: Python takes true for 1.0",
        is: |difference, put| only_python(difference, "must be a number") && put.is_boolean(),
    },
    Known {
        name: "known: Python makes a number of an enum by int(): \"1\", 1.5, true, 4294967296",
        is: |difference, put| {
            let scalar = put.is_string() || put.is_number() || put.is_boolean();
            only_python(difference, "must be one of the enum's names") && scalar
        },
    },
    Known {
        name: "known: Python skips what is no base64",
        is: |difference, put| only_python(difference, "must be base64") && put.is_string(),
    },
    Known {
        name: "known: Python has a defect, null for a list of google.protobuf.Value",
        is: |difference, put| {
            difference
                .starts_with("only we read it: ParseError: Failed to parse JSON: AttributeError")
                && put.is_null()
        },
    },
    Known {
        name: "known: we take -0.0 for 0.0",
        is: |difference, put| {
            let negative = put.as_f64().is_some_and(|zero| zero == 0.0 && zero.is_sign_negative());
            difference.contains(" is not ") && negative
        },
    },
];

fn only_python(difference: &str, wanted: &str) -> bool {
    difference.starts_with("only Python reads it") && difference.contains(wanted)
}

/// The known difference that this one is. What was put at the end of a list counts, not the list.
pub(crate) fn difference(difference: &str, put: &Value) -> Option<&'static str> {
    let put = match put {
        Value::Array(items) => items.last().unwrap_or(put),
        put => put,
    };
    KNOWN.iter().find(|known| (known.is)(difference, put)).map(|known| known.name)
}
