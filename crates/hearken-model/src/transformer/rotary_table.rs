//! Cosines and sines for as many positions as have been asked for.

use std::sync::{Arc, Mutex, PoisonError};

use hearken_tensor::Device;
use hearken_tensor::device::Rotary;

use crate::config::RotaryConfig;

/// Cosines and sines of positions 0 .. positions.
#[derive(Debug)]
pub(crate) struct Tables<B> {
    positions: usize,
    cos: B,
    sin: B,
    rotary_dim: usize,
}

impl<B> Tables<B> {
    pub(crate) fn rotary(&self) -> Rotary<'_, B> {
        Rotary { cos: &self.cos, sin: &self.sin, rotary_dim: self.rotary_dim }
    }
}

/// Grows by doubling, so that a long-context model does not pay for positions it never sees.
#[derive(Debug)]
pub(crate) struct RotaryTable<B> {
    config: RotaryConfig,
    tables: Mutex<Option<Arc<Tables<B>>>>,
}

impl<B> RotaryTable<B> {
    pub(crate) fn new(config: RotaryConfig) -> Self {
        Self { config, tables: Mutex::new(None) }
    }

    /// Tables for at least `positions` positions.
    pub(crate) fn covering<D: Device<Buffer = B>>(
        &self,
        device: &D,
        positions: usize,
    ) -> Arc<Tables<B>> {
        // The guarded value is replaced whole, so a panic elsewhere cannot leave it half-made.
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        match &*tables {
            Some(tables) if positions <= tables.positions => Arc::clone(tables),
            _ => {
                let made = Arc::new(self.compute(device, positions.next_power_of_two().max(256)));
                *tables = Some(Arc::clone(&made));
                made
            }
        }
    }

    fn compute<D: Device<Buffer = B>>(&self, device: &D, positions: usize) -> Tables<B> {
        let frequencies = self.config.frequencies();
        let factor = self.config.attention_factor() as f32;
        let angles = (0..positions)
            .flat_map(|position| frequencies.iter().map(move |f| f64::from(position as f32 * f)));
        let (cos, sin): (Vec<f32>, Vec<f32>) =
            angles.map(|angle| (angle.cos() as f32 * factor, angle.sin() as f32 * factor)).unzip();
        let (cos, sin) = (device.upload(&cos), device.upload(&sin));
        Tables { positions, cos, sin, rotary_dim: self.config.dim }
    }
}
