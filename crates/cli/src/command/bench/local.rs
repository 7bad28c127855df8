//! A local stack for a benchmark: signer and broadcaster are two processes, so that the operating system reports the
//! cost of each.

use std::path::Path;

use super::report::{Calls, Cost};
use crate::aws::{self, LOOPBACK_REGION, Target};
use crate::command::dev::{self, Ready};
use crate::command::{CommandError, Session};
use crate::stack::gates::Gates;
use crate::stack::provision::Wanted;
use crate::stack::servers::{LocalStack, Options};
use crate::stack::supervised::{Server, SupervisedServer};

/// The stages, as `signpost worker --stage` names them.
const STAGES: [&str; 2] = ["signer", "broadcaster"];

/// A running stack.
#[derive(Debug)]
pub(super) struct Local {
    stack: LocalStack,
    session: Session,
    ready: Ready,
    stages: Vec<SupervisedServer>,
}

impl Local {
    /// Starts everything on free ports. To count calls, the stages call AWS through a gate; the benchmark itself calls
    /// AWS directly.
    pub(super) async fn start(accounts: usize, count_calls: bool) -> Result<Self, CommandError> {
        let mut stack = dev::start(&Options::default()).await?;
        if count_calls {
            stack.put_gates(1).await?;
        }
        let names: Vec<_> = (1..=accounts).map(|number| format!("a{number}")).collect();
        let ready = dev::prepare(&stack, &Wanted::default(), &names).await?;
        let program =
            std::env::current_exe().map_err(|source| CommandError::File { path: "signpost".into(), source })?;
        let mut stages = Vec::new();
        for stage in STAGES {
            let config = ready.config_file.display().to_string();
            let arguments = ["worker", "--config", &config, "--stage", stage].map(ToOwned::to_owned).to_vec();
            let environment = vec![("RUST_LOG", "warn".to_owned())];
            let directory = &stack.directory;
            stages.push(SupervisedServer::start(Server {
                name: stage,
                program: &program,
                arguments,
                environment,
                directory,
            })?);
        }
        let sdk = match &stack.gates {
            Some(gates) => {
                let endpoint = Some(gates.aws_upstream().to_owned());
                aws::connect(&Target { endpoint, region: Some(LOOPBACK_REGION.to_owned()) }).await
            }
            None => ready.sdk.clone(),
        };
        let session = Session { config: ready.config.clone(), sdk };
        Ok(Self { stack, session, ready, stages })
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.ready.accounts.iter().map(|account| account.name.clone()).collect()
    }

    pub(super) fn directory(&self) -> &Path {
        &self.stack.directory
    }

    /// The stages' calls to AWS so far and their bytes, by name.
    pub(super) fn calls(&self) -> Calls {
        let stats = self.stack.gates.as_ref().map(Gates::aws_stats).unwrap_or_default();
        let bytes = |name: &str| stats.bytes.get(name).copied().unwrap_or(0);
        stats.calls.iter().map(|(name, count)| (name.clone(), (*count, bytes(name)))).collect()
    }

    /// The cost of each stage so far.
    pub(super) fn costs(&self) -> Vec<Cost> {
        self.stages.iter().map(|stage| Cost::of_group(stage.name(), stage.group())).collect()
    }

    pub(super) async fn stop(self) {
        for stage in self.stages {
            stage.stop().await;
        }
        self.stack.stop().await;
    }
}
