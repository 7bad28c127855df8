//! The handlers of the signing queue and of the resign queue.
//!
//! Decide nothing about a request; the driver does.

use std::sync::Arc;

use signpost_host::clock::now;
use signpost_host::consumer::{Handler, Stop};
use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::ports::{BroadcastQueue, Keys, OutcomeTopic, Store};
use signpost_txmgr::signer::Signer;
use signpost_txmgr::wire::SignerPoke;

/// The handler of the signing queue.
#[derive(Debug)]
pub struct Signing<S, K, B, O>(pub Arc<Signer<S, K, B, O>>);

impl<S, K, B, O> Handler for Signing<S, K, B, O>
where
    S: Store + 'static,
    K: Keys + 'static,
    B: BroadcastQueue + 'static,
    O: OutcomeTopic + 'static,
{
    async fn handle(&self, messages: &[Incoming], _stop: &Stop) -> Vec<Disposition> {
        self.0.handle(messages, now()).await
    }
}

/// The handler of the resign queue.
#[derive(Debug)]
pub struct Resigning<S, K, B, O>(pub Arc<Signer<S, K, B, O>>);

impl<S, K, B, O> Handler for Resigning<S, K, B, O>
where
    S: Store + 'static,
    K: Keys + 'static,
    B: BroadcastQueue + 'static,
    O: OutcomeTopic + 'static,
{
    async fn handle(&self, messages: &[Incoming], _stop: &Stop) -> Vec<Disposition> {
        let mut dispositions = vec![Disposition::Done; messages.len()];
        let (mut places, mut asks) = (Vec::new(), Vec::new());
        for (at, message) in messages.iter().enumerate() {
            match serde_json::from_str::<SignerPoke>(&message.body) {
                Ok(ask) => {
                    places.push(at);
                    asks.push(ask);
                }
                // Only the broadcaster writes to this queue. The sweep replaces an unreadable poke.
                Err(error) => {
                    tracing::error!(%error, message_id = %message.message_id, "not a valid poke; dropped");
                }
            }
        }
        for (at, disposition) in places.into_iter().zip(self.0.handle_asks(&asks, now()).await) {
            if let Some(slot) = dispositions.get_mut(at) {
                *slot = disposition;
            }
        }
        dispositions
    }
}
