//! Which of the instruction sets that kernels are compiled for they run with.
//!
//! It is one for the whole process, chosen before the first kernel runs: the fastest that the processor
//! has, or another one that [`KernelFamily::force`] asks for, so that each can be tested on a better
//! machine.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// The instructions that kernels are compiled for. Sums have another order in each, so results differ
/// in their last digits between families, never within one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KernelFamily {
    /// What every processor of the architecture has.
    Portable,
    /// AVX2 with fused multiply-add.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL). Products in bfloat16 widen it in registers.
    Avx512,
    /// AVX-512 with products of bfloat16.
    Avx512Bf16,
    /// AVX-512 with products of bfloat16 in tiles.
    Amx,
    /// NEON. Products in bfloat16 widen it in registers.
    Neon,
}

static CHOSEN: OnceLock<KernelFamily> = OnceLock::new();
static BEST: OnceLock<KernelFamily> = OnceLock::new();

impl KernelFamily {
    /// All of them, the lowest first.
    pub const ALL: [Self; 6] =
        [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx, Self::Neon];

    /// Its name, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Amx => "amx",
            Self::Neon => "neon",
        }
    }

    /// The processor's features that it needs, as their names are written; empty for none.
    pub fn features(self) -> &'static [&'static str] {
        match self {
            Self::Portable => &[],
            Self::Avx2 => &["avx2", "fma"],
            Self::Avx512 => &["avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl"],
            Self::Avx512Bf16 => {
                &["avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512bf16"]
            }
            Self::Amx => &[
                "avx2",
                "fma",
                "avx512f",
                "avx512bw",
                "avx512dq",
                "avx512vl",
                "avx512bf16",
                "amx-tile",
                "amx-bf16",
            ],
            Self::Neon => &["neon"],
        }
    }

    /// Those of its features that this processor lacks.
    pub fn missing(self) -> Vec<&'static str> {
        self.features().iter().copied().filter(|feature| !has(feature)).collect()
    }

    /// Whether this processor can run it.
    pub fn is_available(self) -> bool {
        self.missing().is_empty()
    }

    /// Those that this processor can run, the best one last.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|family| family.is_available()).collect()
    }

    /// The fastest one that this processor can run: the last of [`KernelFamily::available`], but for
    /// [`KernelFamily::Avx512Bf16`] on Intel's processors, which multiply bfloat16 at half the speed of f32
    /// where those of AMD take twice that of f32.
    pub fn best() -> Self {
        *BEST.get_or_init(|| {
            let mut families = Self::available().into_iter();
            let fast = |family: &Self| *family != Self::Avx512Bf16 || !is_of_intel();
            families.rfind(fast).unwrap_or(Self::Portable)
        })
    }

    /// The one that kernels run with; from then on it does not change.
    #[inline]
    pub fn current() -> Self {
        *CHOSEN.get_or_init(Self::best)
    }

    /// Whether its vectors have 512 bits.
    pub(crate) fn has_vectors_of_512(self) -> bool {
        matches!(self, Self::Avx512 | Self::Avx512Bf16 | Self::Amx)
    }

    /// Makes kernels run with this family for as long as the process lives.
    ///
    /// # Errors
    /// If the processor cannot run it, or kernels have run with another one.
    pub fn force(self) -> Result<(), KernelError> {
        let missing = self.missing();
        if !missing.is_empty() {
            return Err(KernelError::Unavailable { family: self, missing });
        }
        let current = *CHOSEN.get_or_init(|| self);
        if current == self { Ok(()) } else { Err(KernelError::InUse { family: self, current }) }
    }
}

impl fmt::Display for KernelFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KernelFamily {
    type Err = KernelError;

    fn from_str(name: &str) -> Result<Self, KernelError> {
        let found = Self::ALL.into_iter().find(|family| family.name() == name);
        found.ok_or_else(|| KernelError::Unknown { found: name.to_owned() })
    }
}

#[cfg(target_arch = "x86_64")]
fn is_of_intel() -> bool {
    let leaf = std::arch::x86_64::__cpuid(0);
    [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel"
}

#[cfg(not(target_arch = "x86_64"))]
fn is_of_intel() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
fn has(feature: &str) -> bool {
    match feature {
        "avx2" => is_x86_feature_detected!("avx2"),
        "fma" => is_x86_feature_detected!("fma"),
        "avx512f" => is_x86_feature_detected!("avx512f"),
        "avx512bw" => is_x86_feature_detected!("avx512bw"),
        "avx512dq" => is_x86_feature_detected!("avx512dq"),
        "avx512vl" => is_x86_feature_detected!("avx512vl"),
        "avx512bf16" => is_x86_feature_detected!("avx512bf16"),
        "amx-tile" | "amx-bf16" => tiles::are_available(),
        _ => false,
    }
}

/// Tiles of the processor, which a process has to ask the system for: their contents are kept for each thread.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tiles {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    use std::sync::OnceLock;

    /// Bits of EDX of leaf 7: products of bfloat16 in tiles, and tiles.
    const TILES: u32 = 1 << 22 | 1 << 24;
    /// `arch_prctl`, and what asks for a component of the processor's state; that of the contents of tiles.
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;

    static ARE_AVAILABLE: OnceLock<bool> = OnceLock::new();

    /// Whether the processor has them and the system lets this process use them.
    pub(super) fn are_available() -> bool {
        *ARE_AVAILABLE.get_or_init(|| {
            let has_leaf = 7 <= __cpuid(0).eax;
            has_leaf && __cpuid_count(7, 0).edx & TILES == TILES && ask()
        })
    }

    fn ask() -> bool {
        let answer: i64;
        // SAFETY: the call reads its three registers; the kernel changes two others. One that doesn't know the request
        // answers with an error.
        unsafe {
            std::arch::asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => answer,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XFEATURE_XTILEDATA,
                out("rcx") _,
                out("r11") _,
                options(nostack)
            );
        }
        answer == 0
    }
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
mod tiles {
    /// Other systems than Linux are not asked.
    pub(super) fn are_available() -> bool {
        false
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn has(feature: &str) -> bool {
    // Every 64-bit ARM processor that Rust's targets are for has it.
    feature == "neon" && cfg!(target_arch = "aarch64")
}

/// Why kernels cannot run with a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelError {
    /// No family has this name.
    Unknown {
        /// The name.
        found: String,
    },
    /// The processor lacks features.
    Unavailable {
        /// What was asked for.
        family: KernelFamily,
        /// The features that it would need.
        missing: Vec<&'static str>,
    },
    /// Kernels have run with another one.
    InUse {
        /// What was asked for.
        family: KernelFamily,
        /// What is in use.
        current: KernelFamily,
    },
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |families: &[KernelFamily]| {
            families.iter().map(|family| family.name()).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::Unknown { found } => {
                write!(f, "no kernels are called {found:?}, but {}", names(&KernelFamily::ALL))
            }
            Self::Unavailable { family, missing } => write!(
                f,
                "kernels for {family} need {}, which this processor does not have; it can run {}",
                missing.join(", "),
                names(&KernelFamily::available())
            ),
            Self::InUse { family, current } => {
                write!(f, "kernels have run with {current} and cannot change to {family}")
            }
        }
    }
}

impl std::error::Error for KernelError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for family in KernelFamily::ALL {
            assert_eq!(family.to_string().parse(), Ok(family));
        }
        let error = "sse9".parse::<KernelFamily>().unwrap_err().to_string();
        let expected =
            "no kernels are called \"sse9\", but portable, avx2, avx512, avx512bf16, amx, neon";
        assert_eq!(error, expected);
    }

    #[test]
    fn the_best_family_is_one_that_the_processor_has_and_stays_in_use() {
        let current = KernelFamily::current();
        assert!(current.is_available());
        assert_eq!(current.force(), Ok(()));
        for other in KernelFamily::available().into_iter().filter(|&family| family != current) {
            assert_eq!(other.force(), Err(KernelError::InUse { family: other, current }));
        }
    }

    #[test]
    fn a_family_of_another_architecture_is_refused_with_what_is_missing() {
        let foreign =
            if cfg!(target_arch = "aarch64") { KernelFamily::Avx2 } else { KernelFamily::Neon };
        let error = foreign.force().unwrap_err();
        assert_eq!(
            error,
            KernelError::Unavailable { family: foreign, missing: foreign.features().to_vec() }
        );
    }
}
