//! A door that answers with what it is asked: an rpc for each message that there is, of taxi and of the
//! test protos, with its fields in the body and in the query.

use std::path::Path;

use gateway::routes::RouteTable;
use prost_reflect::{DescriptorPool, MessageDescriptor};
use protox::Compiler;
use protox::file::{
    ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver,
};

const ECHO: &str = "echo.proto";

/// The routes of all messages.
pub(crate) fn table() -> RouteTable {
    let set = compile(&source(&messages()));
    let pool = DescriptorPool::decode(set.as_slice()).expect("what protox has checked");
    RouteTable::new(&pool).expect("good rules")
}

/// The path of a message, whole in the body of a `POST`.
pub(crate) fn path(message: &MessageDescriptor) -> String {
    format!("/v1/echo/{}", message.full_name())
}

/// The names of all messages, and the files they are in.
fn messages() -> Vec<(String, String)> {
    let taxi = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("our protos");
    let library = compile("syntax = 'proto3'; import 'library.proto';");
    let library = DescriptorPool::decode(library.as_slice()).expect("what protox has checked");
    let named = |pool: &DescriptorPool, prefixes: &[&str]| -> Vec<(String, String)> {
        let wanted = |message: &MessageDescriptor| {
            let name = message.full_name();
            !message.is_map_entry() && prefixes.iter().any(|prefix| name.starts_with(prefix))
        };
        let file = |message: &MessageDescriptor| message.parent_file().name().to_owned();
        let messages = pool.all_messages().filter(wanted);
        messages.map(|message| (message.full_name().to_owned(), file(&message))).collect()
    };
    let mut messages = named(&taxi, &["taxi."]);
    messages.extend(named(&library, &["library.", "everything."]));
    messages.sort();
    messages
}

fn source(messages: &[(String, String)]) -> String {
    let mut files: Vec<&str> = messages.iter().map(|(_, file)| file.as_str()).collect();
    files.push("google/api/annotations.proto");
    files.sort_unstable();
    files.dedup();
    let imports: Vec<String> = files.iter().map(|file| format!("import '{file}';\n")).collect();
    let rpc = |(at, (name, _)): (usize, &(String, String))| {
        format!(
            "rpc Echo{at}(.{name}) returns (.{name}) {{
                 option (google.api.http) = {{
                     post: '/v1/echo/{name}' body: '*'
                     additional_bindings {{get: '/v1/ask/{name}'}}
                 }};
             }}\n"
        )
    };
    let rpcs: Vec<String> = messages.iter().enumerate().map(rpc).collect();
    format!(
        "syntax = 'proto3';\npackage echo;\n{}service Echo {{\n{}}}\n",
        imports.concat(),
        rpcs.concat()
    )
}

fn compile(source: &str) -> Vec<u8> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut resolver = ChainFileResolver::new();
    resolver.add(Written(source.to_owned()));
    for directory in ["tests/proto", "../../proto", "../../proto/vendor"] {
        resolver.add(IncludeFileResolver::new(here.join(directory)));
    }
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file(ECHO).expect("a proto that compiles");
    compiler.encode_file_descriptor_set()
}

/// `echo.proto`, in memory.
struct Written(String);

impl FileResolver for Written {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match name {
            ECHO => File::from_source(name, &self.0),
            other => Err(protox::Error::file_not_found(other)),
        }
    }
}
