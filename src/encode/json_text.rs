//! JSON text, read as strictly as `jsonb` reads it, and more: what `jsonb` would drop silently is refused.

use std::borrow::Cow;
use std::collections::HashSet;

use super::bad_row::Fault;
use crate::domain::Code;

/// The longest text, a little above what jsonb can hold, and the longest string in it.
pub(super) const MAX_BYTES: usize = (1 << 28) - 1;
/// Postgres gives up at a depth that depends on its stack.
const MAX_DEPTH: usize = 512;
/// Digits that `numeric` can hold before and after the point.
const MAX_INTEGER_DIGITS: i64 = 131_072;
const MAX_FRACTION_DIGITS: i64 = 16_383;

pub(super) const INVALID: Fault = Fault::new(Code::InvalidText, "the text is not JSON");
pub(super) const TOO_LARGE: Fault = Fault::new(Code::RowTooLarge, "the JSON is larger than jsonb can hold");
const TOO_DEEP: Fault = Fault::new(Code::RowTooLarge, "the JSON is nested too deeply");
const TOO_MANY_DIGITS: Fault = Fault::new(Code::OutOfRange, "a number in the JSON has too many digits");
const DUPLICATE: Fault = Fault::new(Code::LossyCast, "an object in the JSON has the same member twice");

/// What a reader of JSON text is told.
pub(super) enum Event<'a> {
    Null,
    Boolean(bool),
    /// A number as it is spelled.
    Number(&'a str),
    String(Cow<'a, str>),
    BeginArray,
    EndArray,
    BeginObject,
    /// The name of the member that follows.
    Name(Cow<'a, str>),
    EndObject,
}

/// Whether jsonb can hold the text without losing anything.
pub(super) fn check(text: &[u8]) -> Result<(), Fault> {
    read(text, &mut |_| ())
}

/// Reads a text and tells what it holds, in order.
pub(super) fn read<'a>(text: &'a [u8], tell: &mut dyn FnMut(Event<'a>)) -> Result<(), Fault> {
    if text.len() > MAX_BYTES {
        return Err(TOO_LARGE);
    }
    let mut reader = Reader { text: std::str::from_utf8(text).map_err(|_| INVALID)?, at: 0, tell };
    reader.value(0)?;
    reader.space();
    if reader.at == reader.text.len() { Ok(()) } else { Err(INVALID) }
}

struct Reader<'a, 't> {
    text: &'a str,
    at: usize,
    tell: &'t mut dyn FnMut(Event<'a>),
}

impl<'a> Reader<'a, '_> {
    fn value(&mut self, depth: usize) -> Result<(), Fault> {
        if depth > MAX_DEPTH {
            return Err(TOO_DEEP);
        }
        self.space();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => {
                let string = self.string()?;
                (self.tell)(Event::String(string));
                Ok(())
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Event::Boolean(true)),
            Some(b'f') => self.word("false", Event::Boolean(false)),
            Some(b'n') => self.word("null", Event::Null),
            _ => Err(INVALID),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), Fault> {
        self.require(b'{')?;
        (self.tell)(Event::BeginObject);
        let mut names = HashSet::new();
        self.space();
        if !self.take(b'}') {
            loop {
                self.space();
                let name = self.string()?;
                if !names.insert(name.clone()) {
                    return Err(DUPLICATE);
                }
                (self.tell)(Event::Name(name));
                self.space();
                self.require(b':')?;
                self.value(depth + 1)?;
                self.space();
                if !self.take(b',') {
                    break;
                }
            }
            self.require(b'}')?;
        }
        (self.tell)(Event::EndObject);
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), Fault> {
        self.require(b'[')?;
        (self.tell)(Event::BeginArray);
        self.space();
        if !self.take(b']') {
            loop {
                self.value(depth + 1)?;
                self.space();
                if !self.take(b',') {
                    break;
                }
            }
            self.require(b']')?;
        }
        (self.tell)(Event::EndArray);
        Ok(())
    }

    fn number(&mut self) -> Result<(), Fault> {
        let start = self.at;
        self.take(b'-');
        let integer = self.digits();
        let has_leading_zero = integer.len() > 1 && integer.starts_with('0');
        if integer.is_empty() || has_leading_zero {
            return Err(INVALID);
        }
        let mut fraction_digits = 0;
        if self.take(b'.') {
            fraction_digits = self.digits().len() as i64;
            if fraction_digits == 0 {
                return Err(INVALID);
            }
        }
        let mut exponent = 0;
        if self.take(b'e') || self.take(b'E') {
            let negative = self.take(b'-');
            if !negative {
                self.take(b'+');
            }
            let digits = self.digits();
            if digits.is_empty() {
                return Err(INVALID);
            }
            let size: i64 = digits.parse().unwrap_or(i64::from(i32::MAX)).min(i64::from(i32::MAX));
            exponent = if negative { -size } else { size };
        }
        let too_long = integer.len() as i64 + exponent > MAX_INTEGER_DIGITS;
        if too_long || fraction_digits - exponent > MAX_FRACTION_DIGITS {
            return Err(TOO_MANY_DIGITS);
        }
        let number = self.text.get(start..self.at).ok_or(INVALID)?;
        (self.tell)(Event::Number(number));
        Ok(())
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.require(b'"')?;
        let mut unescaped = String::new();
        let mut start = self.at;
        loop {
            let byte = self.peek().ok_or(INVALID)?;
            match byte {
                b'"' => {
                    let rest = self.text.get(start..self.at).ok_or(INVALID)?;
                    self.at += 1;
                    if unescaped.is_empty() {
                        return Ok(Cow::Borrowed(rest));
                    }
                    unescaped.push_str(rest);
                    return Ok(Cow::Owned(unescaped));
                }
                b'\\' => {
                    unescaped.push_str(self.text.get(start..self.at).ok_or(INVALID)?);
                    self.at += 1;
                    unescaped.push(self.escape()?);
                    start = self.at;
                }
                0..=0x1f => return Err(INVALID),
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        let byte = self.peek().ok_or(INVALID)?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.code_unit()?;
                let code = if (0xd800..0xdc00).contains(&unit) {
                    self.require(b'\\')?;
                    self.require(b'u')?;
                    let low = self.code_unit()?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(INVALID);
                    }
                    0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
                } else {
                    unit
                };
                match char::from_u32(code) {
                    Some('\0') => return Err(Fault::NUL),
                    Some(character) => character,
                    None => return Err(INVALID),
                }
            }
            _ => return Err(INVALID),
        })
    }

    fn code_unit(&mut self) -> Result<u32, Fault> {
        let hex = self.text.get(self.at..self.at + 4).ok_or(INVALID)?;
        if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(INVALID);
        }
        self.at += 4;
        u32::from_str_radix(hex, 16).map_err(|_| INVALID)
    }

    fn word(&mut self, word: &str, event: Event<'a>) -> Result<(), Fault> {
        if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(INVALID);
        }
        self.at += word.len();
        (self.tell)(event);
        Ok(())
    }

    fn digits(&mut self) -> &'a str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest.bytes().take_while(u8::is_ascii_digit).count();
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    fn require(&mut self, byte: u8) -> Result<(), Fault> {
        if self.take(byte) { Ok(()) } else { Err(INVALID) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_jsonb_accepts() {
        for text in [
            "null",
            " [ ] ",
            "{}",
            r#"{"a":1,"b":[true,false,null,-0.5e+3]}"#,
            r#""\u00e4\ud83d\ude00\/\b""#,
            "1E400",
            r#"{"":{"":""}}"#,
            "0",
            "-0.0",
        ] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn refuses_what_jsonb_refuses() {
        for text in [
            "",
            "nul",
            "[1,]",
            "{,}",
            r#"{"a"}"#,
            "01",
            "1.",
            ".5",
            "+1",
            "--1",
            "1e",
            "'a'",
            "\"\t\"",
            r#""\x""#,
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\u0041""#,
            "[1] 2",
            "\"",
            "NaN",
            r#"{"a":1"#,
            r#""\u00+1""#,
        ] {
            assert_eq!(check(text.as_bytes()), Err(INVALID), "{text}");
        }
        assert_eq!(check(br#""a\u0000b""#), Err(Fault::NUL));
        assert_eq!(check(b"1e131073"), Err(TOO_MANY_DIGITS));
        assert_eq!(check(b"1e-16384"), Err(TOO_MANY_DIGITS));
        assert_eq!(check(b"1e99999999999999999999"), Err(TOO_MANY_DIGITS));
        assert_eq!(check("[".repeat(600).as_bytes()), Err(TOO_DEEP));
    }

    #[test]
    fn refuses_what_jsonb_would_drop() {
        assert_eq!(check(br#"{"a":1,"\u0061":2}"#), Err(DUPLICATE));
        assert_eq!(check(br#"{"a":{"a":1}}"#), Ok(()));
    }
}
