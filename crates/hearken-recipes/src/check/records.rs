//! Runs over records.

use hearken_config::LoadedConfig;
use hearken_run::error::TrainError;
use hearken_run::metrics::Stopwatch;
use hearken_run::order::Cursor;
use hearken_run::run::Opened;
use hearken_run::run_dir::OpenFor;
use hearken_tensor::Device;
use hearken_train::records::{Configured, RecordTrainer, RecordTraining, learned};

use super::{
    Check, CheckMethod, FORWARD, Machine, Notes, Time, evaluations, fastest, lengths, seconds,
};

/// What a run over records would do.
pub(super) fn check<D: Device, T: RecordTrainer<D>>(
    device: &D,
    loaded: &LoadedConfig<T::Config>,
    entry: OpenFor,
    machine: Machine,
) -> Result<Check, TrainError> {
    let (settings, _) = T::within_memory(&loaded.config)?.settings();
    let mut check = Check::new(T::STAGE);
    check.model(&settings)?;
    if check.is_too_large(&settings, machine)? {
        return Ok(check);
    }
    let mut notes = Notes::default();
    let mut records = match RecordTraining::<D, T>::open(device.clone(), loaded, entry, &mut notes)?
    {
        Opened::Finished(outcome) => return Ok(check.done(notes, &outcome)),
        Opened::Ready(records) => records,
    };
    let rows = records.trainer.training().rows;
    notes.told_of("data", &mut check);
    check.tell("data", lengths(&rows, "record"));
    let mut plan = Notes::default();
    records.announce(&mut plan)?;
    plan.told_of("plan", &mut check);
    let memory = records.memory(&rows);
    check.run(&records.run, records.trainer.follower(), &memory, machine)?;
    let (total, left) = (records.run.total, records.run.total - records.run.step);
    let time = time(&mut records, &rows, left)?;
    check.work = CheckMethod::Steps { left, total, time: Some(time) };
    Ok(check)
}

/// Times passes over the next records, and the update of the parameters in memory that follows from them.
fn time<D: Device, T: RecordTrainer<D>>(
    records: &mut RecordTraining<D, T>,
    rows: &[usize],
    left: u64,
) -> Result<Time, TrainError> {
    // Of a stream the first records are there, wherever the run is.
    let is_stream = records.trainer.training().rows_max.is_some();
    let mut cursor = if is_stream { Cursor::default() } else { records.run.counters.cursor };
    let next = records.order.next_batch(&mut cursor);
    let train = records.run.settings.train.clone();
    // As many as share a microbatch.
    let (mut batch, mut batch_rows) = (Vec::new(), 0);
    for index in next {
        if !batch.is_empty() && train.microbatch_tokens < batch_rows + rows[index] {
            break;
        }
        batch_rows += rows[index];
        batch.push(index);
    }
    let epoch = records.epoch_rows(rows);
    let RecordTraining { trainer, run, .. } = records;
    let mut loss = 0.0;
    let best = fastest(|| {
        run.begin_step();
        loss = trainer.loss(&learned(trainer, run, &batch));
    });
    let watch = Stopwatch::start();
    run.apply(loss)?;
    let update = watch.seconds();
    let per_row = best / batch_rows as f64;
    let mean_rows = epoch.iter().sum::<usize>() as f64 / epoch.len() as f64;
    let per_step = mean_rows * train.batch_size.min(rows.len()) as f64 * per_row + update;
    let read = trainer.evaluation_rows() as f64 * evaluations(&train, left) as f64;
    let read = read + trainer.rows_read_first() as f64;
    let basis = format!(
        "an estimate: {} a step, from {} records timed here; with evaluations, without samples and \
         checkpoints",
        seconds(per_step),
        batch.len()
    );
    let seconds = left as f64 * per_step + FORWARD * per_row * read;
    Ok(Time { seconds, basis, is_most: false })
}
