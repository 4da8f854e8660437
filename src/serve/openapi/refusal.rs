//! Answers that are errors, and the headers of answers.

use serde_json::{Map, Value, json};

use crate::domain::Code;

/// An answer that is an error: one status, and the codes that it comes with.
pub(super) struct Refusal {
    /// Its name among the components.
    pub(super) name: &'static str,
    pub(super) status: u16,
    pub(super) codes: &'static [Code],
}

const fn refusal(name: &'static str, status: u16, codes: &'static [Code]) -> Refusal {
    Refusal { name, status, codes }
}

const BAD_REQUEST: Refusal = refusal("BadRequest", 400, &[Code::BadKey, Code::UnknownColumn, Code::BadParameter]);
const BAD_BATCH: Refusal =
    refusal("BadBatch", 400, &[Code::BadKey, Code::UnknownColumn, Code::BadParameter, Code::BadBody]);
const UNAUTHORIZED: Refusal = refusal(
    "Unauthorized",
    401,
    &[Code::CredentialMissing, Code::CredentialWrong, Code::CredentialExpired, Code::CredentialRevoked],
);
const NO_SUCH_ROW: Refusal = refusal("NoSuchRow", 404, &[Code::TableNotFound, Code::RowNotFound]);
const NO_SUCH_TABLE: Refusal = refusal("NoSuchTable", 404, &[Code::TableNotFound]);
const NOT_ACCEPTABLE: Refusal = refusal("NotAcceptable", 406, &[Code::NotAcceptable]);
const STALE_CURSOR: Refusal = refusal("StaleCursor", 409, &[Code::StaleCursor]);
const TOO_LARGE: Refusal = refusal("TooLarge", 413, &[Code::TooLarge]);
const NOT_JSON: Refusal = refusal("NotJson", 415, &[Code::MediaTypeRefused]);
const OTHER_HOST: Refusal = refusal("OtherHost", 421, &[Code::HostRefused]);
const RATE_LIMITED: Refusal = refusal("RateLimited", 429, &[Code::RateLimited]);
/// Answered by the HTTP library, without a body.
const LONG_HEAD: Refusal = refusal("LongHead", 431, &[]);
const DEFECT: Refusal = refusal("Defect", 500, &[Code::Internal]);
const UNAVAILABLE: Refusal = refusal("Unavailable", 503, &[Code::Unavailable, Code::Overloaded, Code::TooStale]);
const UNKNOWN: Refusal = refusal("Unknown", 503, &[Code::Unavailable]);

/// All of them.
const ALL: &[Refusal] = &[
    BAD_REQUEST,
    BAD_BATCH,
    UNAUTHORIZED,
    NO_SUCH_ROW,
    NO_SUCH_TABLE,
    NOT_ACCEPTABLE,
    STALE_CURSOR,
    TOO_LARGE,
    NOT_JSON,
    OTHER_HOST,
    RATE_LIMITED,
    LONG_HEAD,
    DEFECT,
    UNAVAILABLE,
    UNKNOWN,
];

/// What may be refused to a request for a row.
pub(super) const OF_ROW: &[Refusal] = &[
    BAD_REQUEST,
    UNAUTHORIZED,
    NO_SUCH_ROW,
    NOT_ACCEPTABLE,
    TOO_LARGE,
    OTHER_HOST,
    RATE_LIMITED,
    LONG_HEAD,
    DEFECT,
    UNAVAILABLE,
];

/// For a page.
pub(super) const OF_PAGE: &[Refusal] = &[
    BAD_REQUEST,
    UNAUTHORIZED,
    NO_SUCH_TABLE,
    NOT_ACCEPTABLE,
    STALE_CURSOR,
    TOO_LARGE,
    OTHER_HOST,
    RATE_LIMITED,
    LONG_HEAD,
    DEFECT,
    UNAVAILABLE,
];

/// For either, by the number of its parts.
pub(super) const OF_ROW_OR_PAGE: &[Refusal] = &[
    BAD_REQUEST,
    UNAUTHORIZED,
    NO_SUCH_ROW,
    NOT_ACCEPTABLE,
    STALE_CURSOR,
    TOO_LARGE,
    OTHER_HOST,
    RATE_LIMITED,
    LONG_HEAD,
    DEFECT,
    UNAVAILABLE,
];

/// For a batch.
pub(super) const OF_BATCH: &[Refusal] = &[
    BAD_BATCH,
    UNAUTHORIZED,
    NO_SUCH_TABLE,
    NOT_ACCEPTABLE,
    TOO_LARGE,
    NOT_JSON,
    OTHER_HOST,
    RATE_LIMITED,
    LONG_HEAD,
    DEFECT,
    UNAVAILABLE,
];

/// For what the server says of itself.
pub(super) const OF_PAGE_OF_TEXT: &[Refusal] = &[TOO_LARGE, OTHER_HOST, LONG_HEAD];

/// For what the server promises of its tables.
pub(super) const OF_DOCUMENT: &[Refusal] = &[UNAUTHORIZED, TOO_LARGE, OTHER_HOST, LONG_HEAD, DEFECT, UNKNOWN];

/// For what the server says of its tables.
pub(super) const OF_STATE: &[Refusal] = &[TOO_LARGE, OTHER_HOST, LONG_HEAD, DEFECT, UNKNOWN];

/// The headers that every answer about a table has.
pub(super) const OF_TABLE: &[&str] = &[
    "X-Request-Id",
    "Lakegate-Version",
    "Lakegate-Generation",
    "Lakegate-Synced-At",
    "Cache-Control",
    "Vary",
    "Deprecation",
    "Sunset",
    "Link",
    "RateLimit",
    "RateLimit-Policy",
];

/// Those of one that holds rows and can be asked for again.
pub(super) const OF_ROWS: &[&str] = &[
    "X-Request-Id",
    "Lakegate-Version",
    "Lakegate-Generation",
    "Lakegate-Synced-At",
    "Lakegate-Stale",
    "ETag",
    "Cache-Control",
    "Vary",
    "Deprecation",
    "Sunset",
    "Link",
    "RateLimit",
    "RateLimit-Policy",
];

/// References to headers among the components.
pub(super) fn headers(names: &[&str]) -> Value {
    let header = |name: &&str| ((*name).to_owned(), json!({"$ref": format!("#/components/headers/{name}")}));
    Value::Object(names.iter().map(header).collect())
}

/// The headers of answers.
pub(super) fn header_components(credentials: bool) -> Value {
    let text = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    let count = |description: &str, least: u8| json!({"description": description, "schema": {"type": "integer", "minimum": least}});
    let mut request_id = text("The request's id: the client's own if it sent a sane one, else a new one.");
    request_id["required"] = json!(true);
    let mut components = json!({
        "X-Request-Id": request_id,
        "Lakegate-Version": text("The version of the source that the answer is of."),
        "Lakegate-Generation": count("The generation that the answer is of.", 1),
        "Lakegate-Synced-At": {
            "description": "When that state was published.",
            "schema": {"type": "string", "format": "date-time"},
        },
        "Lakegate-Stale": {
            "description": "The answer comes from memory while Postgres does not answer.",
            "schema": {"type": "string", "const": "true"},
        },
        "Lakegate-Next": text("The cursor of the next page, where the format has no place for it."),
        "Lakegate-Missing": count("How many keys have no row, where the format has no place for that.", 1),
        "ETag": text("A hash of the content; weak where it is compressed."),
        "Cache-Control": text("`private, no-cache`, or `private, max-age=…` where the table's owner allows it."),
        "Vary": text("The request headers that the answer depends on."),
        "Deprecation": text("Since when the table should not be used any more, where it is to go (RFC 9745)."),
        "Sunset": text("When the table will be gone, where that is known (RFC 8594)."),
        "Link": text("A page that says what to use instead, where the table is to go (RFC 8288)."),
        "RateLimit": text("What is left to the caller of the rows that the policy allows him, and in how many seconds all of \
                           it will be there again (draft-ietf-httpapi-ratelimit-headers-10)."),
        "RateLimit-Policy": text("How many rows may be read in how many seconds, where that is limited: by each caller, and \
                                  by all together."),
        "Retry-After": count("Seconds after which to try again.", 0),
    });
    if credentials {
        components["WWW-Authenticate"] = text("`Bearer`: which kind of credential is asked for.");
    }
    components
}

/// What errors are like.
pub(super) fn problem() -> Value {
    json!({
        "type": "object",
        "required": ["code", "title", "detail", "hint"],
        "properties": {
            "code": {"type": "string", "pattern": "^LG[0-9]{4}$", "description": "Stable; each has a page of documentation."},
            "title": {"type": "string", "description": "What kind of error it is."},
            "detail": {"type": "string", "description": "What happened."},
            "hint": {"type": ["string", "null"], "description": "What to do next."},
        },
    })
}

/// A key of a batch without a row.
pub(super) fn miss() -> Value {
    json!({
        "$ref": "#/components/schemas/Problem",
        "required": ["index"],
        "properties": {
            "code": {"const": Code::RowNotFound.to_string()},
            "index": {"type": "integer", "minimum": 0, "description": "The place of the key in the batch."},
        },
    })
}

/// Answers that are errors; and for HEAD the same without a body, one for each status.
pub(super) fn components(responses: &mut Map<String, Value>, credentials: bool) {
    for refusal in ALL.iter().filter(|refusal| refusal.is_given(credentials)) {
        let mut response = json!({"description": refusal.description(), "headers": headers(refusal.headers())});
        let by_head = [OF_ROW, OF_PAGE, OF_ROW_OR_PAGE, OF_PAGE_OF_TEXT, OF_DOCUMENT].into_iter().flatten();
        if by_head.into_iter().any(|one| one.name == refusal.name) {
            responses.insert(refusal.head_name(), response.clone());
        }
        if !refusal.codes.is_empty() {
            response["content"] =
                json!({"application/json": {"schema": refusal.schema(), "example": refusal.example()}});
        }
        responses.insert(refusal.name.to_owned(), response);
    }
}

impl Refusal {
    /// Whether it is ever given by a server that asks for credentials, or does not.
    pub(super) fn is_given(&self, credentials: bool) -> bool {
        credentials || self.status != 401
    }

    /// Its name among the components where the body is left out.
    pub(super) fn head_name(&self) -> String {
        format!("Head{}", self.name)
    }

    fn description(&self) -> String {
        if self.codes.is_empty() {
            return "The head of the request is longer than 32 KiB, or has more than 100 headers.".to_owned();
        }
        let codes = self.codes.iter().map(|code| format!("{code}: {}.", code.title()));
        codes.collect::<Vec<_>>().join(" ")
    }

    fn headers(&self) -> &'static [&'static str] {
        match self.status {
            431 => &[],
            401 => &["X-Request-Id", "WWW-Authenticate"],
            421 => &["X-Request-Id"],
            429 => &[
                "X-Request-Id",
                "Retry-After",
                "RateLimit",
                "RateLimit-Policy",
                "Lakegate-Version",
                "Lakegate-Generation",
                "Lakegate-Synced-At",
                "Cache-Control",
                "Vary",
            ],
            503 => &[
                "X-Request-Id",
                "Retry-After",
                "Lakegate-Version",
                "Lakegate-Generation",
                "Lakegate-Synced-At",
                "Cache-Control",
                "Vary",
            ],
            404 => &[
                "X-Request-Id",
                "Lakegate-Version",
                "Lakegate-Generation",
                "Lakegate-Synced-At",
                "Lakegate-Stale",
                "Cache-Control",
                "Vary",
            ],
            _ => OF_TABLE,
        }
    }

    fn schema(&self) -> Value {
        let codes: Vec<String> = self.codes.iter().map(ToString::to_string).collect();
        json!({
            "type": "object",
            "required": ["data", "error"],
            "additionalProperties": false,
            "properties": {
                "data": {"type": "array", "maxItems": 0},
                "error": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 1,
                    "items": {"$ref": "#/components/schemas/Problem", "properties": {"code": {"enum": codes}}},
                },
            },
        })
    }

    fn example(&self) -> Value {
        let code = self.codes.last().copied().unwrap_or(Code::Internal);
        json!({"data": [], "error": [{"code": code.to_string(), "title": code.title(), "detail": "…", "hint": null}]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::reply::status;

    #[test]
    fn every_error_stands_under_its_status() {
        for refusal in ALL {
            for code in refusal.codes {
                assert_eq!(status(*code).as_u16(), refusal.status, "{code}");
            }
        }
    }

    #[test]
    fn every_code_of_the_read_api_is_some_answer() {
        // What only paths and methods get that are not described, and what only the start gives.
        let elsewhere = [Code::NoSuchRoute, Code::MethodNotAllowed, Code::PortTaken];
        for code in Code::ALL.iter().filter(|code| (6000..7000).contains(&code.number())) {
            let described = ALL.iter().any(|refusal| refusal.codes.contains(code));
            assert_ne!(described, elsewhere.contains(code), "{code}");
        }
    }
}
