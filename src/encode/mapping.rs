//! Which columns of a source become which columns of the table.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_schema::{Field, FieldRef, Schema};

use super::cast::{self, Conversion};
use super::column_type::{self, Mapped};
use crate::domain::{Code, Column, ColumnRules, ColumnSelection, ColumnType, Error, Result, TableSchema};

/// The most columns of a table in Postgres.
const MAX_COLUMNS: usize = 1600;
/// The longest name in Postgres, in bytes; longer ones are cut silently.
const MAX_NAME_BYTES: usize = 63;
const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];
/// Where lakes keep the description of a column.
const COMMENT_METADATA_KEY: &str = "comment";

/// How the columns of a source become the columns of a table.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// The table's columns and key.
    pub schema: TableSchema,
    /// Columns of the source, by their names there, that hold nothing but nulls of no type.
    pub left_out: Vec<String>,
    pub(super) columns: Vec<MappedColumn>,
}

/// One column: where its values come from and how they are converted before they are encoded.
#[derive(Debug, Clone)]
pub(super) struct MappedColumn {
    /// The index of the column in the source's schema.
    pub(super) source: usize,
    pub(super) field: FieldRef,
    pub(super) conversion: Conversion,
}

impl Mapping {
    /// For each column of the table, the index of its column in the Arrow schema that the mapping was planned for.
    pub fn source_indexes(&self) -> impl ExactSizeIterator<Item = usize> {
        self.columns.iter().map(|column| column.source)
    }

    /// Leaves out the columns of the table whose names are not wanted, save those of the key. Returns the names that were
    /// left out.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let kept: Vec<usize> = (0..self.schema.columns.len())
            .filter(|index| self.schema.key.contains(index) || wanted(&self.schema.columns[*index].name))
            .collect();
        let unwanted = self.schema.columns.iter().enumerate().filter(|(index, _)| !kept.contains(index));
        let unwanted = unwanted.map(|(_, column)| column.name.clone()).collect();
        self.reorder(&kept);
        unwanted
    }

    /// Puts the table's columns into another order: `order` lists their present positions, each once at most;
    /// columns that it does not list are gone.
    pub fn reorder(&mut self, order: &[usize]) {
        let place = |old: &usize| order.iter().position(|position| position == old);
        self.schema.key = self.schema.key.iter().filter_map(place).collect();
        self.schema.columns = order.iter().filter_map(|&old| self.schema.columns.get(old).cloned()).collect();
        self.columns = order.iter().filter_map(|&old| self.columns.get(old).cloned()).collect();
    }

    /// The mapping of the key's columns, in the order of the key, and of one more column, where one is wanted.
    #[must_use]
    pub fn of_key_and(&self, other: Option<usize>) -> Mapping {
        let of = |index: &usize| (self.schema.columns.get(*index).cloned(), self.columns.get(*index).cloned());
        let (schema, columns): (Vec<_>, Vec<_>) = self.schema.key_and(other).iter().map(of).unzip();
        let key = (0..self.schema.key.len()).collect();
        let schema = TableSchema { columns: schema.into_iter().flatten().collect(), key };
        Mapping { schema, left_out: Vec::new(), columns: columns.into_iter().flatten().collect() }
    }

    /// The same mapping for batches of a schema that holds the source's columns in other places.
    ///
    /// # Errors
    /// [`Code::Internal`] where a column is missing.
    pub fn bound_to(&self, schema: &Schema) -> Result<Mapping> {
        let mut bound = self.clone();
        for column in &mut bound.columns {
            let name = column.field.name();
            column.source =
                schema.index_of(name).map_err(|_| Error::internal(format!("the column `{name}` is not read")))?;
        }
        Ok(bound)
    }
}

/// Plans the columns of a table: selects, renames and types the columns of a source, and finds the key among them.
///
/// `primary_key` names published columns, in order.
///
/// # Errors
/// [`Code::ColumnMissing`] where a rule names a column that the source lacks, [`Code::UnsupportedType`],
/// [`Code::UnsupportedCast`] and [`Code::InvalidValue`] where a column has no type or none as declared,
/// [`Code::InvalidColumnName`], [`Code::TooManyColumns`], and for the key [`Code::KeyColumnMissing`] and
/// [`Code::UnsupportedKeyType`].
pub fn plan_columns(source: &Schema, rules: &ColumnRules, primary_key: &[String]) -> Result<Mapping> {
    check_rules(source, rules)?;
    let mut schema = TableSchema { columns: Vec::new(), key: Vec::new() };
    let mut columns = Vec::new();
    let mut left_out = Vec::new();
    for (index, field) in source.fields().iter().enumerate() {
        if !is_selected(&rules.selection, field.name()) {
            continue;
        }
        let Some((ty, conversion)) = plan_type(field, rules)? else {
            left_out.push(field.name().clone());
            continue;
        };
        let name = rules.rename.get(field.name()).unwrap_or(field.name()).clone();
        let comment = field.metadata().get(COMMENT_METADATA_KEY).cloned();
        let nullable = field.is_nullable();
        schema.columns.push(Column { name, source: field.name().clone(), ty, nullable, comment, late: false });
        columns.push(MappedColumn { source: index, field: Arc::clone(field), conversion });
    }
    check_names(&schema)?;
    schema.key = plan_key(&schema, primary_key)?;
    for &index in &schema.key {
        if let Some(column) = schema.columns.get_mut(index) {
            column.nullable = false;
        }
    }
    Ok(Mapping { schema, left_out, columns })
}

fn is_selected(selection: &ColumnSelection, name: &str) -> bool {
    match selection {
        ColumnSelection::All => true,
        ColumnSelection::Include(names) => names.iter().any(|included| included == name),
        ColumnSelection::Exclude(names) => !names.iter().any(|excluded| excluded == name),
    }
}

fn check_rules(source: &Schema, rules: &ColumnRules) -> Result<()> {
    let selected: &[String] = match &rules.selection {
        ColumnSelection::All => &[],
        ColumnSelection::Include(names) | ColumnSelection::Exclude(names) => names,
    };
    let named = selected.iter().chain(rules.rename.keys()).chain(rules.types.keys());
    for name in named {
        if source.column_with_name(name).is_none() {
            let known: Vec<&str> = source.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Error::new(Code::ColumnMissing, format!("the source has no column `{name}`"))
                .hint(suggestion(name, &known)));
        }
    }
    Ok(())
}

/// The type of a column and how to get there; `None` for columns without a type.
fn plan_type(field: &Field, rules: &ColumnRules) -> Result<Option<(ColumnType, Conversion)>> {
    let natural = match column_type::column_type(field) {
        Mapped::Stored(ty) => ty,
        Mapped::Void => return Ok(None),
        Mapped::Unsupported => {
            let detail = format!("column `{}` has the type {}", field.name(), field.data_type());
            return Err(Error::new(Code::UnsupportedType, detail)
                .hint(format!("leave it out with `columns: {{exclude: [{}]}}`", field.name())));
        }
    };
    let Some(spelling) = rules.types.get(field.name()) else {
        let conversion = if column_type::is_variant(field) { Conversion::Variant } else { Conversion::None };
        return Ok(Some((natural, conversion)));
    };
    cast::plan(field, natural, spelling).map(Some).map_err(|error| error.at(format!("column `{}`", field.name())))
}

fn check_names(schema: &TableSchema) -> Result<()> {
    if schema.columns.len() > MAX_COLUMNS {
        let detail = format!("{} columns; Postgres allows {MAX_COLUMNS}", schema.columns.len());
        return Err(Error::new(Code::TooManyColumns, detail).hint("choose some with `columns.include`"));
    }
    let mut folded = HashSet::new();
    for Column { name, source, .. } in &schema.columns {
        let problem = if name.is_empty() {
            "is empty".to_owned()
        } else if name.contains('\0') {
            "contains the character NUL".to_owned()
        } else if name.len() > MAX_NAME_BYTES {
            format!("has {} bytes; Postgres keeps {MAX_NAME_BYTES}", name.len())
        } else if SYSTEM_COLUMNS.contains(&name.as_str()) {
            "belongs to a system column of Postgres".to_owned()
        } else if !folded.insert(name.to_lowercase()) {
            "is the name of two columns, but for upper and lower case".to_owned()
        } else {
            continue;
        };
        return Err(Error::new(Code::InvalidColumnName, format!("the column name `{name}` {problem}"))
            .hint(format!("give it another one with `columns: {{rename: {{{source}: …}}}}`")));
    }
    Ok(())
}

fn plan_key(schema: &TableSchema, primary_key: &[String]) -> Result<Vec<usize>> {
    let known: Vec<&str> = schema.columns.iter().map(|column| column.name.as_str()).collect();
    let mut key = Vec::with_capacity(primary_key.len());
    for name in primary_key {
        let Some(index) = schema.position(name) else {
            let detail = format!("the primary key's column `{name}` is not among the columns");
            return Err(Error::new(Code::KeyColumnMissing, detail).hint(suggestion(name, &known)));
        };
        let ty = schema.columns.get(index).map(|column| column.ty);
        if !ty.and_then(ColumnType::scalar).is_some_and(crate::domain::ScalarType::can_be_key) {
            let ty = ty.map(|ty| ty.to_string()).unwrap_or_default();
            let detail = format!("the primary key's column `{name}` is of type {ty}");
            return Err(Error::new(Code::UnsupportedKeyType, detail)
                .hint("choose columns whose equal values are spelled alike: integers, decimals, text, dates, …"));
        }
        if !key.contains(&index) {
            key.push(index);
        }
    }
    if key.is_empty() {
        return Err(Error::new(Code::KeyColumnMissing, "the primary key has no columns").hint(list(&known)));
    }
    Ok(key)
}

fn suggestion(name: &str, known: &[&str]) -> String {
    let similarity = |other: &str| strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase());
    let closest = known.iter().map(|other| (similarity(other), *other)).max_by(|a, b| a.0.total_cmp(&b.0));
    match closest {
        Some((similarity, other)) if similarity > 0.8 => format!("did you mean `{other}`? {}", list(known)),
        _ => list(known),
    }
}

fn list(known: &[&str]) -> String {
    const SHOWN: usize = 40;
    let shown = known.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    let rest = known.len().saturating_sub(SHOWN);
    if rest > 0 { format!("the columns are {shown} and {rest} more") } else { format!("the columns are {shown}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ScalarType;
    use arrow_schema::DataType;

    fn schema(columns: &[(&str, DataType)]) -> Schema {
        Schema::new(columns.iter().map(|(name, ty)| Field::new(*name, ty.clone(), true)).collect::<Vec<_>>())
    }

    fn orders() -> Schema {
        schema(&[
            ("order_id", DataType::Int64),
            ("price", DataType::Float64),
            ("nothing", DataType::Null),
            ("note", DataType::Utf8),
        ])
    }

    fn key(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn refusal(source: &Schema, rules: &ColumnRules, primary_key: &[&str]) -> (Code, String) {
        let error = plan_columns(source, rules, &key(primary_key)).unwrap_err();
        (error.code(), format!("{} / {}", error.detail(), error.advice().unwrap_or_default()))
    }

    #[test]
    fn takes_all_columns_but_void_ones_and_makes_the_key_never_null() {
        let mapping = plan_columns(&orders(), &ColumnRules::default(), &key(&["order_id"])).unwrap();
        assert_eq!(mapping.left_out, ["nothing"]);
        assert_eq!(mapping.source_indexes().collect::<Vec<_>>(), [0, 1, 3]);
        assert_eq!(mapping.schema.key, [0]);
        let nullable: Vec<bool> = mapping.schema.columns.iter().map(|column| column.nullable).collect();
        assert_eq!(nullable, [false, true, true]);
    }

    #[test]
    fn selects_renames_and_retypes_by_source_name() {
        let rules = ColumnRules {
            selection: ColumnSelection::Include(key(&["note", "order_id"])),
            rename: [("order_id".to_owned(), "id".to_owned())].into(),
            types: [("order_id".to_owned(), "numeric(20,2)".to_owned())].into(),
        };
        let mapping = plan_columns(&orders(), &rules, &key(&["id"])).unwrap();
        let columns: Vec<String> = mapping.schema.columns.iter().map(|c| format!("{} {}", c.name, c.ty)).collect();
        assert_eq!(columns, ["id numeric(20,2)", "note text"]);
    }

    #[test]
    fn names_the_nearest_column_where_one_is_missing() {
        let rules = ColumnRules { selection: ColumnSelection::Exclude(key(&["prise"])), ..ColumnRules::default() };
        let (code, text) = refusal(&orders(), &rules, &["order_id"]);
        assert_eq!(code, Code::ColumnMissing);
        assert!(text.contains("did you mean `price`?"), "{text}");
        let (code, text) = refusal(&orders(), &ColumnRules::default(), &["orderid"]);
        assert_eq!(code, Code::KeyColumnMissing);
        assert!(text.contains("did you mean `order_id`? the columns are order_id, price, note"), "{text}");
    }

    #[test]
    fn refuses_keys_whose_equal_values_have_several_spellings() {
        assert_eq!(refusal(&orders(), &ColumnRules::default(), &["price"]).0, Code::UnsupportedKeyType);
        let lists = schema(&[("tags", DataType::new_list(DataType::Utf8, true))]);
        assert_eq!(refusal(&lists, &ColumnRules::default(), &["tags"]).0, Code::UnsupportedKeyType);
    }

    #[test]
    fn refuses_names_that_postgres_would_cut_or_has_taken() {
        for name in ["", "xmin", "a\0b", &"n".repeat(64)] {
            let source = schema(&[(name, DataType::Int64)]);
            assert_eq!(refusal(&source, &ColumnRules::default(), &[name]).0, Code::InvalidColumnName, "{name:?}");
        }
        let twins = schema(&[("id", DataType::Int64), ("ID", DataType::Int64)]);
        assert_eq!(refusal(&twins, &ColumnRules::default(), &["id"]).0, Code::InvalidColumnName);
        let longest = "n".repeat(63);
        let source = schema(&[(&longest, DataType::Int64)]);
        assert!(plan_columns(&source, &ColumnRules::default(), &[longest]).is_ok());
    }

    #[test]
    fn refuses_more_columns_than_postgres_allows() {
        let fields: Vec<Field> = (0..1601).map(|i| Field::new(format!("c{i}"), DataType::Boolean, true)).collect();
        let (code, _) = refusal(&Schema::new(fields), &ColumnRules::default(), &["c0"]);
        assert_eq!(code, Code::TooManyColumns);
    }

    #[test]
    fn refuses_types_without_a_counterpart_and_says_how_to_go_on() {
        let union = DataType::Union(arrow_schema::UnionFields::empty(), arrow_schema::UnionMode::Dense);
        let source = schema(&[("id", DataType::Int64), ("shape", union)]);
        let (code, text) = refusal(&source, &ColumnRules::default(), &["id"]);
        assert_eq!(code, Code::UnsupportedType);
        assert!(text.contains("columns: {exclude: [shape]}"), "{text}");
        let rules = ColumnRules { selection: ColumnSelection::Exclude(key(&["shape"])), ..ColumnRules::default() };
        assert!(plan_columns(&source, &rules, &key(&["id"])).is_ok());
    }

    #[test]
    fn casts_come_from_the_table_alone() {
        let cast = |to: &str| {
            let rules = ColumnRules { types: [("price".to_owned(), to.to_owned())].into(), ..ColumnRules::default() };
            plan_columns(&orders(), &rules, &key(&["order_id"]))
        };
        assert_eq!(cast("bigint").unwrap_err().code(), Code::UnsupportedCast);
        assert_eq!(cast("money").unwrap_err().code(), Code::InvalidValue);
        let same = cast("double precision").unwrap();
        assert_eq!(same.schema.columns[1].ty, ColumnType::Scalar(ScalarType::Float64));
    }
}
