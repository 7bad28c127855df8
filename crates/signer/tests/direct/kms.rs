//! A fake KMS with one key, on loopback, which the program uses instead of AWS.

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

/// The service's behaviour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Behaviour {
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
    behaviour: Behaviour,
    calls: BTreeMap<String, u32>,
    /// The last hash that was signed.
    signed: [u8; 32],
}

/// The service's request id of every call.
pub(crate) const KMS_REQUEST_ID: &str = "c1d2e3f4-0000-4000-8000-000000000001";

/// The running service. Stops when dropped.
#[derive(Debug)]
pub(crate) struct Kms {
    pub(crate) url: String,
    inner: Arc<Mutex<Inner>>,
    task: AbortHandle,
}

impl Kms {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Mutex::new(Inner { behaviour, calls: BTreeMap::new(), signed: [0; 32] }));
        let shared = Arc::clone(&inner);
        let service = post(move |headers: HeaderMap, body: String| {
            let inner = Arc::clone(&shared);
            async move { answer(&inner, &headers, &body).await }
        });
        let server = axum::serve(listener, Router::new().route("/", service));
        let task = tokio::spawn(async move { server.await.unwrap() }).abort_handle();
        Self { url, inner, task }
    }

    pub(crate) fn set(&self, behaviour: Behaviour) {
        self.inner.lock().unwrap().behaviour = behaviour;
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
    let behaviour = {
        let mut inner = inner.lock().unwrap();
        *inner.calls.entry(operation.clone()).or_default() += 1;
        let behaviour = inner.behaviour;
        if behaviour == Behaviour::ThrottlesOnce {
            inner.behaviour = Behaviour::LowS;
        }
        behaviour
    };
    let key = LocalKey::new(SECRET);
    match (operation.as_str(), behaviour) {
        ("GetPublicKey", behaviour) => {
            let spec = if behaviour == Behaviour::OtherSpec { "ECC_NIST_P256" } else { "ECC_SECG_P256K1" };
            let answer = json!({ "KeyId": KEY_ID, "PublicKey": base64::encode(key.spki()), "KeySpec": spec,
                "KeyUsage": "SIGN_VERIFY", "SigningAlgorithms": ["ECDSA_SHA_256"] });
            respond(StatusCode::OK, &answer)
        }
        ("Sign", Behaviour::LowS | Behaviour::HighS) => {
            assert_eq!(
                (&asked["MessageType"], &asked["SigningAlgorithm"]),
                (&json!("DIGEST"), &json!("ECDSA_SHA_256"))
            );
            let hash: [u8; 32] = base64::decode(asked["Message"].as_str().unwrap()).unwrap().try_into().unwrap();
            inner.lock().unwrap().signed = hash;
            let der = key.sign_der(&SigningHash(hash), behaviour == Behaviour::HighS);
            respond(
                StatusCode::OK,
                &json!({ "KeyId": KEY_ID, "Signature": base64::encode(der),
                "SigningAlgorithm": "ECDSA_SHA_256" }),
            )
        }
        ("Sign", Behaviour::Throttles | Behaviour::ThrottlesOnce) => refused("ThrottlingException", "Rate exceeded"),
        ("Sign", Behaviour::Disabled) => refused("DisabledException", "the key is disabled."),
        ("Sign", Behaviour::Silent) => std::future::pending().await,
        (operation, behaviour) => panic!("{operation} of a KMS that is {behaviour:?}"),
    }
}

fn refused(code: &str, message: &str) -> Response {
    respond(StatusCode::BAD_REQUEST, &json!({ "__type": code, "message": message }))
}

fn respond(status: StatusCode, body: &Value) -> Response {
    let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amzn-requestid", KMS_REQUEST_ID)];
    (status, headers, body.to_string()).into_response()
}
