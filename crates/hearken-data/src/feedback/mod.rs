//! What people are asked and what they decide: items, verdicts, judgements.
//!
//! ```
//! use hearken_data::feedback::{Candidate, Item, Judgement, Task, Verdict};
//! use hearken_data::{Message, Role};
//!
//! let prompt = vec![Message::new(Role::User, "What is 2 + 2?")];
//! let item = Item::new(Task::Pairwise, prompt, vec![Candidate::text("4"), Candidate::text("5")]);
//! let judgement = Judgement::new("j1", &item, "ada", Verdict::preferred(0));
//! assert_eq!(judgement.check(&item), Ok(()));
//! ```
//!
//! Not here: how they are kept, and what is made of them.

pub mod formats;
mod hash;
mod item;
mod judgement;
pub mod served;
mod verdict;

pub use crate::selection::{Combine, Selection};
pub use item::{Candidate, Gold, Item, Media, Task};
pub use judgement::{
    BetterAnswer, Judgement, Origin, Suggested, decisive, final_of_items, in_force,
};
pub use verdict::{Strength, Verdict};
