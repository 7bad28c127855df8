//! A rule of KMS that ministack lacks: a key that is disabled or pending deletion has no public key.

use axum::http::HeaderValue;
use axum::http::request::Parts;
use serde_json::Value;

use super::wire::WireError;

/// The same request as a request for the state of the key.
pub(super) fn asking_for_state(head: &Parts) -> Parts {
    let mut head = head.clone();
    head.headers.insert("x-amz-target", HeaderValue::from_static("TrentService.DescribeKey"));
    head
}

/// KMS's refusal, if the described key is in a state in which it cannot be used.
pub(super) fn refusal(described: &Value) -> Option<WireError> {
    let key = &described["KeyMetadata"];
    let arn = key["Arn"].as_str()?;
    match key["KeyState"].as_str()? {
        "Disabled" => Some(WireError::new(400, "DisabledException", &format!("{arn} is disabled."))),
        "PendingDeletion" => {
            Some(WireError::new(400, "KMSInvalidStateException", &format!("{arn} is pending deletion.")))
        }
        _ => None,
    }
}
