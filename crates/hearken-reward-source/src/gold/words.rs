//! The vocabulary of the reviews.

/// What a review can be about.
pub const DISHES: [&str; 16] = [
    "soup", "pasta", "salad", "curry", "steak", "pizza", "bread", "cake", "fish", "rice", "tea",
    "stew", "toast", "cheese", "coffee", "pie",
];

/// Where it was eaten.
pub const PLACES: [&str; 12] = [
    "harbor", "mill", "garden", "station", "corner", "bridge", "market", "castle", "lake",
    "forest", "square", "tower",
];

/// When.
pub const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A thing that reviews judge, with what they say of it.
pub struct Topic {
    /// The beginning of the sentence; `{}` stands for the dish.
    pub opening: &'static str,
    /// Adjectives that gold counts in favor.
    pub praise: [&'static str; 6],
    /// Adjectives that gold counts against.
    pub blame: [&'static str; 6],
}

/// Sentences of the form "opening adjective."
pub const TOPICS: [Topic; 4] = [
    Topic {
        opening: "The {} was",
        praise: ["fresh", "tasty", "warm", "rich", "crisp", "delicious"],
        blame: ["cold", "bland", "stale", "greasy", "dry", "burnt"],
    },
    Topic {
        opening: "The waiter was",
        praise: ["kind", "quick", "friendly", "polite", "cheerful", "attentive"],
        blame: ["rude", "slow", "careless", "loud", "sulky", "confused"],
    },
    Topic {
        opening: "The room was",
        praise: ["cozy", "bright", "quiet", "clean", "charming", "pretty"],
        blame: ["dirty", "dark", "noisy", "cramped", "shabby", "smoky"],
    },
    Topic {
        opening: "The evening was",
        praise: ["lovely", "perfect", "pleasant", "splendid", "great", "wonderful"],
        blame: ["awful", "boring", "terrible", "sad", "horrible", "dreadful"],
    },
];

/// Sentences that gold has no opinion on; `{}` stands for the dish.
pub const ASIDES: [&str; 8] = [
    "We sat near the window.",
    "The bill came after an hour.",
    "It rained outside.",
    "We were there with two friends.",
    "The {} is on the menu every day.",
    "A dog slept by the door.",
    "There was music from a radio.",
    "We came by train.",
];

/// Closing sentences that praise, each with a word that gold knows.
pub const CLOSING_PRAISE: [&str; 3] =
    ["We will gladly come back.", "We recommend it.", "Thank you all."];

/// Closing sentences that blame, each with a word that gold knows.
pub const CLOSING_BLAME: [&str; 3] =
    ["We will never come back.", "We regret it.", "Avoid this place."];

/// Words of the closing sentences, and their opposites, that gold counts.
pub(crate) const CLOSING_WORDS: [(&str, f64); 6] = [
    ("gladly", 1.0),
    ("recommend", 1.0),
    ("thank", 1.0),
    ("never", -1.0),
    ("regret", -1.0),
    ("avoid", -1.0),
];
