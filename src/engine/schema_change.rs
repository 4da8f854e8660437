//! What a changed schema means for a published table (`on_schema_change`).

use crate::domain::{Code, Column, Error, OnSchemaChange, Result, TableName, TableSchema};
use crate::source::FollowedColumns;

/// How the columns of a table change with the next publish.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SchemaChange {
    /// Columns that were not there.
    pub(super) added: Vec<String>,
    /// Columns that will be gone.
    pub(super) removed: Vec<String>,
    /// Columns whose type differs: name, type before, type after.
    pub(super) retyped: Vec<(String, String, String)>,
    /// Whether the key has the same columns, but of other types.
    pub(super) key_retyped: bool,
}

/// Compares what is published with what is about to be.
pub(super) fn compare(before: &TableSchema, after: &TableSchema) -> SchemaChange {
    let mut change = SchemaChange::default();
    for column in &after.columns {
        match before.columns.iter().find(|old| old.name == column.name) {
            None => change.added.push(column.name.clone()),
            Some(old) if old.ty.sql_name() != column.ty.sql_name() => {
                change.retyped.push((column.name.clone(), old.ty.to_string(), column.ty.to_string()));
            }
            Some(_) => {}
        }
    }
    change.removed =
        before.columns.iter().filter(|old| after.position(&old.name).is_none()).map(|old| old.name.clone()).collect();
    let names = |schema: &TableSchema| -> Vec<String> { schema.key_columns().map(|key| key.name.clone()).collect() };
    let types = |schema: &TableSchema| -> Vec<String> { schema.key_columns().map(|key| key.ty.sql_name()).collect() };
    change.key_retyped = names(before) == names(after) && types(before) != types(after);
    change
}

/// Puts the columns that are already published first, in their order, so that the view can be replaced in place.
pub(super) fn keep_order(before: &TableSchema, columns: &[Column]) -> Vec<usize> {
    let position = |column: &Column| before.position(&column.name).unwrap_or(usize::MAX);
    let mut order: Vec<usize> = (0..columns.len()).collect();
    order.sort_by_key(|&index| position(&columns[index]));
    order
}

/// The columns that a generation has after it was changed in place to those of `after`, which are in its order: further
/// ones behind its own, null in all rows that are there. What it declares less strictly than the source stays so. `None`
/// where its rows would have to be written anew.
pub(super) fn extend(before: &TableSchema, after: &TableSchema) -> Option<TableSchema> {
    let mut schema = after.clone();
    if before.key != after.key || before.columns.len() > after.columns.len() {
        return None;
    }
    for (at, column) in schema.columns.iter_mut().enumerate() {
        match before.columns.get(at) {
            Some(old) => {
                if (&old.name, &old.source, old.ty) != (&column.name, &column.source, column.ty) {
                    return None;
                }
                column.nullable |= old.nullable;
                column.late = old.late;
            }
            None if column.nullable => column.late = true,
            None => return None,
        }
    }
    Some(schema)
}

/// The names in the source of those columns that `before` has and of those that it has not.
pub(super) fn followed(before: &TableSchema, after: &TableSchema) -> FollowedColumns {
    let (kept, added): (Vec<&Column>, Vec<&Column>) =
        after.columns.iter().partition(|column| before.position(&column.name).is_some());
    let names = |columns: Vec<&Column>| columns.into_iter().map(|column| column.source.clone()).collect();
    FollowedColumns { kept: names(kept), added: names(added) }
}

/// Applies the pipeline's rule.
///
/// # Errors
/// [`Code::SchemaChanged`] when the rule does not allow the change.
pub(super) fn check(
    name: &TableName,
    change: &SchemaChange,
    rule: OnSchemaChange,
    same_definition: bool,
) -> Result<()> {
    let refused = |what: String, hint: &str| {
        Err(Error::new(Code::SchemaChanged, format!("`{name}`: {what}")).hint(hint.to_owned()))
    };
    if change.key_retyped {
        return refused(
            "the type of a key column has changed".to_owned(),
            "a key cannot change under its readers: publish the table under another `name`, or keep the type with `columns: {types: …}`",
        );
    }
    let follow = "write `on_schema_change: follow` to accept it, or keep the published columns with `columns`";
    if rule != OnSchemaChange::Follow {
        if let Some(column) = change.removed.first() {
            return refused(
                format!(
                    "the published column `{column}` would go: it is no longer among the columns of the source that are taken"
                ),
                follow,
            );
        }
        if let Some((column, before, after)) = change.retyped.first() {
            return refused(format!("the published column `{column}` would change from {before} to {after}"), follow);
        }
    }
    if rule == OnSchemaChange::Fail && same_definition {
        if let Some(column) = change.added.first() {
            return refused(
                format!("the source has a new column `{column}`"),
                "write `on_schema_change: add_columns` to let it arrive, or leave it out with `columns: {exclude: …}`",
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ColumnType, ScalarType};

    fn schema(columns: &[(&str, ScalarType)]) -> TableSchema {
        TableSchema {
            columns: columns
                .iter()
                .map(|(name, ty)| Column {
                    name: (*name).to_owned(),
                    source: (*name).to_owned(),
                    ty: ColumnType::Scalar(*ty),
                    nullable: true,
                    comment: None,
                    late: false,
                })
                .collect(),
            key: vec![0],
        }
    }

    fn verdict(after: &TableSchema, rule: OnSchemaChange) -> Result<()> {
        let before = schema(&[("id", ScalarType::Int64), ("name", ScalarType::Text)]);
        check(&TableName::new("t").unwrap(), &compare(&before, after), rule, true)
    }

    #[test]
    fn an_added_column_arrives_unless_every_change_fails() {
        let after = schema(&[("id", ScalarType::Int64), ("new", ScalarType::Date), ("name", ScalarType::Text)]);
        assert!(verdict(&after, OnSchemaChange::AddColumns).is_ok());
        assert!(verdict(&after, OnSchemaChange::Follow).is_ok());
        assert_eq!(verdict(&after, OnSchemaChange::Fail).unwrap_err().code(), Code::SchemaChanged);
    }

    #[test]
    fn a_removed_or_retyped_column_is_only_followed_on_request() {
        for after in
            [schema(&[("id", ScalarType::Int64)]), schema(&[("id", ScalarType::Int64), ("name", ScalarType::Bytea)])]
        {
            assert_eq!(verdict(&after, OnSchemaChange::AddColumns).unwrap_err().code(), Code::SchemaChanged);
            assert!(verdict(&after, OnSchemaChange::Follow).is_ok());
        }
    }

    #[test]
    fn a_key_of_another_type_is_never_followed() {
        let after = schema(&[("id", ScalarType::Text), ("name", ScalarType::Text)]);
        assert_eq!(verdict(&after, OnSchemaChange::Follow).unwrap_err().code(), Code::SchemaChanged);
    }

    #[test]
    fn published_columns_keep_their_order_and_new_ones_follow() {
        let before = schema(&[("id", ScalarType::Int64), ("name", ScalarType::Text)]);
        let after = schema(&[("new", ScalarType::Date), ("name", ScalarType::Text), ("id", ScalarType::Int64)]);
        assert_eq!(keep_order(&before, &after.columns), vec![2, 1, 0]);
    }

    #[test]
    fn a_generation_is_extended_by_columns_that_may_be_null() {
        let before = schema(&[("id", ScalarType::Int64), ("name", ScalarType::Text)]);
        let longer = [("id", ScalarType::Int64), ("name", ScalarType::Text), ("new", ScalarType::Date)];
        let mut after = schema(&longer);
        let late = |schema: &TableSchema| schema.columns.iter().map(|column| column.late).collect::<Vec<_>>();
        let once = extend(&before, &after).unwrap();
        assert_eq!(late(&once), [false, false, true]);
        assert_eq!(late(&extend(&once, &after).unwrap()), [false, false, true], "it stays late");
        assert_eq!(followed(&before, &after).added, ["new"]);

        after.columns[2].nullable = false;
        assert_eq!(extend(&before, &after), None, "no row has a value");
        assert_eq!(extend(&after, &before), None, "a column goes");
        after.columns[1].ty = ColumnType::Scalar(ScalarType::Bytea);
        assert_eq!(extend(&before, &after), None, "a column changes");
    }

    #[test]
    fn a_generation_stays_as_lenient_as_it_is_and_becomes_so_where_the_source_does() {
        let (mut before, mut after) = (schema(&[("id", ScalarType::Int64)]), schema(&[("id", ScalarType::Int64)]));
        after.columns[0].nullable = false;
        assert_eq!(extend(&before, &after), Some(before.clone()));
        before.columns[0].nullable = false;
        after.columns[0].nullable = true;
        assert_eq!(extend(&before, &after), Some(after));
    }
}
