//! The elements of a server stream, each as a frame of its own.
//!
//! | format | an element | an error, the last frame |
//! |---|---|---|
//! | NDJSON | `{"result": ..}` and a line feed | `{"error": ..}` and a line feed |
//! | SSE, for `Accept: text/event-stream` | `id:` its resume token, `data:` it | `event: error`, `data:` the error |
//!
//! An `EventSource` connects anew when a stream ends, also when it has come to its end. So a finished
//! SSE stream says `event: end`, on which a page closes it.

use prost_reflect::{DescriptorPool, DynamicMessage, Value};
use tonic::Status;

use crate::errors::status_json;
use crate::routes::Route;
use crate::transcode::{answer, encode};

/// The field of an element from which a broken stream can be carried on, and of the request that
/// does so.
pub(crate) const RESUME_TOKEN: &str = "resume_token";

/// How a stream is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON objects, one a line.
    Ndjson,
    /// Server-sent events.
    Sse,
}

impl Format {
    /// The format that a client asks for by its `Accept`: NDJSON unless it names SSE.
    pub fn accepted(accept: Option<&str>) -> Format {
        let sse = |range: &str| {
            let (kind, parameters) = range.split_once(';').unwrap_or((range, ""));
            let wanted = kind.trim().eq_ignore_ascii_case("text/event-stream");
            wanted && !matches!(parameters.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
        };
        match accept.is_some_and(|accept| accept.split(',').any(sse)) {
            true => Format::Sse,
            false => Format::Ndjson,
        }
    }

    /// The `Content-Type` of the response.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Ndjson => "application/x-ndjson",
            Format::Sse => "text/event-stream",
        }
    }

    /// The frame of an element, given as it came from the rpc.
    pub fn element(self, route: &Route, element: &[u8]) -> Result<Vec<u8>, Status> {
        let element = answer(route, element)?;
        let json = encode(route, &element)?;
        Ok(match self {
            Format::Ndjson => [b"{\"result\":", json.as_slice(), b"}\n"].concat(),
            Format::Sse => {
                let id = resume_token(&element).map(|token| format!("id: {token}\n"));
                let id = id.unwrap_or_default();
                [id.as_bytes(), b"data: ", json.as_slice(), b"\n\n"].concat()
            }
        })
    }

    /// The frame of the error that ends a stream.
    pub fn error(self, status: &Status, pool: &DescriptorPool) -> Vec<u8> {
        let json = status_json(status, pool);
        match self {
            Format::Ndjson => format!("{{\"error\":{json}}}\n"),
            Format::Sse => format!("event: error\ndata: {json}\n\n"),
        }
        .into_bytes()
    }

    /// The frame behind the last element of a stream that came to its end.
    pub fn end(self) -> &'static [u8] {
        match self {
            Format::Ndjson => b"",
            Format::Sse => b"event: end\ndata: {}\n\n",
        }
    }
}

/// The token of an element. One that would break the frame is none.
fn resume_token(element: &DynamicMessage) -> Option<String> {
    let token = element.get_field_by_name(RESUME_TOKEN)?;
    let Value::String(token) = token.as_ref() else { return None };
    (!token.is_empty() && !token.contains(['\r', '\n', '\0'])).then(|| token.clone())
}
