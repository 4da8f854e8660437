//! Contracts of tables: what is written is read back, and what is wrong with one is said.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::{folder, load, load_files};
use crate::config::{Environment, Loaded, Problems, contract_text};
use crate::domain::{Column, ColumnType, ScalarType, TableName, TableSchema};

const PIPELINE: (&str, &str) = ("pipelines/orders.yaml", "source: lake/orders\nprimary_key: id\n");

fn with_contract(text: &str) -> Result<Loaded, Problems> {
    load_files(&[PIPELINE, ("schemas/tables/orders.yaml", text)], &[])
}

fn types() -> impl Strategy<Value = ColumnType> {
    let numeric = (1..=76u8, 0..=76u8)
        .prop_map(|(precision, scale)| ScalarType::Numeric { precision, scale: scale.min(precision) });
    let scalar = prop_oneof![prop::sample::select(ScalarType::PLAIN.to_vec()), numeric];
    scalar.prop_flat_map(|scalar| {
        prop_oneof![Just(ColumnType::Scalar(scalar)), Just(ColumnType::Array(scalar)), Just(ColumnType::Jsonb)]
    })
}

fn schemas() -> impl Strategy<Value = TableSchema> {
    let word =
        prop::sample::select(vec!["true", "NO", "null", "1", "-", "a: b", "${X}", "$", "'", "\"", "#", "é\n", " "]);
    let name = prop_oneof![word.prop_map(str::to_owned), "\\PC{1,12}"];
    let columns = prop::collection::btree_map(name, (types(), any::<bool>()), 1..8);
    (columns, any::<prop::sample::Index>()).prop_map(|(columns, key)| {
        let key = key.index(columns.len());
        let column = |(at, (name, (ty, nullable)))| {
            let nullable = nullable && at != key;
            Column { source: String::clone(&name), name, ty, nullable, comment: None, late: false }
        };
        TableSchema { columns: columns.into_iter().enumerate().map(column).collect(), key: vec![key] }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn what_is_pinned_is_read_back(schema in schemas()) {
        let name = TableName::new("orders").unwrap();
        let key = schema.columns[schema.key[0]].name.clone();
        let pipeline = serde_json::json!({ "source": "lake/orders", "primary_key": [key.replace('$', "$$")] });
        let files = [
            ("pipelines/orders.yaml", pipeline.to_string()),
            ("schemas/tables/orders.yaml", contract_text(&name, &schema)),
        ];
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let loaded = load_files(&files, &[]);
        let loaded = loaded.unwrap_or_else(|problems| panic!("{}\n{}", files[1].1, problems.render(false)));
        prop_assert!(loaded.warnings.is_empty());
        let contract = loaded.project.pipelines[0].contract.clone().unwrap();
        let read = contract.columns.into_iter().map(|column| (column.name, column.ty, column.nullable));
        let written = schema.columns.into_iter().map(|column| (column.name, column.ty, column.nullable));
        prop_assert_eq!(read.collect::<Vec<_>>(), written.collect::<Vec<_>>());
    }
}

#[test]
fn what_is_wrong_with_a_contract_is_said() {
    let mut shown = String::new();
    for text in [
        "",
        "primary_key: id\n",
        "primary_key: [id]\ncolumns: [id, note]\n",
        "primary_key: [id]\ncolumns:\n  id: int\n  note: varchar(12)\n  price: decimal\n  tags: string[]\n  at:\n",
        "primary_key: [id]\ncolumns:\n  id: bigint not null\n  price: numeric(77,2)\n  id: bigint\n",
        "primary_key: [id, region]\ncolumns: {id: bigint, region: text}\n",
        "primary_key: [id]\ncolumns: {note: text}\n",
        "primary_key: [id]\ncolumns: {id: bigint}\nnullable: [id]\n",
    ] {
        let problems = with_contract(text).expect_err(text);
        writeln!(shown, "──────── input\n{text}──────── shown\n{}", problems.render(false)).unwrap();
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn a_contract_without_a_pipeline_is_noticed() {
    let files = [
        PIPELINE,
        ("schemas/tables/orders.yaml", "primary_key: [id]\ncolumns: {id: bigint}\n"),
        ("schemas/tables/order.yaml", "primary_key: [id]\ncolumns: {id: bigint}\n"),
        ("schemas/tables/orders.yml", "never read"),
    ];
    let loaded = load(folder(&files).path(), &Environment::default()).unwrap();
    let warnings: Vec<String> = loaded.warnings.iter().map(|warning| warning.render(false)).collect();
    insta::assert_snapshot!(warnings.concat());
}
