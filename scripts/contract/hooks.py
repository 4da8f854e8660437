"""What is so of the read API and that no schema can say. Loaded by Schemathesis."""

import schemathesis
from schemathesis.core import NOT_SET


@schemathesis.hook
def filter_case(context, case):
    """Leaves out requests that are of the document's form and that its words rule out."""
    if case.method.upper() in ("GET", "HEAD") and case.body is not NOT_SET:
        # A body has no meaning there (RFC 9110, section 9.3.1), and is refused before the path is looked at.
        return False
    query = case.query or {}
    if case.meta is not None and not case.meta.generation.mode.is_positive:
        # Of an empty object or list nothing is left in a URL: what is sent breaks no rule.
        return not any(value in ({}, []) for value in query.values())
    if "cursor" in query:
        # Only the server makes cursors.
        return False
    keys = query.get("key", [])
    of_page = "limit" in query or "follow" in query
    # A whole key is no page: which key is whole, `key` does not say.
    return not (of_page and isinstance(keys, list) and len(keys) > 1)


@schemathesis.hook
def before_add_examples(context, examples):
    """The same of the document's examples, among which Schemathesis counts defaults."""
    examples[:] = [case for case in examples if filter_case(context, case)]


@schemathesis.check
def unavailable_only_where_asked(ctx, response, case):
    """Nothing is wrong with the server: it says 503 only to whoever takes no data as old as this."""
    if response.status_code == 503:
        asked = {name.lower() for name in case.headers or {}}
        assert "lakegate-max-staleness" in asked, "503 without a cause"
        assert response.headers.get("retry-after"), "503 without Retry-After"
