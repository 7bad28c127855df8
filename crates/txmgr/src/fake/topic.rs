//! The outcome topic in memory: keeps every copy in order, and refuses messages that SNS refuses.
//!
//! It has no subscribers. Read next: [`super::queue`].

use std::sync::{Arc, Mutex};

use super::interceptor::{Fate, Interceptor, failed};
use super::journal::{Entry, Journal};
use crate::ports::{Happened, OutcomeTopic, PortError};
use crate::text;
use crate::wire::OutcomeMessage;

const PUBLISH: &str = "PublishBatch";
/// An estimate for the names, types and values of the attributes, in bytes.
const ATTRIBUTES_BYTES: usize = 512;

/// An outcome topic in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryTopic {
    copies: Arc<Mutex<Vec<OutcomeMessage>>>,
    interceptor: Interceptor,
    journal: Journal,
}

impl MemoryTopic {
    /// A topic with this interceptor and journal.
    #[must_use]
    pub fn new(interceptor: Interceptor, journal: Journal) -> Self {
        Self { copies: Arc::default(), interceptor, journal }
    }

    /// All published messages, including duplicates, in order.
    #[must_use]
    pub fn copies(&self) -> Vec<OutcomeMessage> {
        self.copies.lock().unwrap().clone()
    }

    /// Publishes one copy without passing the interceptor.
    pub fn put(&self, outcome: &OutcomeMessage) {
        self.journal.note(|| Entry::Published(Box::new(outcome.clone())));
        self.copies.lock().unwrap().push(outcome.clone());
    }
}

impl OutcomeTopic for MemoryTopic {
    async fn publish(&self, outcomes: &[OutcomeMessage]) -> Vec<Result<(), PortError>> {
        let pass = match self.interceptor.enter(PUBLISH).await {
            Ok(pass) => pass,
            Err(error) => {
                let (happened, throttled) = (error.happened, error.throttled);
                return outcomes.iter().map(|_| Err(failed(PUBLISH, happened, throttled))).collect();
            }
        };
        let mut answers = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            let body = text::json(outcome).expect("an outcome has nothing JSON lacks");
            if let Err(refused) = self.interceptor.takes(PUBLISH, &body, ATTRIBUTES_BYTES) {
                answers.push(Err(refused));
                continue;
            }
            answers.push(match self.interceptor.entry(PUBLISH) {
                Fate::Fail { happened, throttled } => Err(failed(PUBLISH, happened, throttled)),
                Fate::LoseReply => {
                    self.put(outcome);
                    Err(failed(PUBLISH, Happened::Unknown, false))
                }
                Fate::Pass | Fate::Swallow | Fate::Contend | Fate::DieBefore | Fate::DieAfter => {
                    self.put(outcome);
                    Ok(())
                }
            });
        }
        match pass.reply(answers).await {
            Ok(answers) => answers,
            Err(_) => outcomes.iter().map(|_| Err(failed(PUBLISH, Happened::Unknown, false))).collect(),
        }
    }
}
