//! Errors of object stores and files, as errors of Lakegate.

use std::error::Error as StdError;
use std::fmt::Display;
use std::io;

use object_store::Error as StoreError;

use crate::domain::{Code, Error};

/// What was asked for when an object was not found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    /// The source as a whole.
    Source,
    /// A data file that the source's state lists.
    DataFile,
}

/// What the store of local files calls itself in its errors.
pub(super) const LOCAL_STORE: &str = "LocalFileSystem";
/// What comes before the status in the text of an HTTP store's error.
const STATUS: &str = "status code: ";

/// Whether the store answered with one of these statuses. Failed listings come as generic errors, the status only in
/// their text.
fn answered(error: &StoreError, statuses: &[&str]) -> bool {
    chain(error).map(ToString::to_string).any(|text| {
        let status = text.split_once(STATUS).map_or("", |(_, status)| status);
        statuses.iter().any(|expected| status.starts_with(expected))
    })
}

/// Of an HTTP store's answer its status and, where the body is the XML that such stores send, their own code and
/// message: `the store answered 404 Not Found (NoSuchBucket)`.
fn answer(text: &str) -> Option<String> {
    let (_, answer) = text.rsplit_once(STATUS)?;
    let (status, body) = answer.split_once(": ").unwrap_or((answer, ""));
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        rest.split_once("</").map(|(text, _)| text)
    };
    let said: Vec<&str> = ["Code", "Message"].into_iter().filter_map(element).collect();
    let said = if said.is_empty() { String::new() } else { format!(" ({})", said.join(": ")) };
    Some(format!("the store answered {}{said}", status.trim()))
}

/// Translates an error of the object store; `place` says what was being read.
pub(super) fn store_error(error: StoreError, wanted: Wanted, place: impl Display) -> Error {
    let code = match &error {
        StoreError::NotFound { .. } => match wanted {
            Wanted::Source => Code::SourceNotFound,
            Wanted::DataFile => Code::FileGone,
        },
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => Code::SourceAccess,
        StoreError::InvalidPath { .. } => Code::UnsupportedUri,
        other => generic_code(other),
    };
    let hint = match code {
        Code::SourceAccess | Code::SourceUnavailable if is_local(&error) => {
            "check the file, the disk that it lies on, and that this account may read it"
        }
        Code::SourceNotFound => "check the address, and that the table has been written there",
        Code::FileGone => {
            "a newer version has replaced the file (VACUUM or an overwrite): the next run reads that version"
        }
        Code::SourceAccess => "check the credentials and that they may list and read this location",
        Code::UnsupportedUri => "check the spelling of the address",
        _ => "check the network, the endpoint and the region; the run is tried again later",
    };
    let cause = if is_local(&error) { innermost(&error).to_string() } else { without_query(&root_cause(&error)) };
    let detail = format!("{place}: {cause}");
    Error::new(code, detail).hint(hint)
}

/// Tells a refusal by the local file system from a store that cannot be reached.
fn generic_code(error: &StoreError) -> Code {
    match io_kind(error) {
        Some(io::ErrorKind::PermissionDenied) => Code::SourceAccess,
        Some(io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Code::SourceNotFound,
        _ if answered(error, &["401", "403"]) => Code::SourceAccess,
        _ if answered(error, &["404"]) => Code::SourceNotFound,
        _ => Code::SourceUnavailable,
    }
}

/// Whether a file stands where a folder was looked for.
pub(super) fn is_below_a_file(error: &StoreError) -> bool {
    io_kind(error) == Some(io::ErrorKind::NotADirectory)
}

/// Whether the local file system failed: its own words say it all, the place apart.
fn is_local(error: &StoreError) -> bool {
    match error {
        StoreError::Generic { store, .. } => *store == LOCAL_STORE,
        StoreError::NotFound { source, .. } | StoreError::PermissionDenied { source, .. } => source.is::<io::Error>(),
        _ => false,
    }
}

/// A file or log that breaks its format.
pub(super) fn corrupt(place: impl Display, why: impl Display) -> Error {
    Error::new(Code::SourceCorrupt, format!("{place}: {}", without_query(&why.to_string())))
        .hint("write the file or the table again, or restore it from a backup")
}

fn io_kind(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    chain(error).find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind)
}

/// The innermost cause says what happened; the outer ones mostly repeat the address.
fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let last = innermost(error).to_string();
    if !text.contains(&last) {
        text = format!("{text}: {last}");
    }
    answer(&text).unwrap_or(text)
}

fn innermost<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    chain(error).last().unwrap_or(error)
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Cuts query strings out of addresses: signed URLs carry their secret there.
pub(super) fn without_query(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(scheme) = rest.find("://") {
        let (before, url) = rest.split_at(scheme + 3);
        kept.push_str(before);
        let end = url.find(|c: char| c.is_whitespace() || "\"')>".contains(c)).unwrap_or(url.len());
        let (address, after) = url.split_at(end);
        kept.push_str(address.split('?').next().unwrap_or_default());
        rest = after;
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_a_store_is_told_without_its_wrapping() {
        let text = "Generic S3 error: Error performing GET http://h/lake in 7.8ms - Server returned non-2xx status \
                    code: 404 Not Found: <?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code></Error>";
        assert_eq!(answer(text).as_deref(), Some("the store answered 404 Not Found (NoSuchBucket)"));
        assert_eq!(answer("status code: 500").as_deref(), Some("the store answered 500"));
        assert_eq!(answer("connection refused"), None);
    }

    #[test]
    fn query_strings_are_cut_out_of_addresses() {
        let text = "GET (https://a.blob/x?sig=SECRET&se=1) failed, then s3://b/y?z=1";
        assert_eq!(without_query(text), "GET (https://a.blob/x) failed, then s3://b/y");
        assert_eq!(without_query("no address? none"), "no address? none");
    }
}
