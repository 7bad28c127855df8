//! The contract's cases, and the check of an answer against its case.

use serde_json::Value;

/// The key of the cases.
pub(crate) const SECRET: [u8; 32] = [0x46; 32];
/// The key's id in the function's configuration.
pub(crate) const KEY_ID: &str = "11111111-2222-3333-4444-555555555555";

/// One case.
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) request: String,
    expect: Value,
}

pub(crate) fn all() -> Vec<Case> {
    let file: Value = serde_json::from_str(include_str!("../../../../tests/vectors/sign-direct.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let cases: Vec<_> = file["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| Case {
            id: text(&case["id"]),
            env: case["env"].as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value))).collect(),
            request: text(&case["request"]),
            expect: case["expect"].clone(),
        })
        .collect();
    assert_eq!(cases.len(), 60, "the file changed: update the number of cases here");
    cases
}

impl Case {
    pub(crate) fn refuses_to_start(&self) -> bool {
        self.expect["kind"] == "configError"
    }

    /// The variable that the error must name if the function refuses to start.
    pub(crate) fn variable(&self) -> &'static str {
        if self.id.contains("chain_id") { "CHAIN_ID" } else { "ETH_NETWORK" }
    }

    /// Checks an answer, byte for byte if the case defines it.
    pub(crate) fn judge(&self, answer: &Value) {
        if self.expect["kind"] == "signed" {
            assert_eq!(*answer, serde_json::json!({ "signed_tx": self.expect["signed_tx"] }), "{}", self.id);
            return;
        }
        assert_eq!(self.expect["kind"], "error", "{}", self.id);
        let (text, code) = error(answer);
        assert!(!text.is_empty() && !code.is_empty(), "{}: {answer}", self.id);
        if let Some(expected) = self.expect["error"].as_str() {
            assert_eq!(text, expected, "{}", self.id);
        }
    }
}

/// Text and code of an error answer. Panics for any other answer.
pub(crate) fn error(answer: &Value) -> (&str, &str) {
    let fields = answer.as_object().unwrap();
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["code", "error"], "{answer}");
    (answer["error"].as_str().unwrap(), answer["code"].as_str().unwrap())
}
