//! Why a fetch gives nothing: what, why, the number, and who could change it.

use msm_sandbox::{AskError, AskErrorKind};

/// A fetch that was refused or failed. Texts begin with a stable code; none tells a guest an address of the owner's
/// network that the guest did not name itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The question itself is wrong.
    #[error("bad-request: {0}")]
    BadRequest(String),
    /// No URL, or one that means different hosts to different readers.
    #[error("bad-url: {0}")]
    BadUrl(String),
    /// Neither http nor https.
    #[error("blocked-scheme: {scheme}: is not fetched, only http: and https: are")]
    BlockedScheme { scheme: String },
    /// The manifest or the owner does not list the host.
    #[error("blocked-host: {host} {why}")]
    BlockedHost { host: String, why: String },
    /// A port that is not for the web.
    #[error(
        "blocked-port: port {port} of {host} is not allowed: 80 and 443 are, and what the owner lists as \
         net-ports (of a private address: net-private) below [resources]"
    )]
    BlockedPort { host: String, port: u16 },
    /// An address that is not public. One such address among several is enough.
    #[error(
        "blocked-address: {host} leads to an address that is {what}; only public addresses are fetched from, and what \
         the owner lists as HOST:PORT in net-private below [resources]"
    )]
    BlockedAddress {
        host: String,
        what: String,
        /// A name led there, which says what this device's resolver knows; otherwise the address was written out.
        named: bool,
    },
    /// More redirects than are followed.
    #[error("too-many-redirects: {0} redirects were followed, and there is one more")]
    TooManyRedirects(usize),
    /// No address for the name.
    #[error("unknown-host: {host} has no address: {why}")]
    UnknownHost { host: String, why: String },
    /// No connection, or a broken one.
    #[error("unreachable: {host}: {why}")]
    Unreachable { host: String, why: String },
    /// No agreement on a secure connection.
    #[error("tls: {host}: {why}")]
    Tls { host: String, why: String },
    /// Too slow.
    #[error("timeout: {host} {what} within {limit_ms} ms")]
    Timeout { host: String, what: &'static str, limit_ms: u64 },
    /// Too many bytes.
    #[error("too-large: {what} of {host} is over {limit} {unit}")]
    TooLarge { host: String, what: &'static str, limit: u64, unit: &'static str },
    /// A coding that was not offered, or a broken one.
    #[error("bad-encoding: {host}: {why}")]
    BadEncoding { host: String, why: String },
    /// An answer that is no HTTP.
    #[error("bad-answer: {host}: {why}")]
    BadAnswer { host: String, why: String },
    /// Others are before it.
    #[error(
        "busy: {host} is asked twice a second at most, and names are looked up five times a second for one client; the \
         queue is longer than {limit_ms} ms"
    )]
    Busy { host: String, limit_ms: u64 },
    /// The owner's budget is spent.
    #[error("quota: {0}")]
    Quota(String),
    /// Something on this device.
    #[error("failed: {0}")]
    Internal(String),
}

impl FetchError {
    /// The code that its text begins with.
    pub fn code(&self) -> String {
        let text = self.to_string();
        text.split(':').next().unwrap_or_default().to_owned()
    }

    /// What kind of error the guest sees.
    pub const fn kind(&self) -> AskErrorKind {
        match self {
            Self::BadRequest(_) | Self::BadUrl(_) => AskErrorKind::Usage,
            Self::BlockedScheme { .. }
            | Self::BlockedHost { .. }
            | Self::BlockedPort { .. }
            | Self::BlockedAddress { .. } => AskErrorKind::Denied,
            Self::TooLarge { .. } | Self::Busy { .. } | Self::Quota(_) => AskErrorKind::Limit,
            Self::TooManyRedirects(_)
            | Self::UnknownHost { .. }
            | Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::Timeout { .. }
            | Self::BadEncoding { .. }
            | Self::BadAnswer { .. }
            | Self::Internal(_) => AskErrorKind::Failed,
        }
    }
}

impl From<FetchError> for AskError {
    fn from(error: FetchError) -> Self {
        let error = match error {
            // Whether a name is unknown or leads to the owner's own network is the owner's business: one text for both.
            FetchError::BlockedAddress { host, named: true, .. } | FetchError::UnknownHost { host, .. } => {
                FetchError::UnknownHost { host, why: "none that is public".into() }
            }
            error => error,
        };
        Self::new(error.kind(), format!("net.fetch: {error}"))
    }
}
