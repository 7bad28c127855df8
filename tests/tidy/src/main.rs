//! Writes everything in the repository that is made from code: [`signpost_tidy::made`].

use std::fs;

fn main() -> std::io::Result<()> {
    for (path, text) in signpost_tidy::made() {
        fs::write(signpost_tidy::root().join(path), text)?;
    }
    Ok(())
}
