//! The three things a backend does: this crate's `README.md` shows this file.
#![allow(clippy::print_stdout, reason = "an example prints what it got")]

use std::env::var;
use std::time::Duration;

use signpost_client::outcome::{self, Seen};
use signpost_client::{Client, Request, RequestId, Wei};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(aws_smithy_http_client::tls::Provider::Rustls(
            aws_smithy_http_client::tls::rustls_provider::CryptoMode::Ring,
        ))
        .build_https();
    let aws = aws_config::from_env().http_client(http).load().await;
    let (sqs, sns) = (aws_sdk_sqs::Client::new(&aws), aws_sdk_sns::Client::new(&aws));
    let signpost = Client::new(&aws, var("SIGNING_QUEUE_URL")?, var("REQUESTS_TABLE")?);

    // 1. Subscribe a queue of yours to the outcomes, once.
    let queue = sqs.create_queue().queue_name("my-outcomes-rust").send().await?;
    let queue_url = queue.queue_url().ok_or("a queue has a URL")?;
    let attributes = sqs.get_queue_attributes().queue_url(queue_url).attribute_names("QueueArn".into()).send().await?;
    let arn = attributes.attributes().and_then(|all| all.get(&"QueueArn".into())).ok_or("a queue has an ARN")?;
    sns.subscribe()
        .topic_arn(var("OUTCOME_TOPIC_ARN")?)
        .protocol("sqs")
        .endpoint(arn)
        .attributes("FilterPolicy", r#"{"status":["confirmed","reverted"]}"#)
        .send()
        .await?;

    // 2. Send a request. You choose its id, which makes repeats safe. An invalid request is refused here.
    let id: RequestId = "rust-1".parse()?;
    let to = "0x55d398326f99059fF775485246999027B3197955".parse()?;
    let request = Request::call(id.clone(), to, 21_000).value(Wei::from(1_000_000_000)).build()?;
    signpost.send(&request).await?;

    // 3. Receive the outcome, read the status at any time, or wait.
    let mut seen = Seen::new(10_000);
    let received = sqs.receive_message().queue_url(queue_url).wait_time_seconds(20).send().await?;
    for message in received.messages() {
        let outcome = outcome::parse(message.body().unwrap_or_default())?;
        if seen.is_first(&outcome) {
            println!("{} {}", outcome.request_id, outcome.status.as_str());
        }
    }
    let settled = signpost.wait(&id, Duration::from_secs(20)).await?;
    println!("{} {}", settled.status.as_str(), settled.tx_hash.unwrap_or_default());
    Ok(())
}
