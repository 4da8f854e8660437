use std::collections::HashMap;

use arrow_array::{Int32Array, Int64Array, StringArray};
use parquet::arrow::ArrowSchemaConverter;
use parquet_variant_compute::{json_to_variant, shred_variant, variant_to_json};

use super::*;

fn field(name: &str, data_type: DataType, id: Option<i32>) -> Field {
    let metadata = id.map(|id| (PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string()));
    Field::new(name, data_type, true).with_metadata(HashMap::from_iter(metadata))
}

fn column(name: &str, id: Option<i32>, children: Vec<FileColumn>) -> FileColumn {
    FileColumn { name: name.to_owned(), id, children }
}

fn target(field: Field, file: FileColumn) -> Target {
    Target { field: Arc::new(field), origin: Origin::File(file) }
}

fn plan(targets: &[Target], file: &Schema) -> Result<FilePlan, String> {
    let descriptor = ArrowSchemaConverter::new().convert(file).unwrap();
    FilePlan::new(targets, &[], file, &descriptor)
}

#[test]
fn ids_decide_against_names_at_every_level() {
    let inner: Fields = vec![field("b", DataType::Int32, Some(3)), field("a", DataType::Int32, Some(4))].into();
    let file = Schema::new(vec![
        field("y", DataType::Int32, Some(1)),
        field("x", DataType::Int32, Some(2)),
        field("s", DataType::Struct(inner.clone()), Some(5)),
    ]);
    let logical: Fields = vec![field("a", DataType::Int64, None), field("b", DataType::Int64, None)].into();
    let targets = [
        target(field("x", DataType::Int64, None), column("x", Some(1), vec![])),
        target(field("y", DataType::Int32, None), column("y", Some(2), vec![])),
        target(
            field("s", DataType::Struct(logical), None),
            column("s", Some(5), vec![column("a", Some(3), vec![]), column("b", Some(9), vec![])]),
        ),
    ];
    let ints = |values: &[i32]| Arc::new(Int32Array::from(values.to_vec())) as ArrayRef;
    let nested = StructArray::new(inner, vec![ints(&[30]), ints(&[40])], None);
    let batch = RecordBatch::try_new(Arc::new(file.clone()), vec![ints(&[10]), ints(&[20]), Arc::new(nested)]).unwrap();
    let batch = plan(&targets, &file).unwrap().apply(&batch).unwrap();
    assert_eq!(batch.column(0).as_ref(), &Int64Array::from(vec![10]) as &dyn Array);
    assert_eq!(batch.column(1).as_ref(), &Int32Array::from(vec![20]) as &dyn Array);
    let nested = batch.column(2).as_struct();
    assert_eq!(nested.column(0).as_ref(), &Int64Array::from(vec![30]) as &dyn Array);
    assert_eq!(nested.column(1).null_count(), 1, "no field has the id 9");
}

#[test]
fn a_column_of_another_type_is_refused_by_name() {
    let file = Schema::new(vec![field("price", DataType::Utf8, None)]);
    let targets = [target(field("price", DataType::Int32, None), column("price", None, vec![]))];
    let why = plan(&targets, &file).unwrap_err();
    assert!(why.contains("price") && why.contains("Utf8") && why.contains("Int32"), "{why}");
}

#[test]
fn null_where_none_may_be_is_refused_by_name() {
    let file = Schema::new(vec![field("id", DataType::Int32, None)]);
    let strict = Field::new("id", DataType::Int32, false);
    let targets = [target(strict.clone(), column("id", None, vec![]))];
    let nulls: ArrayRef = Arc::new(Int32Array::from(vec![None]));
    let batch = RecordBatch::try_new(Arc::new(file.clone()), vec![nulls]).unwrap();
    assert!(plan(&targets, &file).unwrap().apply(&batch).unwrap_err().contains("`id`"));
    let absent = [target(strict, column("other", None, vec![]))];
    assert!(plan(&absent, &file).is_err());
}

#[test]
fn a_shredded_variant_is_put_together_again() {
    let json: ArrayRef = Arc::new(StringArray::from(vec![Some("5"), Some("\"five\""), None, Some("{\"a\":[1,2]}")]));
    let shredded = shred_variant(&json_to_variant(&json).unwrap(), &DataType::Int64).unwrap().into_inner();
    assert!(shredded.column_by_name("typed_value").is_some(), "{:?}", shredded.fields());
    let file = Schema::new(vec![Field::new("v", shredded.data_type().clone(), true)]);
    let parts = ["metadata", "value"].map(|name| Field::new(name, DataType::Binary, true));
    let marked = Field::new("v", DataType::Struct(Fields::from(parts.to_vec())), true)
        .with_metadata(HashMap::from([(VARIANT.to_owned(), "true".to_owned())]));
    let targets = [target(marked, column("v", None, vec![]))];
    let batch = RecordBatch::try_new(Arc::new(file), vec![Arc::new(shredded) as ArrayRef]).unwrap();
    // As in a Parquet file, where views are no type of their own.
    let plain = Schema::new(vec![Field::new("v", plain_binary(batch.schema().field(0).data_type()), true)]);
    let plan = plan(&targets, &plain).unwrap();
    let variant = Arc::clone(plan.apply(&batch).unwrap().column(0));
    let back = variant_to_json(&variant).unwrap();
    assert_eq!(back.iter().collect::<Vec<_>>(), [Some("5"), Some("\"five\""), None, Some("{\"a\":[1,2]}")]);
}

fn plain_binary(data_type: &DataType) -> DataType {
    match data_type {
        DataType::BinaryView => DataType::Binary,
        DataType::Struct(fields) => {
            let plain =
                |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(plain_binary(field.data_type())));
            DataType::Struct(fields.iter().map(plain).collect())
        }
        other => other.clone(),
    }
}
