//! What the handlers work with.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::candidate::{CandidateReport, CandidateStanding, Purpose, ServingCandidate};
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
    /// What may take the place of the weights.
    candidate: RwLock<Option<Arc<ServingCandidate>>>,
    /// How the last one ended.
    last_candidate: Mutex<Option<CandidateReport>>,
}

/// What a conversation gets.
pub(crate) struct Answering {
    /// The weights that answer.
    pub(crate) weights: Arc<Weights>,
    /// Those that answer beside them, seen by nobody.
    pub(crate) shadow: Option<Arc<Weights>>,
}

impl ServedModel {
    fn new(name: String, weights: Weights) -> Self {
        Self {
            name,
            created: now_s(),
            weights: RwLock::new(Arc::new(weights)),
            previous: Mutex::default(),
            swapping: tokio::sync::Mutex::default(),
            candidate: RwLock::default(),
            last_candidate: Mutex::default(),
        }
    }

    /// The weights that answer a conversation now; all its turns have one `conversation`.
    pub(crate) fn answering(&self, conversation: &str) -> Answering {
        let (mut weights, mut shadow) = (self.weights(), None);
        if let Some(candidate) = self.candidate().filter(|one| one.takes(conversation)) {
            let its_own = Arc::clone(&candidate.weights);
            match candidate.purpose {
                Purpose::Canary => weights = its_own,
                Purpose::Shadow => shadow = Some(its_own),
            }
        }
        Answering { weights, shadow }
    }

    pub(crate) fn candidate(&self) -> Option<Arc<ServingCandidate>> {
        self.candidate.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends what is a candidate, if something is, unless it is another one than `only`.
    pub(crate) fn end_candidate(
        &self,
        standing: CandidateStanding,
        only: Option<&Arc<ServingCandidate>>,
    ) -> Option<CandidateReport> {
        let mut candidate = self.candidate.write().unwrap_or_else(PoisonError::into_inner);
        let is_meant = |one: &Arc<ServingCandidate>| only.is_none_or(|only| Arc::ptr_eq(only, one));
        let ended = candidate.take_if(|one| is_meant(one))?;
        let report = ended.report(&self.name, standing);
        *lock(&self.last_candidate) = Some(report.clone());
        Some(report)
    }

    /// How the candidate fares, or how the last one ended.
    pub(crate) fn candidate_report(&self) -> Option<CandidateReport> {
        match self.candidate() {
            Some(candidate) => Some(candidate.report(&self.name, CandidateStanding::Running)),
            None => lock(&self.last_candidate).clone(),
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

    /// Whether answers are written down to a request that says `store`, or says nothing of it.
    ///
    /// # Errors
    /// They are to be, and nothing is written down here.
    pub(crate) fn keeps(&self, store: Option<bool>) -> Result<bool, ApiError> {
        match (&self.log, store) {
            (Some(log), store) => Ok(log.keeps(store)),
            (None, Some(true)) => {
                let message = "`store` is true, and nothing is stored here";
                Err(ApiError::param("store", message))
            }
            (None, _) => Ok(false),
        }
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
        // What is there already is not read again; the base has an engine of its own, which an adapter beside it has not.
        let ready = served.candidate().filter(|candidate| {
            candidate.weights.place == place && !(is_base && place.adapter.is_some())
        });
        let (weights, standing) = if let Some(candidate) = ready {
            (Arc::clone(&candidate.weights), CandidateStanding::Promoted)
        } else {
            let opened = tokio::task::spawn_blocking(move || {
                Weights::open(&*state.parts.loader, &place, engine, &others)
            });
            (Arc::new(read(served, opened.await)?), CandidateStanding::Withdrawn)
        };
        let version = weights.version.clone();
        let old = {
            let mut now = served.weights.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *now, weights)
        };
        // What was said of a candidate was said beside the weights of before.
        served.end_candidate(standing, None);
        let previous = old.version.clone();
        *lock(&served.previous) = Arc::downgrade(&old);
        self.metrics.swaps.fetch_add(1, Ordering::Relaxed);
        tracing::info!(model = served.name, version, previous, "new weights");
        Ok(Swapped { version, previous, took: started.elapsed() })
    }
}

impl AppState {
    /// Puts a candidate beside the weights of a model, in place of the one before it.
    ///
    /// # Errors
    /// It cannot be read, a shadow reads other tokens than the model, or weights are on their way. All goes on as it was.
    pub(crate) async fn put_candidate(
        &self,
        served: &Arc<ServedModel>,
        place: WeightsPlace,
        purpose: Purpose,
        (share, alpha): (f64, f64),
    ) -> Result<CandidateReport, ApiError> {
        let Ok(_swapping) = served.swapping.try_lock() else {
            let what = format!("weights of `{}` are on their way already", served.name);
            return Err(ApiError::Conflict(what));
        };
        let (state, engine) = (self.clone(), self.options.engine);
        let others: Vec<_> = self.served.iter().map(|other| other.weights()).collect();
        let opened = tokio::task::spawn_blocking(move || {
            Weights::open(&*state.parts.loader, &place, engine, &others)
        });
        let weights = read(served, opened.await)?;
        let now = served.weights();
        if weights.version == now.version {
            let message = format!("`{}` has these weights already", served.name);
            return Err(ApiError::param("path", message));
        }
        let reads_alike = weights.fingerprint() == now.fingerprint()
            && now.vocab <= weights.vocab
            && now.positions <= weights.positions;
        if purpose == Purpose::Shadow && !reads_alike {
            let message = "a shadow is given the tokens of the model's prompts: expected one with the same tokenizer, and no fewer positions";
            return Err(ApiError::param("path", message));
        }
        served.end_candidate(CandidateStanding::Withdrawn, None);
        let candidate = ServingCandidate::new(weights, purpose, share, alpha, &now.version);
        let candidate = Arc::new(candidate);
        let report = candidate.report(&served.name, CandidateStanding::Running);
        *served.candidate.write().unwrap_or_else(PoisonError::into_inner) = Some(candidate);
        tracing::info!(model = served.name, version = report.version, share, "a candidate");
        Ok(report)
    }
}

/// Weights that were read.
fn read(
    served: &ServedModel,
    opened: Result<Result<Weights, String>, tokio::task::JoinError>,
) -> Result<Weights, ApiError> {
    let opened = opened.map_err(|_| "reading them has panicked".to_owned());
    opened.and_then(|opened| opened).map_err(|reason| ApiError::Invalid {
        message: format!("the weights of `{}` stay as they are: {reason}", served.name),
        param: Some("path".to_owned()),
        code: Some("weights_not_read"),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
