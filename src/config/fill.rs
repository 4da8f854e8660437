//! `${VAR}` and `${VAR:-default}` within values.

/// A template with its variables filled in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filling {
    /// The result.
    pub text: String,
    /// What of the result stands in the file itself: variables without a default are [`UNSEEN`], the others their
    /// default.
    pub visible: String,
    /// Whether there was any variable.
    pub filled: bool,
}

/// Stands for the value of a variable in [`Filling::visible`].
pub(super) const UNSEEN: char = '\u{fffc}';

/// Why a template cannot be filled.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FillError {
    /// The variable of this name is not set and has no default.
    Unset(String),
    /// What follows `${` is not a name, or `}` is missing.
    Malformed,
}

/// Fills a template. `$$` stands for one dollar; a dollar before anything but `{` and `$` stands for itself. As in a
/// shell, the default also takes the place of an empty value.
pub(super) fn fill<'v>(template: &str, lookup: impl Fn(&str) -> Option<&'v str>) -> Result<Filling, FillError> {
    let mut filling = Filling { text: String::new(), visible: String::new(), filled: false };
    let mut rest = template;
    while let Some((literal, after)) = rest.split_once('$') {
        filling.text.push_str(literal);
        filling.visible.push_str(literal);
        if let Some(braced) = after.strip_prefix('{') {
            let (inside, tail) = braced.split_once('}').ok_or(FillError::Malformed)?;
            filling.variable(inside, &lookup)?;
            rest = tail;
        } else {
            filling.text.push('$');
            filling.visible.push('$');
            rest = after.strip_prefix('$').unwrap_or(after);
        }
    }
    filling.text.push_str(rest);
    filling.visible.push_str(rest);
    Ok(filling)
}

impl Filling {
    fn variable<'v>(&mut self, inside: &str, lookup: impl Fn(&str) -> Option<&'v str>) -> Result<(), FillError> {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(FillError::Malformed);
        }
        let value = match (lookup(name), default) {
            (Some(value), None) => value,
            (Some(value), Some(_)) if !value.is_empty() => value,
            (_, Some(default)) => default,
            (None, None) => return Err(FillError::Unset(name.to_owned())),
        };
        self.filled = true;
        self.text.push_str(value);
        match default {
            Some(default) if !default.is_empty() => self.visible.push_str(default),
            _ => self.visible.push(UNSEEN),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str) -> Result<(String, String), FillError> {
        let lookup = |name: &str| match name {
            "HOST" => Some("db"),
            "EMPTY" => Some(""),
            _ => None,
        };
        fill(template, lookup).map(|filling| (filling.text, filling.visible.replace(UNSEEN, "?")))
    }

    #[test]
    fn fills_variables_defaults_and_escapes() {
        let cases = [
            ("plain", "plain", "plain"),
            ("a${HOST}b", "adbb", "a?b"),
            ("${HOST:-x}${HOST}", "dbdb", "x?"),
            ("${NONE:-x y}", "x y", "x y"),
            ("${NONE:-}|${EMPTY:-z}|${EMPTY}", "|z|", "?|z|?"),
            ("$$ $${HOST} $HOST $", "$ ${HOST} $HOST $", "$ ${HOST} $HOST $"),
        ];
        for (template, text, visible) in cases {
            assert_eq!(filled(template), Ok((text.to_owned(), visible.to_owned())), "{template}");
        }
    }

    #[test]
    fn refuses_unset_and_malformed_variables() {
        assert_eq!(filled("${NONE}"), Err(FillError::Unset("NONE".to_owned())));
        for template in ["${", "${}", "${HOST", "${1A}", "${A B}", "${:-x}", "${A-x}"] {
            assert_eq!(filled(template), Err(FillError::Malformed), "{template}");
        }
    }
}
