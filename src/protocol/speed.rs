//! How fast a room goes: what an operator may change of its time.

use serde::{Deserialize, Serialize};

/// How fast a room goes, in hundredths of its pace of 20 ticks a second.
///
/// ```
/// use roomkeeper::protocol::Speed;
///
/// assert_eq!(Speed::from_ratio(0.5), Some(Speed::hundredths(50).unwrap()));
/// assert!(Speed::STILL.is_still() && Speed::default() == Speed::FULL);
/// assert_eq!(Speed::from_ratio(5.0), None, "four times is as fast as it goes");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Speed(u16);

impl Speed {
    /// The room stands still: nothing happens in it, and what is timed by its ticks waits.
    pub const STILL: Self = Self(0);

    /// As it goes by itself.
    pub const FULL: Self = Self(100);

    /// As fast as it can be made to go: four ticks in 50 ms.
    pub const MAX: Self = Self(400);

    /// A speed in hundredths, from 0 to 400.
    pub fn hundredths(hundredths: u16) -> Option<Self> {
        (hundredths <= Self::MAX.0).then_some(Self(hundredths))
    }

    /// The nearest speed to a ratio, from 0 to 4.
    pub fn from_ratio(ratio: f64) -> Option<Self> {
        let hundredths = (ratio * 100.0).round();
        (0.0..=f64::from(Self::MAX.0)).contains(&hundredths).then_some(Self(hundredths as u16))
    }

    /// In hundredths.
    pub fn as_hundredths(self) -> u16 {
        self.0
    }

    /// As a ratio: 1 is the room's own pace.
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// True if the room stands still.
    pub fn is_still(self) -> bool {
        self == Self::STILL
    }
}

impl Default for Speed {
    fn default() -> Self {
        Self::FULL
    }
}

impl std::fmt::Display for Speed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} %", self.0)
    }
}
