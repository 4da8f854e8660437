//! `columns`: which columns are taken, under which names and types.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::json_schema::text_schema;
use super::reader::{Reader, Setting, did_you_mean};
use super::section::section;
use super::settings::{MapOf, Names, Words};
use super::yaml::Node;
use crate::domain::{ColumnRules, ColumnSelection, ScalarType};

section! {
    /// Which columns are taken, under which names and types.
    ColumnKeys, "`columns`" {
        /// Take these columns of the source alone.
        include: Names,
        /// Take all columns of the source but these.
        exclude: Names,
        /// Published names by names in the source.
        rename: MapOf<Words>,
        /// Postgres types by names in the source: `bigint`, `text`, `jsonb`, `numeric(12,2)` and so on. A cast that
        /// loses anything is a bad row.
        types: MapOf<TypeName>,
    }
    required []
    later []
}

/// Other names of the same types, which Postgres or the lake use.
const SYNONYMS: [(&str, &str); 14] = [
    ("string", "text"),
    ("varchar", "text"),
    ("char", "text"),
    ("int", "integer"),
    ("int2", "smallint"),
    ("int4", "integer"),
    ("int8", "bigint"),
    ("long", "bigint"),
    ("short", "smallint"),
    ("float", "real"),
    ("double", "double precision"),
    ("bool", "boolean"),
    ("binary", "bytea"),
    ("json", "jsonb"),
];

impl Setting for ColumnRules {
    const COLLECTION: bool = true;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let keys = ColumnKeys::read(node, reader)?;
        let selection = match (keys.include, keys.exclude) {
            (Some(_), Some(exclude)) => {
                let detail = "`include` and `exclude` exclude each other";
                return reader.invalid(&exclude.place, detail, "remove one of the two");
            }
            (Some(include), None) if include.value.0.is_empty() => {
                return reader.invalid(&include.place, "`include` takes no column", "name at least one column");
            }
            (Some(include), None) => ColumnSelection::Include(include.value.0),
            (None, Some(exclude)) => ColumnSelection::Exclude(exclude.value.0),
            (None, None) => ColumnSelection::All,
        };
        let mut rename = BTreeMap::new();
        if let Some(declared) = keys.rename {
            for (column, Words(name)) in declared.value.0 {
                if rename.values().any(|taken| *taken == name) {
                    let detail = format!("two columns are renamed to `{name}`");
                    return reader.invalid(&declared.place, &detail, "give each column a name of its own");
                }
                rename.insert(column, name);
            }
        }
        let types = keys.types.map(|types| types.value.0).unwrap_or_default();
        let types = types.into_iter().map(|(column, TypeName(name))| (column, name)).collect();
        Some(ColumnRules { selection, rename, types })
    }

    fn schema() -> Json {
        ColumnKeys::schema()
    }
}

/// The name of a Postgres type that a column can be cast to.
#[derive(Debug, Clone)]
pub(super) struct TypeName(String);

impl Setting for TypeName {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a type of Postgres")?;
        let name = text.text.as_str();
        let known: Vec<&str> = type_names().collect();
        let is_numeric = || name.contains(',') && ScalarType::named(name).is_some();
        if known.contains(&name) || is_numeric() {
            return Some(TypeName(text.text));
        }
        let hint = type_hint(name, text.untyped);
        reader.invalid(&node.place, &format!("{} is not a type that a column can have", text.shown()), hint)
    }

    fn schema() -> Json {
        text_schema(&format!("^({}|numeric\\([0-9]+,[0-9]+\\))$", type_names().collect::<Vec<_>>().join("|")))
    }
}

/// The names of all types but `numeric(p,s)`.
fn type_names() -> impl Iterator<Item = &'static str> {
    ScalarType::PLAIN.iter().map(|known| known.sql_name()).chain(["jsonb"])
}

/// What to write in place of a name that is no type; `from_variable` where the text is not in the file.
pub(super) fn type_hint(name: &str, from_variable: bool) -> String {
    let known: Vec<&str> = type_names().collect();
    let base = name.split('(').next().unwrap_or_default().trim().to_lowercase();
    let synonym = SYNONYMS.iter().find(|(synonym, _)| *synonym == base);
    let hint = match synonym {
        _ if name.contains('(') && !name.contains(')') => {
            Some("within { }, write `\"numeric(12,2)\"` in quotes".to_owned())
        }
        _ if base == "numeric" || base == "decimal" => None,
        Some((_, known)) => Some(format!("did you mean `{known}`?")),
        None => did_you_mean(name, &known).filter(|_| !from_variable),
    };
    hint.unwrap_or_else(|| format!("use one of {} and `numeric(p,s)` of up to 76 digits", known.join(", ")))
}
