//! A transformer on a device: its parameters, its forward pass, its heads, its backward pass.
//!
//! The forward pass runs over a [`Batch`]: tokens on a segment forest, so that a shared prompt is
//! computed once and nothing is padded. Its result, a [`Pass`], holds the hidden state of every row
//! and what the backward pass needs. The heads read chosen rows of it.

mod adapted;

mod adapter;

mod adapter_names;

mod batch;

mod block;

mod block_backward;

mod footprint;

mod heads;

mod load;

mod masters;

mod model;

mod particles;

mod pass;

mod rotary_table;

pub use adapted::AdaptedRows;
pub use batch::Batch;
pub use footprint::Footprint;
pub use heads::{LogitLoss, OutputGrads};
pub use load::{LoadOptions, LoadReport, ModelError, stored_head};
pub use masters::Masters;
pub use model::Model;
pub use particles::ParticleShape;
pub use pass::{Keep, Pass};

pub(crate) use block::{AttendOver, Block};
