//! Vectors of f32 on cache-line boundaries, taken from a pool and returned to it when dropped.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// Alignment of every buffer in bytes: a cache line and an AVX-512 register.
const ALIGN: usize = 64;

/// Memory that a buffer lives in; its capacity is one of the classes of [`capacity_for`].
#[derive(Debug)]
struct Storage {
    pointer: NonNull<f32>,
    capacity: usize,
}

// SAFETY: the storage is owned uniquely, as a Vec's would be.
unsafe impl Send for Storage {}
// SAFETY: shared access only reads.
unsafe impl Sync for Storage {}

impl Storage {
    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity * size_of::<f32>(), ALIGN)
            .expect("invariant: a buffer is smaller than the address space")
    }

    fn new(capacity: usize) -> Self {
        if capacity == 0 {
            return Self { pointer: NonNull::dangling(), capacity };
        }
        let layout = Self::layout(capacity);
        // SAFETY: the layout's size is not 0.
        let pointer = unsafe { alloc_zeroed(layout) }.cast();
        let pointer = NonNull::new(pointer).unwrap_or_else(|| handle_alloc_error(layout));
        Self { pointer, capacity }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if self.capacity > 0 {
            // SAFETY: allocated in `new` with this layout.
            unsafe { dealloc(self.pointer.as_ptr().cast(), Self::layout(self.capacity)) }
        }
    }
}

/// The capacity given to a buffer of `len` elements: steps of 1/8 of a power of two, so that
/// batches of similar but unequal lengths share memory at a loss of at most 1/8.
fn capacity_for(len: usize) -> usize {
    if len <= 128 {
        return len.next_multiple_of(16);
    }
    len.next_multiple_of(1 << (len.ilog2() - 3))
}

/// Dropped storage, waiting for the next buffer of its class.
///
/// Storage in use and waiting together never exceed what was once in use at the same time: where
/// they would, waiting storage is freed. So the pool costs no memory at the peak.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Shelves>);

#[derive(Debug, Default)]
struct Shelves {
    waiting: BTreeMap<usize, Vec<Storage>>,
    elements_waiting: usize,
    elements_in_use: usize,
    elements_in_use_max: usize,
}

impl Pool {
    fn shelves(&self) -> std::sync::MutexGuard<'_, Shelves> {
        // A panic elsewhere leaves counts and shelves consistent: they change without calls out.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Storage for `len` elements, and whether it is known to be zero.
    fn take(&self, len: usize) -> (Storage, bool) {
        let capacity = capacity_for(len);
        let mut freed = Vec::new();
        {
            let mut shelves = self.shelves();
            shelves.elements_in_use += capacity;
            shelves.elements_in_use_max = shelves.elements_in_use_max.max(shelves.elements_in_use);
            if let Some(storage) = shelves.waiting.get_mut(&capacity).and_then(Vec::pop) {
                shelves.elements_waiting -= capacity;
                return (storage, false);
            }
            while shelves.elements_in_use + shelves.elements_waiting > shelves.elements_in_use_max {
                let Some(storage) = shelves.pop_largest() else { break };
                freed.push(storage);
            }
        }
        drop(freed);
        (Storage::new(capacity), true)
    }

    fn give_back(&self, storage: Storage) {
        let mut shelves = self.shelves();
        shelves.elements_in_use -= storage.capacity;
        shelves.elements_waiting += storage.capacity;
        shelves.waiting.entry(storage.capacity).or_default().push(storage);
    }
}

impl Shelves {
    fn pop_largest(&mut self) -> Option<Storage> {
        let storage = self.waiting.values_mut().rev().find_map(Vec::pop)?;
        self.elements_waiting -= storage.capacity;
        Some(storage)
    }
}

/// A vector of f32 in the processor's memory.
#[derive(Debug)]
pub struct Buffer {
    storage: Storage,
    len: usize,
    pool: Arc<Pool>,
}

impl Buffer {
    /// Contents are those of a dropped buffer, or zeros.
    pub(crate) fn scratch(pool: &Arc<Pool>, len: usize) -> Self {
        let (storage, _) = pool.take(len);
        Self { storage, len, pool: pool.clone() }
    }

    pub(crate) fn zeros(pool: &Arc<Pool>, len: usize) -> Self {
        let (storage, zero) = pool.take(len);
        let mut buffer = Self { storage, len, pool: pool.clone() };
        if !zero {
            buffer.fill(0.0);
        }
        buffer
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let empty = Storage { pointer: NonNull::dangling(), capacity: 0 };
        let storage = std::mem::replace(&mut self.storage, empty);
        self.pool.give_back(storage);
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: the storage has at least `len` initialized elements.
        unsafe { std::slice::from_raw_parts(self.storage.pointer.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and the storage is owned uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.storage.pointer.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_used_again() {
        let pool = Arc::new(Pool::default());
        let first = Buffer::scratch(&pool, 1000);
        let pointer = first.as_ptr();
        drop(first);
        let second = Buffer::scratch(&pool, 990);
        assert_eq!(second.as_ptr(), pointer);
        assert_eq!(pointer.align_offset(ALIGN), 0);
    }

    #[test]
    fn reused_storage_is_cleared_where_zeros_are_asked_for() {
        let pool = Arc::new(Pool::default());
        let mut first = Buffer::scratch(&pool, 40);
        first.fill(3.0);
        drop(first);
        assert!(Buffer::zeros(&pool, 40).iter().all(|&x| x == 0.0));
    }

    #[test]
    fn the_pool_never_holds_more_than_was_once_in_use() {
        let pool = Arc::new(Pool::default());
        drop(Buffer::scratch(&pool, 10_000));
        for len in [100, 5000, 2000, 7000, 3000] {
            drop(Buffer::scratch(&pool, len));
            let shelves = pool.shelves();
            let held = shelves.elements_waiting + shelves.elements_in_use;
            assert!(held <= shelves.elements_in_use_max, "{held}");
            assert_eq!(shelves.elements_in_use_max, capacity_for(10_000));
        }
    }

    #[test]
    fn classes_waste_at_most_an_eighth() {
        for len in 129..5000 {
            let capacity = capacity_for(len);
            assert!(len <= capacity && capacity <= len + len / 8, "{len} {capacity}");
        }
    }
}
