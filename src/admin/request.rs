//! What a request asks for: names in the path, parameters of the query, the body.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use url::form_urlencoded;

use crate::domain::{Code, Error, Result, TableName};

use super::reply::Refusal;

/// The longest body, in bytes.
const MAX_BODY: usize = 64 << 10;

/// How long a client may take to send it.
const BODY: Duration = Duration::from_secs(10);

/// The name in the path.
pub(super) struct Named(pub(super) TableName);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let name = Path::<String>::from_request_parts(parts, state).await.map(|Path(name)| name).unwrap_or_default();
        let name = TableName::new(&name).map_err(|error| {
            Error::new(Code::UnknownPipeline, error.detail().to_owned()).hint("GET /v1/pipelines lists them")
        })?;
        Ok(Named(name))
    }
}

/// The number of a run in the path.
pub(super) struct Numbered(pub(super) i64);

impl<S: Send + Sync> FromRequestParts<S> for Numbered {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let text = Path::<String>::from_request_parts(parts, state).await.map(|Path(text)| text).unwrap_or_default();
        let run = text.parse().map_err(|_| Error::new(Code::NoSuchRun, "a run has a whole number"))?;
        Ok(Numbered(run))
    }
}

/// The parameters of a query, each given once at most.
pub(super) struct Parameters<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Parameters<'a> {
    /// # Errors
    /// [`Code::BadParameter`] for one that is not `known`, or given twice.
    pub(super) fn read(query: Option<&'a str>, known: &[&str]) -> Result<Self> {
        let given: Vec<_> = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).collect();
        for (at, (name, _)) in given.iter().enumerate() {
            let shown: String = name.chars().take(40).flat_map(char::escape_debug).collect();
            if !known.contains(&&**name) {
                let hint = match known {
                    [] => "there are none here".to_owned(),
                    known => format!("the parameters are {}", known.join(", ")),
                };
                return Err(Error::new(Code::BadParameter, format!("there is no parameter `{shown}`")).hint(hint));
            }
            if given.iter().take(at).any(|(other, _)| other == name) {
                return Err(Error::new(Code::BadParameter, format!("`{shown}` is given twice")));
            }
        }
        Ok(Parameters(given))
    }

    /// The text of a parameter.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| &**value)
    }

    /// A whole number between these.
    ///
    /// # Errors
    /// [`Code::BadParameter`] where it is none.
    pub(super) fn number<T: FromStr + PartialOrd + std::fmt::Display>(
        &self,
        name: &str,
        least: T,
        most: T,
    ) -> Result<Option<T>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| *number >= least && *number <= most);
        number.map(Some).ok_or_else(|| {
            Error::new(Code::BadParameter, format!("`{name}` takes a whole number from {least} to {most}"))
        })
    }
}

/// A body that says nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Reads the body as JSON; an empty one is `{}`.
///
/// # Errors
/// [`Code::TooLarge`]; [`Code::InvalidBody`] with the place.
pub(super) async fn body<T: DeserializeOwned>(body: Body) -> Result<T> {
    let bytes = collect(body).await?;
    let text = match bytes.trim_ascii() {
        [] => b"{}",
        text => text,
    };
    // A list would be taken for the fields in their order.
    if !text.starts_with(b"{") {
        return Err(not_expected("it is no JSON object"));
    }
    serde_json::from_slice(text).map_err(|error| not_expected(&error.to_string()))
}

fn not_expected(why: &str) -> Error {
    Error::new(Code::InvalidBody, format!("the body is not what is expected here: {why}"))
        .hint("docs/admin-api.md lists the fields of every request")
}

async fn collect(body: Body) -> Result<Bytes> {
    let Ok(collected) = timeout(BODY, Limited::new(body, MAX_BODY).collect()).await else {
        return Err(Error::new(Code::InvalidBody, format!("the body did not come within {} seconds", BODY.as_secs())));
    };
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Error::new(Code::TooLarge, format!("the body is longer than {MAX_BODY} bytes")))
        }
        Err(_) => Err(Error::new(Code::InvalidBody, "the body ended too early")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_known_and_given_once_and_within_their_bounds() {
        let read = |query| Parameters::read(Some(query), &["limit", "pipeline"]);
        for query in ["x=1", "limit=1&limit=2", "Limit=1"] {
            assert_eq!(read(query).err().unwrap().code(), Code::BadParameter, "{query}");
        }
        let given = read("limit=5&pipeline=a%2Fb").unwrap();
        assert_eq!((given.text("pipeline"), given.number("limit", 1, 10).unwrap()), (Some("a/b"), Some(5)));
        for query in ["limit=0", "limit=11", "limit=x", "limit=", "limit=99999999999999999999"] {
            assert!(read(query).unwrap().number("limit", 1, 10).is_err(), "{query}");
        }
        assert_eq!(read("").unwrap().number("limit", 1, 10).unwrap(), None);
    }
}
