//! Vectors of f32 on cache-line boundaries, taken from a pool and returned to it when dropped.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use memmap2::MmapMut;

use super::slab::{Piece, Slabs};
use crate::device::OutOfMemory;

/// Alignment of every buffer in bytes: a cache line and an AVX-512 register.
const ALIGN: usize = 64;

/// Bytes from which storage is mapped on its own, in huge pages where the system has them: large
/// buffers are streamed through, and small pages would cost faults and address look-ups.
const MAPPED_MIN: usize = 4 << 20;

/// Bytes from which storage is a piece of a larger mapping.
const PIECE_MIN: usize = 64 << 10;

/// Memory that a buffer lives in; its capacity is one of the classes of [`capacity_for`].
#[derive(Debug)]
struct Storage {
    pointer: NonNull<f32>,
    capacity: usize,
    origin: StorageOrigin,
}

/// Where storage comes from, and returns to when it is dropped.
#[derive(Debug)]
enum StorageOrigin {
    /// The allocator; nowhere if there is no capacity.
    Heap,
    /// A piece of a mapping.
    Piece(#[expect(dead_code, reason = "it is held, not read")] Piece),
    /// A mapping of its own.
    Mapping(
        #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "it is held, not read"))]
        MmapMut,
    ),
}

// SAFETY: the storage is owned uniquely, as a Vec's would be.
unsafe impl Send for Storage {}
// SAFETY: shared access only reads.
unsafe impl Sync for Storage {}

impl Storage {
    fn empty() -> Self {
        Self { pointer: NonNull::dangling(), capacity: 0, origin: StorageOrigin::Heap }
    }

    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity * size_of::<f32>(), ALIGN)
            .expect("invariant: a buffer is smaller than the address space")
    }

    /// Storage, and whether it is known to be zero.
    fn new(capacity: usize, slabs: Option<&mut Slabs>) -> Result<(Self, bool), OutOfMemory> {
        let bytes = Self::layout(capacity).size();
        let slabs = slabs.filter(|_| (PIECE_MIN..MAPPED_MIN).contains(&bytes));
        if let Some(piece) = slabs.and_then(|slabs| slabs.take(bytes)) {
            let pointer = piece.pointer().cast();
            return Ok((Self { pointer, capacity, origin: StorageOrigin::Piece(piece) }, false));
        }
        Ok((Self::new_zeros(capacity)?, true))
    }

    /// Zeros.
    fn new_zeros(capacity: usize) -> Result<Self, OutOfMemory> {
        if capacity == 0 {
            return Ok(Self::empty());
        }
        let layout = Self::layout(capacity);
        if layout.size() >= MAPPED_MIN
            && let Ok(mut mapping) = MmapMut::map_anon(layout.size())
        {
            // An advice that is not taken costs speed only.
            #[cfg(target_os = "linux")]
            let _ = mapping.advise(memmap2::Advice::HugePage);
            if let Some(pointer) = NonNull::new(mapping.as_mut_ptr().cast()) {
                return Ok(Self { pointer, capacity, origin: StorageOrigin::Mapping(mapping) });
            }
        }
        // SAFETY: the layout's size is not 0.
        let pointer = unsafe { alloc_zeroed(layout) }.cast();
        let pointer = NonNull::new(pointer).ok_or(OutOfMemory { bytes: layout.size() })?;
        Ok(Self { pointer, capacity, origin: StorageOrigin::Heap })
    }
}

#[cfg(target_os = "linux")]
impl Storage {
    /// A mapping of another capacity: what both have stays, and costs no new pages. The storage itself where it is no
    /// mapping, or the system refuses.
    fn resized(mut self, capacity: usize) -> Result<Self, Self> {
        let StorageOrigin::Mapping(mapping) = &mut self.origin else { return Err(self) };
        let options = memmap2::RemapOptions::new().may_move(true);
        // SAFETY: no file is behind the memory, and nobody else has a pointer to it: it is owned uniquely.
        let is_resized = unsafe { mapping.remap(Self::layout(capacity).size(), options) }.is_ok();
        match NonNull::new(mapping.as_mut_ptr().cast()).filter(|_| is_resized) {
            Some(pointer) => {
                self.pointer = pointer;
                self.capacity = capacity;
                Ok(self)
            }
            None => Err(self),
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Storage {
    fn resized(self, _capacity: usize) -> Result<Self, Self> {
        Err(self)
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if self.capacity > 0 && matches!(self.origin, StorageOrigin::Heap) {
            // SAFETY: allocated in `new_zeros` with this layout.
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
/// Storage in use and waiting together exceed what was once in use at the same time by little:
/// where they would by more, waiting storage is freed. So the pool costs little memory at the peak.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    shelves: Mutex<Shelves>,
    for_weights: OnceLock<Arc<BufferPool>>,
}

/// What the pool may hold when at most so many elements were in use at a time: a part more, for
/// classes that are not in use together, and a constant that lets small programs keep all they have.
fn allowed(elements_in_use_max: usize) -> usize {
    elements_in_use_max + elements_in_use_max / 32 + (8 << 20)
}

#[derive(Debug, Default)]
struct Shelves {
    waiting: BTreeMap<usize, Vec<Storage>>,
    elements_waiting: usize,
    elements_in_use: usize,
    elements_in_use_max: usize,
    /// Buffers for which nothing waited.
    made: u64,
    /// Where storage of middling size comes from, if not from the allocator.
    slabs: Option<Slabs>,
}

impl BufferPool {
    /// The pool for packed weights and caches: they are few sizes that return, with every update or
    /// every call, and they are streamed through, so that all but the smallest lie in shared mappings
    /// of huge pages.
    pub(crate) fn for_weights(&self) -> &Arc<Self> {
        self.for_weights.get_or_init(|| {
            let shelves = Shelves { slabs: Some(Slabs::default()), ..Shelves::default() };
            Arc::new(Self { shelves: Mutex::new(shelves), for_weights: OnceLock::new() })
        })
    }

    /// Buffers that storage was made for, since nothing that waited was of their size.
    pub(crate) fn made(&self) -> u64 {
        let for_weights = self.for_weights.get().map_or(0, |pool| pool.shelves().made);
        self.shelves().made + for_weights
    }

    fn shelves(&self) -> std::sync::MutexGuard<'_, Shelves> {
        // A panic elsewhere leaves counts and shelves consistent: they change without calls out.
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Storage for `len` elements, and whether it is known to be zero.
    fn take(&self, len: usize) -> Result<(Storage, bool), OutOfMemory> {
        let capacity = capacity_for(len);
        let (mut other, mut freed) = (None, Vec::new());
        {
            let mut shelves = self.shelves();
            if let Some(storage) = shelves.pop(capacity) {
                shelves.count_use(storage.capacity);
                return Ok((storage, false));
            }
            shelves.count_use(capacity);
            shelves.made += 1;
            let allowed = allowed(shelves.elements_in_use_max);
            let is_over =
                |shelves: &Shelves| shelves.elements_in_use + shelves.elements_waiting > allowed;
            // New pages are cleared by the system, which costs more than what is done with them often does.
            if is_over(&shelves) && MAPPED_MIN <= Storage::layout(capacity).size() {
                other = shelves.pop_above(capacity).or_else(|| shelves.pop_largest());
            }
            while is_over(&shelves) {
                let Some(storage) = shelves.pop_largest() else { break };
                freed.push(storage);
            }
        }
        drop(freed);
        if let Some(Ok(storage)) = other.map(|other| other.resized(capacity)) {
            return Ok((storage, false));
        }
        let made = Storage::new(capacity, self.shelves().slabs.as_mut());
        if made.is_err() {
            self.shelves().elements_in_use -= capacity;
        }
        made
    }

    fn give_back(&self, storage: Storage) {
        let mut shelves = self.shelves();
        shelves.elements_in_use -= storage.capacity;
        shelves.elements_waiting += storage.capacity;
        shelves.waiting.entry(storage.capacity).or_default().push(storage);
    }
}

impl Shelves {
    fn count_use(&mut self, capacity: usize) {
        self.elements_in_use += capacity;
        self.elements_in_use_max = self.elements_in_use_max.max(self.elements_in_use);
    }

    /// Storage of the class, or of one that is larger by at most a quarter.
    fn pop(&mut self, capacity: usize) -> Option<Storage> {
        let near = self.waiting.range_mut(capacity..=capacity + capacity / 4);
        let storage = near.map(|(_, shelf)| shelf).find_map(Vec::pop)?;
        self.elements_waiting -= storage.capacity;
        Some(storage)
    }

    /// The smallest that is as large.
    fn pop_above(&mut self, capacity: usize) -> Option<Storage> {
        let storage = self.waiting.range_mut(capacity..).find_map(|(_, shelf)| shelf.pop())?;
        self.elements_waiting -= storage.capacity;
        Some(storage)
    }

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
    pool: Arc<BufferPool>,
}

impl Buffer {
    /// Contents are those of a dropped buffer, or zeros.
    pub(crate) fn scratch(pool: &Arc<BufferPool>, len: usize) -> Self {
        Self::try_scratch(pool, len).unwrap_or_else(|error| no_room(error))
    }

    pub(crate) fn zeros(pool: &Arc<BufferPool>, len: usize) -> Self {
        let (storage, zero) = pool.take(len).unwrap_or_else(|error| no_room(error));
        let mut buffer = Self { storage, len, pool: pool.clone() };
        if !zero {
            buffer.fill(0.0);
        }
        buffer
    }

    pub(crate) fn try_scratch(pool: &Arc<BufferPool>, len: usize) -> Result<Self, OutOfMemory> {
        let (storage, _) = pool.take(len)?;
        Ok(Self { storage, len, pool: pool.clone() })
    }
}

/// Ends the program, as it does where the standard library finds no room.
fn no_room(error: OutOfMemory) -> ! {
    let layout = Layout::from_size_align(error.bytes, ALIGN);
    handle_alloc_error(layout.expect("invariant: a buffer is smaller than the address space"))
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let storage = std::mem::replace(&mut self.storage, Storage::empty());
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
        let pool = Arc::new(BufferPool::default());
        let first = Buffer::scratch(&pool, 1000);
        let pointer = first.as_ptr();
        drop(first);
        let second = Buffer::scratch(&pool, 990);
        assert_eq!(second.as_ptr(), pointer);
        assert_eq!(pointer.align_offset(ALIGN), 0);
    }

    #[test]
    fn mapped_storage_is_as_good_as_any() {
        let pool = Arc::new(BufferPool::default());
        let mut buffer = Buffer::zeros(&pool, MAPPED_MIN);
        assert!(matches!(buffer.storage.origin, StorageOrigin::Mapping(_)));
        assert!(buffer.iter().all(|&x| x == 0.0));
        buffer.fill(2.0);
        drop(buffer);
        assert!(Buffer::zeros(&pool, MAPPED_MIN).iter().all(|&x| x == 0.0));
    }

    #[test]
    fn pieces_of_a_mapping_are_aligned_and_cleared_where_zeros_are_asked_for() {
        let pool = Arc::clone(BufferPool::default().for_weights());
        let _keeps_the_mapping = Buffer::scratch(&pool, PIECE_MIN);
        for len in [PIECE_MIN / 4, PIECE_MIN / 4 + 1, 123_456] {
            let mut buffer = Buffer::scratch(&pool, len);
            assert!(matches!(buffer.storage.origin, StorageOrigin::Piece(_)));
            assert_eq!(buffer.as_ptr().align_offset(ALIGN), 0);
            buffer.fill(3.0);
        }
        // What the pool frees becomes free in the mapping, with the values it had.
        let mut shelves = pool.shelves();
        while shelves.pop_largest().is_some() {}
        drop(shelves);
        assert!((0..4).all(|_| Buffer::zeros(&pool, 20_000).iter().all(|&x| x == 0.0)));
    }

    #[test]
    fn mappings_get_another_size_before_there_are_more_of_them() {
        let pool = Arc::new(BufferPool::default());
        // As much as the pool keeps of programs that need little.
        let large = 32 << 20;
        let mut first = Buffer::scratch(&pool, large);
        first.fill(3.0);
        drop(first);
        for len in [large / 2, large / 8, large, large * 5 / 4] {
            let mut buffer = Buffer::zeros(&pool, len);
            assert!(buffer.iter().all(|&x| x == 0.0), "{len}");
            buffer.fill(4.0);
            let shelves = pool.shelves();
            assert!(shelves.elements_in_use + shelves.elements_waiting <= allowed(large * 5 / 4));
            assert_eq!(buffer.storage.capacity, capacity_for(len));
            drop(shelves);
        }
    }

    #[test]
    fn reused_storage_is_cleared_where_zeros_are_asked_for() {
        let pool = Arc::new(BufferPool::default());
        let mut first = Buffer::scratch(&pool, 40);
        first.fill(3.0);
        drop(first);
        assert!(Buffer::zeros(&pool, 40).iter().all(|&x| x == 0.0));
    }

    #[test]
    fn the_pool_holds_little_more_than_was_once_in_use() {
        let pool = Arc::new(BufferPool::default());
        let largest = 24 << 20;
        drop(Buffer::scratch(&pool, largest));
        for part in [2, 3, 5, 7, 11, 13, 17] {
            drop(Buffer::scratch(&pool, largest / part));
            let shelves = pool.shelves();
            let held = shelves.elements_waiting + shelves.elements_in_use;
            assert!(held <= allowed(largest), "{held}");
            assert_eq!(shelves.elements_in_use_max, capacity_for(largest));
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
