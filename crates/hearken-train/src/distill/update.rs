//! The gradient of one optimizer step, microbatch by microbatch.

use std::ops::Range;

use hearken_model::{Keep, OutputGrads};
use hearken_objective::distillation::{Distance, Divergence};
use hearken_objective::numerics::log_sum_exp;
use hearken_run::metrics::inference_flops;
use hearken_tensor::Device;
use hearken_tensor::device::{Prediction, PredictionGrad};
use rayon::prelude::*;

use super::metrics::DistillStepSums;
use super::teacher::TeacherToken;
use crate::rollout::session::RolloutSession;
use crate::rollout::{CompletionBatch, ForwardOptions, Sequence, completion_microbatches};

/// The most bytes of a model's logits that are there at a time: as many as the log-probability head has.
const LOGITS_BYTES: usize = 16 << 20;

/// How distributions are compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct DistributionComparison {
    pub(super) divergence: Divergence,
    /// The logits of both are divided by it.
    pub(super) temperature: f64,
    /// Of a token in the loss of the step.
    pub(super) weight: f64,
}

/// The distributions of a row, while they are compared.
struct RowDistributions {
    student: Vec<f64>,
    teacher: Vec<f64>,
    grad: Vec<f64>,
}

impl DistributionComparison {
    /// Adds the gradients of completions beside the teacher in this process; returns their sums.
    pub(super) fn of_whole<D: Device>(
        self,
        session: &mut RolloutSession<D>,
        sequences: &[Sequence<'_>],
    ) -> DistillStepSums {
        let tokens_max = session.forward_options().microbatch_tokens;
        let RolloutSession { run, reference, .. } = session;
        let teacher = reference.as_ref().expect("the teacher is in this process");
        let vocab = teacher.config().vocab;
        let mut sums = DistillStepSums::default();
        for group in completion_microbatches(sequences, tokens_max) {
            let completions = CompletionBatch::new(&sequences[group]);
            let rows = completions.rows();
            let of_teacher = teacher.forward(&completions.batch, Keep::Nothing);
            run.book_reading(inference_flops(teacher, &completions.batch));
            let pass = run.forward(&completions.batch);
            let mut loss = |chunk: Range<usize>, student: &[f32], grads: &mut [f32]| {
                let teacher = teacher.logits(&of_teacher, &rows[chunk]);
                let distances = self.rows(student, &teacher, vocab, grads);
                for distance in distances {
                    sums.push(distance);
                }
            };
            run.backward_of_logits(pass, &rows, LOGITS_BYTES, &mut loss);
        }
        sums
    }

    /// The distance of each row, `[n, V]` of both; overwrites the derivatives of the step's loss with respect to the
    /// student's logits.
    fn rows(
        self,
        student: &[f32],
        teacher: &[f32],
        vocab: usize,
        grads: &mut [f32],
    ) -> Vec<Distance> {
        let row = || RowDistributions {
            student: vec![0.0; vocab],
            teacher: vec![0.0; vocab],
            grad: vec![0.0; vocab],
        };
        let both = student.par_chunks(vocab).zip(teacher.par_chunks(vocab));
        let rows = both.zip(grads.par_chunks_mut(vocab));
        let compare =
            |row: &mut RowDistributions,
             ((student, teacher), grads): ((&[f32], &[f32]), &mut [f32])| {
                self.logprobs(student, &mut row.student);
                self.logprobs(teacher, &mut row.teacher);
                let distance = self.divergence.whole(&row.student, &row.teacher, &mut row.grad);
                let scale = self.weight / self.temperature;
                let scaled = row.grad.iter().map(|grad| (grad * scale) as f32);
                grads.iter_mut().zip(scaled).for_each(|(to, grad)| *to = grad);
                distance
            };
        rows.map_init(row, compare).collect()
    }

    fn logprobs(self, logits: &[f32], logprobs: &mut [f64]) {
        for (logprob, logit) in logprobs.iter_mut().zip(logits) {
            *logprob = f64::from(*logit) / self.temperature;
        }
        let total = log_sum_exp(logprobs);
        for logprob in logprobs {
            *logprob -= total;
        }
    }

    /// Adds the gradients of completions of whose tokens a teacher behind a server has said what `told` has; returns
    /// their sums.
    pub(super) fn of_told<D: Device>(
        self,
        session: &mut RolloutSession<D>,
        sequences: &[Sequence<'_>],
        told: &[&[TeacherToken]],
    ) -> DistillStepSums {
        let forward = ForwardOptions { temperature: self.temperature, ..session.forward_options() };
        let run = &mut session.run;
        let mut sums = DistillStepSums::default();
        for group in completion_microbatches(sequences, forward.microbatch_tokens) {
            let completions = CompletionBatch::new(&sequences[group.clone()]);
            let told: Vec<&TeacherToken> = told[group].iter().flat_map(|of| of.iter()).collect();
            let named = completions.predictions.iter().zip(&told);
            let predictions: Vec<Prediction> = named
                .flat_map(|(at, told)| told.ids.iter().map(|&token| Prediction { token, ..*at }))
                .collect();
            let mut pass = run.forward(&completions.batch);
            let (head, bytes) = (forward.head(true), forward.logits_bytes);
            let output = run.model.logprobs_keeping(&mut pass, &predictions, head, bytes);
            let student: Vec<f64> = output.logprobs.iter().map(|&x| x.into()).collect();
            let mut grads = Vec::with_capacity(predictions.len());
            for told in told {
                let own = grads.len()..grads.len() + told.ids.len();
                let entropy = f64::from(output.entropy[own.start]);
                let (distance, slopes) = self.divergence.partial(&student[own], &told.logprobs);
                sums.push(Distance { entropy, ..distance });
                sums.unnamed.push(told.unnamed());
                grads.extend(slopes.iter().map(|slope| PredictionGrad {
                    logprob: (slope * self.weight) as f32,
                    entropy: 0.0,
                }));
            }
            let grads = OutputGrads {
                predictions: &predictions,
                prediction_grads: &grads,
                head: forward.head(false),
                ..OutputGrads::default()
            };
            run.backward(pass, &grads);
        }
        sums
    }
}
