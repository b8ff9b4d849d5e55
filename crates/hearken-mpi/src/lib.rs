//! Ranks that an MPI launcher started, connected by MPI.
//!
//! The program binds to the MPI library of the machine when it is built with the feature `mpi`; without, there is
//! nothing here but a word about that. All calls of the library are made on one thread, which owns it.
//!
//! Not here: who starts the processes, and what they say to one another.
#![deny(missing_docs)]

#[cfg(feature = "mpi")]
mod world;

use hearken_run::ranks::Ranks;

/// Why processes are not connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MpiError {
    /// The program was built without MPI.
    NotBuilt,
    /// The library does not start.
    NotStarted,
}

impl std::fmt::Display for MpiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotBuilt => {
                "this hearken was built without MPI; `cargo build --release --features mpi` builds one with it, \
                 where there are mpicc and libclang (on Debian: libopenmpi-dev and libclang-dev)"
            }
            Self::NotStarted => "the MPI library does not start: it was started before",
        })
    }
}

impl std::error::Error for MpiError {}

/// Whether the program was built with MPI.
pub const IS_BUILT: bool = cfg!(feature = "mpi");

/// The processes that were started together with this one.
///
/// The last clone that is dropped waits for the others to have come to their end, too; a process that cannot go on
/// exits without dropping it, and its launcher ends the others.
///
/// # Errors
/// If the program was built without MPI, or the library does not start.
#[cfg(feature = "mpi")]
pub fn connect() -> Result<Ranks, MpiError> {
    world::World::start().map(Ranks::new).ok_or(MpiError::NotStarted)
}

/// See the function of the same name of a program that was built with MPI.
///
/// # Errors
/// [`MpiError::NotBuilt`].
#[cfg(not(feature = "mpi"))]
pub fn connect() -> Result<Ranks, MpiError> {
    Err(MpiError::NotBuilt)
}
