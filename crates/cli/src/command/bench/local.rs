//! A local stack for a benchmark: signer and broadcaster as two processes, so that the operating system
//! can say what each costs.

use std::path::Path;

use super::report::Cost;
use crate::command::dev::{self, Ready};
use crate::command::{CommandError, Session};
use crate::stack::leash::{Leashed, Server};
use crate::stack::provision::Wanted;
use crate::stack::servers::{LocalStack, Options};

/// The stages, by the option of `signpost worker`.
const STAGES: [&str; 2] = ["signer", "broadcaster"];

/// A stack that runs.
#[derive(Debug)]
pub(super) struct Local {
    stack: LocalStack,
    session: Session,
    ready: Ready,
    stages: Vec<Leashed>,
}

impl Local {
    /// Starts everything on free ports.
    pub(super) async fn start(accounts: usize) -> Result<Self, CommandError> {
        let stack = dev::start(&Options::default()).await?;
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
            stages.push(Leashed::start(Server { name: stage, program: &program, arguments, environment, directory })?);
        }
        let session = Session { config: ready.config.clone(), sdk: ready.sdk.clone() };
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

    /// What each stage cost so far.
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
