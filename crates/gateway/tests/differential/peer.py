"""What `google.protobuf.json_format` makes of messages and of JSON.

    peer.py DESCRIPTORS < cases > verdicts

A case is an object on one line: the `type` of a message, `wire` and `json`, one of them or both. Its
verdict, on one line too:

    written    the JSON of `wire`, with all fields that have no presence
    by_name    the same, with the names of the proto
    read       the bytes of the message that `json` is
    same       whether that is the message of `wire`
    refused    why `json` is none
"""

import base64
import json
import sys

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory


def pool_of(path):
    files = descriptor_pb2.FileDescriptorSet()
    with open(path, "rb") as file:
        files.ParseFromString(file.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


def main(descriptors):
    pool = pool_of(descriptors)
    classes = {}
    for line in sys.stdin:
        case = json.loads(line)
        name = case["type"]
        if name not in classes:
            classes[name] = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
        print(json.dumps(verdict(pool, classes[name], case)))


def verdict(pool, message_class, case):
    said = {}
    sent = None
    if "wire" in case:
        sent = message_class.FromString(base64.b64decode(case["wire"]))
        written = lambda by_name: json_format.MessageToJson(
            sent,
            indent=None,
            preserving_proto_field_name=by_name,
            always_print_fields_with_no_presence=True,
            descriptor_pool=pool,
        )
        said["written"] = written(False)
        said["by_name"] = written(True)
    if "json" in case:
        try:
            read = json_format.Parse(case["json"], message_class(), descriptor_pool=pool)
            wire = read.SerializeToString(deterministic=True)
            said["read"] = base64.b64encode(wire).decode()
            if sent is not None:
                said["same"] = wire == sent.SerializeToString(deterministic=True)
        except Exception as error:
            said["refused"] = f"{type(error).__name__}: {error}"
    return said


if __name__ == "__main__":
    main(sys.argv[1])
