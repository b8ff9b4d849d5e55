//! The forward pass of sampling: new tokens against keys and values kept from earlier ones.
//!
//! The cache is a set of pages of equal length; who owns which page is the sampler's business.

use hearken_tensor::Device;
use hearken_tensor::device::{CacheMut, CachedRow, OutOfMemory, Precision, Rows, View};

use crate::transformer::{AdaptedRows, AttendOver, Block, Model};

/// Keys and values of all layers, in pages.
#[derive(Debug)]
pub struct KvCache<D: Device> {
    /// Keys and values of each layer.
    layers: Vec<(D::Buffer, D::Buffer)>,
    page_len: usize,
    pages: usize,
    /// Elements of a buffer per position.
    row_width: usize,
    precision: Precision,
    device: D,
}

impl<D: Device> KvCache<D> {
    /// A cache of `pages` pages of `page_len` positions for this model.
    ///
    /// # Errors
    /// If the device has no room for it.
    pub fn new(model: &Model<D>, pages: usize, page_len: usize) -> Result<Self, OutOfMemory> {
        let row_width = row_width(model);
        let device = model.device().clone();
        let len = pages * page_len * row_width;
        // What a slot holds is written before it is read.
        let layer = |_| Ok((device.resident(len)?, device.resident(len)?));
        let layers = (0..model.config().layers).map(layer).collect::<Result<_, OutOfMemory>>()?;
        let precision = model.precision();
        Ok(Self { layers, page_len, pages, row_width, precision, device })
    }

    /// Positions per page.
    pub fn page_len(&self) -> usize {
        self.page_len
    }

    /// Number of pages.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Bytes that `pages` pages of a model would take.
    pub fn bytes(model: &Model<D>, pages: usize, page_len: usize) -> usize {
        8 * model.config().layers * pages * page_len * row_width(model)
    }

    /// Copies the contents of one page to another, for sequences that part in its middle.
    pub fn copy_page(&mut self, from: u32, to: u32) {
        let len = self.page_len * self.row_width;
        for (keys, values) in &mut self.layers {
            for buffer in [keys, values] {
                self.device.copy_within(buffer, from as usize * len, to as usize * len, len);
            }
        }
    }
}

/// Elements of a buffer for the keys, or values, of one position.
fn row_width<D: Device>(model: &Model<D>) -> usize {
    let config = model.config();
    config.kv_heads * model.device().head_words(config.head_dim, model.precision())
}

/// New tokens, each with the pages of its sequence and its position there.
#[derive(Clone, Copy, Debug)]
pub struct CachedInput<'a> {
    /// One token per row.
    pub tokens: &'a [u32],
    /// Where each row's sequence lies; a row's own position must lie within its pages. Several
    /// consecutive positions of a sequence may be given at once, in order.
    pub rows: &'a [CachedRow<'a>],
}

/// Hidden states of new tokens after the final norm.
#[derive(Debug)]
pub struct Hidden<D: Device> {
    buffer: D::Buffer,
}

impl<D: Device> Model<D> {
    /// Runs new tokens, adding their keys and values to the cache. Each range of rows in `adapted` goes through an adapter
    /// of its own beside the weights that all rows share; no row is in two ranges.
    ///
    /// # Panics
    /// If there are no tokens, a row's position lies outside its pages, or rows have adapters and the model has one too.
    pub fn forward_cached(
        &self,
        cache: &mut KvCache<D>,
        input: CachedInput<'_>,
        adapted: &[AdaptedRows<'_, D>],
    ) -> Hidden<D> {
        assert!(
            adapted.is_empty() || self.adapter().is_none(),
            "{} ranges of rows have adapters, and so has the model",
            adapted.len()
        );
        let n = input.tokens.len();
        assert_eq!(input.rows.len(), n, "rows: one per token");
        let positions: Vec<u32> = input.rows.iter().map(|row| row.position).collect();
        let geometry = self.geometry(&positions);
        let plan = self.device().cache_plan(input.rows, cache.page_len);
        let mut x = self.embed(&self.token_ids(input.tokens), &geometry, n);
        for (layer, (keys, values)) in cache.layers.iter_mut().enumerate() {
            let (page_len, precision) = (cache.page_len, cache.precision);
            let cache = CacheMut { keys, values, page_len, precision };
            let over = AttendOver::Cache { cache, rows: &plan };
            let block = Block { adapted, ..self.block(layer, n, None) };
            block.forward(&mut x, &geometry, over, false);
        }
        let mut buffer = self.device().scratch(n * self.config().width);
        let rows = Rows::dense(n, self.config().width);
        self.norm(View::new(&x, rows), self.plan.final_norm, &mut buffer);
        Hidden { buffer }
    }

    /// The logits of chosen rows, `[rows.len(), V]`, on the device.
    ///
    /// # Panics
    /// If the model is a scorer without a language-model head.
    pub fn hidden_logits(&self, hidden: &Hidden<D>, rows: &[usize]) -> D::Buffer {
        self.logits_of(&hidden.buffer, rows)
    }
}
