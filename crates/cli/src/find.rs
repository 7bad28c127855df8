//! Which configuration file a command reads: the one named, the one the environment names, or that of
//! the local stack that runs on this machine.

use std::path::{Path, PathBuf};

use crate::config::ConfigError;
use crate::stack::place;

/// Where `signpost dev` leaves the configuration of the stack it runs, for the commands beside it.
pub fn current() -> Option<PathBuf> {
    place::directory().ok().map(|directory| directory.join("current.toml"))
}

/// The file to read: `--config`, else `SIGNPOST_CONFIG`, else that of the running local stack.
pub fn find(named: Option<&Path>) -> Result<PathBuf, ConfigError> {
    if let Some(path) = named {
        return Ok(path.to_path_buf());
    }
    if let Some(path) = std::env::var_os("SIGNPOST_CONFIG").filter(|path| !path.is_empty()) {
        return Ok(PathBuf::from(path));
    }
    current().filter(|path| path.is_file()).ok_or(ConfigError::NotFound)
}
