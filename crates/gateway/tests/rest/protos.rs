//! Protos, compiled.

use std::path::Path;

use prost_reflect::DescriptorPool;
use protox::Compiler;
use protox::file::{
    ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver,
};

/// The services of `tests/proto`.
pub(crate) fn library() -> DescriptorPool {
    compile("library.proto", "")
}

/// The services of a proto that a test writes down.
pub(crate) fn written(source: &str) -> DescriptorPool {
    compile("written.proto", source)
}

fn compile(file: &str, source: &str) -> DescriptorPool {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut resolver = ChainFileResolver::new();
    resolver.add(Written(source.to_owned()));
    resolver.add(IncludeFileResolver::new(here.join("tests/proto")));
    resolver.add(IncludeFileResolver::new(here.join("../../proto/vendor")));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file(file).expect("a proto that compiles");
    let set = compiler.encode_file_descriptor_set();
    DescriptorPool::decode(set.as_slice()).expect("what protox has checked")
}

/// `written.proto`, in memory.
struct Written(String);

impl FileResolver for Written {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match name {
            "written.proto" => File::from_source(name, &self.0),
            other => Err(protox::Error::file_not_found(other)),
        }
    }
}
