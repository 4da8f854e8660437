//! The read API: rows of published tables by primary key, over HTTP.
//!
//! ```text
//! front                        rows that are kept, past the router
//! server → gate → router → request → reader ─┬─ catalog   what is published, kept up by LISTEN and polling
//!                                            ├─ lookup    whole keys: queue → one statement for all that wait
//!                                            └─ page      key prefixes, with cursors
//!                           view      what of it is for whoever asks: columns by his roles, rows by his attributes
//!                           rate      how many rows he may read in how long
//!                           reply ← envelope ← json       binary rows → JSON
//!                 openapi   what all of this promises, made of the catalogue; docs, a page to read and try it
//! ```
//!
//! What an answer claims about itself (its publish) is returned by the very statement that read its rows, so it never
//! depends on how fresh the catalogue is: if they disagree, the catalogue is read again and the question is asked anew.

mod accept;
mod arrow_rows;
mod batch;
mod cache;
mod calendar;
mod catalog;
mod compress;
mod content;
mod cors;
mod csv;
mod cursor;
mod docs;
mod envelope;
mod front;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod get;
mod json;
mod key;
mod lookup;
mod metrics;
mod numeric;
mod openapi;
mod page;
mod queue;
mod rate;
mod reader;
mod reply;
mod request;
mod router;
mod rows;
mod server;
mod statement;
mod table;
mod unsent;
mod view;

pub use accept::Format;
pub use get::{describe_once, lookup_once};
pub use metrics::ReadMetrics;
pub use request::Question;
pub use server::{BoundServer, ServeSettings, serve};
