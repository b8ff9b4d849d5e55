//! Numbers that are in their range once they are read.

use std::borrow::Cow;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};

/// A type for each range: what it holds, and what an error says that it should.
macro_rules! ranges {
    ($($(#[$doc:meta])* $name:ident: $inner:ty, |$x:ident| $holds:expr, $expected:literal, $schema:tt;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
        pub struct $name($inner);

        impl $name {
            /// The number, if it is in the range.
            pub const fn new($x: $inner) -> Option<Self> {
                if $holds { Some(Self($x)) } else { None }
            }

            /// The number.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl Deref for $name {
            type Target = $inner;

            fn deref(&self) -> &$inner {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let read = <$inner>::deserialize(deserializer)?;
                let found = || read.to_string();
                Self::new(read).ok_or_else(|| {
                    D::Error::invalid_value(Unexpected::Other(&found()), &$expected)
                })
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )+};
}

ranges! {
    /// A count of at least one.
    AtLeastOne: usize, |n| 1 <= n, "an integer from 1", {"type": "integer", "minimum": 1};
    /// A count of at least two.
    AtLeastTwo: usize, |n| 2 <= n, "an integer from 2", {"type": "integer", "minimum": 2};
    /// A number of optimizer steps or epochs, at least one.
    Steps: u64, |n| 1 <= n, "an integer from 1", {"type": "integer", "minimum": 1};
    /// A finite number.
    Finite: f64, |x| x.is_finite(), "a finite number", {"type": "number"};
    /// A finite number above 0.
    Positive: f64, |x| x.is_finite() && 0.0 < x, "a number above 0", {"type": "number", "exclusiveMinimum": 0};
    /// A finite number from 0.
    NonNegative: f64, |x| x.is_finite() && 0.0 <= x, "a number from 0", {"type": "number", "minimum": 0};
    /// A finite number from 0, which is none.
    Limit: f64, |x| x.is_finite() && 0.0 <= x, "a number from 0 (no limit)", {"type": "number", "minimum": 0};
    /// A number above 1.
    AboveOne: f64, |x| x.is_finite() && 1.0 < x, "a number above 1", {"type": "number", "exclusiveMinimum": 1};
    /// A number from 0 to 1.
    Fraction: f64, |x| 0.0 <= x && x <= 1.0, "a number from 0 to 1", {"type": "number", "minimum": 0, "maximum": 1};
    /// A number from 0 to less than 1.
    BelowOne: f64, |x| 0.0 <= x && x < 1.0, "a number from 0 to less than 1", {"type": "number", "minimum": 0, "exclusiveMaximum": 1};
    /// A number from 0 to less than ½.
    BelowHalf: f64, |x| 0.0 <= x && x < 0.5, "a number from 0 to below 0.5", {"type": "number", "minimum": 0, "exclusiveMaximum": 0.5};
    /// A number above 0, up to 1.
    Share: f64, |x| 0.0 < x && x <= 1.0, "a number above 0, up to 1", {"type": "number", "exclusiveMinimum": 0, "maximum": 1};
    /// Optimizer steps over which the learning rate rises: a count, or below 1 a share of the run's.
    Warmup: f64, |x| 0.0 <= x && x < 9e15 && (x < 1.0 || x % 1.0 == 0.0), "a number of steps, or a share of all steps from 0 to below 1", {"type": "number", "minimum": 0};
    /// Seconds until something is given up.
    Seconds: f64, |x| 0.0 < x && x <= 1e6, "seconds above 0", {"type": "number", "exclusiveMinimum": 0, "maximum": 1_000_000};
    /// The most tokens of an answer.
    Tokens: u32, |n| 1 <= n, "an integer from 1", {"type": "integer", "minimum": 1};
    /// Questions at a time.
    Parallel: usize, |n| 1 <= n && n <= 1024, "an integer from 1 to 1024", {"type": "integer", "minimum": 1, "maximum": 1024};
    /// A count of megabytes or processes.
    Allowance: u64, |n| 1 <= n && n <= 1 << 30, "an integer from 1", {"type": "integer", "minimum": 1, "maximum": 1_073_741_824};
}

impl Warmup {
    /// None.
    pub const NONE: Self = Self(0.0);

    /// In a run of `total` optimizer steps.
    pub fn steps(self, total: u64) -> u64 {
        if self.0 < 1.0 { (self.0 * total as f64).round() as u64 } else { self.0 as u64 }
    }
}

impl Seconds {
    /// As a duration.
    pub fn duration(self) -> std::time::Duration {
        std::time::Duration::from_secs_f64(self.0)
    }
}

/// Reads a number of which 0 says that there is none.
///
/// # Errors
/// As the number's own reading.
pub fn unless_zero<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Deref + Copy,
    T::Target: Default + PartialEq,
{
    let read = T::deserialize(deserializer)?;
    Ok((*read != <T::Target as Default>::default()).then_some(read))
}

/// Reads a count of which 0 says that there is none.
///
/// # Errors
/// As the count's own reading.
pub fn count_unless_zero<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default + PartialEq,
{
    let read = T::deserialize(deserializer)?;
    Ok((read != T::default()).then_some(read))
}
