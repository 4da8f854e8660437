//! A published table: its rows, keys, requests and answers.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::operation::{Reading, parameter, response, schema};
use super::refusal::{OF_BATCH, OF_PAGE, OF_ROW, OF_ROW_OR_PAGE, OF_ROWS, OF_TABLE, headers};
use super::value::{Place, example, has_long_numbers, key_example, key_part, shown};
use super::{Bounds, Shown};
use crate::domain::Column;
use crate::serve::accept::Format;
use crate::serve::json::Numbers;
use crate::serve::key::KeyColumn;
use crate::serve::table::PublishedTable;

/// What is described of a table.
pub(super) struct Description<'t> {
    table: &'t PublishedTable,
    name: &'t str,
    /// The columns that are shown.
    columns: Vec<&'t Column>,
    /// What the parts of the key are called.
    parts: Vec<String>,
    bounds: Bounds,
}

/// What an answer with rows holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Row,
    Page,
    RowOrPage,
    Batch,
}

impl<'t> Description<'t> {
    pub(super) fn of(shown: &'t Shown, bounds: Bounds) -> Self {
        let table = &*shown.table;
        let seen = |at: usize| shown.columns.as_ref().is_none_or(|columns| columns.contains(&at));
        let columns = table.shown_columns().enumerate().filter(|(at, _)| seen(*at)).map(|(_, column)| column);
        let columns: Vec<&Column> = columns.collect();
        let parts = part_names(table, &columns);
        Description { table, name: table.name.as_str(), columns, parts, bounds }
    }

    /// Its entry among the tags.
    pub(super) fn tag(&self) -> Value {
        json!({"name": self.name, "description": format!("Rows by {}.", self.spelled_key())})
    }

    fn spelled_key(&self) -> String {
        self.parts.iter().map(|part| format!("`{part}`")).collect::<Vec<_>>().join(", ")
    }

    /// The most rows of a page.
    fn page_limit(&self) -> u32 {
        self.table.policy.page_limit.clamp(1, self.bounds.page_max)
    }

    fn is_composite(&self) -> bool {
        self.table.key.len() > 1
    }

    /// Adds its schemas.
    pub(super) fn schemas(&self, schemas: &mut Map<String, Value>) {
        schemas.insert(self.name.to_owned(), self.row(Numbers::Exact));
        if self.has_long_numbers() {
            schemas.insert(self.row_name(Numbers::Strings), self.row(Numbers::Strings));
        }
    }

    fn has_long_numbers(&self) -> bool {
        self.columns.iter().any(|column| has_long_numbers(column.ty))
    }

    fn row_name(&self, numbers: Numbers) -> String {
        if numbers == Numbers::Strings && self.has_long_numbers() {
            format!("{}.strings", self.name)
        } else {
            self.name.to_owned()
        }
    }

    fn row(&self, numbers: Numbers) -> Value {
        let properties: Map<String, Value> =
            self.columns.iter().map(|column| (column.name.clone(), shown(column, numbers))).collect();
        json!({
            "type": "object",
            "description": "A row: all of these columns, or those that `columns` names.",
            "properties": properties,
            "additionalProperties": false,
        })
    }

    /// Adds its parameters.
    pub(super) fn parameters(&self, parameters: &mut Map<String, Value>) {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        if !names.is_empty() {
            parameters.insert(self.columns_name(), json!({
                "name": "columns",
                "in": "query",
                "description": "Show these columns alone, in this order; an encoded comma (`%2C`) belongs to a name.",
                "style": "form",
                "explode": false,
                "schema": {"type": "array", "items": {"enum": names}, "minItems": 1, "uniqueItems": true},
            }));
        }
        if self.is_composite() {
            parameters.insert(self.limit_name(), json!({
                "name": "limit",
                "in": "query",
                "description": "Of a page: the most rows.",
                "schema": {"type": "integer", "minimum": 1, "maximum": self.page_limit(), "default": self.page_limit()},
            }));
        }
    }

    fn columns_name(&self) -> String {
        format!("{}.columns", self.name)
    }

    fn limit_name(&self) -> String {
        format!("{}.limit", self.name)
    }

    /// Adds its answers.
    pub(super) fn responses(&self, responses: &mut Map<String, Value>) {
        responses.insert(self.answer(Kind::Row), self.response(Kind::Row));
        responses.insert(self.answer(Kind::Batch), self.response(Kind::Batch));
        if self.is_composite() {
            responses.insert(self.answer(Kind::Page), self.response(Kind::Page));
            responses.insert(self.answer(Kind::RowOrPage), self.response(Kind::RowOrPage));
        }
    }

    fn answer(&self, kind: Kind) -> String {
        let kind = match kind {
            Kind::Row => "row",
            Kind::Page => "page",
            Kind::RowOrPage => "rows",
            Kind::Batch => "batch",
        };
        format!("{}.{kind}", self.name)
    }

    fn response(&self, kind: Kind) -> Value {
        let description = match kind {
            Kind::Row => "The row.".to_owned(),
            Kind::Page => {
                "A page of the rows under this prefix, in the order of the key; none where there are none.".to_owned()
            }
            Kind::RowOrPage => "The row, or a page of the rows under a prefix of the key.".to_owned(),
            Kind::Batch => {
                "For each key, in the order asked, its row, or `null` where there is none, which `error` then \
                            says with the key's index. NDJSON has `null` too; CSV and Arrow leave such keys out."
                    .to_owned()
            }
        };
        let mut names = if kind == Kind::Batch { OF_TABLE.to_vec() } else { OF_ROWS.to_vec() };
        match kind {
            Kind::Row => {}
            Kind::Page | Kind::RowOrPage => names.push("Lakegate-Next"),
            Kind::Batch => names.extend(["Lakegate-Stale", "Lakegate-Missing"]),
        }
        let mut content = Map::new();
        for format in Format::ALL {
            let described = match format {
                Format::Json => self.envelope(kind, Numbers::Exact),
                Format::JsonStrings => self.envelope(kind, Numbers::Strings),
                Format::Ndjson => json!({"schema": {"type": "string", "description": "An object a line."}}),
                Format::Csv => json!({"schema": {"type": "string", "description": "RFC 4180, with a line of names."}}),
                // The bytes are no text.
                Format::Arrow => json!({}),
            };
            content.insert(format.media_type().to_owned(), described);
        }
        json!({"description": description, "headers": headers(&names), "content": content})
    }

    /// The body in JSON, with an example.
    fn envelope(&self, kind: Kind, numbers: Numbers) -> Value {
        let row = schema(&self.row_name(numbers));
        let no_error = json!({"type": "array", "maxItems": 0});
        let next =
            json!({"type": ["string", "null"], "description": "The cursor of the next page; null on the last one."});
        let (data, error) = match kind {
            Kind::Row => (json!({"type": "array", "items": row, "minItems": 1, "maxItems": 1}), no_error),
            Kind::Page | Kind::RowOrPage => {
                (json!({"type": "array", "items": row, "maxItems": self.page_limit()}), no_error)
            }
            Kind::Batch => {
                let most = self.bounds.batch_keys_max;
                let entry = json!({"anyOf": [row, {"type": "null"}]});
                (
                    json!({"type": "array", "items": entry, "maxItems": most}),
                    json!({"type": "array", "items": schema("Miss"), "maxItems": most}),
                )
            }
        };
        let mut body = json!({
            "type": "object",
            "required": ["data", "error"],
            "additionalProperties": false,
            "properties": {"data": data, "error": error},
        });
        let row: Map<String, Value> =
            self.columns.iter().map(|column| (column.name.clone(), example(column.ty, numbers))).collect();
        let mut example = json!({"data": [row], "error": []});
        match kind {
            Kind::Row | Kind::Batch => {}
            Kind::Page => {
                body["required"] = json!(["data", "error", "next"]);
                body["properties"]["next"] = next;
                example["next"] = Value::Null;
            }
            Kind::RowOrPage => body["properties"]["next"] = next,
        }
        json!({"schema": body, "example": example})
    }

    /// Adds its paths.
    pub(super) fn paths(&self, paths: &mut Map<String, Value>) {
        let whole = self.table.key.len();
        let mut insert = |path: String, mut item: Value| {
            if self.table.policy.deprecated.is_some() {
                for method in ["get", "head", "post"] {
                    if let Some(operation) = item.get_mut(method) {
                        operation["deprecated"] = json!(true);
                    }
                }
            }
            paths.insert(path, item);
        };
        for count in 1..whole {
            insert(self.path(count), self.page(count).path_item());
        }
        insert(self.path(whole), self.by_path().path_item());
        insert(format!("/v1/{}", self.name), self.by_query().path_item());
        insert(format!("/v1/{}/_batch", self.name), json!({"post": self.batch()}));
    }

    /// The path of so many parts of the key.
    fn path(&self, count: usize) -> String {
        let mut path = format!("/v1/{}", self.name);
        for part in &self.parts[..count] {
            let _ = write!(path, "/{{{part}}}");
        }
        path
    }

    fn path_parameters(&self, count: usize) -> Vec<Value> {
        let parts = self.table.key.iter().zip(&self.parts).take(count);
        parts.map(|(column, name)| self.path_parameter(column, name)).collect()
    }

    fn path_parameter(&self, column: &KeyColumn, name: &str) -> Value {
        let mut parameter = json!({"name": name, "in": "path", "required": true});
        let comment = self.columns.iter().find(|shown| shown.name == column.name);
        if let Some(comment) = comment.and_then(|column| column.comment.as_deref()) {
            parameter["description"] = json!(comment);
        }
        parameter["schema"] = key_part(column.ty, Place::Path);
        parameter["example"] = key_example(column.ty, Place::Path);
        parameter
    }

    /// Parameters of all requests that read rows, with those of pages.
    fn asked_with(&self, mut parameters: Vec<Value>, page: bool) -> Vec<Value> {
        if page {
            parameters.push(parameter(&self.limit_name()));
            parameters.push(parameter("Cursor"));
            parameters.push(parameter("Follow"));
        }
        if !self.columns.is_empty() {
            parameters.push(parameter(&self.columns_name()));
        }
        parameters.extend(["If-None-Match", "Lakegate-Max-Staleness", "X-Request-Id"].map(parameter));
        parameters
    }

    fn by_path(&self) -> Reading<'_> {
        Reading {
            id: format!("get_{}", self.name),
            tag: self.name,
            summary: format!("The row of {} with this key", self.name),
            description: Some(ESCAPING.to_owned()),
            parameters: self.asked_with(self.path_parameters(self.table.key.len()), false),
            answer: self.answer(Kind::Row),
            head: "HeadRows",
            tagged: true,
            refusals: OF_ROW,
            bounds: self.bounds,
        }
    }

    /// The rows under so many parts of the key.
    fn page(&self, count: usize) -> Reading<'_> {
        Reading {
            id: format!("page{count}_{}", self.name),
            tag: self.name,
            summary: format!("Rows of {} whose key begins so", self.name),
            description: Some(format!("A page of them, in the order of the key. {ESCAPING}")),
            parameters: self.asked_with(self.path_parameters(count), true),
            answer: self.answer(Kind::Page),
            head: "HeadRows",
            tagged: true,
            refusals: OF_PAGE,
            bounds: self.bounds,
        }
    }

    fn by_query(&self) -> Reading<'_> {
        let pages = self.is_composite();
        let mut parameters = vec![self.key_parameter()];
        parameters = self.asked_with(parameters, pages);
        let description = if pages {
            "As many `key` as the key has parts give the row; fewer give a page of the rows under that prefix, for which \
             alone `limit`, `cursor` and `follow` are. Takes every value."
        } else {
            "Takes every value, also those that cannot stand in a path."
        };
        let (kind, refusals) = if pages { (Kind::RowOrPage, OF_ROW_OR_PAGE) } else { (Kind::Row, OF_ROW) };
        Reading {
            id: format!("find_{}", self.name),
            tag: self.name,
            summary: format!("Rows of {} by a key in the query", self.name),
            description: Some(description.to_owned()),
            parameters,
            answer: self.answer(kind),
            head: "HeadRows",
            tagged: true,
            refusals,
            bounds: self.bounds,
        }
    }

    /// The key, a `key` for each of its parts.
    fn key_parameter(&self) -> Value {
        let parts: Vec<Value> = self.table.key.iter().map(|column| key_part(column.ty, Place::Query)).collect();
        let example: Vec<Value> = self.table.key.iter().map(|column| key_example(column.ty, Place::Query)).collect();
        let mut schema = json!({"type": "array", "minItems": 1, "maxItems": parts.len()});
        match parts.as_slice() {
            [one] => schema["items"] = one.clone(),
            _ => schema["prefixItems"] = json!(parts),
        }
        json!({
            "name": "key",
            "in": "query",
            "required": true,
            "description": format!("The parts of the key, in their order: {}.", self.spelled_key()),
            "style": "form",
            "explode": true,
            "schema": schema,
            "example": example,
        })
    }

    fn batch(&self) -> Value {
        let parts: Vec<Value> = self.table.key.iter().map(|column| key_part(column.ty, Place::Body)).collect();
        let mut example: Vec<Value> = self.table.key.iter().map(|column| key_example(column.ty, Place::Body)).collect();
        let (key, example) = match parts.as_slice() {
            [one] => (one.clone(), example.remove(0)),
            _ => {
                let count = parts.len();
                (json!({"type": "array", "prefixItems": parts, "minItems": count, "maxItems": count}), json!(example))
            }
        };
        let body = json!({
            "type": "object",
            "required": ["keys"],
            "additionalProperties": false,
            "properties": {"keys": {"type": "array", "items": key, "maxItems": self.bounds.batch_keys_max}},
        });
        let mut parameters: Vec<Value> = Vec::new();
        if !self.columns.is_empty() {
            parameters.push(parameter(&self.columns_name()));
        }
        parameters.extend(["Lakegate-Max-Staleness", "X-Request-Id"].map(parameter));
        let mut responses = Map::new();
        responses.insert("200".to_owned(), response(&self.answer(Kind::Batch)));
        for refusal in OF_BATCH.iter().filter(|refusal| refusal.is_given(self.bounds.credentials)) {
            responses.insert(refusal.status.to_string(), response(refusal.name));
        }
        json!({
            "operationId": format!("batch_{}", self.name),
            "tags": [self.name],
            "summary": format!("Rows of {} by many keys", self.name),
            "description": "One entry a key, in the order asked, all of one publish. A body has 1 MiB at most, the rows 16 MiB.",
            "parameters": parameters,
            "requestBody": {
                "required": true,
                "content": {"application/json": {"schema": body, "example": {"keys": [example]}}},
            },
            "responses": responses,
        })
    }
}

/// What a path does to values.
const ESCAPING: &str = "Parts of the key are percent-encoded: a `/` within one is `%2F`. One that is empty, `.` or `..` has to \
                        be asked for with `key` in the query.";

/// What the parts of the key are called: their columns' names, or their places where those are hidden, or nothing that a
/// template of a path can hold.
fn part_names(table: &PublishedTable, shown: &[&Column]) -> Vec<String> {
    let fits = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    let names = table.key.iter().map(|column| {
        let shown = shown.iter().any(|shown| shown.name == column.name);
        Some(&column.name).filter(|name| shown && !name.is_empty() && fits(name))
    });
    let names: Vec<Option<&String>> = names.collect();
    let mut taken: BTreeSet<String> = names.iter().copied().flatten().cloned().collect();
    let mut of_place = |place: usize| {
        let mut name = format!("key{place}");
        while !taken.insert(name.clone()) {
            name.push('_');
        }
        name
    };
    let name = |(at, name): (usize, Option<&String>)| name.cloned().unwrap_or_else(|| of_place(at + 1));
    names.into_iter().enumerate().map(name).collect()
}
