//! The real ports keep the contract, on ministack. The stack is installed and started once for all claims, and stops
//! with this program.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a test ends at the first surprise")]

mod fixture;
mod topics;

macro_rules! on_the_stack {
    ($suite:ident: $($claim:ident),* $(,)?) => {
        mod $suite {
            $(
                #[test]
                fn $claim() {
                    crate::fixture::run(async {
                        let port = crate::fixture::$suite(stringify!($claim)).await;
                        signpost_contract::$suite::$claim(&port).await;
                    });
                }
            )*
        }
    };
}

signpost_contract::store_claims!(on_the_stack);
signpost_contract::lanes_claims!(on_the_stack);
signpost_contract::registry_claims!(on_the_stack);
signpost_contract::spend_claims!(on_the_stack);
signpost_contract::requests_claims!(on_the_stack);
signpost_contract::pool_claims!(on_the_stack);
signpost_contract::keys_claims!(on_the_stack);
signpost_contract::queue_claims!(on_the_stack);
signpost_contract::topic_claims!(on_the_stack);
