//! Nodes that are talked to in the clear.
//!
//! A node is believed about blocks and told what was signed; with plain HTTP so is everybody on the way, and a key in
//! the URL is read there. On this machine itself there is nobody on the way.

use super::Chain;
use crate::aws::is_loopback;

impl Chain {
    /// The hosts of nodes and private endpoints whose URL is `http://`, but for those of this machine. Hosts alone:
    /// the rest of a URL may be a key.
    #[must_use]
    pub fn in_the_clear(&self) -> Vec<String> {
        let private = self.private.iter().flat_map(|private| &private.endpoints).map(|endpoint| &endpoint.url);
        self.rpc_urls.iter().chain(private).filter_map(|url| host_in_the_clear(url)).collect()
    }

    /// Logs a WARN for each of them.
    pub fn warn_of_clear(&self) {
        for host in self.in_the_clear() {
            tracing::warn!(
                host,
                "a node is talked to over http://: whoever is on the way can read a key in its URL and change what it says; \
                 give an https:// URL"
            );
        }
    }
}

/// The host of an `http://` URL that is not this machine's.
#[must_use]
fn host_in_the_clear(url: &str) -> Option<String> {
    let parsed = url::Url::parse(url).ok().filter(|parsed| parsed.scheme() == "http" && !is_loopback(url))?;
    parsed.host_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_in_the_clear_except_on_this_machine() {
        for url in ["http://node.example/key", "HTTP://node.example:80", "http://user:key@node.example/?key=1"] {
            assert_eq!(host_in_the_clear(url).as_deref(), Some("node.example"), "{url}");
        }
        assert_eq!(host_in_the_clear("http://10.0.0.1:8545").as_deref(), Some("10.0.0.1"));
        for url in ["https://node.example", "http://127.0.0.1:8545", "http://[::1]:1", "http://localhost:8545", "x"] {
            assert_eq!(host_in_the_clear(url), None, "{url}");
        }
    }
}
