//! Reads attributes, and names the malformed one in its error. Never panics on stored data and
//! never prints a value in an error.

use std::fmt;
use std::str::FromStr;

use aws_sdk_dynamodb::types::AttributeValue;
use signpost_txmgr::units::Millis;

use super::{Item, VERSION};

/// A malformed item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("attribute {attribute} {problem}")]
pub struct ItemError {
    /// The path of the attribute, for example `attempts[1].fee.gasPrice`.
    pub attribute: String,
    /// The problem with it.
    pub problem: Problem,
}

/// A problem with an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It is missing.
    Missing,
    /// It does not have this type.
    NotA(&'static str),
    /// Its text or number is not valid, for this reason.
    Value(String),
    /// It contradicts this other attribute.
    Contradicts(&'static str),
    /// The item has a newer version than this program knows.
    Newer {
        /// The version found.
        found: u64,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::NotA(wanted) => write!(f, "is not {wanted}"),
            Self::Value(why) => f.write_str(why),
            Self::Contradicts(other) => write!(f, "contradicts {other}"),
            Self::Newer { found } => {
                write!(f, "is {found}; this program reads versions up to {VERSION}: update it")
            }
        }
    }
}

/// A map of attributes with its path in the item.
pub(crate) struct Reader<'a> {
    item: &'a Item,
    path: String,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(item: &'a Item) -> Self {
        Self { item, path: String::new() }
    }

    /// Checks `itemVersion`.
    pub(crate) fn version(&self) -> Result<(), ItemError> {
        match self.number("itemVersion")? {
            VERSION => Ok(()),
            found => Err(self.error("itemVersion", Problem::Newer { found })),
        }
    }

    pub(crate) fn error(&self, name: &str, problem: Problem) -> ItemError {
        ItemError { attribute: format!("{}{name}", self.path), problem }
    }

    fn get(&self, name: &str) -> Option<&'a AttributeValue> {
        self.item.get(name)
    }

    fn need<T>(&self, name: &str, found: Option<T>) -> Result<T, ItemError> {
        found.ok_or_else(|| self.error(name, Problem::Missing))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.item.contains_key(name)
    }

    /// The names of all attributes.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.item.keys().map(String::as_str)
    }

    pub(crate) fn text_if(&self, name: &str) -> Result<Option<&'a str>, ItemError> {
        match self.get(name) {
            None => Ok(None),
            Some(AttributeValue::S(text)) => Ok(Some(text)),
            Some(_) => Err(self.error(name, Problem::NotA("a string"))),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Result<&'a str, ItemError> {
        self.text_if(name).and_then(|found| self.need(name, found))
    }

    /// A string attribute as a quantity.
    pub(crate) fn parsed_if<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<Option<T>, ItemError> {
        let value = |why: T::Err| self.error(name, Problem::Value(why.to_string()));
        self.text_if(name)?.map(|text| text.parse().map_err(value)).transpose()
    }

    pub(crate) fn parsed<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<T, ItemError> {
        self.parsed_if(name).and_then(|found| self.need(name, found))
    }

    pub(crate) fn number_if(&self, name: &str) -> Result<Option<u64>, ItemError> {
        match self.get(name) {
            None => Ok(None),
            Some(AttributeValue::N(digits)) => digits
                .parse()
                .map(Some)
                .map_err(|_| self.error(name, Problem::Value("is not a whole number below 2^64".to_owned()))),
            Some(_) => Err(self.error(name, Problem::NotA("a number"))),
        }
    }

    pub(crate) fn number(&self, name: &str) -> Result<u64, ItemError> {
        self.number_if(name).and_then(|found| self.need(name, found))
    }

    pub(crate) fn millis_if(&self, name: &str) -> Result<Option<Millis>, ItemError> {
        self.number_if(name).map(|found| found.map(Millis))
    }

    pub(crate) fn millis(&self, name: &str) -> Result<Millis, ItemError> {
        self.number(name).map(Millis)
    }

    /// Whole seconds, as milliseconds.
    pub(crate) fn seconds_if(&self, name: &str) -> Result<Option<Millis>, ItemError> {
        let far = || self.error(name, Problem::Value("is too far in the future".to_owned()));
        self.number_if(name)?.map(|s| s.checked_mul(1_000).map(Millis).ok_or_else(far)).transpose()
    }

    pub(crate) fn flag(&self, name: &str) -> Result<bool, ItemError> {
        let found = self.need(name, self.get(name))?;
        found.as_bool().copied().map_err(|_| self.error(name, Problem::NotA("a boolean")))
    }

    pub(crate) fn bytes(&self, name: &str) -> Result<&'a [u8], ItemError> {
        let found = self.need(name, self.get(name))?;
        found.as_b().map(AsRef::as_ref).map_err(|_| self.error(name, Problem::NotA("binary")))
    }

    pub(crate) fn map_if(&self, name: &str) -> Result<Option<Reader<'a>>, ItemError> {
        match self.get(name) {
            None => Ok(None),
            Some(AttributeValue::M(item)) => Ok(Some(Reader { item, path: format!("{}{name}.", self.path) })),
            Some(_) => Err(self.error(name, Problem::NotA("a map"))),
        }
    }

    pub(crate) fn map(&self, name: &str) -> Result<Reader<'a>, ItemError> {
        self.map_if(name).and_then(|found| self.need(name, found))
    }

    /// A list of maps.
    pub(crate) fn maps(&self, name: &str) -> Result<Vec<Reader<'a>>, ItemError> {
        let found = self.need(name, self.get(name))?;
        let list = found.as_l().map_err(|_| self.error(name, Problem::NotA("a list")))?;
        let entry = |(at, value): (usize, &'a AttributeValue)| {
            let item = value.as_m().map_err(|_| self.error(&format!("{name}[{at}]"), Problem::NotA("a map")))?;
            Ok(Reader { item, path: format!("{}{name}[{at}].", self.path) })
        };
        list.iter().enumerate().map(entry).collect()
    }

    /// A list of maps; empty if it is missing.
    pub(crate) fn maps_if(&self, name: &str) -> Result<Vec<Reader<'a>>, ItemError> {
        if self.has(name) { self.maps(name) } else { Ok(Vec::new()) }
    }

    /// JSON stored as text.
    pub(crate) fn json_if(&self, name: &str) -> Result<Option<serde_json::Value>, ItemError> {
        let value = |_| self.error(name, Problem::Value("is not JSON".to_owned()));
        self.text_if(name)?.map(|text| serde_json::from_str(text).map_err(value)).transpose()
    }
}
