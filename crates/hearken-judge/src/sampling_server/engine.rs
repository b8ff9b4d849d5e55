//! Which program a server is: others than `hearken serve` complete prompts too, under other addresses and names.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    LoadedWeights, SampleRequest, SampledCompletion, SamplingServer, SamplingServerError, sglang,
    vllm,
};

/// A program that serves a language model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerEngine {
    /// `hearken serve`.
    Hearken,
    /// SGLang.
    Sglang,
    /// vLLM.
    Vllm,
}

/// Completions of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The version of the weights that wrote them, as [`LoadedWeights::version`]; `None` where the server does not say.
    pub version: Option<String>,
    /// In the order of their numbers.
    pub completions: Vec<SampledCompletion>,
}

impl ServerEngine {
    /// Whether weights are read as an adapter beside those of before; others are given the whole model.
    pub fn reads_adapters(self) -> bool {
        self == Self::Hearken
    }

    fn of(owner: &str) -> Option<Self> {
        match owner {
            "hearken" => Some(Self::Hearken),
            "sglang" => Some(Self::Sglang),
            "vllm" => Some(Self::Vllm),
            _ => None,
        }
    }
}

impl SamplingServer {
    /// The engine that the server says it is, and the name of its first model.
    ///
    /// # Errors
    /// If it is not reached, or is none that is known.
    pub fn engine(&self) -> Result<(ServerEngine, String), SamplingServerError> {
        let path = "/v1/models";
        let models: Value = self.get(path)?;
        let (owner, id) = (&models["data"][0]["owned_by"], &models["data"][0]["id"]);
        let engine = owner.as_str().and_then(ServerEngine::of);
        engine.zip(id.as_str().map(str::to_owned)).ok_or_else(|| {
            let expected = "a model of \"hearken\", \"sglang\" or \"vllm\"";
            let reason = format!("found `owned_by` {owner} of the model {id}, expected {expected}");
            self.failure(path, reason, true)
        })
    }

    /// Has the server read the weights in `directory`: a model's or, where `is_adapter` and the engine reads
    /// those, an adapter's beside the model of now.
    ///
    /// # Errors
    /// If it is not reached, or cannot read them.
    pub fn load(
        &self,
        directory: &Path,
        is_adapter: bool,
    ) -> Result<LoadedWeights, SamplingServerError> {
        let (engine, model) = self.engine()?;
        let version = match engine {
            ServerEngine::Hearken => self.load_own(directory, is_adapter)?,
            ServerEngine::Sglang => sglang::load(self, directory)?,
            ServerEngine::Vllm => vllm::load(self, directory)?,
        };
        Ok(LoadedWeights { engine, model, version })
    }

    /// Completes a prompt by a server that has the weights `of`.
    ///
    /// # Errors
    /// If the server is not reached, refuses, or answers with something else.
    pub fn complete(
        &self,
        of: &LoadedWeights,
        request: &SampleRequest<'_>,
    ) -> Result<Sampled, SamplingServerError> {
        match of.engine {
            ServerEngine::Hearken => self.complete_own(request),
            ServerEngine::Sglang => sglang::complete(self, request),
            ServerEngine::Vllm => vllm::complete(self, &of.model, request),
        }
    }

    /// A completion of tokens with their log-probabilities.
    pub(super) fn completion(
        &self,
        path: &str,
        ids: Vec<u32>,
        logprobs: Vec<f64>,
        is_ended: bool,
    ) -> Result<SampledCompletion, SamplingServerError> {
        if ids.is_empty() || ids.len() != logprobs.len() {
            let reason = format!("{} log-probabilities of {} tokens", logprobs.len(), ids.len());
            return Err(self.failure(path, reason, false));
        }
        Ok(SampledCompletion { ids, logprobs, is_ended })
    }

    /// Refuses other than the asked number of completions.
    pub(super) fn expect_count(
        &self,
        path: &str,
        found: usize,
        expected: usize,
    ) -> Result<(), SamplingServerError> {
        if found == expected {
            return Ok(());
        }
        Err(self.failure(path, format!("{found} completions, expected {expected}"), false))
    }
}
