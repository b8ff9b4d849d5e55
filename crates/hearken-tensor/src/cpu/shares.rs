//! Products of packed factors, shared out among threads.

use std::ops::Range;

use rayon::prelude::*;

/// Tasks per thread: one that starts late takes fewer.
const TASKS_PER_THREAD: usize = 4;

/// The panels of a left factor and of the right factors that it is multiplied by, and what a task may be.
pub(crate) struct Panels<'a> {
    /// Panels of the left factor.
    pub(crate) left: usize,
    /// Panels of the right factor of each part.
    pub(crate) right: &'a [usize],
    /// Panels of the left factor per task: a block of them stays in the second-level cache.
    pub(crate) left_per_task: usize,
    /// At most so many panels of a right factor per task, where there are several tasks for each of them.
    pub(crate) right_per_task_max: usize,
    /// Elements of a panel of a right factor.
    pub(crate) right_len: usize,
    /// Elements of a right factor, times panels of the left one, that are worth a task of their own.
    pub(crate) task_min: usize,
}

impl Panels<'_> {
    /// How many panels of a right factor a task takes. Results do not depend on it.
    fn right_per_task(&self) -> usize {
        let all: usize = self.right.iter().sum();
        let shares = TASKS_PER_THREAD * rayon::current_num_threads();
        if self.left_per_task < self.left {
            let blocks = self.left.div_ceil(self.left_per_task);
            return (blocks * all / shares).clamp(1, self.right_per_task_max);
        }
        let elements = (self.right_len * self.left).max(1);
        all.div_ceil(shares).max(self.task_min.div_ceil(elements))
    }

    /// Calls `run` with a part, panels of the left factor and panels of the part's right one, until all of them have met.
    pub(crate) fn share_out(&self, run: impl Fn(usize, Range<usize>, Range<usize>) + Sync) {
        let blocks = self.left.div_ceil(self.left_per_task);
        let per_task = self.right_per_task();
        let tasks_of = |panels: usize| blocks * panels.div_ceil(per_task);
        let task = |mut task: usize| {
            let mut parts = self.right.iter().enumerate();
            let (part, panels) = loop {
                let (part, panels) = parts.next().expect("invariant: tasks are those of all parts");
                match task.checked_sub(tasks_of(*panels)) {
                    None => break (part, *panels),
                    Some(of_others) => task = of_others,
                }
            };
            let (left, right) = (task % blocks * self.left_per_task, task / blocks * per_task);
            let left = left..(left + self.left_per_task).min(self.left);
            run(part, left, right..(right + per_task).min(panels));
        };
        let tasks = self.right.iter().map(|panels| tasks_of(*panels)).sum();
        if tasks <= 1 {
            (0..tasks).for_each(task);
        } else {
            (0..tasks).into_par_iter().for_each(task);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn every_panel_meets_every_other_once() {
        for (left, right) in [(0, vec![3]), (1, vec![1]), (5, vec![7, 0, 2]), (70, vec![40, 1, 9])]
        {
            let panels = Panels {
                left,
                right: &right,
                left_per_task: 32,
                right_per_task_max: 8,
                right_len: 16,
                task_min: 1 << 7,
            };
            let met = Mutex::new(Vec::new());
            panels.share_out(|part, left, right| {
                let mut met = met.lock().unwrap();
                met.extend(left.flat_map(|l| right.clone().map(move |r| (part, l, r))));
            });
            let mut met = met.into_inner().unwrap();
            met.sort_unstable();
            let of_part = |(part, panels): (usize, &usize)| {
                let panels = *panels;
                (0..left).flat_map(move |l| (0..panels).map(move |r| (part, l, r)))
            };
            let expected: Vec<_> = right.iter().enumerate().flat_map(of_part).collect();
            assert_eq!(met, expected);
        }
    }
}
