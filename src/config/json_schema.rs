//! The JSON Schemas of the files, made from the same declarations that read them.
//!
//! Keys that are not built yet are left out, so that editors do not offer them.

use serde_json::{Map, Value as Json, json};

use super::contract::ContractFile;
use super::pipeline::PipelineFile;
use super::project::ProjectFile;
use super::reader::Setting;

/// The JSON Schema (2020-12) of a file in `pipelines/`.
#[must_use]
pub fn pipeline() -> Json {
    document("Lakegate pipeline", PipelineFile::schema())
}

/// The JSON Schema (2020-12) of `lakegate.yaml`.
#[must_use]
pub fn project() -> Json {
    document("Lakegate project", ProjectFile::schema())
}

/// The JSON Schema (2020-12) of a file in `schemas/tables/`.
#[must_use]
pub fn table() -> Json {
    document("Lakegate contract of a table", ContractFile::schema())
}

fn document(title: &str, schema: Json) -> Json {
    let mut document = Map::new();
    document.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    document.insert("title".to_owned(), json!(title));
    if let Json::Object(members) = schema {
        document.extend(members);
    }
    let variable = json!({
        "description": "Filled in from an environment variable: `${VAR}` or `${VAR:-default}`.",
        "type": "string",
        "pattern": "\\$\\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\\}",
    });
    document.insert("$defs".to_owned(), json!({ "variable": variable }));
    Json::Object(document)
}

/// The schema of a section from its doc comment and its properties.
pub(super) fn object<const N: usize>(about: &[&str], properties: [(&str, Json); N], required: &[&str]) -> Json {
    let properties: Map<String, Json> = properties.into_iter().map(|(key, schema)| (key.to_owned(), schema)).collect();
    let mut schema = json!({"description": sentence(about), "type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema["additionalProperties"] = json!(false);
    schema
}

/// The schema of a property: that of its type, with the description and the default of the key.
pub(super) fn property(mut schema: Json, doc: &[&str], default: Option<Json>) -> Json {
    schema["description"] = json!(sentence(doc));
    if let Some(default) = default {
        schema["default"] = default;
    }
    schema
}

/// The schema of a closed set of words, each with what it means.
pub(super) fn words(words: &[(&str, &str)]) -> Json {
    let one = |(word, doc): &(&str, &str)| json!({"const": word, "description": doc});
    json!({"anyOf": words.iter().map(one).chain([variable()]).collect::<Vec<_>>()})
}

/// The schema of text of a certain form.
pub(super) fn text_schema(pattern: &str) -> Json {
    or_variable(json!({"type": "string", "pattern": pattern}))
}

/// A value, or a variable that yields it.
pub(super) fn or_variable(schema: Json) -> Json {
    json!({"anyOf": [schema, variable()]})
}

fn variable() -> Json {
    json!({"$ref": "#/$defs/variable"})
}

/// Lines of a doc comment as running text.
fn sentence(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}
