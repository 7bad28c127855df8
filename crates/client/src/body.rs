//! The body of one message to the signing queue, with what sending it needs to know of it.

use std::fmt;

use serde_json::{Value, json};
use signpost_txmgr::request::{AccountRef, Message, Refused};
use signpost_txmgr::text;
use signpost_txmgr::units::RequestId;

/// A message's body. Made by [`crate::Request::build`] or from JSON of your own.
///
/// `Debug` gives the length of the text, never the text: it may hold calldata, or what looks like a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Body {
    text: String,
    id: Option<String>,
    group: Option<String>,
}

impl Body {
    /// JSON of your own, read as the service will. What looks like a key or a seed does not get into a queue.
    pub fn parse(text: impl Into<String>) -> Result<Self, Refused> {
        let text = text.into();
        Message::parse(&text)?;
        // The same to who reads it, and taken by SQS whatever it holds.
        Ok(Self::unchecked(text::json_written(&text)))
    }

    /// A text as it is. The service answers what it cannot read with a `rejected` outcome.
    #[must_use]
    pub fn unchecked(text: impl Into<String>) -> Self {
        let text = text.into();
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        let field = |name| json.get(name).and_then(Value::as_str).filter(|found| !found.is_empty()).map(str::to_owned);
        let (id, account) = (field("requestId"), field("account"));
        // One group for a pool would pass its requests on one batch at a time, as if it were one account.
        let is_pool = |account: &String| account.starts_with(AccountRef::POOL);
        let group = if account.as_ref().is_some_and(is_pool) { id.clone() } else { account };
        Self { text, id, group }
    }

    /// Asks for a request not to be executed. Promises nothing: the outcome is whichever transaction of
    /// its slot is finalized.
    #[must_use]
    pub fn cancel(id: &RequestId) -> Self {
        Self { text: json!({ "cancel": id.as_str() }).to_string(), id: Some(id.to_string()), group: None }
    }

    /// Sends it in this message group on a FIFO queue, where the body names no account: in the group of
    /// its request a cancel does not overtake it.
    #[must_use]
    pub fn in_group(mut self, account: impl Into<String>) -> Self {
        self.group.get_or_insert(account.into());
        self
    }

    /// The JSON.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The request's id, if there is one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub(crate) fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("id", &self.id)
            .field("group", &self.group)
            .field("text", &format_args!("{} bytes", self.text.len()))
            .finish()
    }
}
