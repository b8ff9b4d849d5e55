//! All processes of a launch, and the thread that speaks to them.

use std::fmt;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use hearken_run::ranks::Communicator;
use mpi::Threading;
use mpi::datatype::{Partition, PartitionMut};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator as _, CommunicatorCollectives as _, Equivalence};

/// What the thread is asked for, and where its answer goes.
enum Call {
    Gather(Vec<u8>, Sender<Vec<Vec<u8>>>),
    Exchange(Vec<Vec<f32>>, usize, Sender<Vec<Vec<f32>>>),
    Collect(Vec<f32>, Vec<usize>, Sender<Vec<Vec<f32>>>),
}

/// `MPI_COMM_WORLD`. The library may be called from the thread that started it alone, so that thread stays.
pub(crate) struct World {
    rank: usize,
    size: usize,
    /// `None` at the end.
    calls: Mutex<Option<Sender<Call>>>,
    thread: Option<JoinHandle<()>>,
}

impl World {
    /// Starts the library; `None` if it does not.
    pub(crate) fn start() -> Option<Self> {
        let (calls, received) = channel();
        let (tell, told) = channel();
        let thread = thread::Builder::new().name("mpi".to_owned());
        let thread = thread.spawn(move || serve(&received, &tell)).ok()?;
        let (rank, size) = told.recv().ok()?;
        Some(Self { rank, size, calls: Mutex::new(Some(calls)), thread: Some(thread) })
    }

    fn call<T>(&self, call: impl FnOnce(Sender<T>) -> Call) -> T {
        let (answer, answered) = channel();
        let calls = self.calls.lock().expect("nobody panics while holding it");
        let sent = calls.as_ref().map(|calls| calls.send(call(answer)));
        assert!(matches!(sent, Some(Ok(()))), "the thread of the MPI library has ended");
        answered.recv().expect("the thread of the MPI library answers")
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank, self.size)
    }
}

impl Communicator for World {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn gather(&self, own: Vec<u8>) -> Vec<Vec<u8>> {
        self.call(|answer| Call::Gather(own, answer))
    }

    fn exchange(&self, pieces: Vec<Vec<f32>>, len: usize) -> Vec<Vec<f32>> {
        self.call(|answer| Call::Exchange(pieces, len, answer))
    }

    fn collect(&self, own: Vec<f32>, lens: &[usize]) -> Vec<Vec<f32>> {
        self.call(|answer| Call::Collect(own, lens.to_vec(), answer))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Finalizing waits for all, and one that is in trouble must not.
        if thread::panicking() {
            return;
        }
        if let Ok(mut calls) = self.calls.lock() {
            calls.take();
        }
        if let Some(thread) = self.thread.take() {
            // Nobody is left to tell.
            let _ = thread.join();
        }
    }
}

fn serve(calls: &Receiver<Call>, tell: &Sender<(usize, usize)>) {
    let Some((universe, _)) = mpi::initialize_with_threading(Threading::Funneled) else { return };
    let world = universe.world();
    // Both are positive.
    if tell.send((world.rank() as usize, world.size() as usize)).is_err() {
        return;
    }
    for call in calls {
        // Whoever asked waits for the answer.
        let _ = match call {
            Call::Gather(own, answer) => answer.send(gather(&world, &own)).is_ok(),
            Call::Exchange(pieces, len, answer) => {
                answer.send(exchange(&world, &pieces, len)).is_ok()
            }
            Call::Collect(own, lens, answer) => answer.send(collect(&world, &own, &lens)).is_ok(),
        };
    }
}

/// A length as the library wants it.
///
/// # Panics
/// If it is above 2³¹: what is longer travels in portions.
fn count(len: usize) -> i32 {
    i32::try_from(len).expect("messages have less than 2³¹ elements")
}

/// Where parts of such lengths begin when they lie one behind the other.
fn places(lens: &[i32]) -> Vec<i32> {
    let place = |end: &mut i32, len: &i32| {
        *end += len;
        Some(*end - len)
    };
    lens.iter().scan(0, place).collect()
}

fn parted<T: Clone>(all: &[T], lens: &[i32]) -> Vec<Vec<T>> {
    let part = |(place, len): (i32, &i32)| all[place as usize..(place + len) as usize].to_vec();
    places(lens).into_iter().zip(lens).map(part).collect()
}

fn gather(world: &SimpleCommunicator, own: &[u8]) -> Vec<Vec<u8>> {
    let mut lens = vec![0_i32; world.size() as usize];
    world.all_gather_into(&count(own.len()), &mut lens[..]);
    collect_of(world, own, &lens)
}

fn collect(world: &SimpleCommunicator, own: &[f32], lens: &[usize]) -> Vec<Vec<f32>> {
    let lens: Vec<i32> = lens.iter().map(|&len| count(len)).collect();
    collect_of(world, own, &lens)
}

fn collect_of<T: Equivalence + Clone + Default>(
    world: &SimpleCommunicator,
    own: &[T],
    lens: &[i32],
) -> Vec<Vec<T>> {
    let total: usize = lens.iter().map(|&len| len as usize).sum();
    count(total);
    let (nothing, mut all) = ([T::default()], vec![T::default(); total.max(1)]);
    let mut parts = PartitionMut::new(&mut all[..total], lens.to_vec(), places(lens));
    world.all_gather_varcount_into(nowhere(own, &nothing), &mut parts);
    drop(parts);
    parted(&all, lens)
}

/// What is given, at a place that there is: where an empty slice lies, may be the number that stands for "in place".
fn nowhere<'a, T>(own: &'a [T], place: &'a [T; 1]) -> &'a [T] {
    if own.is_empty() { &place[..0] } else { own }
}

fn exchange(world: &SimpleCommunicator, pieces: &[Vec<f32>], len: usize) -> Vec<Vec<f32>> {
    let given: Vec<i32> = pieces.iter().map(|piece| count(piece.len())).collect();
    let wanted = vec![count(len); pieces.len()];
    let own = pieces.concat();
    let total = len * pieces.len();
    let (nothing, mut all) = ([0.0], vec![0.0; total.max(1)]);
    let sent = Partition::new(nowhere(&own, &nothing), given.clone(), places(&given));
    let mut received = PartitionMut::new(&mut all[..total], wanted.clone(), places(&wanted));
    world.all_to_all_varcount_into(&sent, &mut received);
    drop(received);
    parted(&all, &wanted)
}
