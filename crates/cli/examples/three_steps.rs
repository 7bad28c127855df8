//! The three things a backend does, with the plain AWS SDK: the README shows this file.
#![allow(clippy::print_stdout, reason = "an example prints what it got")]

use aws_sdk_dynamodb::types::AttributeValue;
use std::env::var;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(aws_smithy_http_client::tls::Provider::Rustls(
            aws_smithy_http_client::tls::rustls_provider::CryptoMode::Ring,
        ))
        .build_https();
    let aws = aws_config::from_env().http_client(http).load().await;
    let (sqs, sns) = (aws_sdk_sqs::Client::new(&aws), aws_sdk_sns::Client::new(&aws));

    // 1. Subscribe once: a queue of yours gets the outcomes you care about.
    let queue = sqs.create_queue().queue_name("my-outcomes-rust").send().await?;
    let queue_url = queue.queue_url().ok_or("a queue has a URL")?;
    let attributes = sqs.get_queue_attributes().queue_url(queue_url).attribute_names("QueueArn".into()).send().await?;
    let arn = attributes.attributes().and_then(|all| all.get(&"QueueArn".into())).ok_or("a queue has an ARN")?;
    sns.subscribe()
        .topic_arn(var("OUTCOME_TOPIC_ARN")?)
        .protocol("sqs")
        .endpoint(arn)
        .attributes("FilterPolicy", r#"{"status":["confirmed","reverted"]}"#)
        .attributes("RawMessageDelivery", "true")
        .send()
        .await?;

    // 2. Ask. The id is yours, and makes it safe to send again.
    let body =
        r#"{"requestId":"rust-1","to":"0x55d398326f99059fF775485246999027B3197955","value":"1000000000","gas":21000}"#;
    sqs.send_message().queue_url(var("SIGNING_QUEUE_URL")?).message_group_id("hot").message_body(body).send().await?;

    // 3. Get the outcome, or look whenever you like.
    let received = sqs.receive_message().queue_url(queue_url).wait_time_seconds(20).send().await?;
    let outcome = received.messages().first().and_then(|message| message.body()).ok_or("no outcome in 20 s")?;
    println!("{outcome}");
    let item = aws_sdk_dynamodb::Client::new(&aws)
        .get_item()
        .table_name(var("REQUESTS_TABLE")?)
        .key("requestId", AttributeValue::S("rust-1".to_owned()))
        .send()
        .await?;
    println!("{:?}", item.item().and_then(|item| item.get("status")));
    Ok(())
}
