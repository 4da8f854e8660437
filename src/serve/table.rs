//! A published table as the read API sees it: what it shows, how its rows are found, and what its answers say of
//! themselves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use chrono::{DateTime, SecondsFormat, Utc};

use super::json::{RowJson, RowShape};
use super::key::{Key, KeyColumn};
use super::metrics::TableMetrics;
use super::rate::{self, RATE_LIMIT_POLICY, Rates};
use super::reply;
use super::statement::{self, Query, Values};
use super::view::{Filter, RoleView, role_views};
use crate::domain::{
    Caller, Code, Column, ColumnType, Deprecation, Error, Generation, Result, Schemas, ServePolicy, TableName,
    TableSchema,
};
use crate::store::ServedTable;

/// Bytes of a row, as JSON, that are assumed before the first row of a table was seen.
const ASSUMED_ROW_BYTES: u64 = 4096;

/// One state of a published table: everything is fixed for one publish number.
#[derive(Debug)]
pub(super) struct PublishedTable {
    /// Distinguishes this state from every other one of this process.
    pub(super) serial: u64,
    /// The published name.
    pub(super) name: TableName,
    /// The generation that holds the rows.
    pub(super) generation: Generation,
    /// The publish that made this state.
    pub(super) publish_no: i64,
    /// The state of the source that it holds.
    pub(super) source_version: String,
    /// Headers of every answer about it: version, generation, and when it was published, with those of every answer.
    pub(super) about: HeaderMap,
    /// How long clients may keep an answer, where the policy says so.
    pub(super) cache_control: Option<HeaderValue>,
    /// All columns with what is known of them.
    pub(super) schema: TableSchema,
    /// The key's columns, in order; hidden ones included.
    pub(super) key: Vec<KeyColumn>,
    /// How the table is served.
    pub(super) policy: ServePolicy,
    /// Every column that is read: first the shown ones, then those of the key and of the row filter that are hidden.
    pub(super) read: Vec<(String, ColumnType)>,
    /// How many of `read` are shown.
    pub(super) shown: usize,
    /// Where the key's columns stand in `read`.
    pub(super) key_at: Vec<usize>,
    pub(super) shape: RowShape,
    /// Who may read it; `None` = whoever is let in.
    pub(super) roles: Option<Vec<RoleView>>,
    /// Which rows are whose; `None` = all are everybody's.
    pub(super) filter: Option<Filter>,
    /// Finds whole keys.
    pub(super) lookup: Query,
    /// Outlives this state: the next one of the same table goes on with what was learned.
    pub(super) row_bytes: RowBytes,
    /// What callers have used of its limits. Outlives this state, too.
    pub(super) rates: Arc<Rates>,
    /// When the source was last looked at.
    pub(super) checked: Checked,
    /// Counts for all states of the table.
    pub(super) metrics: TableMetrics,
}

impl PublishedTable {
    /// # Errors
    /// When the description contradicts itself: a key column that does not exist or cannot be a key.
    pub(super) fn new(
        serial: u64,
        schemas: &Schemas,
        served: ServedTable,
        (row_bytes, rates): (RowBytes, Arc<Rates>),
        metrics: TableMetrics,
    ) -> Result<Self> {
        let ServedTable { name, generation, publish_no, source_version, published_at, schema, policy } = served;
        let shown = |column: &&Column| !policy.hide.contains(&column.name);
        let mut read: Vec<_> =
            schema.columns.iter().filter(shown).map(|column| (column.name.clone(), column.ty)).collect();
        let shown = read.len();
        let shape = RowShape::new(read.iter().map(|(name, ty)| (name.as_str(), *ty)));
        let roles = role_views(&policy, &read.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
        let (mut key, mut key_at) = (Vec::new(), Vec::new());
        for &index in &schema.key {
            let column =
                schema.columns.get(index).filter(|column| column.ty.scalar().is_some_and(|ty| ty.can_be_key()));
            let Some((column, ty)) = column.and_then(|column| Some((column, column.ty.scalar()?))) else {
                return Err(Error::internal(format!("the key of table `{name}` is not described")));
            };
            key.push(KeyColumn { name: column.name.clone(), ty });
            key_at.push(place(&mut read, column));
        }
        let filter = Filter::new(&policy, |name| {
            let column = schema.columns.iter().find(|column| column.name == name)?;
            let ty = column.ty.scalar().filter(|ty| ty.can_be_key())?;
            Some((KeyColumn { name: column.name.clone(), ty }, place(&mut read, column)))
        })?;
        if key.is_empty() {
            return Err(Error::internal(format!("table `{name}` has no key")));
        }
        let synced_at = published_at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let number = generation.to_string();
        let about = [
            ("lakegate-version", source_version.as_bytes()),
            ("lakegate-generation", number.as_bytes()),
            ("lakegate-synced-at", synced_at.as_bytes()),
        ];
        let told = policy.deprecated.iter().flat_map(|deprecation| deprecation_headers(deprecation, published_at));
        // A version that no header can carry is left out rather than changed.
        let about = about
            .into_iter()
            .filter_map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_bytes(value).ok()?)));
        let limits = policy.rate_limit.and_then(rate::policy).map(|value| (RATE_LIMIT_POLICY, value));
        let mut headers = reply::of_every_answer();
        headers.extend(about.chain(told).chain(limits));
        let ttl = policy.cache_ttl.map(|seconds| HeaderValue::try_from(format!("private, max-age={seconds}")));
        let cache_control = ttl.and_then(|value| value.ok());
        let mut table = PublishedTable {
            serial,
            name,
            generation,
            publish_no,
            source_version,
            about: headers,
            cache_control,
            schema,
            key,
            policy,
            read,
            shown,
            key_at,
            shape,
            roles,
            filter,
            lookup: Query::default(),
            row_bytes,
            rates,
            checked: Checked::default(),
            metrics,
        };
        table.lookup = statement::lookup(schemas, &table);
        Ok(table)
    }

    /// Whether somebody may read it at all.
    pub(super) fn is_open_to(&self, caller: &Caller) -> bool {
        let has_role = |roles: &Vec<RoleView>| roles.iter().any(|(name, _)| caller.has_role(name));
        caller.sees_everything() || self.roles.as_ref().is_none_or(has_role)
    }

    /// Whether a row is shown the same in another state of the same generation, so that what was read in one may be told
    /// in the other.
    pub(super) fn shows_as(&self, other: &PublishedTable) -> bool {
        self.generation == other.generation
            && self.read == other.read
            && self.shown == other.shown
            && self.key == other.key
            && self.filter == other.filter
    }

    /// Writes a row, and whose it is.
    ///
    /// # Errors
    /// When a value is not of its column's type.
    pub(super) fn row(&self, values: Values<'_>) -> Result<RowJson> {
        Ok(self.shape.write(values.shown(self))?.owned_by(self.owner(values)?))
    }

    /// Whose a row is, where rows are somebody's.
    ///
    /// # Errors
    /// When a value is not of its column's type.
    pub(super) fn owner(&self, values: Values<'_>) -> Result<Option<Key>> {
        self.filter.as_ref().map_or(Ok(None), |filter| filter.owner(values))
    }

    /// The columns that are shown, in their order.
    pub(super) fn shown_columns(&self) -> impl Iterator<Item = &Column> {
        self.schema.columns.iter().filter(|column| !self.policy.hide.contains(&column.name))
    }

    /// Indexes of the shown columns with these names, in this order; all of them must be among those that are `seen`.
    ///
    /// # Errors
    /// [`Code::UnknownColumn`] for a hidden column just as for one that does not exist; [`Code::BadParameter`] for a
    /// name that stands twice.
    pub(super) fn project(&self, names: &[String], seen: Option<&[usize]>) -> Result<Vec<usize>> {
        let mut columns = Vec::with_capacity(names.len());
        for name in names {
            let position = self.read[..self.shown].iter().position(|(shown, _)| shown == name);
            let position = position.filter(|at| seen.is_none_or(|seen| seen.contains(at))).ok_or_else(|| {
                let echo: String = name.chars().take(64).flat_map(char::escape_debug).collect();
                Error::new(Code::UnknownColumn, format!("table `{}` has no column `{echo}`", self.name))
            })?;
            if columns.contains(&position) {
                return Err(Error::new(Code::BadParameter, format!("`columns` names `{name}` twice")));
            }
            columns.push(position);
        }
        Ok(columns)
    }

    /// The key of a row of this table, as its columns stand in `read`. `None` where the row is a miss: its key is null.
    ///
    /// # Errors
    /// When a value is not of its column's type.
    pub(super) fn key_of(&self, values: Values<'_>) -> Result<Option<Key>> {
        let mut key = Key::default();
        for (column, &at) in self.key.iter().zip(&self.key_at) {
            let Some(raw) = values.get(at) else { return Ok(None) };
            key.push_row_value(column.ty, raw).ok_or_else(|| {
                Error::internal(format!(
                    "the key column `{}` of `{}` holds a value of another type",
                    column.name, self.name
                ))
            })?;
        }
        Ok(Some(key))
    }
}

/// What every answer about a table says that is to go: RFC 9745 (`Deprecation` and its link), RFC 8594 (`Sunset`).
fn deprecation_headers(
    deprecation: &Deprecation,
    published_at: DateTime<Utc>,
) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let instant = |millis: Option<i64>| millis.and_then(DateTime::from_timestamp_millis);
    let since = instant(deprecation.since).unwrap_or(published_at);
    let sunset = instant(deprecation.sunset).map(|at| at.format("%a, %d %b %Y %H:%M:%S GMT").to_string());
    let link = deprecation.link.as_ref().map(|link| format!("<{link}>; rel=\"deprecation\"; type=\"text/html\""));
    let headers = [("deprecation", Some(format!("@{}", since.timestamp()))), ("sunset", sunset), ("link", link)];
    headers
        .into_iter()
        .filter_map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_str(&value?).ok()?)))
}

/// Where a column stands among those that are read; it is added to them if it is not there.
fn place(read: &mut Vec<(String, ColumnType)>, column: &Column) -> usize {
    read.iter().position(|(name, _)| *name == column.name).unwrap_or_else(|| {
        read.push((column.name.clone(), column.ty));
        read.len() - 1
    })
}

/// The average size of a table's rows as JSON, as far as they have been read; shared by all its states.
#[derive(Debug, Clone)]
pub(super) struct RowBytes(Arc<AtomicU64>);

impl Default for RowBytes {
    fn default() -> Self {
        RowBytes(Arc::new(AtomicU64::new(ASSUMED_ROW_BYTES)))
    }
}

impl RowBytes {
    pub(super) fn average(&self) -> u64 {
        self.0.load(Ordering::Relaxed).max(1)
    }

    /// Moves the average an eighth of the way to this row. Two rows noted at once may count as one: it is an estimate.
    pub(super) fn note(&self, bytes: usize) {
        let average = self.average();
        self.0.store(average - average / 8 + bytes as u64 / 8, Ordering::Relaxed);
    }
}

/// When a table's source was last looked at: moves while the state stays what it is.
#[derive(Debug, Default)]
pub(super) struct Checked(AtomicU64);

/// What [`Checked`] counts from: an instant long before this process, so that earlier checks have a place too.
const LONG_AGO: Duration = Duration::from_secs(10 * 366 * 86_400);

impl Checked {
    fn now() -> Duration {
        static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
        LONG_AGO + STARTED.elapsed()
    }

    /// The present instant, to be taken before the question is asked whose answer is noted.
    pub(super) fn begin() -> Duration {
        Checked::now()
    }

    /// Notes that at an instant it had not been looked at for so long.
    pub(super) fn note(&self, at: Duration, unchecked_for: Duration) {
        self.0.fetch_max(at.saturating_sub(unchecked_for).as_millis() as u64, Ordering::Relaxed);
    }

    /// For how long it has not been looked at, as far as is known: never less than it is.
    pub(super) fn unchecked_for(&self) -> Duration {
        Checked::now().saturating_sub(Duration::from_millis(self.0.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::domain::ScalarType;
    use crate::serve::metrics::ReadMetrics;

    fn metrics() -> TableMetrics {
        ReadMetrics::default().of_table("")
    }

    fn column(name: &str, ty: ScalarType) -> Column {
        let (name, ty) = (name.to_owned(), ColumnType::Scalar(ty));
        Column { source: name.clone(), name, ty, nullable: false, comment: None, late: false }
    }

    pub(in crate::serve) fn schemas() -> Schemas {
        let name = str::to_owned;
        Schemas { published: name("lake"), data: name("lakegate_data"), control: name("lakegate") }
    }

    fn served(name: &str, hide: &[&str]) -> ServedTable {
        ServedTable {
            name: TableName::new(name).unwrap(),
            generation: Generation(7),
            publish_no: 3,
            source_version: "12".to_owned(),
            published_at: DateTime::UNIX_EPOCH,
            schema: TableSchema {
                columns: vec![column("note", ScalarType::Text), column("id", ScalarType::Int64)],
                key: vec![1],
            },
            policy: ServePolicy {
                enabled: true,
                hide: hide.iter().map(ToString::to_string).collect(),
                page_limit: 100,
                cache_ttl: None,
                deprecated: None,
                roles: None,
                row_filter: std::collections::BTreeMap::new(),
                rate_limit: None,
            },
        }
    }

    /// A table `name(note text, id bigint primary key)`.
    pub(in crate::serve) fn table(serial: u64, name: &str) -> PublishedTable {
        PublishedTable::new(serial, &schemas(), served(name, &[]), Default::default(), metrics()).unwrap()
    }

    /// The same under another policy.
    pub(in crate::serve) fn described(policy: impl FnOnce(&mut ServePolicy)) -> Result<PublishedTable> {
        let mut served = served("orders", &[]);
        policy(&mut served.policy);
        PublishedTable::new(1, &schemas(), served, Default::default(), metrics())
    }

    /// The same, which must be well described.
    pub(in crate::serve) fn table_with(policy: impl FnOnce(&mut ServePolicy)) -> PublishedTable {
        described(policy).unwrap()
    }

    #[test]
    fn a_hidden_key_is_read_but_not_shown() {
        let table =
            PublishedTable::new(1, &schemas(), served("orders", &["id"]), Default::default(), metrics()).unwrap();
        assert_eq!((table.shown, table.key_at.as_slice()), (1, &[1][..]));
        assert_eq!(table.project(&["note".to_owned()], None).unwrap(), [0]);
    }

    #[test]
    fn a_hidden_column_is_refused_as_one_that_does_not_exist() {
        let table =
            PublishedTable::new(1, &schemas(), served("orders", &["id"]), Default::default(), metrics()).unwrap();
        let refusal = |name: &str| table.project(&[name.to_owned()], None).unwrap_err();
        assert_eq!(refusal("id").code(), Code::UnknownColumn);
        assert_eq!(refusal("id").detail().replace("`id`", "`xx`"), refusal("xx").detail());
    }

    #[test]
    fn a_column_may_be_asked_for_once() {
        let twice = ["note".to_owned(), "note".to_owned()];
        assert_eq!(table(1, "orders").project(&twice, None).unwrap_err().code(), Code::BadParameter);
    }

    #[test]
    fn the_age_of_a_check_grows_and_a_later_check_makes_it_less() {
        let (hour, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
        let checked = Checked::default();
        assert!(checked.unchecked_for() >= LONG_AGO);
        let began = Checked::begin();
        checked.note(began, hour);
        assert!((hour..hour + minute).contains(&checked.unchecked_for()));
        checked.note(began, minute);
        checked.note(began, hour);
        assert!((minute..2 * minute).contains(&checked.unchecked_for()));
    }

    #[test]
    fn a_key_that_is_not_described_is_refused() {
        for key in [vec![], vec![2]] {
            let mut served = served("orders", &[]);
            served.schema.key = key;
            assert!(PublishedTable::new(1, &schemas(), served, Default::default(), metrics()).is_err());
        }
    }
}
