//! Language models that judge: their configuration, the ones in this process, and their ratings as scores.
//!
//! Not here: comparisons of items, by panels of them (`hearken-recipes`).

mod config;
mod local_model;
mod opening;
mod source;

pub use config::{
    AskConfig, AskedTask, AxisConfig, BudgetConfig, JudgingConfig, MemberConfig, MemberKind,
    MethodName, TemplateConfig, program_compares,
};
pub use local_model::LocalModel;
pub use opening::{
    Asking, JudgingError, Opened, WHOLE, axes, choice, named, open_model, prompt_text, rating,
    toml_complaint, with_template,
};
pub use source::{JudgeSource, LocalJudge, local_judges};
