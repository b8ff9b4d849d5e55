//! The grammar that writes reviews.

use hearken_reward_source::gold::words::{
    ASIDES, CLOSING_BLAME, CLOSING_PRAISE, DAYS, DISHES, PLACES, TOPICS, Topic,
};
use rand::{Rng, RngExt};

/// What a prompt asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Visit {
    dish: usize,
    place: usize,
    day: usize,
}

impl Visit {
    /// Every visit there is, in a fixed order.
    pub(super) fn all() -> Vec<Self> {
        let mut visits = Vec::with_capacity(DISHES.len() * PLACES.len() * DAYS.len());
        for dish in 0..DISHES.len() {
            for place in 0..PLACES.len() {
                visits.extend((0..DAYS.len()).map(|day| Self { dish, place, day }));
            }
        }
        visits
    }

    /// The prompt: "Review of the soup at the mill on Monday:".
    pub(super) fn prompt(self) -> String {
        let (dish, place, day) = (DISHES[self.dish], PLACES[self.place], DAYS[self.day]);
        format!("Review of the {dish} at the {place} on {day}:")
    }

    /// A review in one of the moods between outrage and delight, beginning with a space.
    pub(super) fn review(self, rng: &mut impl Rng) -> String {
        let mood: f64 = rng.random();
        let sentences = rng.random_range(1..=5);
        let mut review = String::new();
        let mut topics = [0, 1, 2, 3];
        for _ in 0..sentences {
            let sentence = match rng.random_range(0..10) {
                0..2 => self.fill(pick(&ASIDES, rng)),
                2..4 => {
                    let closings =
                        if rng.random_bool(mood) { CLOSING_PRAISE } else { CLOSING_BLAME };
                    pick(&closings, rng).to_owned()
                }
                _ => self.judge(&TOPICS[next_topic(&mut topics, rng)], mood, rng),
            };
            review.push(' ');
            review.push_str(&sentence);
        }
        review
    }

    /// "The soup was tasty." Sometimes of another dish; sometimes "very", seldom "very very".
    fn judge(self, topic: &Topic, mood: f64, rng: &mut impl Rng) -> String {
        let dish = if rng.random_bool(0.15) { pick(&DISHES, rng) } else { DISHES[self.dish] };
        let adjectives = if rng.random_bool(mood) { topic.praise } else { topic.blame };
        let stress = match rng.random_range(0..20) {
            0 => "very very ",
            1..5 => "very ",
            5..7 => "rather ",
            _ => "",
        };
        let adjective = pick(&adjectives, rng);
        format!("{} {stress}{adjective}.", topic.opening.replace("{}", dish))
    }

    fn fill(self, sentence: &str) -> String {
        sentence.replace("{}", DISHES[self.dish])
    }
}

/// Topics come in a random order and start again when all had their turn.
fn next_topic(topics: &mut [usize; 4], rng: &mut impl Rng) -> usize {
    // The front half holds what has not been said lately.
    let index = rng.random_range(0..2);
    let topic = topics[index];
    topics.copy_within(index + 1.., index);
    topics[3] = topic;
    topic
}

fn pick<'a>(choices: &[&'a str], rng: &mut impl Rng) -> &'a str {
    choices[rng.random_range(0..choices.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearken_reward_source::gold;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn reviews_vary_in_length_mood_and_worth() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let visits = Visit::all();
        let golds: Vec<f64> = (0..2000)
            .map(|i| {
                let visit = visits[i * 7 % visits.len()];
                gold(&visit.prompt(), &visit.review(&mut rng))
            })
            .collect();
        let mean = golds.iter().sum::<f64>() / 2000.0;
        let spread = (golds.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / 2000.0).sqrt();
        assert!((0.4..1.4).contains(&mean), "{mean}");
        assert!((0.8..1.8).contains(&spread), "{spread}");
        // Far from the best: there is something to learn.
        assert!(golds.iter().filter(|g| 3.0 < **g).count() < 60);
    }
}
