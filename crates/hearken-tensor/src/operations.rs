//! The list of a device's operations.

/// The list of a device's operations, each with the kind of kernels that it belongs to. The trait
/// [`Device`](crate::Device) is made of it, and so is any device that hands each operation on to another one: the
/// macro named is called with the whole list.
#[macro_export]
macro_rules! device_operations {
    ($made_into:ident) => {
        $made_into! {
            // ---- buffers ------------------------------------------------------------------------

            /// A buffer of zeros.
            Buffers fn zeros(len: usize) -> Self::Buffer;
            /// A buffer with unspecified (but initialized) contents, reused from dropped ones if it can
            /// be.
            Buffers fn scratch(len: usize) -> Self::Buffer;
            /// As [`Device::scratch`], for what is kept long and read often, such as the keys and values
            /// of sampling: where memory has pages of several sizes, it lies in large ones.
            ///
            /// # Errors
            /// If the device has no room for it.
            Buffers fn resident(len: usize) -> Result<Self::Buffer, $crate::device::OutOfMemory>;
            /// Number of elements.
            Buffers fn len(buffer: &Self::Buffer) -> usize;
            /// A new buffer with these values.
            Buffers fn upload(values: &[f32]) -> Self::Buffer;
            /// The elements from `offset` on, as many as `out` takes.
            Buffers fn download(buffer: &Self::Buffer, offset: usize, out: &mut [f32]);
            /// Replaces the elements from `offset` on.
            Buffers fn write(buffer: &mut Self::Buffer, offset: usize, values: &[f32]);
            /// Copies all of `from` over all of `to`.
            Buffers fn copy(from: &Self::Buffer, to: &mut Self::Buffer);
            /// Copies `len` elements from `from` on to where `to` is; the ranges may overlap.
            Buffers fn copy_within(buffer: &mut Self::Buffer, from: usize, to: usize, len: usize);
            /// Sets every element.
            Buffers fn fill(buffer: &mut Self::Buffer, value: f32);
            /// `to += factor · from`.
            Buffers fn add_scaled(from: &Self::Buffer, factor: f32, to: &mut Self::Buffer);
            /// `to = (1 − mix)·to + mix·from`, each element computed in f64 and rounded once.
            Buffers fn interpolate(from: &Self::Buffer, mix: f64, to: &mut Self::Buffer);

            // ---- what a pass reads again and again ----------------------------------------------

            /// Takes ids, or positions, to the device.
            Buffers fn ids(ids: &[u32]) -> Self::Ids;
            /// Takes a forest to the device, in the form that attention reads.
            Buffers fn plan(forest: &$crate::forest::Forest) -> Self::ForestPlan;
            /// Takes rows of sequences in a cache with pages of `page_len` positions to the device.
            Buffers fn cache_plan(
                rows: &[$crate::device::CachedRow<'_>],
                page_len: usize,
            ) -> Self::CachePlan;

            // ---- rows ---------------------------------------------------------------------------

            /// `out[i] = table[ids[i]]` for rows of a dense table of `out.rows.width` columns.
            Rows fn gather_rows(
                table: &Self::Buffer,
                ids: &Self::Ids,
                out: $crate::device::ViewMut<'_, Self::Buffer>,
                write: $crate::device::Write,
            );
            /// `table[ids[i]] += rows[i]`, in the order of i; ids may repeat.
            Rows fn scatter_add_rows(
                rows: $crate::device::View<'_, Self::Buffer>,
                ids: &Self::Ids,
                table: &mut Self::Buffer,
            );
            /// y = x with some elements set to 0 and the others divided by 1 − rate: which, follows from
            /// the key of the row, the layer's number `site` and the column alone, each with
            /// probability `rate`; see [`crate::dropout`].
            Rows fn dropout(
                x: $crate::device::View<'_, Self::Buffer>,
                keys: &Self::Ids,
                dropout: $crate::device::Dropout,
                y: $crate::device::ViewMut<'_, Self::Buffer>,
                write: $crate::device::Write,
            );

            // ---- products -----------------------------------------------------------------------

            /// Makes the copy of a weight that [`Device::linear`] reads, if it reads one; gives whether
            /// it does, and so leaves the master values alone from then on.
            Products fn prepare(
                weight: $crate::device::Weight<'_, Self::Buffer, Self::Prepared>,
            ) -> bool;
            /// Makes a copy of a weight in eight bits, which products read from then on in place of its
            /// values, whatever their precision. What was made of the weight before stays as it is, so
            /// that this comes first.
            Products fn round_to_int8(
                weight: $crate::device::Weight<'_, Self::Buffer, Self::Prepared>,
                scales: $crate::device::Int8Scales,
            );
            /// Writes the values that products with a weight read, in its layout: those of the copy, if
            /// there is one, and else the master values.
            Products fn read_weight(
                weight: $crate::device::Weight<'_, Self::Buffer, Self::Prepared>,
                out: &mut Self::Buffer,
            );
            /// y = x·Wᵀ (+ bias), `[T, inputs]` to `[T, outputs]`.
            Products fn linear(
                x: $crate::device::View<'_, Self::Buffer>,
                weight: $crate::device::Weight<'_, Self::Buffer, Self::Prepared>,
                bias: Option<&Self::Buffer>,
                y: $crate::device::ViewMut<'_, Self::Buffer>,
                write: $crate::device::Write,
            );
            /// [`Device::linear`] of the same rows for several weights, into parts of one buffer.
            Products fn linear_parts(
                x: $crate::device::View<'_, Self::Buffer>,
                parts: Vec<$crate::device::LinearPart<'_, Self::Buffer, Self::Prepared>>,
                y: &mut Self::Buffer,
                write: $crate::device::Write,
            );
            /// dx = dy·W, `[T, outputs]` to `[T, inputs]`.
            ProductsBackwardInput fn linear_backward_input(
                dy: $crate::device::View<'_, Self::Buffer>,
                weight: $crate::device::Weight<'_, Self::Buffer, Self::Prepared>,
                dx: $crate::device::ViewMut<'_, Self::Buffer>,
                write: $crate::device::Write,
            );
            /// dW += dyᵀ·x, in the weight's layout.
            ProductsBackwardWeight fn linear_backward_weight(
                dy: $crate::device::View<'_, Self::Buffer>,
                x: $crate::device::View<'_, Self::Buffer>,
                shape: $crate::device::WeightShape,
                dweight: &mut Self::Buffer,
            );
            /// dbias += the sum of the rows of dy.
            ProductsBackwardWeight fn sum_rows(
                dy: $crate::device::View<'_, Self::Buffer>,
                dbias: &mut Self::Buffer,
            );

            // ---- norms --------------------------------------------------------------------------

            /// y = x / √(mean(x²) + eps) · weight over each of `groups` equal parts of every row.
            ///
            /// `weight` has width/groups elements; `rstd[T·groups]` receives the reciprocal roots.
            Norms fn rms_norm(
                x: $crate::device::View<'_, Self::Buffer>,
                groups: usize,
                weight: &Self::Buffer,
                eps: f32,
                y: $crate::device::ViewMut<'_, Self::Buffer>,
                rstd: &mut Self::Buffer,
            );
            /// Adds or writes dx, and adds dweight if it is wanted.
            #[expect(clippy::too_many_arguments, reason = "x, its statistics and three gradients")]
            Norms fn rms_norm_backward(
                x: $crate::device::View<'_, Self::Buffer>,
                groups: usize,
                weight: &Self::Buffer,
                rstd: &Self::Buffer,
                dy: $crate::device::View<'_, Self::Buffer>,
                dx: $crate::device::ViewMut<'_, Self::Buffer>,
                write: $crate::device::Write,
                dweight: Option<&mut Self::Buffer>,
            );
            /// y = (x − mean) / √(variance + eps) · weight + bias; `statistics[T·2]` receives mean and
            /// reciprocal root for each row.
            Norms fn layer_norm(
                x: $crate::device::View<'_, Self::Buffer>,
                weight: &Self::Buffer,
                bias: &Self::Buffer,
                eps: f32,
                y: $crate::device::ViewMut<'_, Self::Buffer>,
                statistics: &mut Self::Buffer,
            );
            /// Adds or writes dx, and adds (dweight, dbias) where they are wanted.
            #[expect(clippy::too_many_arguments, reason = "x, its statistics and four gradients")]
            Norms fn layer_norm_backward(
                x: $crate::device::View<'_, Self::Buffer>,
                weight: &Self::Buffer,
                statistics: &Self::Buffer,
                dy: $crate::device::View<'_, Self::Buffer>,
                dx: $crate::device::ViewMut<'_, Self::Buffer>,
                write: $crate::device::Write,
                dweight: Option<&mut Self::Buffer>,
                dbias: Option<&mut Self::Buffer>,
            );

            // ---- attention ----------------------------------------------------------------------

            /// Rotates the heads of every row in place by its position.
            Rotary fn rotary(
                buffer: &mut Self::Buffer,
                layout: $crate::device::QkvLayout,
                heads: $crate::device::Heads,
                positions: &Self::Ids,
                rotary: $crate::device::Rotary<'_, Self::Buffer>,
                rotation: $crate::device::Rotation,
            );
            /// Softmax attention over a forest: `out[T, H·D]`, and `log_sum_exp[T, H]` of the scaled
            /// scores for the backward pass. No T × T matrix ever exists.
            Attention fn attention(
                qkv: &Self::Buffer,
                layout: $crate::device::QkvLayout,
                forest: &Self::ForestPlan,
                attention: $crate::device::Attention,
                out: &mut Self::Buffer,
                log_sum_exp: &mut Self::Buffer,
            );
            /// Overwrites the query, key and value parts of `dqkv` (same layout) with their gradients.
            #[expect(clippy::too_many_arguments, reason = "inputs, outputs and their gradients")]
            AttentionBackward fn attention_backward(
                qkv: &Self::Buffer,
                layout: $crate::device::QkvLayout,
                forest: &Self::ForestPlan,
                attention: $crate::device::Attention,
                out: &Self::Buffer,
                log_sum_exp: &Self::Buffer,
                dout: &Self::Buffer,
                dqkv: &mut Self::Buffer,
            );
            /// Rounds every element in place to one of the two nearest bfloat16, to each with a
            /// probability by which the mean is the element. What is drawn of an element follows from
            /// `key` and its place.
            Optimizer fn round_randomly(values: &mut Self::Buffer, key: u32);
            /// Rounds the heads of every row in place to bfloat16, as a cache of that precision keeps
            /// them.
            Rotary fn round_heads(
                buffer: &mut Self::Buffer,
                layout: $crate::device::QkvLayout,
                heads: $crate::device::Heads,
            );
            /// Elements of a buffer that one key or value of one head takes in a cache.
            Buffers fn head_words(head_dim: usize, precision: $crate::device::Precision) -> usize;
            /// Copies the keys and values of each row of `qkv` to its place in the cache, rounded if it
            /// keeps bfloat16.
            AttentionCached fn cache_write(
                qkv: &Self::Buffer,
                layout: $crate::device::QkvLayout,
                rows: &Self::CachePlan,
                cache: $crate::device::CacheMut<'_, Self::Buffer>,
            );
            /// Attention of each row of queries over its own sequence in the cache; `out[rows, H·D]`.
            /// What [`Device::attention`] gives for the same path, on the processor to the last bit, if
            /// keys and values have been rounded where the cache rounds them.
            AttentionCached fn attention_cached(
                qkv: &Self::Buffer,
                layout: $crate::device::QkvLayout,
                cache: $crate::device::Cache<'_, Self::Buffer>,
                rows: &Self::CachePlan,
                attention: $crate::device::Attention,
                out: &mut Self::Buffer,
            );

            // ---- activations --------------------------------------------------------------------

            /// y = a(x), element by element.
            Activations fn activation(
                activation: $crate::device::Activation,
                x: &Self::Buffer,
                y: &mut Self::Buffer,
            );
            /// dx = a'(x)·dy.
            Activations fn activation_backward(
                activation: $crate::device::Activation,
                x: &Self::Buffer,
                dy: &Self::Buffer,
                dx: &mut Self::Buffer,
            );
            /// y = a(gate)·up for rows `[gate | up]` of 2·inner elements; y is `[T, inner]`.
            Activations fn gated(
                gate: $crate::device::Gate,
                gate_up: &Self::Buffer,
                inner: usize,
                y: &mut Self::Buffer,
            );
            /// Overwrites the gradient of `[gate | up]`.
            Activations fn gated_backward(
                gate: $crate::device::Gate,
                gate_up: &Self::Buffer,
                inner: usize,
                dy: &Self::Buffer,
                dgate_up: &mut Self::Buffer,
            );

            /// Bounds every element x smoothly, by cap·tanh(x/cap): what the log-probability head does to
            /// its products under [`HeadOptions::softcap`](crate::device::HeadOptions::softcap), to the bit.
            Activations fn softcap(cap: f32, values: &mut Self::Buffer);

            // ---- the log-probability head -------------------------------------------------------

            /// Log-probabilities of `predictions` from `hidden[n, d]` and the head's weight `[V, d]`. The
            /// logits of the first rows are left in `logits[k, V]`, if it is there: all rows, or whole
            /// chunks.
            Head fn logprob_head(
                hidden: &Self::Buffer,
                weight: $crate::device::Weight<'_, Self::Buffer, Self::Prepared>,
                predictions: &[$crate::device::Prediction],
                options: $crate::device::HeadOptions,
                logits: Option<&mut Self::Buffer>,
            ) -> Self::Deferred<$crate::device::HeadOutput>;
            /// The same, with the backward pass in one go: overwrites `dhidden[n, d]`, adds to `dweight`.
            /// Logits that [`Device::logprob_head`] left are used up instead of being computed again,
            /// which changes no bit of the result.
            ///
            /// d logits(row) = Σⱼ [gⱼ·(onehotⱼ − p) − eⱼ·p·(ln p + entropy)] / temperature, over the
            /// row's predictions j with derivatives gⱼ (log-probability) and eⱼ (entropy); under a cap, times
            /// the slope 1 − (logit/cap)² of each.
            #[expect(clippy::too_many_arguments, reason = "inputs, gradients in and gradients out")]
            Head fn logprob_head_backward(
                hidden: &Self::Buffer,
                weight: $crate::device::Weight<'_, Self::Buffer, Self::Prepared>,
                predictions: &[$crate::device::Prediction],
                grads: &[$crate::device::PredictionGrad],
                options: $crate::device::HeadOptions,
                logits: Option<Self::Buffer>,
                dhidden: &mut Self::Buffer,
                dweight: Option<&mut Self::Buffer>,
            ) -> Self::Deferred<$crate::device::HeadOutput>;

            // ---- sampling -----------------------------------------------------------------------

            /// Draws a token from each of the rows, as [`crate::draw`] says; a row of which no token can
            /// be drawn is an error of that row alone.
            Sampling fn draw(
                rows: Vec<$crate::draw::DrawRow<'_, Self::Buffer>>,
            ) -> Self::Deferred<Vec<Result<$crate::draw::Drawn, $crate::draw::BadLogit>>>;

            // ---- the optimizer ------------------------------------------------------------------

            /// Σx² of each buffer, in f64.
            Optimizer fn sums_of_squares(buffers: Vec<&Self::Buffer>) -> Self::Deferred<Vec<f64>>;
            /// The first buffer with an element that is NaN or infinite, and that element's index.
            Optimizer fn first_non_finite(
                buffers: Vec<&Self::Buffer>,
            ) -> Self::Deferred<Option<(usize, usize)>>;
            /// One `AdamW` step (Loshchilov and Hutter 2019, arXiv:1711.05101, with bias correction as in
            /// PyTorch) in place, in one pass over the four buffers.
            Optimizer fn adamw(
                step: $crate::device::AdamW,
                parameter: &mut Self::Buffer,
                grad: &Self::Buffer,
                first_moment: &mut Self::Buffer,
                second_moment: &mut Self::Buffer,
            );
        }
    };
}
