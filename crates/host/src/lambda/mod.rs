//! Hosts a stage as a Lambda function: the start, the invocations, the end.
//!
//! Guarantees:
//! * an error that prevents the start is reported to the Runtime API and ends the process;
//! * a record is reported as failed unless its handler reported it as done, and in a FIFO group so are all
//!   records after it;
//! * a record that causes a panic fails alone;
//! * every invocation answers before its deadline.
//!
//! Does not guarantee that a message is handled only once: Lambda redelivers messages in doubt.
//! Unlike a worker, a function does not extend the visibility timeout of its messages: the function's timeout is
//! the bound, and the queue's visibility timeout must be longer.
//!
//! Read in this order: [`sdk`], [`event`], [`batch`], [`time`], [`runtime_api`].

pub mod batch;
pub mod event;
pub mod runtime_api;
pub mod sdk;
pub mod time;

use std::process::ExitCode;
use std::sync::Arc;

use aws_lambda_events::event::sqs::SqsBatchResponse;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use signpost_txmgr::inbox::{Disposition, Incoming};
use tokio::sync::watch;

use self::event::{Event, Unusable};
use self::time::TimeLeft;
use crate::clock::now_ms;
use crate::consumer::Stop;
use crate::error_chain;
use crate::observe;
use crate::observe::emf::Emf;
use crate::start::StartError;

/// A stage in Lambda.
pub trait Function: Send + Sync + 'static {
    /// Handles messages of one queue, named by its ARN; one disposition each, in order.
    fn batch(
        &self,
        queue_arn: &str,
        messages: Vec<Incoming>,
        time: TimeLeft,
        stop: &Stop,
    ) -> impl Future<Output = Vec<Disposition>> + Send;

    /// Runs a scheduled task by its name. `None` if the task does not exist.
    fn scheduled(&self, task: &str, time: TimeLeft) -> impl Future<Output = Option<Result<Swept, Failed>>> + Send;
}

/// The result of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Swept {
    /// Number of poked lanes.
    pub poked: usize,
}

/// Why an invocation has no answer. Lambda or the schedule retries it.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The event cannot be handled.
    #[error(transparent)]
    Event(Unusable),
    /// The scheduled task was not done.
    #[error("the scheduled task was not done: {0}")]
    Task(String),
}

impl From<Failed> for Diagnostic {
    fn from(failed: Failed) -> Self {
        Self { error_type: "Signpost.Failed".to_owned(), error_message: failed.to_string() }
    }
}

/// The answer to an invocation.
#[derive(Debug, serde::Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// For records: the failed ones (`ReportBatchItemFailures`).
    Batch(SqsBatchResponse),
    /// For the schedule.
    Swept(Swept),
}

/// Starts a stage and serves invocations until Lambda ends the process. Call it first in `main`.
pub fn run<F, S>(start: impl FnOnce() -> S) -> ExitCode
where
    F: Function,
    S: Future<Output = Result<F, StartError>>,
{
    let emf = observe::lambda();
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_none() {
        tracing::error!("this program runs in AWS Lambda only; elsewhere use `signpost worker`");
        return ExitCode::FAILURE;
    }
    // One thread: a function has a fraction of a core, and each thread costs memory and start-up time.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the async runtime cannot be created");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        // The extension only brings the signal at the end, so the start does not wait for it.
        let (extension, function) = tokio::join!(runtime_api::register_extension(), start());
        match function {
            Ok(function) => serve(Arc::new(function), extension, emf).await,
            Err(error) => {
                let message = error_chain(&error);
                tracing::error!(error = message, "the function does not start");
                runtime_api::report_init_error(&message).await;
                ExitCode::FAILURE
            }
        }
    })
}

/// Serves until a signal ends the process.
async fn serve<F: Function>(function: Arc<F>, extension: Option<runtime_api::Extension>, emf: Emf) -> ExitCode {
    let (stop_sender, stop) = watch::channel(false);
    let busy = watch::Sender::new(false);
    let serving = lambda_runtime::run(service_fn(|event: LambdaEvent<Event>| {
        let (function, stop, busy, emf) = (Arc::clone(&function), stop.clone(), busy.clone(), emf.clone());
        async move {
            busy.send_replace(true);
            let time = TimeLeft::until(event.context.deadline);
            let answer = invoke(&*function, event.payload, time, &stop).await;
            // Printed before the answer, because Lambda may freeze the process after it.
            emf.flush(now_ms());
            busy.send_replace(false);
            answer
        }
    }));
    let ended = tokio::select! {
        ended = serving => ended.map_err(|error| error.to_string()),
        () = runtime_api::wait_for_end(extension, &stop_sender, &busy) => Ok(()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "the Runtime API cannot be reached");
            ExitCode::FAILURE
        }
    }
}

/// Answers one invocation.
pub async fn invoke<F: Function>(function: &F, event: Event, time: TimeLeft, stop: &Stop) -> Result<Answer, Failed> {
    let records = match event.kind() {
        Ok(event::EventKind::Records(records)) => records,
        Ok(event::EventKind::Task(task)) => {
            let swept = function.scheduled(&task, time).await;
            return swept.ok_or(Failed::Event(Unusable::UnknownTask { task }))?.map(Answer::Swept);
        }
        Err(unusable) => return Err(Failed::Event(unusable)),
    };
    let mut response = SqsBatchResponse::default();
    for (queue_arn, messages) in event::by_queue(records).map_err(Failed::Event)? {
        let ids: Vec<_> = messages.iter().map(|message| message.message_id.clone()).collect();
        let dispositions = function.batch(&queue_arn, messages, time, stop).await;
        assert_eq!(dispositions.len(), ids.len(), "a function returns a disposition for every record");
        let failed = ids.into_iter().zip(dispositions).filter(|(_, disposition)| *disposition == Disposition::Retry);
        failed.for_each(|(id, _)| response.add_failure(id));
    }
    Ok(Answer::Batch(response))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Fails messages as their bodies say, and knows one task.
    struct ByBody;

    impl Function for ByBody {
        async fn batch(&self, queue_arn: &str, messages: Vec<Incoming>, _: TimeLeft, _: &Stop) -> Vec<Disposition> {
            assert_eq!(queue_arn, "arn:aws:sqs:eu-central-1:1:q");
            let disposition =
                |message: &Incoming| if message.body == "retry" { Disposition::Retry } else { Disposition::Done };
            messages.iter().map(disposition).collect()
        }

        async fn scheduled(&self, task: &str, _time: TimeLeft) -> Option<Result<Swept, Failed>> {
            (task == "sweep").then_some(Ok(Swept { poked: 3 }))
        }
    }

    async fn answer(event: &str) -> Result<String, String> {
        let (_stop_sender, stop) = watch::channel(false);
        let event = serde_json::from_str(event).unwrap();
        let answer = invoke(&ByBody, event, TimeLeft::of(Duration::from_secs(1)), &stop).await;
        answer.map(|answer| serde_json::to_string(&answer).unwrap()).map_err(|failed| failed.to_string())
    }

    fn records(bodies: &[&str]) -> String {
        let record = |(at, body): (usize, &&str)| {
            format!(r#"{{"messageId":"m-{at}","body":"{body}","eventSourceARN":"arn:aws:sqs:eu-central-1:1:q"}}"#)
        };
        format!(r#"{{"Records":[{}]}}"#, bodies.iter().enumerate().map(record).collect::<Vec<_>>().join(","))
    }

    // Lambda reads an unknown answer, and an unknown or empty identifier, as "all failed": so the bytes must be
    // exactly these.
    #[tokio::test]
    async fn answer_lists_failed_records_in_lambdas_format() {
        for (bodies, expected) in [
            (&[][..], r#"{"batchItemFailures":[]}"#),
            (&["a", "b"], r#"{"batchItemFailures":[]}"#),
            (&["a", "retry", "b"], r#"{"batchItemFailures":[{"itemIdentifier":"m-1"}]}"#),
            (&["retry", "retry"], r#"{"batchItemFailures":[{"itemIdentifier":"m-0"},{"itemIdentifier":"m-1"}]}"#),
        ] {
            assert_eq!(answer(&records(bodies)).await.as_deref(), Ok(expected));
        }
    }

    #[tokio::test]
    async fn task_result_is_returned_and_unknown_task_is_an_error() {
        assert_eq!(answer(r#"{"signpost":"sweep"}"#).await.as_deref(), Ok(r#"{"poked":3}"#));
        assert_eq!(answer(r#"{"signpost":"sweeep"}"#).await, Err("this function has no task \"sweeep\"".to_owned()));
        assert!(answer("{}").await.unwrap_err().contains("neither a batch of SQS records nor"));
    }
}
