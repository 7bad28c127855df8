//! The real ports, as the configuration names them: those of both stages in one place, for the commands.

pub use signpost_broadcaster::chain;
pub use signpost_host::world::{broadcast_queue, inbox, resign_queue, store, topic};
pub use signpost_signer::keys;
