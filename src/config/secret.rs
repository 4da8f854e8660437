//! Secrets: which settings hold them, and the references by which a file names them without showing them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use secrecy::SecretString;

use super::fill::UNSEEN;
use super::problem::Place;
use super::reader::{Reader, Text};
use crate::domain::Code;

/// The most bytes of a file that holds a secret.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// Whether an option of this lower-case name holds a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    let key = name.replace("key_id", "").contains("key") && !matches!(name, "primary_key" | "on_duplicate_key");
    key || ["secret", "token", "password", "sas", "credential"].iter().any(|word| name.contains(word))
}

/// Whether a value names a secret instead of being one.
pub(super) fn is_reference(value: &str) -> bool {
    value.starts_with("env:") || value.starts_with("file:")
}

/// What a value stands for: `env:NAME` the variable, `file:PATH` (relative to the project) the file without its last
/// line break, anything else itself. `None` after reporting a reference that leads nowhere.
pub(super) fn resolve(text: &Text, place: &Place, reader: &mut Reader<'_>) -> Option<SecretString> {
    if let Some(name) = text.text.strip_prefix("env:") {
        return match reader.env.get(name) {
            Some(value) => Some(SecretString::from(value)),
            None => {
                let detail = format!("{} names a variable that is not set", text.shown());
                reader.refuse(Code::UnsetVariable, place, &detail, Some("set the variable".to_owned()))
            }
        };
    }
    let Some(path) = text.text.strip_prefix("file:") else { return Some(SecretString::from(text.text.as_str())) };
    match read_secret(&reader.dir.join(path)) {
        Ok(content) => Some(SecretString::from(content.trim_end_matches(['\r', '\n']))),
        Err(error) => {
            let detail = format!("{} names a file that cannot be read: {error}", text.shown());
            let hint = "the path is relative to the project's folder".to_owned();
            reader.refuse(Code::UnreadableFile, place, &detail, Some(hint))
        }
    }
}

fn read_secret(path: &Path) -> io::Result<String> {
    let mut content = String::new();
    File::open(path)?.take(MAX_SECRET_BYTES).read_to_string(&mut content)?;
    Ok(content)
}

/// Whether a Postgres URL, of which `visible` is what stands in the file, shows its password there.
pub(super) fn shows_password(visible: &str) -> bool {
    let in_the_open = |password: &str| !password.is_empty() && !password.contains(UNSEEN);
    let Some((_, rest)) = visible.split_once("://") else { return false };
    let authority = rest.rsplit_once('@').map_or("", |(userinfo, _)| userinfo);
    let password = authority.split_once(':').map_or("", |(_, password)| password);
    let parameter = rest.split_once("password=").map_or("", |(_, value)| value.split('&').next().unwrap_or_default());
    in_the_open(password) || in_the_open(parameter)
}

/// Whether a web address, of which `visible` is what stands in the file, shows credentials there: a user or a password
/// before the host, or a parameter that is named like a secret.
pub(super) fn shows_credentials(visible: &str) -> bool {
    let in_the_open = |secret: &str| !secret.is_empty() && !secret.contains(UNSEEN);
    let Some((_, rest)) = visible.split_once("://") else { return false };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    // A name alone may be a token; one before a password is none.
    let before_host = authority.rsplit_once('@').map_or("", |(userinfo, _)| userinfo);
    let secret = before_host.split_once(':').map_or(before_host, |(_, password)| password);
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let mut parameters = query.split(['&', '#']).filter_map(|parameter| parameter.split_once('='));
    in_the_open(secret)
        || parameters.any(|(name, value)| is_secret_name(&name.to_ascii_lowercase()) && in_the_open(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_told_from_others() {
        for name in
            ["aws_secret_access_key", "azure_storage_account_key", "sas_token", "password", "google_credentials"]
        {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["aws_access_key_id", "aws_region", "endpoint", "allow_http", "primary_key"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn credentials_of_web_addresses_are_seen() {
        for url in ["https://u:pw@h/x", "https://token@h", "https://h/x?a=b&token=t", "http://h?API_KEY=x#y"] {
            assert!(shows_credentials(url), "{url}");
        }
        for url in ["https://h/x?a=b", "https://u:\u{fffc}@h/a@b", "https://h/?token=\u{fffc}", "\u{fffc}", "env:X"] {
            assert!(!shows_credentials(url), "{url}");
        }
    }

    #[test]
    fn a_password_is_in_the_open_only_when_it_stands_in_the_file() {
        for url in ["postgres://u:pw@h/d", "postgres://u:p@w@h", "postgres://h/d?password=pw", "${X}://u:pw@h"] {
            assert!(shows_password(url), "{url}");
        }
        for url in [
            "postgres://u@h/d",
            "postgres://h",
            "postgres://u:\u{fffc}@h",
            "postgres://h?password=\u{fffc}",
            "\u{fffc}",
        ] {
            assert!(!shows_password(url), "{url}");
        }
    }
}
