//! Errors as sentences on the screen.

use std::io;
use std::process::ExitCode;

use crate::output;

/// Says why a command failed; a reader of standard output that has gone away is no failure.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    output::say(&format!("error: {}", sentence(error)));
    ExitCode::FAILURE
}

/// The error with its causes, but for those whose words it already holds.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_and_nothing_is_said_twice() {
        let cause = anyhow::anyhow!("no such file");
        let told = cause.context("a.toml: cannot be read: no such file").context("step one");
        assert_eq!(sentence(&told), "step one: a.toml: cannot be read: no such file");
    }
}
