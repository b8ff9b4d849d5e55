//! Several projects in one service: each under `/p/NAME`, with settings, guidelines, people and a store of its own.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::get;
use hearken_http::host::authority_of;
use hearken_store::Store;
use minijinja::context;
use tokio::net::TcpListener;

use crate::codec;
use crate::error::{AppError, StartError};
use crate::language::{self, Language};
use crate::options::Options;
use crate::pages::home::{self, HomeQuery};
use crate::parts::Parts;
use crate::server::{Service, serve_all};
use crate::state::AppState;
use crate::{security, session};

/// Characters of a project's name.
const NAME_MAX: usize = 40;

/// What a project of several is made of.
pub struct Project {
    /// Its name in addresses: small letters, digits and `-`, at most 40.
    pub name: String,
    /// Its items, judgements and people.
    pub store: Arc<dyn Store>,
    /// What the program hands in.
    pub parts: Parts,
    /// What it is started with; [`Options::base`] is set here.
    pub options: Options,
}

impl fmt::Debug for Project {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let home = self.store.home();
        f.debug_struct("Project")
            .field("name", &self.name)
            .field("store", &home)
            .finish_non_exhaustive()
    }
}

/// Several projects that listen at one address. Each has accounts of its own; a browser may be signed in to several.
#[derive(Clone, Debug)]
pub struct Projects {
    named: Arc<Vec<(String, Service)>>,
}

impl Projects {
    /// The projects, before they listen: at the address, and with the limits of connections, of the first.
    ///
    /// # Errors
    ///
    /// A name is none or comes twice; a store cannot be used, is one of two projects, or has no administrator although
    /// others can reach the service.
    pub fn new(projects: Vec<Project>) -> Result<Self, StartError> {
        if projects.is_empty() {
            return Err(StartError::Projects("a service has one project at least".into()));
        }
        let mut named: Vec<(String, Service)> = Vec::new();
        for Project { name, store, parts, options } in projects {
            check_name(&name)?;
            let home = store.home();
            for (other, service) in &named {
                if *other == name {
                    return Err(StartError::Projects(format!("two projects are called {name:?}")));
                }
                if service.state().store().home() == home {
                    return Err(StartError::Projects(format!(
                        "the projects {other:?} and {name:?} have the same store, {home}"
                    )));
                }
            }
            let options = Options { base: format!("/p/{name}"), ..options };
            named.push((name, Service::new(store, options, parts)?));
        }
        Ok(Self { named: Arc::new(named) })
    }

    /// Each project with its name.
    pub fn services(&self) -> &[(String, Service)] {
        &self.named
    }

    /// All projects as a router, and the list of their names at `/`.
    pub fn router(&self) -> Router {
        let mut router = Router::new()
            .route("/", get(list))
            .route("/language", get(language))
            .route("/health", get(health))
            .route("/media/{*path}", get(media))
            .fallback(nothing_here)
            .layer(from_fn(dress))
            .with_state(self.clone());
        for (name, service) in &*self.named {
            router = router.nest_service(&format!("/p/{name}"), service.router());
        }
        router
    }

    /// Takes the address.
    ///
    /// # Errors
    ///
    /// It is taken, or not this machine's.
    pub async fn listen(&self) -> Result<TcpListener, StartError> {
        self.first().listen().await
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
        let states: Vec<AppState> =
            self.named.iter().map(|(_, service)| service.state().clone()).collect();
        let router = self.router();
        serve_all(states, router, listener, stop).await;
        Ok(())
    }

    fn first(&self) -> &Service {
        &self.named.first().expect("invariant: there is one project at least").1
    }
}

fn check_name(name: &str) -> Result<(), StartError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err(StartError::Projects(format!(
        "the name of a project has 1 to {NAME_MAX} small letters, digits or \"-\", found {name:?}"
    )))
}

/// `GET /`: the projects, and as whom somebody is signed in to each.
async fn list(State(all): State<Projects>, headers: HeaderMap) -> Result<Html<String>, AppError> {
    let mut projects = Vec::new();
    for (name, service) in &*all.named {
        let state = service.state();
        let user = session::find_user(state, &headers).await?;
        // Titles are for those who may see them.
        let title = match user {
            Some(_) => Some(state.blocking(|state| Ok(state.settings()?.title.clone())).await?),
            None => None,
        };
        // Where nobody signs in, everybody is the same.
        let user = user.filter(|_| service.has_accounts()).map(|user| user.name);
        projects.push(context! { name, user, title });
    }
    let accounts = all.named.iter().any(|(_, service)| service.has_accounts());
    let values = context! { project => "Hearken", projects, accounts };
    all.first().state().render("projects.html", values)
}

/// `GET /language`: for the pages of all projects.
async fn language(
    State(all): State<Projects>,
    wanted: Query<HomeQuery>,
    headers: HeaderMap,
) -> Result<Response, AppError> {
    home::language(State(all.first().state().clone()), wanted, headers).await
}

/// Whether the stores of all projects can be read and written.
async fn health(State(all): State<Projects>) -> Result<Response, AppError> {
    for (_, service) in &*all.named {
        let check = |state: &AppState| Ok(state.health().check(state.store(), state.now())?);
        service.state().blocking(check).await?;
    }
    Ok(axum::Json(serde_json::json!({"status": "ok"})).into_response())
}

/// An image of the project whose page asks for it: texts name images without the project.
async fn media(
    State(all): State<Projects>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Redirect, AppError> {
    let from = headers.get(header::REFERER).and_then(|from| from.to_str().ok()).unwrap_or_default();
    let page = from.split_once(authority_of(from)).map_or("", |(_, page)| page);
    let name = page.strip_prefix("/p/").and_then(|rest| rest.split('/').next());
    let known = all.named.iter().find(|(known, _)| Some(&**known) == name);
    match known {
        Some((name, _)) => {
            Ok(Redirect::temporary(&format!("/p/{name}/media/{}", codec::percent(&path))))
        }
        None => Err(AppError::NotFound("no page of a project asks for this image".into())),
    }
}

async fn nothing_here() -> AppError {
    AppError::NotFound("there is no such page; projects are at /p/NAME".into())
}

async fn dress(request: Request, next: Next) -> Response {
    let wants_page = security::wants_html(request.headers());
    let language = Language::of(request.headers());
    let mut response = language::answering(language, next.run(request)).await;
    if wants_page && response.status() == StatusCode::NOT_FOUND {
        response = Redirect::to("/").into_response();
    }
    security::protect(response.headers_mut());
    response
}
