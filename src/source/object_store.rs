//! One way to open any address: local paths and the object stores of the clouds.

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig};
use secrecy::ExposeSecret;
use url::Url;

use crate::domain::{Code, Error, Result, StorageOptions};

use super::failure::{Wanted, store_error};

/// Tries of one request before it counts as failed.
const MAX_RETRIES: usize = 5;
/// The longest one request is tried for in all.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest one request may take; long enough for 8 MiB over a slow line.
const REQUEST_TIMEOUT: &str = "120s";
/// The longest a connection may take to open.
const CONNECT_TIMEOUT: &str = "5s";

/// An address, opened: a store, and the place in it.
#[derive(Debug, Clone)]
pub struct Location {
    /// The store: a bucket, a container, or the local file system from its root.
    pub store: Arc<dyn ObjectStore>,
    /// The place in the store.
    pub path: Path,
    /// The address in full, without credentials; ends in no slash.
    pub url: Url,
}

impl Location {
    /// The address for people: a plain path where it is local.
    pub fn display(&self) -> String {
        match self.url.to_file_path() {
            Ok(path) if self.url.scheme() == "file" => path.display().to_string(),
            _ => percent_encoding::percent_decode_str(self.url.as_str()).decode_utf8_lossy().into_owned(),
        }
    }
}

/// Opens an address. Nothing is read yet, save that a local path must exist.
///
/// `project_dir` is what relative paths are relative to. `options` go before `env`, the environment, of which the
/// variables of the store's own cloud are taken (`AWS_`, `AZURE_`, `GOOGLE_`).
///
/// # Errors
/// [`Code::UnsupportedUri`], [`Code::NotBuiltYet`] for `uc://`, [`Code::SourceNotFound`] for a local path that is not
/// there, [`Code::InvalidValue`] for an unknown option, [`Code::SourceAccess`] where the store's settings do not add up.
pub fn open(
    address: &str,
    project_dir: &FilePath,
    options: &StorageOptions,
    env: &BTreeMap<String, String>,
) -> Result<Location> {
    let Some((scheme, _)) = address.split_once("://") else {
        return open_local(&project_dir.join(address));
    };
    let unsupported = |why: String| {
        Error::new(Code::UnsupportedUri, format!("`{}`: {why}", super::failure::without_query(address)))
            .hint("use a local path, file://, s3://, az://, abfss:// or gs://")
    };
    let url = Url::parse(address).map_err(|error| unsupported(error.to_string()))?;
    if scheme == "file" {
        let path = url.to_file_path().map_err(|()| unsupported("not a local path".to_owned()))?;
        return open_local(&path);
    }
    let settings = Settings { url: &url, options, env };
    let store: Arc<dyn ObjectStore> = match scheme {
        "s3" | "s3a" => open_s3(&settings)?,
        "az" | "azure" | "adl" | "abfs" | "abfss" => open_azure(&settings)?,
        "gs" => open_gcs(&settings)?,
        "uc" => {
            return Err(Error::new(Code::NotBuiltYet, format!("`{address}`: Unity Catalog is not supported yet"))
                .hint("give the table's storage location, for example s3://bucket/path"));
        }
        other => return Err(unsupported(format!("`{other}://` is not a store that Lakegate reads"))),
    };
    let path = Path::from_url_path(url.path()).map_err(|error| unsupported(error.to_string()))?;
    Ok(Location { store, path, url: without_credentials(url) })
}

fn open_local(path: &FilePath) -> Result<Location> {
    let place = path.display();
    let real = path.canonicalize().map_err(|error| {
        let code = match error.kind() {
            std::io::ErrorKind::PermissionDenied => Code::SourceAccess,
            _ => Code::SourceNotFound,
        };
        Error::new(code, format!("{place}: {error}"))
            .hint("check the path; relative ones begin at the project's folder")
    })?;
    let not_understood = || Error::new(Code::UnsupportedUri, format!("{place}: not a path that can be addressed"));
    let url = Url::from_file_path(&real).map_err(|()| not_understood())?;
    let path = Path::from_url_path(url.path()).map_err(|_| not_understood())?;
    Ok(Location { store: Arc::new(LocalFileSystem::new()), path, url })
}

/// Credentials may stand before the host of an s3 or gs address; before the host of abfss stands the container.
fn without_credentials(mut url: Url) -> Url {
    // These setters fail only for addresses without a host, which carry no credentials.
    let _ = url.set_password(None);
    if !url.scheme().starts_with("abfs") {
        let _ = url.set_username("");
    }
    url.set_query(None);
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    url
}

/// What a store is opened with.
struct Settings<'a> {
    url: &'a Url,
    options: &'a StorageOptions,
    env: &'a BTreeMap<String, String>,
}

impl Settings<'_> {
    /// The pairs for one kind of store, later ones winning: timeouts, then the environment, then the options.
    /// `own_credentials` names the keys that the environment loses as a whole once the options give one of them, so
    /// that a key from a file is never paired with a token from the shell.
    fn pairs<K: FromStr + PartialEq>(&self, prefix: &str, own_credentials: &[K]) -> Result<Vec<(K, String)>> {
        let parse = |key: &str| key.to_ascii_lowercase().parse::<K>().ok();
        let mut declared = Vec::new();
        for (key, value) in self.options {
            if RETRY_OPTIONS.contains(&key.as_str()) {
                continue;
            }
            let key = parse(key).ok_or_else(|| {
                Error::new(
                    Code::InvalidValue,
                    format!("`{key}` is not an option of {}:// addresses", self.url.scheme()),
                )
                .hint("see the page on object stores for the options of each store")
            })?;
            declared.push((key, value.expose_secret().to_owned()));
        }
        let replaces_credentials = declared.iter().any(|(key, _)| own_credentials.contains(key));
        let from_env = self.env.iter().filter(|(key, _)| key.starts_with(prefix));
        let defaults =
            [(ClientConfigKey::Timeout, REQUEST_TIMEOUT), (ClientConfigKey::ConnectTimeout, CONNECT_TIMEOUT)];
        let mut pairs: Vec<(K, String)> = defaults
            .iter()
            .filter_map(|(key, value)| Some((parse(key.as_ref())?, (*value).to_owned())))
            .chain(from_env.filter_map(|(key, value)| Some((parse(key)?, value.clone()))))
            .filter(|(key, _)| !(replaces_credentials && own_credentials.contains(key)))
            .collect();
        pairs.extend(declared);
        Ok(pairs)
    }

    fn retry(&self) -> Result<RetryConfig> {
        let number =
            |key: &str| -> Result<Option<u64>> {
                let Some(value) = self.options.get(key) else { return Ok(None) };
                let value = value.expose_secret();
                value.trim_end_matches('s').parse().map(Some).map_err(|_| {
                    Error::new(Code::InvalidValue, format!("option `{key}`: `{value}` is not a whole number"))
                })
            };
        Ok(RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: number(RETRY_OPTIONS[0])?.map_or(MAX_RETRIES, |n| n as usize),
            retry_timeout: number(RETRY_OPTIONS[1])?.map_or(RETRY_TIMEOUT, Duration::from_secs),
        })
    }

    fn failed(&self, error: object_store::Error) -> Error {
        let error = store_error(error, Wanted::Source, without_credentials(self.url.clone()));
        Error::new(Code::SourceAccess, error.detail()).hint("check the options and environment of this object store")
    }
}

/// Options of ours beside those of the store: tries of a request, and seconds they may take in all.
const RETRY_OPTIONS: [&str; 2] = ["max_retries", "retry_timeout"];

fn open_s3(settings: &Settings<'_>) -> Result<Arc<dyn ObjectStore>> {
    use AmazonS3ConfigKey::{AccessKeyId, SecretAccessKey, Token};
    let pairs = settings.pairs("AWS_", &[AccessKeyId, SecretAccessKey, Token])?;
    // Who writes http:// into the endpoint has allowed it.
    let plain = pairs.iter().any(|(key, value)| *key == AmazonS3ConfigKey::Endpoint && value.starts_with("http://"));
    let mut builder = AmazonS3Builder::new().with_url(settings.url.as_str()).with_allow_http(plain);
    for (key, value) in pairs {
        builder = builder.with_config(key, value);
    }
    Ok(Arc::new(builder.with_retry(settings.retry()?).build().map_err(|error| settings.failed(error))?))
}

fn open_azure(settings: &Settings<'_>) -> Result<Arc<dyn ObjectStore>> {
    use AzureConfigKey::{AccessKey, ClientId, ClientSecret, SasKey, Token};
    let pairs = settings.pairs("AZURE_", &[AccessKey, ClientId, ClientSecret, SasKey, Token])?;
    let mut builder = MicrosoftAzureBuilder::new().with_url(settings.url.as_str());
    for (key, value) in pairs {
        builder = builder.with_config(key, value);
    }
    Ok(Arc::new(builder.with_retry(settings.retry()?).build().map_err(|error| settings.failed(error))?))
}

fn open_gcs(settings: &Settings<'_>) -> Result<Arc<dyn ObjectStore>> {
    use GoogleConfigKey::{ApplicationCredentials, ServiceAccount, ServiceAccountKey};
    let pairs = settings.pairs("GOOGLE_", &[ApplicationCredentials, ServiceAccount, ServiceAccountKey])?;
    let mut builder = GoogleCloudStorageBuilder::new().with_url(settings.url.as_str());
    for (key, value) in pairs {
        builder = builder.with_config(key, value);
    }
    Ok(Arc::new(builder.with_retry(settings.retry()?).build().map_err(|error| settings.failed(error))?))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn open_plain(address: &str) -> Result<Location> {
        open(address, FilePath::new("/"), &StorageOptions::new(), &BTreeMap::new())
    }

    #[test]
    fn a_relative_path_begins_at_the_project() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("my lake")).unwrap();
        let location = open("my lake", dir.path(), &StorageOptions::new(), &BTreeMap::new()).unwrap();
        assert!(location.path.as_ref().ends_with("my lake"), "{}", location.path);
        assert!(location.display().ends_with("/my lake"), "{}", location.display());
    }

    #[test]
    fn addresses_are_shown_without_credentials() {
        let location = open_plain("s3://key:secret@bucket/a%20b/?X-Amz-Signature=1").unwrap();
        assert_eq!(location.display(), "s3://bucket/a b");
        assert_eq!(location.path.as_ref(), "a b");
    }

    #[test]
    fn what_is_not_understood_says_so() {
        assert_eq!(open_plain("ftp://host/x").unwrap_err().code(), Code::UnsupportedUri);
        assert_eq!(open_plain("uc://a.b.c").unwrap_err().code(), Code::NotBuiltYet);
        assert_eq!(open_plain("/no/such/place").unwrap_err().code(), Code::SourceNotFound);
        let options = StorageOptions::from([("aws_acces_key".to_owned(), SecretString::from("x"))]);
        let error = open("s3://b/x", FilePath::new("/"), &options, &BTreeMap::new()).unwrap_err();
        assert_eq!(error.code(), Code::InvalidValue);
    }

    #[test]
    fn keys_from_options_are_not_paired_with_a_token_from_the_environment() {
        let url = Url::parse("s3://bucket/x").unwrap();
        let options = StorageOptions::from([("aws_access_key_id".to_owned(), SecretString::from("mine"))]);
        let env = BTreeMap::from([
            ("AWS_SESSION_TOKEN".to_owned(), "theirs".to_owned()),
            ("AWS_REGION".to_owned(), "eu-north-1".to_owned()),
        ]);
        let settings = Settings { url: &url, options: &options, env: &env };
        let own = [AmazonS3ConfigKey::AccessKeyId, AmazonS3ConfigKey::Token];
        let keys: Vec<_> = settings.pairs("AWS_", &own).unwrap().into_iter().map(|(key, _)| key).collect();
        assert!(keys.contains(&AmazonS3ConfigKey::Region));
        assert!(keys.contains(&AmazonS3ConfigKey::AccessKeyId));
        assert!(!keys.contains(&AmazonS3ConfigKey::Token));
    }
}
