//! Batches: many keys in one request, answered in the order asked and all of one publish.
//!
//! The body is read by hand. A general reader of JSON would turn numbers into floats, and with them the last digits of
//! keys; it would also take what nobody means, such as two lists of keys.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::key::{Key, Part};
use super::request::BatchQuestion;
use super::table::PublishedTable;
use crate::domain::{Code, Error, Result};

/// One part of a key as it stands in a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// A number, in the digits of the body.
    Number(String),
    /// A string.
    Text(String),
    /// `true` or `false`.
    Boolean(bool),
}

impl Value {
    fn part(&self) -> Part<'_> {
        match self {
            Value::Number(digits) => Part::Number(digits),
            Value::Text(text) => Part::Text(text),
            Value::Boolean(value) => Part::Boolean(*value),
        }
    }
}

/// The keys of a batch, each once, and which of them is asked for where.
#[derive(Debug)]
pub(super) struct Keys {
    /// In the order in which they are first asked for.
    pub(super) distinct: Vec<Key>,
    /// For each place of the answer the index of its key.
    pub(super) places: Vec<usize>,
}

impl Keys {
    /// # Errors
    /// [`Code::BadKey`], naming the place of the key in the body.
    pub(super) fn of(question: &BatchQuestion, table: &PublishedTable) -> Result<Keys> {
        let mut numbers: HashMap<Key, usize> = HashMap::with_capacity(question.keys.len());
        let mut keys = Keys { distinct: Vec::new(), places: Vec::with_capacity(question.keys.len()) };
        for (index, asked) in question.keys.iter().enumerate() {
            let parts: Vec<Part<'_>> = match asked {
                Asked::One(value) => vec![value.part()],
                Asked::Parts(values) => values.iter().map(Value::part).collect(),
            };
            let is_list = matches!(asked, Asked::Parts(_));
            if is_list != (table.key.len() > 1) || parts.len() != table.key.len() {
                return Err(shape(table, index));
            }
            let key = Key::parse_typed(&table.key, &parts)
                .map_err(|error| Error::new(error.code(), format!("keys[{index}]: {}", error.detail())))?;
            let next = keys.distinct.len();
            let number = match numbers.entry(key) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    keys.distinct.push(new.key().clone());
                    *new.insert(next)
                }
            };
            keys.places.push(number);
        }
        Ok(keys)
    }
}

fn shape(table: &PublishedTable, index: usize) -> Error {
    let names: Vec<&str> = table.key.iter().map(|column| column.name.as_str()).collect();
    let hint = match names.as_slice() {
        [one] => format!("write the values of `{one}`: {{\"keys\": [1, 2]}}"),
        _ => format!("write lists of [{}]: {{\"keys\": [[1, 1], [1, 2]]}}", names.join(", ")),
    };
    Error::new(Code::BadKey, format!("keys[{index}] is not of the form of a key of `{}`", table.name)).hint(hint)
}

/// One key as it stands in a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// A value alone.
    One(Value),
    /// A list of values.
    Parts(Vec<Value>),
}

/// Reads `{"keys": […]}`, `most` keys at most.
///
/// # Errors
/// [`Code::BadBody`] with the place in bytes where the body is something else; [`Code::TooLarge`] for more keys.
pub(super) fn read_body(body: &[u8], most: u32) -> Result<Vec<Asked>> {
    let text = std::str::from_utf8(body).map_err(|error| unexpected("UTF-8", error.valid_up_to()))?;
    let mut reader = BodyReader { text, at: 0 };
    reader.take(b'{')?;
    let name = reader.string()?;
    if name != "keys" {
        return Err(Error::new(Code::BadBody, "the body has another member than `keys`").hint(HINT));
    }
    reader.take(b':')?;
    let mut keys = Vec::new();
    reader.list(|reader| {
        if keys.len() >= most as usize {
            return Err(Error::new(Code::TooLarge, format!("a batch has {most} keys at most"))
                .hint("ask in several batches; the operator sets the bound with `limits.batch_keys_max`"));
        }
        keys.push(if reader.peek() == Some(b'[') {
            let mut parts = Vec::new();
            reader.list(|reader| {
                // No key has more columns than an index can hold.
                if parts.len() >= MAX_PARTS {
                    return Err(unexpected("`]`", reader.at));
                }
                parts.push(reader.value()?);
                Ok(())
            })?;
            Asked::Parts(parts)
        } else {
            Asked::One(reader.value()?)
        });
        Ok(())
    })?;
    reader.take(b'}')?;
    match reader.peek() {
        None => Ok(keys),
        Some(_) => Err(unexpected("the end of the body", reader.at)),
    }
}

/// The most columns of an index.
const MAX_PARTS: usize = 32;

const HINT: &str = "the body is {\"keys\": [1, 2]}, or {\"keys\": [[1, 1], [1, 2]]} where the key has several columns";

fn unexpected(wanted: &str, at: usize) -> Error {
    Error::new(Code::BadBody, format!("{wanted} is expected at byte {at} of the body")).hint(HINT)
}

struct BodyReader<'a> {
    text: &'a str,
    at: usize,
}

impl BodyReader<'_> {
    /// The next byte that is not white space, without taking it.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Result<()> {
        if self.peek() != Some(byte) {
            return Err(unexpected(&format!("`{}`", byte as char), self.at));
        }
        self.at += 1;
        Ok(())
    }

    fn list(&mut self, mut element: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.take(b'[')?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            element(self)?;
            if self.peek() == Some(b']') {
                self.at += 1;
                return Ok(());
            }
            self.take(b',')?;
        }
    }

    fn value(&mut self) -> Result<Value> {
        match self.peek() {
            Some(b'"') => Ok(Value::Text(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                for (word, value) in [("true", true), ("false", false)] {
                    if self.text[self.at..].starts_with(word) {
                        self.at += word.len();
                        return Ok(Value::Boolean(value));
                    }
                }
                Err(unexpected("a value of a key (a number, a string, `true` or `false`)", self.at))
            }
        }
    }

    fn string(&mut self) -> Result<String> {
        if self.peek() != Some(b'"') {
            return Err(unexpected("a string", self.at));
        }
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut end = start + 1;
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(_) => end += 1,
                None => return Err(unexpected("the end of a string", bytes.len())),
            }
        }
        self.at = end + 1;
        let quoted = self.text.get(start..=end).ok_or_else(|| unexpected("a string", start))?;
        serde_json::from_str(quoted).map_err(|_| unexpected("a string without bad escapes", start))
    }

    /// A number by the grammar of JSON, its text unchanged.
    fn number(&mut self) -> Result<Value> {
        let start = self.at;
        let rest = &self.text.as_bytes()[start..];
        let digits = |from: usize| rest[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut end = usize::from(rest.first() == Some(&b'-'));
        let whole = digits(end);
        if whole == 0 || (whole > 1 && rest[end] == b'0') {
            return Err(unexpected("a number", start));
        }
        end += whole;
        if rest.get(end) == Some(&b'.') {
            let fraction = digits(end + 1);
            if fraction == 0 {
                return Err(unexpected("a digit", start + end + 1));
            }
            end += 1 + fraction;
        }
        if matches!(rest.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(rest.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + sign);
            if exponent == 0 {
                return Err(unexpected("a digit", start + end + 1 + sign));
            }
            end += 1 + sign + exponent;
        }
        self.at = start + end;
        Ok(Value::Number(self.text[start..self.at].to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::table::tests::table;
    use proptest::prelude::*;

    fn read(body: &str) -> Result<Vec<Asked>> {
        read_body(body.as_bytes(), 5)
    }

    fn number(digits: &str) -> Value {
        Value::Number(digits.to_owned())
    }

    #[test]
    fn values_keep_all_their_digits() {
        let long = "123456789012345678901234567890.0100e-5";
        let body = format!(" {{ \"keys\" : [ {long},\t-0, \"a\\u0041\\n\", true,false ] }}\n");
        let text = Value::Text("aA\n".to_owned());
        let values = [number(long), number("-0"), text, Value::Boolean(true), Value::Boolean(false)];
        assert_eq!(read(&body).unwrap(), values.map(Asked::One));
        assert_eq!(read(r#"{"keys":[]}"#).unwrap(), []);
        assert_eq!(
            read(r#"{"keys":[[1,"x"],[]]}"#).unwrap(),
            [Asked::Parts(vec![number("1"), Value::Text("x".to_owned())]), Asked::Parts(vec![])]
        );
    }

    #[test]
    fn anything_but_a_list_of_keys_is_refused() {
        for body in [
            "",
            "[]",
            "{}",
            r#"{"keys":1}"#,
            r#"{"keys":[1,]}"#,
            r#"{"keys":[1 2]}"#,
            r#"{"keys":[1]} x"#,
            r#"{"keys":[1],"keys":[2]}"#,
            r#"{"keys":[1],"more":[2]}"#,
            r#"{"key":[1]}"#,
            r#"{"keys":[null]}"#,
            r#"{"keys":[{}]}"#,
            r#"{"keys":[[[1]]]}"#,
            r#"{"keys":[01]}"#,
            r#"{"keys":[+1]}"#,
            r#"{"keys":[1.]}"#,
            r#"{"keys":[1e]}"#,
            r#"{"keys":[.5]}"#,
            r#"{"keys":[NaN]}"#,
            r#"{"keys":["\x"]}"#,
            "{\"keys\":[\"\n\"]}",
            r#"{"keys":["a]}"#,
            r#"{"keys":["\"#,
            r#"{"keys":[truee]}"#,
        ] {
            assert_eq!(read(body).unwrap_err().code(), Code::BadBody, "{body}");
        }
        assert_eq!(read_body(b"{\"keys\":[\"\xff\"]}", 5).unwrap_err().code(), Code::BadBody);
    }

    #[test]
    fn one_key_too_many_is_refused() {
        assert_eq!(read(r#"{"keys":[1,2,3,4,5]}"#).unwrap().len(), 5);
        assert_eq!(read(r#"{"keys":[1,2,3,4,5,6]}"#).unwrap_err().code(), Code::TooLarge);
    }

    #[test]
    fn a_key_that_is_asked_for_again_is_looked_up_once() {
        let table = table(1, "orders");
        let keys = read(r#"{"keys":[7,8,7.0,"8",0.7e1]}"#).unwrap();
        let question = BatchQuestion { keys, ..BatchQuestion::default() };
        let keys = Keys::of(&question, &table).unwrap();
        assert_eq!((keys.distinct.len(), keys.places), (2, vec![0, 1, 0, 1, 0]));
    }

    #[test]
    fn keys_of_another_form_are_refused_with_their_place() {
        let table = table(1, "orders");
        for (body, place) in [
            (r#"{"keys":[1,[2]]}"#, 1),
            (r#"{"keys":["x"]}"#, 0),
            (r#"{"keys":[1.5]}"#, 0),
            (r#"{"keys":[1,1e99]}"#, 1),
            (r#"{"keys":[1,true]}"#, 1),
        ] {
            let question = BatchQuestion { keys: read(body).unwrap(), ..BatchQuestion::default() };
            let error = Keys::of(&question, &table).unwrap_err();
            assert_eq!(error.code(), Code::BadKey, "{body}");
            assert!(error.detail().starts_with(&format!("keys[{place}]")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn foreign_bodies_never_panic(body: Vec<u8>, text in r#"[\{\}\[\],:"\\a-z0-9eE+. -]{0,40}"#) {
            let _ = read_body(&body, 5);
            let _ = read(&text);
            let _ = read(&format!("{{\"keys\":[{text}]}}"));
        }

        #[test]
        fn what_is_read_is_json(text in r#"[\[\],"\\a-u0-9eE+. -]{0,20}"#) {
            let body = format!("{{\"keys\":[{text}]}}");
            if read(&body).is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{}", body);
            }
        }

        #[test]
        fn strings_read_back(text: String) {
            let body = format!("{{\"keys\":[{}]}}", serde_json::to_string(&text).unwrap());
            prop_assert_eq!(read(&body).unwrap(), [Asked::One(Value::Text(text))]);
        }
    }
}
