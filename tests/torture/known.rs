//! Every state that the source has been in, and which of them readers have seen.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::support::history::{History, Row, part};

/// The values of the column `part`.
pub(super) const PARTS: [&str; 3] = ["p 0", "p 1", "p 2"];

/// One version of the source.
struct State {
    version: u64,
    /// All rows as JSON, by key.
    rows: Vec<Value>,
}

impl State {
    fn part<'a>(&'a self, part: &'a str) -> impl Iterator<Item = &'a Value> {
        self.rows.iter().filter(move |row| row["part"] == part)
    }

    fn is(&self, rows: &[Value], part: Option<&str>) -> bool {
        match part {
            Some(part) => self.part(part).eq(rows),
            None => self.rows.len() == rows.len() && self.rows.iter().zip(rows).all(|(own, row)| is_row(own, row)),
        }
    }
}

/// Whether a row of the view is this one. A transaction that began before a column was added in place sees the view with
/// the column (Postgres looks up catalogs as they are now) and the rows of before, in which it is null.
fn is_row(own: &Value, row: &Value) -> bool {
    let mut row = row.clone();
    if own.get("extra").is_none()
        && let Some(fields) = row.as_object_mut()
        && fields.get("extra").is_some_and(Value::is_null)
    {
        fields.remove("extra");
    }
    *own == row
}

/// All versions so far.
#[derive(Default)]
pub(super) struct Known {
    states: Mutex<Vec<State>>,
    /// The version that somebody has seen last, plus one.
    seen: AtomicU64,
}

/// How far one reader has come.
#[derive(Default)]
pub(super) struct Seen(u64);

impl Seen {
    /// Whether it has seen any state.
    pub(super) fn anything(&self) -> bool {
        self.0 > 0
    }
}

impl Known {
    /// Adds the source's present version. To be called before anything can be synced from it.
    pub(super) fn note(&self, history: &History) {
        let version = history.lake.version();
        let mut states = self.states.lock().unwrap();
        if states.last().is_none_or(|last| last.version < version) {
            let rows = history.rows.iter().map(|(id, row)| as_json(*id, row, history.has_extra)).collect();
            states.push(State { version, rows });
        }
    }

    /// Whether anybody has ever seen a state.
    pub(super) fn is_seen(&self) -> bool {
        self.seen.load(Ordering::Relaxed) > 0
    }

    /// The newest version.
    pub(super) fn newest(&self) -> u64 {
        self.states.lock().unwrap().last().unwrap().version
    }

    /// These are all rows, or all of a part: fails unless they are one whole state, and none before what this reader has
    /// seen already. Returns its version, the earliest where several are alike.
    pub(super) fn see(&self, seen: &mut Seen, rows: &[Value], part: Option<&str>) -> u64 {
        let states = self.states.lock().unwrap();
        let alike: Vec<u64> = states.iter().filter(|state| state.is(rows, part)).map(|state| state.version).collect();
        let Some(&version) = alike.iter().find(|version| **version >= seen.0) else {
            let newest = states.last().map(|state| state.version);
            if alike.is_empty() {
                let last: Vec<&Value> = states
                    .last()
                    .iter()
                    .flat_map(|state| &state.rows)
                    .filter(|row| !rows.contains(row))
                    .take(3)
                    .collect();
                panic!(
                    "{} rows of {part:?} are no state of the source up to version {newest:?}, which also holds {last:?}",
                    rows.len()
                );
            }
            panic!("back in time: versions {alike:?} are seen after version {}", seen.0);
        };
        seen.0 = version;
        self.seen.fetch_max(version + 1, Ordering::Relaxed);
        version
    }

    /// An answer that says which version it is of: all rows of a part.
    pub(super) fn see_version(&self, seen: &mut Seen, version: u64, rows: &[Value], part: &str) {
        self.with(version, |state| {
            let (expected, found) = (state.part(part).count(), rows.len());
            assert!(state.is(rows, Some(part)), "{found} rows of {part} are not the {expected} of version {version}");
        });
        self.go_on(seen, version);
    }

    /// An answer that says which version it is of: the row of one key.
    pub(super) fn see_row(&self, seen: &mut Seen, version: u64, id: i64, row: Option<&Value>) {
        self.with(version, |state| {
            let expected = state.rows.iter().find(|row| row["id"] == id);
            assert_eq!(row, expected, "row {id} of version {version}");
        });
        self.go_on(seen, version);
    }

    fn with(&self, version: u64, check: impl FnOnce(&State)) {
        let states = self.states.lock().unwrap();
        let state = states.iter().find(|state| state.version == version);
        check(state.unwrap_or_else(|| panic!("there is no version {version}")));
    }

    fn go_on(&self, seen: &mut Seen, version: u64) {
        assert!(version >= seen.0, "back in time: version {version} after version {}", seen.0);
        seen.0 = version;
        self.seen.fetch_max(version + 1, Ordering::Relaxed);
    }
}

fn as_json(id: i64, row: &Row, has_extra: bool) -> Value {
    // With the digits that SQL and HTTP show.
    let price = row.price.map(|cents| {
        let sign = if cents < 0 { "-" } else { "" };
        let text = format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100);
        serde_json::from_str::<Value>(&text).unwrap()
    });
    let mut value = json!({
        "id": id, "part": part(id), "name": row.name, "price": price, "quantity": row.quantity, "tags": row.tags,
    });
    if has_extra {
        value["extra"] = json!(row.extra);
    }
    value
}
