"""The description of the API as a page of plain HTML, made from its OpenAPI: it needs nothing from elsewhere."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "code{font-size:.95em}table{border-collapse:collapse;width:100%;margin:.5rem 0}"
    "th,td{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;border-top:1px solid #8884}"
    "section{margin:2rem 0}summary{cursor:pointer}details{overflow-x:auto}h1,h2,p{overflow-wrap:anywhere}"
)


def docs_page(openapi: Mapping[str, Any]) -> str:
    """The page."""
    schemas = openapi.get("components", {}).get("schemas", {})
    operations = [
        (path, operation)
        for path, of_path in openapi["paths"].items()
        for method, operation in of_path.items()
        if method == "get"
    ]
    info = openapi["info"]
    body = "".join(
        [
            f"<h1>{escape(info['title'])}</h1><p>{escape(info.get('description', ''))} All requests are GET. ",
            'Machines read <a href="/openapi.json">/openapi.json</a>; people <a href="/">the page</a>.</p>',
            *(_operation(path, operation) for path, operation in operations),
            "<h2>Answers</h2>",
            *(_schema(name, schema) for name, schema in sorted(schemas.items())),
        ]
    )
    title = f"<title>API - {escape(info['title'])}</title>"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width">{title}<style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body><main>{body}</main></body></html>'


def _operation(path: str, operation: Mapping[str, Any]) -> str:
    rows = [
        (of["name"], _kind(of.get("schema", {})), of.get("description", "")) for of in operation.get("parameters", ())
    ]
    answered = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
    statuses = ", ".join(f"{status} {of['description']}" for status, of in operation["responses"].items())
    words = escape(operation.get("description", operation.get("summary", "")))
    table = _table(("parameter", "type", "meaning"), rows)
    return (
        f"<section><h2><code>{escape(path)}</code></h2><p>{words}</p>{table}"
        f"<p>Answers {_kind(answered)}. {escape(statuses)}.</p></section>"
    )


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    rows = [(key, _kind(of), of.get("description", "")) for key, of in schema.get("properties", {}).items()]
    if "enum" in schema:
        rows = [(str(value), "text", "") for value in schema["enum"]]
    inside = f"<p>{escape(schema.get('description', ''))}</p>{_table(('field', 'type', 'meaning'), rows)}"
    return f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{inside}</details>'


def _table(titles: tuple[str, ...], rows: list[tuple[str, str, str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{kind}</td><td>{escape(words)}</td></tr>"
        for name, kind, words in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _kind(schema: Mapping[str, Any]) -> str:
    """The type of a value in words, as HTML, with links to the answers that it is made of."""
    return " or ".join(dict.fromkeys(_kinds(schema))) or "any"


def _kinds(schema: Mapping[str, Any]) -> Iterator[str]:
    for alternative in schema.get("anyOf", ()):
        yield from _kinds(alternative)
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        yield f'<a href="#{name}">{name}</a>'
    elif schema.get("type") == "array":
        yield f"list of {_kind(schema.get('items', {}))}"
    elif schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        yield f"object of {_kind(schema['additionalProperties'])}"
    elif "type" in schema:
        yield escape(str(schema.get("format", schema["type"])))
