//! One epoch of a stream: records of one source after another, or of several by their weights.

use std::path::PathBuf;

use hearken_config::DataConfig;
use hearken_data::{ReadOptions, Record, Records, record_files};
use hearken_store::is_database;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::error::TrainError;
use crate::seeds::Seeds;

/// Files that are read as one.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// As its key in the configuration is called.
    key: String,
    /// The first place that the key names.
    path: PathBuf,
    files: Vec<PathBuf>,
    options: ReadOptions,
    /// The most records read from it.
    limit: Option<usize>,
    weight: f64,
}

impl Source {
    /// What `[data]` names: `data.train`, or each of `[[data.mix]]`.
    ///
    /// # Errors
    /// If a pattern or folder has no files, or one of them is a store.
    pub(super) fn all(config: &DataConfig) -> Result<Vec<Self>, TrainError> {
        let options = ReadOptions { limit: None, ..config.read_options() };
        if config.mix.is_empty() {
            let (key, limit) = ("data.train".to_owned(), config.limit);
            return Ok(vec![Self::new(key, &config.train, options, limit, 1.0)?]);
        }
        let sources = config.mix.iter().enumerate().map(|(index, source)| {
            let mut options = options.clone();
            if let Some(columns) = &source.columns {
                options.columns.clone_from(columns);
            }
            let key = format!("data.mix[{index}]");
            Self::new(key, &source.path, options, source.limit, *source.weight)
        });
        sources.collect()
    }

    fn new(
        key: String,
        places: &[PathBuf],
        options: ReadOptions,
        limit: Option<usize>,
        weight: f64,
    ) -> Result<Self, TrainError> {
        let mut files = Vec::new();
        for place in places {
            if place.to_str().is_some_and(is_database) {
                return Err(TrainError::Other(format!(
                    "`data.streaming`: {} is a store, which is read as a whole; expected files, as `hearken export` \
                     makes them of a store, or `data.streaming = false`",
                    hearken_store::shown(place).display()
                )));
            }
            files.extend(record_files(place)?);
        }
        let path = places.first().cloned().unwrap_or_default();
        Ok(Self { key, path, files, options, limit, weight })
    }

    /// How many files it has.
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    /// Its share of every stretch of the stream, beside all sources.
    pub(super) fn note(&self, all: &[Self]) -> String {
        let weights: f64 = all.iter().map(|source| source.weight).sum();
        let share = 100.0 * self.weight / weights;
        format!("{} {share:.1} %", self.path.display())
    }

    fn without_records(&self) -> TrainError {
        let reasons = format!(" (`{}`: an epoch of it has no record to train on)", self.key);
        TrainError::NoExamples { path: self.path.clone(), reasons }
    }
}

/// Where the generators of an epoch come from; `None` where the files' order is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shuffle {
    pub(super) seeds: Seeds,
    pub(super) epoch: u64,
    /// How many records are held, from which each is drawn.
    pub(super) buffer: usize,
}

/// One epoch, as far as it has come.
///
/// An epoch of several sources ends when each has been given whole at least once; one that ends before the others begins
/// anew. The next record is always of the source that is furthest behind its share, so that every stretch of
/// an epoch has its sources by their weights.
pub(super) struct Pass<R> {
    pub(super) epoch: u64,
    /// Records drawn.
    pub(super) drawn: usize,
    shuffle: Option<Shuffle>,
    sources: Vec<Source>,
    readings: Vec<OpenSource<R>>,
}

/// A source, as far as it has been read.
struct OpenSource<R> {
    /// How often it has been given whole in this epoch.
    rounds: u64,
    /// Whether its last record of this round has been given.
    is_over: bool,
    /// Records given in this epoch.
    given: usize,
    /// Files that are still to be opened, the next one last.
    files: Vec<PathBuf>,
    records: Option<Records<R>>,
    /// Records read in this round.
    read: usize,
    /// Bad ones of the epoch, but for those of the file that is open.
    skipped: usize,
    buffer: Vec<R>,
    rng: Option<ChaCha8Rng>,
}

impl<R: Record> Pass<R> {
    pub(super) fn new(sources: &[Source], shuffle: Option<Shuffle>, epoch: u64) -> Self {
        let readings = sources.iter().enumerate().map(|(number, source)| {
            // Of a single source the stream is called as before there were several.
            let number = (1 < sources.len()).then_some(number);
            OpenSource::begin(source, generator(shuffle, number, 0))
        });
        Self { epoch, drawn: 0, shuffle, sources: sources.to_vec(), readings: readings.collect() }
    }

    /// Bad records up to here.
    pub(super) fn skipped(&self) -> usize {
        let of = |reading: &OpenSource<R>| {
            reading.skipped + reading.records.as_ref().map_or(0, |open| open.report().skipped)
        };
        self.readings.iter().map(of).sum()
    }

    /// Why the bad records of files that are open were bad.
    pub(super) fn reasons(&self) -> Vec<String> {
        let open = self.readings.iter().filter_map(|reading| reading.records.as_ref());
        open.flat_map(|records| records.report().reasons.clone()).collect()
    }

    /// Records read.
    pub(super) fn read(&self) -> usize {
        self.readings.iter().map(|reading| reading.read).sum()
    }

    /// The source that is furthest behind its share, of those that `takes_part`.
    fn furthest_behind(&self, takes_part: impl Fn(&OpenSource<R>) -> bool) -> Option<usize> {
        let due = |index: &usize| {
            (self.readings[*index].given as f64 + 1.0) / self.sources[*index].weight
        };
        let part = (0..self.readings.len()).filter(|index| takes_part(&self.readings[*index]));
        part.min_by(|one, other| due(one).total_cmp(&due(other)))
    }

    /// The next record as the files have them, of sources by their weights; each source once.
    pub(super) fn next_in_order(&mut self) -> Result<Option<R>, TrainError> {
        while let Some(index) = self.furthest_behind(|reading| reading.rounds == 0) {
            let reading = &mut self.readings[index];
            match reading.next_record(&self.sources[index])? {
                Some(record) => {
                    reading.given += 1;
                    return Ok(Some(record));
                }
                None => reading.rounds += 1,
            }
        }
        Ok(None)
    }

    /// Draws the next record that is not held out; `None` at the end of the epoch.
    pub(super) fn draw(&mut self, held_out: &impl Fn(&R) -> bool) -> Result<Option<R>, TrainError> {
        let wanted = self.shuffle.map_or(1, |shuffle| shuffle.buffer);
        let is_mixed = 1 < self.sources.len();
        while self.readings.iter().any(|reading| reading.rounds == 0) {
            let Some(index) = self.furthest_behind(|_| true) else { break };
            let (source, reading) = (&self.sources[index], &mut self.readings[index]);
            if reading.is_over {
                let number = is_mixed.then_some(index);
                reading.begin_again(source, generator(self.shuffle, number, reading.rounds));
            }
            if let Some(record) = reading.draw(source, wanted, held_out)? {
                self.drawn += 1;
                return Ok(Some(record));
            }
            if is_mixed {
                return Err(source.without_records());
            }
        }
        Ok(None)
    }
}

/// The generator of a round of a source.
fn generator(shuffle: Option<Shuffle>, source: Option<usize>, round: u64) -> Option<ChaCha8Rng> {
    let name = match source {
        None => "stream".to_owned(),
        Some(source) => format!("stream/{source}/{round}"),
    };
    shuffle.map(|shuffle| shuffle.seeds.stream(&name, shuffle.epoch))
}

impl<R: Record> OpenSource<R> {
    fn begin(source: &Source, mut rng: Option<ChaCha8Rng>) -> Self {
        let mut files = source.files.clone();
        if let Some(rng) = &mut rng {
            // A buffer mixes what lies near: whole files change places, too.
            for last in (1..files.len()).rev() {
                files.swap(last, rng.random_range(0..=last));
            }
        }
        files.reverse();
        let (rounds, is_over, given, read, skipped) = (0, false, 0, 0, 0);
        let (records, buffer) = (None, Vec::new());
        Self { rounds, is_over, given, files, records, read, skipped, buffer, rng }
    }

    /// The next round over the source, whose first bad records are counted once.
    fn begin_again(&mut self, source: &Source, rng: Option<ChaCha8Rng>) {
        let (rounds, given, skipped) = (self.rounds, self.given, self.skipped);
        *self = Self { rounds, given, skipped, ..Self::begin(source, rng) };
    }

    /// The next record of the files.
    fn next_record(&mut self, source: &Source) -> Result<Option<R>, TrainError> {
        loop {
            if source.limit.is_some_and(|limit| limit <= self.read) {
                return Ok(None);
            }
            let Some(records) = &mut self.records else {
                let Some(file) = self.files.pop() else { return Ok(None) };
                self.records = Some(Records::open(&file, &source.options)?);
                continue;
            };
            if let Some(record) = records.next() {
                self.read += 1;
                return Ok(Some(record?));
            }
            records.expect_some()?;
            self.skipped += records.report().skipped;
            self.records = None;
        }
    }

    /// Draws a record from the buffer of `wanted`, which is filled before and after, so that it is known whether
    /// the record was the round's last. `None` where a round has none at all.
    fn draw(
        &mut self,
        source: &Source,
        wanted: usize,
        held_out: &impl Fn(&R) -> bool,
    ) -> Result<Option<R>, TrainError> {
        self.fill(source, wanted, held_out)?;
        let drawn = match self.buffer.len() {
            0 => None,
            held => {
                let place = self.rng.as_mut().map_or(0, |rng| rng.random_range(0..held));
                self.given += 1;
                Some(self.buffer.swap_remove(place))
            }
        };
        self.fill(source, wanted, held_out)?;
        self.is_over = self.buffer.is_empty();
        self.rounds += u64::from(self.is_over);
        Ok(drawn)
    }

    fn fill(
        &mut self,
        source: &Source,
        wanted: usize,
        held_out: &impl Fn(&R) -> bool,
    ) -> Result<(), TrainError> {
        while self.buffer.len() < wanted {
            let Some(record) = self.next_record(source)? else { break };
            if !held_out(&record) {
                self.buffer.push(record);
            }
        }
        Ok(())
    }
}
