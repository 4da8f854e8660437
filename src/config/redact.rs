//! Stars out secrets in the text that excerpts are cut from.
//!
//! Works on the bare text, since a file that is not valid YAML has excerpts too. It rather hides too much: what is
//! starred out by mistake is still in the person's file.

use super::secret::{is_reference, is_secret_name};

/// The same text, byte for byte as long, with `*` in place of passwords in URLs and of values whose key names a
/// secret, unless they are references or `${VAR}`.
pub(super) fn star_out(text: &str) -> String {
    let mut hidden = vec![false; text.len()];
    hide_url_passwords(text, &mut hidden);
    hide_named_values(text, &mut hidden);
    let star = |(offset, c): (usize, char)| match hidden.get(offset) {
        Some(true) if !c.is_whitespace() => "*".repeat(c.len_utf8()),
        _ => c.to_string(),
    };
    text.char_indices().map(star).collect()
}

fn hide(hidden: &mut [bool], from: usize, to: usize) {
    if let Some(range) = hidden.get_mut(from..to) {
        range.fill(true);
    }
}

fn hide_url_passwords(text: &str, hidden: &mut [bool]) {
    for (at, _) in text.match_indices("://") {
        let start = at + 3;
        let word =
            text[start..].split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).next().unwrap_or_default();
        if let Some((userinfo, _)) = word.rsplit_once('@')
            && let Some((user, password)) = userinfo.split_once(':')
            && !is_plain_variable(password)
        {
            let from = start + user.len() + 1;
            hide(hidden, from, from + password.len());
        }
        for (found, parameter) in word.match_indices("password=") {
            let value = word[found + parameter.len()..].split('&').next().unwrap_or_default();
            if !is_plain_variable(value) {
                let from = start + found + parameter.len();
                hide(hidden, from, from + value.len());
            }
        }
    }
}

/// `${VAR}` alone, without a default.
fn is_plain_variable(value: &str) -> bool {
    value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).is_some_and(|name| !name.contains([':', '$', '}']))
}

fn hide_named_values(text: &str, hidden: &mut [bool]) {
    // Lines indented deeper than these belong to `options`, or to a secret begun above.
    let (mut options, mut secret): (Option<usize>, Option<usize>) = (None, None);
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        if !line.trim().is_empty() {
            options = options.filter(|&outer| indent > outer);
            secret = secret.filter(|&outer| indent > outer);
        }
        if secret.is_some() {
            hide(hidden, start, start + line.len());
        }
        for (name, value) in keys(line) {
            if name == "options" {
                options = options.or(Some(indent));
            }
            if !holds_secret(name, options.is_some()) {
                continue;
            }
            let rest = &line[value..];
            let (length, open) = value_length(rest, line[..value].contains('{'));
            let shown = rest[..length].trim().trim_matches(['"', '\'']);
            if shown.is_empty() || !(is_reference(shown) || is_plain_variable(shown)) {
                let url = name == "postgres" && shown.contains("://");
                if !url {
                    hide(hidden, start + value, start + value + length);
                    secret = secret.or(open.then_some(indent));
                }
            }
        }
        start += line.len();
    }
}

/// The keys of one line, each with the offset of its value.
fn keys(line: &str) -> impl Iterator<Item = (&str, usize)> {
    line.match_indices(':').filter_map(|(colon, _)| {
        let rest = &line[colon + 1..];
        let ends = rest.chars().next().is_none_or(char::is_whitespace);
        let before = line[..colon].trim_end().trim_end_matches(['"', '\'']);
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        let name = &before[before.trim_end_matches(is_name).len()..];
        let quoted = line[..colon].trim_end().len() > before.len();
        let value = line.len() - rest.trim_start_matches([' ', '\t']).len();
        ((ends || quoted) && !name.is_empty()).then_some((name, value))
    })
}

/// Within `options` any secret name counts; elsewhere `key` alone does not, since columns are often called so.
fn holds_secret(name: &str, in_options: bool) -> bool {
    let name = name.to_ascii_lowercase();
    let key_of = ["access", "account", "api", "encryption", "master", "private", "shared", "storage"];
    matches!(name.as_str(), "postgres" | "webhook")
        || is_secret_name(&name)
            && (in_options || is_secret_name(&name.replace("key", "")) || key_of.iter().any(|of| name.contains(of)))
}

/// How many bytes of the line belong to the value, and whether it may go on below.
fn value_length(rest: &str, in_flow: bool) -> (usize, bool) {
    let body = rest.trim_end();
    if let Some(quote) = body.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        return match body[1..].rfind(quote) {
            Some(end) => (end + 2, false),
            None => (body.len(), true),
        };
    }
    match body.find([',', '}']).filter(|_| in_flow) {
        Some(end) => (end, false),
        None => (body.len(), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_what_is_secret_and_nothing_else() {
        let cases = [
            ("postgres: postgres://me:s3cr@t@db/x # c\n", "postgres: postgres://me:******@db/x # c\n"),
            ("postgres: postgres://me:${PW}@db/x\n", "postgres: postgres://me:${PW}@db/x\n"),
            ("postgres: postgres://me:${PW:-abc}@db\n", "postgres: postgres://me:**********@db\n"),
            ("postgres: postgres://db/x?password=abc&a=1\n", "postgres: postgres://db/x?password=***&a=1\n"),
            ("postgres: host=db password=abc\n", "postgres: ******* ************\n"),
            ("postgres: env:DATABASE_URL\n", "postgres: env:DATABASE_URL\n"),
            ("  options: {my_key: ab, region: cd}\n", "  options: {my_key: **, region: cd}\n"),
            (
                "options:\n  my_key: ab\n  key_id: cd\nmy_key: ef\n",
                "options:\n  my_key: **\n  key_id: cd\nmy_key: ef\n",
            ),
            ("api_token: |\n  ab\n  cd\nname: x\n", "api_token: *\n  **\n  **\nname: x\n"),
            ("\"aws_secret_access_key\": \"a\\\"b\"\n", "\"aws_secret_access_key\": ******\n"),
            ("primary_key: [id]\non_duplicate_key: fail\n", "primary_key: [id]\non_duplicate_key: fail\n"),
            ("client_secret: é\n", "client_secret: **\n"),
            ("alerts: {webhook: https://h/a?token=b}\n", "alerts: {webhook: *******************}\n"),
            ("  webhook: env:HOOK\n", "  webhook: env:HOOK\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(star_out(text), expected);
        }
    }
}
