//! What goes wrong, as a status and a sentence.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hearken_store::StoreError;
use schemars::JsonSchema;
use serde::Serialize;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Nobody is signed in, or a token is missing or unknown: 401.
    #[error("sign in first")]
    NotSignedIn,
    /// The one who asks may not: 403.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such thing: 404.
    #[error("{0}")]
    NotFound(String),
    /// The request cannot be read: 400.
    #[error("{0}")]
    BadRequest(String),
    /// The request can be read and makes no sense: 422.
    #[error("{0}")]
    Unprocessable(String),
    /// It contradicts what is there: 409.
    #[error("{0}")]
    Conflict(String),
    /// The body is too large: 413.
    #[error("{0}")]
    TooLarge(String),
    /// The type of the body is none that is understood: 415.
    #[error("{0}")]
    Unsupported(String),
    /// Too many requests: 429.
    #[error("too many requests; try again in {retry_after_s} s")]
    TooMany {
        /// Seconds until it is worth trying again.
        retry_after_s: u64,
    },
    /// As much as may be is under way at the same time: 429.
    #[error("{text}")]
    Busy {
        /// What is, and how much.
        text: String,
        /// Seconds until it is worth trying again.
        retry_after_s: u64,
    },
    /// The store cannot be reached or written: 503. Nothing was stored.
    #[error("the store cannot be used at the moment: {0}")]
    Unavailable(String),
    /// A bug: 500.
    #[error("something went wrong in the service: {0}")]
    Internal(String),
}

impl AppError {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            AppError::NotSignedIn => StatusCode::UNAUTHORIZED,
            AppError::Forbidden(_) => StatusCode::FORBIDDEN,
            AppError::NotFound(_) => StatusCode::NOT_FOUND,
            AppError::BadRequest(_) => StatusCode::BAD_REQUEST,
            AppError::Unprocessable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            AppError::Conflict(_) => StatusCode::CONFLICT,
            AppError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            AppError::Unsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            AppError::TooMany { .. } | AppError::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
            AppError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            AppError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { .. } => AppError::NotFound(error.to_string()),
            StoreError::Conflict(what) => AppError::Conflict(what),
            StoreError::Invalid(what) => AppError::Unprocessable(what),
            home => AppError::Unavailable(home.to_string()),
        }
    }
}

/// The sentence of an error, on the way from a handler to the layer that dresses it as a page.
#[derive(Clone, Debug)]
pub(crate) struct Problem(pub(crate) String);

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        let (status, message) = (self.status(), self.to_string());
        if status.is_server_error() {
            tracing::error!(status = status.as_u16(), "{message}");
        }
        let mut response = problem_json(status, &message);
        if let AppError::TooMany { retry_after_s } | AppError::Busy { retry_after_s, .. } = self {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
        }
        response
    }
}

/// What every failure answers: `{"error": {"status": 404, "message": "…"}}`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(crate) struct ErrorBody {
    error: ErrorFields,
}

#[derive(Serialize, JsonSchema)]
struct ErrorFields {
    status: u16,
    /// A sentence for a person.
    message: String,
}

/// The answer of a failure.
pub(crate) fn problem_json(status: StatusCode, message: &str) -> Response {
    let error = ErrorFields { status: status.as_u16(), message: message.to_owned() };
    let body = ErrorBody { error };
    let mut response = (status, Json(body)).into_response();
    response.extensions_mut().insert(Problem(message.to_owned()));
    response
}

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store holds something that this program did not write so.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// Orders of the embedding program cannot be told apart.
    #[error("{0}")]
    Order(String),
    /// Nobody can be signed in so.
    #[error("{0}")]
    OpenId(String),
    /// Projects of one service cannot be told apart.
    #[error("{0}")]
    Projects(String),
    /// Others could reach the service, and nobody would have to sign in.
    #[error(
        "{address} can be reached from other machines, and the store has no administrator account: \
         `hearken collect --store {store} --add-admin NAME` makes one; or bind to 127.0.0.1"
    )]
    NoAccounts {
        /// What it would bind to, or where a proxy passes requests on to it.
        address: String,
        /// Where the store is.
        store: String,
    },
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// What it would bind to.
        address: std::net::SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// An account cannot be made.
    #[error("{0}")]
    Account(String),
    /// The socket broke while serving.
    #[error("the service broke off: {0}")]
    Serve(std::io::Error),
}
