//! `taxi call`: one call of one method, found by reflection, in JSON.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Read as _};

use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::token;
use crate::Global;
use crate::codec::DynamicCodec;
use crate::exit::Exit;
use crate::output::{self, Format};
use crate::ready::Ready;
use crate::reflection::Catalogue;

const EXAMPLE: &str = "\
Example:
  taxi call allocation RequestAllocation \\
    '{\"allocation\": {\"destination\": {\"address\": \"Misa\"}}}' --role customer --sub C1";

/// Call a method of the running mesh.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Args {
    /// The service: `allocation`, `AllocationService` or its full name.
    service: String,
    /// The method; `taxi list` lists them.
    method: String,
    /// The request; `-` reads it from stdin.
    #[arg(default_value = "{}")]
    json: String,
    /// Call in this role, with a development token.
    #[arg(long, value_parser = token::roles(), requires = "sub", conflicts_with = "token")]
    role: Option<String>,
    /// Call as this subject.
    #[arg(long, requires = "role")]
    sub: Option<String>,
    /// Call with this token.
    #[arg(long)]
    token: Option<String>,
    /// Send this header, too.
    #[arg(short = 'H', long = "header", value_name = "KEY:VALUE", value_parser = header)]
    headers: Vec<Header>,
}

type Header = (AsciiMetadataKey, AsciiMetadataValue);

/// Calls, and prints what comes.
pub(crate) async fn run(args: Args, global: &Global) -> Result<(), Exit> {
    let ready = global.mesh()?;
    let catalogue = Catalogue::of(&ready).await?;
    let (offer, method) = catalogue.method(&args.service, &args.method)?;
    if method.is_client_streaming() {
        return Err(Exit::usage(format!("{} takes a stream of requests", method.full_name())));
    }
    let mut request = Request::new(message(method.input(), &args.json)?);
    *request.metadata_mut() = metadata(&args, &ready).await?;

    let path = format!("/{}/{}", offer.descriptor.full_name(), method.name());
    let path = path.parse().map_err(|_| Exit::usage(format!("{path} is no path")))?;
    let mut client = tonic::client::Grpc::new(offer.channel.clone());
    client.ready().await.map_err(|error| Exit::unavailable(error.to_string()))?;
    let streams = method.is_server_streaming();
    // One answer is a stream of one.
    let answers = client.server_streaming(request, path, DynamicCodec(method)).await;
    let mut answers = answers.map_err(|status| explain(&status))?.into_inner();
    let pretty = !streams && global.output != Format::Jsonl;
    while let Some(answer) = answers.message().await.map_err(|status| explain(&status))? {
        output::line(&json(&answer, pretty)?)?;
    }
    Ok(())
}

/// Reads the request.
fn message(descriptor: MessageDescriptor, json: &str) -> Result<DynamicMessage, Exit> {
    let mut from_stdin = String::new();
    let json = match json {
        "-" => {
            if std::io::stdin().is_terminal() {
                eprintln!("reading the request from the terminal; end it with ^D");
            }
            let read = std::io::stdin().read_to_string(&mut from_stdin);
            read.map_err(|error| Exit::usage(format!("cannot read stdin: {error}")))?;
            from_stdin.as_str()
        }
        json => json,
    };
    let name = descriptor.full_name().to_owned();
    let mut reader = serde_json::Deserializer::from_str(json);
    DynamicMessage::deserialize(descriptor, &mut reader)
        .and_then(|message| reader.end().map(|()| message))
        .map_err(|error| {
            Exit::usage(format!("the request is no {name}: {error} (see `taxi describe {name}`)"))
        })
}

/// Reads the headers, and adds who calls.
async fn metadata(args: &Args, ready: &Ready) -> Result<MetadataMap, Exit> {
    let mut metadata = MetadataMap::new();
    for (key, value) in &args.headers {
        metadata.append(key.clone(), value.clone());
    }
    let token = match (&args.role, &args.sub) {
        (Some(role), Some(sub)) => Some(token::issue(ready, role, sub).await?.access_token),
        _ => args.token.clone(),
    };
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse();
        let value = value.map_err(|_| Exit::usage("the token cannot be in a header"))?;
        metadata.insert("authorization", value);
    }
    Ok(metadata)
}

fn header(text: &str) -> Result<Header, String> {
    let (key, value) = text.split_once(':').ok_or("a header looks like key:value")?;
    let key =
        key.trim().to_ascii_lowercase().parse().map_err(|_| format!("{key:?} is no header"))?;
    let value = value.trim().parse().map_err(|_| format!("{value:?} cannot be in a header"))?;
    Ok((key, value))
}

fn json(message: &DynamicMessage, pretty: bool) -> Result<String, Exit> {
    let failed = |error: serde_json::Error| Exit::failed(error.to_string());
    let mut bytes = Vec::new();
    let options = SerializeOptions::new();
    if pretty {
        let mut writer = serde_json::Serializer::pretty(&mut bytes);
        message.serialize_with_options(&mut writer, &options).map_err(failed)?;
    } else {
        let mut writer = serde_json::Serializer::new(&mut bytes);
        message.serialize_with_options(&mut writer, &options).map_err(failed)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a refusal says to a person: code, reason and message on the first line, details below.
pub(crate) fn explain(status: &Status) -> Exit {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| format!(" {}", info.reason)).unwrap_or_default();
    let mut text = format!("{}{reason}: {}", code(status.code()), status.message());
    for violation in details.bad_request().iter().flat_map(|it| &it.field_violations) {
        let _ = write!(text, "\n  {}: {}", violation.field, violation.description);
    }
    let violations = details.precondition_failure().into_iter().flat_map(|it| &it.violations);
    for violation in violations.filter(|it| it.description != status.message()) {
        let _ = write!(text, "\n  {}: {}", violation.r#type, violation.description);
    }
    if let Some(after) = details.retry_info().and_then(|it| it.retry_delay) {
        let _ = write!(text, "\n  try again in {after:?}");
    }
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => Exit::not_allowed(text),
        Code::Unavailable => Exit::unavailable(text),
        _ => Exit::failed(text),
    }
}

/// The code as the specification spells it.
fn code(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use kernel::Rejection;
    use prost_reflect::DescriptorPool;

    use super::*;

    #[test]
    fn a_refusal_is_explained_with_its_details() {
        let status = platform::status::status;
        for (rejection, text) in [
            (
                Rejection::invalid("page_size", "INVALID_PAGE_SIZE", "must not be negative"),
                "INVALID_ARGUMENT INVALID_PAGE_SIZE: must not be negative\n  \
                 page_size: must not be negative",
            ),
            (
                Rejection::unavailable("STORE_UNAVAILABLE", "try again in a moment"),
                "UNAVAILABLE STORE_UNAVAILABLE: try again in a moment\n  try again in 1s",
            ),
        ] {
            assert_eq!(explain(&status(rejection)).to_string(), text);
        }
        assert_eq!(code(Code::DeadlineExceeded), "DEADLINE_EXCEEDED");
        assert_eq!(code(Code::Ok), "OK");
    }

    #[test]
    fn a_header_is_a_key_and_a_value() {
        let (key, value) = header("Accept-Language: en").expect("a header");
        assert_eq!((key.as_str(), value.as_bytes()), ("accept-language", &b"en"[..]));
        for text in ["accept-language", "a b: c", "a: \u{7f}"] {
            assert!(header(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_request_is_json_and_nothing_behind_it() {
        let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("descriptors");
        let request =
            || pool.get_message_by_name("taxi.allocation.v1.GetAllocationRequest").expect("there");
        let read = message(request(), r#"{"name": "allocations/1"}"#).expect("a request");
        assert_eq!(json(&read, false).expect("JSON"), r#"{"name":"allocations/1"}"#);
        for text in [r#"{"nam": "x"}"#, "{} {}", "", r#"{"name": 1}"#] {
            let refused = message(request(), text).expect_err(text).to_string();
            assert!(refused.contains("no taxi.allocation.v1.GetAllocationRequest"), "{refused}");
        }
    }
}
