//! One block backward, in the reverse order of [`super::block`].

use hearken_tensor::Device;
use hearken_tensor::device::{Activation, Rotation, Rows, View, ViewMut, Write};

use super::block::{Block, Geometry};
use super::pass::{
    AttentionActivations, BlockActivations, HeadNormTape, InputTape, MlpActivations, NormTape,
};
use crate::architecture::{LinearParams, PartNorms};
use crate::config::{Mlp, Residual};
use crate::params::Gradients;

impl<D: Device> Block<'_, D> {
    /// Turns `dx[T, d]`, the gradient of the block's output, into that of its input, and adds the
    /// gradients of the block's parameters.
    pub(crate) fn backward(
        &self,
        tape: &BlockActivations<D>,
        geometry: &Geometry<D>,
        forest: &D::ForestPlan,
        dx: &mut D::Buffer,
        gradients: &mut Gradients<D>,
    ) {
        let (mlp, attention) = (&tape.mlp, &tape.attention);
        let [first, second] = &tape.outputs;
        match self.model.config.residual {
            Residual::Serial => {
                let norms = self.plan.mlp_norms;
                let doutput = self.output_backward(second.as_ref(), norms, dx, gradients);
                let dread = self.mlp_backward(mlp, doutput.as_ref().unwrap_or(dx), gradients);
                self.input_backward(&mlp.input, &dread, dx, gradients);
                let norms = self.plan.attention_norms;
                let doutput = self.output_backward(first.as_ref(), norms, dx, gradients);
                let dy = doutput.as_ref().unwrap_or(dx);
                let dread = self.attention_backward(attention, geometry, forest, dy, gradients);
                self.input_backward(&attention.input, &dread, dx, gradients);
            }
            Residual::Parallel => {
                let from_mlp = self.mlp_backward(mlp, dx, gradients);
                let dread = self.attention_backward(attention, geometry, forest, dx, gradients);
                self.input_backward(&mlp.input, &from_mlp, dx, gradients);
                self.input_backward(&attention.input, &dread, dx, gradients);
            }
        }
    }

    /// The gradient of what a part gave before its norm, where that is not the stream's.
    fn output_backward(
        &self,
        tape: Option<&NormTape<D>>,
        norms: PartNorms,
        dx: &D::Buffer,
        gradients: &mut Gradients<D>,
    ) -> Option<D::Buffer> {
        let width = self.model.config.width;
        let scale = self.model.config.residual_scale;
        let scaled = scale.map(|scale| self.model.scaled(dx, self.rows * width, scale));
        let (Some(tape), Some(params)) = (tape, norms.after) else { return scaled };
        let mut doutput = self.scratch(width);
        let dy = self.view(scaled.as_ref().unwrap_or(dx), width);
        let out = self.view_mut(&mut doutput, width);
        self.model.norm_backward(tape, params, dy, out, Write::Overwrite, gradients);
        Some(doutput)
    }

    /// Adds the gradient of what a part read to that of the stream.
    fn input_backward(
        &self,
        tape: &InputTape<D>,
        dread: &D::Buffer,
        dx: &mut D::Buffer,
        gradients: &mut Gradients<D>,
    ) {
        match tape {
            InputTape::Plain(_) => self.model.device.add_scaled(dread, 1.0, dx),
            InputTape::Normed(params, tape) => {
                let width = self.model.config.width;
                let (dy, dx) = (self.view(dread, width), self.view_mut(dx, width));
                self.model.norm_backward(tape, *params, dy, dx, Write::Add, gradients);
            }
        }
    }

    /// The gradients of several linear maps that read the same rows: returns that of the rows.
    fn parts_backward(
        &self,
        input: &D::Buffer,
        parts: &[(LinearParams, Rows)],
        dy: &D::Buffer,
        gradients: &mut Gradients<D>,
    ) -> D::Buffer {
        let width = self.model.config.width;
        let mut dinput = self.scratch(width);
        for (index, &(params, columns)) in parts.iter().enumerate() {
            let (x, dy) = (self.view(input, width), View::new(dy, columns));
            let write = if index == 0 { Write::Overwrite } else { Write::Add };
            let dx = self.view_mut(&mut dinput, width);
            self.linear_backward(Some(x), params, dy, dx, write, gradients);
        }
        dinput
    }

    fn mlp_backward(
        &self,
        tape: &MlpActivations<D>,
        dx: &D::Buffer,
        gradients: &mut Gradients<D>,
    ) -> D::Buffer {
        let (model, device, config) = (self.model, &self.model.device, &self.model.config);
        let (down, inner) = (self.mlp_down(), config.inner);
        let dy = self.view(dx, config.width);
        let after = model.wants(down, gradients).then(|| self.activated(&tape.before));
        let x = after.as_ref().map(|after| self.view(after, inner));
        let mut dafter = self.scratch(inner);
        let out = self.view_mut(&mut dafter, inner);
        self.linear_backward(x, down, dy, out, Write::Overwrite, gradients);
        drop(after);
        let mut dbefore = self.scratch(self.mlp_width());
        match config.mlp {
            Mlp::Gelu(gelu) => {
                let activation = Activation::Gelu(gelu);
                device.activation_backward(activation, &tape.before, &dafter, &mut dbefore);
            }
            Mlp::Gated(gate) => {
                device.gated_backward(gate, &tape.before, inner, &dafter, &mut dbefore);
            }
        }
        drop(dafter);
        let read = self.read_again(&tape.input);
        self.parts_backward(&read, &self.mlp_parts(), &dbefore, gradients)
    }

    fn attention_backward(
        &self,
        tape: &AttentionActivations<D>,
        geometry: &Geometry<D>,
        forest: &D::ForestPlan,
        dx: &D::Buffer,
        gradients: &mut Gradients<D>,
    ) -> D::Buffer {
        let (model, device, config) = (self.model, &self.model.device, &self.model.config);
        let (output, query_width) = (self.plan.attention_output, config.query_width());
        let dy = self.view(dx, config.width);
        let attended = self.view(&tape.attended, query_width);
        let mut dattended = self.scratch(query_width);
        let out = self.view_mut(&mut dattended, query_width);
        self.linear_backward(Some(attended), output, dy, out, Write::Overwrite, gradients);

        let layout = model.plan.qkv_layout;
        let parameters = self.attention_parameters();
        let mut dqkv = self.scratch(layout.row_stride);
        device.attention_backward(
            &tape.qkv,
            layout,
            forest,
            parameters,
            &tape.attended,
            &tape.log_sum_exp,
            &dattended,
            &mut dqkv,
        );
        if let Some(tables) = self.tables(geometry) {
            for heads in [layout.query, layout.key] {
                let (positions, rotary) = (&geometry.positions, tables.rotary());
                device.rotary(&mut dqkv, layout, heads, positions, rotary, Rotation::Backward);
            }
        }
        if let Some(norms) = &tape.head_norms {
            dqkv = self.head_norms_backward(norms, &dqkv, gradients);
        }
        let read = self.read_again(&tape.input);
        self.parts_backward(&read, &self.qkv_parts(), &dqkv, gradients)
    }

    fn head_norms_backward(
        &self,
        tape: &HeadNormTape<D>,
        dqkv: &D::Buffer,
        gradients: &mut Gradients<D>,
    ) -> D::Buffer {
        let device = &self.model.device;
        let (query, key) = self.plan.query_key_norm.expect("the family norms heads");
        let [query_parts, key_parts] = self.normed_parts();
        let mut dprojected = self.scratch(self.model.plan.qkv_layout.row_stride);
        device.copy(dqkv, &mut dprojected);
        let [queries, keys] = self.query_key_columns();
        let parts = [
            (queries, query_parts, query, &tape.query_rstd),
            (keys, key_parts, key, &tape.key_rstd),
        ];
        for (rows, heads, weight, rstd) in parts {
            device.rms_norm_backward(
                View::new(&tape.projected, rows),
                heads,
                self.model.norm_factors(weight).values(),
                rstd,
                View::new(dqkv, rows),
                ViewMut::new(&mut dprojected, rows),
                Write::Overwrite,
                gradients.get_mut(weight),
            );
        }
        dprojected
    }
}
