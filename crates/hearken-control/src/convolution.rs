//! Convolutions of small images on slices: what they cover laid out in rows, then the product of dense layers.
//!
//! Images are `[height, width, channels]`. A weight is `[kernel, kernel, channels, outputs]`, so the patch of an image under
//! a kernel, laid out as it lies, is a row of a product with it. Without padding.

use hearken_env::ObservationSpace;
use hearken_tensor::dense::{
    ProductShape, Start, add_rows, product, transpose, transposed_product,
};
use serde::{Deserialize, Serialize};

/// A layer of convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Convolution {
    /// Numbers of each place that it gives.
    pub outputs: usize,
    /// Pixels of a side of what it covers.
    pub kernel: usize,
    /// Pixels from one place to the next.
    pub stride: usize,
}

/// The sizes of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageShape {
    /// Rows.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Numbers of a pixel.
    pub channels: usize,
}

impl ImageShape {
    /// How many numbers it has.
    pub fn len(self) -> usize {
        self.height * self.width * self.channels
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl Convolution {
    /// What it makes of an image; `None` where that is smaller than the kernel.
    pub fn of(self, image: ImageShape) -> Option<ImageShape> {
        let side = |side: usize| Some(side.checked_sub(self.kernel)? / self.stride + 1);
        let (height, width) = (side(image.height)?, side(image.width)?);
        Some(ImageShape { height, width, channels: self.outputs })
    }
}

/// Whether convolutions can be done on what is seen, and leave no pixel out.
///
/// # Errors
/// What was found, and what was expected.
pub fn fit(convolutions: &[Convolution], observation: ObservationSpace) -> Result<(), String> {
    let ObservationSpace::Image { height, width, channels } = observation else {
        if convolutions.is_empty() {
            return Ok(());
        }
        return Err(format!("found convolutions, expected none: {observation} are no images"));
    };
    let mut image = ImageShape { height, width, channels };
    for layer in convolutions {
        let Convolution { outputs, kernel, stride } = *layer;
        if [outputs, kernel, stride].contains(&0) {
            return Err(format!("found {outputs}, {kernel}, {stride}, expected integers from 1"));
        }
        let seen = layer.of(image).ok_or_else(|| {
            format!(
                "found a kernel of {kernel}, expected at most the {} pixels that are left of a side",
                image.height.min(image.width)
            )
        })?;
        let mut sides = [image.height, image.width].into_iter();
        if let Some(side) = sides.find(|side| (side - kernel) % stride != 0) {
            let left = (side - kernel) % stride;
            return Err(format!(
                "found a kernel of {kernel} every {stride}, which of a side of {side} leaves {left} out at the end, \
                 expected one that fits"
            ));
        }
        image = seen;
    }
    Ok(())
}

/// A layer of convolutions over images of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Convolved {
    pub(crate) layer: Convolution,
    pub(crate) from: ImageShape,
    pub(crate) to: ImageShape,
}

/// What a pass over images writes into, kept from one to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patches {
    /// Patches of one image, `[places, kernel, kernel, channels]`.
    rows: Vec<f32>,
    /// The derivative with respect to them.
    drows: Vec<f32>,
}

impl Convolved {
    /// Length of a patch.
    pub(crate) fn inputs(self) -> usize {
        self.layer.kernel * self.layer.kernel * self.from.channels
    }

    fn places(self) -> usize {
        self.to.height * self.to.width
    }

    /// Calls `each` with the start of every line of every patch in an image, and in the rows; a line is `kernel·channels`
    /// numbers that lie side by side in both.
    fn lines(self, mut each: impl FnMut(usize, usize)) {
        let Self { layer, from, to } = self;
        let line = layer.kernel * from.channels;
        let mut at = 0;
        for row in 0..to.height {
            for column in 0..to.width {
                for inner in 0..layer.kernel {
                    let pixel = (row * layer.stride + inner) * from.width + column * layer.stride;
                    each(pixel * from.channels, at);
                    at += line;
                }
            }
        }
    }

    fn lay_out(self, image: &[f32], rows: &mut Vec<f32>) {
        let line = self.layer.kernel * self.from.channels;
        rows.resize(self.places() * self.inputs(), 0.0);
        self.lines(|from, to| rows[to..to + line].copy_from_slice(&image[from..from + line]));
    }

    /// Runs images, one behind another.
    pub(crate) fn forward(
        self,
        weight: &[f32],
        bias: &[f32],
        images: &[f32],
        outputs: &mut Vec<f32>,
        patches: &mut Patches,
    ) {
        let count = images.len() / self.from.len();
        outputs.resize(count * self.to.len(), 0.0);
        let shape =
            ProductShape { rows: self.places(), inner: self.inputs(), columns: self.layer.outputs };
        let pairs = images.chunks(self.from.len()).zip(outputs.chunks_mut(self.to.len()));
        for (image, output) in pairs {
            self.lay_out(image, &mut patches.rows);
            product(shape, &patches.rows, weight, Start::Bias(bias), output);
        }
    }

    /// Adds the gradients of weight and bias, given the derivative with respect to what the images became.
    pub(crate) fn backward_parameters(
        self,
        images: &[f32],
        doutputs: &[f32],
        dweight: &mut [f32],
        dbias: &mut [f32],
        patches: &mut Patches,
    ) {
        let shape =
            ProductShape { rows: self.inputs(), inner: self.places(), columns: self.layer.outputs };
        let pairs = images.chunks(self.from.len()).zip(doutputs.chunks(self.to.len()));
        for (image, doutput) in pairs {
            self.lay_out(image, &mut patches.rows);
            transposed_product(shape, &patches.rows, doutput, Start::Kept, dweight);
        }
        add_rows(doutputs, dbias);
    }

    /// Writes the derivative with respect to the images; `turned` is a buffer.
    pub(crate) fn backward_images(
        self,
        weight: &[f32],
        doutputs: &[f32],
        dimages: &mut Vec<f32>,
        turned: &mut Vec<f32>,
        patches: &mut Patches,
    ) {
        let (inputs, outputs, places) = (self.inputs(), self.layer.outputs, self.places());
        let count = doutputs.len() / self.to.len();
        turned.resize(inputs * outputs, 0.0);
        transpose(weight, inputs, outputs, turned);
        dimages.clear();
        dimages.resize(count * self.from.len(), 0.0);
        patches.drows.resize(places * inputs, 0.0);
        let shape = ProductShape { rows: places, inner: outputs, columns: inputs };
        let line = self.layer.kernel * self.from.channels;
        let pairs = dimages.chunks_mut(self.from.len()).zip(doutputs.chunks(self.to.len()));
        for (dimage, doutput) in pairs {
            product(shape, doutput, turned, Start::Zero, &mut patches.drows);
            let drows = &patches.drows;
            // Where patches overlap, a pixel has a part in each.
            self.lines(|to, from| {
                for (sum, part) in dimage[to..to + line].iter_mut().zip(&drows[from..from + line]) {
                    *sum += part;
                }
            });
        }
    }
}
