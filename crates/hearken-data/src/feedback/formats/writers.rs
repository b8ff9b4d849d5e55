//! The writing of each format.

use super::error::FormatError;
use super::export::{ExportRecords, Output};
use super::{
    Format, alpaca_eval, arena, argilla, helpsteer, hh_rlhf, label_studio, llmfao, nectar, prm800k,
    shp, summaries, trl, ultrafeedback,
};

/// Writes the records in `format`, which is neither Hearken's own nor one that is only read.
pub(super) fn write(
    format: Format,
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    let write = match format {
        Format::TrlPreference => trl::write_preferences,
        Format::TrlUnpaired => trl::write_unpaired,
        Format::TrlStepwise => trl::write_stepwise,
        Format::TrlDemonstrations => trl::write_demonstrations,
        Format::TrlPrompt => trl::write_prompts,
        Format::HhRlhf => hh_rlhf::write,
        Format::UltraFeedback => ultrafeedback::write,
        Format::UltraFeedbackBinarized => ultrafeedback::write_binarized,
        Format::HelpSteer2 => helpsteer::write_ratings,
        Format::HelpSteer2Preference => helpsteer::write_preference,
        Format::HelpSteer3 => helpsteer::write_three,
        Format::Nectar => nectar::write,
        Format::Shp => shp::write,
        Format::ArenaBattle => arena::write_battles,
        Format::ArenaCsv => arena::write_csv,
        Format::Prm800k => prm800k::write,
        Format::LabelStudio => label_studio::write,
        Format::Argilla => argilla::write,
        Format::Llmfao => llmfao::write_comparisons,
        Format::LlmfaoPairs => llmfao::write_pairs,
        Format::AlpacaEval => alpaca_eval::write,
        Format::Summaries => summaries::write,
        Format::Hearken
        | Format::ArenaLog
        | Format::Potato
        | Format::PotatoItems
        | Format::Served => {
            return Err(FormatError::NotWritten { format });
        }
    };
    write(records, output)
}
