//! Tells who waits for it that something was stored.

use tokio::sync::Notify;

/// Rung when something was stored.
#[derive(Debug, Default)]
pub(crate) struct Bell(Notify);

impl Bell {
    /// Something was stored.
    pub(crate) fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits until it is rung.
    pub(crate) async fn rung(&self) {
        self.0.notified().await;
    }
}
