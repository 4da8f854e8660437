//! The one error type: a stable code, what happened, and what to do next.

use std::error::Error as StdError;
use std::fmt;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who can mend an error. Decides the exit code of the command line: 1 or 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Whatever a person can mend: configuration, data, network, privileges, disk.
    User,
    /// A defect of Lakegate.
    Defect,
}

/// Whether trying again, without a person doing anything, can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same input fails the same way.
    Never,
    /// The cause is gone the moment it is noticed, for example a file replaced by a newer version.
    Now,
    /// The cause may pass: wait with backoff and jitter.
    Later,
}

macro_rules! codes {
    ($( $variant:ident = $number:literal, $title:literal, $blame:ident, $retry:ident; )+) => {
        /// Every way in which Lakegate refuses or fails. The number is stable: it is part of the public contract and
        /// has a page in `docs/errors`.
        ///
        /// `LG1…` config, `LG2…` source, `LG3…` encode, `LG4…` destination, `LG5…` verify and publish, `LG6…` serve,
        /// `LG7…` schedule and admin API; `LG0001` is a defect of Lakegate itself.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(
                #[doc = $title]
                $variant,
            )+
        }

        impl Code {
            /// All codes, in the order of their numbers.
            pub const ALL: &[Code] = &[$(Code::$variant),+];

            /// The four digits.
            #[must_use]
            pub const fn number(self) -> u16 {
                match self { $(Code::$variant => $number),+ }
            }

            /// One line that says what kind of error this is, without its particulars.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Code::$variant => $title),+ }
            }

            /// Who can mend it.
            #[must_use]
            pub const fn blame(self) -> Blame {
                match self { $(Code::$variant => Blame::$blame),+ }
            }

            /// Whether it is worth trying again.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self { $(Code::$variant => Retry::$retry),+ }
            }
        }
    };
}

codes! {
    Internal = 1, "Lakegate has a defect", Defect, Never;

    ConfigSyntax = 1001, "The file is not valid YAML", User, Never;
    UnknownKey = 1002, "Unknown key", User, Never;
    InvalidValue = 1003, "Invalid value", User, Never;
    MissingKey = 1004, "A required key is missing", User, Never;
    NotBuiltYet = 1005, "Not available in this version", User, Never;
    UnsetVariable = 1006, "A variable is not set", User, Never;
    SecretInTheOpen = 1007, "A secret stands in the open", User, Never;
    InvalidName = 1008, "Invalid table name", User, Never;
    DuplicateName = 1009, "Two pipelines have the same name", User, Never;
    ProjectNotFound = 1010, "Not a Lakegate project", User, Never;
    InvalidSchedule = 1011, "Invalid schedule", User, Never;
    UnreadableFile = 1012, "A file cannot be read or written", User, Never;
    InvalidUsage = 1013, "Wrong usage", User, Never;
    WouldOverwrite = 1014, "A file is in the way", User, Never;
    UnknownPipeline = 1015, "No such pipeline", User, Never;
    AuthRequired = 1016, "An API needs authentication here", User, Never;
    ApiTls = 1017, "TLS of an API cannot be used", User, Never;

    SourceNotFound = 2001, "The source does not exist", User, Never;
    SourceAccess = 2002, "The source refuses access", User, Never;
    SourceCorrupt = 2003, "The source is damaged", User, Never;
    FileGone = 2004, "A data file of the source is gone", User, Now;
    UnsupportedFeature = 2005, "The source uses a feature that is not supported", User, Never;
    KeyColumnMissing = 2006, "A key column is not in the source", User, Never;
    UnsupportedType = 2007, "A column type has no counterpart in Postgres", User, Never;
    ColumnMissing = 2008, "A column is not in the source", User, Never;
    VersionUnavailable = 2009, "The requested version of the source is not available", User, Never;
    SchemaMismatch = 2010, "Files of the source have incompatible schemas", User, Never;
    RowCountDisagrees = 2011, "A data file disagrees with the table's log", User, Never;
    SourceUnavailable = 2012, "The source cannot be reached", User, Later;
    TransformFailed = 2013, "The transform failed", User, Never;
    EmptySource = 2014, "The source is empty", User, Never;
    SchemaChanged = 2015, "The source's schema has changed", User, Never;
    UnsupportedUri = 2016, "The source's address is not understood", User, Never;
    ContractBroken = 2017, "The source no longer fits what the table promises", User, Never;

    NulInText = 3001, "Text contains the character NUL", User, Never;
    OutOfRange = 3002, "A value is out of range", User, Never;
    NullKey = 3003, "A key column is null", User, Never;
    KeyTooLong = 3004, "A key is too long to be indexed", User, Never;
    RowTooLarge = 3005, "A row is too large for Postgres", User, Never;
    LossyCast = 3006, "A cast would lose something", User, Never;
    InvalidText = 3007, "Text cannot be read as the declared type", User, Never;
    TooManyRejected = 3008, "More rows were rejected than allowed", User, Never;
    UnsupportedCast = 3009, "There is no exact cast between these types", User, Never;
    UnexpectedNull = 3010, "A column declared never null is null", User, Never;

    PostgresUnreachable = 4001, "Postgres cannot be reached", User, Later;
    PostgresAuth = 4002, "Postgres refuses the login", User, Never;
    PostgresVersion = 4003, "This version of Postgres is not supported", User, Never;
    PostgresPrivilege = 4004, "A privilege in Postgres is missing", User, Never;
    PostgresDiskFull = 4005, "Postgres is out of disk space", User, Later;
    PostgresRefused = 4006, "Postgres refused a statement", User, Never;
    DuplicateKey = 4007, "Rows share the same key", User, Never;
    ForeignProject = 4008, "The control schema belongs to another project", User, Never;
    ServerEncoding = 4009, "The database is not encoded in UTF8", User, Never;
    InvalidColumnName = 4010, "A column name is not possible in Postgres", User, Never;
    TooManyColumns = 4011, "The table has more columns than Postgres allows", User, Never;
    BinariesMissing = 4012, "No PostgreSQL server is installed", User, Never;
    EmbeddedServer = 4013, "The embedded Postgres does not start", User, Never;
    ConnectionLost = 4014, "The connection to Postgres was lost", User, Later;
    LockNotAvailable = 4015, "A lock in Postgres was not available", User, Later;
    DependentObjects = 4016, "Other objects depend on the published view", User, Never;
    InvalidUrl = 4017, "The Postgres URL is not valid", User, Never;
    PostgresTls = 4018, "The encrypted connection to Postgres failed", User, Never;
    UnsupportedKeyType = 4019, "A column of this type cannot be part of the key", User, Never;
    RoleMissing = 4020, "A role does not exist", User, Never;
    NameTaken = 4021, "The published name is taken by something else", User, Never;
    StatementTimeout = 4022, "A statement in Postgres took too long", User, Later;
    DatabaseMissing = 4023, "The database does not exist", User, Never;

    CountMismatch = 5001, "Postgres holds another number of rows than the source", Defect, Never;
    ChecksumMismatch = 5002, "Postgres holds other values than the source", Defect, Never;
    PublishTimeout = 5003, "The verified load could not be published in time", User, Later;
    LeaseLost = 5004, "Another process took over this pipeline", User, Later;
    RunInProgress = 5005, "A run of this pipeline is under way", User, Later;
    NothingPublished = 5006, "The table has never been published", User, Never;
    GenerationNotFound = 5007, "No such generation or version is kept", User, Never;
    Cancelled = 5008, "The run was cancelled", User, Never;
    RunTimeout = 5009, "The run took longer than its timeout", User, Later;
    DataDiffers = 5010, "The published table differs from its source", User, Never;
    NotIncremental = 5011, "Only a snapshot can bring the table to this state", User, Never;
    CheckFailed = 5012, "A check failed", User, Never;
    CheckInvalid = 5013, "A check cannot be evaluated", User, Never;
    GroupNotPublished = 5014, "Another table of the group failed", User, Never;

    TableNotFound = 6001, "No such table", User, Never;
    RowNotFound = 6002, "No such row", User, Never;
    BadKey = 6003, "The key is not valid", User, Never;
    UnknownColumn = 6004, "No such column", User, Never;
    BadParameter = 6005, "A parameter is not valid", User, Never;
    StaleCursor = 6006, "The cursor is from an earlier publish", User, Never;
    NotAcceptable = 6007, "The requested format is not available", User, Never;
    HostRefused = 6008, "The Host header is not allowed", User, Never;
    Unavailable = 6009, "The table cannot be read right now", User, Later;
    TooLarge = 6010, "The request is too large", User, Never;
    MethodNotAllowed = 6011, "The method is not allowed", User, Never;
    PortTaken = 6012, "The address to listen on is taken", User, Never;
    NoSuchRoute = 6013, "No such path", User, Never;
    Overloaded = 6014, "Too many requests are waiting", User, Later;
    TooStale = 6015, "The data was checked too long ago", User, Later;
    BadBody = 6016, "The body is not valid", User, Never;
    MediaTypeRefused = 6017, "The type of the body is not taken", User, Never;
    CredentialMissing = 6018, "A credential is needed", User, Never;
    CredentialWrong = 6019, "The credential is not valid", User, Never;
    CredentialExpired = 6020, "The credential has expired", User, Never;
    CredentialRevoked = 6021, "The credential was revoked", User, Never;
    RateLimited = 6022, "Too many rows in too short a time", User, Later;

    Paused = 7001, "The pipeline is paused", User, Never;
    Late = 7002, "The data is older than its freshness allows", User, Later;
    AlertRefused = 7003, "The webhook refuses an alert", User, Never;
    AlertUndelivered = 7004, "The webhook cannot be reached", User, Later;
    CancelledOnRequest = 7005, "The run was cancelled on request", User, Never;
    NoRunUnderWay = 7006, "No run is under way", User, Never;
    HeaderMissing = 7007, "The admin API requires a header", User, Never;
    NotJson = 7008, "The admin API takes JSON alone", User, Never;
    InvalidBody = 7009, "The request's body is not valid", User, Never;
    NoSuchRun = 7010, "No such run", User, Never;
    NoAnswer = 7011, "There was no answer in time", User, Later;
    NotAdmin = 7012, "The credential is not for the admin API", User, Never;
    NoSuchKey = 7013, "No such API key", User, Never;
}

impl Code {
    /// The code that is spelled so: `LG2012`.
    #[must_use]
    pub fn named(name: &str) -> Option<Code> {
        let number: u16 = name.strip_prefix("LG")?.parse().ok()?;
        Code::ALL.iter().copied().find(|code| code.number() == number)
    }

    /// Whether a run that ends with it was cancelled and has not failed.
    #[must_use]
    pub const fn is_cancellation(self) -> bool {
        matches!(self, Code::Cancelled | Code::CancelledOnRequest)
    }

    /// Whether it is about a row that Postgres cannot hold.
    #[must_use]
    pub const fn is_about_a_row(self) -> bool {
        self.number() / 1000 == 3
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LG{:04}", self.number())
    }
}

/// What went wrong, for a person and for a program.
///
/// `detail` and `hint` are written for the operator; what an HTTP client may see is decided by `serve` from the code
/// alone, so that text from Postgres or file paths never reaches it.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    detail: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error that says what happened, where and why.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Error(Box::new(Inner { code, detail: detail.into(), hint: None, source: None }))
    }

    /// A broken assumption of our own code.
    #[must_use]
    pub fn internal(detail: impl Into<String>) -> Self {
        Error::new(Code::Internal, detail)
            .hint("please report this with the command, its output and the versions involved")
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds the error underneath.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Puts the place in front of the detail: `place: detail`.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.detail = format!("{place}: {}", self.0.detail);
        self
    }

    /// The same once more, for whoever fails of the same cause; without the error underneath, which stays here.
    #[must_use]
    pub fn repeat(&self) -> Self {
        let Inner { code, detail, hint, source: _ } = &*self.0;
        Error(Box::new(Inner { code: *code, detail: detail.clone(), hint: hint.clone(), source: None }))
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What happened, where and why.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// What to do next, where we know.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.0.code, self.0.code.title(), self.0.detail)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_ascending() {
        let numbers: Vec<u16> = Code::ALL.iter().map(|code| code.number()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    }

    #[test]
    fn a_code_is_found_by_its_name() {
        assert!(Code::ALL.iter().all(|code| Code::named(&code.to_string()) == Some(*code)));
        assert_eq!((Code::named("LG9999"), Code::named("2012"), Code::named("")), (None, None, None));
    }
}
