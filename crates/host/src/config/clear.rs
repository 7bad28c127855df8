//! Nodes with unencrypted connections.
//!
//! We trust a node about blocks and send it signed transactions. Over plain HTTP, anybody on the network path can
//! change its answers and read a key in the URL. Connections to this machine are exempt.

use super::Chain;
use crate::aws::is_loopback;

impl Chain {
    /// The hosts of nodes and private endpoints with `http://` URLs, except those on this machine. Only hosts, because
    /// the rest of a URL may contain a key.
    #[must_use]
    pub fn in_the_clear(&self) -> Vec<String> {
        let private = self.private.iter().flat_map(|private| &private.endpoints).map(|endpoint| &endpoint.url);
        self.rpc_urls.iter().chain(private).filter_map(|url| host_in_the_clear(url)).collect()
    }

    /// Logs a WARN for each host of [`Self::in_the_clear`].
    pub fn warn_of_clear(&self) {
        for host in self.in_the_clear() {
            tracing::warn!(
                host,
                "the connection to a node is not encrypted (http://): others can read a key in its URL and change its \
                 answers; use an https:// URL"
            );
        }
    }
}

/// The host of an `http://` URL, unless it is this machine.
#[must_use]
fn host_in_the_clear(url: &str) -> Option<String> {
    let parsed = url::Url::parse(url).ok().filter(|parsed| parsed.scheme() == "http" && !is_loopback(url))?;
    parsed.host_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_unencrypted_except_on_this_machine() {
        for url in ["http://node.example/key", "HTTP://node.example:80", "http://user:key@node.example/?key=1"] {
            assert_eq!(host_in_the_clear(url).as_deref(), Some("node.example"), "{url}");
        }
        assert_eq!(host_in_the_clear("http://10.0.0.1:8545").as_deref(), Some("10.0.0.1"));
        for url in ["https://node.example", "http://127.0.0.1:8545", "http://[::1]:1", "http://localhost:8545", "x"] {
            assert_eq!(host_in_the_clear(url), None, "{url}");
        }
    }
}
