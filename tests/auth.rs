//! Who may ask, and what for.

mod admin;
mod jwt;
mod keys;
mod matrix;
mod replica;

use lakegate::auth::create_key;
use lakegate::domain::{Auth, Credentials, NewKey};
use lakegate::serve::ServeSettings;
use lakegate::store::Control;
use secrecy::ExposeSecret as _;
use tokio_postgres::Client;

use crate::support::http::{Reply, get_with};
use crate::support::published::{schemas, settings};

/// An API key.
struct Key {
    id: String,
    /// As requests bear it.
    text: String,
}

fn control() -> Control {
    Control::new(&schemas().control)
}

/// Makes a key.
async fn key(client: &Client, new: NewKey) -> Key {
    let created = create_key(&control(), client, &new).await.unwrap();
    Key { id: created.record.id, text: created.key.expose_secret().to_owned() }
}

/// What to ask for where only the name matters.
fn named(name: &str) -> NewKey {
    NewKey { name: name.to_owned(), ..NewKey::default() }
}

/// Settings of a server that asks for API keys.
fn asking() -> ServeSettings {
    ServeSettings { auth: Auth::Required(Credentials { keys: true, jwt: None }), ..settings() }
}

/// `GET` with a credential.
async fn get_as(addr: std::net::SocketAddr, url: &str, token: &str) -> Reply {
    get_with(addr, url, &[("Authorization", &format!("Bearer {token}"))]).await
}
