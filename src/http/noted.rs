//! What becomes known of a request while it is answered, for whoever tells of requests: the access log, and traces.

use std::sync::{Arc, Mutex, PoisonError};

use axum::http::Extensions;

/// What becomes known of a request while it is answered: among its extensions, and only where somebody tells of it.
#[derive(Debug, Clone, Default)]
pub struct Noted(Arc<Mutex<Subject>>);

/// What a request is about.
#[derive(Debug, Clone, Default)]
pub(super) struct Subject {
    pub(super) table: Option<String>,
    pub(super) operation: Option<&'static str>,
    pub(super) caller: Option<String>,
}

impl Noted {
    /// That of a request, which has one from here on.
    pub(super) fn of(extensions: &mut Extensions) -> Noted {
        extensions.get_or_insert_default::<Noted>().clone()
    }

    /// The request comes from somebody who is called so.
    pub fn comes_from(&self, caller: Option<&str>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).caller = caller.map(str::to_owned);
    }

    /// The request is about this table, of which this is asked.
    pub fn asks(&self, table: &str, operation: &'static str) {
        let mut subject = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (subject.table, subject.operation) = (Some(table.to_owned()), Some(operation));
    }

    pub(super) fn subject(&self) -> Subject {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
