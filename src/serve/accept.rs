//! Which format and which encoding of an answer a client takes.

use axum::http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::{Code, Error, Result};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// The envelope with the rows as JSON objects.
    #[default]
    Json,
    /// The same, with decimals, and integers that a double does not hold, as strings.
    JsonStrings,
    /// A JSON object a line.
    Ndjson,
    /// RFC 4180, with a line of names.
    Csv,
    /// A stream of Arrow IPC.
    Arrow,
}

impl Format {
    /// All, the one that is given to whoever does not mind first.
    pub(super) const ALL: [Format; 5] = [Format::Json, Format::JsonStrings, Format::Ndjson, Format::Csv, Format::Arrow];

    /// The media type without parameters, and what else it is known as.
    fn names(self) -> &'static [&'static str] {
        match self {
            Format::Json | Format::JsonStrings => &["application/json"],
            Format::Ndjson => &["application/x-ndjson", "application/ndjson"],
            Format::Csv => &["text/csv"],
            Format::Arrow => &["application/vnd.apache.arrow.stream"],
        }
    }

    /// The media type as clients ask for it.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Format::JsonStrings => "application/json; numbers=string",
            _ => self.names()[0],
        }
    }

    /// The type of an answer in this format.
    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Format::Json => "application/json",
            Format::JsonStrings => "application/json; numbers=string",
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Arrow => "application/vnd.apache.arrow.stream",
        })
    }

    /// The format that the `Accept` header weighs most.
    ///
    /// # Errors
    /// [`Code::NotAcceptable`] when it leaves out all.
    pub(super) fn of(headers: &HeaderMap) -> Result<Format> {
        let mut values = headers.get_all(ACCEPT).iter();
        // The common case costs no walk through the ranges.
        match (values.next().map(HeaderValue::as_bytes), values.next()) {
            (None, _) | (Some(b"*/*" | b"application/json"), None) => return Ok(Format::Json),
            _ => {}
        }
        let ranges: Vec<Range> = elements(headers, &ACCEPT).map(Range::read).collect();
        if ranges.is_empty() {
            return Ok(Format::Json);
        }
        let mut best = (0, None);
        for format in Format::ALL {
            let closest = ranges.iter().filter_map(|range| Some((range.closeness(format)?, range.weight)));
            // Of ranges that name it equally closely the first one counts.
            let weight = closest.reduce(|first, next| if next.0 > first.0 { next } else { first });
            if let Some((_, weight)) = weight
                && weight > best.0
            {
                best = (weight, Some(format));
            }
        }
        best.1.ok_or_else(|| {
            Error::new(Code::NotAcceptable, "no format that is accepted is to be had").hint(
                "there are application/json, application/json; numbers=string, application/x-ndjson, text/csv and \
                 application/vnd.apache.arrow.stream",
            )
        })
    }

    /// Whether a row in it is its JSON, so that what lookups give will do.
    pub(super) fn is_made_of_json(self) -> bool {
        matches!(self, Format::Json | Format::Ndjson)
    }
}

/// The elements of a header that is a list.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().flat_map(|value| value.to_str().unwrap_or_default().split(','));
    values.map(str::trim).filter(|element| !element.is_empty())
}

/// One element of `Accept`.
struct Range {
    media: String,
    /// Whether it asks for numbers as strings.
    strings: bool,
    /// Whether it has parameters that no format has.
    foreign: bool,
    /// In thousandths.
    weight: u16,
}

impl Range {
    fn read(text: &str) -> Range {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let mut range = Range { media, strings: false, foreign: false, weight: 1000 };
        for parameter in parts.filter(|parameter| !parameter.is_empty()) {
            let parameter = parameter.to_ascii_lowercase().replace(['"', ' '], "");
            match parameter.split_once('=') {
                Some(("q", value)) => range.weight = weight(value),
                Some(("charset", "utf-8" | "utf8") | ("header", "present")) => {}
                Some(("numbers", "string")) => range.strings = true,
                _ => range.foreign = true,
            }
        }
        range
    }

    /// How closely it names a format; `None` = not at all.
    fn closeness(&self, format: Format) -> Option<u8> {
        if self.foreign || (self.strings && format != Format::JsonStrings) {
            return None;
        }
        let names = format.names();
        if names.contains(&self.media.as_str()) {
            return Some(if self.strings { 4 } else { 3 });
        }
        let (kind, subtype) = self.media.split_once('/')?;
        match (kind, subtype) {
            ("*", "*") => Some(1),
            (kind, "*") => names.iter().any(|name| name.split('/').next() == Some(kind)).then_some(2),
            _ => None,
        }
    }
}

/// A weight in thousandths; what is none weighs nothing.
fn weight(text: &str) -> u16 {
    let value: f32 = text.trim().parse().unwrap_or(0.0);
    if (0.0..=1.0).contains(&value) { (value * 1000.0) as u16 } else { 0 }
}

/// How the bytes of an answer are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Zstandard, RFC 8878.
    Zstd,
    /// Brotli, RFC 7932.
    Brotli,
    /// RFC 1952.
    Gzip,
}

impl Encoding {
    /// All, the cheapest for what it saves first.
    pub(super) const ALL: [Encoding; 3] = [Encoding::Zstd, Encoding::Brotli, Encoding::Gzip];

    pub(super) fn name(self) -> &'static str {
        match self {
            Encoding::Zstd => "zstd",
            Encoding::Brotli => "br",
            Encoding::Gzip => "gzip",
        }
    }

    /// The encoding that the `Accept-Encoding` header weighs most; `None` = none is taken, or no encoding is preferred.
    pub(super) fn of(headers: &HeaderMap) -> Option<Encoding> {
        headers.get(ACCEPT_ENCODING)?;
        let weight_of = |wanted: &str| {
            let mut any = None;
            for element in elements(headers, &ACCEPT_ENCODING) {
                let mut parts = element.split(';').map(str::trim);
                let name = parts.next().unwrap_or_default();
                let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1000, weight);
                if name.eq_ignore_ascii_case(wanted) || (wanted == "gzip" && name.eq_ignore_ascii_case("x-gzip")) {
                    return Some(weight);
                }
                if name == "*" {
                    any = Some(weight);
                }
            }
            any
        };
        let mut best = (0, None);
        for encoding in Encoding::ALL {
            let weight = weight_of(encoding.name()).unwrap_or(0);
            if weight > best.0 {
                best = (weight, Some(encoding));
            }
        }
        // Only who says so prefers bytes as they are.
        let plain =
            elements(headers, &ACCEPT_ENCODING).any(|element| element.to_ascii_lowercase().starts_with("identity"));
        let plain = if plain { weight_of("identity").unwrap_or(0) } else { 0 };
        best.1.filter(|_| best.0 >= plain)
    }
}

/// Whether a body says that it is JSON, and not compressed.
///
/// # Errors
/// [`Code::MediaTypeRefused`] for any other type, or none, and for any encoding.
pub(super) fn body_is_json(headers: &HeaderMap) -> Result<()> {
    if headers.get_all(CONTENT_ENCODING).iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Error::new(Code::MediaTypeRefused, "the body must not be compressed")
            .hint("send it as it is, without `Content-Encoding`"));
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let text = types.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let range = Range::read(text);
    let plain = range.media == "application/json" && !range.strings && !range.foreign && !text.contains("q=");
    if plain && types.next().is_none() {
        return Ok(());
    }
    Err(Error::new(Code::MediaTypeRefused, "the body must be JSON").hint("send `Content-Type: application/json`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn the_format_is_the_one_that_weighs_most() {
        for (accept, format) in [
            ("application/json", Some(Format::Json)),
            ("*/*", Some(Format::Json)),
            ("", Some(Format::Json)),
            ("text/html, application/*;q=0.5", Some(Format::Json)),
            ("Application/JSON; charset=utf-8", Some(Format::Json)),
            ("application/json; numbers=string", Some(Format::JsonStrings)),
            ("application/json;numbers=\"string\";q=0.5, text/csv;q=0.4", Some(Format::JsonStrings)),
            ("application/json;q=0, application/json;numbers=string", Some(Format::JsonStrings)),
            ("text/csv", Some(Format::Csv)),
            ("text/*", Some(Format::Csv)),
            ("text/csv; header=present", Some(Format::Csv)),
            ("text/csv; header=absent", None),
            ("text/csv;q=0.5, application/x-ndjson;q=0.6", Some(Format::Ndjson)),
            ("application/ndjson", Some(Format::Ndjson)),
            ("application/vnd.apache.arrow.stream, */*;q=0.1", Some(Format::Arrow)),
            ("application/json;q=0, */*", Some(Format::Ndjson)),
            ("text/csv;q=1, application/json;q=0.0", Some(Format::Csv)),
            ("application/xml", None),
            ("application/json; numbers=words", None),
            ("*/*;q=0", None),
            ("application/json;q=x", None),
        ] {
            assert_eq!(Format::of(&headers(ACCEPT, &[accept])).ok(), format, "{accept}");
        }
        assert_eq!(Format::of(&HeaderMap::new()).unwrap(), Format::Json);
        assert_eq!(Format::of(&headers(ACCEPT, &["text/html", "text/csv"])).unwrap(), Format::Csv);
    }

    #[test]
    fn the_encoding_is_the_one_that_weighs_most() {
        for (accept, encoding) in [
            ("gzip, deflate, br, zstd", Some(Encoding::Zstd)),
            ("gzip, deflate, br", Some(Encoding::Brotli)),
            ("gzip", Some(Encoding::Gzip)),
            ("x-gzip", Some(Encoding::Gzip)),
            ("GZIP;q=0.5, br;q=0.4", Some(Encoding::Gzip)),
            ("gzip;q=0", None),
            ("*", Some(Encoding::Zstd)),
            ("zstd;q=0, *;q=0.5", Some(Encoding::Brotli)),
            ("identity", None),
            ("identity;q=0.5, gzip;q=0.4", None),
            ("identity;q=0.4, gzip;q=0.5", Some(Encoding::Gzip)),
            ("deflate", None),
            ("", None),
        ] {
            assert_eq!(Encoding::of(&headers(ACCEPT_ENCODING, &[accept])), encoding, "{accept}");
        }
        assert_eq!(Encoding::of(&HeaderMap::new()), None);
    }

    #[test]
    fn a_body_is_json_if_it_says_so() {
        for (value, taken) in [
            ("application/json", true),
            ("application/json; charset=UTF-8", true),
            ("application/json; charset=latin1", false),
            ("application/json; numbers=string", false),
            ("application/json;q=1", false),
            ("application/*", false),
            ("text/json", false),
            ("text/plain", false),
            ("", false),
        ] {
            assert_eq!(body_is_json(&headers(CONTENT_TYPE, &[value])).is_ok(), taken, "{value}");
        }
        assert!(body_is_json(&HeaderMap::new()).is_err());
        let encoded = |encoding: &str| {
            let mut headers = headers(CONTENT_TYPE, &["application/json"]);
            headers.insert(CONTENT_ENCODING, HeaderValue::from_str(encoding).unwrap());
            body_is_json(&headers)
        };
        assert!(encoded("identity").is_ok());
        assert!(encoded("gzip").unwrap_err().detail().contains("compressed"));
        assert!(body_is_json(&headers(CONTENT_TYPE, &["application/json", "application/json"])).is_err());
    }
}
