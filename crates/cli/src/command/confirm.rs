//! Asks before an action that cannot be undone. Without a terminal, `--yes` is required.

use std::io::{self, BufRead as _, IsTerminal as _};

use super::CommandError;
use crate::terminal::remark;

/// The option of commands that ask before they act.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Yes {
    /// Do not ask; required without a terminal
    #[arg(long)]
    pub yes: bool,
}

impl Yes {
    /// Shows what will be done, and returns `Ok` only if the operator agrees. An error says what to do.
    pub fn or_ask(self, what: &str) -> Result<(), CommandError> {
        if self.yes {
            return Ok(());
        }
        remark(what);
        if !io::stdin().is_terminal() {
            return Err(CommandError::Input("not done: there is no terminal to ask on; add --yes".to_owned()));
        }
        remark("Type yes to continue:");
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        if read.is_ok() && answer.trim() == "yes" {
            return Ok(());
        }
        Err(CommandError::Input("not done".to_owned()))
    }
}
