//! `signpost completions`: prints a script that completes commands and options in a shell. Connects to nothing.

use std::io;
use std::process::ExitCode;

use clap_complete::Shell;

use super::CommandError;

const EXAMPLES: &str = "\
Examples:
  signpost completions bash > ~/.local/share/bash-completion/completions/signpost
  signpost completions zsh > ~/.zfunc/_signpost
  signpost completions fish > ~/.config/fish/completions/signpost.fish";

/// `signpost completions`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Runs the command for this program.
pub fn run(arguments: &Arguments, program: &mut clap::Command) -> Result<ExitCode, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, program, "signpost", &mut script);
    // A reader that closed the pipe has what it wanted.
    let _ = io::Write::write_all(&mut io::stdout().lock(), &script);
    Ok(ExitCode::SUCCESS)
}
