//! The learning rate of each optimizer step.

use std::f64::consts::PI;

use hearken_config::{OptimizerConfig, ScheduleKind};

/// The learning rate as a function of the optimizer step.
///
/// ```text
/// i = step − 1
/// i < warmup:  lr · i / warmup
/// constant:    lr
/// linear:      lr · (total − i) / (total − warmup)
/// cosine:      lr · ½(1 + cos(π · (i − warmup) / (total − warmup)))
/// ```
///
/// The convention of Transformers' schedules: the first step of a warm-up has rate 0, and the last
/// step of a decay has not quite reached 0.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    kind: ScheduleKind,
    lr: f64,
    warmup_steps: u64,
    total_steps: u64,
}

impl Schedule {
    /// The schedule of a run of `total_steps`.
    pub fn new(config: &OptimizerConfig, total_steps: u64) -> Self {
        let OptimizerConfig { schedule: kind, lr, warmup_steps, .. } = *config;
        Self { kind, lr: *lr, warmup_steps: warmup_steps.steps(total_steps), total_steps }
    }

    /// The factor of step `step`, counted from 1: in [0, 1].
    pub fn factor(&self, step: u64) -> f64 {
        let done = step.saturating_sub(1);
        if done < self.warmup_steps {
            return done as f64 / self.warmup_steps as f64;
        }
        let decay_steps = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = ((done - self.warmup_steps) as f64 / decay_steps).min(1.0);
        match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Linear => 1.0 - progress,
            ScheduleKind::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
        }
    }

    /// The learning rate of step `step`, counted from 1.
    pub fn learning_rate(&self, step: u64) -> f64 {
        self.lr * self.factor(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearken_config::Warmup;

    fn rates(kind: ScheduleKind) -> Vec<f64> {
        let schedule = Schedule { kind, lr: 2.0, warmup_steps: 2, total_steps: 6 };
        (1..=7).map(|step| schedule.learning_rate(step)).collect()
    }

    /// Transformers 5, `get_scheduler(kind, optimizer, 2, 6)` with lr 2, before each step.
    #[test]
    fn rates_are_those_of_transformers() {
        assert_eq!(rates(ScheduleKind::Constant), [0.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0]);
        assert_eq!(rates(ScheduleKind::Linear), [0.0, 1.0, 2.0, 1.5, 1.0, 0.5, 0.0]);
        let cosine = [0.0, 1.0, 2.0, 1.0 + 0.5_f64.sqrt(), 1.0, 1.0 - 0.5_f64.sqrt(), 0.0];
        for (rate, expected) in rates(ScheduleKind::Cosine).iter().zip(cosine) {
            assert!((rate - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn a_warmup_below_one_is_a_share_of_the_run() {
        let steps = |warmup: f64, total| Warmup::new(warmup).unwrap().steps(total);
        assert_eq!([steps(0.03, 1000), steps(0.03, 12), steps(0.5, 5)], [30, 0, 3]);
        assert_eq!([steps(1.0, 1000), steps(20.0, 12), steps(0.0, 9)], [1, 20, 0]);
        for refused in [-1.0, 1.5, f64::NAN, f64::INFINITY] {
            assert_eq!(Warmup::new(refused), None);
        }
    }

    #[test]
    fn a_warmup_longer_than_the_run_never_divides_by_zero() {
        let schedule =
            Schedule { kind: ScheduleKind::Linear, lr: 1.0, warmup_steps: 9, total_steps: 4 };
        assert!((1..20).all(|step| (0.0..=1.0).contains(&schedule.factor(step))));
    }
}
