//! The signing stage as an AWS Lambda function: reads the environment, checks keys, serves the signing queue and
//! the resign queue.
//!
//! Read next: [`signpost_signer::function`].

use std::process::ExitCode;

fn main() -> ExitCode {
    signpost_host::lambda::run(signpost_signer::function::start)
}
