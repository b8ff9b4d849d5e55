//! Credit per token or per completion.
//!
//! Estimating ([`gae`], [`group`]) and scaling ([`whiten`](mod@whiten)) are separate: nothing here
//! whitens unless its name says so.

pub mod gae;
pub mod group;
pub mod whiten;
