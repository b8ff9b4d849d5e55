//! What the handlers work with.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::error::{ApiError, StartError};
use crate::log::CompletionLog;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::parts::{Parts, WeightsPlace};
use crate::weights::Weights;

/// How often a swap looks whether the weights before the last are gone.
const LOOK: Duration = Duration::from_millis(20);

/// A model under a name, whose weights can change.
#[derive(Debug)]
pub(crate) struct ServedModel {
    pub(crate) name: String,
    /// When it was first served, in seconds since 1970.
    pub(crate) created: u64,
    weights: RwLock<Arc<Weights>>,
    /// The weights before those, as long as a request runs on them.
    previous: Mutex<Weak<Weights>>,
    /// Held while new weights come.
    swapping: tokio::sync::Mutex<()>,
}

impl ServedModel {
    fn new(name: String, weights: Weights) -> Self {
        Self {
            name,
            created: now_s(),
            weights: RwLock::new(Arc::new(weights)),
            previous: Mutex::default(),
            swapping: tokio::sync::Mutex::default(),
        }
    }

    /// The weights that a request gets now.
    pub(crate) fn weights(&self) -> Arc<Weights> {
        Arc::clone(&self.weights.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What one swap did.
pub(crate) struct Swapped {
    pub(crate) version: String,
    pub(crate) previous: String,
    pub(crate) took: Duration,
}

/// What the handlers work with; copies are one.
#[derive(Clone, Debug)]
pub(crate) struct AppState(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) parts: Parts,
    pub(crate) metrics: Metrics,
    pub(crate) log: Option<CompletionLog>,
    /// The base first.
    pub(crate) served: Vec<Arc<ServedModel>>,
    places: Arc<Semaphore>,
    /// Held while a reward model works.
    pub(crate) scoring: Arc<Semaphore>,
    is_ending: AtomicBool,
    /// An engine's thread has ended, which only a bug makes it do.
    pub(crate) is_broken: AtomicBool,
    /// True when what is under way is cut off.
    cut: watch::Sender<bool>,
}

impl Deref for AppState {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl AppState {
    /// Reads all models. Blocks.
    pub(crate) fn new(
        models: &[(String, WeightsPlace)],
        options: Options,
        parts: Parts,
    ) -> Result<Self, StartError> {
        if !options.bind.ip().is_loopback() && options.keys.is_empty() && !options.open {
            return Err(StartError::NoKey(options.bind));
        }
        let mut names: Vec<&str> = models.iter().map(|(name, _)| name.as_str()).collect();
        names.extend(parts.scores.as_ref().map(|scores| scores.name()));
        let mut seen = BTreeSet::new();
        for name in names {
            if !seen.insert(name) {
                return Err(StartError::SameName(name.to_owned()));
            }
        }
        let log = options.log.clone().map(|log| {
            let path = log.path.clone();
            CompletionLog::open(log).map_err(|source| StartError::Log { path, source })
        });
        let log = log.transpose()?;
        let mut served: Vec<Arc<ServedModel>> = Vec::new();
        for (name, place) in models {
            let others: Vec<_> = served.iter().map(|other| other.weights()).collect();
            let opened = Weights::open(&*parts.loader, place, options.engine, &others);
            let weights = opened.map_err(|reason| {
                let place = place.adapter.as_ref().unwrap_or(&place.model);
                StartError::Model { place: place.display().to_string(), reason }
            })?;
            served.push(Arc::new(ServedModel::new(name.clone(), weights)));
        }
        let places = Arc::new(Semaphore::new(options.completions_max));
        Ok(Self(Arc::new(Inner {
            options,
            parts,
            metrics: Metrics::default(),
            log,
            served,
            places,
            scoring: Arc::new(Semaphore::new(1)),
            is_ending: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            cut: watch::Sender::new(false),
        })))
    }

    /// The model of a name; the base where there is none.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<&Arc<ServedModel>, ApiError> {
        let Some(name) = name else { return Ok(&self.served[0]) };
        self.served.iter().find(|served| served.name == name).ok_or_else(|| self.no_model(name))
    }

    pub(crate) fn no_model(&self, name: &str) -> ApiError {
        let known: Vec<String> =
            self.served.iter().map(|served| format!("`{}`", served.name)).collect();
        ApiError::NoModel { name: name.to_owned(), known: known.join(", ") }
    }

    /// Places for some completions, which are free when the seat is dropped.
    pub(crate) fn enter(&self, completions: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let max = self.options.completions_max;
        if max < completions {
            let message = format!("found {completions} completions, expected at most {max}");
            return Err(ApiError::param("n", message));
        }
        let places = Arc::clone(&self.places).try_acquire_many_owned(completions as u32);
        places.map_err(|_| ApiError::Busy(max))
    }

    /// Completions that run or wait.
    pub(crate) fn under_way(&self) -> usize {
        self.options.completions_max - self.places.available_permits()
    }

    /// Whether the service ends.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    /// Refuses new requests and waits for those under way; cuts them off after a while.
    pub(crate) async fn end(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
        let all = self.options.completions_max as u32;
        let ended = tokio::time::timeout(self.options.grace, self.places.acquire_many(all)).await;
        if ended.is_err() {
            self.cut.send_replace(true);
            // They have to say so to whoever asked.
            drop(tokio::time::timeout(LOOK * 50, self.places.acquire_many(all)).await);
        }
    }

    /// Ends when what is under way is cut off.
    pub(crate) async fn cut(&self) {
        let mut cut = self.cut.subscribe();
        // The sender lives as long as the state.
        let _ = cut.wait_for(|cut| *cut).await;
    }

    /// Gives a model other weights. Requests that have begun go on with theirs; no more than two sets of
    /// weights of a model are there at a time, so that this waits while those before the last still run.
    ///
    /// # Errors
    /// The weights cannot be read, others are on their way, or old ones are in use for too long. The
    /// model goes on as it was.
    pub(crate) async fn swap(
        &self,
        served: &Arc<ServedModel>,
        place: WeightsPlace,
    ) -> Result<Swapped, ApiError> {
        let Ok(_swapping) = served.swapping.try_lock() else {
            let what = format!("weights of `{}` are on their way already", served.name);
            return Err(ApiError::Conflict(what));
        };
        let started = Instant::now();
        let is_there = || 0 < lock(&served.previous).strong_count();
        while is_there() {
            if self.options.timeout < started.elapsed() {
                let what = format!(
                    "answers of the weights of `{}` before the last still run",
                    served.name
                );
                return Err(ApiError::Conflict(what));
            }
            tokio::time::sleep(LOOK).await;
        }
        let (state, engine) = (self.clone(), self.options.engine);
        // The base has an engine of its own, whatever comes.
        let is_base = Arc::ptr_eq(&self.served[0], served);
        let others: Vec<_> = match is_base {
            true => Vec::new(),
            false => self.served.iter().map(|other| other.weights()).collect(),
        };
        let opened = tokio::task::spawn_blocking(move || {
            Weights::open(&*state.parts.loader, &place, engine, &others)
        });
        let opened = opened.await.map_err(|_| "reading them has panicked".to_owned());
        let weights = opened.and_then(|opened| opened).map_err(|reason| ApiError::Invalid {
            message: format!("the weights of `{}` stay as they are: {reason}", served.name),
            param: Some("path".to_owned()),
            code: Some("weights_not_read"),
        })?;
        let version = weights.version.clone();
        let old = {
            let mut now = served.weights.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *now, Arc::new(weights))
        };
        let previous = old.version.clone();
        *lock(&served.previous) = Arc::downgrade(&old);
        self.metrics.swaps.fetch_add(1, Ordering::Relaxed);
        tracing::info!(model = served.name, version, previous, "new weights");
        Ok(Swapped { version, previous, took: started.elapsed() })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
