//! Iterations that teach nothing, and when that is said.

use hearken_objective::grpo::shaping::Overlong;

use super::grade::{Graded, groups, is_flat};

/// Why an iteration teaches nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idle {
    /// Every completion was cut off, and such are masked.
    AllMasked,
    /// No group's scores differ, and such groups leave.
    AllDropped,
    /// Groups without spread left, and what stayed was cut off and is masked.
    DroppedAndMasked,
    /// No group's scores differ; they stay, with advantages of 0.
    AllFlat,
}

impl Idle {
    /// What is the matter with an iteration of which `nothing_left` says whether anything is trained
    /// on; `None` if it teaches something.
    pub(super) fn of(sampled: &[Graded], nothing_left: bool, overlong: Overlong) -> Option<Self> {
        let all_flat = groups(sampled).all(is_flat);
        let ended = sampled.iter().any(|one| one.rollout.ended());
        match (nothing_left, overlong == Overlong::Mask) {
            (false, _) => all_flat.then_some(Self::AllFlat),
            (true, true) if !ended => Some(Self::AllMasked),
            (true, true) if !all_flat => Some(Self::DroppedAndMasked),
            (true, _) => Some(Self::AllDropped),
        }
    }

    /// What happened, what that means, and which key to change.
    fn reason(self) -> &'static str {
        match self {
            Self::AllMasked => {
                "every completion was cut off, and `grpo.overlong` = \"mask\" leaves them out: there is \
                 nothing to learn from, and the policy stays as it is; raise `rollout.max_new_tokens`"
            }
            Self::AllDropped => {
                "no group's scores differ, and `grpo.groups` leaves such groups out: there is nothing \
                 to learn from, and the policy stays as it is; prompts that are neither too easy nor \
                 too hard, a higher `rollout.temperature` or more `rollout.completions` help"
            }
            Self::DroppedAndMasked => {
                "what groups without spread left was cut off, and `grpo.overlong` = \"mask\" leaves it \
                 out: there is nothing to learn from, and the policy stays as it is; raise \
                 `rollout.max_new_tokens`"
            }
            Self::AllFlat => {
                "no group's scores differ, so that there is nothing to learn from them: advantages are \
                 0, and only a KL penalty or an entropy bonus moves the policy; prompts that are \
                 neither too easy nor too hard, a higher `rollout.temperature` or more \
                 `rollout.completions` help"
            }
        }
    }
}

/// How many iterations in a row have taught nothing for the same reason.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Idleness {
    reason: Option<Idle>,
    in_a_row: u64,
}

impl Idleness {
    /// Takes note of an iteration; what is to be said of it. The same is said again when it has lasted
    /// twice as long.
    pub(super) fn note(&mut self, iteration: u64, idle: Option<Idle>) -> Option<String> {
        self.in_a_row = if idle == self.reason { self.in_a_row + 1 } else { 1 };
        self.reason = idle;
        let reason = idle.filter(|_| self.in_a_row.is_power_of_two())?.reason();
        let lasting = match self.in_a_row {
            1 => String::new(),
            times => format!(", {times} times in a row"),
        };
        Some(format!("iteration {iteration}{lasting}: {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_again_when_it_has_lasted_twice_as_long() {
        let mut idleness = Idleness::default();
        let said: Vec<u64> = (0..20)
            .filter(|&iteration| idleness.note(iteration, Some(Idle::AllFlat)).is_some())
            .collect();
        assert_eq!(said, [0, 1, 3, 7, 15]);
        assert_eq!(idleness.note(20, None), None);
        let note = idleness.note(21, Some(Idle::AllMasked)).unwrap();
        assert!(note.starts_with("iteration 21: every completion was cut off"), "{note}");
    }
}
