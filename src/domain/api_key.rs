//! What is asked for when an API key is made.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

use super::parse_duration;

/// The most characters of a key's name.
const MAX_NAME: usize = 100;

/// The most characters of the name of a role or an attribute.
const MAX_WORD: usize = 64;

/// The most roles, and the most attributes, of a key.
const MAX_WORDS: usize = 64;

/// The most bytes of an attribute's value.
const MAX_VALUE: usize = 1024;

/// An API key to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewKey {
    /// What people call it; two may have the same name.
    pub name: String,
    /// The roles of whoever shows it.
    pub roles: Vec<String>,
    /// What else is to be known of him, by name.
    pub attributes: BTreeMap<String, String>,
    /// From when on it is no longer taken; `None` = never.
    pub expires_at: Option<DateTime<Utc>>,
}

impl NewKey {
    /// Checks names, values and their number.
    ///
    /// # Errors
    /// What is wrong, as a sentence without its end.
    pub fn check(&self) -> Result<(), String> {
        let name = self.name.trim();
        if name.is_empty() || name.chars().count() > MAX_NAME || self.name.chars().any(char::is_control) {
            return Err(format!("a key's name has 1 to {MAX_NAME} characters, none of which is a control character"));
        }
        for (what, words) in
            [("role", self.roles.iter().collect::<Vec<_>>()), ("attribute", self.attributes.keys().collect::<Vec<_>>())]
        {
            if words.len() > MAX_WORDS {
                return Err(format!("a key has {MAX_WORDS} {what}s at most"));
            }
            if let Some(wrong) = words.iter().find(|word| !is_role(word)) {
                let shown: String = wrong.chars().take(MAX_WORD).flat_map(char::escape_debug).collect();
                return Err(format!("`{shown}` cannot be the name of a {what}: {ROLE_FORM}"));
            }
            if let Some(twice) = words.iter().enumerate().find(|(at, word)| words[..*at].contains(word)) {
                return Err(format!("the {what} `{}` is given twice", twice.1));
            }
        }
        match self.attributes.iter().find(|(_, value)| value.len() > MAX_VALUE || value.contains('\0')) {
            Some((name, _)) => Err(format!("the attribute `{name}` has at most {MAX_VALUE} bytes, none of them NUL")),
            None => Ok(()),
        }
    }
}

/// What [`is_role`] asks for.
pub const ROLE_FORM: &str = "use 1 to 64 letters, digits, `_`, `-`, `.`, `:` and `/`";

/// Whether this can be the name of a role or an attribute.
#[must_use]
pub fn is_role(name: &str) -> bool {
    (1..=MAX_WORD).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte))
}

/// When a key ends, as people write it: a duration from `now` on like `90d`, a date, whose first moment in UTC it is, or
/// RFC 3339. `None` for anything else, and for what is not after `now`.
#[must_use]
pub fn parse_expiry(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let duration = |duration: Duration| now.checked_add_signed(chrono::Duration::from_std(duration).ok()?);
    let date = |date: NaiveDate| date.and_time(NaiveTime::MIN).and_utc();
    let expiry = parse_duration(text)
        .and_then(duration)
        .or_else(|| text.parse().ok().map(date))
        .or_else(|| DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc()))?;
    // Postgres keeps four digits of a year readable for everybody.
    (expiry > now && expiry < DateTime::from_timestamp(253_402_300_800, 0)?).then_some(expiry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, roles: &[&str], attributes: &[(&str, &str)]) -> NewKey {
        NewKey {
            name: name.to_owned(),
            roles: roles.iter().map(ToString::to_string).collect(),
            attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            expires_at: None,
        }
    }

    #[test]
    fn names_values_and_their_number_are_checked() {
        assert_eq!(
            key("the app", &["support", "a:b/c.d-e_1"], &[("tenant", "Ä \u{1F600}"), ("x", "")]).check(),
            Ok(())
        );
        let long = "x".repeat(MAX_VALUE + 1);
        let many: Vec<String> = (0..=MAX_WORDS).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for refused in [
            key("", &[], &[]),
            key(" ", &[], &[]),
            key("a\nb", &[], &[]),
            key(&long, &[], &[]),
            key("a", &[""], &[]),
            key("a", &["b c"], &[]),
            key("a", &["b", "b"], &[]),
            key("a", &many, &[]),
            key("a", &[], &[("b c", "d")]),
            key("a", &[], &[("b", "\0")]),
            key("a", &[], &[("b", &long)]),
        ] {
            assert!(refused.check().is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_key_ends_in_the_future() {
        let time = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
        let now = time("2026-11-28T12:00:00Z");
        assert_eq!(parse_expiry("90d", now), Some(time("2027-02-26T12:00:00Z")));
        assert_eq!(parse_expiry("2027-01-31", now), Some(time("2027-01-31T00:00:00Z")));
        assert_eq!(parse_expiry("2027-01-31T10:00:00+02:00", now), Some(time("2027-01-31T08:00:00Z")));
        for refused in ["", "0d", "2026-11-28", "2026-11-28T12:00:00Z", "soon", "-1d", "9999999d", "99999999999999999d"]
        {
            assert_eq!(parse_expiry(refused, now), None, "{refused}");
        }
    }
}
