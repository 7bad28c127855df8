//! Finds the configuration file of a command: the one given as an option, the one named in the environment, or that
//! of the local stack that runs on this machine.

use std::path::{Path, PathBuf};

use crate::config::ConfigError;
use crate::stack::place;

/// Where `signpost dev` writes the configuration of its stack, for the other commands.
pub fn current() -> Option<PathBuf> {
    place::directory().ok().map(|directory| directory.join("current.toml"))
}

/// The file to read: `--config`, else `SIGNPOST_CONFIG`, else the file of the running local stack.
pub fn find(named: Option<&Path>) -> Result<PathBuf, ConfigError> {
    if let Some(path) = named {
        return Ok(path.to_path_buf());
    }
    if let Some(path) = std::env::var_os("SIGNPOST_CONFIG").filter(|path| !path.is_empty()) {
        return Ok(PathBuf::from(path));
    }
    current().filter(|path| path.is_file()).ok_or(ConfigError::NotFound)
}
