//! How single values are written: in the file as TOML, in the environment and in flags as plain text; and what is allowed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use crate::host::Host;
use crate::protocol::LinkConditions;
use crate::protocol::limits::TICK_MILLIS;
use crate::store::names_postgres;

/// A value as somebody gave it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Given {
    /// Text without quotes, from the environment or a flag: what it is follows from the key.
    Plain(String),
    Text(String),
    Number(i128),
    Switch(bool),
    List(Vec<Self>),
    /// Something that no key takes.
    Other(&'static str),
}

impl Given {
    pub(super) fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(number) => {
                i128::from_str_radix(number.as_str(), number.radix()).map_or(Self::Other("too large a number"), Self::Number)
            }
            DeValue::Boolean(switch) => Self::Switch(*switch),
            DeValue::Array(items) => Self::List(items.iter().map(|item| Self::of(item.get_ref())).collect()),
            DeValue::Float(_) => Self::Other("a fraction"),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Table(_) => Self::Other("a table"),
        }
    }

    /// A value that a flag has read already.
    pub(super) fn plain(value: impl ToString) -> Self {
        Self::Plain(value.to_string())
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Plain(text) | Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn number(&self) -> Option<i128> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Plain(text) => text.trim().replace('_', "").parse().ok(),
            _ => None,
        }
    }
}

impl std::fmt::Display for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(text) | Self::Text(text) => write!(f, "{text:?}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Switch(switch) => write!(f, "{switch}"),
            Self::List(_) => f.write_str("a list"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// How the values of a key are read and written. An error says what is wanted.
pub(super) trait Form {
    type Value;

    fn read(&self, given: &Given) -> Result<Self::Value, String>;

    /// As TOML; nothing for what is not set.
    fn write(&self, value: &Self::Value) -> Option<String>;
}

/// Text, quoted.
pub(super) fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A whole number.
pub(super) struct Count<T>(pub(super) T, pub(super) T);

impl<T: Copy + TryFrom<i128> + Into<i128>> Form for Count<T> {
    type Value = T;

    fn read(&self, given: &Given) -> Result<T, String> {
        let (min, max): (i128, i128) = (self.0.into(), self.1.into());
        let number = given.number().filter(|number| (min..=max).contains(number)).and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("a whole number from {min} to {max} is wanted"))
    }

    fn write(&self, value: &T) -> Option<String> {
        Some((*value).into().to_string())
    }
}

/// A whole number that counts things in memory.
pub(super) struct Many(pub(super) usize, pub(super) usize);

impl Form for Many {
    type Value = usize;

    fn read(&self, given: &Given) -> Result<usize, String> {
        Count(self.0 as u64, self.1 as u64).read(given).map(|number| number as usize)
    }

    fn write(&self, value: &usize) -> Option<String> {
        Some(value.to_string())
    }
}

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Splits a number from its unit.
fn in_units(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = text.get(digits.len()..)?.trim();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    digits.replace('_', "").parse::<u64>().ok()?.checked_mul(*factor)
}

/// The largest unit in which a number is whole.
fn with_unit(number: u64, units: &[(&str, u64)]) -> String {
    let whole = units.iter().find(|(_, factor)| number > 0 && number.is_multiple_of(*factor)).or(units.last());
    whole.map_or_else(
        || number.to_string(),
        |(name, factor)| format!("{}{}{name}", number / factor, if name.len() > 1 && name.ends_with('B') { " " } else { "" }),
    )
}

/// An amount of bytes: a number of them, or with a unit.
pub(super) struct Bytes(pub(super) u64, pub(super) u64);

impl Form for Bytes {
    type Value = usize;

    fn read(&self, given: &Given) -> Result<usize, String> {
        let number = given.number().and_then(|number| u64::try_from(number).ok());
        let bytes = number.or_else(|| in_units(given.text()?, &SIZES)).filter(|bytes| (self.0..=self.1).contains(bytes));
        let wanted = || {
            format!("an amount from {} to {} is wanted, as {:?} or in bytes", with_unit(self.0, &SIZES), with_unit(self.1, &SIZES), "4 MiB")
        };
        bytes.and_then(|bytes| usize::try_from(bytes).ok()).ok_or_else(wanted)
    }

    fn write(&self, value: &usize) -> Option<String> {
        let size = with_unit(*value as u64, &SIZES);
        Some(if size.ends_with("iB") { quote(&size) } else { value.to_string() })
    }
}

/// The same where it is kept in less.
pub(super) struct Bytes32(pub(super) u32, pub(super) u32);

impl Form for Bytes32 {
    type Value = u32;

    fn read(&self, given: &Given) -> Result<u32, String> {
        let bytes = Bytes(self.0.into(), self.1.into()).read(given)?;
        u32::try_from(bytes).map_err(|error| error.to_string())
    }

    fn write(&self, value: &u32) -> Option<String> {
        Bytes(0, u64::MAX).write(&(*value as usize))
    }
}

const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

/// A time, with its unit.
pub(super) struct Time(pub(super) u64, pub(super) u64);

impl Form for Time {
    type Value = Duration;

    fn read(&self, given: &Given) -> Result<Duration, String> {
        let millis = given.text().and_then(|text| in_units(text, &TIMES)).filter(|millis| (self.0..=self.1).contains(millis));
        let wanted = || {
            format!(
                "a time from {} to {} is wanted, with its unit: ms, s, min, h or d",
                with_unit(self.0, &TIMES),
                with_unit(self.1, &TIMES)
            )
        };
        millis.map(Duration::from_millis).ok_or_else(wanted)
    }

    fn write(&self, value: &Duration) -> Option<String> {
        Some(quote(&with_unit(u64::try_from(value.as_millis()).unwrap_or(u64::MAX), &TIMES)))
    }
}

/// A time with its unit, as a flag of any verb may have it.
pub(in crate::cli) fn time_with_unit(text: &str) -> Result<Duration, String> {
    Time(0, 36_500 * 86_400_000).read(&Given::plain(text))
}

/// A number of ticks, or a time that is a whole number of them.
pub(super) struct Ticks(pub(super) u32, pub(super) u32);

impl Form for Ticks {
    type Value = u32;

    fn read(&self, given: &Given) -> Result<u32, String> {
        let of_time = |text| {
            in_units(text, &TIMES).filter(|millis| millis.is_multiple_of(TICK_MILLIS)).map(|millis| i128::from(millis / TICK_MILLIS))
        };
        let ticks = given.number().or_else(|| given.text().and_then(of_time)).and_then(|ticks| u32::try_from(ticks).ok());
        let (min, max) = (self.0, self.1);
        ticks.filter(|ticks| (min..=max).contains(ticks)).ok_or_else(|| {
            format!("a number of ticks from {min} to {max} is wanted, or a time, as \"10s\", of whole ticks of {TICK_MILLIS} ms")
        })
    }

    fn write(&self, value: &u32) -> Option<String> {
        Some(value.to_string())
    }
}

/// Yes or no.
pub(super) struct Switch;

impl Form for Switch {
    type Value = bool;

    fn read(&self, given: &Given) -> Result<bool, String> {
        match given {
            Given::Switch(switch) => Ok(*switch),
            Given::Plain(text) if text == "true" || text == "1" => Ok(true),
            Given::Plain(text) if text == "false" || text == "0" => Ok(false),
            _ => Err("true or false is wanted".to_owned()),
        }
    }

    fn write(&self, value: &bool) -> Option<String> {
        Some(value.to_string())
    }
}

/// Text of at least one letter and at most so many bytes.
pub(super) struct Words(pub(super) usize);

impl Form for Words {
    type Value = String;

    fn read(&self, given: &Given) -> Result<String, String> {
        let text = given.text().filter(|text| (1..=self.0).contains(&text.len()));
        text.map(str::to_owned).ok_or_else(|| format!("text of 1 to {} bytes is wanted", self.0))
    }

    fn write(&self, value: &String) -> Option<String> {
        Some(quote(value))
    }
}

/// The name of a room, as a host takes it.
pub(super) struct RoomName;

impl Form for RoomName {
    type Value = String;

    fn read(&self, given: &Given) -> Result<String, String> {
        let name = given.text().unwrap_or_default();
        Host::check_name(name).map(|()| name.to_owned())
    }

    fn write(&self, value: &String) -> Option<String> {
        Some(quote(value))
    }
}

/// Text that fits, and what fits.
pub(super) struct Fitting(pub(super) fn(&str) -> bool, pub(super) &'static str);

impl Form for Fitting {
    type Value = String;

    fn read(&self, given: &Given) -> Result<String, String> {
        given.text().filter(|text| self.0(text)).map(str::to_owned).ok_or_else(|| format!("{} is wanted", self.1))
    }

    fn write(&self, value: &String) -> Option<String> {
        Some(quote(value))
    }
}

/// A file or a folder, or none. A file's relative paths are taken from its own folder before they come here.
pub(super) struct Path;

impl Form for Path {
    type Value = Option<PathBuf>;

    fn read(&self, given: &Given) -> Result<Self::Value, String> {
        let path = given.text().ok_or("a path is wanted, or \"\" for none")?;
        Ok(Some(PathBuf::from(path)).filter(|_| !path.is_empty()))
    }

    fn write(&self, value: &Self::Value) -> Option<String> {
        // What is printed is good wherever it is put.
        let whole =
            |path: &PathBuf| if names_postgres(path) { path.clone() } else { std::path::absolute(path).unwrap_or_else(|_| path.clone()) };
        value.as_ref().map(|path| quote(&whole(path).to_string_lossy()))
    }
}

fn address(given: &Given) -> Result<SocketAddr, String> {
    let parsed = given.text().and_then(|text| text.trim().parse().ok());
    parsed.ok_or_else(|| "an address with a port is wanted, as \"127.0.0.1:5000\" or \"[::1]:5000\"".to_owned())
}

/// An address with a port.
pub(super) struct Address;

impl Form for Address {
    type Value = SocketAddr;

    fn read(&self, given: &Given) -> Result<SocketAddr, String> {
        address(given)
    }

    fn write(&self, value: &SocketAddr) -> Option<String> {
        Some(quote(&value.to_string()))
    }
}

/// Several; as plain text with commas between.
pub(super) struct Addresses(pub(super) usize);

impl Form for Addresses {
    type Value = Vec<SocketAddr>;

    fn read(&self, given: &Given) -> Result<Self::Value, String> {
        let list = match given {
            Given::List(list) => list.iter().map(address).collect(),
            Given::Plain(text) => text.split(',').filter(|part| !part.trim().is_empty()).map(|part| address(&Given::plain(part))).collect(),
            _ => Err("a list of addresses is wanted, as [\"203.0.113.7:5000\"]".to_owned()),
        };
        list.and_then(|list: Vec<_>| if list.len() <= self.0 { Ok(list) } else { Err(format!("at most {} addresses are wanted", self.0)) })
    }

    fn write(&self, value: &Self::Value) -> Option<String> {
        let all: Vec<String> = value.iter().map(|address| quote(&address.to_string())).collect();
        Some(format!("[{}]", all.join(", ")))
    }
}

/// One of a few words.
pub(super) struct OneOf<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Form for OneOf<T> {
    type Value = T;

    fn read(&self, given: &Given) -> Result<T, String> {
        let found = self.0.iter().find(|(name, _)| given.text() == Some(name));
        let names = || self.0.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(" or ");
        found.map(|(_, value)| *value).ok_or_else(|| format!("{} is wanted", names()))
    }

    fn write(&self, value: &T) -> Option<String> {
        self.0.iter().find(|(_, known)| known == value).map(|(name, _)| quote(name))
    }
}

/// The conditions of a simulated link, as text; or none.
pub(super) struct Conditions;

impl Form for Conditions {
    type Value = Option<String>;

    fn read(&self, given: &Given) -> Result<Self::Value, String> {
        let text = given.text().ok_or("conditions are wanted, as \"loss=5%,rtt=120ms\" or \"train\"")?;
        text.parse::<LinkConditions>().map_err(|error| error.to_string())?;
        Ok(Some(text.to_owned()).filter(|text| !text.trim().is_empty()))
    }

    fn write(&self, value: &Self::Value) -> Option<String> {
        value.as_ref().map(|text| quote(text))
    }
}

/// Where a room's chance starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seed {
    Fixed(u64),
    /// Another one for each room that is opened.
    Random,
}

/// A seed, or "random". TOML's numbers end at 2⁶³: larger ones are written as text.
pub(super) struct Chance;

impl Form for Chance {
    type Value = Seed;

    fn read(&self, given: &Given) -> Result<Seed, String> {
        let number = given.number().and_then(|number| u64::try_from(number).ok());
        match (number, given.text()) {
            (Some(seed), _) => Ok(Seed::Fixed(seed)),
            (None, Some("random")) => Ok(Seed::Random),
            (None, Some(text)) => text.parse().map(Seed::Fixed).map_err(|_| CHANCE.to_owned()),
            _ => Err(CHANCE.to_owned()),
        }
    }

    fn write(&self, value: &Seed) -> Option<String> {
        Some(match value {
            Seed::Random => quote("random"),
            Seed::Fixed(seed) if i64::try_from(*seed).is_err() => quote(&seed.to_string()),
            Seed::Fixed(seed) => seed.to_string(),
        })
    }
}

const CHANCE: &str = "a whole number that is not negative is wanted, or \"random\"";

/// What is logged.
pub(super) struct Filter;

impl Form for Filter {
    type Value = String;

    fn read(&self, given: &Given) -> Result<String, String> {
        let text = given.text().ok_or("module=level pairs are wanted, as \"warn,roomkeeper::host=info\"")?;
        crate::host::check_filter(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
    }

    fn write(&self, value: &String) -> Option<String> {
        Some(quote(value))
    }
}

/// A number or none.
pub(super) struct Perhaps<F>(pub(super) F);

impl<F: Form> Form for Perhaps<F> {
    type Value = Option<F::Value>;

    fn read(&self, given: &Given) -> Result<Self::Value, String> {
        match given {
            Given::Plain(text) | Given::Text(text) if text.is_empty() => Ok(None),
            given => self.0.read(given).map(Some),
        }
    }

    fn write(&self, value: &Self::Value) -> Option<String> {
        value.as_ref().and_then(|value| self.0.write(value))
    }
}
