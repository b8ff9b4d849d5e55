//! What every handler works with.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::response::Html;
use hearken_store::{Event, Expected, Store, StoreError};
use minijinja::{Environment, Value, context};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::accounts;
use crate::assets::Assets;
use crate::bell::Bell;
use crate::board::Board;
use crate::desk::Desk;
use crate::error::{AppError, StartError};
use crate::health::Health;
use crate::language::{self, Language};
use crate::limits::RateLimits;
use crate::openid::Provider;
use crate::options::{Media, Options};
use crate::parts::Parts;
use crate::pool::StorePool;
use crate::queue::{BUILT_IN, Distributor, Order, built_in, check_names, lock};
use crate::settings::ProjectSettings;
use crate::steady::Steady;
use crate::user::CurrentUser;
use crate::{codec, templates};

/// Milliseconds since 1970 in UTC.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The clock of the machine.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// How long settings and guidelines that another process may have changed are believed.
const CACHE_MS: i64 = 2_000;
/// Password hashes that are computed at the same time; each takes 19 MiB.
const HASHES_AT_ONCE: usize = 2;
/// Imports, exports and analyses at the same time; each may hold the whole store in memory.
const LONG_AT_ONCE: usize = 2;

/// Whether people sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One annotator, `local`, who has every role; loopback only.
    Local,
    /// Accounts.
    Accounts,
}

/// What every handler works with. Clones share it.
#[derive(Clone)]
pub struct AppState {
    shared: Arc<SharedState>,
}

struct SharedState {
    /// There until it is dropped.
    store: Option<Arc<dyn Store>>,
    options: Options,
    parts: Parts,
    /// Whether people sign in: from the moment on when there is an administrator.
    has_accounts: AtomicBool,
    administered: Mutex<Option<(i64, Arc<bool>)>>,
    clock: Clock,
    /// For sessions, where the clock is the machine's.
    steady: Option<Steady>,
    pool: StorePool,
    secret: Vec<u8>,
    /// In each language.
    templates: Vec<Environment<'static>>,
    assets: Assets,
    distributor: Distributor,
    /// The orders that are always there.
    orders: Vec<Box<dyn Order>>,
    limits: RateLimits,
    hashing: Semaphore,
    long: Semaphore,
    health: Health,
    bell: Bell,
    board: Mutex<Board>,
    desk: Desk,
    openid: Option<Provider>,
    settings: Mutex<Option<(i64, Arc<ProjectSettings>)>>,
    guidelines: Mutex<Option<(i64, Arc<Guidelines>)>>,
}

/// A version of the guidelines. Version 0 stands for none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Guidelines {
    /// Counts from 1.
    pub version: u32,
    /// Markdown.
    pub text: String,
    /// When it was written: milliseconds since 1970 in UTC.
    pub at: i64,
}

impl fmt::Debug for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppState").field("mode", &self.mode()).finish_non_exhaustive()
    }
}

impl Drop for SharedState {
    /// A store may wait when it is closed, which threads that drive requests must not.
    fn drop(&mut self) {
        let store = self.store.take();
        on_own_thread(|| drop(store));
    }
}

/// Runs `work`, which may wait, on a thread of its own and waits for it.
fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

impl AppState {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        options: Options,
        parts: Parts,
        clock: Option<Clock>,
    ) -> Result<Self, StartError> {
        check_names(&parts.orders).map_err(StartError::Order)?;
        let (has_accounts, secret) = on_own_thread(|| {
            let has_accounts = accounts::any_administrator(&*store)?;
            Ok::<_, StartError>((has_accounts, service_secret(&*store)?))
        })?;
        let assets = Assets::new();
        let of = |language| templates::environment(language, &assets, &options.base);
        let templates = Language::ALL.map(of).into();
        if let Some(openid) = &options.openid {
            openid.check().map_err(StartError::OpenId)?;
        }
        let openid = options.openid.clone().map(Provider::new);
        let limits = RateLimits::new(&options);
        let keeps_media = matches!(options.media, Some(Media::Named(_)));
        let shared = SharedState {
            store: Some(store),
            options,
            parts,
            has_accounts: AtomicBool::new(has_accounts),
            administered: Mutex::new(None),
            steady: clock.is_none().then(Steady::new),
            clock: clock.unwrap_or_else(system_clock),
            pool: StorePool::new().map_err(StartError::Serve)?,
            secret,
            templates,
            assets,
            distributor: Distributor::new(keeps_media),
            orders: built_in(),
            limits,
            hashing: Semaphore::new(HASHES_AT_ONCE),
            long: Semaphore::new(LONG_AT_ONCE),
            health: Health::default(),
            bell: Bell::default(),
            board: Mutex::default(),
            desk: Desk::default(),
            openid,
            settings: Mutex::new(None),
            guidelines: Mutex::new(None),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The store, for code that already runs on a thread that may block; handlers use
    /// [`AppState::read`].
    #[expect(clippy::missing_panics_doc, reason = "it is there")]
    pub fn store(&self) -> &dyn Store {
        self.shared
            .store
            .as_deref()
            .expect("invariant: the store is there until the state is dropped")
    }

    /// What the service was started with.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// What the command line handed in.
    pub fn parts(&self) -> &Parts {
        &self.shared.parts
    }

    /// The names of the orders, for the settings of the project.
    pub fn orders(&self) -> Vec<&str> {
        let further = self.parts().orders.iter().map(|order| order.name());
        BUILT_IN.into_iter().chain(further).collect()
    }

    /// The order of this name.
    pub fn order(&self, name: &str) -> Option<&dyn Order> {
        let all = self.shared.orders.iter().chain(&self.parts().orders);
        all.map(|order| &**order).find(|order| order.name() == name)
    }

    /// Whether people sign in.
    pub fn mode(&self) -> Mode {
        let has_accounts = self.shared.has_accounts.load(Ordering::Relaxed);
        if has_accounts { Mode::Accounts } else { Mode::Local }
    }

    /// Finds out whether another process has made an administrator: from then on people sign in, and
    /// nobody is `local` any more. May block.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub(crate) fn look_for_accounts(&self) -> Result<(), AppError> {
        let administered = cached(&self.shared.administered, self.now(), || {
            Ok(accounts::any_administrator(self.store())?)
        })?;
        if *administered {
            self.shared.has_accounts.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Milliseconds since 1970 in UTC.
    pub fn now(&self) -> i64 {
        (self.shared.clock)()
    }

    /// The time by which sessions end: that of the clock, except where the machine's clock has just jumped.
    pub(crate) fn steady_now(&self) -> i64 {
        let now = self.now();
        self.shared.steady.as_ref().map_or(now, |steady| steady.time(now))
    }

    /// The key from which tokens against forged requests are made; the same in every process on
    /// this store.
    pub(crate) fn secret(&self) -> &[u8] {
        &self.shared.secret
    }

    pub(crate) fn assets(&self) -> &Assets {
        &self.shared.assets
    }

    pub(crate) fn distributor(&self) -> &Distributor {
        &self.shared.distributor
    }

    /// What was judged, as far as is known. Where the index of items is needed too, this is locked first.
    pub(crate) fn board(&self) -> MutexGuard<'_, Board> {
        lock(&self.shared.board)
    }

    pub(crate) fn limits(&self) -> &RateLimits {
        &self.shared.limits
    }

    pub(crate) fn hashing(&self) -> &Semaphore {
        &self.shared.hashing
    }

    pub(crate) fn desk(&self) -> &Desk {
        &self.shared.desk
    }

    pub(crate) fn openid(&self) -> Option<&Provider> {
        self.shared.openid.as_ref()
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.shared.bell
    }

    pub(crate) fn health(&self) -> &Health {
        &self.shared.health
    }

    /// Runs `work`, which asks the store, on a thread that may block.
    ///
    /// # Errors
    ///
    /// Those of `work`; that it panicked.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AppState) -> Result<T, AppError> + Send + 'static,
    ) -> Result<T, AppError> {
        let state = self.clone();
        let language = language::current();
        let running = self.shared.pool.run(move || language::working(language, || work(&state)));
        running.await.map_err(|_| broke_off())?
    }

    /// Runs `work` that takes long, such as an import, when there is room for more of its kind.
    ///
    /// # Errors
    ///
    /// Those of `work`; that it panicked.
    pub(crate) async fn long<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AppState) -> Result<T, AppError> + Send + 'static,
    ) -> Result<T, AppError> {
        let _room = self.shared.long.acquire().await.expect("invariant: the semaphore stays open");
        let state = self.clone();
        let language = language::current();
        let work = move || language::working(language, || work(&state));
        let running = tokio::task::spawn_blocking(work);
        running.await.map_err(|_| broke_off())?
    }

    /// Asks the store on a thread that may block.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, AppError> {
        self.blocking(move |state| Ok(work(state.store())?)).await
    }

    /// The settings of the project. May block.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or holds settings of another version of this program.
    pub fn settings(&self) -> Result<Arc<ProjectSettings>, AppError> {
        cached(&self.shared.settings, self.now(), || self.load_settings())
    }

    fn load_settings(&self) -> Result<ProjectSettings, AppError> {
        if let Some(settings) = ProjectSettings::of(self.store())? {
            return Ok(settings);
        }
        let mut settings = ProjectSettings::default();
        if let Some(title) = &self.shared.options.title {
            settings.title.clone_from(title);
        }
        Ok(settings)
    }

    /// Writes the settings of the project. May block.
    ///
    /// # Errors
    ///
    /// They make no sense, or the store cannot be written.
    pub fn put_settings(&self, settings: &ProjectSettings) -> Result<(), AppError> {
        settings.check().map_err(AppError::Unprocessable)?;
        if self.order(&settings.order).is_none() {
            let known = self.orders().join(", ");
            let what = format!("{:?} is no order; there is {known}", settings.order);
            return Err(AppError::Unprocessable(what));
        }
        settings.put(self.store())?;
        *self.shared.settings.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.distributor().forget();
        Ok(())
    }

    /// The guidelines that hold. May block.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn guidelines(&self) -> Result<Arc<Guidelines>, AppError> {
        cached(&self.shared.guidelines, self.now(), || {
            Ok(self.all_guidelines()?.pop().unwrap_or_default())
        })
    }

    /// Every version of the guidelines, the oldest first. May block.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn all_guidelines(&self) -> Result<Vec<Guidelines>, AppError> {
        let documents = self.store().documents("guidelines")?;
        Ok(documents
            .iter()
            .map(|document| Guidelines {
                version: document.key.parse().unwrap_or(0),
                text: document.body["text"].as_str().unwrap_or_default().to_owned(),
                at: document.body["at"].as_i64().unwrap_or(0),
            })
            .collect())
    }

    /// Adds a version of the guidelines after `after`, the newest that its author has seen. May block.
    ///
    /// # Errors
    ///
    /// Somebody else was faster; the store cannot be written.
    pub fn add_guidelines(&self, after: u32, text: &str) -> Result<u32, AppError> {
        let version = after
            .checked_add(1)
            .ok_or_else(|| AppError::Unprocessable(format!("there is no version {after}")))?;
        let body = json!({"text": text, "at": self.now()});
        let written = self.store().put_document(
            "guidelines",
            &format!("{version:06}"),
            &body,
            Expected::Nothing,
        )?;
        *self.shared.guidelines.lock().unwrap_or_else(PoisonError::into_inner) = None;
        match written {
            Some(_) => Ok(version),
            None => Err(AppError::Conflict(format!(
                "version {version} of the guidelines was written by somebody else in the meantime"
            ))),
        }
    }

    /// Adds to the audit log. `details` name accounts by their pseudonyms only, so that erasing an
    /// account leaves nothing about the person. May block.
    ///
    /// # Errors
    ///
    /// The store cannot be written.
    pub fn audit(
        &self,
        actor: &str,
        action: &str,
        details: serde_json::Value,
    ) -> Result<(), AppError> {
        let event = Event { at: self.now(), actor: actor.into(), action: action.into(), details };
        Ok(self.store().record(&event)?)
    }

    /// A page for somebody who is signed in. Templates find `user` (name, role, csrf, may_label, …),
    /// `project` and what `values` holds. May block.
    ///
    /// # Errors
    ///
    /// The store cannot be read; the template is wrong.
    pub fn page(
        &self,
        user: &CurrentUser,
        template: &str,
        values: Value,
    ) -> Result<Html<String>, AppError> {
        let settings = self.settings()?;
        let frame = context! {
            user => user.for_templates(),
            project => settings.title.clone(),
            bulk => settings.confirms_in_bulk(),
            local => self.mode() == Mode::Local,
            live => !self.parts().answerers.is_empty(),
            rounds => self.parts().rounds.is_some(),
        };
        self.render(template, context! { ..values, ..frame })
    }

    /// A page for nobody in particular, or a part of a page.
    ///
    /// # Errors
    ///
    /// The template is wrong.
    pub fn render(&self, template: &str, values: Value) -> Result<Html<String>, AppError> {
        let templates = &self.shared.templates[language::current() as usize];
        let rendered = templates.get_template(template).and_then(|page| page.render(values));
        rendered.map(Html).map_err(|error| AppError::Internal(format!("{template}: {error:#}")))
    }
}

fn broke_off() -> AppError {
    AppError::Internal("the work on this request broke off".into())
}

/// What is in the cache, or what `load` gives, kept for [`CACHE_MS`].
fn cached<T>(
    cache: &Mutex<Option<(i64, Arc<T>)>>,
    now: i64,
    load: impl FnOnce() -> Result<T, AppError>,
) -> Result<Arc<T>, AppError> {
    if let Some((at, value)) = &*cache.lock().unwrap_or_else(PoisonError::into_inner)
        && (0..CACHE_MS).contains(&(now - at))
    {
        return Ok(Arc::clone(value));
    }
    let value = Arc::new(load()?);
    *cache.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Arc::clone(&value)));
    Ok(value)
}

/// The secret of the service, made by the first process on a store.
fn service_secret(store: &dyn Store) -> Result<Vec<u8>, StartError> {
    let body = json!({"key": codec::random_hex::<32>()});
    store.put_document("secret", "csrf", &body, Expected::Nothing)?;
    let document = store.document("secret", "csrf")?;
    let key = document.as_ref().and_then(|document| document.body["key"].as_str());
    key.and_then(codec::unhex).ok_or_else(|| StartError::Damaged("the document secret/csrf".into()))
}
