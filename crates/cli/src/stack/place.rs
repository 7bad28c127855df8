//! The directory of the local stack: `local-stack` under cargo's target directory, so that `cargo clean` removes it, or
//! under the user's cache directory if the program runs outside a workspace.

use std::path::{Path, PathBuf};

use super::StackError;

/// The directory of the local stack; it may not exist yet.
///
/// The first of: `$CARGO_TARGET_DIR`; the target directory this program was built in; `target` of the
/// workspace around the current directory; the user's cache directory.
pub fn directory() -> Result<PathBuf, StackError> {
    let here = std::env::current_dir().ok();
    let set = std::env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty()).map(PathBuf::from);
    let named = match (set, &here) {
        (Some(set), Some(here)) => Some(here.join(set)),
        (set, _) => set,
    };
    named
        .or_else(|| std::env::current_exe().ok().as_deref().and_then(around_program))
        .or_else(|| here.as_deref().and_then(around_workspace))
        .map(|target| target.join("local-stack"))
        .or_else(cache)
        .ok_or(StackError::NoPlace)
}

/// The target directory a program was built in: cargo tags it.
fn around_program(program: &Path) -> Option<PathBuf> {
    program.ancestors().skip(1).find(|directory| directory.join("CACHEDIR.TAG").is_file()).map(Path::to_path_buf)
}

/// `target` of our workspace around a directory.
fn around_workspace(from: &Path) -> Option<PathBuf> {
    from.ancestors()
        .find(|directory| directory.join("Cargo.toml").is_file() && directory.join("crates/cli/Cargo.toml").is_file())
        .map(|workspace| workspace.join("target"))
}

fn cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("signpost/local-stack"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_is_found_in_its_target_directory() {
        let program = std::env::current_exe().unwrap();
        let target = around_program(&program).expect("cargo tags its target directory");
        assert!(program.starts_with(target));
    }

    #[test]
    fn directory_in_the_workspace_finds_its_target() {
        let crate_directory = Path::new(env!("CARGO_MANIFEST_DIR"));
        let workspace = crate_directory.ancestors().nth(2).unwrap();
        assert_eq!(around_workspace(&crate_directory.join("src")), Some(workspace.join("target")));
    }
}
