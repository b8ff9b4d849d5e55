//! How much memory the process held at most.

/// Forgets the peak so far, where the system can.
pub(crate) fn reset_peak() {
    // Linux resets the peak of the calling process; elsewhere the peak is that of all stages so far.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most bytes held since; `None` where the system does not say.
pub(crate) fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(1024 * kilobytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_covers_what_was_held() {
        let held = vec![1_u8; 64 << 20];
        let peak = peak_bytes().unwrap();
        assert!(held.len() as u64 <= peak, "{peak}");
    }
}
