//! The JSON Schemas in `schemas/` are those of the loader.

use std::path::Path;
use std::{env, fs};

use serde_json::Value;

use crate::config::json_schema;

#[test]
fn the_schemas_in_the_repository_are_up_to_date() {
    let schemas = [
        ("pipeline.json", json_schema::pipeline()),
        ("project.json", json_schema::project()),
        ("table.json", json_schema::table()),
    ];
    for (name, schema) in schemas {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(name);
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if env::var_os("LAKEGATE_TEST_BLESS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == text, "schemas/{name} is out of date: run the tests with LAKEGATE_TEST_BLESS=1");
    }
}

#[test]
fn every_property_is_described() {
    fn check(schema: &Value, path: &str) {
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].as_str().is_some_and(|text| text.ends_with('.')), "{path}.{key}");
            check(property, &format!("{path}.{key}"));
        }
    }
    check(&json_schema::pipeline(), "pipeline");
    check(&json_schema::project(), "project");
    check(&json_schema::table(), "table");
}
