//! The body of every answer: `{"data": […], "error": […]}`, and `"next"` for a page.

use serde::Serialize;

use super::json::{RowJson, write_string};
use crate::domain::{Code, Error};

/// An error as a client sees it.
#[derive(Serialize)]
struct Problem<'a> {
    code: String,
    title: &'a str,
    detail: &'a str,
    hint: Option<&'a str>,
}

/// One row, with all shown columns or with these.
pub(super) fn row(row: &RowJson, columns: Option<&[usize]>) -> Vec<u8> {
    let mut body = Vec::with_capacity(row.len() + 32);
    body.extend_from_slice(br#"{"data":["#);
    row.append_to(&mut body, columns);
    body.extend_from_slice(br#"],"error":[]}"#);
    body
}

/// What comes after the rows of an answer.
#[derive(Debug)]
pub(super) enum Next {
    /// They are no page.
    NoPage,
    /// They are the last page.
    None,
    /// Another page, by this cursor.
    At(String),
}

/// An answer of several rows while it grows: an entry for each row, or for each key of a batch, `null` where there is no
/// row, and each of those among the errors with its index.
#[derive(Default)]
pub(super) struct Envelope {
    entries: Vec<u8>,
    misses: Vec<u8>,
    count: usize,
}

impl Envelope {
    /// Where the next row is to be written.
    pub(super) fn entry(&mut self) -> &mut Vec<u8> {
        let head: &[u8] = if self.count == 0 { br#"{"data":["# } else { b"," };
        self.entries.extend_from_slice(head);
        self.count += 1;
        &mut self.entries
    }

    /// The next key has no row.
    pub(super) fn miss(&mut self, detail: &str) {
        let index = self.count;
        self.entry().extend_from_slice(b"null");
        if !self.misses.is_empty() {
            self.misses.push(b',');
        }
        let (code, title) = (Code::RowNotFound.to_string(), Code::RowNotFound.title());
        // Writing strings into memory cannot fail.
        let _ = serde_json::to_writer(&mut self.misses, &Miss { code, title, detail, hint: None, index });
    }

    /// The bytes so far.
    pub(super) fn len(&self) -> usize {
        self.entries.len() + self.misses.len()
    }

    /// The body.
    pub(super) fn finish(self, next: &Next) -> Vec<u8> {
        let Envelope { entries: mut body, mut misses, count } = self;
        if count == 0 {
            body.extend_from_slice(br#"{"data":["#);
        }
        body.extend_from_slice(br#"],"error":["#);
        body.append(&mut misses);
        body.push(b']');
        match next {
            Next::NoPage => {}
            Next::None => body.extend_from_slice(br#","next":null"#),
            Next::At(cursor) => {
                body.extend_from_slice(br#","next":"#);
                write_string(&mut body, cursor.as_bytes());
            }
        }
        body.push(b'}');
        body
    }
}

/// A key of a batch that has no row.
#[derive(Serialize)]
struct Miss<'a> {
    code: String,
    title: &'a str,
    detail: &'a str,
    hint: Option<&'a str>,
    index: usize,
}

/// An error. Only what the read API itself says (`LG6…`) is told in its own words; of everything else, no more than
/// that it is a defect: text of Postgres or of the file system never reaches a client.
pub(super) fn problem(error: &Error) -> Vec<u8> {
    let code = public_code(error);
    let (detail, hint) = if code == error.code() {
        (error.detail(), error.advice())
    } else {
        ("the answer could not be made", Some("ask the operator to look for the request's id in the server's log"))
    };
    let problem = Problem { code: code.to_string(), title: code.title(), detail, hint };
    let mut body = br#"{"data":[],"error":["#.to_vec();
    // Writing strings into memory cannot fail.
    let _ = serde_json::to_writer(&mut body, &problem);
    body.extend_from_slice(b"]}");
    body
}

/// The code that a client sees: that of the error if the read API made it, else that of a defect.
pub(super) fn public_code(error: &Error) -> Code {
    if (6000..7000).contains(&error.code().number()) { error.code() } else { Code::Internal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_other_layers_never_reaches_a_client() {
        let body = problem(&Error::new(Code::PostgresRefused, "relation \"secret\" does not exist").hint("see pg_hba"));
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains("LG0001") && !body.contains("secret") && !body.contains("pg_hba"), "{body}");
    }

    #[test]
    fn a_refusal_of_the_read_api_is_told_in_its_own_words() {
        let body = problem(&Error::new(Code::BadKey, "a \"key\"").hint("do so"));
        assert_eq!(
            String::from_utf8(body).unwrap(),
            r#"{"data":[],"error":[{"code":"LG6003","title":"The key is not valid","detail":"a \"key\"","hint":"do so"}]}"#
        );
    }

    #[test]
    fn a_page_says_whether_there_is_more() {
        assert_eq!(Envelope::default().finish(&Next::None), br#"{"data":[],"error":[],"next":null}"#);
        let mut page = Envelope::default();
        page.entry().extend_from_slice(b"{}");
        assert_eq!(page.finish(&Next::At("x".to_owned())), br#"{"data":[{}],"error":[],"next":"x"}"#);
    }
}
