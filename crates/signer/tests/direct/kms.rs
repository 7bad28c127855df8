//! A KMS with one key, on loopback: what the program meets where it expects AWS.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_smithy_types::base64;
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::{Value, json};
use signpost_txmgr::signature::LocalKey;
use signpost_txmgr::units::SigningHash;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::cases::{KEY_ID, SECRET};

/// How the service is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mood {
    LowS,
    HighS,
    ThrottlesOnce,
    Throttles,
    Disabled,
    Silent,
    OtherSpec,
}

#[derive(Debug)]
struct Inner {
    mood: Mood,
    calls: BTreeMap<String, u32>,
    /// The hash that was signed last.
    signed: [u8; 32],
}

/// The service's id of every call.
pub(crate) const KMS_REQUEST_ID: &str = "c1d2e3f4-0000-4000-8000-000000000001";

/// The service. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Kms {
    pub(crate) url: String,
    inner: Arc<Mutex<Inner>>,
    task: AbortHandle,
}

impl Kms {
    pub(crate) async fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Mutex::new(Inner { mood, calls: BTreeMap::new(), signed: [0; 32] }));
        let shared = Arc::clone(&inner);
        let service = post(move |headers: HeaderMap, body: String| {
            let inner = Arc::clone(&shared);
            async move { answer(&inner, &headers, &body).await }
        });
        let server = axum::serve(listener, Router::new().route("/", service));
        let task = tokio::spawn(async move { server.await.unwrap() }).abort_handle();
        Self { url, inner, task }
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.inner.lock().unwrap().mood = mood;
    }

    pub(crate) fn signed(&self) -> [u8; 32] {
        self.inner.lock().unwrap().signed
    }

    pub(crate) fn calls(&self, operation: &str) -> u32 {
        self.inner.lock().unwrap().calls.get(operation).copied().unwrap_or(0)
    }
}

impl Drop for Kms {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(inner: &Mutex<Inner>, headers: &HeaderMap, body: &str) -> Response {
    let target = headers["x-amz-target"].to_str().unwrap();
    let operation = target.strip_prefix("TrentService.").unwrap().to_owned();
    let asked: Value = serde_json::from_str(body).unwrap();
    assert_eq!(asked["KeyId"], KEY_ID);
    let mood = {
        let mut inner = inner.lock().unwrap();
        *inner.calls.entry(operation.clone()).or_default() += 1;
        let mood = inner.mood;
        if mood == Mood::ThrottlesOnce {
            inner.mood = Mood::LowS;
        }
        mood
    };
    let key = LocalKey::new(SECRET);
    match (operation.as_str(), mood) {
        ("GetPublicKey", mood) => {
            let spec = if mood == Mood::OtherSpec { "ECC_NIST_P256" } else { "ECC_SECG_P256K1" };
            let answer = json!({ "KeyId": KEY_ID, "PublicKey": base64::encode(key.spki()), "KeySpec": spec,
                "KeyUsage": "SIGN_VERIFY", "SigningAlgorithms": ["ECDSA_SHA_256"] });
            told(StatusCode::OK, &answer)
        }
        ("Sign", Mood::LowS | Mood::HighS) => {
            assert_eq!(
                (&asked["MessageType"], &asked["SigningAlgorithm"]),
                (&json!("DIGEST"), &json!("ECDSA_SHA_256"))
            );
            let hash: [u8; 32] = base64::decode(asked["Message"].as_str().unwrap()).unwrap().try_into().unwrap();
            inner.lock().unwrap().signed = hash;
            let der = key.sign_der(&SigningHash(hash), mood == Mood::HighS);
            told(
                StatusCode::OK,
                &json!({ "KeyId": KEY_ID, "Signature": base64::encode(der),
                "SigningAlgorithm": "ECDSA_SHA_256" }),
            )
        }
        ("Sign", Mood::Throttles | Mood::ThrottlesOnce) => refused("ThrottlingException", "Rate exceeded"),
        ("Sign", Mood::Disabled) => refused("DisabledException", "the key is disabled."),
        ("Sign", Mood::Silent) => std::future::pending().await,
        (operation, mood) => panic!("{operation} of a KMS that is {mood:?}"),
    }
}

fn refused(code: &str, message: &str) -> Response {
    told(StatusCode::BAD_REQUEST, &json!({ "__type": code, "message": message }))
}

fn told(status: StatusCode, body: &Value) -> Response {
    let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amzn-requestid", KMS_REQUEST_ID)];
    (status, headers, body.to_string()).into_response()
}
