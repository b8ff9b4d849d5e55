//! Scores from tests that a completion's program passes, each run in a sandbox.

mod sandbox;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use super::{RewardError, RewardSource, RolloutView, Score};

use sandbox::{Finish, Job};
pub use sandbox::{Sandbox, SandboxLimits};

/// The share of a prompt's tests that the program in a completion passes.
///
/// The program is the last fenced block of the completion, or all of it. The column `tests` of the
/// prompt's record is a text, or a list of texts, each appended to the program, which passes by
/// exiting with 0; or a list of objects `{"input": TEXT, "output": TEXT}`, where the program passes by
/// writing the output (but for white space at the ends of lines and of the text) when it reads the
/// input, and exiting with 0.
///
/// A program that crashes, does not end in time or exceeds a limit fails that test; the run goes on.
#[derive(Clone, Debug)]
pub struct CodeSource {
    name: String,
    column: String,
    sandbox: Sandbox,
}

/// One run of a program: what it is, what it reads, what it must write.
struct Test {
    rollout: usize,
    program: String,
    input: String,
    output: Option<String>,
}

impl CodeSource {
    /// Tries the sandbox once.
    ///
    /// # Errors
    /// If it does not work on this machine.
    pub fn new(name: &str, column: &str, sandbox: Sandbox) -> Result<Self, RewardError> {
        let source = Self { name: name.to_owned(), column: column.to_owned(), sandbox };
        source.sandbox.check().map_err(|reason| source.failed(reason))?;
        Ok(source)
    }

    fn failed(&self, reason: String) -> RewardError {
        RewardError::Sandbox { name: self.name.clone(), reason }
    }

    fn tests(&self, rollouts: &[RolloutView<'_>]) -> Result<Vec<Test>, RewardError> {
        let mut tests = Vec::new();
        for (index, rollout) in rollouts.iter().enumerate() {
            let program = program_of(rollout.completion);
            let found = rollout.fields.get(&self.column);
            let listed = match found {
                Some(Value::Array(listed)) if !listed.is_empty() => listed.as_slice(),
                Some(single @ Value::String(_)) => std::slice::from_ref(single),
                _ => return Err(self.bad_tests(found, rollout)),
            };
            for test in listed {
                let text = |key: &str| test.get(key).and_then(Value::as_str).map(str::to_owned);
                let (appended, input, output) = match (test, text("input"), text("output")) {
                    (Value::String(appended), ..) => (appended.as_str(), String::new(), None),
                    (Value::Object(_), Some(input), Some(output)) => ("", input, Some(output)),
                    _ => return Err(self.bad_tests(found, rollout)),
                };
                let program = format!("{program}\n{appended}\n");
                tests.push(Test { rollout: index, program, input, output });
            }
        }
        Ok(tests)
    }

    fn bad_tests(&self, found: Option<&Value>, rollout: &RolloutView<'_>) -> RewardError {
        let expected = "a text, or a list of texts or of {\"input\", \"output\"}";
        RewardError::column(&self.name, &self.column, found, expected, rollout)
    }

    fn passes(&self, test: &Test) -> Result<bool, String> {
        let job = Job { program: &test.program, input: &test.input };
        Ok(match self.sandbox.run(job)? {
            Finish::Exited { code: 0, output } => {
                test.output.as_ref().is_none_or(|expected| same_lines(&output, expected))
            }
            Finish::Exited { .. } | Finish::Killed => false,
        })
    }
}

impl RewardSource for CodeSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn score(&mut self, rollouts: &[RolloutView<'_>]) -> Result<Vec<Score>, RewardError> {
        let tests = self.tests(rollouts)?;
        let next = AtomicUsize::new(0);
        let worker = || {
            let mut own = Vec::new();
            while let Some(test) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                own.push((test.rollout, self.passes(test)));
            }
            own
        };
        let workers = thread::available_parallelism().map_or(1, usize::from).min(tests.len());
        let results: Vec<(usize, Result<bool, String>)> = thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
            let join = |worker: thread::ScopedJoinHandle<'_, _>| {
                worker.join().expect("a worker does not panic")
            };
            workers.into_iter().flat_map(join).collect()
        });
        let mut passed = vec![(0_usize, 0_usize); rollouts.len()];
        for (rollout, result) in results {
            let is_passed = result.map_err(|reason| self.failed(reason))?;
            passed[rollout].0 += usize::from(is_passed);
            passed[rollout].1 += 1;
        }
        Ok(passed.into_iter().map(|(passed, of)| (passed as f64 / of as f64).into()).collect())
    }
}

/// The last fenced block of a text, else the text.
fn program_of(completion: &str) -> &str {
    let mut fences = completion.rmatch_indices("```").map(|(index, _)| index);
    let (Some(end), Some(start)) = (fences.next(), fences.next()) else { return completion };
    let block = &completion[start + 3..end];
    // The rest of the fence's line names a language.
    block.split_once('\n').map_or(block, |(_, code)| code)
}

fn same_lines(one: &str, other: &str) -> bool {
    let lines = |text: &str| -> Vec<String> {
        text.trim_end().lines().map(|line| line.trim_end().to_owned()).collect()
    };
    lines(one) == lines(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_fenced_block_is_the_program() {
        assert_eq!(program_of("print(1)"), "print(1)");
        assert_eq!(program_of("Sure:\n```python\nprint(1)\n```\nDone."), "print(1)\n");
        assert_eq!(program_of("```\na\n```\nor\n```sh\nb\n```"), "b\n");
        assert_eq!(program_of("a ``` b"), "a ``` b");
    }

    #[test]
    fn outputs_may_differ_in_white_space_at_ends() {
        assert!(same_lines("1 \n2\n\n", "1\n2"));
        assert!(!same_lines("1 2", "12") && !same_lines(" 1", "1"));
    }
}
