//! Requests, as the document describes them.

use serde_json::{Map, Value, json};

use super::Bounds;
use super::refusal::Refusal;

/// A request that reads: by GET, and by HEAD for the same without a body.
pub(super) struct Reading<'a> {
    /// A verb and, behind `_`, what it is about. No verb has a `_`, so that ids differ if either differs.
    pub(super) id: String,
    pub(super) tag: &'a str,
    pub(super) summary: String,
    pub(super) description: Option<String>,
    pub(super) parameters: Vec<Value>,
    /// The answer of 200, by its name among the components.
    pub(super) answer: String,
    /// The same to HEAD.
    pub(super) head: &'static str,
    /// Whether the answer bears a tag, so that 304 may be the answer.
    pub(super) tagged: bool,
    pub(super) refusals: &'static [Refusal],
    pub(super) bounds: Bounds,
}

impl Reading<'_> {
    /// What stands under its path.
    pub(super) fn path_item(self) -> Value {
        let get = self.operation(&self.id, &self.summary, &self.answer, |refusal| refusal.name.to_owned());
        let head_id = head_id(&self.id);
        let summary = format!("{}: the head alone", self.summary);
        let head = self.operation(&head_id, &summary, self.head, Refusal::head_name);
        let mut item = Map::new();
        if !self.parameters.is_empty() {
            item.insert("parameters".to_owned(), Value::Array(self.parameters));
        }
        item.insert("get".to_owned(), get);
        item.insert("head".to_owned(), head);
        Value::Object(item)
    }

    fn operation(&self, id: &str, summary: &str, answer: &str, name: impl Fn(&Refusal) -> String) -> Value {
        let mut responses = Map::new();
        responses.insert("200".to_owned(), response(answer));
        if self.tagged {
            responses.insert("304".to_owned(), response("NotModified"));
        }
        for refusal in self.refusals.iter().filter(|refusal| refusal.is_given(self.bounds.credentials)) {
            responses.insert(refusal.status.to_string(), response(&name(refusal)));
        }
        let mut operation = json!({"operationId": id, "tags": [self.tag], "summary": summary});
        if let Some(description) = &self.description {
            operation["description"] = json!(description);
        }
        operation["responses"] = Value::Object(responses);
        operation
    }
}

/// `get_orders` → `headGet_orders`.
fn head_id(id: &str) -> String {
    let (first, rest) = id.split_at(1);
    format!("head{}{rest}", first.to_ascii_uppercase())
}

/// A reference to a response among the components.
pub(super) fn response(name: &str) -> Value {
    json!({"$ref": format!("#/components/responses/{name}")})
}

/// A reference to a parameter among the components.
pub(super) fn parameter(name: &str) -> Value {
    json!({"$ref": format!("#/components/parameters/{name}")})
}

/// A reference to a schema among the components.
pub(super) fn schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// Parameters that tables share.
pub(super) fn parameter_components() -> Value {
    json!({
        "Cursor": {
            "name": "cursor",
            "in": "query",
            "description": "Of a page: the `next` of the page before. It belongs to its path and its publish.",
            "schema": {"type": "string", "minLength": 1},
        },
        "Follow": {
            "name": "follow",
            "in": "query",
            "description": "Of a page: `true` goes on from the cursor although the table was published anew since.",
            "schema": {"type": "boolean"},
        },
        "If-None-Match": {
            "name": "If-None-Match",
            "in": "header",
            "description": "The `ETag` of an answer that is at hand: 304 if it still holds.",
            "schema": {"type": "string"},
        },
        "Lakegate-Max-Staleness": {
            "name": "Lakegate-Max-Staleness",
            "in": "header",
            "description": "How long ago the source may have been looked at, like `30s`, `10m` or `2h`; 503 (LG6015) if it was \
                            longer ago.",
            "schema": {"type": "string", "pattern": "^[0-9]{1,9}(ms|s|m|h|d)$"},
        },
        "X-Request-Id": {
            "name": "X-Request-Id",
            "in": "header",
            "description": "The client's own id of the request, which is given back if it has 128 letters, digits or `-_.:/+=` at \
                            most; another one is replaced.",
            "schema": {"type": "string"},
        },
    })
}
