//! How a pipeline stands, as those are told who watch it.

use std::fmt;

/// How a pipeline stands. Of two that hold, the later one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Its runs succeed and its data is as fresh as promised.
    Ok,
    /// Its runs fail and will not heal at once. What is published is still served.
    Failing,
    /// Its data is older than its `freshness`, for whatever reason.
    Late,
}

impl Standing {
    /// The name in Postgres and in alerts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Standing::Ok => "ok",
            Standing::Failing => "failing",
            Standing::Late => "late",
        }
    }

    /// The standing of this name; what a newer version may have written counts as `ok`.
    #[must_use]
    pub fn named(name: &str) -> Standing {
        match name {
            "failing" => Standing::Failing,
            "late" => Standing::Late,
            _ => Standing::Ok,
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
