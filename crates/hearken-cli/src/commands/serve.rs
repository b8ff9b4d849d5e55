//! `hearken serve`.

mod loader;
mod reward;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use hearken_data::redaction::{PersonalData, Redaction};
use hearken_generate::EngineOptions;
use hearken_serve::parts::{Parts, RewardScorer, WeightsPlace};
use hearken_serve::{ApiKeys, Consent, Log, Options, Service};

use self::loader::LocalLoader;
use self::reward::RewardModel;
use super::model_arguments::ReadingArguments;
use super::output_file::check_output;
use super::sampling_arguments::from_one;
use crate::interrupt::interrupted;
use crate::{output, request_log};

/// The environment variable with a key of those who may ask.
const KEY: &str = "HEARKEN_API_KEY";
/// The environment variable with a key of those who may change weights.
const ADMIN_KEY: &str = "HEARKEN_ADMIN_KEY";

/// Serve models behind OpenAI's API
///
/// Answers chat completions, completions, models, scores and tokens under /v1 as OpenAI's clients ask for them, streaming
/// or not, until it is interrupted; then requests under way are finished. Requests join the batch as they come. The
/// address is printed when the models are read. Where keys are given (--api-key-file, or HEARKEN_API_KEY), every request
/// needs one; POST /admin/weights needs an admin key (--admin-key-file, or HEARKEN_ADMIN_KEY).
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Serve {
    /// A Hugging Face model directory, or a PEFT directory, or the name of either on the hub
    #[arg(long, value_name = "DIR_OR_NAME")]
    model: PathBuf,

    /// The name that requests call the model by; what --model says where it is not given
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// An adapter of the model, served under a name of its own over the same weights, in one batch with the others; may be
    /// repeated
    #[arg(long, value_name = "NAME=DIR")]
    adapter: Vec<String>,

    /// A reward model, whose scores /v1/score gives
    #[arg(long, value_name = "DIR_OR_NAME")]
    reward: Option<PathBuf>,

    /// The address to listen on; port 0 takes any that is free
    #[arg(long, default_value = "127.0.0.1:8000", value_name = "ADDRESS")]
    bind: SocketAddr,

    #[command(flatten)]
    reading: ReadingArguments,

    #[command(flatten)]
    limits: ServeLimits,

    #[command(flatten)]
    access: Access,

    #[command(flatten)]
    written: Written,

    /// Write a line per request to standard error
    #[arg(long)]
    log_requests: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
struct ServeLimits {
    /// The most completions that run or wait; further ones are refused with status 429
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = from_one)]
    completions_max: usize,

    /// The most completions that are sampled at the same time, of a model with its adapters
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = from_one)]
    batch: usize,

    /// The most MiB of keys and values, of a model with its adapters
    #[arg(long, default_value_t = 2048, value_name = "MIB", value_parser = from_one)]
    cache_mib: usize,

    /// The most seconds that an answer may take
    #[arg(long, default_value_t = 600, value_name = "S", value_parser = from_one)]
    timeout_s: usize,

    /// The most seconds that answers under way may take when the service ends
    #[arg(long, default_value_t = 30, value_name = "S")]
    grace_s: u64,

    /// The most KiB of a request
    #[arg(long, default_value_t = 8192, value_name = "KIB", value_parser = from_one)]
    body_kib: usize,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Writing down")]
struct Written {
    /// Write every completion as a line of this file, with its token ids, log-probabilities and version, and what users say
    /// of it by /v1/feedback
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,

    /// Put the file aside under a number when it has so many MiB
    #[arg(long, default_value_t = 256, value_name = "MIB", requires = "log", value_parser = from_one)]
    log_mib: usize,

    /// Remove lines that are older than so many days; without it they stay
    #[arg(long, value_name = "DAYS", requires = "log", value_parser = days)]
    log_days: Option<f64>,

    /// Whose completions: of all who do not say "store": false, or of each who says "store": true
    #[arg(long, value_enum, default_value_t = ConsentWord::All, value_name = "WHOSE", requires = "log")]
    consent: ConsentWord,

    /// What is taken out of texts before they are written, separated by commas, of email, iban, card, ip and phone; none takes
    /// out nothing
    #[arg(
        long,
        default_value = "email,iban,card,ip,phone",
        value_name = "KINDS",
        requires = "log"
    )]
    redact: String,

    /// Take out what matches this pattern, too, with its name in brackets in its place; may be repeated
    #[arg(long, value_name = "NAME=PATTERN", requires = "log")]
    redact_pattern: Vec<String>,
}

/// Whose completions are written down.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ConsentWord {
    All,
    Each,
}

/// A number of days above 0.
fn days(text: &str) -> Result<f64, String> {
    let days: Option<f64> = text.parse().ok();
    days.filter(|days| 0.0 < *days && days.is_finite())
        .ok_or_else(|| "expected a number of days above 0".to_owned())
}

impl Written {
    fn log(&self) -> Result<Option<Log>> {
        let Some(path) = &self.log else { return Ok(None) };
        let kinds = match self.redact.as_str() {
            "none" => Vec::new(),
            kinds => {
                let kinds = kinds.split(',').map(|kind| kind.trim().parse::<PersonalData>());
                kinds.collect::<Result<_, _>>().map_err(|error| {
                    anyhow::anyhow!("--redact: {error}, separated by commas, or none")
                })?
            }
        };
        let mut redaction = Redaction::of(kinds);
        for given in &self.redact_pattern {
            let Some((name, pattern)) = given.split_once('=').filter(|(name, _)| !name.is_empty())
            else {
                bail!("--redact-pattern {given}: expected NAME=PATTERN");
            };
            redaction = redaction
                .and(name, pattern)
                .map_err(|error| anyhow::anyhow!("--redact-pattern {name}: {error}"))?;
        }
        let consent = match self.consent {
            ConsentWord::All => Consent::All,
            ConsentWord::Each => Consent::Each,
        };
        let bytes_max = (self.log_mib as u64) << 20;
        Ok(Some(Log { path: path.clone(), bytes_max, consent, days_max: self.log_days, redaction }))
    }
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Access")]
struct Access {
    /// A file of keys, one in a line, of those who may ask; HEARKEN_API_KEY is one more
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,

    /// A file of keys of those who may change weights; HEARKEN_ADMIN_KEY is one more
    #[arg(long, value_name = "FILE")]
    admin_key_file: Option<PathBuf>,

    /// Let everybody ask who reaches the address, from other machines too
    #[arg(long)]
    no_key: bool,
}

const EXAMPLES: &str = "\
Examples:
  # Any client of OpenAI's: base_url=\"http://127.0.0.1:8000/v1\", any api_key
  hearken serve --model runs/quickstart/ppo/final --name toast
  # With scores, and every completion written down
  hearken serve --model runs/quickstart/ppo/final \\
      --reward runs/quickstart/reward/final --log completions.jsonl
  # Answers to those who agree (store: true), kept for 30 days
  hearken serve --model runs/quickstart/ppo/final \\
      --log completions.jsonl --consent each --log-days 30
  # Two adapters of one base, for others who have the key
  hearken serve --model Qwen/Qwen2.5-0.5B --adapter brief=runs/a/final \\
      --adapter kind=runs/b/final --bind 0.0.0.0:8000 --api-key-file keys.txt";

impl Serve {
    pub(crate) fn run(self) -> Result<ExitCode> {
        request_log::install(self.log_requests);
        if let Some(log) = &self.written.log {
            check_output(log, &[&self.model])?;
        }
        let options = self.options()?;
        let models = self.models()?;
        let reward = self.reward.as_deref().map(RewardModel::load).transpose()?;
        let parts = Parts {
            loader: Box::new(LocalLoader::new(self.reading)),
            scores: reward.map(|reward| Box::new(reward) as Box<dyn RewardScorer>),
        };
        let service = Service::new(&models, options, parts)?;
        serve(service)
    }

    /// The names and places of what is served, the base first.
    fn models(&self) -> Result<Vec<(String, WeightsPlace)>> {
        let name = self.name.clone().unwrap_or_else(|| self.model.display().to_string());
        let place = WeightsPlace { model: self.model.clone(), adapter: None };
        let mut models = vec![(name, place)];
        for given in &self.adapter {
            let Some((name, dir)) =
                given.split_once('=').filter(|(name, dir)| !name.is_empty() && !dir.is_empty())
            else {
                bail!("--adapter {given}: expected NAME=DIR");
            };
            let adapter = Some(PathBuf::from(dir));
            models.push((name.to_owned(), WeightsPlace { model: self.model.clone(), adapter }));
        }
        Ok(models)
    }

    fn options(&self) -> Result<Options> {
        let ServeLimits { completions_max, batch, cache_mib, timeout_s, grace_s, body_kib } =
            self.limits;
        let defaults = Options::default();
        Ok(Options {
            bind: self.bind,
            keys: keys(self.access.api_key_file.as_deref(), KEY)?,
            admin_keys: keys(self.access.admin_key_file.as_deref(), ADMIN_KEY)?,
            open: self.access.no_key,
            completions_max,
            body_bytes: body_kib << 10,
            timeout: Duration::from_secs(timeout_s as u64),
            grace: Duration::from_secs(grace_s),
            log: self.written.log()?,
            engine: EngineOptions {
                batch_rows_max: batch,
                cache_bytes: cache_mib << 20,
                ..defaults.engine
            },
        })
    }
}

/// The keys of a file and of the environment.
fn keys(file: Option<&Path>, variable: &str) -> Result<ApiKeys> {
    let mut keys = ApiKeys::default();
    if let Some(file) = file {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        keys = ApiKeys::from_lines(&text);
        if keys.is_empty() {
            bail!("{}: found no key, expected one in a line", file.display());
        }
    }
    match std::env::var(variable) {
        Ok(key) if !key.is_empty() => Ok(keys.and(&key)),
        _ => Ok(keys),
    }
}

/// Serves until an interrupt or the polite form of termination; requests under way are finished.
fn serve(service: Service) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("the service cannot start its threads")?;
    let served = runtime.block_on(async {
        let listener = service.listen().await?;
        let address = listener.local_addr().context("the address of the socket")?;
        output::print(&format!("http://{address}\n"))?;
        let stop = async {
            interrupted().await;
            output::say("finishing the answers under way");
        };
        service.serve(listener, stop).await;
        output::say("stopped");
        anyhow::Ok(())
    });
    // A model in the middle of a step is not waited for.
    runtime.shutdown_background();
    served?;
    Ok(ExitCode::SUCCESS)
}
