//! Libraries that panic on damaged input where they should fail.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread is caught and told as an error, so that nothing need be said about it.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What `f` gives, or `None` if it panics; then nothing that it changed may be used again. No message is left on
/// standard error. The hook that sees to it stands in front of whichever was there, is put there once, and knows
/// this thread alone: panics of other threads, and of this one at other times, are told as ever.
pub fn caught<T>(f: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            if !IS_QUIET.get() {
                before(panicked);
            }
        }));
    });
    let was_quiet = IS_QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    IS_QUIET.set(was_quiet);
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_nothing_and_a_value_is_itself() {
        assert_eq!(caught(|| 3), Some(3));
        assert_eq!(caught(|| -> u32 { panic!("inside") }), None);
        assert_eq!(caught(|| caught(|| -> u32 { panic!("deeper") })), Some(None));
    }
}
