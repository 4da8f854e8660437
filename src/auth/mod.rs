//! Who asks: credentials of requests, checked in memory.
//!
//! ```text
//! doorkeeper ─ bearer   what stands in `Authorization`
//!            ├ keyring  API keys as Postgres holds them, followed by the poll of whoever serves; token, how a key is spelled
//!            └ jwt      tokens of the issuer that the project trusts: by key_set, which key_source reads again and again
//! ```
//!
//! Nothing here asks Postgres while a request waits. What is told to a stranger does not depend on what exists: ids that are
//! not known are checked like those that are.

mod bearer;
mod doorkeeper;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod jwt;
mod key_set;
mod key_source;
mod keyring;
mod make;
mod token;

pub use doorkeeper::{Doorkeeper, challenge};
pub use keyring::Keyring;
pub use make::{CreatedKey, create_key};
