//! Who is connected, and who waits for nothing in particular.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long a new connection has to send a request before it makes room sooner than one that has sent some.
const NEW: Duration = Duration::from_secs(1);

/// Whether a connection that is not busy has sent a request before, and since when it waits, in the order of waiting.
type Turn = (bool, u64);

#[derive(Default)]
struct RollState {
    /// The number of the next turn.
    turns: u64,
    count: usize,
    by_address: HashMap<String, usize>,
    /// Connections on which no request is being answered.
    waiting: BTreeMap<Turn, Waiting>,
}

struct Waiting {
    address: Option<String>,
    away: Arc<Notify>,
    since: Instant,
}

/// The connections of the service.
pub(crate) struct Roll {
    max: usize,
    max_per_address: usize,
    state: Mutex<RollState>,
    /// Told of every connection that ends.
    ended: Notify,
}

impl Roll {
    pub(crate) fn new(max: usize, max_per_address: usize) -> Self {
        Self { max, max_per_address, state: Mutex::default(), ended: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, RollState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there may be another connection; meanwhile those that wait make room.
    pub(crate) async fn room(&self) {
        loop {
            let ended = self.ended.notified();
            if self.lock().count < self.max {
                return;
            }
            self.make_room();
            ended.await;
        }
    }

    /// Sends away a connection that waits, if there is one.
    pub(crate) fn make_room(&self) {
        self.lock().send_away(|_| true);
    }

    /// Enters a connection; none where its address has as many as it may and all of them are busy.
    pub(crate) fn enter(self: &Arc<Self>, address: Option<String>) -> Option<RollEntry> {
        let mut state = self.lock();
        if let Some(address) = &address
            && self.max_per_address <= state.by_address.get(address).copied().unwrap_or(0)
        {
            state.send_away(|waiting| waiting.address.as_ref() == Some(address)).then_some(())?;
        }
        state.count += 1;
        if let Some(address) = &address {
            *state.by_address.entry(address.clone()).or_default() += 1;
        }
        let away = Arc::new(Notify::new());
        let turn = state.wait(address.clone(), &away, false);
        drop(state);
        Some(RollEntry { roll: Arc::clone(self), address, away, turn: Mutex::new(Some(turn)) })
    }

    /// Waits until nobody is connected.
    pub(crate) async fn emptied(&self) {
        loop {
            let ended = self.ended.notified();
            if self.lock().count == 0 {
                return;
            }
            ended.await;
        }
    }
}

impl RollState {
    /// Sends away one of those that wait and are meant: the oldest that has sent nothing for a while, else the one that
    /// has waited longest since its last request, else the oldest. `false` where there is none.
    fn send_away(&mut self, is_meant: impl Fn(&Waiting) -> bool) -> bool {
        let now = Instant::now();
        let first = |range: std::ops::Range<Turn>, least: Duration| {
            let mut waiting = self.waiting.range(range);
            let found = waiting.find(|(_, waiting)| is_meant(waiting));
            found.filter(|(_, it)| least <= now.duration_since(it.since)).map(|(turn, _)| *turn)
        };
        let (new, known) = ((false, 0)..(true, 0), (true, 0)..(true, u64::MAX));
        let turn = first(new.clone(), NEW)
            .or_else(|| first(known, Duration::ZERO))
            .or_else(|| first(new, Duration::ZERO));
        let sent = turn.and_then(|turn| self.waiting.remove(&turn));
        sent.map(|waiting| waiting.away.notify_one()).is_some()
    }

    fn wait(&mut self, address: Option<String>, away: &Arc<Notify>, has_served: bool) -> Turn {
        self.turns += 1;
        let turn = (has_served, self.turns);
        let (away, since) = (Arc::clone(away), Instant::now());
        self.waiting.insert(turn, Waiting { address, away, since });
        turn
    }
}

/// One connection; it leaves the roll when it is dropped.
pub(crate) struct RollEntry {
    roll: Arc<Roll>,
    address: Option<String>,
    away: Arc<Notify>,
    /// Where it waits; `None` while a request is being answered.
    turn: Mutex<Option<Turn>>,
}

impl RollEntry {
    fn turn(&self) -> MutexGuard<'_, Option<Turn>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come: until what this gives is dropped, the connection is not sent away.
    pub(crate) fn begin(self: Arc<Self>) -> Busy {
        if let Some(turn) = self.turn().take() {
            self.roll.lock().waiting.remove(&turn);
        }
        Busy(self)
    }

    /// Waits until the connection has to make room for another.
    pub(crate) async fn sent_away(&self) {
        loop {
            self.away.notified().await;
            // A request may have come at the last moment.
            if self.turn().is_some() {
                return;
            }
        }
    }
}

impl Drop for RollEntry {
    fn drop(&mut self) {
        let turn = self.turn().take();
        let mut state = self.roll.lock();
        if let Some(turn) = turn {
            state.waiting.remove(&turn);
        }
        state.count -= 1;
        if let Some(address) = &self.address
            && let Some(count) = state.by_address.get_mut(address)
        {
            *count -= 1;
            if *count == 0 {
                state.by_address.remove(address);
            }
        }
        drop(state);
        self.roll.ended.notify_waiters();
    }
}

/// A request that is being answered.
pub(crate) struct Busy(Arc<RollEntry>);

impl Drop for Busy {
    fn drop(&mut self) {
        let RollEntry { roll, address, away, turn } = &*self.0;
        let mut turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        *turn = Some(roll.lock().wait(address.clone(), away, true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_away(entry: &RollEntry) -> bool {
        let mut waiting = std::pin::pin!(entry.sent_away());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        waiting.as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn who_has_sent_nothing_makes_room_first_and_who_is_busy_never() {
        let roll = Arc::new(Roll::new(10, 10));
        let entries: Vec<Arc<RollEntry>> =
            (0..4).map(|_| Arc::new(roll.enter(Some("a".into())).unwrap())).collect();
        let busy = Arc::clone(&entries[0]).begin();
        drop(Arc::clone(&entries[1]).begin());
        let age = |turn: Turn| {
            roll.lock().waiting.get_mut(&turn).unwrap().since -= NEW;
        };
        let order = || entries.iter().map(|entry| sent_away(entry)).collect::<Vec<_>>();
        age((false, 3));
        roll.make_room();
        assert_eq!(order(), [false, false, true, false]);
        // What has come a moment ago may still send a request.
        roll.make_room();
        assert_eq!(order(), [false, true, false, false]);
        roll.make_room();
        assert_eq!(order(), [false, false, false, true]);
        roll.make_room();
        assert_eq!(order(), [false; 4]);
        drop(busy);
        roll.make_room();
        assert_eq!(order(), [true, false, false, false]);
    }

    #[test]
    fn an_address_has_so_many_connections_and_no_more() {
        let roll = Arc::new(Roll::new(10, 2));
        let entries: Vec<Arc<RollEntry>> =
            (0..2).map(|_| Arc::new(roll.enter(Some("a".into())).unwrap())).collect();
        let others = roll.enter(Some("b".into())).unwrap();
        let third = roll.enter(Some("a".into())).unwrap();
        assert!(sent_away(&entries[0]) && !sent_away(&entries[1]) && !sent_away(&others));
        let _busy = (Arc::new(third).begin(), Arc::clone(&entries[1]).begin());
        assert!(roll.enter(Some("a".into())).is_none());
        assert!(roll.enter(None).is_some());
        drop(entries);
        drop(others);
        assert_eq!(roll.lock().by_address.len(), 1);
    }
}
