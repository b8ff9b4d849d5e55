//! What the machine can do at best, and what a process has taken.

use hearken_tensor::cpu::peak;
use hearken_tensor::device::Precision;

use crate::memory;

/// Floating-point operations per second of multiply-adds in registers on all threads of rayon's
/// current pool; `None` where the processor has no products of this precision. Takes no memory.
pub fn operations_per_s(precision: Precision) -> Option<f64> {
    peak::operations_per_s(precision)
}

/// Bytes per second that all threads of rayon's current pool read from memory. Takes 256 MiB.
pub fn read_bytes_per_s() -> f64 {
    peak::read_bytes_per_s()
}

/// The most memory that this process has held, in MiB, by the operating system's account; `None`
/// where there is no /proc.
pub fn peak_rss_mb() -> Option<u64> {
    memory::peak_bytes().map(|bytes| bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_was_held_counts_after_it_is_given_back() {
        let before = peak_rss_mb().unwrap();
        let held = vec![1_u8; (before as usize + 64) << 20];
        assert_eq!(held[held.len() / 2], 1);
        drop(held);
        assert!(before + 60 <= peak_rss_mb().unwrap());
    }
}
