//! The model that scores: read with its head, or with a new one.

use hearken_model::{Head, LoadOptions, Model, Tokenizer};
use hearken_run::budget::{BudgetModel, Tape, fit};
use hearken_run::error::TrainError;
use hearken_run::progress::Progress;
use hearken_run::run::{Opening, load_model};
use hearken_tensor::Device;

use super::RewardConfig;

/// The configuration with microbatches as large as memory has room for beside a model with this head.
pub(super) fn fitted(config: &RewardConfig, head: Head) -> Result<RewardConfig, TrainError> {
    let model = &config.shared.model;
    let scorer = BudgetModel::trained(model, head);
    let shared = fit(&config.shared, Tape::new(model, false), &[scorer])?;
    Ok(RewardConfig { shared, ..config.clone() })
}

/// Loads the model that a run goes on with; one without such a head gets a new one from the run's seed.
pub(super) fn load_scorer<D: Device>(
    device: D,
    config: &RewardConfig,
    head: Head,
    opening: &mut Opening<'_>,
) -> Result<Model<D>, TrainError> {
    let dir = opening.model_dir();
    let seed = opening.seeds.derive("score_head", 0, 0);
    let options = LoadOptions {
        precision: config.shared.model.dtype.into(),
        new_score_head: opening.whole_checkpoint().is_none().then_some(seed),
        masters: opening.masters(),
        head,
    };
    let (mut model, report) = load_model(device, &config.shared.model, &dir, &options)?;
    // What training has made of the head lies with the adapter.
    let is_new = opening.checkpoint.is_none();
    for name in report.created.iter().filter(|_| is_new) {
        opening.progress.note(&format!(
            "{}: has no `{name}`; a new score head is drawn from the run's seed",
            dir.display()
        ));
    }
    set_pad(&mut model, opening.tokenizer.as_mut(), opening.progress);
    Ok(model)
}

/// Transformers' classifiers read a row at its last token that is not config.json's `pad_token_id`. A
/// token that ends texts does not serve: they would read the score before it.
fn set_pad<D: Device>(
    model: &mut Model<D>,
    tokenizer: Option<&mut Tokenizer>,
    progress: &mut dyn Progress,
) {
    let (found, ends) = (model.config().pad, model.config().eos.clone());
    let of_config = found.filter(|pad| !ends.contains(pad));
    let Some(tokenizer) = tokenizer else { return model.set_pad(of_config) };
    let of_config = of_config.filter(|pad| !tokenizer.eos().contains(pad));
    let is_known = |id: &u32| tokenizer.token(*id).is_some();
    let vocab = model.config().vocab;
    let of_tokenizer = || tokenizer.padding_apart_from(&ends).filter(|id| (*id as usize) < vocab);
    let pad = of_config.filter(is_known).or_else(of_tokenizer);
    model.set_pad(pad);
    let Some(pad) = pad else {
        return progress.note(
            "no token of the tokenizer can pad without ending texts too: the reward model is saved \
             without a padding token, and Transformers will score one sequence at a time",
        );
    };
    tokenizer.set_pad(pad);
    if let Some(found) = found.filter(|found| *found != pad) {
        let name = tokenizer.token(pad).unwrap_or_default();
        progress.note(&format!(
            "the padding token {found} ends texts too, and Transformers would read scores before it: \
             the reward model is saved with {name} ({pad}) in its place"
        ));
    }
}
