//! What one caller may see of a table: which columns, and which rows.
//!
//! Rows are kept whole, for whoever asks; what is not for a caller is left out when his answer is made. Of a table with a row
//! filter he is told from memory of his own rows alone: a row of somebody else and one that does not exist are both asked of
//! Postgres each time, so that neither the time nor an outage tells one from the other.

use std::borrow::Cow;

use super::cache::Kept;
use super::json::RowJson;
use super::key::{Key, KeyColumn};
use super::statement::Values;
use super::table::PublishedTable;
use crate::domain::{Caller, Error, Result, ServePolicy};

/// Who may read a table: a role, and the indexes of the columns that it is shown; `None` = all that are shown at all.
pub(super) type RoleView = (String, Option<Box<[usize]>>);

/// The columns that each role is shown, of these.
pub(super) fn role_views(policy: &ServePolicy, shown: &[&str]) -> Option<Vec<RoleView>> {
    let roles = policy.roles.as_ref()?;
    let view = |hide: &[String]| {
        let seen = shown.iter().enumerate().filter(|(_, name)| !hide.iter().any(|hidden| hidden == *name));
        let seen: Box<[usize]> = seen.map(|(at, _)| at).collect();
        Some(seen).filter(|seen| seen.len() < shown.len())
    };
    Some(roles.iter().map(|(name, role)| (name.clone(), view(&role.hide))).collect())
}

/// Binds columns to what is known of whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    columns: Vec<KeyColumn>,
    /// Where they stand among the columns that are read.
    at: Vec<usize>,
    /// The name of the attribute that each has to equal.
    attributes: Vec<String>,
}

impl Filter {
    /// # Errors
    /// Where a column cannot be compared, or does not exist. Such a table must not be served.
    pub(super) fn new(
        policy: &ServePolicy,
        mut column: impl FnMut(&str) -> Option<(KeyColumn, usize)>,
    ) -> Result<Option<Self>> {
        if policy.row_filter.is_empty() {
            return Ok(None);
        }
        let mut filter = Filter { columns: Vec::new(), at: Vec::new(), attributes: Vec::new() };
        for (name, attribute) in &policy.row_filter {
            let (column, at) = column(name)
                .ok_or_else(|| Error::internal(format!("the row filter's column `{name}` cannot be compared")))?;
            filter.columns.push(column);
            filter.at.push(at);
            filter.attributes.push(attribute.clone());
        }
        Ok(Some(filter))
    }

    /// The columns that it compares, in order.
    pub(super) fn columns(&self) -> &[KeyColumn] {
        &self.columns
    }

    /// Whose a row is: its values in these columns. `None` where one is null: it is nobody's.
    ///
    /// # Errors
    /// When a value is not of its column's type.
    pub(super) fn owner(&self, values: Values<'_>) -> Result<Option<Key>> {
        let mut owner = Key::default();
        for (column, &at) in self.columns.iter().zip(&self.at) {
            let Some(raw) = values.get(at) else { return Ok(None) };
            owner
                .push_row_value(column.ty, raw)
                .ok_or_else(|| Error::internal(format!("`{}` holds a value of another type", column.name)))?;
        }
        Ok(Some(owner))
    }

    /// The rows of somebody: none where an attribute is missing, or cannot be a value of its column.
    fn rows_of(&self, caller: &Caller) -> Rows {
        let values: Option<Vec<&String>> = self.attributes.iter().map(|name| caller.attributes.get(name)).collect();
        let owner = values.and_then(|values| Key::parse(&self.columns, &values).ok());
        owner.map_or(Rows::None, Rows::Of)
    }
}

/// Which rows somebody may see.
#[derive(Debug)]
enum Rows {
    All,
    /// Those with these values in the columns of the filter.
    Of(Key),
    None,
}

/// What a caller may see of one state of a table.
#[derive(Debug)]
pub(super) struct View<'t> {
    /// Indexes of the columns; `None` = all that are shown at all.
    columns: Option<Cow<'t, [usize]>>,
    rows: Rows,
}

impl<'t> View<'t> {
    /// `None` where the table is as one that does not exist.
    pub(super) fn of(table: &'t PublishedTable, caller: &Caller) -> Option<Self> {
        if caller.sees_everything() {
            return Some(View { columns: None, rows: Rows::All });
        }
        let columns = match &table.roles {
            None => None,
            Some(roles) => {
                let mut own = roles.iter().filter(|(name, _)| caller.has_role(name)).map(|(_, seen)| seen.as_deref());
                let first = own.next()?.map(Cow::Borrowed);
                // Several roles see what any of them does.
                own.fold(first, |seen, more| match (seen, more) {
                    (Some(seen), Some(more)) => Some(union(&seen, more)),
                    _ => None,
                })
            }
        };
        let rows = table.filter.as_ref().map_or(Rows::All, |filter| filter.rows_of(caller));
        Some(View { columns, rows })
    }

    /// Indexes of the columns to be written: those with these names, or all that he may see; `None` = all that are shown.
    ///
    /// # Errors
    /// Those of [`PublishedTable::project`].
    pub(super) fn project(&self, table: &PublishedTable, names: Option<&[String]>) -> Result<Option<Cow<'_, [usize]>>> {
        match (names, &self.columns) {
            (Some(names), seen) => Ok(Some(Cow::Owned(table.project(names, seen.as_deref())?))),
            (None, Some(seen)) => Ok(Some(Cow::Borrowed(seen))),
            (None, None) => Ok(None),
        }
    }

    /// Indexes of the columns that he may see; `None` = all that are shown.
    pub(super) fn columns(&self) -> Option<&[usize]> {
        self.columns.as_deref()
    }

    /// Whether rows may exist that are not his.
    pub(super) fn is_filtered(&self) -> bool {
        !matches!(self.rows, Rows::All)
    }

    /// Whether no row at all is his.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.rows, Rows::None)
    }

    /// What the columns of the filter have to equal.
    pub(super) fn owner(&self) -> Option<&Key> {
        if let Rows::Of(owner) = &self.rows { Some(owner) } else { None }
    }

    /// Whether a row is his that was read as it stands in Postgres.
    ///
    /// # Errors
    /// When a value is not of its column's type.
    pub(super) fn admits_values(&self, table: &PublishedTable, values: Values<'_>) -> Result<bool> {
        let owner = if self.is_filtered() { table.owner(values)? } else { None };
        Ok(self.is_of(owner.as_ref()))
    }

    /// Whether a row is his.
    pub(super) fn admits(&self, row: &RowJson) -> bool {
        self.is_of(row.owner())
    }

    /// Whether what is kept may be told him without asking.
    pub(super) fn tells(&self, kept: &Kept) -> bool {
        !self.is_filtered() || kept.as_ref().is_some_and(|row| self.admits(row))
    }

    fn is_of(&self, owner: Option<&Key>) -> bool {
        match &self.rows {
            Rows::All => true,
            Rows::Of(own) => owner == Some(own),
            Rows::None => false,
        }
    }
}

/// Both lists of ascending indexes.
fn union(one: &[usize], other: &[usize]) -> Cow<'static, [usize]> {
    let mut all = [one, other].concat();
    all.sort_unstable();
    all.dedup();
    Cow::Owned(all)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::{Code, RolePolicy};
    use crate::serve::table::tests::{table, table_with};

    fn caller(roles: &[&str], attributes: &[(&str, &str)]) -> Caller {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Caller::new(roles.iter().map(ToString::to_string).collect(), attributes.collect())
    }

    /// `orders(note text, id bigint primary key)`, with columns hidden from roles.
    fn with_roles(roles: &[(&str, &[&str])]) -> PublishedTable {
        let role = |hide: &&[&str]| RolePolicy { hide: hide.iter().map(ToString::to_string).collect() };
        table_with(|policy| {
            policy.roles = Some(roles.iter().map(|(name, hide)| ((*name).to_owned(), role(hide))).collect());
        })
    }

    #[test]
    fn several_roles_see_what_any_of_them_does() {
        let table = with_roles(&[("a", &["note"]), ("b", &["id"]), ("c", &[]), ("d", &["note", "id"])]);
        let seen = |roles: &[&str]| {
            let view = View::of(&table, &caller(roles, &[]))?;
            Some(view.columns().map(<[usize]>::to_vec))
        };
        assert_eq!(seen(&[]), None);
        assert_eq!(seen(&["A", "x"]), None);
        assert_eq!(seen(&["a"]), Some(Some(vec![1])));
        assert_eq!(seen(&["d", "a"]), Some(Some(vec![1])));
        assert_eq!(seen(&["b", "a"]), Some(Some(vec![0, 1])));
        assert_eq!(seen(&["a", "c"]), Some(None));
        assert_eq!(seen(&["d"]), Some(Some(vec![])));
        assert!(View::of(&table, &Caller::operator()).is_some_and(|view| view.columns().is_none()));
    }

    #[test]
    fn a_column_that_is_hidden_from_a_role_is_as_one_that_does_not_exist() {
        let table = with_roles(&[("a", &["note"])]);
        let view = View::of(&table, &caller(&["a"], &[])).unwrap();
        let refusal = |name: &str| view.project(&table, Some(&[name.to_owned()])).unwrap_err();
        assert_eq!(refusal("note").code(), Code::UnknownColumn);
        assert_eq!(refusal("note").detail().replace("`note`", "`else`"), refusal("else").detail());
        assert_eq!(view.project(&table, Some(&["id".to_owned()])).unwrap().unwrap(), [1].as_slice());
    }

    #[test]
    fn whoever_lacks_an_attribute_or_has_a_senseless_one_has_no_rows() {
        let filtered = table_with(|policy| {
            policy.row_filter = BTreeMap::from([("id".to_owned(), "tenant".to_owned())]);
        });
        let view = |attributes: &[(&str, &str)]| View::of(&filtered, &caller(&[], attributes)).unwrap();
        assert!(view(&[]).is_empty() && view(&[("tenant", "x")]).is_empty() && view(&[("id", "1")]).is_empty());
        let (one, same) = (view(&[("tenant", "7")]), view(&[("tenant", "+007")]));
        assert!(one.owner().is_some() && one.owner() == same.owner());
        assert!(!one.tells(&None), "a miss is asked for like the row of somebody else");
        let open = table(1, "orders");
        assert!(View::of(&open, &caller(&[], &[])).is_some_and(|view| !view.is_filtered() && view.tells(&None)));
    }

    #[test]
    fn a_filter_that_cannot_be_applied_keeps_the_table_from_being_served() {
        let described = |column: &str| {
            crate::serve::table::tests::described(|policy| {
                policy.row_filter = BTreeMap::from([(column.to_owned(), "tenant".to_owned())]);
            })
        };
        assert!(described("note").is_ok());
        assert!(described("nothing").is_err());
    }
}
