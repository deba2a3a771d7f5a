"""A plugin for buf that makes the gRPC stubs of Python.

grpcio-tools has the generator only inside its own protoc: this hands a request on to that, and its
files back.
"""

import pathlib
import sys
import tempfile

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc


def generate(request: CodeGeneratorRequest, scratch: pathlib.Path) -> CodeGeneratorResponse:
    descriptors, out = scratch / "descriptors", scratch / "out"
    out.mkdir()
    descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
    with_services = {file.name for file in request.proto_file if file.service}
    files = [name for name in request.file_to_generate if name in with_services]
    arguments = ["protoc", f"--descriptor_set_in={descriptors}", f"--grpc_python_out={out}"]
    if files and protoc.main([*arguments, *files]) != 0:
        return CodeGeneratorResponse(error="protoc has failed: its own words are above")
    # `optional` is for the messages, which others generate.
    response = CodeGeneratorResponse(
        supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    for file in sorted(out.rglob("*.py")):
        response.file.add(name=file.relative_to(out).as_posix(), content=file.read_text("utf-8"))
    return response


with tempfile.TemporaryDirectory() as directory:
    asked = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    sys.stdout.buffer.write(generate(asked, pathlib.Path(directory)).SerializeToString())
