//! A device that notes how long its kernels take.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use hearken_tensor::Device;

/// Kinds of kernels that a profile tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernels {
    /// y = x·Wᵀ, rounding and packing of weights at their first use included.
    Products,
    /// Gradients of products' inputs.
    ProductsBackwardInput,
    /// Gradients of weights and biases.
    ProductsBackwardWeight,
    /// Attention over a batch.
    Attention,
    /// Its gradient.
    AttentionBackward,
    /// Attention over a cache of keys and values, and writing to the cache.
    AttentionCached,
    /// Log-probabilities, and their gradients.
    Head,
    /// Norms, forward and backward.
    Norms,
    /// Activation functions, forward and backward.
    Activations,
    /// Rotations by position.
    Rotary,
    /// Embeddings, and rows that are picked out or put back.
    Rows,
    /// Norm of the gradient, clipping, `AdamW`.
    Optimizer,
    /// Tokens drawn from logits.
    Sampling,
    /// Buffers that are filled, copied, uploaded or downloaded.
    Buffers,
}

impl Kernels {
    /// All of them, in the order of a report.
    pub const ALL: [Self; 14] = [
        Self::Products,
        Self::ProductsBackwardInput,
        Self::ProductsBackwardWeight,
        Self::Attention,
        Self::AttentionBackward,
        Self::AttentionCached,
        Self::Head,
        Self::Norms,
        Self::Activations,
        Self::Rotary,
        Self::Rows,
        Self::Optimizer,
        Self::Sampling,
        Self::Buffers,
    ];

    /// The name that results carry.
    pub fn name(self) -> &'static str {
        match self {
            Self::Products => "products",
            Self::ProductsBackwardInput => "products, gradient of inputs",
            Self::ProductsBackwardWeight => "products, gradient of weights",
            Self::Attention => "attention",
            Self::AttentionBackward => "attention, gradient",
            Self::AttentionCached => "attention over the cache",
            Self::Head => "log-probability head",
            Self::Norms => "norms",
            Self::Activations => "activations",
            Self::Rotary => "rotary positions",
            Self::Rows => "embeddings and rows",
            Self::Optimizer => "optimizer",
            Self::Sampling => "sampling",
            Self::Buffers => "buffers",
        }
    }
}

/// Nanoseconds per kind of kernel. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    nanoseconds: Arc<[AtomicU64; Kernels::ALL.len()]>,
}

impl Profile {
    /// Forgets what was noted.
    pub fn clear(&self) {
        for counter in self.nanoseconds.iter() {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Seconds of each kind.
    pub fn seconds(&self) -> Vec<(Kernels, f64)> {
        let seconds = |kernels: Kernels| {
            let nanoseconds = self.nanoseconds[kernels as usize].load(Ordering::Relaxed);
            (kernels, nanoseconds as f64 * 1e-9)
        };
        Kernels::ALL.map(seconds).to_vec()
    }

    fn add(&self, kernels: Kernels, nanoseconds: u64) {
        self.nanoseconds[kernels as usize].fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

/// A device whose kernels are timed. What a caller does between kernels, and threads that kernels
/// start, are not seen: the times of all kinds are time of the calling thread.
#[derive(Clone, Debug)]
pub struct Timed<D> {
    device: D,
    profile: Profile,
}

impl<D: Device> Timed<D> {
    /// Notes the kernels of `device` in `profile`.
    pub fn new(device: D, profile: Profile) -> Self {
        Self { device, profile }
    }

    fn time<T>(&self, kernels: Kernels, kernel: impl FnOnce(&D) -> T) -> T {
        let start = Instant::now();
        let output = kernel(&self.device);
        let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.profile.add(kernels, nanoseconds);
        output
    }
}

/// Hands every operation on, timed.
macro_rules! timed {
    ($($(#[$meta:meta])* $kind:ident fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)?;)*) => {
        impl<D: Device> Device for Timed<D> {
            type Buffer = D::Buffer;
            type Prepared = D::Prepared;
            type Ids = D::Ids;
            type ForestPlan = D::ForestPlan;
            type CachePlan = D::CachePlan;
            type Deferred<T: Debug + Send> = D::Deferred<T>;

            fn wait<T: Debug + Send>(&self, deferred: Self::Deferred<T>) -> T {
                self.time(Kernels::Buffers, |device| device.wait(deferred))
            }

            fn read<'a>(&self, buffer: &'a Self::Buffer) -> Cow<'a, [f32]> {
                self.time(Kernels::Buffers, |device| device.read(buffer))
            }

            $(fn $name(&self, $($arg: $type),*) $(-> $out)? {
                self.time(Kernels::$kind, |device| device.$name($($arg),*))
            })*
        }
    };
}

hearken_tensor::device_operations!(timed);
