//! `taxi describe`: a service or a type with its documentation, found by reflection.

use std::collections::BTreeMap;

use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use prost_reflect::{MethodDescriptor, ServiceDescriptor};
use serde::Serialize;

use crate::Global;
use crate::exit::Exit;
use crate::reflection::{Catalogue, is_named, rest};

/// Describe a service, a message or an enum.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its full name, or the end of it: `allocation`, `Allocation`, `Allocation.State`.
    symbol: String,
}

/// A service, a message or an enum, with what is in it.
#[derive(Debug, Serialize)]
struct Description {
    kind: &'static str,
    name: String,
    comment: String,
    members: Vec<Member>,
}

/// A method, a field or a value.
#[derive(Debug, Serialize)]
struct Member {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<i64>,
    declaration: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rest: Option<String>,
    comment: String,
}

/// Describes it.
pub(crate) async fn run(args: Args, global: &Global) -> Result<(), Exit> {
    let ready = global.mesh()?;
    let catalogue = Catalogue::of(&ready).await?;
    let description = find(&catalogue, &args.symbol)?;
    global.output.item(description.text().trim_end(), &description)
}

/// The one thing of this name. A type that several services know is still one.
fn find(catalogue: &Catalogue, symbol: &str) -> Result<Description, Exit> {
    if let Some(offer) = catalogue.service(symbol) {
        return Ok(service(&offer.descriptor));
    }
    let mut found = BTreeMap::new();
    for pool in catalogue.pools() {
        for it in pool.all_messages().filter(|it| is_named(it.full_name(), symbol)) {
            found.insert(it.full_name().to_owned(), message(&it));
        }
        for it in pool.all_enums().filter(|it| is_named(it.full_name(), symbol)) {
            found.insert(it.full_name().to_owned(), enumeration(&it));
        }
    }
    // Its full name means itself, even where others end like it.
    if let Some(exact) = found.remove(symbol) {
        return Ok(exact);
    }
    let names: Vec<String> = found.keys().cloned().collect();
    match (found.pop_first(), names.len()) {
        (Some((_, description)), 1) => Ok(description),
        (None, _) => Err(Exit::usage(format!("there is no {symbol}: see `taxi list`"))),
        _ => Err(Exit::usage(format!("{symbol} can be {}: say which", names.join(", ")))),
    }
}

fn service(it: &ServiceDescriptor) -> Description {
    let method = |method: MethodDescriptor| {
        let stream = |streams| if streams { "stream " } else { "" };
        let declaration = format!(
            "rpc {}({}{}) returns ({}{})",
            method.name(),
            stream(method.is_client_streaming()),
            method.input().full_name(),
            stream(method.is_server_streaming()),
            method.output().full_name(),
        );
        Member {
            name: method.name().to_owned(),
            number: None,
            declaration,
            rest: rest(&method),
            comment: comment(
                method.parent_service().parent_file().file_descriptor_proto(),
                method.path(),
            ),
        }
    };
    Description {
        kind: "service",
        name: it.full_name().to_owned(),
        comment: comment(it.parent_file().file_descriptor_proto(), it.path()),
        members: it.methods().map(method).collect(),
    }
}

fn message(it: &MessageDescriptor) -> Description {
    let file = it.parent_file();
    let field = |field: FieldDescriptor| Member {
        name: field.name().to_owned(),
        number: Some(field.number().into()),
        declaration: format!("{} {} = {}", type_of(&field), field.name(), field.number()),
        rest: None,
        comment: comment(file.file_descriptor_proto(), field.path()),
    };
    Description {
        kind: "message",
        name: it.full_name().to_owned(),
        comment: comment(file.file_descriptor_proto(), it.path()),
        members: it.fields().map(field).collect(),
    }
}

fn enumeration(it: &EnumDescriptor) -> Description {
    let file = it.parent_file();
    let value = |value: prost_reflect::EnumValueDescriptor| Member {
        name: value.name().to_owned(),
        number: Some(value.number().into()),
        declaration: format!("{} = {}", value.name(), value.number()),
        rest: None,
        comment: comment(file.file_descriptor_proto(), value.path()),
    };
    Description {
        kind: "enum",
        name: it.full_name().to_owned(),
        comment: comment(file.file_descriptor_proto(), it.path()),
        members: it.values().map(value).collect(),
    }
}

/// The type of a field as a proto file spells it.
fn type_of(field: &FieldDescriptor) -> String {
    let kind = |kind: Kind| match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(it) => it.full_name().to_owned(),
        scalar => format!("{scalar:?}"),
    };
    match (field.kind(), field.cardinality()) {
        (Kind::Message(entry), _) if field.is_map() => {
            let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            format!("map<{}, {}>", kind(key.kind()), kind(value.kind()))
        }
        (of, Cardinality::Repeated) => format!("repeated {}", kind(of)),
        (of, _) => kind(of),
    }
}

/// The comment before a declaration.
fn comment(file: &FileDescriptorProto, path: &[i32]) -> String {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    let found = locations.into_iter().find(|location| location.path == path);
    let lines = found.map(|location| location.leading_comments().lines().map(str::trim));
    lines.map(|lines| lines.collect::<Vec<_>>().join("\n").trim().to_owned()).unwrap_or_default()
}

impl Description {
    /// As a proto file would have it.
    fn text(&self) -> String {
        let mut text = commented("", &self.comment);
        text.push_str(&format!("{} {} {{\n", self.kind, self.name));
        for (at, member) in self.members.iter().enumerate() {
            if at > 0 {
                text.push('\n');
            }
            text.push_str(&commented("  ", &member.comment));
            if let Some(rest) = &member.rest {
                text.push_str(&format!("  // REST: {rest}\n"));
            }
            text.push_str(&format!("  {};\n", member.declaration));
        }
        text.push_str("}\n");
        text
    }
}

fn commented(indent: &str, comment: &str) -> String {
    let line = |line: &str| format!("{}\n", format!("{indent}// {line}").trim_end());
    comment.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;

    fn pool() -> DescriptorPool {
        DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("descriptors")
    }

    #[test]
    fn a_service_reads_like_its_proto_file() {
        let it = pool().get_service_by_name("taxi.allocation.v1.AllocationService").expect("there");
        let text = service(&it).text();
        for part in [
            "\nservice taxi.allocation.v1.AllocationService {\n",
            "  // REST: POST /v1/allocations\n  rpc RequestAllocation(",
            " returns (stream taxi.allocation.v1.WatchAllocationResponse);\n",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(text.starts_with("// "), "{text}");
    }

    #[test]
    fn a_message_reads_like_its_proto_file() {
        let it = pool().get_message_by_name("taxi.allocation.v1.Allocation").expect("there");
        let text = message(&it).text();
        for part in ["  string name = 1;\n", "  taxi.type.v1.Place destination = 4;\n"] {
            assert!(text.contains(part), "{text}");
        }
        let state = pool().get_enum_by_name("taxi.allocation.v1.Allocation.State").expect("there");
        assert!(enumeration(&state).text().contains("  STATE_REQUESTED = 1;\n"));
    }
}
