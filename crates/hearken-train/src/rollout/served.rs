//! Completions by servers that have the policy's weights: `[rollout] servers`.
//!
//! Before an iteration the first process writes the policy's weights into the run directory and has every
//! server read them; prompts then go to whichever server is free. A server that cannot be reached is left
//! out, what it was asked goes to another one, and with the next iteration it is asked again. A request has
//! its seed with it, so that who completes a prompt changes nothing but the last digits of sums.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use hearken_config::RolloutConfig;
use hearken_data::{Completion, StopReason};
use hearken_generate::{Sampling, SamplingRequest};
use hearken_judge::sampling_server::{
    LoadedWeights, SampleRequest, Sampled, SampledCompletion, SamplingServer, SamplingServerError,
    ServerEngine,
};
use hearken_model::{Masters, Model, Tokenizer};
use hearken_reward_source::{BatchScores, RewardSource};
use hearken_run::encode::PromptExample;
use hearken_run::error::TrainError;
use hearken_run::run_dir::RunDir;
use hearken_tensor::Device;

use super::Rollout;
use super::sample::{Observer, SampleOptions, sample_scored_by, tell};
use super::source::RolloutSource;

/// The folder of a run that has the weights which servers read.
const WEIGHTS: &str = "weights";
/// Requests to a server at a time.
const AT_ONCE: usize = 16;

/// The servers of a run.
#[derive(Debug)]
pub(crate) struct Servers {
    all: Vec<SamplingServer>,
    /// What happened to them since it was last told.
    news: Mutex<Vec<String>>,
    /// The numbers of those that are left out.
    out: Mutex<HashSet<usize>>,
}

/// Servers that have the weights: their numbers, and what each has read.
type Ready = Vec<(usize, LoadedWeights)>;

/// Where the weights of an iteration lie.
struct Written {
    /// A model or, with `is_adapter`, an adapter.
    directory: PathBuf,
    is_adapter: bool,
    /// The whole model, for engines that do not read adapters.
    merged: Option<PathBuf>,
}

impl Servers {
    /// Clients of the servers that `[rollout]` names, if it names any; nothing is sent.
    ///
    /// # Errors
    /// If an address is none, or the variable that should have their key is not there.
    pub(crate) fn open(config: &RolloutConfig) -> Result<Option<Self>, TrainError> {
        if config.servers.is_empty() {
            return Ok(None);
        }
        let key = config.server_key_env.as_deref().map(|variable| {
            std::env::var(variable).map_err(|_| {
                TrainError::Other(format!(
                    "`rollout.server_key_env`: found no environment variable {variable}, expected one \
                     that has the key of the servers"
                ))
            })
        });
        let (key, timeout) = (key.transpose()?, Duration::from_secs_f64(*config.server_timeout_s));
        let open = |url: &String| {
            SamplingServer::new(url, key.clone(), timeout)
                .map_err(|error| TrainError::Other(format!("`rollout.servers`: {error}")))
        };
        let all = config.servers.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Some(Self { all, news: Mutex::default(), out: Mutex::default() }))
    }

    /// What happened to servers since the last time.
    pub(crate) fn news(&self) -> Vec<String> {
        std::mem::take(&mut self.told())
    }

    fn told(&self) -> MutexGuard<'_, Vec<String>> {
        locked(&self.news)
    }

    /// Leaves a server out; that is news where it took part before.
    fn leave_out(&self, server: usize, error: &str) {
        if locked(&self.out).insert(server) {
            self.told().push(format!("a server is left out until it answers: {error}"));
        }
    }

    /// Lets a server take part; that is news where it was left out before.
    fn take_in(&self, server: usize) {
        if locked(&self.out).remove(&server) {
            self.told().push(format!("{}: samples again", self.all[server].url()));
        }
    }

    /// Whether one of those that answer does not read adapters.
    fn want_whole_models(&self) -> bool {
        let reads = |engine: ServerEngine| engine.reads_adapters();
        self.each(SamplingServer::engine).into_iter().flatten().any(|(engine, _)| !reads(engine))
    }

    /// What all servers say, asked at once.
    fn each<T: Send>(&self, ask: impl Fn(&SamplingServer) -> T + Sync) -> Vec<T> {
        thread::scope(|scope| {
            let ask = &ask;
            let threads: Vec<_> =
                self.all.iter().map(|server| scope.spawn(move || ask(server))).collect();
            threads.into_iter().map(|one| one.join().expect("no client panics")).collect()
        })
    }

    /// Has all servers read the weights; gives those that did.
    fn load(&self, written: &Written) -> Result<Ready, String> {
        let Written { directory, is_adapter, merged } = written;
        let found = self.each(|server| match merged {
            Some(merged) if !server.engine()?.0.reads_adapters() => server.load(merged, false),
            _ => server.load(directory, *is_adapter),
        });
        let (mut ready, mut failures) = (Ready::new(), Vec::new());
        for (index, loaded) in found.into_iter().enumerate() {
            match loaded {
                Ok(own) => {
                    // They read the same files, and call them the same.
                    let same = |(_, other): &&(usize, LoadedWeights)| other.engine == own.engine;
                    match ready.iter().find(same).map(|(_, other)| &other.version) {
                        Some(other) if *other != own.version => failures.push((
                            index,
                            format!(
                                "{}: found version {} of the weights, expected {other} as elsewhere",
                                self.all[index].url(),
                                own.version
                            ),
                        )),
                        _ => ready.push((index, own)),
                    }
                }
                Err(error) if error.is_of_request => return Err(error.to_string()),
                Err(error) => failures.push((index, error.to_string())),
            }
        }
        if ready.is_empty() {
            return Err(format!(
                "none of the servers has the weights: {}; the run goes on from its last checkpoint when one \
                 is there",
                failures.into_iter().map(|(_, failure)| failure).collect::<Vec<_>>().join("; ")
            ));
        }
        for (server, _) in &ready {
            self.take_in(*server);
        }
        for (server, failure) in &failures {
            self.leave_out(*server, failure);
        }
        Ok(ready)
    }
}

/// The policy, by servers.
pub(crate) struct ServedPolicy<'a, D: Device> {
    pub(crate) servers: &'a Arc<Servers>,
    pub(crate) model: &'a Model<D>,
    pub(crate) tokenizer: Option<&'a Tokenizer>,
    pub(crate) dir: &'a RunDir,
}

impl<D: Device> RolloutSource for ServedPolicy<'_, D> {
    fn rollouts(
        &mut self,
        prompts: &[Arc<PromptExample>],
        options: &SampleOptions<'_>,
        sources: &mut dyn RewardSource,
    ) -> Result<(Vec<Rollout>, BatchScores), TrainError> {
        let order = self.order(options)?;
        let mut sampler = |requests: &[SamplingRequest], observer: Observer<'_>| {
            order.complete(requests, observer)
        };
        sample_scored_by(&mut sampler, self.tokenizer, prompts, options, sources)
    }
}

impl<D: Device> ServedPolicy<'_, D> {
    /// Has servers read the weights of now; gives what completes requests with them, whatever becomes of the
    /// policy meanwhile.
    ///
    /// # Errors
    /// If no server has the weights, or they cannot be written.
    pub(crate) fn order(
        &self,
        options: &SampleOptions<'_>,
    ) -> Result<IterationRequest, TrainError> {
        let ready =
            options.ranks.of_first(|| self.load(options.version).map_err(|e| e.to_string()));
        Ok(IterationRequest {
            servers: Arc::clone(self.servers),
            ready: ready.map_err(TrainError::Generate)?,
            sampling: options.sampling.clone(),
            eos: self.model.config().eos.clone(),
        })
    }

    /// Writes the weights down and has servers read them; those before are deleted then.
    fn load(&self, version: u64) -> Result<Ready, TrainError> {
        let root = self.dir.path(WEIGHTS);
        std::fs::create_dir_all(&root).map_err(|error| unusable(&root, &error))?;
        let is_adapter = self.model.adapter().is_some();
        let mut merged = None;
        if is_adapter && self.servers.want_whole_models() {
            let model = self.model.merged(Masters::Keep);
            merged = Some(self.write(&model, &format!("{WEIGHTS}/{version}-merged"))?);
        }
        let directory = self.write(self.model, &format!("{WEIGHTS}/{version}"))?;
        let written = Written { directory, is_adapter, merged };
        let ready = self.servers.load(&written).map_err(TrainError::Generate)?;
        let Written { directory, merged, .. } = written;
        let names: Vec<_> = [Some(&directory), merged.as_ref()]
            .into_iter()
            .flatten()
            .map(|own| own.file_name())
            .collect();
        for entry in std::fs::read_dir(&root).map_err(|error| unusable(&root, &error))? {
            let path = entry.map_err(|error| unusable(&root, &error))?.path();
            if !names.contains(&path.file_name()) {
                std::fs::remove_dir_all(&path).map_err(|error| unusable(&path, &error))?;
            }
        }
        Ok(ready)
    }

    /// Writes a model into the run directory; gives the place as servers find it, which have a working directory of
    /// their own.
    fn write(&self, model: &Model<D>, name: &str) -> Result<PathBuf, TrainError> {
        self.dir.save_model(name, model, self.tokenizer, |_| Ok(()))?;
        let own = self.dir.path(name);
        std::path::absolute(&own).map_err(|error| unusable(&own, &error))
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> TrainError {
    TrainError::Other(format!("{}: {error}", path.display()))
}

/// What requests of an iteration have in common.
#[derive(Debug)]
pub(crate) struct IterationRequest {
    servers: Arc<Servers>,
    ready: Ready,
    sampling: Sampling,
    /// The model's end tokens.
    eos: Vec<u32>,
}

/// Requests that wait, by number, and how many servers are left.
struct Waiting {
    requests: VecDeque<usize>,
    servers: usize,
    /// Requests that are being completed: they may come back.
    under_way: usize,
    /// Nothing more is to be asked.
    is_over: bool,
}

/// What came of a request.
type Answered = Result<(usize, Vec<Completion>), String>;

impl IterationRequest {
    /// Completes requests, as many at a time as servers take; `observer` sees each completion when it and all of
    /// the requests before it have ended, so that the order does not depend on anybody's speed.
    pub(crate) fn complete(
        &self,
        requests: &[SamplingRequest],
        observer: Observer<'_>,
    ) -> Result<Vec<Vec<Completion>>, TrainError> {
        let waiting = Mutex::new(Waiting {
            requests: (0..requests.len()).collect(),
            servers: self.ready.len(),
            under_way: 0,
            is_over: requests.is_empty(),
        });
        let freed = std::sync::Condvar::new();
        let (sender, answers) = channel::<Answered>();
        let mut done: Vec<Option<Vec<Completion>>> = vec![None; requests.len()];
        thread::scope(|scope| {
            for (server, weights) in &self.ready {
                let is_out = Arc::new(Mutex::new(false));
                for _ in 0..AT_ONCE.min(requests.len()) {
                    let (is_out, sender) = (Arc::clone(&is_out), sender.clone());
                    let at = At { waiting: &waiting, freed: &freed, is_out };
                    scope.spawn(move || self.work(*server, weights, requests, &at, &sender));
                }
            }
            drop(sender);
            let stop = || {
                locked(&waiting).is_over = true;
                freed.notify_all();
            };
            let mut told = 0;
            for answer in &answers {
                let (request, completions) = answer.map_err(|reason| {
                    stop();
                    TrainError::Generate(reason)
                })?;
                done[request] = Some(completions);
                while let Some(completions) = done.get(told).and_then(Option::as_ref) {
                    if tell(told, completions, observer).is_break() {
                        stop();
                        return Err(TrainError::Generate("sampling was stopped".to_owned()));
                    }
                    told += 1;
                }
                if told == requests.len() {
                    stop();
                }
            }
            Ok(())
        })?;
        let all: Option<Vec<_>> = done.into_iter().collect();
        all.ok_or_else(|| TrainError::Generate(self.nobody_left()))
    }

    fn nobody_left(&self) -> String {
        let news = self.servers.news().join("; ");
        format!(
            "no server is left that samples ({news}); the run goes on from its last checkpoint when one is there"
        )
    }

    /// Completes what waits, until there is nothing more or the server fails.
    fn work(
        &self,
        server: usize,
        weights: &LoadedWeights,
        requests: &[SamplingRequest],
        at: &At<'_>,
        sender: &Sender<Answered>,
    ) {
        while let Some(index) = at.next() {
            match self.ask(server, weights, &requests[index]) {
                Ok(completions) => {
                    at.finished();
                    // Who asked may have given up.
                    let _ = sender.send(Ok((index, completions)));
                }
                Err(error) if error.is_of_request => {
                    at.finished();
                    let _ = sender.send(Err(error.to_string()));
                    return;
                }
                Err(error) => {
                    if at.leave(index) {
                        self.servers.leave_out(server, &error.to_string());
                    }
                    return;
                }
            }
        }
    }

    fn ask(
        &self,
        server: usize,
        weights: &LoadedWeights,
        request: &SamplingRequest,
    ) -> Result<Vec<Completion>, SamplingServerError> {
        let Sampling { temperature, top_p, top_k, min_p, max_new_tokens, ref stop, .. } =
            self.sampling;
        let server = &self.servers.all[server];
        let request = SampleRequest {
            prompt_ids: &request.prompt_ids,
            samples: request.samples,
            seed: request.seed,
            temperature,
            top_p,
            top_k,
            min_p,
            max_new_tokens,
            stop,
        };
        let Sampled { version, completions } = server.complete(weights, &request)?;
        if let Some(version) = version.filter(|version| *version != weights.version) {
            let reason =
                format!("found an answer of version {version}, expected {}", weights.version);
            let url = server.url().to_owned();
            return Err(SamplingServerError { url, reason, is_of_request: false });
        }
        let completion = |one: SampledCompletion| {
            let is_end = one.ids.last().is_some_and(|last| self.eos.contains(last));
            let stop_reason = match (one.is_ended, is_end) {
                (true, true) => StopReason::EndOfText,
                (true, false) => StopReason::StopSequence,
                (false, _) if one.ids.len() == max_new_tokens => StopReason::Length,
                (false, _) => StopReason::Positions,
            };
            Completion { ids: one.ids, logprobs: one.logprobs, stop_reason }
        };
        Ok(completions.into_iter().map(completion).collect())
    }
}

/// A server's place among those who work.
struct At<'a> {
    waiting: &'a Mutex<Waiting>,
    freed: &'a std::sync::Condvar,
    /// Whether the server has failed.
    is_out: Arc<Mutex<bool>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl At<'_> {
    /// The next request; waits where others are under way, which may come back.
    fn next(&self) -> Option<usize> {
        let mut waiting = locked(self.waiting);
        loop {
            if waiting.is_over || *locked(&self.is_out) {
                return None;
            }
            if let Some(index) = waiting.requests.pop_front() {
                waiting.under_way += 1;
                return Some(index);
            }
            if waiting.under_way == 0 {
                return None;
            }
            waiting = self.freed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A request has ended.
    fn finished(&self) {
        locked(self.waiting).under_way -= 1;
        self.freed.notify_all();
    }

    /// Gives a request back; whether this is the first that the server failed at.
    fn leave(&self, index: usize) -> bool {
        let mut waiting = locked(self.waiting);
        waiting.under_way -= 1;
        waiting.requests.push_front(index);
        let is_first = !std::mem::replace(&mut *locked(&self.is_out), true);
        if is_first {
            waiting.servers -= 1;
        }
        if waiting.servers == 0 {
            waiting.is_over = true;
        }
        self.freed.notify_all();
        is_first
    }
}
