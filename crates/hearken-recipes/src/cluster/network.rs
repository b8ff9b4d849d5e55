//! What connects ranks, and how long a sum of gradients travels on it.

/// Machines of several ranks each, and what is between them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Network {
    /// Ranks of a machine.
    pub ranks_per_node: usize,
    /// Bytes a second that a rank sends to others of its machine.
    pub link_bytes_per_s: f64,
    /// Bytes a second that a machine sends to others: all of its ranks together.
    pub network_bytes_per_s: f64,
    /// Seconds that a message takes beside its bytes; a rank sends one after the other.
    pub latency_s: f64,
}

/// How gradients are added up and weights given to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Summation {
    /// As Hearken does: of each portion every rank gives every other its piece, adds what it gets in the order of ranks, and
    /// the updated weights go the same way.
    Exchange,
    /// Round the ring of ranks: each gives one neighbor a piece, n − 1 times for the sums and n − 1 times for the
    /// weights (Patarasuk and Yuan 2009). The order of addends differs from piece to piece.
    Ring,
}

/// A part of a sum that travels by itself: how many there are alike, and what bounds one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Transfer {
    pub(super) count: usize,
    /// Seconds for its bytes.
    pub(super) bytes_s: f64,
    /// Seconds for its messages.
    pub(super) messages_s: f64,
}

impl Network {
    fn nodes(self, ranks: usize) -> usize {
        ranks.div_ceil(self.ranks_per_node)
    }

    /// What must be awaited where `ranks` add up `numbers` of 4 bytes each, or give them to all: half of what
    /// [`Network::transfers`] says.
    fn half(self, summation: Summation, ranks: usize, numbers: usize) -> Vec<Transfer> {
        let (local, n) = (self.ranks_per_node.min(ranks), ranks as f64);
        let others = ranks - 1;
        // Ranks of a machine take turns at its network; there is no network of one machine.
        let far = |bytes: f64, senders: usize| match self.nodes(ranks) {
            1 => 0.0,
            _ => bytes * senders as f64 / self.network_bytes_per_s,
        };
        match summation {
            Summation::Exchange => {
                let transfer = |numbers: f64, count: usize| {
                    let piece = 4.0 * numbers / n;
                    let near = piece * (local - 1) as f64 / self.link_bytes_per_s;
                    let bytes_s = near.max(far(piece * (ranks - local) as f64, local));
                    Transfer { count, bytes_s, messages_s: others as f64 * self.latency_s }
                };
                // As over a network, also within a machine of devices that have links: what fits a processor's cache is
                // nothing to them.
                let portion = ranks * hearken_run::ranks::piece_len(ranks, false);
                let (whole, rest) = (numbers / portion, numbers % portion);
                let mut all = vec![transfer(portion as f64, whole)];
                if 0 < rest {
                    all.push(transfer(rest as f64, 1));
                }
                all
            }
            Summation::Ring => {
                let piece = 4.0 * numbers as f64 / n;
                let near = if local == 1 { 0.0 } else { piece / self.link_bytes_per_s };
                let bytes_s = near.max(far(piece, 1));
                vec![Transfer { count: others, bytes_s, messages_s: self.latency_s }]
            }
        }
    }

    /// What must be awaited, one after the other, from gradients to updated weights everywhere.
    pub(super) fn transfers(
        self,
        summation: Summation,
        ranks: usize,
        numbers: usize,
    ) -> Vec<Transfer> {
        if ranks < 2 {
            return Vec::new();
        }
        let half = self.half(summation, ranks, numbers);
        [half.clone(), half].concat()
    }
}
