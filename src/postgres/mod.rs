//! Everything between Lakegate and a Postgres server that is not SQL: connection URLs, TLS, sessions, the pool, round trips,
//! identifier quoting, the mapping of server errors, and the embedded server.
//!
//! SQL text stands in `destination`, `store` and `serve`; here there are only the settings of a session.

pub mod embedded;

mod connect;
mod doing;
mod error;
mod identifier;
mod local_socket;
mod one_trip;
mod pool;
mod tls;
mod url;

pub use connect::{Connector, Notifications, Purpose, Session};
pub use doing::Doing;
pub use error::{explain, sqlstate};
pub use identifier::{qualified, quote, quote_literal};
pub use local_socket::ShortWay;
pub use one_trip::{OneTrip, Parameter};
pub use pool::{Pool, PooledSession};
