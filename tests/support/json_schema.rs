//! Whether a value is as a JSON Schema says: the keywords that our documents use, and no other.

use regex::Regex;
use serde_json::Value;

/// What says no more than a person reads.
const ANNOTATIONS: &[&str] = &["description", "format", "contentEncoding", "default", "example"];

/// Checks `value` against `schema`, a part of `document`. What is wrong, with its place; nothing where nothing is.
pub(crate) fn violations(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(document, schema, value, "$", &mut found);
    found
}

/// What a reference stands for, and all that it refers to.
pub(crate) fn resolve<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    let Some(reference) = value.get("$ref") else { return value };
    let pointer = reference.as_str().and_then(|text| text.strip_prefix('#')).expect("a reference within the document");
    document.pointer(pointer).unwrap_or_else(|| panic!("{pointer} stands for nothing"))
}

fn check(document: &Value, schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    let Some(keywords) = schema.as_object() else {
        if schema == &Value::Bool(false) {
            found.push(format!("{place}: nothing may be here: {value}"));
        }
        return;
    };
    for (keyword, said) in keywords {
        let holds = |holds: bool| if holds { None } else { Some(format!("{place}: {value} breaks {keyword}: {said}")) };
        let wrong = match keyword.as_str() {
            "$ref" => {
                check(document, resolve(document, schema), value, place, found);
                None
            }
            "type" => holds(one_or_many(said).iter().any(|name| is_of_type(value, name))),
            "const" => holds(value == said),
            "enum" => holds(said.as_array().expect("a list").contains(value)),
            "minimum" => holds(!value.is_number() || !less(value, said)),
            "maximum" => holds(!value.is_number() || !less(said, value)),
            "minLength" => holds(value.as_str().is_none_or(|text| text.chars().count() as u64 >= count(said))),
            "pattern" => {
                let pattern = Regex::new(said.as_str().expect("a pattern")).expect("a pattern");
                holds(value.as_str().is_none_or(|text| pattern.is_match(text)))
            }
            "minItems" => holds(value.as_array().is_none_or(|items| items.len() as u64 >= count(said))),
            "maxItems" => holds(value.as_array().is_none_or(|items| items.len() as u64 <= count(said))),
            "uniqueItems" => holds(
                value
                    .as_array()
                    .is_none_or(|items| items.iter().enumerate().all(|(at, item)| !items[..at].contains(item))),
            ),
            "required" => holds(value.as_object().is_none_or(|members| {
                said.as_array().expect("a list").iter().all(|name| members.contains_key(name.as_str().expect("a name")))
            })),
            "items" => {
                let behind = schema["prefixItems"].as_array().map_or(0, Vec::len);
                for (at, item) in value.as_array().into_iter().flatten().enumerate().skip(behind) {
                    check(document, said, item, &format!("{place}[{at}]"), found);
                }
                None
            }
            "prefixItems" => {
                let items = value.as_array().into_iter().flatten().zip(said.as_array().expect("a list"));
                for (at, (item, said)) in items.enumerate() {
                    check(document, said, item, &format!("{place}[{at}]"), found);
                }
                None
            }
            "properties" => {
                for (name, said) in said.as_object().expect("schemas") {
                    if let Some(member) = value.get(name) {
                        check(document, said, member, &format!("{place}.{name}"), found);
                    }
                }
                None
            }
            "additionalProperties" => {
                assert_eq!(said, &Value::Bool(false), "another form of {keyword}");
                let known = |name: &String| schema["properties"].get(name).is_some();
                holds(value.as_object().is_none_or(|members| members.keys().all(known)))
            }
            "anyOf" => {
                let fits = |said: &Value| violations(document, said, value).is_empty();
                holds(said.as_array().expect("schemas").iter().any(fits))
            }
            "not" => holds(!violations(document, said, value).is_empty()),
            annotation if ANNOTATIONS.contains(&annotation) => None,
            _ => panic!("the keyword {keyword} is not checked"),
        };
        found.extend(wrong);
    }
}

fn one_or_many(said: &Value) -> Vec<&str> {
    match said {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().map(|name| name.as_str().expect("a type")).collect(),
        _ => panic!("{said} is no type"),
    }
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("{name} is no type"),
    }
}

fn less(one: &Value, other: &Value) -> bool {
    match (one.as_i64(), other.as_i64()) {
        (Some(one), Some(other)) => one < other,
        _ => one.as_f64().expect("a number") < other.as_f64().expect("a number"),
    }
}

fn count(said: &Value) -> u64 {
    said.as_u64().expect("a count")
}

#[test]
fn what_breaks_a_schema_is_found() {
    use serde_json::json;
    let document = json!({"a": {"type": "integer", "minimum": 1}});
    let schema = json!({
        "type": "object",
        "required": ["n"],
        "additionalProperties": false,
        "properties": {
            "n": {"$ref": "#/a", "maximum": 3},
            "t": {"type": ["string", "null"], "pattern": "^x", "not": {"enum": ["xx"]}},
            "l": {"type": "array", "prefixItems": [{"const": 1}], "items": {"type": "boolean"}, "maxItems": 2, "uniqueItems": true},
            "o": {"anyOf": [{"type": "null"}, {"type": "string", "minLength": 2}]},
        },
    });
    for value in [
        json!({"n": 1}),
        json!({"n": 3, "t": null, "l": [1, true], "o": "ab"}),
        json!({"n": 2, "t": "x", "l": [], "o": null}),
    ] {
        assert_eq!(violations(&document, &schema, &value), Vec::<String>::new());
    }
    for value in [
        json!([]),
        json!({}),
        json!({"n": 0}),
        json!({"n": 4}),
        json!({"n": "1"}),
        json!({"n": 1, "t": "y"}),
        json!({"n": 1, "t": "xx"}),
        json!({"n": 1, "t": 5}),
        json!({"n": 1, "l": [2]}),
        json!({"n": 1, "l": [1, 1]}),
        json!({"n": 1, "l": [1, true, false]}),
        json!({"n": 1, "o": "a"}),
        json!({"n": 1, "more": 1}),
    ] {
        assert!(!violations(&document, &schema, &value).is_empty(), "{value}");
    }
}
