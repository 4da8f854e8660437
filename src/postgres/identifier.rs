//! Quoting: the one place where a name or a text becomes part of a statement.

/// An identifier as it is written in SQL: always in double quotes, so that case, spaces and keywords are kept.
///
/// Nothing is cut or checked: names over 63 bytes are refused before they get here, since Postgres would cut them. A
/// NUL byte cannot be sent at all; the driver refuses the statement.
#[must_use]
pub fn quote(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len() + 2);
    quoted.push('"');
    for part in name.split_inclusive('"') {
        quoted.push_str(part);
        if part.ends_with('"') {
            quoted.push('"');
        }
    }
    quoted.push('"');
    quoted
}

/// `schema.name`, both quoted.
#[must_use]
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote(schema), quote(name))
}

/// A text as a literal, for the few statements that take no parameters (`NOTIFY`, `COMMENT`, DDL). With a backslash in
/// it, it is written in the `E''` form, which means the same whatever `standard_conforming_strings` is.
#[must_use]
pub fn quote_literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') { format!(" E'{}'", doubled.replace('\\', r"\\")) } else { format!("'{doubled}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_always_quoted_and_inner_quotes_doubled() {
        assert_eq!(quote("orders"), r#""orders""#);
        assert_eq!(quote(r#"a"b"#), r#""a""b""#);
        assert_eq!(quote(r#"""#), r#""""""#);
        assert_eq!(qualified("lake", "Ünï cödé"), r#""lake"."Ünï cödé""#);
    }

    #[test]
    fn literals_survive_quotes_and_backslashes() {
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal(r"a\'b"), r" E'a\\''b'");
        assert_eq!(quote_literal(""), "''");
    }
}
