//! Buffers and kernels, once per device: the only crate that holds `unsafe` and names a device.
//!
//! [`Device`] is the seam: the model above is written once over it, and each device implements its
//! coarse operations with their backward passes. [`Forest`] says which row of a batch sees which.
//!
//! Read in this order: [`forest`], [`device`], [`kernels`], then [`cpu`].
//!
//! Not here: what a model is, what a loss is, and any notion of a tensor graph.
#![deny(missing_docs)]

pub mod forest;

#[macro_use]
mod operations;

pub mod device;
pub mod draw;
pub mod dropout;
mod stochastic;

pub mod dense;

pub mod cpu;

pub mod kernels;

pub mod mapped_file;

pub mod reference;

pub mod any;

pub use any::AnyDevice;
pub use cpu::Cpu;
pub use device::Device;
pub use forest::Forest;
pub use kernels::KernelFamily;
pub use reference::Reference;
