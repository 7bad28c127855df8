//! The body of one message to the signing queue, with the fields that sending needs.

use std::fmt;

use serde_json::{Value, json};
use signpost_txmgr::request::{AccountRef, Message, Refused};
use signpost_txmgr::text;
use signpost_txmgr::units::RequestId;

/// A message's body. Created by [`crate::Request::build`] or from your own JSON.
///
/// `Debug` prints the length of the text, never the text: it may hold calldata or a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Body {
    text: String,
    id: Option<String>,
    group: Option<String>,
}

impl Body {
    /// Your own JSON, checked with the service's parser. A text with a key or a seed is refused before it gets into a
    /// queue.
    pub fn parse(text: impl Into<String>) -> Result<Self, Refused> {
        let text = text.into();
        Message::parse(&text)?;
        // The same JSON, with escapes for the characters that SQS refuses.
        Ok(Self::unchecked(text::json_written(&text)))
    }

    /// A text without checks. The service answers an unreadable one with a `rejected` outcome.
    #[must_use]
    pub fn unchecked(text: impl Into<String>) -> Self {
        let text = text.into();
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        let field = |name| json.get(name).and_then(Value::as_str).filter(|found| !found.is_empty()).map(str::to_owned);
        let (id, account) = (field("requestId"), field("account"));
        // A single group for a pool would limit it to one batch at a time, as if it were one account.
        let is_pool = |account: &String| account.starts_with(AccountRef::POOL);
        let group = if account.as_ref().is_some_and(is_pool) { id.clone() } else { account };
        Self { text, id, group }
    }

    /// Requests the cancellation of a request. Not guaranteed: the outcome depends on which transaction of
    /// the slot is finalized.
    #[must_use]
    pub fn cancel(id: &RequestId) -> Self {
        Self { text: json!({ "cancel": id.as_str() }).to_string(), id: Some(id.to_string()), group: None }
    }

    /// Sets the message group for a FIFO queue, if the body names no account. In the group of
    /// its request, a cancel does not overtake the request.
    #[must_use]
    pub fn in_group(mut self, account: impl Into<String>) -> Self {
        self.group.get_or_insert(account.into());
        self
    }

    /// The JSON text.
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
