//! A service on tiny models, and ways to ask it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use hearken_model::{Adapter, LoadOptions, Model, Tokenizer};
use hearken_serve::parts::{LoadedAdapter, LoadedModel, Loader, Parts, WeightsPlace};
use hearken_serve::{Options, Service};
use hearken_tensor::{AnyDevice, Cpu};
use serde_json::Value;
use tower::ServiceExt as _;

struct Directories;

impl Loader for Directories {
    fn load(&self, place: &WeightsPlace) -> Result<LoadedModel, String> {
        let options = LoadOptions::language_model();
        let device = AnyDevice::Cpu(Cpu::new());
        let adapter = place.adapter.as_deref().map(Adapter::read).transpose();
        let adapter = adapter.map_err(|error| error.to_string())?;
        let (model, _) = Model::load_merged(device, &place.model, &options, adapter.as_ref())
            .map_err(|error| error.to_string())?;
        let tokenizer = Tokenizer::load(&place.model).map_err(|error| error.to_string())?;
        let directories = std::iter::once(&place.model).chain(&place.adapter).cloned().collect();
        Ok(LoadedModel { model, tokenizer, directories })
    }

    fn load_adapter(&self, place: &WeightsPlace) -> Result<Option<LoadedAdapter>, String> {
        let Some(dir) = &place.adapter else { return Ok(None) };
        let adapter = Adapter::read(dir).map_err(|error| error.to_string())?;
        let tokenizer = Tokenizer::load(&place.model).map_err(|error| error.to_string())?;
        Ok(Some(LoadedAdapter { adapter, tokenizer, base: place.model.clone() }))
    }
}

/// A tiny model of this family.
pub(crate) fn model(family: &str) -> PathBuf {
    hearken_testing::fixture("hearken-model/tests/fixtures/hf").join(family)
}

pub(crate) fn options() -> Options {
    let mut options = Options::default();
    options.engine.cache_bytes = 8 << 20;
    options
}

/// A model with some adapters of it, under these names.
pub(crate) fn service_with(
    directory: &Path,
    adapters: &[(&str, PathBuf)],
    options: Options,
) -> Service {
    let place = |adapter| WeightsPlace { model: directory.to_owned(), adapter };
    let adapters =
        adapters.iter().map(|(name, dir)| ((*name).to_owned(), place(Some(dir.clone()))));
    let models: Vec<_> =
        std::iter::once(("tiny".to_owned(), place(None))).chain(adapters).collect();
    let parts = Parts { loader: Box::new(Directories), scores: None };
    Service::new(&models, options, parts).unwrap()
}

pub(crate) fn service_of(directory: &Path, options: Options) -> Service {
    let place = WeightsPlace { model: directory.to_owned(), adapter: None };
    let parts = Parts { loader: Box::new(Directories), scores: None };
    Service::new(&[("tiny".to_owned(), place)], options, parts).unwrap()
}

pub(crate) fn router() -> Router {
    service_of(&model("llama"), options()).router()
}

/// An answer.
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answered {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|_| panic!("{}: {}", self.status, self.text))
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        self.json()
    }

    /// The chunks of a stream that ends as it should.
    #[track_caller]
    pub(crate) fn chunks(self) -> Vec<Value> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        let mut events: Vec<&str> = self.text.split("\n\n").collect();
        assert_eq!(events.pop(), Some(""));
        assert_eq!(events.pop(), Some("data: [DONE]"));
        let json =
            |event: &&str| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
        events.iter().map(json).collect()
    }
}

pub(crate) fn request(path: &str, body: &Value, key: Option<&str>) -> Request<Body> {
    let mut request = Request::post(path).header("content-type", "application/json");
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    request.body(Body::from(body.to_string())).unwrap()
}

pub(crate) async fn send(router: &Router, request: Request<Body>) -> Answered {
    let response = router.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let text = String::from_utf8(to_bytes(body, 1 << 24).await.unwrap().to_vec()).unwrap();
    Answered { status: head.status, headers: head.headers, text }
}

pub(crate) async fn post(router: &Router, path: &str, body: Value) -> Answered {
    send(router, request(path, &body, None)).await
}

pub(crate) async fn get(router: &Router, path: &str) -> Answered {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

/// A number of the metrics.
pub(crate) async fn metric(router: &Router, series: &str) -> f64 {
    let text = get(router, "/metrics").await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.unwrap_or_else(|| panic!("{series}\n{text}")).trim().parse().unwrap()
}

/// The llama, read for itself.
pub(crate) fn llama() -> (Model<AnyDevice>, Arc<Tokenizer>) {
    let directory = model("llama");
    let (model, _) =
        Model::load(AnyDevice::Cpu(Cpu::new()), &directory, &LoadOptions::language_model())
            .unwrap();
    (model, Arc::new(Tokenizer::load(&directory).unwrap()))
}
