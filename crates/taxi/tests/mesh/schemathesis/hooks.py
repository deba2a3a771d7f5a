"""What schemathesis does not know by itself: a stream is many elements, one a line."""

import json

import schemathesis

NDJSON = "application/x-ndjson"


@schemathesis.deserializer(NDJSON)
def lines(ctx, response):
    return [json.loads(line) for line in response.content.splitlines()]


@schemathesis.hook
def before_load_schema(ctx, raw_schema):
    """OpenAPI 3.1 describes one line; what is checked is all of them."""
    for item in raw_schema["paths"].values():
        for operation in item.values():
            content = operation["responses"]["200"]["content"]
            if NDJSON in content:
                content[NDJSON]["schema"] = {"type": "array", "items": content[NDJSON]["schema"]}
