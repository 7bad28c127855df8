//! A stage's view of its configuration, from a worker's file or from the environment of
//! a Lambda function. The signer's view does not contain the nodes.

use super::{Chain, Config, Queues, Tables, Timing};

/// The configuration of both stages.
pub trait StageSettings {
    /// EIP-155 chain id.
    fn chain_id(&self) -> u64;
    /// Wei per gas below which no validator mines a transaction.
    fn fee_floor_wei(&self) -> u64;
    /// The three queues.
    fn queues(&self) -> &Queues;
    /// The two tables.
    fn tables(&self) -> &Tables;
    /// ARN of the outcome topic.
    fn outcomes_arn(&self) -> &str;
    /// How long a closed request is kept, in days.
    fn retention_days(&self) -> u64;
}

/// The additional configuration of the broadcaster.
pub trait BroadcasterSettings: StageSettings {
    /// The chain and its nodes.
    fn chain(&self) -> &Chain;
    /// Timings; for those left out the driver's defaults apply.
    fn timing(&self) -> Timing;
}

impl StageSettings for Config {
    fn chain_id(&self) -> u64 {
        self.chain.chain_id
    }

    fn fee_floor_wei(&self) -> u64 {
        self.chain.fee_floor_wei
    }

    fn queues(&self) -> &Queues {
        &self.queues
    }

    fn tables(&self) -> &Tables {
        &self.tables
    }

    fn outcomes_arn(&self) -> &str {
        &self.outcomes_arn
    }

    fn retention_days(&self) -> u64 {
        self.retention_days
    }
}

impl BroadcasterSettings for Config {
    fn chain(&self) -> &Chain {
        &self.chain
    }

    fn timing(&self) -> Timing {
        self.timing
    }
}
