//! Errors as records: in `runs.error`, in `--output json`.

use serde::Serialize;

use crate::domain::Error;

/// An error as data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorRecord {
    /// The stable code.
    pub code: String,
    /// What kind of error it is.
    pub title: &'static str,
    /// What happened, where and why.
    pub detail: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl From<&Error> for ErrorRecord {
    fn from(error: &Error) -> Self {
        ErrorRecord {
            code: error.code().to_string(),
            title: error.code().title(),
            // Postgres stores no NUL; a detail may quote whatever was read.
            detail: error.detail().replace('\0', "\\0"),
            hint: error.advice().map(str::to_owned),
        }
    }
}
