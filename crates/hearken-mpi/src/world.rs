//! All processes of a launch, and the thread that speaks to them.

use std::fmt;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use hearken_run::ranks::{Communicator, Parcel};
use mpi::Threading;
use mpi::datatype::{Partition, PartitionMut};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator as _, CommunicatorCollectives as _, Equivalence};

/// What the thread is asked for, and where its answer goes.
enum Call {
    Gather(Vec<u8>, Sender<Vec<Vec<u8>>>),
    Exchange(Parcel, Sender<Parcel>),
    Collect(Parcel, Sender<Parcel>),
}

/// Where a process is among all.
struct Place {
    rank: usize,
    size: usize,
    is_one_machine: bool,
}

/// `MPI_COMM_WORLD`. The library may be called from the thread that started it alone, so that thread stays.
pub(crate) struct World {
    rank: usize,
    size: usize,
    is_one_machine: bool,
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
        let Place { rank, size, is_one_machine } = told.recv().ok()?;
        Some(Self {
            rank,
            size,
            is_one_machine,
            calls: Mutex::new(Some(calls)),
            thread: Some(thread),
        })
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

    fn is_one_machine(&self) -> bool {
        self.is_one_machine
    }

    fn gather(&self, own: Vec<u8>) -> Vec<Vec<u8>> {
        self.call(|answer| Call::Gather(own, answer))
    }

    fn exchange(&self, parcel: Parcel) -> Parcel {
        self.call(|answer| Call::Exchange(parcel, answer))
    }

    fn collect(&self, parcel: Parcel) -> Parcel {
        self.call(|answer| Call::Collect(parcel, answer))
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

fn serve(calls: &Receiver<Call>, tell: &Sender<Place>) {
    let Some((universe, _)) = mpi::initialize_with_threading(Threading::Funneled) else { return };
    let world = universe.world();
    // They are positive.
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    // Where memory can be shared, and nowhere else.
    let is_one_machine = world.split_shared(world.rank()).size() == world.size();
    if tell.send(Place { rank, size, is_one_machine }).is_err() {
        return;
    }
    for call in calls {
        // Whoever asked waits for the answer.
        let _ = match call {
            Call::Gather(own, answer) => answer.send(gather(&world, &own)).is_ok(),
            Call::Exchange(mut parcel, answer) => {
                exchange(&world, &mut parcel);
                answer.send(parcel).is_ok()
            }
            Call::Collect(mut parcel, answer) => {
                let lens = counts(&parcel.taken_lens);
                collect(&world, &parcel.given, &mut parcel.taken, lens);
                answer.send(parcel).is_ok()
            }
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

fn counts(lens: &[usize]) -> Vec<i32> {
    lens.iter().map(|&len| count(len)).collect()
}

fn gather(world: &SimpleCommunicator, own: &[u8]) -> Vec<Vec<u8>> {
    let mut lens = vec![0_i32; world.size() as usize];
    world.all_gather_into(&count(own.len()), &mut lens[..]);
    let mut all = vec![0; lens.iter().map(|&len| len as usize).sum()];
    collect(world, own, &mut all, lens.clone());
    let part = |(place, len): (i32, &i32)| all[place as usize..(place + len) as usize].to_vec();
    places(&lens).into_iter().zip(&lens).map(part).collect()
}

/// Fills `all` with what every process gives, in the order of the processes.
fn collect<T: Equivalence + Default>(
    world: &SimpleCommunicator,
    own: &[T],
    all: &mut Vec<T>,
    lens: Vec<i32>,
) {
    let total = all.len();
    count(total);
    let nothing = [T::default()];
    // A vector without room lies nowhere, which may be the number that stands for "in place".
    all.reserve(1);
    let places = places(&lens);
    let mut parts = PartitionMut::new(&mut all[..total], lens, places);
    world.all_gather_varcount_into(somewhere(own, &nothing), &mut parts);
}

/// What is given, at a place that there is: where an empty slice lies, may be the number that stands for "in place".
fn somewhere<'a, T>(own: &'a [T], place: &'a [T; 1]) -> &'a [T] {
    if own.is_empty() { &place[..0] } else { own }
}

fn exchange(world: &SimpleCommunicator, parcel: &mut Parcel) {
    let (given, taken) = (counts(&parcel.given_lens), counts(&parcel.taken_lens));
    let (nothing, given_places, taken_places) = ([0.0], places(&given), places(&taken));
    let sent = Partition::new(somewhere(&parcel.given, &nothing), given, given_places);
    // As in `collect`.
    parcel.taken.reserve(1);
    let mut received = PartitionMut::new(&mut parcel.taken[..], taken, taken_places);
    world.all_to_all_varcount_into(&sent, &mut received);
}
