//! Asks before what cannot be undone. Without a terminal there is nobody to ask: then only `--yes` will do.

use std::io::{self, BufRead as _, IsTerminal as _};

use super::CommandError;
use crate::terminal::remark;

/// The option of commands that ask first.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Yes {
    /// Do not ask; needed where there is no terminal
    #[arg(long)]
    pub yes: bool,
}

impl Yes {
    /// Shows what will be done, and returns only when it may be. An error names the way out.
    pub fn or_ask(self, what: &str) -> Result<(), CommandError> {
        if self.yes {
            return Ok(());
        }
        remark(what);
        if !io::stdin().is_terminal() {
            return Err(CommandError::Input("not done: there is no terminal to ask at; add --yes".to_owned()));
        }
        remark("Type yes to do it:");
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        if read.is_ok() && answer.trim() == "yes" {
            return Ok(());
        }
        Err(CommandError::Input("not done".to_owned()))
    }
}
