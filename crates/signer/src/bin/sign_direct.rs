//! `sign-direct` as an AWS Lambda function: reads its environment and its public key, then signs the transaction of
//! each invocation.
//!
//! Read next: [`signpost_signer::direct`].

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use lambda_runtime::tower::util::MapRequestLayer;
use lambda_runtime::{LambdaEvent, LambdaInvocation, Runtime, service_fn};
use signpost_aws::kms::KmsKeys;
use signpost_aws::repeat::Backoff;
use signpost_host::aws::{Target, connect};
use signpost_host::error_chain;
use signpost_host::lambda::runtime_api::report_init_error;
use signpost_host::lambda::time::TimeLeft;
use signpost_signer::direct::SignDirect;
use signpost_signer::direct::answer::Answer;
use signpost_signer::direct::config::{DirectConfig, log_level};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// At most 0.6 s of waiting: the caller waits for the answer, and can repeat the call itself.
const BACKOFF: Backoff = Backoff { tries: 5, first_ms: 40, max_ms: 320 };

fn main() -> ExitCode {
    observe(log_level(variable));
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        tracing::error!("the async runtime cannot be created");
        return ExitCode::FAILURE;
    };
    runtime.block_on(async {
        let in_lambda = variable("AWS_LAMBDA_RUNTIME_API").is_some();
        match start().await {
            Ok(_) if !in_lambda => {
                tracing::error!("this program runs in AWS Lambda only");
                ExitCode::FAILURE
            }
            Ok(function) => serve(Arc::new(function)).await,
            Err(message) => {
                tracing::error!(error = message, "the function does not start");
                if in_lambda {
                    report_init_error(&message).await;
                }
                ExitCode::FAILURE
            }
        }
    })
}

/// Sets up logs: one JSON object per line, on stderr. The level applies to our own lines only: below a warning, lines
/// of libraries may contain a complete answer of KMS, and with it a signature.
fn observe(level: Level) {
    let ours = ["signpost", "sign_direct"].map(|name| (name, level));
    let filter = Targets::new().with_default(level.min(Level::WARN)).with_targets(ours);
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines).with(filter).init();
}

async fn start() -> Result<SignDirect<KmsKeys>, String> {
    let program = std::env::current_exe().map_err(|error| format!("the program's directory is not known: {error}"))?;
    let directory = program.parent().unwrap_or(Path::new("/"));
    let config = DirectConfig::read(variable, directory).map_err(|error| error_chain(&error))?;
    let keys = KmsKeys::new(&connect(&Target::default()).await).with_backoff(BACKOFF);
    let function = SignDirect::start(keys, config).await.map_err(|error| error_chain(&error))?;
    tracing::info!(address = %function.address(), "ready");
    Ok(function)
}

/// Answers invocations until Lambda ends the process. Between two invocations there is no state to lose.
async fn serve(function: Arc<SignDirect<KmsKeys>>) -> ExitCode {
    let runtime = Runtime::new(service_fn(|event: LambdaEvent<String>| {
        let function = Arc::clone(&function);
        async move {
            let time = TimeLeft::until(event.context.deadline);
            let answer = function.answer(&event.payload, &event.context.request_id, time.to_abort()).await;
            Ok::<Answer, std::convert::Infallible>(answer)
        }
    }));
    match runtime.layer(MapRequestLayer::new(as_text)).run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the Runtime API cannot be reached");
            ExitCode::FAILURE
        }
    }
}

/// Passes the payload to our parser unchanged. The runtime's parser would merge two fields with the same name, and
/// report invalid JSON as a failure of the function.
fn as_text(invocation: LambdaInvocation) -> LambdaInvocation {
    let text = serde_json::Value::from(String::from_utf8_lossy(&invocation.body)).to_string();
    LambdaInvocation { body: text.into(), ..invocation }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
