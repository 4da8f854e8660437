//! `serve`: how the read API serves a table, and to whom.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::json_schema::text_schema;
use super::reader::{At, Reader, Setting};
use super::section::section;
use super::settings::{self, DAY, Names, Period, SECOND, Whole, Words};
use super::yaml::{Node, Value};
use crate::domain::{Deprecation, ROLE_FORM, Rate, RateLimit, RolePolicy, ServePolicy, is_role};

section! {
    /// How the read API serves the table.
    ServeKeys, "`serve`" {
        /// Whether the read API serves the table at all.
        enabled: bool = true,
        /// Columns, by published name, that the read API never shows.
        hide: Names,
        /// The most rows of one page.
        page_limit: Whole<1, { u32::MAX as u64 }> = 100,
        /// How long clients may keep an answer without asking whether it still holds; they ask each time unless
        /// declared.
        cache_ttl: Period<SECOND, { 365 * DAY }>,
        /// Roles that may read the table: a list, or a mapping of each to `{hide: [columns]}`; whoever is let in unless
        /// declared.
        roles: Roles,
        /// Columns, by published name, each with the name of an attribute: whoever asks sees the rows alone whose columns
        /// equal his attributes.
        row_filter: RowFilter,
        /// How many rows may be read in how long by each caller, like `100/s` or `6000/m`; or `{caller: 100/s, table: 2000/s}`,
        /// where `table` is for all together.
        rate_limit: Limit,
    }
    required []
    later []
}

section! {
    /// What a role may not see.
    RoleKeys, "a role" {
        /// Columns, by published name, that it is not shown.
        hide: Names,
    }
    required []
    later []
}

section! {
    /// How many rows may be read in how long.
    LimitKeys, "`rate_limit`" {
        /// By each caller: by whoever shows one credential, or asks from one address where none is asked for.
        caller: Rate,
        /// By all together.
        table: Rate,
    }
    required []
    later []
}

impl ServeKeys {
    /// The policy; `None` where something is wrong, which has been reported.
    pub(super) fn policy(self, deprecated: Option<Deprecation>) -> Option<ServePolicy> {
        Some(ServePolicy {
            enabled: self.enabled?.value,
            hide: self.hide.map(|hide| hide.value.0).unwrap_or_default(),
            page_limit: self.page_limit?.value.0 as u32,
            cache_ttl: self.cache_ttl.map(|ttl| ttl.value.0.as_secs() as u32),
            deprecated,
            roles: self.roles.map(|roles| roles.value.0),
            row_filter: self.row_filter.map(|filter| filter.value.0).unwrap_or_default(),
            rate_limit: self.rate_limit.map(|limit| limit.value.0),
        })
    }
}

/// Who may read a table.
#[derive(Debug, Clone)]
pub(super) struct Roles(BTreeMap<String, RolePolicy>);

impl Setting for Roles {
    const COLLECTION: bool = true;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut roles = BTreeMap::new();
        if let Value::Map(_) = &node.value {
            for (key, value) in reader.map(node, "roles")? {
                let keys = match &value.value {
                    // A role from which nothing is hidden.
                    Value::Scalar(scalar) if scalar.text.is_empty() => RoleKeys::default(),
                    _ => reader.setting::<RoleKeys>(&key.name, value)?.value,
                };
                if !is_role(&key.name) {
                    return wrong_name(&key.name, key, reader);
                }
                roles.insert(
                    key.name.clone(),
                    RolePolicy { hide: keys.hide.map(|hide| hide.value.0).unwrap_or_default() },
                );
            }
        } else {
            for name in Names::read(node, reader)?.0 {
                if !is_role(&name) {
                    return reader.invalid(&node.place, "this cannot be the name of a role", ROLE_FORM);
                }
                roles.insert(name, RolePolicy::default());
            }
        }
        if roles.is_empty() {
            let hint = "name one at least; where nobody is to read the table, write `enabled: false`";
            return reader.invalid(&node.place, "there is no role", hint);
        }
        Some(Roles(roles))
    }

    fn schema() -> Json {
        let mut list = Names::schema();
        list["minItems"] = json!(1);
        let mapping = json!({"type": "object", "minProperties": 1, "additionalProperties": RoleKeys::schema()});
        json!({"anyOf": [list, mapping]})
    }
}

fn wrong_name<T>(name: &str, key: &super::yaml::Key, reader: &mut Reader<'_>) -> Option<T> {
    let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
    reader.invalid(&key.place, &format!("`{shown}` cannot be the name of a role"), ROLE_FORM)
}

/// Which rows are whose: an attribute's name by column.
#[derive(Debug, Clone)]
pub(super) struct RowFilter(BTreeMap<String, String>);

impl Setting for RowFilter {
    const COLLECTION: bool = true;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut filter = BTreeMap::new();
        for (key, value) in reader.map(node, "columns with the names of attributes")? {
            let attribute = reader.setting::<Words>(&key.name, value)?.value.0;
            if !is_role(&attribute) {
                return reader.invalid(&value.place, "this cannot be the name of an attribute", ROLE_FORM);
            }
            filter.insert(key.name.clone(), attribute);
        }
        if filter.is_empty() {
            return reader.invalid(&node.place, "no column is bound", "write `{tenant_id: tenant}`, or remove the key");
        }
        Some(RowFilter(filter))
    }

    fn schema() -> Json {
        json!({"type": "object", "minProperties": 1, "additionalProperties": {"type": "string", "minLength": 1}})
    }
}

impl Setting for Rate {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = settings::text(node, reader, "rows and a time")?;
        Rate::parse(&text).or_else(|| {
            reader.invalid(
                &node.place,
                "this is not a number of rows in a time",
                "write `100/s`, `6000/m` or `100/10s`",
            )
        })
    }

    fn schema() -> Json {
        text_schema("^[0-9]{1,10}/([0-9]{1,5})?[smhd]$")
    }
}

/// What may be read in how long, by whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit(RateLimit);

impl Setting for Limit {
    const COLLECTION: bool = true;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::Map(_) = &node.value else {
            let caller = Some(Rate::read(node, reader)?);
            return Some(Limit(RateLimit { caller, table: None }));
        };
        let keys = LimitKeys::read(node, reader)?;
        if keys.caller.is_none() && keys.table.is_none() {
            return reader.invalid(&node.place, "nothing is limited", "write `100/s`, or remove the key");
        }
        let rate = |rate: Option<At<Rate>>| rate.map(|rate| rate.value);
        Some(Limit(RateLimit { caller: rate(keys.caller), table: rate(keys.table) }))
    }

    fn schema() -> Json {
        json!({"anyOf": [Rate::schema(), LimitKeys::schema()]})
    }
}
