//! A JSON document with numbers as written, duplicate names detected, and limits on size and depth.
//!
//! `serde_json` parses the text into our own tree, because `serde_json::Value` silently keeps the last of two fields
//! with the same name. The whole body is read before anything is refused, so that a secret anywhere in the body is
//! reported first.
//!
//! Read next: [`super::fields`].

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::names::{self, shown};
use super::refused::{Code, Refused};

/// The maximum size of a body in bytes: the limit of SQS.
pub const MAX_BODY_BYTES: usize = 1_048_576;

/// The maximum nesting of objects and lists. The body itself is level 1.
pub const MAX_DEPTH: usize = 16;

/// The maximum number of secret-like names that a refusal lists. It says if there are more.
const SECRETS_NAMED_MAX: usize = 16;

/// The field name with which `serde_json` passes the text of a number that is not a 64-bit integer.
const NUMBER: &str = "$serde_json::private::Number";

/// No name may have this prefix: when `serde_json` parses the field again, it would become a different value.
const RESERVED: &str = "$serde_json::private::";

/// A value of a document.
#[derive(Debug, PartialEq)]
pub(super) enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as written.
    Number(String),
    /// A string.
    Text(Cow<'a, str>),
    /// A list.
    List(Vec<Json<'a>>),
    /// An object.
    Object(Object<'a>),
}

/// An object, its names sorted.
pub(super) type Object<'a> = BTreeMap<Cow<'a, str>, Json<'a>>;

impl Json<'_> {
    /// The type of the value, for a refusal.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// The value as a `serde_json` tree.
    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(bool) => Value::Bool(*bool),
            Self::Number(text) => text.parse().map_or(Value::Null, Value::Number),
            Self::Text(text) => Value::String(text.clone().into_owned()),
            Self::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Self::Object(fields) => Value::Object(
                fields.iter().map(|(name, value)| (name.clone().into_owned(), value.to_value())).collect(),
            ),
        }
    }
}

/// A parsed body: the tree, if the JSON is valid, and what the parser found.
#[derive(Debug)]
pub(super) struct Document<'a> {
    root: Result<Json<'a>, Position>,
    notes: Notes,
    too_large: bool,
}

#[derive(Debug)]
struct Position {
    line: usize,
    column: usize,
}

/// What the parser found, up to the end of the body or the first syntax error.
#[derive(Debug, Default)]
struct Notes {
    /// The names from our lists that the secret-like fields match.
    secrets: BTreeSet<&'static str>,
    /// The names of these fields as sent, or ours if a name must not be repeated.
    secrets_as_sent: BTreeSet<String>,
    more_secrets: bool,
    duplicate: Option<String>,
    reserved: bool,
    too_deep: bool,
    request_id: Option<String>,
    request_ids: u32,
}

impl Notes {
    fn notice_secret(&mut self, secret: &'static str, as_sent: &str) {
        self.secrets.insert(secret);
        if self.secrets_as_sent.len() < SECRETS_NAMED_MAX || self.secrets_as_sent.contains(as_sent) {
            self.secrets_as_sent.insert(as_sent.to_owned());
        } else {
            self.more_secrets = true;
        }
    }
}

impl<'a> Document<'a> {
    /// Parses the whole body.
    pub(super) fn read(body: &'a str) -> Self {
        let mut notes = Notes { reserved: body.contains(RESERVED), ..Notes::default() };
        if body.len() > MAX_BODY_BYTES {
            return Self { root: Ok(Json::Null), notes, too_large: true };
        }
        let mut deserializer = serde_json::Deserializer::from_str(body);
        let root = Node { notes: &mut notes, depth: 1 }
            .deserialize(&mut deserializer)
            .and_then(|root| deserializer.end().map(|()| root))
            .map_err(|error| Position { line: error.line(), column: error.column() });
        Self { root, notes, too_large: false }
    }

    /// The fields of the body, if it is a valid object.
    pub(super) fn object(&self) -> Result<&Object<'a>, Refused> {
        if self.too_large {
            let message = format!("the message is larger than {MAX_BODY_BYTES} bytes");
            return Err(Refused::whole(Code::TooLarge, message));
        }
        if let Some(secret) = self.notes.secrets.first() {
            let found: Vec<_> = self.notes.secrets.iter().map(|secret| format!("`{secret}`")).collect();
            let message = match &found[..] {
                [one] => format!(
                    "the message has a field named like {one}; never send keys or phrases, treat this one as disclosed"
                ),
                several => format!(
                    "the message has fields named like {}; never send keys or phrases, treat these as disclosed",
                    several.join(", ")
                ),
            };
            return Err(Refused::field(Code::SecretField, secret, message));
        }
        let root = self.root.as_ref().map_err(|at| {
            let message = format!("the message is not JSON: see line {} column {}", at.line, at.column);
            Refused::whole(Code::NotJson, message)
        })?;
        let Json::Object(fields) = root else {
            let message = format!("the message is {}; send a JSON object", root.kind());
            return Err(Refused::whole(Code::NotAnObject, message));
        };
        if self.notes.too_deep {
            let message = format!("the message is nested more than {MAX_DEPTH} levels deep");
            return Err(Refused::whole(Code::TooDeep, message));
        }
        if self.notes.reserved {
            let message = format!("names starting with `{RESERVED}` are reserved; rename the field");
            return Err(Refused::whole(Code::UnknownField, message));
        }
        if let Some(name) = &self.notes.duplicate {
            let name = shown(name).unwrap_or("a field");
            let message = format!("`{name}` is given twice; give it once");
            return Err(Refused::field(Code::DuplicateField, name, message));
        }
        Ok(fields)
    }

    /// All secret-like names in the body, sorted and separated by commas: as sent if they may be repeated, otherwise
    /// ours. `None` if there are none.
    pub(super) fn secret_names(&self) -> Option<String> {
        let mut names: Vec<&str> = self.notes.secrets_as_sent.iter().map(String::as_str).collect();
        if names.is_empty() {
            return None;
        }
        if self.notes.more_secrets {
            names.push("and others");
        }
        Some(names.join(", "))
    }

    /// The text of `requestId` if it occurs once, even if the rest is invalid.
    pub(super) fn request_id(&self) -> Option<&str> {
        (self.notes.request_ids == 1).then_some(self.notes.request_id.as_deref()).flatten()
    }
}

/// Parses one value at a depth.
struct Node<'n> {
    notes: &'n mut Notes,
    depth: usize,
}

impl Node<'_> {
    fn below(&mut self) -> Node<'_> {
        Node { notes: self.notes, depth: self.depth.saturating_add(1) }
    }

    fn notice_depth(&mut self) {
        self.notes.too_deep |= self.depth > MAX_DEPTH;
    }

    fn notice_name(&mut self, name: &str) {
        let at_top = self.depth == 1;
        if at_top && name == "requestId" {
            self.notes.request_ids = self.notes.request_ids.saturating_add(1);
        }
        if at_top && names::KNOWN.contains(&name) {
            return;
        }
        if let Some(secret) = names::secret_like(name) {
            self.notes.notice_secret(secret, shown(name).unwrap_or(secret));
        }
        self.notes.reserved |= name.starts_with(RESERVED);
    }

    /// Adds a field. Its name was checked before its value was parsed.
    fn insert<'de>(&mut self, fields: &mut Object<'de>, name: Cow<'de, str>, value: Json<'de>) {
        if self.depth == 1
            && name == "requestId"
            && let Json::Text(text) = &value
        {
            self.notes.request_id = Some(text.clone().into_owned());
        }
        match fields.entry(name) {
            Entry::Vacant(place) => {
                place.insert(value);
            }
            Entry::Occupied(first) => {
                self.notes.duplicate.get_or_insert_with(|| first.key().clone().into_owned());
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Json<'de>;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, bool: bool) -> Result<Self::Value, E> {
        Ok(Json::Bool(bool))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Json::Number(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Json::Number(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self::Value, A::Error> {
        self.notice_depth();
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(self.below())? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    /// An object, or a number: with `arbitrary_precision`, `serde_json` passes a number that is not a 64-bit integer as
    /// an object with one field named [`NUMBER`]. A body that contains this name is marked as reserved beforehand. If
    /// the body writes the name with escapes, the name is not borrowed text.
    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Object::new();
        while let Some(name) = map.next_key_seed(Name)? {
            if !self.notes.reserved && matches!(name, Cow::Borrowed(NUMBER)) {
                return map.next_value().map(Json::Number);
            }
            self.notice_depth();
            self.notice_name(&name);
            let value = map.next_value_seed(self.below())?;
            self.insert(&mut fields, name, value);
        }
        Ok(Json::Object(fields))
    }
}

/// Parses a field's name, which is borrowed from the body unless it contains escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }
}
