//! Which chat template a command uses.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use hearken_model::Tokenizer;
use hearken_model::tokenizer::TemplateChoice;
use serde_json::{Map, Value};

#[derive(Args, Debug)]
pub(crate) struct TemplateArguments {
    /// A chat template in place of the model's own: a file in Jinja
    #[arg(long, value_name = "FILE", conflicts_with = "template_name")]
    template: Option<PathBuf>,

    /// Another of the model's chat templates, by its name
    #[arg(long, value_name = "NAME")]
    template_name: Option<String>,

    /// A variable for the chat template, such as enable_thinking=false; the value is JSON, or a text.
    /// Where a line of the input has it too, the line counts
    #[arg(long, value_name = "NAME=VALUE")]
    variable: Vec<String>,
}

impl TemplateArguments {
    /// Chooses the template.
    pub(crate) fn choose(&self, tokenizer: &mut Tokenizer) -> Result<()> {
        let mut variables = Map::new();
        for given in &self.variable {
            let Some((name, value)) = given.split_once('=').filter(|(name, _)| !name.is_empty())
            else {
                bail!("--variable {given}: expected NAME=VALUE");
            };
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            variables.insert(name.to_owned(), value);
        }
        let (file, name) = (self.template.clone(), self.template_name.clone());
        tokenizer.choose_template(&TemplateChoice { file, name, variables })?;
        Ok(())
    }
}
