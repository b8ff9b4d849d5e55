//! The reference: its log-probabilities are computed once and stored, or come from a second model that
//! follows the policy.

use std::borrow::Cow;
use std::path::Path;

use hearken_config::Base;
use hearken_model::{Masters, Model, Tokenizer};
use hearken_run::error::TrainError;
use hearken_run::ranks::{Ranks, Shares};
use hearken_run::run::{Opening, load_language_model};
use hearken_run::trained_model::load_tokenizer;
use hearken_tensor::Device;

use super::batch::read;
use super::loss::RefLogprobs;
use super::objective::ReferenceSync;
use super::records::TreeRecords;
use super::reference_cache::CacheFile;
use super::tree::{Tree, TreeReading};
use super::{DpoConfig, REFERENCE};

/// Where the log-probabilities of the reference come from.
#[derive(Debug)]
pub(super) enum References<D: Device> {
    /// There is no reference.
    None,
    /// They are known, by tree. Where the run is only looked at, zeros stand for those of `rows_wanted`
    /// rows that it would have to compute. Of training trees that are read as they are wanted, `live` says them.
    Known {
        train: Vec<RefLogprobs>,
        eval: Vec<RefLogprobs>,
        rows_wanted: usize,
        live: Option<Box<Model<D>>>,
    },
    /// A model of its own, which follows the policy.
    Live { model: Box<Model<D>>, sync: ReferenceSync },
}

impl<D: Device> References<D> {
    /// What the reference says of the training trees with the indices `batch`, which are `trees`.
    pub(super) fn of_training(
        &self,
        batch: &[usize],
        trees: &[&Tree],
        of_trees: OfTrees<'_>,
    ) -> Vec<Cow<'_, RefLogprobs>> {
        match self {
            Self::None => batch.iter().map(|_| Cow::Owned(Vec::new())).collect(),
            Self::Live { model, .. } | Self::Known { live: Some(model), .. } => {
                of_trees.logprobs(model, trees).into_iter().map(Cow::Owned).collect()
            }
            Self::Known { train, .. } => {
                batch.iter().map(|&index| Cow::Borrowed(&train[index])).collect()
            }
        }
    }
}

impl<D: Device> References<D> {
    /// Rows whose log-probabilities a run would have to compute before its first step.
    pub(super) fn rows_wanted(&self) -> usize {
        match self {
            Self::Known { rows_wanted, .. } => *rows_wanted,
            Self::None | Self::Live { .. } => 0,
        }
    }

    /// Moves a reference that follows the policy, if it is time after so many steps.
    pub(super) fn follow(&mut self, policy: &Model<D>, step: u64) {
        if let Self::Live { model, sync } = self
            && step.is_multiple_of(sync.every)
        {
            model.params_mut().move_towards(policy.params(), sync.mix);
        }
    }
}

/// How many rows go through a model at a time, and which trees share a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portions {
    /// Trees of an optimizer step.
    pub(super) batch_size: usize,
    /// The most rows of a forward pass.
    pub(super) tokens_max: usize,
    /// Logits are divided by it.
    pub(super) temperature: f64,
}

/// The log-probabilities of the completions of each tree. Trees in their files' order go through the
/// model in the portions that training takes, so that a policy that is the reference has log-ratios
/// of exactly 0.
pub(super) fn logprobs<D: Device>(
    model: &Model<D>,
    trees: &[&Tree],
    portions: Portions,
) -> Vec<RefLogprobs> {
    let reading = TreeReading { prompt: false, branches: 2, temperature: portions.temperature };
    let narrow = |logprobs: &[f64]| logprobs.iter().map(|&logprob| logprob as f32).collect();
    let mut all = Vec::with_capacity(trees.len());
    for batch in trees.chunks(portions.batch_size) {
        let (tokens, _) = read(model, batch, reading, portions.tokens_max);
        all.extend(tokens.into_iter().map(|tree| -> RefLogprobs {
            tree.branches.iter().map(|tokens| narrow(&tokens.logprobs)).collect()
        }));
    }
    all
}

/// Trees that several processes read.
#[derive(Clone, Copy, Debug)]
pub(super) struct OfTrees<'a> {
    pub(super) ranks: &'a Ranks,
    pub(super) shares: &'a Shares,
    pub(super) portions: Portions,
}

impl OfTrees<'_> {
    /// [`logprobs`] of all trees, of which every process computes its share.
    pub(super) fn logprobs<D: Device>(self, model: &Model<D>, trees: &[&Tree]) -> Vec<RefLogprobs> {
        let own = logprobs(model, &self.shares.pick(trees), self.portions);
        self.ranks.whole(self.shares, own)
    }
}

/// The portions of a training run.
pub(super) fn portions(config: &DpoConfig) -> Portions {
    let train = &config.shared.train;
    let temperature = config.resolved.objective.temperature;
    Portions { batch_size: *train.batch_size, tokens_max: train.microbatch_tokens, temperature }
}

/// Where the reference's log-probabilities are wanted.
pub(super) struct ReferencePlace<'a, 'p> {
    pub(super) config: &'a DpoConfig,
    pub(super) opening: &'a mut Opening<'p>,
    pub(super) records: &'a TreeRecords,
}

impl ReferencePlace<'_, '_> {
    /// The reference for a policy that was just loaded, from the checkpoint if there is one.
    pub(super) fn references<D: Device>(
        &mut self,
        policy: &Model<D>,
    ) -> Result<References<D>, TrainError> {
        let (config, records) = (self.config, self.records);
        let reference = &config.resolved.reference;
        if !config.resolved.objective.needs_reference() {
            return Ok(References::None);
        }
        let source = reference.path.as_ref().unwrap_or(&config.shared.model.path);
        let load = |device: D, dir: &Path, masters: Masters| {
            load_language_model(device, &config.shared.model, dir, masters)
        };
        let checkpoint = self.opening.checkpoint.as_ref();
        // The policy itself is the reference as long as it has not been trained; the base of an adapter never is.
        let lora = config.shared.model.lora.as_ref();
        let same = (checkpoint.is_none() || lora.is_some()) && source == &config.shared.model.path;
        let init = lora.and_then(|lora| lora.init.as_deref()).filter(|_| same);
        let device = policy.device().clone();
        if let Some(sync) = reference.sync {
            let mut model = match checkpoint {
                Some(checkpoint) => {
                    load(device, &checkpoint.model_dir(Some(REFERENCE)), Masters::Keep)?
                }
                None if same => policy.duplicate(),
                None => load(device, source, Masters::Keep)?,
            };
            self.check(&model, source)?;
            model.set_trainable(|_| false);
            return Ok(References::Live { model: Box::new(model), sync });
        }
        let all = if records.stream.is_some() { &[] } else { records.train.as_slice() };
        let sets = [("training", all), ("evaluation", records.eval.as_slice())];
        let mut loaded = None;
        let (mut known, mut rows_wanted) = (Vec::with_capacity(2), 0);
        for (what, trees) in sets {
            let trees: Vec<&Tree> = trees.iter().collect();
            if trees.is_empty() {
                known.push(Vec::new());
                continue;
            }
            let file = self.cache_file(source, init, &trees)?;
            if let Some(found) = self.opening.ranks.lead(|| file.read())? {
                self.note(&format!("{what}: reference log-probabilities are read from"), &file);
                known.push(found);
                continue;
            }
            self.opening.progress.stage("reference", None);
            if loaded.is_none() && !same {
                loaded = Some(load(device.clone(), source, config.shared.model.base.into())?);
            }
            if loaded.is_none() && init.is_some() {
                loaded = Some(self.opening.reference_of(policy)?);
            }
            let model = loaded.as_ref().unwrap_or(policy);
            self.check(model, source)?;
            if self.opening.dir.is_looked_at() {
                rows_wanted += trees.iter().map(|tree| tree.rows(2)).sum::<usize>();
                self.opening
                    .progress
                    .note(&format!("{what}: reference log-probabilities would be computed first"));
                known.push(file.zeros());
                continue;
            }
            let found = self.computed(model, &trees);
            check_finite(&found, source)?;
            self.store(&file, &found)?;
            self.note(&format!("{what}: reference log-probabilities are stored in"), &file);
            known.push(found);
        }
        let [train, eval] = <[_; 2]>::try_from(known).expect("two sets");
        let live = records.stream.is_some().then(|| self.live(policy, loaded, same)).transpose()?;
        Ok(References::Known { train, eval, rows_wanted, live })
    }

    /// What `model` says of trees, of which every rank reads its share.
    fn computed<D: Device>(&self, model: &Model<D>, trees: &[&Tree]) -> Vec<RefLogprobs> {
        let (ranks, portions) = (&self.opening.ranks, portions(self.config));
        let rows: Vec<usize> = trees.iter().map(|tree| tree.rows(2)).collect();
        OfTrees { ranks, shares: &ranks.shares(&rows), portions }.logprobs(model, trees)
    }

    /// The first rank stores what all have computed.
    fn store(&self, file: &CacheFile, found: &[RefLogprobs]) -> Result<(), TrainError> {
        if !self.opening.ranks.is_first() {
            return Ok(());
        }
        self.opening.dir.check_room(file.bytes())?;
        file.write(found)
    }

    /// The reference as a model that stays in memory, `loaded` if it is there: of records that are read as they are
    /// wanted.
    fn live<D: Device>(
        &mut self,
        policy: &Model<D>,
        loaded: Option<Model<D>>,
        is_policy: bool,
    ) -> Result<Box<Model<D>>, TrainError> {
        let model = &self.config.shared.model;
        let source = self.config.resolved.reference.path.as_ref().unwrap_or(&model.path);
        let starts_trained = model.lora.as_ref().is_some_and(|lora| lora.init.is_some());
        let mut found = match loaded {
            Some(found) => found,
            None if is_policy && starts_trained => self.opening.reference_of(policy)?,
            None if is_policy => policy.duplicate(),
            None => load_language_model(policy.device().clone(), model, source, Masters::Drop)?,
        };
        found.set_trainable(|_| false);
        self.check(&found, source)?;
        Ok(Box::new(found))
    }

    fn note(&mut self, what: &str, file: &CacheFile) {
        self.opening.progress.note(&format!("{what} {}", file.path().display()));
    }

    fn cache_file(
        &self,
        source: &Path,
        init: Option<&Path>,
        trees: &[&Tree],
    ) -> Result<CacheFile, TrainError> {
        let inside = self.opening.dir.path(REFERENCE);
        let folder = self.config.resolved.reference.cache.as_ref().unwrap_or(&inside);
        let adapter = init.or_else(|| {
            self.config
                .shared
                .model
                .adapter
                .as_deref()
                .filter(|_| *source == self.config.shared.model.path)
        });
        let dirs: Vec<&Path> = [source].into_iter().chain(adapter).collect();
        let model = &self.config.shared.model;
        let held = match model.base {
            Base::Float => String::new(),
            base => format!("{base:?}"),
        };
        CacheFile::new(folder, &dirs, &format!("{:?}{held}", model.dtype), trees)
    }

    /// Refuses a reference that reads other tokens than the policy.
    fn check<D: Device>(&self, model: &Model<D>, source: &Path) -> Result<(), TrainError> {
        if source == self.config.shared.model.path {
            return Ok(());
        }
        let at = source.display();
        let records = self.records;
        let trees = || records.train.iter().chain(&records.eval);
        let tokens = trees().flat_map(|tree| tree.branches.iter().chain([&tree.prefix]).flatten());
        let (vocab, positions) = (model.config().vocab, model.config().max_positions);
        if let Some(token) = tokens.into_iter().find(|&&token| vocab <= token as usize) {
            return Err(TrainError::Other(format!(
                "`dpo.reference`: {at} has a vocabulary of {vocab}, found token {token} in the data; \
                 expected a model with the policy's tokenizer"
            )));
        }
        let longest = trees()
            .flat_map(|tree| tree.branches.iter().map(|branch| tree.prefix.len() + branch.len()));
        if let Some(longest) = longest.max().filter(|&longest| positions < longest) {
            return Err(TrainError::Other(format!(
                "`dpo.reference`: {at} has {positions} positions, found a sequence of {longest} \
                 tokens; set `data.max_tokens`"
            )));
        }
        let own = self.opening.tokenizer.as_ref().map(Tokenizer::fingerprint);
        let other = load_tokenizer(source)?.as_ref().map(Tokenizer::fingerprint);
        match (own, other) {
            (Some(own), Some(other)) if own != other => Err(TrainError::Other(format!(
                "`dpo.reference`: {at} has another tokenizer than the policy; expected the same"
            ))),
            _ => Ok(()),
        }
    }
}

fn check_finite(logprobs: &[RefLogprobs], source: &Path) -> Result<(), TrainError> {
    if logprobs.iter().flatten().flatten().all(|logprob| logprob.is_finite()) {
        return Ok(());
    }
    Err(TrainError::Other(format!(
        "{}: found NaN or infinity among the reference log-probabilities; the model is damaged",
        source.display()
    )))
}
