//! What this machine has, as far as the system says.

use std::path::Path;

/// Bytes of memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) free: u64,
    pub(crate) total: u64,
    /// What a control group allows, where that is less than the machine has.
    pub(crate) limit: Option<u64>,
}

/// Bytes of a disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disk {
    pub(crate) free: u64,
    pub(crate) total: u64,
}

/// The memory, where the system has /proc.
pub(crate) fn memory() -> Option<Memory> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
    };
    let (total, free) = (bytes("MemTotal:")?, bytes("MemAvailable:")?);
    let limit = container_limit().filter(|&limit| limit < total);
    Some(Memory { free, total, limit })
}

impl Memory {
    /// What a process may come to use.
    pub(crate) fn usable(self) -> u64 {
        self.limit.map_or(self.free, |limit| limit.min(self.free))
    }
}

/// What a control group allows in bytes.
fn container_limit() -> Option<u64> {
    let path = Path::new("/sys/fs/cgroup/memory.max");
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The disk on which `path` lies, or would lie if it were there.
#[cfg(unix)]
pub(crate) fn disk(path: &Path) -> Option<Disk> {
    let there = path.ancestors().find(|folder| folder.exists());
    let there = there.unwrap_or_else(|| Path::new("."));
    let found = rustix::fs::statvfs(there).ok()?;
    Some(Disk { free: found.f_bavail * found.f_frsize, total: found.f_blocks * found.f_frsize })
}

#[cfg(not(unix))]
pub(crate) fn disk(_: &Path) -> Option<Disk> {
    None
}
