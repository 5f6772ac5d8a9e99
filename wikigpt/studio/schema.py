"""/docs: the API as a page, from the schema that FastAPI makes. (Its own pages load scripts from elsewhere.)"""

import json
from html import escape
from typing import Any


def page(schema: dict[str, Any]) -> str:
    """Every address, what it does, what it takes."""
    by_tag: dict[str, list[str]] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            for tag in operation.get("tags", ["studio"]):
                by_tag.setdefault(tag, []).append(_operation(schema, method, path, operation))
    body = "".join(f"<h2>{escape(tag)}</h2>{''.join(parts)}" for tag, parts in by_tag.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>API: WikiGPT studio</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        '<link rel="stylesheet" href="/web/studio.css"></head><body><main class="docs"><h1>The studio\'s API</h1>'
        '<p>For programs: <a href="/openapi.json">openapi.json</a>. The official openai client works with '
        f"<code>base_url</code> set to this address and /v1. <a href='/'>Back to the studio</a></p>{body}</main>"
        "</body></html>"
    )


def _operation(schema: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> str:
    rows = [
        (one["name"], _kind(schema, one["schema"]), "needed" if one.get("required") else _default(one["schema"]))
        for one in operation.get("parameters", [])
    ]
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    body = _resolved(schema, content.get("schema", {}))
    rows += [
        (name, _kind(schema, field), "needed" if name in body.get("required", ()) else _default(field))
        for name, field in body.get("properties", {}).items()
    ]
    cells = "".join(
        f"<tr><th scope='row'><code>{escape(n)}</code></th><td>{escape(k)}</td><td>{escape(d)}</td></tr>"
        for n, k, d in rows
    )
    table = (
        f"<div class='wide'><table><tr><th>field</th><th>kind</th><th>unless given</th></tr>{cells}</table></div>"
        if rows
        else ""
    )
    said = escape(operation.get("description", operation.get("summary", "")))
    return f"<h3><code>{method.upper()} {escape(path)}</code></h3><p>{said}</p>{table}"


def _resolved(schema: dict[str, Any], field: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in field:
        return field
    return dict(schema["components"]["schemas"][field["$ref"].rsplit("/", 1)[1]])


def _kind(schema: dict[str, Any], field: dict[str, Any]) -> str:
    """A field's type and limits, in words."""
    if "anyOf" in field:
        kinds = [_kind(schema, one) for one in field["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    if field.get("type") == "array":
        return f"list of {_kind(schema, field.get('items', {}))}" + _limits(field)
    return str(field.get("type", "anything")) + _limits(field)


LIMITS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
LIMITS |= {"maxLength": "at most, characters:", "maxItems": "at most:"}


def _limits(field: dict[str, Any]) -> str:
    found = [
        f"{word} {field[name]:.10g}" for name, word in LIMITS.items() if name in field and abs(field[name]) < 2**62
    ]
    return f" ({', '.join(found)})" if found else ""


def _default(field: dict[str, Any]) -> str:
    return "" if field.get("default") in (None, "", []) else json.dumps(field["default"])
