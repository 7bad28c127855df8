//! The real ports, as the configuration names them: those of both stages in one place, for the commands.

use signpost_client::Client;
use signpost_host::session::Session;

pub use signpost_broadcaster::chain;
pub use signpost_host::world::{broadcast_queue, inbox, resign_queue, store, topic};
pub use signpost_signer::keys;

/// What any backend has: a way to send requests and to see how they stand.
pub fn client(session: &Session) -> Client {
    Client::new(&session.sdk, &session.config.queues.signing_url, &session.config.tables.requests)
}
