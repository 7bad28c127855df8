//! Proxies that make the local stack as strict and as faulty as the real thing.
