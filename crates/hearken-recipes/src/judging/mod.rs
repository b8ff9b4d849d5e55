//! Items judged by models: in both orders, by one judge or a panel, as a whole or by axes.
//!
//! [`Panel`] opens what [`JudgingConfig`] names and judges items; a [`JudgedItem`] has the verdict and what each judge said.
//!
//! Not here: where verdicts are kept (`hearken-store`), what judges are worth (`hearken-analysis`).

mod config;
mod local_model;
mod panel;
mod reward_judge;

pub use config::{
    AskConfig, AskedTask, AxisConfig, BudgetConfig, JudgingConfig, MemberConfig, MemberKind,
    MethodName, TemplateConfig,
};
pub use local_model::LocalModel;
pub use panel::{Asking, JudgedItem, Opinion, Panel, PanelError, prompt_text};
pub(crate) use panel::{open_model, toml_complaint};
pub use reward_judge::RewardJudge;
