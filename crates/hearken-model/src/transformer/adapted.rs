//! A block's linear maps with their adapters, forward and backward.

use std::ops::Range;

use hearken_tensor::Device;
use hearken_tensor::device::{Dropout, Rows, View, ViewMut, Weight, Write};

use super::adapter::Site;
use super::block::Block;
use super::model::Model;
use crate::architecture::LinearParams;
use crate::params::Gradients;

/// Rows of a pass that go through an adapter beside the weights that all rows share.
#[derive(Debug)]
pub struct AdaptedRows<'a, D: Device> {
    /// Which rows.
    pub rows: Range<usize>,
    /// The model with the adapter, over the same weights; see [`Model::with_adapter`].
    pub model: &'a Model<D>,
}

/// Some rows of a matrix.
fn part(of: Rows, rows: &Range<usize>) -> Rows {
    Rows { rows: rows.len(), offset: of.offset + rows.start * of.stride, ..of }
}

impl<D: Device> Model<D> {
    /// Whether the backward pass of a linear map reads what the map read: for its own gradients or for
    /// those of its adapter.
    pub(super) fn wants(&self, params: LinearParams, gradients: &Gradients<D>) -> bool {
        let own =
            gradients.wants(params.weight) || params.bias.is_some_and(|bias| gradients.wants(bias));
        own || self.site(params).is_some_and(|site| site.is_trained(gradients))
    }

    fn site(&self, params: LinearParams) -> Option<&Site> {
        self.lora.as_ref()?.sites.get(&params.weight)
    }

    /// A or B; their products are of f32 values in every model.
    fn factor(&self, params: LinearParams) -> Weight<'_, D::Buffer, D::Prepared> {
        let param = self.param(params.weight);
        let shape = Site::shape(params);
        Weight { values: &param.values, prepared: &param.prepared, shape }
    }
}

impl<D: Device> Block<'_, D> {
    /// y += x·Wᵀ + bias, with the adapter.
    pub(super) fn linear(
        &self,
        x: View<'_, D::Buffer>,
        params: LinearParams,
        y: ViewMut<'_, D::Buffer>,
    ) {
        let model = self.model;
        let bias = params.bias.map(|bias| &model.param(bias).values);
        let to = ViewMut::new(&mut *y.buffer, y.rows);
        model.device.linear(x, model.weight(params), bias, to, Write::Add);
        self.adapt(x, params, y);
    }

    /// Several products of the same rows, each into its own columns of `y`, with their adapters.
    pub(super) fn linear_parts(
        &self,
        x: View<'_, D::Buffer>,
        parts: &[(LinearParams, Rows)],
        y: &mut D::Buffer,
    ) {
        self.model.linear_parts(x, parts, y);
        for &(params, columns) in parts {
            self.adapt(x, params, ViewMut::new(y, columns));
        }
    }

    /// y += s·dropout(x)·Aᵀ·Bᵀ, if the linear map has an adapter; or of some rows, by adapters of theirs.
    fn adapt(&self, x: View<'_, D::Buffer>, params: LinearParams, mut y: ViewMut<'_, D::Buffer>) {
        for adapted in self.adapted {
            self.adapt_rows(adapted, x, params, &mut y);
        }
        let Some(site) = self.model.site(params) else { return };
        let dropped = self.dropped(x, site);
        let x = dropped.as_ref().map_or(x, |dropped| self.view(dropped, x.rows.width));
        let reduced = self.reduced(x, site);
        let reduced = self.view(&reduced, site.rank());
        self.model.device.linear(reduced, self.model.factor(site.b), None, y, Write::Add);
    }

    /// y += s·x·Aᵀ·Bᵀ of the rows of one adapter.
    fn adapt_rows(
        &self,
        AdaptedRows { rows, model }: &AdaptedRows<'_, D>,
        x: View<'_, D::Buffer>,
        params: LinearParams,
        y: &mut ViewMut<'_, D::Buffer>,
    ) {
        let Some(site) = model.site(params) else { return };
        let (device, dense) = (&self.model.device, Rows::dense(rows.len(), site.rank()));
        let mut reduced = device.scratch(dense.end());
        let x = View::new(x.buffer, part(x.rows, rows));
        let to = ViewMut::new(&mut reduced, dense);
        device.linear(x, model.factor(site.a), None, to, Write::Overwrite);
        let reduced = model.scaled(&reduced, dense.end(), site.scale as f32);
        let y = ViewMut::new(&mut *y.buffer, part(y.rows, rows));
        device.linear(View::new(&reduced, dense), model.factor(site.b), None, y, Write::Add);
    }

    /// What the adapter reads where elements are dropped.
    fn dropped(&self, x: View<'_, D::Buffer>, site: &Site) -> Option<D::Buffer> {
        let keys = self.dropout?;
        let mut dropped = self.scratch(x.rows.width);
        let to = self.view_mut(&mut dropped, x.rows.width);
        self.model.device.dropout(x, keys, self.dropout_at(site), to, Write::Overwrite);
        Some(dropped)
    }

    fn dropout_at(&self, site: &Site) -> Dropout {
        let rate = self.model.lora.as_ref().map_or(0.0, |lora| lora.config.dropout);
        Dropout { site: site.number, rate: rate as f32 }
    }

    /// s·x·Aᵀ, `[T, r]`.
    fn reduced(&self, x: View<'_, D::Buffer>, site: &Site) -> D::Buffer {
        let mut reduced = self.scratch(site.rank());
        let to = self.view_mut(&mut reduced, site.rank());
        self.model.device.linear(x, self.model.factor(site.a), None, to, Write::Overwrite);
        self.scaled(&reduced, site)
    }

    fn scaled(&self, rows: &D::Buffer, site: &Site) -> D::Buffer {
        self.model.scaled(rows, self.rows * site.rank(), site.scale as f32)
    }

    /// Writes or adds the gradient of what a linear map read, and adds those of its parameters and of its
    /// adapter; `x` may be left out where [`Model::wants`] says that it is not read.
    pub(super) fn linear_backward(
        &self,
        x: Option<View<'_, D::Buffer>>,
        params: LinearParams,
        dy: View<'_, D::Buffer>,
        dx: ViewMut<'_, D::Buffer>,
        write: Write,
        gradients: &mut Gradients<D>,
    ) {
        let model = self.model;
        if let Some(x) = x {
            model.linear_backward_parameters(x, params, dy, gradients);
        }
        let to = ViewMut::new(&mut *dx.buffer, dx.rows);
        model.device.linear_backward_input(dy, model.weight(params), to, write);
        if let Some(site) = model.site(params) {
            self.adapter_backward(x, site, dy, dx, gradients);
        }
    }

    /// With z = s·x̃·Aᵀ and g = s·dy·B, where x̃ is x after dropout: dB += dyᵀ·z, dA += gᵀ·x̃, dx̃ += g·A.
    fn adapter_backward(
        &self,
        x: Option<View<'_, D::Buffer>>,
        site: &Site,
        dy: View<'_, D::Buffer>,
        dx: ViewMut<'_, D::Buffer>,
        gradients: &mut Gradients<D>,
    ) {
        let (model, device) = (self.model, &self.model.device);
        let mut g = self.scratch(site.rank());
        let to = self.view_mut(&mut g, site.rank());
        device.linear_backward_input(dy, model.factor(site.b), to, Write::Overwrite);
        let g = self.scaled(&g, site);
        let g = self.view(&g, site.rank());
        if let Some(x) = x.filter(|_| site.is_trained(gradients)) {
            let dropped = self.dropped(x, site);
            let x = dropped.as_ref().map_or(x, |dropped| self.view(dropped, x.rows.width));
            if let Some(db) = gradients.get_mut(site.b.weight) {
                let z = self.reduced(x, site);
                let z = self.view(&z, site.rank());
                device.linear_backward_weight(dy, z, Site::shape(site.b), db);
            }
            if let Some(da) = gradients.get_mut(site.a.weight) {
                device.linear_backward_weight(g, x, Site::shape(site.a), da);
            }
        }
        let Some(keys) = self.dropout else {
            device.linear_backward_input(g, model.factor(site.a), dx, Write::Add);
            return;
        };
        let width = site.a.inputs;
        let mut ddropped = self.scratch(width);
        let to = self.view_mut(&mut ddropped, width);
        device.linear_backward_input(g, model.factor(site.a), to, Write::Overwrite);
        let from = self.view(&ddropped, width);
        device.dropout(from, keys, self.dropout_at(site), dx, Write::Add);
    }
}
