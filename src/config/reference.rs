//! The tables of keys in `docs/configuration.md`, made from the JSON Schemas.

use serde_json::Value as Json;

use super::json_schema;
use super::units::{DURATION_PATTERN, SIZE_PATTERN};

/// The keys of a file in `pipelines/`, as a Markdown table.
#[must_use]
pub fn pipeline() -> String {
    table(&json_schema::pipeline())
}

/// The keys of `lakegate.yaml`, as a Markdown table. What `defaults` takes is what a pipeline takes.
#[must_use]
pub fn project() -> String {
    let mut schema = json_schema::project();
    if let Some(defaults) = schema["properties"]["defaults"].as_object_mut() {
        defaults.remove("properties");
    }
    table(&schema)
}

fn table(schema: &Json) -> String {
    let mut text = "| key | takes | default | meaning |\n|---|---|---|---|\n".to_owned();
    rows(schema, "", &mut text);
    text
}

/// A row for each property, followed by those of the mappings that it takes.
fn rows(schema: &Json, path: &str, text: &mut String) {
    let required = schema["required"].as_array();
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let is_required = required.is_some_and(|required| required.iter().any(|name| name == key));
        let default = match property.get("default") {
            Some(default) => format!("`{}`", default.as_str().map_or_else(|| default.to_string(), str::to_owned)),
            None if is_required => "required".to_owned(),
            None => String::new(),
        };
        let forms = forms(property);
        let mut values: Vec<String> = forms.iter().map(|form| name_of(form)).collect();
        if values.iter().any(|value| value == "size") {
            // A whole number is one, too: of bytes.
            values = vec!["size".to_owned()];
        }
        let mut meaning = property["description"].as_str().unwrap_or_default().to_owned();
        for word in forms.iter().filter(|form| form.get("const").is_some()) {
            let about = word["description"].as_str().unwrap_or_default();
            meaning.push_str(&format!(" `{}`: {about}", word["const"].as_str().unwrap_or_default()));
        }
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let cells = [format!("`{path}`"), values.join(" or "), default, meaning];
        text.push_str(&format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | ")));
        forms.iter().for_each(|form| rows(form, &path, text));
    }
}

/// The alternatives of a schema, without the variable that can stand for any text.
fn forms(schema: &Json) -> Vec<&Json> {
    match schema["anyOf"].as_array() {
        Some(alternatives) => alternatives.iter().flat_map(forms).collect(),
        None if schema.get("$ref").is_some() => Vec::new(),
        None => vec![schema],
    }
}

/// What a value of this form is called.
fn name_of(form: &Json) -> String {
    if let Some(word) = form["const"].as_str() {
        return format!("`{word}`");
    }
    let number = |key: &str| form[key].as_u64();
    match form["type"].as_str().unwrap_or_default() {
        "boolean" => "`true` or `false`".to_owned(),
        "integer" => match (number("minimum"), number("maximum")) {
            (Some(least), Some(most)) => format!("whole number, {least} to {most}"),
            (Some(least), None) => format!("whole number, {least} or more"),
            _ => "whole number".to_owned(),
        },
        "number" => "number".to_owned(),
        "array" => {
            let items: Vec<String> = forms(&form["items"]).iter().map(|item| name_of(item)).collect();
            format!("list of {}", items.join(" or "))
        }
        "object" => "mapping".to_owned(),
        "string" => match (form["pattern"].as_str(), form["format"].as_str()) {
            (Some(DURATION_PATTERN), _) => "duration".to_owned(),
            (Some(SIZE_PATTERN), _) => "size".to_owned(),
            (_, Some("date")) => "date".to_owned(),
            (_, Some("date-time")) => "RFC 3339 timestamp".to_owned(),
            _ => "text".to_owned(),
        },
        _ => "text, number or boolean".to_owned(),
    }
}
