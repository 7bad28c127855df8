//! Policies, which operators write.
#![no_main]

use libfuzzer_sys::fuzz_target;
use signpost_txmgr::policy::Policies;

fuzz_target!(|text: &str| {
    match Policies::from_toml(text) {
        Ok(policies) => {
            for (name, _) in policies.accounts() {
                assert!(policies.of(name).is_ok());
            }
        }
        Err(error) => assert!(!signpost_txmgr::error_chain(&error).is_empty()),
    }
});
