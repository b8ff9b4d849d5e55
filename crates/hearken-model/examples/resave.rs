//! Loads a checkpoint, saves it again, and writes what it computes: the counterpart of
//! `tests/interop.py`.
//!
//! ```text
//! cargo run --release -p hearken-model --example resave -- FROM TO IDS.json OUT.json [score|steps] [adapter DIR]
//! ```
//!
//! `IDS.json` is a list of lists of token ids; `OUT.json` becomes a list with the logits of every
//! position for each, flattened, with `score` the score at the last token, or with `steps` the logits of two classes at every
//! position. With an adapter, it is the
//! adapter that is saved.

use std::error::Error;
use std::path::Path;

use hearken_model::{Adapter, Batch, Head, Keep, LoadOptions, Model};
use hearken_tensor::Cpu;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, ids, out, rest @ ..] = arguments.as_slice() else {
        return Err("usage: resave FROM TO IDS.json OUT.json [score|steps] [adapter DIR]".into());
    };
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let options = match rest.first() {
        Some(&"score") => LoadOptions { new_score_head: Some(0), ..LoadOptions::scorer() },
        Some(&"steps") => {
            let head = Head::StepClasses(2);
            LoadOptions { new_score_head: Some(0), head, ..LoadOptions::scorer() }
        }
        _ => LoadOptions::language_model(),
    };
    let (from, to) = (Path::new(from), Path::new(to));
    let model = if let [.., "adapter", adapter] = rest.as_slice() {
        let adapter = Adapter::read(Path::new(adapter))?;
        let (model, _) = Model::load_adapted(Cpu::new(), from, &options, &adapter)?;
        model.save_adapter(to)?;
        model
    } else {
        let (model, _) = Model::load(Cpu::new(), from, &options)?;
        model.save(to)?;
        model
    };
    let sequences: Vec<Vec<u32>> = serde_json::from_str(&std::fs::read_to_string(ids)?)?;
    let mut batch = Batch::new();
    let segments: Vec<usize> = sequences.iter().map(|ids| batch.push(None, ids)).collect();
    let pass = model.forward(&batch, Keep::Nothing);
    let read = |&segment: &usize| -> Vec<f32> {
        let rows: Vec<usize> = batch.forest.segments()[segment].rows().collect();
        match model.head() {
            Head::LanguageModel => model.logits(&pass, &rows),
            Head::Score | Head::ScoreAndLength => model.scalars(&pass, &rows[rows.len() - 1..]),
            Head::StepClasses(_) => model.scalars(&pass, &rows),
        }
    };
    let outputs: Vec<Vec<f32>> = segments.iter().map(read).collect();
    std::fs::write(out, serde_json::to_string(&outputs)?)?;
    Ok(())
}
