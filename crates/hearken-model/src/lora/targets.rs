//! Which linear maps have an adapter, by PEFT's rules.

use fancy_regex::Regex;

use super::{AdapterError, Chosen, LoraConfig};

/// Which modules are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Every linear map of a block, as PEFT's "all-linear": all but the output head.
    AllLinear,
    /// A module whose name is one of these, or ends in a dot and one of these. An entry that is no plain name
    /// is a regular expression for the whole name.
    Names(Vec<String>),
    /// A regular expression for the whole name of a module.
    Pattern(String),
}

/// Adapters for some layers only: PEFT's `layers_to_transform` and `layers_pattern`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerChoice {
    /// The layers.
    pub indices: Vec<usize>,
    /// What stands before the index in a name; the first number if there is none.
    pub patterns: Vec<String>,
}

/// The modules of a model that an adapter may be for, and those that it may not be for.
#[derive(Clone, Debug)]
pub(crate) struct Linears {
    pub(crate) linear: Vec<String>,
    pub(crate) other: Vec<String>,
}

impl Linears {
    /// The last parts of the names, for messages.
    fn examples(&self) -> String {
        let mut last: Vec<&str> = Vec::new();
        for name in &self.linear {
            let part = last_part(name);
            if !last.contains(&part) {
                last.push(part);
            }
        }
        last.join(", ")
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, last)| last)
}

/// Whether a target is a name, and not a regular expression.
fn is_plain(target: &str) -> bool {
    target.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// One target, ready to be compared.
enum Test<'a> {
    Suffix(&'a str),
    Whole(&'a str, Regex),
}

impl<'a> Test<'a> {
    fn whole(pattern: &'a str) -> Result<Self, AdapterError> {
        Ok(Self::Whole(pattern, regex(&format!("^(?:{pattern})$"), pattern)?))
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Suffix(suffix) => name
                .strip_suffix(suffix)
                .is_some_and(|before| before.is_empty() || before.ends_with('.')),
            Self::Whole(_, regex) => is_match(regex, name),
        }
    }

    fn target(&self) -> &str {
        match self {
            Self::Suffix(text) | Self::Whole(text, _) => text,
        }
    }
}

fn regex(expression: &str, given: &str) -> Result<Regex, AdapterError> {
    Regex::new(expression).map_err(|error| AdapterError::Pattern {
        pattern: given.to_owned(),
        reason: error.to_string(),
    })
}

/// A search that takes too many steps finds nothing.
fn is_match(regex: &Regex, text: &str) -> bool {
    regex.is_match(text).unwrap_or(false)
}

impl Targets {
    /// One test for each target; `None` for all linear maps.
    fn tests(&self) -> Result<Option<Vec<Test<'_>>>, AdapterError> {
        match self {
            Self::AllLinear => Ok(None),
            Self::Pattern(pattern) => Ok(Some(vec![Test::whole(pattern)?])),
            Self::Names(names) => {
                let tests = names.iter().map(|name| match is_plain(name) {
                    true => Ok(Test::Suffix(name)),
                    false => Test::whole(name),
                });
                tests.collect::<Result<_, _>>().map(Some)
            }
        }
    }

    /// Targets that PEFT resolves to the linear maps `chosen`, whatever these targets are.
    pub(crate) fn as_peft_reads(&self, linears: &Linears, chosen: &[Chosen]) -> Self {
        match self {
            Self::Pattern(_) => return self.clone(),
            Self::Names(names) if names.iter().all(|name| is_plain(name)) => return self.clone(),
            Self::Names(_) | Self::AllLinear => {}
        }
        let chosen: Vec<&str> =
            chosen.iter().map(|chosen| linears.linear[chosen.index].as_str()).collect();
        let mut last: Vec<&str> = chosen.iter().map(|name| last_part(name)).collect();
        last.sort_unstable();
        last.dedup();
        let also = linears
            .linear
            .iter()
            .chain(&linears.other)
            .any(|name| last.contains(&last_part(name)) && !chosen.contains(&name.as_str()));
        let names = if also { chosen } else { last };
        Self::Names(names.into_iter().map(str::to_owned).collect())
    }
}

impl LayerChoice {
    /// Whether a module lies in one of the layers.
    fn contains(&self, name: &str) -> Result<bool, AdapterError> {
        let expressions: Vec<(String, &str)> = match self.patterns.is_empty() {
            true => vec![(r"^.*?\.[^.]*\.(\d+)\.".to_owned(), "")],
            false => self
                .patterns
                .iter()
                .map(|pattern| (format!(r"^(?:.*?\.)?(?:{pattern})\.(\d+)\."), pattern.as_str()))
                .collect(),
        };
        for (expression, given) in expressions {
            let found = regex(&expression, given)?.captures(name).ok().flatten();
            // The index is the last group: a pattern may have groups of its own.
            if let Some(index) = found.and_then(|found| found.iter().flatten().last()) {
                return Ok(index.as_str().parse().is_ok_and(|index| self.indices.contains(&index)));
            }
        }
        Ok(false)
    }
}

impl LoraConfig {
    /// The linear maps that get an adapter, in order. Every target must match one if `all_match`; one of
    /// them must in any case.
    pub(crate) fn choose(
        &self,
        linears: &Linears,
        all_match: bool,
    ) -> Result<Vec<Chosen>, AdapterError> {
        let tests = self.targets.tests()?;
        let excluded = match &self.exclude {
            None => Vec::new(),
            Some(exclude) => exclude.tests()?.unwrap_or_default(),
        };
        let is_excluded = |name: &str| excluded.iter().any(|test| test.matches(name));
        if let Some(tests) = &tests {
            check_matches(tests, linears, all_match, is_excluded)?;
        }
        let ranks = patterns(&self.rank_pattern)?;
        let alphas = patterns(&self.alpha_pattern)?;
        let mut chosen = Vec::new();
        for (index, name) in linears.linear.iter().enumerate() {
            let is_target =
                tests.as_ref().is_none_or(|tests| tests.iter().any(|test| test.matches(name)));
            if !is_target || is_excluded(name) {
                continue;
            }
            // PEFT asks for the layer only where targets are a list.
            if let (Some(layers), false) =
                (&self.layers, matches!(self.targets, Targets::Pattern(_)))
                && !layers.contains(name)?
            {
                continue;
            }
            let of = |patterns: &[(Regex, usize)]| {
                patterns.iter().find(|(regex, _)| is_match(regex, name)).map(|(_, at)| *at)
            };
            let rank = of(&ranks).map_or(self.rank, |at| self.rank_pattern[at].1);
            let alpha = of(&alphas).map_or(self.alpha, |at| self.alpha_pattern[at].1);
            let divisor = if self.rslora { (rank as f64).sqrt() } else { rank as f64 };
            chosen.push(Chosen { index, rank, scale: alpha / divisor });
        }
        if chosen.is_empty() {
            let target = match &self.targets {
                Targets::AllLinear => "all-linear".to_owned(),
                Targets::Names(names) if 3 < names.len() => {
                    format!("{}, … ({} names)", names[0], names.len())
                }
                Targets::Names(names) => names.join(", "),
                Targets::Pattern(pattern) => pattern.clone(),
            };
            return Err(AdapterError::MatchesNothing { target, examples: linears.examples() });
        }
        Ok(chosen)
    }
}

/// Each pattern as PEFT matches it: the end of a name, from a dot on; and its place.
fn patterns<T>(given: &[(String, T)]) -> Result<Vec<(Regex, usize)>, AdapterError> {
    let compile = |(at, (pattern, _)): (usize, &(String, T))| {
        Ok((regex(&format!(r"^(?:.*\.)?(?:{pattern})$"), pattern)?, at))
    };
    given.iter().enumerate().map(compile).collect()
}

/// Targets match linear maps of blocks, and nothing else.
fn check_matches(
    tests: &[Test<'_>],
    linears: &Linears,
    all_match: bool,
    is_excluded: impl Fn(&str) -> bool,
) -> Result<(), AdapterError> {
    for test in tests {
        let target = || test.target().to_owned();
        let other = linears.other.iter().find(|name| test.matches(name) && !is_excluded(name));
        if let Some(module) = other {
            let (target, module) = (target(), module.clone());
            return Err(AdapterError::NotLinear { target, module, examples: linears.examples() });
        }
        if all_match && !linears.linear.iter().any(|name| test.matches(name)) {
            let examples = linears.examples();
            return Err(AdapterError::MatchesNothing { target: target(), examples });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linears() -> Linears {
        let parts = ["self_attn.q_proj", "self_attn.v_proj", "mlp.q_proj"];
        let linear = (0..12)
            .flat_map(|layer| parts.map(|part| format!("model.layers.{layer}.{part}")))
            .collect();
        let other = ["model.embed_tokens", "model.norm", "lm_head"].map(str::to_owned).to_vec();
        Linears { linear, other }
    }

    fn chosen(config: &LoraConfig) -> Vec<String> {
        let linears = linears();
        let chosen = config.choose(&linears, true).unwrap();
        chosen.iter().map(|chosen| linears.linear[chosen.index].clone()).collect()
    }

    fn with(targets: Targets) -> LoraConfig {
        LoraConfig::new(8, 16.0, targets)
    }

    fn names(names: &[&str]) -> Targets {
        Targets::Names(names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn names_match_ends_and_patterns_match_whole_names() {
        assert_eq!(chosen(&with(Targets::AllLinear)).len(), 36);
        assert_eq!(chosen(&with(names(&["q_proj"]))).len(), 24);
        assert_eq!(chosen(&with(names(&["self_attn.q_proj"]))).len(), 12);
        let one = "model.layers.1.self_attn.q_proj";
        assert_eq!(chosen(&with(names(&[one]))), [one]);
        let pattern = |text: &str| Targets::Pattern(text.to_owned());
        assert_eq!(chosen(&with(pattern(r".*\.1\.self_attn\.q_proj"))), [one]);
        // Lookahead, which PEFT's regular expressions have.
        assert_eq!(chosen(&with(pattern(r"(?!.*mlp).*\.layers\.1\..*q_proj"))), [one]);
        assert_eq!(chosen(&with(names(&[r".*\.1\.self_attn\.q_proj"]))), [one]);
    }

    #[test]
    fn excluded_modules_and_other_layers_have_none() {
        let mut config = with(names(&["q_proj"]));
        config.exclude = Some(names(&["mlp.q_proj"]));
        config.layers = Some(LayerChoice { indices: vec![1, 11], patterns: Vec::new() });
        let expected = [1, 11].map(|layer| format!("model.layers.{layer}.self_attn.q_proj"));
        assert_eq!(chosen(&config), expected);
        config.layers = Some(LayerChoice { indices: vec![1, 11], patterns: vec!["layers".into()] });
        assert_eq!(chosen(&config), expected);
    }

    #[test]
    fn a_pattern_gives_a_module_its_own_rank_and_alpha() {
        let mut config = with(names(&["self_attn.q_proj"]));
        config.rslora = true;
        config.rank_pattern = vec![(r"layers\.1\.self_attn\.q_proj".into(), 4)];
        config.alpha_pattern = vec![("layers.2.self_attn.q_proj".into(), 32.0)];
        let chosen = config.choose(&linears(), true).unwrap();
        let found: Vec<(usize, f64)> =
            chosen.iter().take(4).map(|chosen| (chosen.rank, chosen.scale)).collect();
        let root = 8f64.sqrt();
        assert_eq!(found, [(8, 16.0 / root), (4, 8.0), (8, 32.0 / root), (8, 16.0 / root)]);
        // Not layer 11, whose name ends in another number.
        assert_eq!(chosen[11].rank, 8);
    }

    #[test]
    fn what_matches_nothing_or_no_linear_map_is_named() {
        let error = |targets: Targets| with(targets).choose(&linears(), true).unwrap_err();
        assert_eq!(
            error(names(&["q_proj", "k_proj"])).to_string(),
            "\"k_proj\" names no linear map of the model; it has q_proj, v_proj"
        );
        assert_eq!(
            error(names(&["lm_head"])).to_string(),
            "\"lm_head\" names lm_head; adapters are for the linear maps of blocks: q_proj, v_proj"
        );
        assert!(error(Targets::Pattern("(".into())).to_string().contains("no regular expression"));
        let absent = with(names(&["q_proj", "k_proj"])).choose(&linears(), false).unwrap();
        assert_eq!(absent.len(), 24);
    }

    #[test]
    fn what_peft_reads_is_what_was_chosen() {
        let linears = linears();
        let read = |targets: Targets| {
            let config = with(targets);
            let chosen = config.choose(&linears, true).unwrap();
            config.targets.as_peft_reads(&linears, &chosen)
        };
        assert_eq!(read(Targets::AllLinear), names(&["q_proj", "v_proj"]));
        assert_eq!(read(names(&["q_proj"])), names(&["q_proj"]));
        let Targets::Names(whole) = read(names(&[r".*\.1\.mlp\.q_proj"])) else { panic!() };
        assert_eq!(whole, ["model.layers.1.mlp.q_proj"]);
    }
}
