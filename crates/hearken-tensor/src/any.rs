//! A device that is chosen when the program starts: what is written over it is compiled once, whatever
//! devices there are.
//!
//! Not here: anything computed. Every operation goes to the device that was chosen.

use std::borrow::Cow;
use std::fmt::Debug;
use std::str::FromStr;

use crate::cpu::{self, Cpu};
use crate::device::{
    Activation, AdamW, Attention, Cache, CacheMut, CachedRow, Device, Dropout, Gate, HeadOptions,
    Heads, Int8Scales, LinearPart, OutOfMemory, Precision, Prediction, PredictionGrad, QkvLayout,
    Rotary, Rotation, View, ViewMut, Weight, WeightShape, Write,
};
use crate::draw::DrawRow;
use crate::forest::Forest;
use crate::reference::{self, Reference};

/// One of the devices.
#[derive(Clone, Debug)]
pub enum AnyDevice {
    /// The processor.
    Cpu(Cpu),
    /// The slow device that computes as definitions read.
    Reference(Reference),
}

impl AnyDevice {
    /// The name that [`AnyDevice::from_str`] reads.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cpu(_) => "cpu",
            Self::Reference(_) => "reference",
        }
    }
}

/// A device that there is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownDevice {
    /// What was found.
    pub found: String,
}

impl std::fmt::Display for UnknownDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "found the device \"{}\", expected \"cpu\" or \"reference\"", self.found)
    }
}

impl std::error::Error for UnknownDevice {}

impl FromStr for AnyDevice {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, UnknownDevice> {
        match name {
            "cpu" => Ok(Self::Cpu(Cpu::new())),
            "reference" => Ok(Self::Reference(Reference)),
            _ => Err(UnknownDevice { found: name.to_owned() }),
        }
    }
}

/// What belongs to one of the devices.
#[derive(Clone, Debug)]
pub enum Owned<C, R> {
    /// To the processor.
    Cpu(C),
    /// To the reference.
    Reference(R),
}

/// What devices derive from a weight; that of the device which is not used stays empty.
#[derive(Debug, Default)]
pub struct Prepared {
    cpu: cpu::Prepared,
    reference: reference::Prepared,
}

/// A buffer of one of the devices.
pub type Buffer = Owned<cpu::Buffer, reference::Values>;

type Ids = Owned<<Cpu as Device>::Ids, <Reference as Device>::Ids>;
type Forests = Owned<<Cpu as Device>::ForestPlan, <Reference as Device>::ForestPlan>;
type Caches = Owned<<Cpu as Device>::CachePlan, <Reference as Device>::CachePlan>;

/// What is handed to an operation, as a device takes it. Where it belongs to another device, that is a
/// bug of the caller, and a panic.
trait Hand {
    /// As the processor takes it.
    type Cpu;
    /// As the reference takes it.
    type Reference;

    fn to_cpu(self) -> Self::Cpu;
    fn to_reference(self) -> Self::Reference;
}

const MIXED: &str = "invariant: what one device made goes to that device";

impl<C, R> Hand for Owned<C, R> {
    type Cpu = C;
    type Reference = R;

    fn to_cpu(self) -> C {
        let Self::Cpu(own) = self else { panic!("{MIXED}") };
        own
    }

    fn to_reference(self) -> R {
        let Self::Reference(own) = self else { panic!("{MIXED}") };
        own
    }
}

impl<'a, C, R> Hand for &'a Owned<C, R> {
    type Cpu = &'a C;
    type Reference = &'a R;

    fn to_cpu(self) -> &'a C {
        let Owned::Cpu(own) = self else { panic!("{MIXED}") };
        own
    }

    fn to_reference(self) -> &'a R {
        let Owned::Reference(own) = self else { panic!("{MIXED}") };
        own
    }
}

impl<'a, C, R> Hand for &'a mut Owned<C, R> {
    type Cpu = &'a mut C;
    type Reference = &'a mut R;

    fn to_cpu(self) -> &'a mut C {
        let Owned::Cpu(own) = self else { panic!("{MIXED}") };
        own
    }

    fn to_reference(self) -> &'a mut R {
        let Owned::Reference(own) = self else { panic!("{MIXED}") };
        own
    }
}

impl<'a> Hand for &'a Prepared {
    type Cpu = &'a cpu::Prepared;
    type Reference = &'a reference::Prepared;

    fn to_cpu(self) -> Self::Cpu {
        &self.cpu
    }

    fn to_reference(self) -> Self::Reference {
        &self.reference
    }
}

impl<T: Hand> Hand for Option<T> {
    type Cpu = Option<T::Cpu>;
    type Reference = Option<T::Reference>;

    fn to_cpu(self) -> Self::Cpu {
        self.map(T::to_cpu)
    }

    fn to_reference(self) -> Self::Reference {
        self.map(T::to_reference)
    }
}

impl<T: Hand> Hand for Vec<T> {
    type Cpu = Vec<T::Cpu>;
    type Reference = Vec<T::Reference>;

    fn to_cpu(self) -> Self::Cpu {
        self.into_iter().map(T::to_cpu).collect()
    }

    fn to_reference(self) -> Self::Reference {
        self.into_iter().map(T::to_reference).collect()
    }
}

/// What has parts that belong to a device, field by field.
macro_rules! hand_fields {
    ($($part:ident<$life:lifetime, $($any:ty => $cpu:ty, $reference:ty),+> {
        owned: $($owned:ident)+, plain: $($plain:ident)*
    })*) => {
        $(impl<$life> Hand for $part<$life, $($any),+> {
            type Cpu = $part<$life, $($cpu),+>;
            type Reference = $part<$life, $($reference),+>;

            fn to_cpu(self) -> Self::Cpu {
                $part { $($owned: self.$owned.to_cpu(),)+ $($plain: self.$plain),* }
            }

            fn to_reference(self) -> Self::Reference {
                $part { $($owned: self.$owned.to_reference(),)+ $($plain: self.$plain),* }
            }
        })*
    };
}

hand_fields! {
    View<'a, Buffer => cpu::Buffer, reference::Values> { owned: buffer, plain: rows }
    ViewMut<'a, Buffer => cpu::Buffer, reference::Values> { owned: buffer, plain: rows }
    Weight<'a, Buffer => cpu::Buffer, reference::Values, Prepared => cpu::Prepared, reference::Prepared> {
        owned: values prepared, plain: shape
    }
    LinearPart<'a, Buffer => cpu::Buffer, reference::Values, Prepared => cpu::Prepared, reference::Prepared> {
        owned: weight bias, plain: y
    }
    Rotary<'a, Buffer => cpu::Buffer, reference::Values> { owned: cos sin, plain: rotary_dim }
    Cache<'a, Buffer => cpu::Buffer, reference::Values> { owned: keys values, plain: page_len precision }
    CacheMut<'a, Buffer => cpu::Buffer, reference::Values> { owned: keys values, plain: page_len precision }
    DrawRow<'a, Buffer => cpu::Buffer, reference::Values> {
        owned: logits, plain: choice added allowed likeliest
    }
}

/// What is the same for every device.
macro_rules! hand_plain {
    ($($plain:ty),* $(,)?) => {
        $(impl Hand for $plain {
            type Cpu = Self;
            type Reference = Self;

            fn to_cpu(self) -> Self {
                self
            }

            fn to_reference(self) -> Self {
                self
            }
        })*
    };
}

hand_plain!(
    usize,
    u32,
    f32,
    f64,
    &[f32],
    &mut [f32],
    &[u32],
    &Forest,
    &[CachedRow<'_>],
    &[Prediction],
    &[PredictionGrad],
    Activation,
    AdamW,
    Attention,
    Dropout,
    Gate,
    HeadOptions,
    Heads,
    Int8Scales,
    Precision,
    QkvLayout,
    Rotation,
    WeightShape,
    Write,
);

/// What an operation gives, from the device that computed it.
trait Take<C, R> {
    fn of_cpu(from: C) -> Self;
    fn of_reference(from: R) -> Self;
}

impl<C, R> Take<C, R> for Owned<C, R> {
    fn of_cpu(from: C) -> Self {
        Self::Cpu(from)
    }

    fn of_reference(from: R) -> Self {
        Self::Reference(from)
    }
}

impl<C, R> Take<Result<C, OutOfMemory>, Result<R, OutOfMemory>>
    for Result<Owned<C, R>, OutOfMemory>
{
    fn of_cpu(from: Result<C, OutOfMemory>) -> Self {
        from.map(Owned::Cpu)
    }

    fn of_reference(from: Result<R, OutOfMemory>) -> Self {
        from.map(Owned::Reference)
    }
}

macro_rules! take_plain {
    ($($plain:ty),*) => {
        $(impl Take<$plain, $plain> for $plain {
            fn of_cpu(from: $plain) -> Self {
                from
            }

            fn of_reference(from: $plain) -> Self {
                from
            }
        })*
    };
}

take_plain!((), bool, usize);

/// Hands every operation on to the device that was chosen.
macro_rules! chosen {
    ($($(#[$meta:meta])* $kind:ident fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)?;)*) => {
        impl Device for AnyDevice {
            type Buffer = Buffer;
            type Prepared = Prepared;
            type Ids = Ids;
            type ForestPlan = Forests;
            type CachePlan = Caches;
            type Deferred<T: Debug + Send> =
                Owned<<Cpu as Device>::Deferred<T>, <Reference as Device>::Deferred<T>>;

            fn wait<T: Debug + Send>(&self, deferred: Self::Deferred<T>) -> T {
                match self {
                    Self::Cpu(device) => device.wait(deferred.to_cpu()),
                    Self::Reference(device) => device.wait(deferred.to_reference()),
                }
            }

            fn read<'a>(&self, buffer: &'a Buffer) -> Cow<'a, [f32]> {
                match self {
                    Self::Cpu(device) => device.read(buffer.to_cpu()),
                    Self::Reference(device) => device.read(buffer.to_reference()),
                }
            }

            $(fn $name(&self, $($arg: $type),*) $(-> $out)? {
                match self {
                    Self::Cpu(device) => Take::of_cpu(device.$name($($arg.to_cpu()),*)),
                    Self::Reference(device) => {
                        Take::of_reference(device.$name($($arg.to_reference()),*))
                    }
                }
            })*
        }
    };
}

device_operations!(chosen);
