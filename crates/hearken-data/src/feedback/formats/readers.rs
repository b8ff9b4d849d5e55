//! The reading of each format.

use super::import::{EachRow, FormatReader};
use super::{
    Format, alpaca_eval, arena, argilla, helpsteer, hh_rlhf, label_studio, llmfao, nectar, own,
    potato, prm800k, served, shp, summaries, trl, ultrafeedback,
};

/// Reads the rows of `format`.
pub(super) fn reading(format: Format) -> Box<dyn FormatReader> {
    let each = match format {
        Format::Hearken => return Box::new(own::Own),
        Format::HelpSteer2 => return Box::new(helpsteer::Ratings::default()),
        Format::Potato | Format::PotatoItems => return Box::new(potato::Potato::default()),
        Format::Served => return Box::new(served::Served::default()),
        Format::Llmfao | Format::LlmfaoPairs => return Box::new(llmfao::Llmfao::default()),
        Format::TrlPreference => trl::read_preference,
        Format::HhRlhf => hh_rlhf::read,
        Format::TrlUnpaired => trl::read_unpaired,
        Format::TrlStepwise => trl::read_stepwise,
        Format::TrlDemonstrations => trl::read_demonstration,
        Format::TrlPrompt => trl::read_prompt,
        Format::UltraFeedback => ultrafeedback::read,
        Format::UltraFeedbackBinarized => ultrafeedback::read_binarized,
        Format::HelpSteer2Preference => helpsteer::read_preference,
        Format::HelpSteer3 => helpsteer::read_three,
        Format::Nectar => nectar::read,
        Format::Shp => shp::read,
        Format::ArenaBattle => arena::read_battle,
        Format::ArenaLog => arena::read_log,
        Format::ArenaCsv => arena::read_csv,
        Format::Prm800k => prm800k::read,
        Format::LabelStudio => label_studio::read,
        Format::Argilla => argilla::read,
        Format::AlpacaEval => alpaca_eval::read,
        Format::Summaries => summaries::read,
    };
    Box::new(EachRow(each))
}

/// Whether the files of two formats are read together.
pub(super) fn share(one: Format, other: Format) -> bool {
    let is_llmfao = |format| matches!(format, Format::Llmfao | Format::LlmfaoPairs);
    let is_potato = |format| matches!(format, Format::Potato | Format::PotatoItems);
    one == other || (is_llmfao(one) && is_llmfao(other)) || (is_potato(one) && is_potato(other))
}
