//! People who compare clips while the policy learns.
//!
//! Queries are items of a store of the labelling service, whose pages show them to people; what they say is read from there. Every query lies in the run
//! directory before anybody sees it, so that a run that is killed asks nothing twice and loses no answer, wherever its last checkpoint is.
//!
//! Not here: the pages (`hearken-collect`), and when and about what is asked ([`super::questions`]).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hearken_data::feedback::{
    Candidate, Item, Judgement, Media, Task, Verdict, decisive, in_force,
};
use hearken_data::{Message, Role};
use hearken_env::{ControlTask, Frame, draw};
use hearken_run::error::RunDirError;
use hearken_run::metrics::Stopwatch;
use hearken_run::run_dir::write_atomically;
use hearken_store::{Changed, Store, all_changes, open, open_existing};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::segment::{ComparedSegments, Segment};
use crate::apng;
use crate::config::{ControlConfig, PeopleConfig};
use crate::learner::{AskedError, Awaited};

/// The folder of the run directory in which queries lie.
const FOLDER: &str = "queries";
/// How many of them are in the store.
const PLACED: &str = "placed.json";
/// Labels that differ by less are the same: checkpoints keep them in `f32`.
const SAME: f64 = 1e-6;
/// The least answers that a reward model learns from.
const LEAST: usize = 2;

/// What people said of a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QueryAnswer {
    /// Nothing yet.
    Open,
    /// That they cannot tell; or somebody took it out of the project.
    Skipped,
    /// The share of them to whom the first segment is the better one; a tie is a half.
    Label(f64),
}

/// A query that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct AskedQuery {
    /// The name of its item.
    pub item: String,
    /// The segments.
    pub segments: [Segment; 2],
    /// What was said of it when the store was last looked into.
    pub answer: QueryAnswer,
}

/// A query as its file has it.
#[derive(Serialize, Deserialize)]
struct KeptQuery {
    item: Item,
    segments: [Segment; 2],
}

#[derive(Serialize, Deserialize)]
struct PlacedQueries {
    queries: usize,
}

/// Those who compare, by what they were asked and have said.
#[derive(Clone, Debug)]
pub struct People {
    settings: PeopleConfig,
    folder: PathBuf,
    /// What items of the run are called.
    run: String,
    task: ControlTask,
    /// Numbers of a segment's rows, and of its states.
    lens: [usize; 2],
    queries: Vec<AskedQuery>,
    is_loaded: bool,
    looked: Option<Stopwatch>,
    waiting: Option<Stopwatch>,
}

impl People {
    /// For segments whose rows are `row_len` numbers long. Nothing is read before it is needed.
    ///
    /// # Panics
    /// If the environment is another process's.
    pub fn new(config: &ControlConfig, row_len: usize) -> Self {
        let task = config.environment.id.task().expect("people see environments of this program");
        let (dir, steps) = (&config.run.dir, *config.preference.segment);
        let run = dir
            .file_name()
            .map_or_else(|| task.id().to_owned(), |name| name.to_string_lossy().into_owned());
        Self {
            settings: config.preference.people.clone(),
            folder: dir.join(FOLDER),
            run,
            task,
            lens: [row_len * steps, task.state_names().len() * steps],
            queries: Vec::new(),
            is_loaded: false,
            looked: None,
            waiting: None,
        }
    }

    /// All queries that were made, in their order.
    ///
    /// # Errors
    /// If those of the run directory cannot be read, or their store is gone.
    pub fn queries(&mut self) -> Result<&[AskedQuery], AskedError> {
        self.load()?;
        Ok(&self.queries)
    }

    /// Asks about pairs: their clips go to the run directory, and then into the store.
    ///
    /// # Errors
    /// If one of the two cannot be written.
    pub fn ask(&mut self, pairs: Vec<[Segment; 2]>, iteration: u64) -> Result<(), AskedError> {
        self.load()?;
        std::fs::create_dir_all(&self.folder)
            .map_err(RunDirError::io(&self.folder, "be created"))?;
        let before = self.queries.len();
        let items: Vec<Item> = pairs
            .par_iter()
            .enumerate()
            .map(|(place, segments)| self.item(before + place + 1, segments, iteration))
            .collect();
        for (item, segments) in items.iter().zip(pairs) {
            let (id, path) = (item.id.clone(), self.path(self.queries.len() + 1));
            let kept = KeptQuery { item: item.clone(), segments };
            let bytes = serde_json::to_vec(&kept).expect("a query is a plain struct");
            write_atomically(&path, &bytes)?;
            let (segments, answer) = (kept.segments, QueryAnswer::Open);
            self.queries.push(AskedQuery { item: id, segments, answer });
        }
        self.put(&items, before)
    }

    /// Puts items into the store, behind `before` others of the run.
    fn put(&self, items: &[Item], before: usize) -> Result<(), AskedError> {
        let url = self.url();
        let store = if before == 0 { open(url) } else { open_existing(url) };
        let store = store.map_err(|error| match before {
            0 => AskedError::Store(error),
            placed => AskedError::Lost { message: error.to_string(), placed },
        })?;
        store.add_items(items)?;
        let placed = PlacedQueries { queries: before + items.len() };
        let bytes = serde_json::to_vec(&placed).expect("a number is plain");
        Ok(write_atomically(&self.folder.join(PLACED), &bytes)?)
    }

    fn url(&self) -> &str {
        self.settings.store.as_deref().unwrap_or_default()
    }

    fn path(&self, number: usize) -> PathBuf {
        self.folder.join(format!("{number:05}.json"))
    }

    /// Query `number` as people see it. What was asked later comes first, since it is about what the policy does now.
    fn item(&self, number: usize, segments: &[Segment; 2], iteration: u64) -> Item {
        let candidate = |segment: &Segment| Candidate {
            media: vec![Media { source: self.clip(segment), alt: String::new() }],
            ..Candidate::default()
        };
        let wish = &self.settings.wish;
        let prompt = (!wish.is_empty()).then(|| Message::new(Role::User, wish));
        let mut item = Item::new(
            Task::Pairwise,
            prompt.into_iter().collect(),
            segments.iter().map(candidate).collect(),
        );
        item.id = format!("{}-{number:05}-{}", self.run, &item.id[..16]);
        item.priority = i64::try_from(iteration).unwrap_or(i64::MAX);
        item.meta.insert("iteration".to_owned(), json!(iteration));
        item
    }

    /// A segment as an animated PNG that is its own address. Half a second of rest tells its end from its beginning.
    fn clip(&self, segment: &Segment) -> String {
        let draw = |state: &[f32]| -> Frame {
            let state: Vec<f64> = state.iter().map(|&number| f64::from(number)).collect();
            draw(self.task, &state)
        };
        let frames: Vec<Frame> =
            segment.states.chunks(self.task.state_names().len()).map(draw).collect();
        let fps = u16::try_from(*self.settings.clip_fps).unwrap_or(u16::MAX);
        let bytes = apng::encode(&frames, fps, (fps / 2).max(1));
        format!("data:image/apng;base64,{}", STANDARD.encode(bytes))
    }

    /// Reads the run directory's queries, once, and puts those into the store that a killed run did not.
    fn load(&mut self) -> Result<(), AskedError> {
        if self.is_loaded {
            return Ok(());
        }
        let mut items = Vec::new();
        while let Some(KeptQuery { item, segments }) =
            read::<KeptQuery>(&self.path(items.len() + 1))?
        {
            let lens = |one: &Segment| [one.rows.len(), one.states.len()];
            if segments.iter().any(|one| lens(one) != self.lens) {
                let (found, expected) = (lens(&segments[0]), self.lens);
                let message = format!(
                    "found a segment of {} numbers and {} of its states, expected {} and {}: it is of a run with other settings; \
                     begin anew with --fresh",
                    found[0], found[1], expected[0], expected[1]
                );
                return Err(AskedError::Unread { path: self.path(items.len() + 1), message });
            }
            let (id, answer) = (item.id.clone(), QueryAnswer::Open);
            self.queries.push(AskedQuery { item: id, segments, answer });
            items.push(item);
        }
        let placed = read::<PlacedQueries>(&self.folder.join(PLACED))?;
        let placed = placed.map_or(0, |placed| placed.queries).min(items.len());
        if 0 < placed {
            let store = self.store(placed)?;
            for item in &items[..placed] {
                if store.item(&item.id)?.is_none() {
                    let message = format!("{} has no item {:?}", store.home(), item.id);
                    return Err(AskedError::Lost { message, placed });
                }
            }
        }
        if placed < items.len() {
            self.put(&items[placed..], placed)?;
        }
        self.is_loaded = true;
        Ok(())
    }

    /// The store in which `placed` queries are.
    fn store(&self, placed: usize) -> Result<Box<dyn Store>, AskedError> {
        let lost = |error: hearken_store::StoreError| AskedError::Lost {
            message: error.to_string(),
            placed,
        };
        open_existing(self.url()).map_err(lost)
    }

    /// Looks into the store, unless that was done a moment ago.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn look(&mut self) -> Result<(), AskedError> {
        self.load()?;
        let is_fresh = |since: &Stopwatch| since.seconds() < *self.settings.poll_s;
        if self.queries.is_empty() || self.looked.as_ref().is_some_and(is_fresh) {
            return Ok(());
        }
        // A store that stays open keeps others from it, where it is a file of JSON lines.
        let store = self.store(self.queries.len())?;
        let changes = all_changes(&*store)?;
        for query in &mut self.queries {
            query.answer = answer(&store.judgements_of(&query.item)?, changes.get(&query.item));
        }
        self.looked = Some(Stopwatch::start());
        Ok(())
    }

    /// The segments of all queries that were made.
    pub fn asked(&self) -> impl Iterator<Item = &[Segment; 2]> {
        self.queries.iter().map(|query| &query.segments)
    }

    /// How many queries are answered, those that were skipped among them.
    pub fn answered(&self) -> usize {
        self.queries.iter().filter(|query| query.answer != QueryAnswer::Open).count()
    }

    /// How many were skipped.
    pub fn skipped(&self) -> usize {
        self.queries.iter().filter(|query| query.answer == QueryAnswer::Skipped).count()
    }

    /// Whether so many are answered that more may be asked.
    pub fn is_enough(&self) -> bool {
        self.needed() <= self.answered()
    }

    /// How many answers are wanted of all queries so far.
    fn needed(&self) -> usize {
        let asked = self.queries.len();
        let share = (*self.settings.enough * asked as f64 - 1e-9).ceil() as usize;
        // Before the first two answers there is no reward at all.
        share.max(LEAST.min(asked))
    }

    /// What is waited for: as many answers as are wanted, or, once `wait_s` has gone by, the first two.
    ///
    /// # Errors
    /// As [`People::look`].
    pub fn awaited(&mut self) -> Result<Option<Awaited>, AskedError> {
        self.look()?;
        let (asked, answered, needed) = (self.queries.len(), self.answered(), self.needed());
        if needed <= answered {
            self.waiting = None;
            return Ok(None);
        }
        let since = self.waiting.get_or_insert_with(Stopwatch::start).seconds();
        let is_late = self.settings.wait_s.is_some_and(|wait| *wait <= since);
        if is_late && LEAST <= answered - self.skipped() {
            self.waiting = None;
            return Ok(None);
        }
        let text = format!(
            "waits for people: {answered} of {asked} comparisons are answered, {needed} are to be before it goes on; judge with \
             `hearken collect --store {}`",
            self.url()
        );
        Ok(Some(Awaited { text, poll_s: *self.settings.poll_s }))
    }
}

/// What all that was said of one item comes to.
fn answer(judgements: &[Judgement], changed: Option<&Changed>) -> QueryAnswer {
    if changed.is_some_and(|changed| changed.withdrawn) {
        return QueryAnswer::Skipped;
    }
    let holding = in_force(judgements);
    let said = decisive(&holding);
    let label = |judgement: &&Judgement| match &judgement.verdict {
        Verdict::Preferred { candidate, .. } => Some(1.0 - *candidate as f64),
        Verdict::Tie | Verdict::BothBad => Some(0.5),
        Verdict::Soft { probability } => Some(*probability),
        _ => None,
    };
    let labels: Vec<f64> = said.iter().filter_map(label).collect();
    match (labels.len(), said.len()) {
        (0, 0) => QueryAnswer::Open,
        (0, _) => QueryAnswer::Skipped,
        (count, _) => QueryAnswer::Label(labels.iter().sum::<f64>() / count as f64),
    }
}

/// A file of the run directory; `None` where there is none.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, AskedError> {
    let unread = |message| AskedError::Unread { path: path.to_owned(), message };
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| unread(format!("no query of a run: {error}"))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unread(format!("cannot be read: {error}"))),
    }
}

/// Takes answers over into comparisons, of which `places` has the query of each; whether anything is new. They stay in the order in which they came, since
/// a member's sample goes by their places.
pub(super) fn take_over(
    queries: &[AskedQuery],
    places: &mut Vec<usize>,
    compared: &mut Vec<ComparedSegments>,
) -> bool {
    let label = |place: usize| match queries.get(place).map(|query| query.answer) {
        Some(QueryAnswer::Label(label)) => Some(label),
        _ => None,
    };
    let mut is_new = false;
    for index in (0..places.len()).rev() {
        if let Some(label) = label(places[index]) {
            is_new |= SAME < (compared[index].first_is_better - label).abs();
            compared[index].first_is_better = label;
        } else {
            places.remove(index);
            compared.remove(index);
            is_new = true;
        }
    }
    for (place, query) in queries.iter().enumerate() {
        if let Some(first_is_better) = label(place)
            && !places.contains(&place)
        {
            places.push(place);
            compared.push(ComparedSegments { segments: query.segments.clone(), first_is_better });
            is_new = true;
        }
    }
    is_new
}
