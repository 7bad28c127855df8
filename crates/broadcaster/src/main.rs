//! The broadcasting stage as an AWS Lambda function: reads the environment and the nodes' secret, checks the nodes'
//! chain id, serves the broadcast queue and the schedule of the sweep.
//!
//! Read next: [`signpost_broadcaster::function`].

use std::process::ExitCode;

fn main() -> ExitCode {
    signpost_host::lambda::run(signpost_broadcaster::function::start)
}
