//! The service as a whole: from models to a router, from a router to a socket.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use hearken_http::Reception;
use hearken_http::host::{host_of, is_loopback};
use tokio::net::TcpListener;

use crate::error::{ApiError, StartError};
use crate::log::now_ms;
use crate::options::Options;
use crate::parts::{Parts, WeightsPlace};
use crate::state::AppState;
use crate::{admin, chat, completions, feedback, logprobs, messages, models, openapi, scoring};

/// Connections of one address.
const CONNECTIONS_PER_ADDRESS: usize = 4096;

/// Between two looks for lines of the log that are too old.
const FORGETTING: Duration = Duration::from_secs(3600);

/// Models behind OpenAI's API.
#[derive(Clone, Debug)]
pub struct Service {
    state: AppState,
}

impl Service {
    /// The service, before it listens. Reads the models, the base first; each is served under its name.
    /// Blocks.
    ///
    /// # Errors
    /// A model cannot be read, two have one name, the file of completions cannot be written, or others
    /// could reach the service without a key.
    ///
    /// # Panics
    /// If there is no model.
    pub fn new(
        models: &[(String, WeightsPlace)],
        options: Options,
        parts: Parts,
    ) -> Result<Self, StartError> {
        assert!(!models.is_empty(), "a model is served");
        Ok(Self { state: AppState::new(models, options, parts)? })
    }

    /// The whole service as a router.
    pub fn router(&self) -> Router {
        let state = self.state.clone();
        let asked = Router::new()
            .route("/v1/chat/completions", post(chat::post))
            .route("/v1/completions", post(completions::post))
            .route("/v1/messages", post(messages::post))
            .route("/v1/score", post(scoring::post))
            .route("/v1/logprobs", post(logprobs::post))
            .route("/v1/feedback", post(feedback::post))
            .route("/v1/models", get(models::list))
            .route("/v1/models/{*model}", get(models::one))
            .route("/tokenize", post(models::tokenize))
            .route("/detokenize", post(models::detokenize))
            .route("/metrics", get(models::metrics))
            .layer(from_fn_with_state(state.clone(), ask_for_key));
        let admin = Router::new()
            .route("/admin/weights", post(admin::post))
            .route("/admin/forget", post(admin::forget))
            .route(
                "/admin/candidate",
                post(admin::put_candidate).get(admin::candidate).delete(admin::end_candidate),
            )
            .layer(from_fn_with_state(state.clone(), ask_for_admin_key));
        Router::new()
            .merge(asked)
            .merge(admin)
            .route("/health", get(models::health))
            .route("/openapi.json", get(openapi::get))
            .fallback(nothing_here)
            .method_not_allowed_fallback(not_this_way)
            .layer(DefaultBodyLimit::max(self.state.options.body_bytes))
            .layer(from_fn_with_state(state.clone(), receive))
            .with_state(state)
    }

    /// Takes the address.
    ///
    /// # Errors
    /// It is taken, or not this machine's.
    pub async fn listen(&self) -> Result<TcpListener, StartError> {
        let address = self.state.options.bind;
        TcpListener::bind(address).await.map_err(|source| StartError::Bind { address, source })
    }

    /// Answers requests until `stop` is done; from there on refuses new ones, and ends when those under
    /// way have, or have taken too long.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let (tell, told) = tokio::sync::watch::channel(false);
        let reception = Reception {
            per_address: CONNECTIONS_PER_ADDRESS,
            behind_proxy: false,
            late: || ApiError::Late.into_response(),
        };
        let forgetting = tokio::spawn(forget_old(self.state.clone()));
        let serving = tokio::spawn(hearken_http::serve(listener, self.router(), reception, told));
        stop.await;
        forgetting.abort();
        self.state.end().await;
        // Serving has not ended by itself.
        let _ = tell.send(true);
        // The last answers are on their way to whoever reads them.
        drop(tokio::time::timeout(Duration::from_secs(2), serving).await);
    }
}

/// Removes from the log what is too old, every hour.
async fn forget_old(state: AppState) {
    loop {
        tokio::time::sleep(FORGETTING).await;
        let state = state.clone();
        let forgotten = tokio::task::spawn_blocking(move || {
            state.log.as_ref().map_or(Ok(()), |log| log.forget_old(now_ms()))
        });
        if let Ok(Err(error)) = forgotten.await {
            tracing::error!("lines that are too old were not removed: {error}");
        }
    }
}

async fn nothing_here(uri: Uri) -> ApiError {
    ApiError::NotFound(uri.path().to_owned())
}

async fn not_this_way(method: Method, uri: Uri) -> ApiError {
    ApiError::Method(format!("{method} {}", uri.path()))
}

/// What every request passes: whether it comes from where it may, whether the service ends, and a count.
async fn receive(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = match admitted(&state, &request) {
        Ok(()) => in_shape(next.run(request).await, &state),
        Err(error) => error.into_response(),
    };
    let status = response.status().as_u16();
    // What is not there has as many names as anybody likes.
    let is_of = |known: &&str| path == *known || *known == "/v1/models" && path.starts_with(known);
    let counted = PATHS.into_iter().find(is_of).unwrap_or("other");
    state.metrics.request(counted, status);
    let ms = started.elapsed().as_secs_f64() * 1e3;
    tracing::info!(status, ms, "{method} {path}");
    response
}

/// Paths that are counted by their names.
const PATHS: [&str; 15] = [
    "/admin/candidate",
    "/admin/forget",
    "/admin/weights",
    "/detokenize",
    "/health",
    "/metrics",
    "/openapi.json",
    "/tokenize",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/feedback",
    "/v1/logprobs",
    "/v1/messages",
    "/v1/models",
    "/v1/score",
];

fn admitted(state: &AppState, request: &Request) -> Result<(), ApiError> {
    let path = request.uri().path();
    if state.is_ending() && path != "/health" && path != "/metrics" {
        return Err(ApiError::Ending);
    }
    // Without keys, whoever reaches the service may ask; pages that people have open must not be among
    // them.
    if state.options.keys.is_empty()
        && !state.options.open
        && let Some(origin) = request.headers().get(header::ORIGIN)
    {
        let origin = origin.to_str().unwrap_or_default();
        if !is_loopback(host_of(origin)) {
            return Err(ApiError::Origin(origin.to_owned()));
        }
    }
    Ok(())
}

/// An answer with a body in OpenAI's shape, where a layer refused the request with a text.
fn in_shape(response: Response, state: &AppState) -> Response {
    let is_text = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    match response.status().as_u16() {
        413 if is_text => ApiError::TooLarge(state.options.body_bytes).into_response(),
        400 if is_text => {
            let message = "the body broke off".to_owned();
            ApiError::Invalid { message, param: None, code: None }.into_response()
        }
        _ => response,
    }
}

/// The key of `Authorization: Bearer KEY`, or of `x-api-key`.
fn key(headers: &HeaderMap) -> Option<&str> {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    bearer.or_else(|| text("x-api-key"))
}

async fn ask_for_key(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let keys = &state.options.keys;
    if keys.is_empty() {
        return next.run(request).await;
    }
    match key(request.headers()) {
        Some(key) if keys.have(key) => next.run(request).await,
        Some(_) => ApiError::NoKey("the API key is not known here").into_response(),
        None => ApiError::NoKey("expected an API key: Authorization: Bearer KEY").into_response(),
    }
}

async fn ask_for_admin_key(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let keys = &state.options.admin_keys;
    match key(request.headers()) {
        Some(key) if keys.have(key) => next.run(request).await,
        _ if keys.is_empty() => {
            ApiError::NoKey("this is closed: the service has no admin key").into_response()
        }
        _ => ApiError::NoKey("expected the admin key: Authorization: Bearer KEY").into_response(),
    }
}
