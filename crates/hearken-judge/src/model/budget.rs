//! What answers may cost together.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Usage;
use crate::JudgeError;

/// What a model's tokens cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Price {
    /// Of a million tokens of questions.
    pub per_million_prompt: f64,
    /// Of a million tokens of answers.
    pub per_million_completion: f64,
}

impl Price {
    /// Of a question and its answer.
    pub fn of(self, usage: Usage) -> f64 {
        let million = |tokens: u64| tokens as f64 / 1e6;
        self.per_million_prompt * million(usage.prompt_tokens)
            + self.per_million_completion * million(usage.completion_tokens)
    }
}

/// The most that may be spent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SpendingLimits {
    /// Tokens of questions and answers.
    pub tokens: Option<u64>,
    /// Money, in the unit of the prices.
    pub money: Option<f64>,
}

/// What was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Questions that were sent.
    pub requests: u64,
    /// Tokens of questions.
    pub prompt_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
    /// Money, in the unit of the prices.
    pub money: f64,
    /// Questions whose tokens were estimated.
    pub estimated: u64,
}

impl Spent {
    /// Tokens of questions and answers.
    pub fn tokens(&self) -> u64 {
        self.prompt_tokens + self.completion_tokens
    }

    pub(super) fn add(&mut self, usage: Usage, money: f64) {
        self.requests += 1;
        self.prompt_tokens += usage.prompt_tokens;
        self.completion_tokens += usage.completion_tokens;
        self.money += money;
        self.estimated += u64::from(usage.estimated);
    }
}

/// Limits, with what was spent of them and what questions under way may still cost.
#[derive(Debug, Default)]
pub struct Budget {
    limits: SpendingLimits,
    state: Mutex<SpendingState>,
}

#[derive(Clone, Copy, Debug, Default)]
struct SpendingState {
    spent: Spent,
    reserved_tokens: u64,
    reserved_money: f64,
}

/// What a question may cost, set aside until it is known what it did.
pub(super) struct Reserved<'b> {
    budget: &'b Budget,
    tokens: u64,
    money: f64,
}

impl Budget {
    /// A budget of which `spent` is gone already.
    pub fn new(limits: SpendingLimits, spent: Spent) -> Self {
        Self { limits, state: Mutex::new(SpendingState { spent, ..SpendingState::default() }) }
    }

    /// What was spent so far.
    pub fn spent(&self) -> Spent {
        self.lock().spent
    }

    /// Sets aside the most that a question may cost.
    ///
    /// # Errors
    /// [`JudgeError::Budget`] where there is not so much left.
    pub(super) fn reserve(&self, most: Usage, price: Price) -> Result<Reserved<'_>, JudgeError> {
        let (tokens, money) = (most.prompt_tokens + most.completion_tokens, price.of(most));
        let mut state = self.lock();
        let all_tokens = state.spent.tokens() + state.reserved_tokens + tokens;
        let all_money = state.spent.money + state.reserved_money + money;
        let over = |what, spent: f64, limit: f64| {
            Err(JudgeError::Budget { what, spent: format!("{spent}"), limit: format!("{limit}") })
        };
        match self.limits {
            SpendingLimits { tokens: Some(limit), .. } if limit < all_tokens => {
                over("tokens", state.spent.tokens() as f64, limit as f64)
            }
            SpendingLimits { money: Some(limit), .. } if limit < all_money => {
                over("money", state.spent.money, limit)
            }
            _ => {
                state.reserved_tokens += tokens;
                state.reserved_money += money;
                Ok(Reserved { budget: self, tokens, money })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, SpendingState> {
        // Sums: a thread that died while it held the lock leaves nothing inconsistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved<'_> {
    /// The question has its answer.
    pub(super) fn spend(self, usage: Usage, money: f64) {
        self.budget.lock().spent.add(usage, money);
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        state.reserved_tokens -= self.tokens;
        state.reserved_money -= self.money;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn usage(prompt_tokens: u64, completion_tokens: u64) -> Usage {
        Usage { prompt_tokens, completion_tokens, estimated: false }
    }

    #[test]
    fn questions_under_way_are_counted_with_the_most_that_they_may_cost() {
        let budget =
            Budget::new(SpendingLimits { tokens: Some(100), money: None }, Spent::default());
        let first = budget.reserve(usage(10, 50), Price::default()).unwrap();
        assert!(budget.reserve(usage(10, 50), Price::default()).is_err());
        first.spend(usage(10, 5), 0.0);
        assert_eq!(budget.spent().tokens(), 15);
        assert!(budget.reserve(usage(10, 50), Price::default()).is_ok());
    }

    #[test]
    fn money_is_what_tokens_cost() {
        let price = Price { per_million_prompt: 2.0, per_million_completion: 10.0 };
        assert!((price.of(usage(1000, 100)) - 0.003).abs() < 1e-12);
        let spent = Spent { money: 0.999, ..Spent::default() };
        let budget = Budget::new(SpendingLimits { tokens: None, money: Some(1.0) }, spent);
        let error = budget.reserve(usage(1000, 100), price).err().unwrap().to_string();
        assert!(error.contains("0.999") && error.contains("money"), "{error}");
    }
}
