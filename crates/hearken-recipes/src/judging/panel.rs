//! One judge or several, opened from a configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearken_config::UnreadableAnswer;
use hearken_data::feedback::{Candidate, Item, Verdict};
use hearken_data::hexadecimal;
use hearken_judge::Item as Answer;
use hearken_judge::model::LanguageModel;
use hearken_judge::pairwise::{
    ChatJudge, ChatJudgeOptions, CommandJudge, CompletionPair, Orders, PairwiseJudge, Rules,
    Template, Unreadable, preferences,
};
use hearken_judge::ranking::{RankedCompletions, RankingJudge, RankingOptions};
use hearken_judge::rating::RatingJudge;
use hearken_judge::{ChoiceMethod, CommandOptions, JudgeError};
use hearken_reward_source::api::Conduct;
use hearken_reward_source::judging::{
    AskedTask, Asking, JudgingConfig, JudgingError, MemberConfig, MemberKind, TemplateConfig,
    WHOLE, axes, choice, named, open_model, program_compares, prompt_text, rating, with_template,
};
use hearken_tensor::Device;
use serde_json::Map;
use sha2::{Digest as _, Sha256};

use super::RewardJudge;

/// What one judge said of two candidates.
#[derive(Clone, Debug, PartialEq)]
pub struct Opinion {
    /// Which judge, by its place on the panel.
    pub member: usize,
    /// The candidates.
    pub pair: [usize; 2],
    /// The probability that the first is better where it is shown first, and where it is shown second; none of a judge that
    /// sees no order.
    pub shown: [Option<f64>; 2],
    /// The probability that the first is better; `None` where the judge does not say.
    pub probability: Option<f64>,
}

/// An item with its verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedItem {
    /// What the panel says; `None` where it says nothing.
    pub verdict: Option<Verdict>,
    /// The reasons of the first judge that gave any.
    pub rationale: Option<String>,
    /// What each judge said of each pair.
    pub opinions: Vec<Opinion>,
}

/// A judge with its name and its weight.
struct Member<J> {
    name: String,
    weight: f64,
    judge: J,
}

/// Who compares.
enum Comparer<D: Device> {
    /// Asked for each axis, which has a weight.
    Asked(Vec<(f64, Box<dyn PairwiseJudge>)>),
    /// Asked for all candidates of an item at once, for each axis.
    Ranked(Vec<(f64, RankingJudge)>),
    Reward(Box<RewardJudge<D>>),
}

/// Who rates.
enum Rater<D: Device> {
    /// Asked for each axis.
    Asked(Vec<(String, RatingJudge)>),
    Reward(Box<RewardJudge<D>>),
}

/// All of them do the same.
enum Members<D: Device> {
    Compare(Vec<Member<Comparer<D>>>),
    Rate(Vec<Member<Rater<D>>>),
}

/// One judge or several.
pub struct Panel<D: Device> {
    members: Members<D>,
    name: String,
}

impl<D: Device> Panel<D> {
    /// Opens the judges of a configuration. Nobody is asked.
    ///
    /// # Errors
    /// If a model, a program, a URL, a key or the file of the template cannot be used.
    pub fn open(device: &D, config: &JudgingConfig, asking: &Asking) -> Result<Self, JudgingError> {
        let config = &with_template(config)?;
        let contacts = config.judges.iter().map(|member| contact(device, config, member, asking));
        let members = match config.ask.task {
            AskedTask::Compare | AskedTask::Rank => Members::Compare(
                contacts.map(|one| comparer(config, one?, asking)).collect::<Result<_, _>>()?,
            ),
            AskedTask::Rate => Members::Rate(
                contacts.map(|one| rater(config, one?, asking)).collect::<Result<_, _>>()?,
            ),
        };
        let names = members.names();
        let asked =
            format!("{:?} {:?} {:?} {names:?}", config.ask.task, config.ask, config.template);
        let version = hexadecimal(&Sha256::digest(format!("{asked} {:?}", config.axes))[..4]);
        let name = format!("{}#{version}", names.join("+"));
        Ok(Self { members, name })
    }

    /// What judgements are signed with: the judges, and behind `#` a hash of how they are asked.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of the judges.
    pub fn members(&self) -> Vec<&str> {
        self.members.names()
    }

    /// Judges items, in order.
    ///
    /// # Errors
    /// If a judge cannot be asked, or the budget is spent. What was answered until then is kept.
    pub fn judge(&mut self, items: &[&Item]) -> Result<Vec<JudgedItem>, JudgeError> {
        match &mut self.members {
            Members::Compare(members) => compare(members, items),
            Members::Rate(members) => rate(members, items),
        }
    }
}

impl<D: Device> Members<D> {
    fn names(&self) -> Vec<&str> {
        match self {
            Self::Compare(members) => members.iter().map(|one| one.name.as_str()).collect(),
            Self::Rate(members) => members.iter().map(|one| one.name.as_str()).collect(),
        }
    }
}

fn compare<D: Device>(
    members: &mut [Member<Comparer<D>>],
    items: &[&Item],
) -> Result<Vec<JudgedItem>, JudgeError> {
    let texts: Vec<Texts> = items.iter().map(|item| Texts::of(item)).collect();
    let fields = Map::new();
    let mut comparisons = Vec::new();
    let mut places = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        for (first, second) in pairs(text.candidates.len()) {
            places.push((index, [first, second]));
            comparisons.push(CompletionPair {
                prompt: &text.prompt,
                messages: Some(&items[index].prompt),
                completions: [&text.candidates[first], &text.candidates[second]],
                fields: &fields,
            });
        }
    }
    let mut judged: Vec<JudgedItem> = items
        .iter()
        .map(|_| JudgedItem { verdict: None, rationale: None, opinions: Vec::new() })
        .collect();
    for (number, member) in members.iter_mut().enumerate() {
        let said = member.judge.verdicts(items, &comparisons)?;
        for (at, (index, pair)) in places.iter().enumerate() {
            let item = &mut judged[*index];
            let (shown, probability) = (said.shown[at], said.probabilities[at]);
            item.opinions.push(Opinion { member: number, pair: *pair, shown, probability });
            if item.rationale.is_none() {
                item.rationale = said.rationales.get(at).cloned().flatten();
            }
        }
    }
    let weights: Vec<f64> = members.iter().map(|member| member.weight).collect();
    for (item, judged) in items.iter().zip(&mut judged) {
        judged.verdict = verdict(item.candidates.len(), &judged.opinions, &weights);
    }
    Ok(judged)
}

fn rate<D: Device>(
    members: &[Member<Rater<D>>],
    items: &[&Item],
) -> Result<Vec<JudgedItem>, JudgeError> {
    let mut sums: Vec<BTreeMap<String, Vec<Weighted>>> = vec![BTreeMap::new(); items.len()];
    let mut rationales: Vec<Option<String>> = vec![None; items.len()];
    for member in members {
        for (axis, scores, reasons) in member.judge.ratings(items)? {
            let mut scores = scores.into_iter();
            let mut reasons = reasons.into_iter();
            for (index, item) in items.iter().enumerate() {
                let count = item.candidates.len();
                let sums = sums[index]
                    .entry(axis.clone())
                    .or_insert_with(|| vec![Weighted::default(); count]);
                for (sum, score) in sums.iter_mut().zip(scores.by_ref().take(count)) {
                    sum.add(member.weight, score);
                }
                let reasons: Vec<_> = reasons.by_ref().take(count).flatten().collect();
                if rationales[index].is_none() && !reasons.is_empty() {
                    rationales[index] = Some(reasons.join("\n\n"));
                }
            }
        }
    }
    let of = |(sums, rationale): (BTreeMap<String, Vec<Weighted>>, _)| {
        let axes: BTreeMap<_, Vec<Option<f64>>> = sums
            .into_iter()
            .map(|(axis, sums)| (axis, sums.into_iter().map(Weighted::mean).collect()))
            .collect();
        let says = axes.values().flatten().any(Option::is_some);
        let verdict = says.then_some(Verdict::Ratings { axes });
        JudgedItem { verdict, rationale, opinions: Vec::new() }
    };
    Ok(sums.into_iter().zip(rationales).map(of).collect())
}

/// A weighted mean of what is known.
#[derive(Clone, Copy, Debug, Default)]
struct Weighted {
    sum: f64,
    weight: f64,
}

impl Weighted {
    fn add(&mut self, weight: f64, value: Option<f64>) {
        if let Some(value) = value {
            self.sum += weight * value;
            self.weight += weight;
        }
    }

    fn mean(self) -> Option<f64> {
        (0.0 < self.weight).then(|| self.sum / self.weight)
    }
}

/// What a judge says of comparisons, one of each per comparison.
#[derive(Default)]
struct JudgeVerdicts {
    probabilities: Vec<Option<f64>>,
    shown: Vec<[Option<f64>; 2]>,
    rationales: Vec<Option<String>>,
}

impl<D: Device> Comparer<D> {
    fn verdicts(
        &mut self,
        items: &[&Item],
        comparisons: &[CompletionPair<'_>],
    ) -> Result<JudgeVerdicts, JudgeError> {
        let count = comparisons.len();
        match self {
            Self::Reward(reward) => {
                let of_item = |scores: Vec<f64>| {
                    let of_pair =
                        |(a, b): (usize, usize)| Some(1.0 / (1.0 + (scores[b] - scores[a]).exp()));
                    pairs(scores.len()).map(of_pair).collect::<Vec<_>>()
                };
                let probabilities = reward.scores(items)?.into_iter().flat_map(of_item).collect();
                Ok(JudgeVerdicts {
                    probabilities,
                    shown: vec![[None; 2]; count],
                    rationales: Vec::new(),
                })
            }
            Self::Asked(axes) => {
                let verdicts = axes.iter_mut().map(|(weight, judge)| {
                    let found = preferences(judge.as_mut(), comparisons)?;
                    let (probabilities, shown) = (found.probabilities, found.shown);
                    let rationales = found.rationales;
                    Ok((*weight, JudgeVerdicts { probabilities, shown, rationales }))
                });
                Ok(weighted(count, &verdicts.collect::<Result<Vec<_>, JudgeError>>()?))
            }
            Self::Ranked(axes) => {
                let texts: Vec<Texts> = items.iter().map(|item| Texts::of(item)).collect();
                let ranked: Vec<RankedCompletions<'_>> = texts
                    .iter()
                    .map(|Texts { prompt, candidates }| RankedCompletions {
                        prompt,
                        completions: candidates,
                    })
                    .collect();
                let verdicts = axes.iter().map(|(weight, judge)| {
                    let mut verdicts = JudgeVerdicts::default();
                    for found in judge.rank(&ranked)? {
                        let count = found.shown.len();
                        verdicts.shown.extend(found.shown);
                        verdicts.probabilities.extend(found.probabilities);
                        verdicts.rationales.extend(std::iter::repeat_n(found.rationale, count));
                    }
                    Ok((*weight, verdicts))
                });
                Ok(weighted(count, &verdicts.collect::<Result<Vec<_>, JudgeError>>()?))
            }
        }
    }
}

/// The mean of what is said on each axis, with its weight, of `count` comparisons.
fn weighted(count: usize, axes: &[(f64, JudgeVerdicts)]) -> JudgeVerdicts {
    let mut means = vec![Weighted::default(); count];
    let mut shown = vec![[Weighted::default(); 2]; count];
    let mut rationales = vec![None; count];
    for (weight, found) in axes {
        for (mean, probability) in means.iter_mut().zip(&found.probabilities) {
            mean.add(*weight, *probability);
        }
        for (means, shown) in shown.iter_mut().zip(&found.shown) {
            for (mean, probability) in means.iter_mut().zip(shown) {
                mean.add(*weight, *probability);
            }
        }
        for (kept, given) in rationales.iter_mut().zip(&found.rationales) {
            *kept = kept.take().or_else(|| given.clone());
        }
    }
    let probabilities = means.into_iter().map(Weighted::mean).collect();
    let shown = shown.into_iter().map(|both| both.map(Weighted::mean)).collect();
    JudgeVerdicts { probabilities, shown, rationales }
}

impl<D: Device> Rater<D> {
    /// By axis a score for each candidate of each item, and the reasons.
    #[expect(clippy::type_complexity, reason = "an axis with what belongs to it")]
    fn ratings(
        &self,
        items: &[&Item],
    ) -> Result<Vec<(String, Vec<Option<f64>>, Vec<Option<String>>)>, JudgeError> {
        match self {
            Self::Reward(reward) => {
                let scores = reward.scores(items)?.into_iter().flatten().map(Some);
                Ok(vec![(WHOLE.to_owned(), scores.collect(), Vec::new())])
            }
            Self::Asked(axes) => {
                let texts: Vec<Texts> = items.iter().map(|item| Texts::of(item)).collect();
                let fields = Map::new();
                let answers: Vec<Answer<'_>> = texts
                    .iter()
                    .zip(items)
                    .flat_map(|(text, item)| {
                        let answer = |completion| Answer {
                            prompt: &text.prompt,
                            messages: Some(&item.prompt),
                            completion,
                            fields: &fields,
                        };
                        text.candidates.iter().map(move |candidate| answer(candidate.as_str()))
                    })
                    .collect();
                axes.iter()
                    .map(|(axis, judge)| {
                        let ratings = judge.rate(&answers)?.into_iter();
                        let (scores, reasons) =
                            ratings.map(|rating| (rating.score, rating.rationale)).unzip();
                        Ok((axis.clone(), scores, reasons))
                    })
                    .collect()
            }
        }
    }
}

/// An item as text.
struct Texts {
    prompt: String,
    candidates: Vec<String>,
}

impl Texts {
    fn of(item: &Item) -> Self {
        Self {
            prompt: prompt_text(&item.prompt),
            candidates: item.candidates.iter().map(Candidate::full_text).collect(),
        }
    }
}

/// The pairs of `count` candidates.
fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |first| (first + 1..count).map(move |second| (first, second)))
}

/// What the opinions of a panel come to: the probability of a pair, or the order of a list by how often each candidate wins.
fn verdict(candidates: usize, opinions: &[Opinion], weights: &[f64]) -> Option<Verdict> {
    let mean = |first, second| {
        let mut mean = Weighted::default();
        for opinion in opinions.iter().filter(|one| one.pair == [first, second]) {
            mean.add(weights[opinion.member], opinion.probability);
        }
        mean.mean()
    };
    if candidates == 2 {
        return mean(0, 1).map(|probability| Verdict::Soft { probability });
    }
    let mut wins = vec![Weighted::default(); candidates];
    for (first, second) in pairs(candidates) {
        let probability = mean(first, second);
        wins[first].add(1.0, probability);
        wins[second].add(1.0, probability.map(|p| 1.0 - p));
    }
    let known: Option<Vec<f64>> = wins.into_iter().map(Weighted::mean).collect();
    let known = known?;
    let mut order: Vec<usize> = (0..candidates).collect();
    order.sort_by(|&a, &b| known[b].total_cmp(&known[a]));
    let mut tiers: Vec<Vec<usize>> = Vec::new();
    for one in order {
        match tiers.last_mut() {
            Some(tier) if (known[tier[0]] - known[one]).abs() < TIED => tier.push(one),
            _ => tiers.push(vec![one]),
        }
    }
    Some(Verdict::Ranking { order: tiers })
}

/// How often candidates may win more or less than others that are as good: rounding.
const TIED: f64 = 1e-9;

/// What can be asked, whatever it will be asked for.
enum Contact<D: Device> {
    Reward(Box<RewardJudge<D>>),
    Command(CommandOptions),
    Language(Arc<dyn LanguageModel>),
}

fn contact<D: Device>(
    device: &D,
    config: &JudgingConfig,
    member: &MemberConfig,
    asking: &Asking,
) -> Result<Member<Contact<D>>, JudgingError> {
    let weight = *member.weight;
    let conduct = Conduct { limit: config.ask.timeout_s.duration(), retries: config.ask.retries };
    let (name, judge) = match &member.who {
        MemberKind::Reward { path, dtype, base } => {
            let name = named(member, &path.display().to_string());
            let (precision, masters) = ((*dtype).into(), (*base).into());
            let judge = RewardJudge::load(device.clone(), path, &name, precision, masters)?;
            (name, Contact::Reward(Box::new(judge)))
        }
        MemberKind::Command { program, args } => {
            let (program, args) = (program.clone(), args.clone());
            let name = named(member, &program);
            (name, Contact::Command(CommandOptions { program, args, deadline: conduct.limit }))
        }
        MemberKind::Openai(_) | MemberKind::Anthropic(_) | MemberKind::Local { .. } => {
            let (model, _, name) =
                open_model(device, member, conduct, asking)?.expect("a language model");
            (name, Contact::Language(model))
        }
    };
    Ok(Member { name, weight, judge })
}

fn comparer<D: Device>(
    config: &JudgingConfig,
    contact: Member<Contact<D>>,
    asking: &Asking,
) -> Result<Member<Comparer<D>>, JudgingError> {
    let Member { name, weight, judge } = contact;
    let judge = match judge {
        Contact::Reward(reward) => Comparer::Reward(reward),
        Contact::Command(_) if config.ask.task == AskedTask::Rank => {
            return Err(JudgingError::Complaint(program_compares(&name, AskedTask::Rank)));
        }
        Contact::Command(options) => {
            let judge = CommandJudge::start(&options, rules(config))?;
            Comparer::Asked(vec![(1.0, Box::new(judge))])
        }
        Contact::Language(model) if config.ask.task == AskedTask::Rank => {
            Comparer::Ranked(ranking(config, &model, asking))
        }
        Contact::Language(model) => Comparer::Asked(comparing(config, &model, asking)),
    };
    Ok(Member { name, weight, judge })
}

fn rater<D: Device>(
    config: &JudgingConfig,
    contact: Member<Contact<D>>,
    asking: &Asking,
) -> Result<Member<Rater<D>>, JudgingError> {
    let Member { name, weight, judge } = contact;
    let judge = match judge {
        Contact::Reward(reward) => Rater::Reward(reward),
        Contact::Command(_) => {
            return Err(JudgingError::Complaint(program_compares(&name, AskedTask::Rate)));
        }
        Contact::Language(model) => {
            Rater::Asked(rating(config, &model, *config.ask.parallel, asking))
        }
    };
    Ok(Member { name, weight, judge })
}

fn comparing(
    config: &JudgingConfig,
    model: &Arc<dyn LanguageModel>,
    asking: &Asking,
) -> Vec<(f64, Box<dyn PairwiseJudge>)> {
    let TemplateConfig { question, choices, then_choose, system, .. } = &config.template;
    let judge = |(_, text, weight): (String, &str, f64)| {
        let question = question.replace("{axis}", text);
        let options = ChatJudgeOptions {
            system: system.clone(),
            question: Template::new(question).expect("the places are checked"),
            choice: choice(config, choices.clone(), then_choose),
            parallel: *config.ask.parallel,
            rules: rules(config),
        };
        let judge = ChatJudge::new(Arc::clone(model), options);
        let judge: Box<dyn PairwiseJudge> = Box::new(judge.until(Arc::clone(&asking.is_over)));
        (weight, judge)
    };
    axes(config).into_iter().map(judge).collect()
}

fn ranking(
    config: &JudgingConfig,
    model: &Arc<dyn LanguageModel>,
    asking: &Asking,
) -> Vec<(f64, RankingJudge)> {
    let TemplateConfig { ranking, then_rank, system, .. } = &config.template;
    let judge = |(_, text, weight): (String, &str, f64)| {
        let mut choice = choice(config, Vec::new(), then_rank);
        if choice.method == ChoiceMethod::Auto {
            choice.method = ChoiceMethod::Verdict;
        }
        let options = RankingOptions {
            system: system.clone(),
            question: ranking.replace("{axis}", text),
            choice,
            parallel: *config.ask.parallel,
            rules: rules(config),
        };
        (weight, RankingJudge::new(Arc::clone(model), options, Arc::clone(&asking.is_over)))
    };
    axes(config).into_iter().map(judge).collect()
}

fn rules(config: &JudgingConfig) -> Rules {
    Rules {
        orders: if config.ask.both_orders { Orders::Both } else { Orders::Alternating },
        unreadable: match config.ask.on_unreadable {
            UnreadableAnswer::Tie => Unreadable::Tie,
            UnreadableAnswer::Drop => Unreadable::Drop,
            UnreadableAnswer::Error => Unreadable::Fail,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opinion(pair: [usize; 2], probability: f64) -> Opinion {
        Opinion { member: 0, pair, shown: [None; 2], probability: Some(probability) }
    }

    #[test]
    fn a_list_is_ordered_by_how_often_each_wins() {
        let opinions = [opinion([0, 1], 0.2), opinion([0, 2], 0.5), opinion([1, 2], 0.8)];
        let found = verdict(3, &opinions, &[1.0]).unwrap();
        assert_eq!(found, Verdict::Ranking { order: vec![vec![1], vec![0, 2]] });
    }

    #[test]
    fn a_panel_is_its_weighted_mean() {
        let second = Opinion { member: 1, ..opinion([0, 1], 0.2) };
        let silent = Opinion { member: 2, probability: None, ..opinion([0, 1], 0.0) };
        let found = verdict(2, &[opinion([0, 1], 0.8), second, silent], &[3.0, 1.0, 9.0]).unwrap();
        let Verdict::Soft { probability } = found else { panic!("{found:?}") };
        assert!((probability - 0.65).abs() < 1e-12);
    }
}
