//! Grammars, as the crate llguidance has them: which tokens may come next.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use hearken_generate::{Allowed, Guidance, Guide};
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};

/// A token of a vocabulary.
#[derive(Clone, Debug)]
pub(crate) enum Token {
    /// Text, as bytes.
    Text(Vec<u8>),
    /// No text, under its name.
    Special(String),
}

/// What the tokens of a model can be kept to.
pub(crate) struct Grammars {
    factory: ParserFactory,
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

impl Grammars {
    /// Of a vocabulary whose tokens are these bytes, or special, under their names.
    ///
    /// # Errors
    /// No token ends a completion.
    pub(crate) fn new(tokens: Vec<Token>, ends: &[u32]) -> Result<Self, String> {
        let &[end, ..] = ends else {
            return Err("the model has no end token, so that nothing could end an answer".into());
        };
        let word = |token| match token {
            Token::Text(bytes) => bytes,
            Token::Special(name) if name.is_empty() => Vec::new(),
            Token::Special(name) => [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat(),
        };
        let words: Vec<Vec<u8>> = tokens.into_iter().map(word).collect();
        let info = TokRxInfo::new(words.len() as u32, end);
        let trie = TokTrie::from(&info, &words).with_eos_tokens(ends);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory =
            ParserFactory::new_simple(&environment).map_err(|error| error.to_string())?;
        factory.quiet();
        Ok(Self { factory })
    }

    /// What keeps completions to a grammar.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn guide(&self, grammar: TopLevelGrammar) -> Result<Arc<dyn Guide>, String> {
        let parser = self.factory.create_parser(grammar).map_err(|error| error.to_string())?;
        let ends = self.factory.tok_env().tok_trie().eos_tokens().to_vec();
        Ok(Arc::new(GrammarGuide { matcher: Mutex::new(Matcher::new(Ok(parser))), ends }))
    }
}

/// The beginning of all answers to one request.
struct GrammarGuide {
    matcher: Mutex<Matcher>,
    ends: Vec<u32>,
}

impl fmt::Debug for GrammarGuide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarGuide").finish_non_exhaustive()
    }
}

impl Guide for GrammarGuide {
    fn begin(&self) -> Box<dyn Guidance> {
        let matcher = self.matcher.lock().unwrap_or_else(PoisonError::into_inner).deep_clone();
        Box::new(Self { matcher: Mutex::new(matcher), ends: self.ends.clone() })
    }
}

impl Guidance for GrammarGuide {
    fn allowed(&mut self) -> Allowed {
        let matcher = self.matcher.get_mut().unwrap_or_else(PoisonError::into_inner);
        // A grammar that cannot go on lets the answer end, and so do biases that leave nothing of what is
        // allowed.
        let bits =
            matcher.compute_mask_or_eos().map_or(Vec::new(), |mask| mask.as_slice().to_vec());
        Allowed { bits, otherwise: self.ends.clone() }
    }

    fn take(&mut self, id: u32) {
        let matcher = self.matcher.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = matcher.consume_token(id)
            && !self.ends.contains(&id)
        {
            tracing::warn!("an answer left its grammar: {error}");
        }
    }
}
