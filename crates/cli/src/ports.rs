//! The real ports of a configuration, of both stages in one place, for the commands.

use signpost_client::Client;
use signpost_host::session::Session;

pub use signpost_broadcaster::chain;
pub use signpost_host::ports::{broadcast_queue, inbox, resign_queue, store, topic};
pub use signpost_signer::keys;

/// A client as any backend has it: sends requests and reads their status.
pub fn client(session: &Session) -> Client {
    Client::new(&session.sdk, &session.config.queues.signing_url, &session.config.tables.requests)
}
