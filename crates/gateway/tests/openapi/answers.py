"""Whether answers are as a document says.

    answers.py DOCUMENT < answers

An answer is an object on one line: `at`, the path of names to its schema in the document, and `json`.
Prints what is wrong, one line each.
"""

import json
import sys
from urllib.parse import quote

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

ADDRESS = "urn:document"


def main(document):
    with open(document, encoding="utf-8") as file:
        contents = json.load(file)
    resource = Resource(contents=contents, specification=DRAFT202012)
    registry = Registry().with_resource(ADDRESS, resource)
    for line in sys.stdin:
        answer = json.loads(line)
        steps = "/".join(step.replace("~", "~0").replace("/", "~1") for step in answer["at"])
        schema = {"$ref": f"{ADDRESS}#/{quote(steps)}"}
        validator = Draft202012Validator(schema, registry=registry)
        for error in validator.iter_errors(answer["json"]):
            print(f"{steps}: {error.json_path}: {error.message[:300]}")


if __name__ == "__main__":
    main(sys.argv[1])
