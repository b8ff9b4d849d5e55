//! The service as a whole: from a store to a router, from a router to a socket.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use hearken_http::Reception;
use hearken_store::Store;
use tokio::net::TcpListener;

use crate::error::{StartError, problem_json};
use crate::options::Options;
use crate::parts::Parts;
use crate::state::{AppState, Clock, Mode};
use crate::{accounts, api, pages, security, session, webhooks};

/// How long requests that are under way at the end may take.
const GRACE: Duration = Duration::from_secs(10);
/// How often expired sessions and invitations are removed.
const SWEEP: Duration = Duration::from_secs(3600);

/// The labelling service on a store.
#[derive(Clone, Debug)]
pub struct Service {
    state: AppState,
}

impl Service {
    /// The service, before it listens.
    ///
    /// # Errors
    ///
    /// The store cannot be used; others could reach the service and there is no administrator.
    pub fn new(store: Arc<dyn Store>, options: Options, parts: Parts) -> Result<Self, StartError> {
        Self::start(store, options, parts, None)
    }

    /// The service with another clock than the machine's.
    ///
    /// # Errors
    ///
    /// As [`Service::new`].
    pub fn with_clock(
        store: Arc<dyn Store>,
        options: Options,
        parts: Parts,
        clock: Clock,
    ) -> Result<Self, StartError> {
        Self::start(store, options, parts, Some(clock))
    }

    fn start(
        store: Arc<dyn Store>,
        options: Options,
        parts: Parts,
        clock: Option<Clock>,
    ) -> Result<Self, StartError> {
        let state = AppState::new(store, options, parts, clock)?;
        if state.mode() == Mode::Local
            && let Some(address) = state.options().reached_by_others()
        {
            return Err(StartError::NoAccounts { address, store: state.store().home() });
        }
        Ok(Self { state })
    }

    /// What the handlers work with.
    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// Whether people sign in; otherwise everybody on this machine is the annotator `local`.
    pub fn has_accounts(&self) -> bool {
        self.state.mode() == Mode::Accounts
    }

    /// The whole service as a router: pages, API, assets, with every layer.
    pub fn router(&self) -> Router {
        let state = self.state.clone();
        Router::new()
            .merge(pages::router())
            .merge(pages::uploads(&state))
            .nest("/api/v1", api::router(&state))
            .fallback(pages::nothing_here)
            .method_not_allowed_fallback(pages::not_this_way)
            .layer(DefaultBodyLimit::max(session::FORM_BYTES))
            .layer(from_fn_with_state(state.clone(), session::guard))
            .layer(from_fn(security::survive))
            .layer(from_fn_with_state(state.clone(), security::dress))
            .with_state(state)
    }

    /// Takes the address.
    ///
    /// # Errors
    ///
    /// It is taken, or not this machine's.
    pub async fn listen(&self) -> Result<TcpListener, StartError> {
        let address = self.state.options().bind;
        TcpListener::bind(address).await.map_err(|source| StartError::Bind { address, source })
    }

    /// Answers requests until `stop` is done; those under way are finished.
    ///
    /// # Errors
    ///
    /// None: what goes wrong on a connection ends that connection.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), StartError> {
        let router = self.router();
        serve_all(vec![self.state], router, listener, stop).await;
        Ok(())
    }
}

/// Answers requests to some projects until `stop` is done; those under way are finished.
pub(crate) async fn serve_all(
    states: Vec<AppState>,
    router: Router,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let Some(options) = states.first().map(|state| state.options().clone()) else { return };
    let (tell, told) = tokio::sync::watch::channel(false);
    let delivering = states.iter().filter(|state| state.options().webhooks);
    let couriers: Vec<_> = delivering.map(webhooks::start).collect();
    let sweepers: Vec<_> = states.iter().map(|state| tokio::spawn(sweep(state.clone()))).collect();
    tokio::spawn(async move {
        stop.await;
        // Nobody listens any more only where serving has ended by itself.
        let _ = tell.send(true);
    });
    let reception = Reception {
        per_address: options.connections_per_address,
        behind_proxy: options.public_url.is_some(),
        late: body_too_late,
    };
    let serving = hearken_http::serve(listener, router, reception, told.clone());
    tokio::select! {
        () = serving => {}
        () = grace(told) => {}
    }
    for sweeper in sweepers {
        sweeper.abort();
    }
    for courier in couriers {
        courier.stop().await;
    }
}

fn body_too_late() -> Response {
    problem_json(StatusCode::REQUEST_TIMEOUT, "the body of the request did not come in time")
}

/// Ends some time after `told`: a stream that nobody closes must not hold the service up.
async fn grace(mut told: tokio::sync::watch::Receiver<bool>) {
    if told.wait_for(|stopping| *stopping).await.is_ok() {
        tokio::time::sleep(GRACE).await;
    } else {
        std::future::pending::<()>().await;
    }
}

async fn sweep(state: AppState) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        let now = state.steady_now();
        if let Err(error) = state.read(move |store| accounts::sessions::sweep(store, now)).await {
            tracing::warn!("expired sessions were not removed: {error}");
        }
    }
}
