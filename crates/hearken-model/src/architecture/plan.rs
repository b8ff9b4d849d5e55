//! The parameters of a model in the order of use, and which of them each layer reads.

use hearken_tensor::device::{Heads, QkvLayout, WeightLayout};

use super::{Family, Head, Names, NormNames, QkvNames, names};
use crate::config::{Mlp, ModelConfig, Norm, Positions, QueryKeyNorm};
use crate::params::{Init, ParamId, ParamSpec};

/// Weight and bias of a norm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormParams {
    pub(crate) weight: ParamId,
    /// RMSNorm has none.
    pub(crate) bias: Option<ParamId>,
}

/// The norms of what a part of a block reads and of what it gives, as far as the family has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartNorms {
    pub(crate) before: Option<NormParams>,
    pub(crate) after: Option<NormParams>,
}

/// Weight and bias of a linear map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearParams {
    pub(crate) weight: ParamId,
    pub(crate) bias: Option<ParamId>,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) layout: WeightLayout,
}

/// The projections to queries, keys and values.
#[derive(Clone, Copy, Debug)]
pub(crate) enum QkvParams {
    Fused(LinearParams),
    /// Query, key, value.
    Separate([LinearParams; 3]),
}

/// The feed-forward part.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MlpParams {
    Plain {
        up: LinearParams,
        down: LinearParams,
    },
    Gated {
        gate: LinearParams,
        up: LinearParams,
        down: LinearParams,
    },
    /// One matrix with the outputs [gate, up].
    GatedFused {
        gate_up: LinearParams,
        down: LinearParams,
    },
}

/// What one block reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerPlan {
    /// The first of the block's parameters, which lie one behind the other.
    pub(crate) first: ParamId,
    pub(crate) attention_norms: PartNorms,
    pub(crate) qkv: QkvParams,
    pub(crate) query_key_norm: Option<(ParamId, ParamId)>,
    pub(crate) attention_output: LinearParams,
    pub(crate) mlp_norms: PartNorms,
    pub(crate) mlp: MlpParams,
}

/// A head whose outputs are read one by one: a score, a value, the logits of a few classes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScalarParams {
    pub(crate) weight: ParamId,
    pub(crate) bias: Option<ParamId>,
    pub(crate) outputs: usize,
}

/// All parameters of a model and where they are used.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) params: Vec<ParamSpec>,
    pub(crate) embedding: ParamId,
    pub(crate) position_embedding: Option<ParamId>,
    pub(crate) layers: Vec<LayerPlan>,
    pub(crate) final_norm: NormParams,
    /// The language-model head; the embedding if tied. A scorer has none.
    pub(crate) head: Option<ParamId>,
    pub(crate) scalar_head: Option<ScalarParams>,
    pub(crate) qkv_layout: QkvLayout,
}

/// The module of a sequence classifier's head.
const SCORE: &str = "score";
/// The names of a value head beside a language-model head.
pub(crate) const VALUE_WEIGHT: &str = "value_head.weight";
pub(crate) const VALUE_BIAS: &str = "value_head.bias";

impl Plan {
    pub(crate) fn new(config: &ModelConfig, head: Head) -> Self {
        let mut builder = Builder { config, names: names(config.family), params: Vec::new() };
        let embedding = builder.matrix("embedding", config.vocab);
        let position_embedding = (config.positions == Positions::Learned)
            .then(|| builder.matrix("positions", config.max_positions));
        let layers = (0..config.layers).map(|layer| builder.layer(layer)).collect();
        let final_norm = builder.norm(&builder.body(builder.names.final_norm));
        let (head, scalar_head) = match head {
            Head::LanguageModel if config.tied_head => (Some(embedding), None),
            Head::LanguageModel => (Some(builder.matrix("head", config.vocab)), None),
            Head::Score => (None, Some(builder.scalar(SCORE, 1, false))),
            Head::ScoreAndLength => (None, Some(builder.scalar(SCORE, 2, false))),
            Head::StepClasses(classes) => {
                let module = step_classes_module(config.family);
                (None, Some(builder.scalar(module, classes, true)))
            }
        };
        let qkv_layout = qkv_layout(config, &builder.names.qkv);
        Self {
            params: builder.params,
            embedding,
            position_embedding,
            layers,
            final_norm,
            head,
            scalar_head,
            qkv_layout,
        }
    }

    /// The names of the parameters of a score or class head.
    pub(crate) fn scalar_names(&self) -> Vec<&str> {
        let head = self.scalar_head.iter().flat_map(|head| [Some(head.weight), head.bias]);
        head.flatten().map(|id| self.params[id.0].name.as_str()).collect()
    }

    /// Adds a value head and returns its parameters.
    pub(crate) fn add_value_head(&mut self, width: usize) -> ScalarParams {
        let weight = ParamId(self.params.len());
        let init = scalar_init(width);
        self.params.push(ParamSpec { name: VALUE_WEIGHT.into(), shape: vec![1, width], init });
        let init = Init::Zeros;
        self.params.push(ParamSpec { name: VALUE_BIAS.into(), shape: vec![1], init });
        let scalar = ScalarParams { weight, bias: Some(ParamId(weight.0 + 1)), outputs: 1 };
        self.scalar_head = Some(scalar);
        scalar
    }
}

/// The module of a token classifier's head, as Transformers' class of the family names it.
pub(crate) fn step_classes_module(family: Family) -> &'static str {
    match family {
        Family::Gpt2 | Family::GptNeox => "classifier",
        _ => SCORE,
    }
}

/// The module of a head that is no language model's.
pub(crate) fn scalar_module(family: Family, head: Head) -> Option<&'static str> {
    match head {
        Head::LanguageModel => None,
        Head::Score | Head::ScoreAndLength => Some(SCORE),
        Head::StepClasses(_) => Some(step_classes_module(family)),
    }
}

/// New scalar heads: normal with deviation 1/√(d+1), as in Stiennon et al. 2020, arXiv:2009.01325.
fn scalar_init(width: usize) -> Init {
    Init::Normal { std: 1.0 / ((width + 1) as f64).sqrt() }
}

fn qkv_layout(config: &ModelConfig, names: &QkvNames) -> QkvLayout {
    let (h, g, d) = (config.heads, config.kv_heads, config.head_dim);
    let blocks = |offset, heads| Heads { offset, head_stride: d, heads };
    let [query, key, value] = match names {
        QkvNames::FusedPerHead(_) => {
            [0, d, 2 * d].map(|offset| Heads { offset, head_stride: 3 * d, heads: h })
        }
        QkvNames::Separate(..) | QkvNames::FusedConv1d(_) | QkvNames::Fused(_) => {
            [blocks(0, h), blocks(h * d, g), blocks((h + g) * d, g)]
        }
    };
    QkvLayout { row_stride: (h + 2 * g) * d, head_dim: d, query, key, value }
}

struct Builder<'a> {
    config: &'a ModelConfig,
    names: Names,
    params: Vec<ParamSpec>,
}

impl Builder<'_> {
    fn push(&mut self, name: String, shape: Vec<usize>, init: Init) -> ParamId {
        self.params.push(ParamSpec { name, shape, init });
        ParamId(self.params.len() - 1)
    }

    fn body(&self, name: &str) -> String {
        format!("{}{name}", self.names.prefix)
    }

    fn normal(&self) -> Init {
        Init::Normal { std: self.config.initializer_range }
    }

    /// A table of `rows` vectors of the model's width.
    fn matrix(&mut self, which: &str, rows: usize) -> ParamId {
        let name = match which {
            "embedding" => self.body(self.names.embedding),
            "positions" => self.body(self.names.position_embedding.expect("learned positions")),
            _ => self.names.head.to_owned(),
        };
        self.push(format!("{name}.weight"), vec![rows, self.config.width], self.normal())
    }

    fn scalar(&mut self, module: &str, outputs: usize, has_bias: bool) -> ScalarParams {
        let width = self.config.width;
        let shape = vec![outputs, width];
        let weight = self.push(format!("{module}.weight"), shape, scalar_init(width));
        let bias =
            has_bias.then(|| self.push(format!("{module}.bias"), vec![outputs], Init::Zeros));
        ScalarParams { weight, bias, outputs }
    }

    /// What a new norm's weights are, so that it multiplies by 1.
    fn norm_init(&self) -> Init {
        match self.config.norm {
            Norm::LayerNorm | Norm::RmsNorm => Init::Ones,
            Norm::ShiftedRmsNorm => Init::Zeros,
        }
    }

    fn part_norms(&mut self, path: &str, names: NormNames) -> PartNorms {
        let mut norm = |name: &str| self.norm(&format!("{path}{name}"));
        PartNorms { before: names.before.map(&mut norm), after: names.after.map(&mut norm) }
    }

    fn norm(&mut self, name: &str) -> NormParams {
        let shape = vec![self.config.width];
        let weight = self.push(format!("{name}.weight"), shape.clone(), self.norm_init());
        let bias = (self.config.norm == Norm::LayerNorm)
            .then(|| self.push(format!("{name}.bias"), shape, Init::Zeros));
        NormParams { weight, bias }
    }

    fn linear(
        &mut self,
        name: &str,
        inputs: usize,
        outputs: usize,
        has_bias: bool,
    ) -> LinearParams {
        let layout = match self.names.qkv {
            QkvNames::FusedConv1d(_) => WeightLayout::InputsByOutputs,
            QkvNames::Separate(..) | QkvNames::FusedPerHead(_) | QkvNames::Fused(_) => {
                WeightLayout::OutputsByInputs
            }
        };
        let shape = match layout {
            WeightLayout::OutputsByInputs => vec![outputs, inputs],
            WeightLayout::InputsByOutputs => vec![inputs, outputs],
        };
        let init = self.normal();
        let weight = self.push(format!("{name}.weight"), shape, init);
        let bias = has_bias.then(|| self.push(format!("{name}.bias"), vec![outputs], Init::Zeros));
        LinearParams { weight, bias, inputs, outputs, layout }
    }

    fn layer(&mut self, index: usize) -> LayerPlan {
        let config = self.config;
        let path = format!("{}{index}.", self.body(self.names.layer));
        let first = ParamId(self.params.len());
        let attention_norms = self.part_norms(&path, self.names.attention_norms);
        let qkv = self.qkv(&path);
        let query_key_norm = self.query_key_norm(&path);
        let attention_output = self.linear(
            &format!("{path}{}", self.names.attention_output),
            config.query_width(),
            config.width,
            config.attention_output_bias,
        );
        let mlp_norms = self.part_norms(&path, self.names.mlp_norms);
        let mlp = self.mlp(&path);
        LayerPlan { first, attention_norms, qkv, query_key_norm, attention_output, mlp_norms, mlp }
    }

    fn query_key_norm(&mut self, path: &str) -> Option<(ParamId, ParamId)> {
        let config = self.config;
        let (query_size, key_size) = match config.query_key_norm {
            QueryKeyNorm::None => return None,
            QueryKeyNorm::EachHead => (config.head_dim, config.head_dim),
            QueryKeyNorm::AllHeads => (config.query_width(), config.key_width()),
        };
        let (query, key) = self.names.query_key_norm?;
        let init = self.norm_init();
        let query = self.push(format!("{path}{query}.weight"), vec![query_size], init);
        Some((query, self.push(format!("{path}{key}.weight"), vec![key_size], init)))
    }

    fn qkv(&mut self, path: &str) -> QkvParams {
        let config = self.config;
        let (width, bias) = (config.width, config.qkv_bias);
        let (query, key) = (config.query_width(), config.key_width());
        match self.names.qkv {
            QkvNames::FusedConv1d(name) | QkvNames::FusedPerHead(name) | QkvNames::Fused(name) => {
                QkvParams::Fused(self.linear(
                    &format!("{path}{name}"),
                    width,
                    query + 2 * key,
                    bias,
                ))
            }
            QkvNames::Separate(q, k, v) => QkvParams::Separate(
                [(q, query), (k, key), (v, key)]
                    .map(|(name, out)| self.linear(&format!("{path}{name}"), width, out, bias)),
            ),
        }
    }

    fn mlp(&mut self, path: &str) -> MlpParams {
        let (width, inner) = (self.config.width, self.config.inner);
        let (gate, up, down) = self.names.mlp;
        let has_bias = match self.config.mlp {
            Mlp::Gelu(_) => true,
            Mlp::Gated(_) => self.config.mlp_bias,
        };
        let gate = gate.map(|name| self.linear(&format!("{path}{name}"), width, inner, has_bias));
        let is_fused = gate.is_none() && matches!(self.config.mlp, Mlp::Gated(_));
        let outputs = if is_fused { 2 * inner } else { inner };
        let up = self.linear(&format!("{path}{up}"), width, outputs, has_bias);
        let down = self.linear(&format!("{path}{down}"), inner, width, has_bias);
        match gate {
            Some(gate) => MlpParams::Gated { gate, up, down },
            None if is_fused => MlpParams::GatedFused { gate_up: up, down },
            None => MlpParams::Plain { up, down },
        }
    }
}
