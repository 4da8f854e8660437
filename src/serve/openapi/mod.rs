//! What the read API promises, as OpenAPI 3.1: every request and answer of every published table, typed by its columns.
//!
//! The document is made of the published schemas and serve policies alone, so that it is the same on every replica, and
//! changes when what is promised changes, not with each publish. Columns that are hidden do not appear in it, nor do tables
//! that are not served.

mod kept;
mod operation;
mod refusal;
mod table;
mod value;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::table::PublishedTable;
use super::view::View;
use crate::domain::{Caller, Limits};
use operation::{Reading, parameter};
use refusal::{OF_DOCUMENT, OF_PAGE_OF_TEXT, OF_ROWS, OF_STATE, headers};
use table::Description;

pub(super) use kept::Contract;

/// Bounds of the server that the document tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The most rows of a page, at least 1.
    pub(super) page_max: u32,
    /// The most keys of a batch.
    pub(super) batch_keys_max: u32,
    /// Whether credentials are asked for.
    pub(super) credentials: bool,
}

impl Bounds {
    pub(super) fn of(limits: &Limits, credentials: bool) -> Self {
        Bounds { page_max: limits.page_max.max(1), batch_keys_max: limits.batch_keys_max, credentials }
    }
}

/// A table, and what of it somebody may see.
#[derive(Debug)]
pub(super) struct Shown {
    table: Arc<PublishedTable>,
    /// Indexes of the columns; `None` = all that are shown at all.
    columns: Option<Vec<usize>>,
}

impl Shown {
    /// `None` where he may see nothing of it.
    pub(super) fn to(table: Arc<PublishedTable>, caller: &Caller) -> Option<Self> {
        let columns = View::of(&table, caller)?.columns().map(<[usize]>::to_vec);
        Some(Shown { table, columns })
    }
}

/// The tag of what is about no table. Names of tables have no capitals.
const SERVER: &str = "Server";

/// The document about these tables.
pub(super) fn document(tables: &[Shown], bounds: Bounds) -> Value {
    let tables: Vec<Description<'_>> = tables.iter().map(|table| Description::of(table, bounds)).collect();
    let mut schemas = Map::new();
    schemas.insert("Problem".to_owned(), refusal::problem());
    schemas.insert("Miss".to_owned(), refusal::miss());
    let mut parameters = map(operation::parameter_components());
    let mut responses = map(response_components());
    refusal::components(&mut responses, bounds.credentials);
    let mut paths = Map::new();
    for table in &tables {
        table.schemas(&mut schemas);
        table.parameters(&mut parameters);
        table.responses(&mut responses);
        table.paths(&mut paths);
    }
    server_paths(&mut paths, bounds);
    let mut tags: Vec<Value> = tables.iter().map(Description::tag).collect();
    tags.push(json!({"name": SERVER, "description": "The server itself."}));
    let mut document = json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Lakegate read API",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Rows of published tables by primary key.",
            "description": DESCRIPTION,
        },
        "servers": [{"url": "/", "description": "The server that this document is of."}],
        "security": security(bounds),
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": parameters,
            "headers": refusal::header_components(bounds.credentials),
            "responses": responses,
        },
    });
    if bounds.credentials {
        document["components"]["securitySchemes"] = json!({BEARER: {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key, `lg_…`, or a token of the issuer that the operator trusts (JWT).",
        }});
    }
    document
}

/// The name of the way in which a credential is sent.
const BEARER: &str = "bearer";

/// What a request has to bear.
fn security(bounds: Bounds) -> Value {
    // Whoever reaches the address may ask where nobody is asked for a credential.
    if bounds.credentials { json!([{BEARER: []}]) } else { json!([]) }
}

const DESCRIPTION: &str = "An answer is of one whole published state of its table. The format is chosen by `Accept`, JSON \
                           where it does not mind; errors are JSON always. Answers of 1 KiB or more are compressed as \
                           `Accept-Encoding` says (zstd, br, gzip). Methods that a path does not have give 405 (LG6011), \
                           other paths 404 (LG6013).";

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// Answers that tables share, and those of the server itself.
fn response_components() -> Value {
    let text = |media_type: &str, description: &str| {
        json!({
            "description": description,
            "headers": headers(&["X-Request-Id", "ETag", "Cache-Control", "Vary"]),
            "content": {media_type: {"schema": {"type": "string"}}},
        })
    };
    let status = |status: &str, description: &str| {
        let schema = json!({
            "type": "object",
            "required": ["status"],
            "additionalProperties": false,
            "properties": {"status": {"const": status}},
        });
        json!({
            "description": description,
            "headers": headers(&["X-Request-Id"]),
            "content": {"application/json": {"schema": schema, "example": {"status": status}}},
        })
    };
    json!({
        "HeadRows": {
            "description": "The rows are there. The headers are those of GET.",
            "headers": headers(&[OF_ROWS, &["Lakegate-Next"]].concat()),
        },
        "Head": {
            "description": "The headers are those of GET.",
            "headers": headers(&["X-Request-Id", "ETag", "Cache-Control", "Vary"]),
        },
        "NotModified": {
            "description": "The content is what `If-None-Match` names.",
            "headers": headers(&[OF_ROWS, &["Lakegate-Next"]].concat()),
        },
        "Live": status("live", "The process runs."),
        "Ready": status("ready", "Every published table can be read."),
        "Document": {
            "description": "This document.",
            "headers": headers(&["X-Request-Id", "Lakegate-Stale", "ETag", "Cache-Control", "Vary"]),
            "content": {"application/json": {"schema": {
                "type": "object",
                "required": ["openapi", "info", "paths", "components"],
                "properties": {"openapi": {"type": "string", "pattern": "^3\\.1\\."}},
            }}},
        },
        "Page": text("text/html", "A page to read this document and to try requests."),
    })
}

/// What is about no table.
fn server_paths(paths: &mut Map<String, Value>, bounds: Bounds) {
    for (path, id, summary, answer, tagged, refusals, open) in [
        ("/v1/openapi.json", "read_openapi", "This document", "Document", true, OF_DOCUMENT, false),
        ("/docs", "read_docs", "A page to read this document and to try requests", "Page", true, OF_PAGE_OF_TEXT, true),
        ("/livez", "look_livez", "Whether the process runs", "Live", false, OF_PAGE_OF_TEXT, true),
        ("/readyz", "look_readyz", "Whether every published table can be read", "Ready", false, OF_STATE, true),
    ] {
        let names: &[&str] = if tagged { &["If-None-Match", "X-Request-Id"] } else { &["X-Request-Id"] };
        let reading = Reading {
            id: id.to_owned(),
            tag: SERVER,
            summary: summary.to_owned(),
            description: None,
            parameters: names.iter().map(|name| parameter(name)).collect(),
            answer: answer.to_owned(),
            head: "Head",
            tagged,
            refusals,
            bounds,
        };
        let mut item = reading.path_item();
        if open && bounds.credentials {
            for method in ["get", "head"] {
                item[method]["security"] = json!([]);
            }
        }
        paths.insert(path.to_owned(), item);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::serve::table::tests::table;

    /// A table as the operator sees it.
    pub(super) fn shown(table: PublishedTable) -> Shown {
        Shown::to(Arc::new(table), &Caller::operator()).unwrap()
    }

    fn of(names: &[&str]) -> Value {
        let tables: Vec<_> = names.iter().map(|name| shown(table(1, name))).collect();
        document(&tables, Bounds { page_max: 1000, batch_keys_max: 1000, credentials: false })
    }

    #[test]
    fn what_needs_a_credential_says_so_where_credentials_are_asked_for() {
        let bounds = Bounds { page_max: 1000, batch_keys_max: 1000, credentials: true };
        let document = document(&[shown(table(1, "orders"))], bounds);
        assert_eq!(document["security"], json!([{"bearer": []}]));
        assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
        for (path, item) in document["paths"].as_object().unwrap() {
            let open = ["/docs", "/livez", "/readyz"].contains(&path.as_str());
            for (_, operation) in item.as_object().unwrap().iter().filter(|(_, operation)| operation.is_object()) {
                assert_eq!(operation.get("security") == Some(&json!([])), open, "{path}");
                assert_eq!(operation["responses"].get("401").is_some(), !open, "{path}");
            }
        }
    }

    #[test]
    fn no_operation_has_the_name_of_another() {
        let document = of(&["head", "orders", "orders_head", "head_orders", "livez", "get_livez", "docs"]);
        let operations = document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap());
        let ids: Vec<&str> = operations.filter_map(|(_, operation)| operation["operationId"].as_str()).collect();
        assert!(ids.len() > 40, "{ids:?}");
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "{ids:?}");
    }

    #[test]
    fn what_is_said_of_one_table_does_not_depend_on_the_others() {
        let (alone, among) = (of(&["orders"]), of(&["items", "orders", "things"]));
        for path in ["/v1/orders", "/v1/orders/{id}", "/v1/orders/_batch"] {
            assert!(alone["paths"][path].is_object(), "{path}");
            assert_eq!(alone["paths"][path], among["paths"][path]);
        }
    }
}
