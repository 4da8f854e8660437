//! Saying what was being done when Postgres refused.

use crate::domain::Result;

use super::error::explain;

/// Turns the driver's errors into ours, with the place: `cannot {what}: …`.
pub trait Doing<T> {
    /// `what` completes the sentence "cannot …".
    fn doing(self, what: &str) -> Result<T>;
}

impl<T> Doing<T> for Result<T, tokio_postgres::Error> {
    fn doing(self, what: &str) -> Result<T> {
        self.map_err(|error| explain(error).at(format!("cannot {what}")))
    }
}
