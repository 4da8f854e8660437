//! `schemas/tables/<name>.yaml` ↔ [`Contract`]: what a table promises its readers.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::columns::type_hint;
use super::problem::{Place, Problem};
use super::reader::{Reader, Setting};
use super::section::section;
use super::settings::KeyColumns;
use super::yaml::Node;
use super::{read_optional, unreadable};
use crate::domain::{Code, ColumnType, Contract, PinnedColumn, Pipeline, TableName, TableSchema};

section! {
    /// What a table promises its readers: its columns and its key.
    ContractFile, "a table's contract" {
        /// Columns of the primary key, in order: those of the pipeline.
        primary_key: KeyColumns,
        /// Types by published column: `bigint`, `numeric(12,2)`, `text[]`, `jsonb` and so on, followed by `not null`
        /// where the source declares that the column never is.
        columns: PinnedColumns,
    }
    required [primary_key, columns]
    later []
}

/// What columns are declared as that are never null.
const NOT_NULL: &str = "not null";

/// Columns with their types, in order.
#[derive(Debug, Clone)]
pub(super) struct PinnedColumns(Vec<PinnedColumn>);

impl Setting for PinnedColumns {
    const COLLECTION: bool = true;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut columns = Vec::new();
        for (key, value) in reader.map(node, "a mapping of columns to types")? {
            if let Some(Promise { ty, nullable }) = reader.setting(&key.name, value).map(|promise| promise.value) {
                columns.push(PinnedColumn { name: key.name.clone(), ty, nullable });
            }
        }
        Some(PinnedColumns(columns))
    }

    fn schema() -> Json {
        json!({"type": "object", "additionalProperties": Promise::schema()})
    }
}

/// `bigint not null`.
#[derive(Debug, Clone, Copy)]
struct Promise {
    ty: ColumnType,
    nullable: bool,
}

impl Setting for Promise {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a type, such as `bigint not null`")?;
        let spelling = text.text.trim();
        let split = spelling.len().checked_sub(NOT_NULL.len()).and_then(|at| spelling.split_at_checked(at));
        let (ty, nullable) = match split.filter(|(_, end)| end.eq_ignore_ascii_case(NOT_NULL)) {
            Some((ty, _)) => (ty.trim_end(), false),
            None => (spelling, true),
        };
        match ColumnType::named(ty) {
            Some(ty) => Some(Promise { ty, nullable }),
            None => {
                let hint = type_hint(ty.trim_end_matches("[]"), text.untyped);
                reader.invalid(&node.place, &format!("{} is not a type that a column can have", text.shown()), hint)
            }
        }
    }

    fn schema() -> Json {
        json!({"type": "string"})
    }
}

/// Reads the contract of a pipeline, where it has one; reports what is wrong with it.
pub(super) fn of(pipeline: &Pipeline, reader: &mut Reader<'_>) -> Option<Contract> {
    let file = Contract::file_of(&pipeline.name);
    let node = read_optional(&file.to_string_lossy(), reader)?;
    let keys = ContractFile::read(&node, reader)?;
    let (key, PinnedColumns(columns)) = (keys.primary_key?, keys.columns?.value);
    if key.value.0 != pipeline.primary_key {
        let shown = |columns: &[String]| columns.join(", ");
        let detail = format!(
            "`primary_key` is [{}] here and [{}] in {}",
            shown(&key.value.0),
            shown(&pipeline.primary_key),
            pipeline.file.display()
        );
        let hint = "a table keeps its key: publish another one under another `name`";
        reader.problems.push(Problem::new(Code::InvalidValue, &key.place, detail).hint(hint));
        return None;
    }
    if let Some(missing) = key.value.0.iter().find(|name| columns.iter().all(|column| column.name != **name)) {
        let detail = format!("the key column `{missing}` is not among `columns`");
        let hint = format!("add it, or remove the file and say `lakegate pin {}`", pipeline.name);
        reader.problems.push(Problem::new(Code::InvalidValue, &key.place, detail).hint(hint));
        return None;
    }
    Some(Contract { file, columns })
}

/// Contracts of tables that no pipeline has, as warnings.
pub(super) fn strays(dir: &Path, pipelines: &[Pipeline]) -> Vec<Problem> {
    let entries = match fs::read_dir(dir.join(Contract::FOLDER)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return vec![unreadable(Contract::FOLDER, "the folder of contracts", &error).warning()],
    };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let is_stray = |name: &String| {
        let file = PathBuf::from(Contract::FOLDER).join(name);
        !name.starts_with('.') && pipelines.iter().all(|pipeline| Contract::file_of(&pipeline.name) != file)
    };
    let warn = |name: &String| {
        let place = Place::Path(format!("{}/{name}", Contract::FOLDER));
        let hint = "a contract is named like its table, with `.yaml`; remove it, or rename it";
        Problem::new(Code::UnknownPipeline, &place, "no pipeline has this contract").hint(hint).warning()
    };
    names.iter().filter(|name| is_stray(name)).map(warn).collect()
}

/// The file that promises these columns.
#[must_use]
pub fn contract_text(table: &TableName, schema: &TableSchema) -> String {
    // In values, unlike keys, a dollar sign may begin a variable.
    let key: Vec<String> = schema.key_columns().map(|column| quoted(&column.name).replace('$', "$$")).collect();
    let mut text = format!(
        "# What `{table}` promises its readers, by `lakegate pin {table}`. What the source has besides is left out; a sync\n\
         # whose source does not fit fails before the load.\nprimary_key: [{}]\ncolumns:\n",
        key.join(", ")
    );
    for column in &schema.columns {
        let never = if column.nullable { "" } else { " not null" };
        text.push_str(&format!("  {}: {}{never}\n", quoted(&column.name), column.ty));
    }
    text
}

/// A column's name as YAML: plain where every parser reads it as text.
fn quoted(name: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !WORDS.contains(&name.to_ascii_lowercase().as_str());
    // JSON's text is YAML's in double quotes.
    if is_plain { name.to_owned() } else { json!(name).to_string() }
}
