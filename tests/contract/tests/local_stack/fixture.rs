//! The stack, and the ports on it. Tables and keys are shared, queues and topics belong to one claim each.

use std::sync::LazyLock;
use std::time::Duration;

use aws_config::SdkConfig;
use signpost_aws::inbox::SqsInbox;
use signpost_aws::kms::KmsKeys;
use signpost_aws::receiver::Receiver;
use signpost_aws::sns::SnsOutcomeTopic;
use signpost_aws::sqs::{SqsBroadcastQueue, SqsResignQueue};
use signpost_aws::store::{DynamoStore, TableNames};
use signpost_cli::aws::{self, Target};
use signpost_cli::stack::{provision, servers, setup};
use signpost_contract::keys::KeyRing;
use signpost_contract::queue::Pipe;
use signpost_contract::topic::{Channel, Subscriber};
use signpost_txmgr::ports::{BroadcastQueue, PortError, ResignQueue};
use signpost_txmgr::wire::{LanePoke, OutcomeMessage, SignerPoke};
use tokio::runtime::Runtime;

/// A running stack with its tables and keys.
struct Stack {
    sdk: SdkConfig,
    shared: provision::Resources,
    disabled_key: String,
    /// Stops when this program ends.
    _servers: servers::LocalStack,
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static STACK: LazyLock<Stack> = LazyLock::new(|| {
    let tools = setup::install().unwrap_or_else(|error| panic!("{error}"));
    RUNTIME.block_on(async {
        let servers = servers::LocalStack::start(&tools, &servers::Options::default()).await;
        let servers = servers.unwrap_or_else(|error| panic!("{error}"));
        let sdk = aws::connect(&Target { endpoint: Some(servers.aws_endpoint.clone()), region: None }).await;
        let shared = provision::make(&sdk, &wanted("shared")).await.unwrap();
        provision::key(&sdk, "able").await.unwrap();
        let disabled_key = provision::key(&sdk, "disabled").await.unwrap();
        let kms = aws_sdk_kms::Client::new(&sdk);
        kms.disable_key().key_id(&disabled_key).send().await.unwrap();
        Stack { sdk, shared, disabled_key, _servers: servers }
    })
});

fn wanted(prefix: &str) -> provision::Wanted {
    provision::Wanted { prefix: prefix.to_owned(), ..provision::Wanted::default() }
}

/// Runs a claim on the stack.
pub(crate) fn run(claim: impl Future<Output = ()>) {
    LazyLock::force(&STACK);
    RUNTIME.block_on(claim);
}

/// Queues and a topic for one claim; names have at most 80 characters.
pub(crate) async fn resources(claim: &str) -> (SdkConfig, provision::Resources) {
    let prefix: String = claim.chars().take(50).collect();
    (STACK.sdk.clone(), provision::make(&STACK.sdk, &wanted(&prefix)).await.unwrap())
}

pub(crate) async fn store(_: &str) -> DynamoStore {
    let tables =
        TableNames { requests: STACK.shared.requests_table.clone(), accounts: STACK.shared.accounts_table.clone() };
    DynamoStore::new(&STACK.sdk, tables)
}

pub(crate) async fn lanes(claim: &str) -> DynamoStore {
    store(claim).await
}

pub(crate) async fn registry(claim: &str) -> DynamoStore {
    store(claim).await
}

pub(crate) async fn pool(claim: &str) -> DynamoStore {
    store(claim).await
}

pub(crate) async fn spend(claim: &str) -> DynamoStore {
    store(claim).await
}

pub(crate) async fn requests(claim: &str) -> DynamoStore {
    store(claim).await
}

pub(crate) async fn keys(_: &str) -> KeyRing<KmsKeys> {
    KeyRing {
        keys: KmsKeys::new(&STACK.sdk),
        able: "alias/able".parse().unwrap(),
        disabled: STACK.disabled_key.parse().unwrap(),
    }
}

/// The two queues between the stages.
pub(crate) struct Queues {
    broadcast: SqsBroadcastQueue,
    resign: SqsResignQueue,
}

impl BroadcastQueue for Queues {
    async fn poke_lanes(&self, pokes: &[LanePoke]) -> Result<(), PortError> {
        self.broadcast.poke_lanes(pokes).await
    }
}

impl ResignQueue for Queues {
    async fn poke_signer(&self, pokes: &[SignerPoke]) -> Result<(), PortError> {
        self.resign.poke_signer(pokes).await
    }
}

pub(crate) async fn queue(claim: &str) -> Pipe<Queues, SqsInbox> {
    let (sdk, made) = resources(claim).await;
    let resign = claim == "every_request_poked_arrives_as_it_was_sent";
    let read = if resign { &made.resign_url } else { &made.broadcast_url };
    let inbox = SqsInbox::new(Receiver::new(&sdk, read), Duration::from_secs(30)).waiting(Duration::ZERO);
    let queue = Queues {
        broadcast: SqsBroadcastQueue::new(&sdk, &made.broadcast_url),
        resign: SqsResignQueue::new(&sdk, &made.resign_url),
    };
    Pipe { queue, inbox }
}

/// An SQS queue that is subscribed to a topic.
pub(crate) struct Subscription(pub(crate) Receiver);

impl Subscriber for Subscription {
    async fn take_all(&self) -> Vec<OutcomeMessage> {
        let mut all = Vec::new();
        loop {
            // The topic delivers in the background; a second without a message is the end.
            let received = self.0.receive(10, Duration::from_secs(1), None).await.unwrap();
            if received.is_empty() {
                return all;
            }
            let handles: Vec<&str> = received.iter().map(|message| message.receipt.as_str()).collect();
            self.0.delete(&handles).await.into_iter().collect::<Result<Vec<()>, PortError>>().unwrap();
            all.extend(received.iter().map(|message| serde_json::from_str::<OutcomeMessage>(&message.body).unwrap()));
        }
    }
}

pub(crate) async fn topic(claim: &str) -> Channel<SnsOutcomeTopic, Subscription> {
    let (sdk, made) = resources(claim).await;
    let subscriber = subscribe(&sdk, &made.outcomes_arn, &format!("{}-all", short(claim)), None).await;
    Channel { topic: SnsOutcomeTopic::new(&sdk, made.outcomes_arn), subscriber }
}

fn short(claim: &str) -> String {
    claim.chars().take(50).collect()
}

/// Makes a queue and subscribes it, with the outcome alone as the body.
pub(crate) async fn subscribe(sdk: &SdkConfig, topic: &str, queue: &str, filter: Option<&str>) -> Subscription {
    let sqs = aws_sdk_sqs::Client::new(sdk);
    let mut create = sqs.create_queue().queue_name(queue);
    if queue.rsplit('.').next() == Some("fifo") {
        create = create.attributes(aws_sdk_sqs::types::QueueAttributeName::FifoQueue, "true");
    }
    let url = create.send().await.unwrap().queue_url.unwrap();
    let arn = provision::queue_arn(&sqs, queue, &url).await.unwrap();
    let sns = aws_sdk_sns::Client::new(sdk);
    let mut request = sns.subscribe().topic_arn(topic).protocol("sqs").endpoint(arn);
    request = request.attributes("RawMessageDelivery", "true");
    if let Some(filter) = filter {
        request = request.attributes("FilterPolicy", filter);
    }
    request.send().await.unwrap();
    Subscription(Receiver::new(sdk, url))
}
