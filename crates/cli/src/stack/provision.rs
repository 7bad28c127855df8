//! Creates what Signpost needs in an AWS account: queues with their dead-letter queues, the two tables, the topic, and
//! one key per account name. For the emulator or a sandbox; production has its own template. Idempotent.

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType, TimeToLiveSpecification,
};
use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use aws_sdk_sqs::types::QueueAttributeName;

use super::StackError;
use crate::aws::reason;

/// Two weeks, the maximum of SQS: failed messages must still be there after a holiday.
const DEAD_LETTER_RETENTION_S: &str = "1209600";
/// Deliveries of one message before it is set aside.
const MAX_RECEIVES: u32 = 10;

/// What to create.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The prefix of every name.
    pub prefix: String,
    /// Whether the signing queue is FIFO. The other two always are.
    pub fifo: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { prefix: "signpost".to_owned(), fifo: true }
    }
}

/// What was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// The queue for requests.
    pub signing_url: String,
    /// The queue on which the broadcaster asks the signer for another attempt.
    pub resign_url: String,
    /// The queue on which the signer pokes the broadcaster for a lane.
    pub broadcast_url: String,
    /// The table of requests.
    pub requests_table: String,
    /// The table of accounts and slots.
    pub accounts_table: String,
    /// The topic for outcomes.
    pub outcomes_arn: String,
}

/// Creates queues, tables and topic.
pub async fn make(sdk: &SdkConfig, wanted: &Wanted) -> Result<Resources, StackError> {
    let sqs = aws_sdk_sqs::Client::new(sdk);
    let dynamodb = aws_sdk_dynamodb::Client::new(sdk);
    let sns = aws_sdk_sns::Client::new(sdk);
    let name = |part: &str| format!("{}-{part}", wanted.prefix);
    let (requests_table, accounts_table) = (name("requests"), name("accounts"));
    let (signing_url, resign_url, broadcast_url, outcomes_arn, (), ()) = tokio::try_join!(
        Box::pin(queue(&sqs, name("signing"), wanted.fifo, 60)),
        Box::pin(queue(&sqs, name("resign"), true, 30)),
        Box::pin(queue(&sqs, name("broadcast"), true, 30)),
        Box::pin(topic(&sns, name("outcomes"))),
        Box::pin(table_of_requests(&dynamodb, &requests_table)),
        Box::pin(table_of_accounts(&dynamodb, &accounts_table)),
    )?;
    Ok(Resources { signing_url, resign_url, broadcast_url, requests_table, accounts_table, outcomes_arn })
}

/// The id of the secp256k1 signing key with an alias; creates key and alias if they are missing.
pub async fn key(sdk: &SdkConfig, alias: &str) -> Result<String, StackError> {
    let kms = aws_sdk_kms::Client::new(sdk);
    let alias = format!("alias/{alias}");
    match kms.describe_key().key_id(&alias).send().await {
        Ok(found) => {
            return found
                .key_metadata
                .map(|key| key.key_id)
                .ok_or_else(|| aws("DescribeKey", &alias, "the answer has no key".to_owned()));
        }
        Err(error) if error.code() == Some("NotFoundException") => {}
        Err(error) => return Err(aws("DescribeKey", &alias, reason(&error))),
    }
    let made = kms
        .create_key()
        .key_spec(KeySpec::EccSecgP256K1)
        .key_usage(KeyUsageType::SignVerify)
        .description("Signpost account")
        .send()
        .await
        .map_err(|error| aws("CreateKey", &alias, reason(&error)))?;
    let id = made
        .key_metadata
        .map(|key| key.key_id)
        .ok_or_else(|| aws("CreateKey", &alias, "the answer has no key".to_owned()))?;
    kms.create_alias()
        .alias_name(&alias)
        .target_key_id(&id)
        .send()
        .await
        .map_err(|error| aws("CreateAlias", &alias, reason(&error)))?;
    Ok(id)
}

async fn queue(sqs: &aws_sdk_sqs::Client, name: String, fifo: bool, visibility_s: u32) -> Result<String, StackError> {
    let (dead, name) =
        if fifo { (format!("{name}-dlq.fifo"), format!("{name}.fifo")) } else { (format!("{name}-dlq"), name) };
    let mut attributes =
        HashMap::from([(QueueAttributeName::MessageRetentionPeriod, DEAD_LETTER_RETENTION_S.to_owned())]);
    if fifo {
        // Raises the limit from 300 calls per second per queue to 300 per group, which is per account.
        attributes.extend([
            (QueueAttributeName::FifoQueue, "true".to_owned()),
            (QueueAttributeName::ContentBasedDeduplication, "true".to_owned()),
            (QueueAttributeName::DeduplicationScope, "messageGroup".to_owned()),
            (QueueAttributeName::FifoThroughputLimit, "perMessageGroupId".to_owned()),
        ]);
    }
    let dead_url = create_queue(sqs, &dead, attributes.clone()).await?;
    let dead_arn = queue_arn(sqs, &dead, &dead_url).await?;
    let redrive = serde_json::json!({ "deadLetterTargetArn": dead_arn, "maxReceiveCount": MAX_RECEIVES }).to_string();
    attributes.extend([
        (QueueAttributeName::RedrivePolicy, redrive),
        (QueueAttributeName::VisibilityTimeout, visibility_s.to_string()),
        (QueueAttributeName::ReceiveMessageWaitTimeSeconds, "20".to_owned()),
    ]);
    create_queue(sqs, &name, attributes).await
}

async fn create_queue(
    sqs: &aws_sdk_sqs::Client,
    name: &str,
    attributes: HashMap<QueueAttributeName, String>,
) -> Result<String, StackError> {
    let made = sqs.create_queue().queue_name(name).set_attributes(Some(attributes)).send().await;
    made.map_err(|error| aws("CreateQueue", name, reason(&error)))?
        .queue_url
        .ok_or_else(|| aws("CreateQueue", name, "the answer has no URL".to_owned()))
}

/// The ARN of a queue.
pub async fn queue_arn(sqs: &aws_sdk_sqs::Client, name: &str, url: &str) -> Result<String, StackError> {
    let arn = QueueAttributeName::QueueArn;
    let answer = sqs.get_queue_attributes().queue_url(url).attribute_names(arn.clone()).send().await;
    answer
        .map_err(|error| aws("GetQueueAttributes", name, reason(&error)))?
        .attributes
        .and_then(|mut attributes| attributes.remove(&arn))
        .ok_or_else(|| aws("GetQueueAttributes", name, "the answer has no ARN".to_owned()))
}

async fn topic(sns: &aws_sdk_sns::Client, name: String) -> Result<String, StackError> {
    let made = sns.create_topic().name(&name).send().await;
    made.map_err(|error| aws("CreateTopic", &name, reason(&error)))?
        .topic_arn
        .ok_or_else(|| aws("CreateTopic", &name, "the answer has no ARN".to_owned()))
}

async fn table_of_requests(dynamodb: &aws_sdk_dynamodb::Client, name: &str) -> Result<(), StackError> {
    let by_account = GlobalSecondaryIndex::builder()
        .index_name("byAccount")
        .key_schema(key_part("account", KeyType::Hash))
        .key_schema(key_part("createdAt", KeyType::Range))
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
        .build()
        .expect("name, key and projection are set");
    let made = dynamodb
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("requestId", ScalarAttributeType::S))
        .attribute_definitions(attribute("account", ScalarAttributeType::S))
        .attribute_definitions(attribute("createdAt", ScalarAttributeType::N))
        .key_schema(key_part("requestId", KeyType::Hash))
        .global_secondary_indexes(by_account)
        .send()
        .await;
    match made {
        Err(error) if error.code() != Some("ResourceInUseException") => Err(aws("CreateTable", name, reason(&error))),
        Ok(_) | Err(_) => expire(dynamodb, name).await,
    }
}

async fn table_of_accounts(dynamodb: &aws_sdk_dynamodb::Client, name: &str) -> Result<(), StackError> {
    let made = dynamodb
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("account", ScalarAttributeType::S))
        .attribute_definitions(attribute("item", ScalarAttributeType::S))
        .key_schema(key_part("account", KeyType::Hash))
        .key_schema(key_part("item", KeyType::Range))
        .send()
        .await;
    match made {
        Err(error) if error.code() != Some("ResourceInUseException") => Err(aws("CreateTable", name, reason(&error))),
        Ok(_) | Err(_) => expire(dynamodb, name).await,
    }
}

/// Waits until the table exists, and turns on expiry by `expiresAt`.
async fn expire(dynamodb: &aws_sdk_dynamodb::Client, table: &str) -> Result<(), StackError> {
    use aws_sdk_dynamodb::client::Waiters as _;

    let timeout = std::time::Duration::from_mins(1);
    let ready = dynamodb.wait_until_table_exists().table_name(table).wait(timeout).await;
    ready.map_err(|error| aws("DescribeTable", table, DisplayErrorContext(&error).to_string()))?;
    let ttl =
        TimeToLiveSpecification::builder().attribute_name("expiresAt").enabled(true).build().expect("both are set");
    match dynamodb.update_time_to_live().table_name(table).time_to_live_specification(ttl).send().await {
        // It is already turned on.
        Err(error) if error.message().is_some_and(|text| text.contains("already enabled")) => Ok(()),
        Err(error) => Err(aws("UpdateTimeToLive", table, reason(&error))),
        Ok(_) => Ok(()),
    }
}

fn attribute(name: &str, kind: ScalarAttributeType) -> AttributeDefinition {
    AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().expect("both are set")
}

fn key_part(name: &str, kind: KeyType) -> KeySchemaElement {
    KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect("both are set")
}

fn aws(operation: &'static str, name: &str, reason: String) -> StackError {
    StackError::Aws { operation, name: name.to_owned(), reason }
}
