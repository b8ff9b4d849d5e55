//! Large mappings that buffers of middling size share, so that they too lie in huge pages: packed
//! weights are streamed through, and with small pages that would wait for address look-ups.

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use memmap2::MmapMut;
#[cfg(target_os = "linux")]
use memmap2::UncheckedAdvice;

/// Bytes of a mapping.
const SLAB: usize = 32 << 20;
/// Bytes of a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// Mappings with room in them. One is returned to the system when nothing is left in it.
#[derive(Debug, Default)]
pub(crate) struct Slabs(Vec<Weak<Slab>>);

impl Slabs {
    /// A piece of a mapping, aligned as `bytes` is if that is a multiple of the alignment; `None` if
    /// the system maps no more memory. Its contents are those of a former piece, or zeros.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<Piece> {
        debug_assert!(0 < bytes && bytes <= SLAB, "{bytes} bytes");
        self.0.retain(|slab| 0 < slab.strong_count());
        let found = self.0.iter().filter_map(Weak::upgrade).find_map(|slab| slab.take(bytes));
        found.or_else(|| {
            let slab = Arc::new(Slab::new().ok()?);
            self.0.push(Arc::downgrade(&slab));
            slab.take(bytes)
        })
    }
}

/// One mapping.
#[derive(Debug)]
struct Slab {
    start: NonNull<u8>,
    /// Free ranges, length by offset; no two touch.
    free: Mutex<BTreeMap<usize, usize>>,
    /// Keeps the memory where it is.
    mapping: MmapMut,
}

// SAFETY: the memory is reached through pieces alone, which do not overlap.
unsafe impl Send for Slab {}
// SAFETY: as above; the free ranges are behind a lock.
unsafe impl Sync for Slab {}

impl Slab {
    fn new() -> std::io::Result<Self> {
        let mut mapping = MmapMut::map_anon(SLAB)?;
        // An advice that is not taken costs speed only.
        #[cfg(target_os = "linux")]
        let _ = mapping.advise(memmap2::Advice::HugePage);
        let start = NonNull::new(mapping.as_mut_ptr()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, free: Mutex::new(BTreeMap::from([(0, SLAB)])), mapping })
    }

    fn free(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first free range that is long enough, or its beginning.
    fn take(self: Arc<Self>, bytes: usize) -> Option<Piece> {
        let mut free = self.free();
        let (&offset, &len) = free.iter().find(|&(_, &len)| bytes <= len)?;
        free.remove(&offset);
        if bytes < len {
            free.insert(offset + bytes, len - bytes);
        }
        drop(free);
        Some(Piece { slab: self, offset, bytes })
    }

    fn give_back(&self, mut offset: usize, mut bytes: usize) {
        let mut free = self.free();
        if let Some(after) = free.remove(&(offset + bytes)) {
            bytes += after;
        }
        if let Some((&before, &len)) = free.range(..offset).next_back()
            && before + len == offset
        {
            (offset, bytes) = (before, len + bytes);
        }
        free.insert(offset, bytes);
        self.release(offset.next_multiple_of(HUGE_PAGE), (offset + bytes) / HUGE_PAGE * HUGE_PAGE);
    }

    /// Lets the system have the pages of a free range, which are zeros when they are used again.
    fn release(&self, start: usize, end: usize) {
        #[cfg(target_os = "linux")]
        if start < end {
            // SAFETY: nothing lies in the range, and its lock is held: nothing comes there meanwhile.
            let _ = unsafe {
                self.mapping.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start)
            };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (start, end);
    }
}

/// A range of a mapping that belongs to one owner, until it is dropped.
#[derive(Debug)]
pub(crate) struct Piece {
    slab: Arc<Slab>,
    offset: usize,
    bytes: usize,
}

impl Piece {
    /// Where it begins.
    pub(crate) fn pointer(&self) -> NonNull<u8> {
        // SAFETY: the offset lies within the mapping.
        unsafe { self.slab.start.add(self.offset) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.slab.give_back(self.offset, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_do_not_overlap_and_fill_a_mapping() {
        let mut slabs = Slabs::default();
        let pieces: Vec<Piece> = (0..4).map(|_| slabs.take(SLAB / 4).unwrap()).collect();
        let mut starts: Vec<usize> = pieces.iter().map(|piece| piece.offset).collect();
        starts.sort_unstable();
        assert_eq!(starts, [0, SLAB / 4, SLAB / 2, SLAB / 4 * 3]);
        assert_eq!(slabs.0.len(), 1);
        let _one_more = slabs.take(64).unwrap();
        assert_eq!(slabs.0.len(), 2);
    }

    #[test]
    fn neighbors_become_one_range_in_whatever_order_they_return() {
        for order in [[0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 0, 2]] {
            let mut slabs = Slabs::default();
            let _keeps_the_mapping = slabs.take(64).unwrap();
            let mut pieces: Vec<_> = (0..3).map(|_| slabs.take(SLAB / 4)).collect();
            for index in order {
                pieces[index] = None;
            }
            let slab = slabs.0[0].upgrade().unwrap();
            assert_eq!(*slab.free(), BTreeMap::from([(64, SLAB - 64)]));
        }
    }

    #[test]
    fn an_empty_mapping_is_returned_to_the_system() {
        let mut slabs = Slabs::default();
        drop(slabs.take(64));
        assert_eq!(slabs.0[0].strong_count(), 0);
    }
}
