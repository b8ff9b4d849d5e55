//! What goes wrong, in OpenAI's shape.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

/// Why a request was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// A parameter, or the body as a whole, is wrong: 400.
    #[error("{message}")]
    Invalid { message: String, param: Option<String>, code: Option<&'static str> },
    /// There is no such model: 404.
    #[error("the model `{name}` does not exist; there are {known}")]
    NoModel { name: String, known: String },
    /// There is nothing at this address: 404.
    #[error("there is no {0} here")]
    NotFound(String),
    /// Not with this method: 405.
    #[error("{0} is not answered here")]
    Method(String),
    /// No key, or an unknown one: 401.
    #[error("{0}")]
    NoKey(&'static str),
    /// A page of another site asks: 403.
    #[error("pages of other sites may not ask: found the origin {0}")]
    Origin(String),
    /// The body did not come in time: 408.
    #[error("the body of the request did not come in time")]
    Late,
    /// It contradicts what is under way: 409.
    #[error("{0}")]
    Conflict(String),
    /// The body is too large: 413.
    #[error("the body has more than {0} bytes")]
    TooLarge(usize),
    /// The body is no JSON by its type: 415.
    #[error("the body has the type {0:?}; expected application/json")]
    Type(String),
    /// As much is asked for as may be: 429.
    #[error("{0} completions are asked for already, as many as may be; try again soon")]
    Busy(usize),
    /// A bug, or weights that have diverged: 500.
    #[error("{0}")]
    Internal(String),
    /// The service ends: 503.
    #[error("the service is ending")]
    Ending,
    /// It took too long: 504.
    #[error("the answer took more than {0} s")]
    Timeout(u64),
}

impl ApiError {
    /// A parameter is wrong.
    pub(crate) fn param(param: &str, message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), param: Some(param.to_owned()), code: None }
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Invalid { .. } => StatusCode::BAD_REQUEST,
            Self::NoModel { .. } | Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoKey(_) => StatusCode::UNAUTHORIZED,
            Self::Origin(_) => StatusCode::FORBIDDEN,
            Self::Late => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Type(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Ending => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// What is sent, also in the middle of a stream.
    pub(crate) fn body(&self) -> ErrorBody {
        let (param, code) = match self {
            Self::Invalid { param, code, .. } => (param.clone(), *code),
            Self::NoModel { .. } => (Some("model".to_owned()), Some("model_not_found")),
            Self::NoKey(_) => (None, Some("invalid_api_key")),
            Self::Busy(_) => (None, Some("rate_limit_exceeded")),
            _ => (None, None),
        };
        let kind = match self.status() {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        ErrorBody { error: ErrorFields { message: self.to_string(), kind, param, code } }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            tracing::error!(status = status.as_u16(), "{self}");
        }
        let mut response = (status, Json(self.body())).into_response();
        let mut set = |name, value| response.headers_mut().insert(name, value);
        match self {
            Self::Busy(_) | Self::Ending => {
                set(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::NoKey(_) => {
                set(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

/// What every failure answers.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(crate) struct ErrorBody {
    error: ErrorFields,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ErrorFields {
    /// A sentence for a person.
    message: String,
    /// The kind of failure.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The parameter that is to blame, where it is one.
    param: Option<String>,
    /// The failure's name, where it has one.
    code: Option<&'static str>,
}

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Others could reach the service, and nobody would need a key.
    #[error(
        "{0} can be reached from other machines, and there is no API key: give --api-key-file or \
         HEARKEN_API_KEY, or bind to 127.0.0.1, or say --no-key"
    )]
    NoKey(std::net::SocketAddr),
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// What it would bind to.
        address: std::net::SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// Two models have one name.
    #[error("two models are named `{0}`; expected a name of its own for each")]
    SameName(String),
    /// A model cannot be served.
    #[error("{place}: {reason}")]
    Model {
        /// Where it is.
        place: String,
        /// Why not.
        reason: String,
    },
    /// The file of completions cannot be written.
    #[error("{}: {source}", path.display())]
    Log {
        /// The file.
        path: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}
