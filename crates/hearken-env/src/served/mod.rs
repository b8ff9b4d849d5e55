//! Copies of an environment in another process: Gymnasium's, by a Python program that is part of this one, or those of
//! any program that speaks the protocol (docs/environments.md).
//!
//! Every episode begins with a seed and goes on by what is done, so that a checkpoint keeps these, and an environment
//! that does the same again is where it was.

mod process;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use process::ServerError;

use crate::action::{Action, ActionSpace};
use crate::id::{EnvironmentId, ServedBy};
use crate::spaces::{ObservationSpace, Spaces};
use crate::step::{EnvironmentStep, Frame, StepEnd};
use process::Process;

/// The server for Gymnasium's environments.
const GYMNASIUM_SERVER: &str = include_str!("server.py");
/// The version of the protocol.
const PROTOCOL: u64 = 1;
/// The most numbers of an observation, and the most actions or their numbers: beyond it a description is a mistake.
const COUNT_MAX: u64 = 1 << 24;

/// How a server is started, and what is wished of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerOptions {
    /// Python, for Gymnasium's environments.
    pub python: String,
    /// The program and its arguments, for those of other servers.
    pub command: Vec<String>,
    /// The longest wait for an answer.
    pub timeout: Duration,
    /// Whether the same seed and the same actions always lead to the same state.
    pub is_deterministic: bool,
    /// What its environments are made with.
    pub making: Making,
}

/// What environments are made with; what a policy that was trained in them needs again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Making {
    /// Python modules that are imported before, which register environments.
    pub modules: Vec<String>,
    /// Arguments of the environment by name.
    pub options: Map<String, Value>,
    /// How many of the last observations are seen at once.
    pub frame_stack: usize,
    /// How often an action is done.
    pub frame_skip: usize,
    /// Whether images lose their colors.
    pub grayscale: bool,
    /// Height and width that images are brought to.
    pub resize: Option<[usize; 2]>,
}

impl Default for Making {
    fn default() -> Self {
        Self {
            modules: Vec::new(),
            options: Map::new(),
            frame_stack: 1,
            frame_skip: 1,
            grayscale: false,
            resize: None,
        }
    }
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            python: "python3".to_owned(),
            command: Vec::new(),
            timeout: Duration::from_secs(60),
            is_deterministic: true,
            making: Making::default(),
        }
    }
}

/// What an episode has come by: the seed of its reset, and what was done since.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// The seed.
    pub seed: u32,
    /// Numbers of discrete actions, or the numbers of continuous ones, as the server was given them.
    pub actions: Vec<f64>,
    /// A checksum of what was seen last.
    pub seen: u32,
}

/// Copies of an environment in another process.
#[derive(Debug)]
pub(crate) struct ServedEnvironment {
    process: Process,
    spaces: Spaces,
    /// The least and the greatest number of each dimension of an action, where they are not ±bound.
    ranges: Option<Vec<(f64, f64)>>,
    /// What is seen of each copy.
    observations: Vec<f32>,
    courses: Vec<Course>,
    /// Copies that are about to be stepped, and their actions as they are sent.
    begun: (Vec<usize>, Vec<u8>),
}

impl ServedEnvironment {
    /// Starts the server of an environment.
    pub(crate) fn start(
        id: &EnvironmentId,
        options: &ServerOptions,
        copies: usize,
        draws: bool,
    ) -> Result<Self, ServerError> {
        let EnvironmentId::Served { by, name } = id else {
            unreachable!("an environment of another process")
        };
        let program = match by {
            ServedBy::Program => options.command.clone(),
            ServedBy::Gymnasium => {
                vec![options.python.clone(), "-c".to_owned(), GYMNASIUM_SERVER.to_owned()]
            }
        };
        let mut process = Process::start(&program, &id.to_string(), options.timeout)?;
        let making = &options.making;
        let request = json!({
            "request": "make", "protocol": PROTOCOL, "environment": name, "copies": copies, "render": draws,
            "modules": making.modules, "options": making.options, "frame_stack": making.frame_stack,
            "frame_skip": making.frame_skip, "grayscale": making.grayscale, "resize": making.resize,
        });
        let made = process.ask(MAKE, &request, &[])?;
        let refuse = |(found, expected): (String, &str)| process.unexpected(MAKE, found, expected);
        if made.head.get("protocol") != Some(&json!(PROTOCOL)) {
            let found =
                made.head.get("protocol").map_or("no protocol".to_owned(), Value::to_string);
            return Err(refuse((format!("protocol: {found}"), "the protocol 1")));
        }
        let observation = observation_space(made.head.get("observation")).map_err(refuse)?;
        let (actions, ranges) = action_space(made.head.get("actions")).map_err(refuse)?;
        let spaces = Spaces { observation, actions };
        Ok(Self {
            process,
            spaces,
            ranges,
            observations: vec![0.0; copies * observation.len()],
            courses: vec![Course::default(); copies],
            begun: (Vec::new(), Vec::new()),
        })
    }

    pub(crate) fn spaces(&self) -> Spaces {
        self.spaces
    }

    pub(crate) fn len(&self) -> usize {
        self.courses.len()
    }

    pub(crate) fn courses(&self) -> &[Course] {
        &self.courses
    }

    pub(crate) fn observe(&self, index: usize, observation: &mut [f32]) {
        let len = self.spaces.observation.len();
        observation.copy_from_slice(&self.observations[index * len..][..len]);
    }

    /// Begins episodes in copies, each with a seed.
    pub(crate) fn reset(&mut self, copies: &[usize], seeds: &[u32]) -> Result<(), ServerError> {
        let request = json!({"request": "reset", "copies": copies, "seeds": seeds});
        let frame = self.process.ask(RESET, &request, &[])?;
        self.take_observations(RESET, copies, &frame.data)?;
        for (&copy, &seed) in copies.iter().zip(seeds) {
            self.courses[copy].seed = seed;
            self.courses[copy].actions.clear();
        }
        Ok(())
    }

    /// Takes note of an action, to be done with others.
    pub(crate) fn begin(&mut self, index: usize, action: Action<'_>) {
        let (copies, data) = &mut self.begun;
        let course = &mut self.courses[index].actions;
        match action {
            Action::Discrete(number) => {
                data.extend((number as u32).to_le_bytes());
                course.push(number as f64);
            }
            Action::Continuous(values) => {
                for (dimension, &value) in values.iter().enumerate() {
                    let given = match &self.ranges {
                        None => value,
                        Some(ranges) => {
                            let (low, high) = ranges[dimension];
                            low + f64::midpoint(value, 1.0) * (high - low)
                        }
                    };
                    data.extend(given.to_le_bytes());
                    course.push(given);
                }
            }
        }
        copies.push(index);
    }

    /// Does what was begun; appends what each came to, in the order in which they were begun.
    pub(crate) fn finish(&mut self, steps: &mut Vec<EnvironmentStep>) -> Result<(), ServerError> {
        let (copies, actions) = std::mem::take(&mut self.begun);
        let request = json!({"request": "step", "copies": copies});
        let frame = self.process.ask(STEP, &request, &actions)?;
        let count = copies.len();
        let len = count * (8 + 2);
        if frame.data.len() < len {
            let found = format!("{} bytes", frame.data.len());
            let expected = format!("rewards and ends of {count} copies, {len} bytes");
            return Err(self.process.unexpected(STEP, found, expected));
        }
        let (rewards, rest) = frame.data.split_at(8 * count);
        let (terminated, rest) = rest.split_at(count);
        let (truncated, rest) = rest.split_at(count);
        for (at, reward) in rewards.chunks_exact(8).enumerate() {
            let reward = f64::from_le_bytes(reward.try_into().expect("chunks of 8"));
            let copy = copies[at];
            if !reward.is_finite() {
                let found = format!("the reward {reward} of copy {copy}");
                return Err(self.process.unexpected(STEP, found, "a finite number"));
            }
            let end = match (terminated[at], truncated[at]) {
                (1, 0 | 1) => StepEnd::Terminated,
                (0, 1) => StepEnd::Truncated,
                (0, 0) => StepEnd::Running,
                other => {
                    let found = format!("the ends {other:?} of copy {copy}");
                    return Err(self.process.unexpected(STEP, found, "bytes of 0 or 1"));
                }
            };
            steps.push(EnvironmentStep { reward, end });
        }
        self.take_observations(STEP, &copies, rest)
    }

    /// Reads what is seen of copies.
    fn take_observations(
        &mut self,
        request: &'static str,
        copies: &[usize],
        data: &[u8],
    ) -> Result<(), ServerError> {
        let len = self.spaces.observation.len();
        let is_image = matches!(self.spaces.observation, ObservationSpace::Image { .. });
        let bytes = if is_image { len } else { 4 * len };
        if data.len() != copies.len() * bytes {
            let found = format!("{} bytes of observations", data.len());
            let expected = format!("{} copies of {bytes} bytes", copies.len());
            return Err(self.process.unexpected(request, found, expected));
        }
        for (&copy, data) in copies.iter().zip(data.chunks(bytes)) {
            let seen = &mut self.observations[copy * len..][..len];
            if is_image {
                for (seen, &byte) in seen.iter_mut().zip(data) {
                    *seen = f32::from(byte) / 255.0;
                }
            } else {
                for (seen, bytes) in seen.iter_mut().zip(data.chunks_exact(4)) {
                    *seen = f32::from_le_bytes(bytes.try_into().expect("chunks of 4"));
                }
            }
            if let Some(bad) = seen.iter().position(|x| !x.is_finite()) {
                let found =
                    format!("{} at place {bad} of the observation of copy {copy}", seen[bad]);
                return Err(self.process.unexpected(request, found, "finite numbers"));
            }
            self.courses[copy].seen = checksum(data);
        }
        Ok(())
    }

    /// Goes through kept episodes again; the copy that does not come to what was seen, if one does not.
    pub(crate) fn follow(&mut self, courses: &[Course]) -> Result<Option<usize>, ServerError> {
        let all: Vec<usize> = (0..courses.len()).collect();
        let seeds: Vec<u32> = courses.iter().map(|course| course.seed).collect();
        self.reset(&all, &seeds)?;
        let width = match self.spaces.actions {
            ActionSpace::Discrete { .. } => 1,
            ActionSpace::Continuous { dimensions, .. } => dimensions,
        };
        let ranges = self.ranges.take();
        let mut steps = Vec::new();
        for step in 0.. {
            for (copy, course) in courses.iter().enumerate() {
                let Some(action) = course.actions.chunks_exact(width).nth(step) else { continue };
                match self.spaces.actions {
                    ActionSpace::Discrete { .. } => {
                        self.begin(copy, Action::Discrete(action[0] as usize));
                    }
                    ActionSpace::Continuous { .. } => self.begin(copy, Action::Continuous(action)),
                }
            }
            if self.begun.0.is_empty() {
                break;
            }
            steps.clear();
            self.finish(&mut steps)?;
        }
        self.ranges = ranges;
        let differs = |copy: &usize| self.courses[*copy].seen != courses[*copy].seen;
        Ok(all.into_iter().find(differs))
    }

    /// Puts copy 0 into a state.
    pub(crate) fn set_state(&mut self, state: &[f64]) -> Result<(), ServerError> {
        let request = json!({"request": "set_state", "copy": 0, "state": state});
        self.process.ask("set a state", &request, &[]).map(|_| ())
    }

    /// The state of copy 0.
    pub(crate) fn state(&mut self) -> Result<Vec<f64>, ServerError> {
        const GET: &str = "get a state";
        let frame = self.process.ask(GET, &json!({"request": "get_state", "copy": 0}), &[])?;
        let found = frame.head.get("state");
        let numbers = found
            .and_then(Value::as_array)
            .and_then(|values| values.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>());
        numbers.ok_or_else(|| {
            let found = found.map_or("no `state`".to_owned(), Value::to_string);
            self.process.unexpected(GET, found, "a list of finite numbers")
        })
    }

    /// A picture of a copy.
    pub(crate) fn render(&mut self, index: usize) -> Result<Frame, ServerError> {
        const RENDER: &str = "draw";
        let request = json!({"request": "render", "copy": index});
        let frame = self.process.ask(RENDER, &request, &[])?;
        let of = |key: &str| {
            let side = frame.head.get(key).and_then(Value::as_u64);
            side.filter(|side| (1..=1 << 13).contains(side)).map(|side| side as usize)
        };
        match (of("height"), of("width")) {
            (Some(height), Some(width)) if frame.data.len() == 3 * height * width => {
                Ok(Frame { height, width, pixels: frame.data })
            }
            _ => {
                let found = format!("{} and {} bytes", Value::Object(frame.head), frame.data.len());
                let expected = "`height` and `width`, and three bytes for each pixel";
                Err(self.process.unexpected(RENDER, found, expected))
            }
        }
    }
}

const MAKE: &str = "make its environments";
const RESET: &str = "reset";
const STEP: &str = "step";

/// FNV-1a, of 32 bits.
fn checksum(data: &[u8]) -> u32 {
    data.iter().fold(0x811c_9dc5, |sum, &byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// A number of a description.
fn count(fields: &Map<String, Value>, key: &str) -> Option<usize> {
    let count = fields.get(key)?.as_u64().filter(|count| (1..=COUNT_MAX).contains(count))?;
    Some(count as usize)
}

type Unexpected = (String, &'static str);

fn fields<'a>(
    value: Option<&'a Value>,
    what: &'static str,
) -> Result<&'a Map<String, Value>, Unexpected> {
    value.and_then(Value::as_object).ok_or_else(|| (described(what, value), "an object"))
}

fn described(what: &str, value: Option<&Value>) -> String {
    value.map_or_else(|| format!("no `{what}`"), |value| format!("{what}: {value}"))
}

fn observation_space(value: Option<&Value>) -> Result<ObservationSpace, Unexpected> {
    const EXPECTED: &str = "{\"kind\": \"vector\", \"length\"} or {\"kind\": \"image\", \"channels\", \"height\", \"width\"}";
    let fields = fields(value, "observation")?;
    let space = match fields.get("kind").and_then(Value::as_str) {
        Some("vector") => count(fields, "length").map(|length| ObservationSpace::Vector { length }),
        Some("image") => match ["channels", "height", "width"].map(|key| count(fields, key)) {
            [Some(channels), Some(height), Some(width)] => {
                Some(ObservationSpace::Image { channels, height, width })
            }
            _ => None,
        },
        _ => None,
    };
    let space = space.filter(|space| space.len() as u64 <= COUNT_MAX);
    space.ok_or_else(|| (described("observation", value), EXPECTED))
}

type Ranges = Option<Vec<(f64, f64)>>;

fn action_space(value: Option<&Value>) -> Result<(ActionSpace, Ranges), Unexpected> {
    const EXPECTED: &str = "{\"kind\": \"discrete\", \"count\"} or {\"kind\": \"continuous\", \"low\", \"high\"} with a low below a \
                            high for each dimension";
    let fields = fields(value, "actions")?;
    let wrong = || (described("actions", value), EXPECTED);
    match fields.get("kind").and_then(Value::as_str) {
        Some("discrete") => {
            let count = count(fields, "count").ok_or_else(wrong)?;
            Ok((ActionSpace::Discrete { count }, None))
        }
        Some("continuous") => {
            let numbers = |key: &str| -> Option<Vec<f64>> {
                fields.get(key)?.as_array()?.iter().map(Value::as_f64).collect()
            };
            let (low, high) =
                (numbers("low").ok_or_else(wrong)?, numbers("high").ok_or_else(wrong)?);
            let ranges: Vec<(f64, f64)> = low.iter().copied().zip(high.iter().copied()).collect();
            let fits = !ranges.is_empty()
                && low.len() == high.len()
                && ranges.iter().all(|(low, high)| low < high);
            if !fits {
                return Err(wrong());
            }
            let bound = ranges[0].1;
            let dimensions = ranges.len();
            if ranges.iter().all(|&(low, high)| low == -bound && high == bound) {
                return Ok((ActionSpace::Continuous { dimensions, bound }, None));
            }
            Ok((ActionSpace::Continuous { dimensions, bound: 1.0 }, Some(ranges)))
        }
        _ => Err(wrong()),
    }
}
