//! `hearken collect`.

mod live;
mod local_model;
mod openid;
mod password;
mod project;
mod several;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hearken_collect::accounts::{self, NewAccount, Role};
use hearken_collect::parts::{LoopRounds, Parts};
use hearken_collect::tokens::{self, Scope};
use hearken_collect::{Media, Options, Service, StartError, exchange, system_clock};
use hearken_data::OnBadRecord;
use hearken_data::feedback::formats::{Format, ImportOptions, Unnamed};
use hearken_store::Store;
use tokio::net::TcpListener;

use super::output_file::check_output;
use crate::interrupt::interrupted;
use crate::{hub, output, request_log};

/// Collect judgements: a labelling service with pages and an API
///
/// Opens the store (made where there is none), adds the items of the files given, and serves pages until
/// interrupted. On 127.0.0.1 nobody signs in: everybody on this machine is the annotator "local". On other
/// addresses people sign in, and the store needs an administrator first: --add-admin.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Collect {
    /// The store: a SQLite file, FILE.jsonl, or postgres://USER@HOST/DATABASE
    #[arg(long, default_value = "hearken.db", value_name = "STORE")]
    store: String,

    /// Several projects in one service, each at /p/NAME with settings, people and a store of its own: NAME=STORE. They are
    /// set up one by one with --store first
    #[arg(
        long,
        num_args = 1..,
        value_name = "NAME=STORE",
        conflicts_with_all = ["store", "items", "title", "set", "settings", "guidelines", "model_a", "add_admin", "add_token"]
    )]
    projects: Vec<String>,

    /// Add the items of these files first, and their judgements where they say who judged; pairs of which
    /// the file says only which is chosen are compared anew (`hearken import` keeps what it says)
    #[arg(long, num_args = 1.., value_name = "FILE")]
    items: Vec<PathBuf>,

    /// The format of the files; found out from the first where it is not given
    #[arg(long, value_name = "FORMAT", requires = "items")]
    format: Option<Format>,

    /// Leave out bad rows of the files and count them
    #[arg(long, requires = "items")]
    skip_bad: bool,

    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    bind: SocketAddr,

    /// How people reach the service, where that is not the address: https://… behind a proxy for TLS
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,

    /// The title of a project that has no settings yet
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,

    /// The folder of images and clips: every one of them is served. Where it is not given, those below the folder of
    /// the first file that an item or the guidelines name
    #[arg(long, value_name = "DIR")]
    media: Option<PathBuf>,

    /// Show the rounds of this loop, the folder that `hearken loop` writes, on a page of their own; nothing in it is changed
    #[arg(long = "loop", value_name = "DIR", conflicts_with = "projects")]
    rounds: Option<PathBuf>,

    #[command(flatten)]
    project: project::Project,

    #[command(flatten)]
    openid: openid::OpenIdArguments,

    #[command(flatten)]
    live: live::Live,

    /// Who answers on the page "Live" of a project of --projects: an argument of this part without its dashes, such as
    /// chat:model-a=llama3.2 chat:url-a=http://127.0.0.1:11434/v1
    #[arg(
        long = "live",
        num_args = 1..,
        value_name = "PROJECT:KEY=VALUE",
        requires = "projects",
        help_heading = "Live answers"
    )]
    live_of: Vec<String>,

    /// Write a line per request to standard error
    #[arg(long)]
    log: bool,

    /// Make an administrator account and end; the password is asked for, or read from HEARKEN_PASSWORD
    #[arg(long, value_name = "NAME")]
    add_admin: Option<String>,

    /// Make an API token and end; the token is printed
    #[arg(long, value_name = "NAME", conflicts_with = "add_admin")]
    add_token: Option<String>,

    /// What the token may be used for: read, write, label, manage
    #[arg(
        long,
        value_name = "SCOPE",
        value_delimiter = ',',
        default_value = "read",
        requires = "add_token"
    )]
    scopes: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  # Label on this machine: open the address that is printed
  hearken collect --items runs/quickstart/data/preferences.jsonl
  # The same, kept in a file that any editor reads
  hearken collect --items runs/quickstart/data/preferences.jsonl \\
      --store prefs.jsonl
  # Three people for each item; what can be set, and how it is
  hearken collect --set overlap=3 strength_points=3 --settings
  # A team on other machines: accounts first
  hearken collect --add-admin ada && hearken collect --bind 0.0.0.0:8080
  hearken collect --add-token robot --scopes read,label
  # Two projects in one service, at /p/chat and /p/code
  hearken collect --projects chat=chat.db code=code.db";

/// The folder of a loop, which is read for every look at its page.
struct LoopFolder {
    root: PathBuf,
}

impl LoopRounds for LoopFolder {
    fn html(&self) -> Result<String, String> {
        hearken_recipes::closed_loop::fragment(&self.root).map_err(|error| error.to_string())
    }
}

impl Collect {
    pub(crate) fn run(self) -> Result<ExitCode> {
        request_log::install(self.log);
        if !self.projects.is_empty() {
            return several::run(&self);
        }
        if !self.store.contains("://") {
            let items: Vec<&Path> = self.items.iter().map(PathBuf::as_path).collect();
            check_output(Path::new(&self.store), &items)?;
        }
        let store: Arc<dyn Store> = Arc::from(hearken_store::open(&self.store)?);
        if let Some(name) = &self.add_admin {
            return add_admin(&*store, name);
        }
        if let Some(name) = &self.add_token {
            return add_token(&*store, name, &self.scopes);
        }
        if self.project.change(&*store, self.title.as_deref())? {
            return Ok(ExitCode::SUCCESS);
        }
        if !self.items.is_empty() {
            // Who gives pairs to people wants their judgements, not the file's.
            let options = ImportOptions {
                on_bad_record: if self.skip_bad { OnBadRecord::Skip } else { OnBadRecord::Stop },
                unnamed: Unnamed::LeaveOut,
                ..ImportOptions::default()
            };
            let items: Result<Vec<PathBuf>> =
                self.items.iter().map(|file| hub::records(file)).collect();
            let imported = exchange::import(&*store, &items?, self.format, &options)?;
            say_imported(&imported);
        }
        let options = Options {
            title: self.title.clone(),
            media: match (&self.media, self.items.first()) {
                (Some(folder), _) => Some(Media::Folder(folder.clone())),
                // The folder was not made for images: of its files those are shown that items name.
                (None, first) => first.map(|file| Media::Named(folder_of(file))),
            },
            ..self.options()?
        };
        let feature_trainer = Box::new(crate::features::LocalTrainer);
        let parts = Parts {
            answerers: self.live.answerers()?,
            feature_trainer: Some(feature_trainer),
            rounds: self
                .rounds
                .clone()
                .map(|root| Box::new(LoopFolder { root }) as Box<dyn LoopRounds>),
            ..Parts::default()
        };
        let service = Service::new(store, options, parts)?;
        self.project.guide(&service)?;
        let line = format!("store: {}; {}", service.state().store().home(), who(&service));
        let said = vec![(String::new(), line)];
        let (options, listening) = (service.state().options().clone(), service.clone());
        let listen = async move || listening.listen().await;
        serve(&options, said, listen, |listener| service.serve(listener, interrupted()))
    }

    /// What every project is started with.
    fn options(&self) -> Result<Options> {
        let public_url = self.public_url.as_deref().map(checked_url).transpose()?;
        let openid = self.openid.provider()?;
        Ok(Options { bind: self.bind, public_url, openid, ..Options::default() })
    }
}

fn checked_url(url: &str) -> Result<String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(char::is_whitespace) => Ok(url.into()),
        _ => bail!("--public-url starts with https:// or http://, found {url:?}"),
    }
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn say_imported(imported: &exchange::Imported) {
    let exchange::Imported { file, items_added, judgements_added, items_already_there, .. } =
        imported;
    let formats: Vec<&str> = file.formats.iter().map(|format| format.as_str()).collect();
    output::say(&format!(
        "{items_added} new items and {judgements_added} new judgements ({}); \
         {items_already_there} items were there already",
        formats.join(", ")
    ));
    for reason in &file.reasons {
        output::say(&format!("left out: {reason}"));
    }
    for (what, count) in &file.left_out {
        output::say(&format!("left out: {count} × {what}"));
    }
}

fn add_admin(store: &dyn Store, name: &str) -> Result<ExitCode> {
    let password = password::ask()?;
    let new = NewAccount { name, password: &password, role: Role::Administrator };
    let account = accounts::create(store, new, system_clock()())?;
    output::say(&format!(
        "{name} is an administrator of {}, under the pseudonym {}",
        store.home(),
        account.pseudonym
    ));
    Ok(ExitCode::SUCCESS)
}

fn add_token(store: &dyn Store, name: &str, scopes: &[String]) -> Result<ExitCode> {
    let known = || Scope::ALL.map(Scope::as_str).join(", ");
    let scopes: Vec<Scope> = scopes
        .iter()
        .map(|name| {
            Scope::named(name)
                .with_context(|| format!("--scopes: found {name:?}, expected some of {}", known()))
        })
        .collect::<Result<_>>()?;
    let (_, secret) = tokens::create(store, name, &scopes, system_clock()())?;
    output::print(&format!("{secret}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Who may do something in a service.
fn who(service: &Service) -> &'static str {
    if service.has_accounts() {
        "people sign in"
    } else {
        "nobody signs in: everybody on this machine is the annotator \"local\""
    }
}

/// Listens, says where, and serves until an interrupt or the polite form of termination; requests under way are finished.
/// `said` names what is served by the path of its address, with a line about it.
fn serve<Served: Future<Output = Result<(), StartError>>>(
    options: &Options,
    said: Vec<(String, String)>,
    listen: impl AsyncFnOnce() -> Result<TcpListener, StartError>,
    serve: impl FnOnce(TcpListener) -> Served,
) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("the service cannot start its threads")?;
    let served = runtime.block_on(async {
        let listener = listen().await?;
        let address = listener.local_addr().context("the address of the socket")?;
        let url = match &options.public_url {
            Some(url) => url.clone(),
            None => format!("http://{address}"),
        };
        for (path, line) in said {
            output::say(&line);
            output::print(&format!("{url}{path}\n"))?;
        }
        serve(listener).await?;
        output::say("stopped");
        anyhow::Ok(())
    });
    // A model in the middle of an answer is not waited for.
    runtime.shutdown_background();
    served?;
    Ok(ExitCode::SUCCESS)
}
