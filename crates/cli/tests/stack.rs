//! The local stack: installed, started, provisioned, used and stopped.

#![allow(clippy::unwrap_used, reason = "a test ends at the first failure")]

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{MessageType, SigningAlgorithmSpec};
use signpost_cli::aws::{self, Target};
use signpost_cli::stack::{provision, servers, setup};

async fn started() -> servers::LocalStack {
    let tools = tokio::task::spawn_blocking(setup::install).await.unwrap().unwrap();
    servers::LocalStack::start(&tools, &servers::Options::default()).await.unwrap()
}

#[tokio::test]
async fn stack_counts_signatures_and_leaves_no_server_behind() {
    let stack = started().await;
    let sdk = aws::connect(&Target { endpoint: Some(stack.aws_endpoint.clone()), region: None }).await;

    let made = provision::make(&sdk, &provision::Wanted::default()).await.unwrap();
    assert!(made.signing_url.ends_with("/signpost-signing.fifo"), "{}", made.signing_url);
    let again = provision::make(&sdk, &provision::Wanted::default()).await.unwrap();
    assert_eq!(made, again, "provisioning twice is harmless");

    let key = provision::key(&sdk, "signpost-hot").await.unwrap();
    assert_eq!(key, provision::key(&sdk, "signpost-hot").await.unwrap());
    assert_eq!(stack.kms_signatures().unwrap(), 0);
    let kms = aws_sdk_kms::Client::new(&sdk);
    for digest in [[1; 32], [2; 32], [3; 32]] {
        kms.sign()
            .key_id(&key)
            .message(Blob::new(digest))
            .message_type(MessageType::Digest)
            .signing_algorithm(SigningAlgorithmSpec::EcdsaSha256)
            .send()
            .await
            .unwrap();
    }
    assert_eq!(stack.kms_signatures().unwrap(), 3);

    let address = "0x00000000000000000000000000000000000000aa";
    stack.fund(address, "0x64").await.unwrap();
    let balance = stack.rpc.call("eth_getBalance", serde_json::json!([address, "latest"])).await.unwrap();
    assert_eq!(balance, "0x64");

    let (aws_endpoint, rpc_url) = (stack.aws_endpoint.clone(), stack.rpc.url().to_owned());
    stack.stop().await;
    for endpoint in [aws_endpoint, rpc_url] {
        let address = endpoint.trim_start_matches("http://");
        assert!(std::net::TcpStream::connect(address).is_err(), "{endpoint} still answers");
    }
}

#[tokio::test]
async fn signing_queue_can_be_standard() {
    let stack = started().await;
    let sdk = aws::connect(&Target { endpoint: Some(stack.aws_endpoint.clone()), region: None }).await;
    let wanted = provision::Wanted { prefix: "other".to_owned(), fifo: false };
    let made = provision::make(&sdk, &wanted).await.unwrap();
    assert!(made.signing_url.ends_with("/other-signing"), "{}", made.signing_url);
    assert!(made.broadcast_url.ends_with("/other-broadcast.fifo"), "{}", made.broadcast_url);
    stack.stop().await;
}

#[tokio::test]
async fn taken_port_is_reported_with_its_option() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let tools = tokio::task::spawn_blocking(setup::install).await.unwrap().unwrap();
    let options = servers::Options { rpc_port: Some(port), ..servers::Options::default() };
    let error = servers::LocalStack::start(&tools, &options).await.unwrap_err().to_string();
    assert!(error.contains(&port.to_string()) && error.contains("--rpc-port"), "{error}");
}

#[tokio::test]
async fn stacks_started_at_the_same_time_have_separate_servers() {
    let tools = tokio::task::spawn_blocking(setup::install).await.unwrap().unwrap();
    let start = async |name: &str| {
        let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let tools = setup::Tools { directory, ..tools.clone() };
        servers::LocalStack::start(&tools, &servers::Options::default()).await.unwrap()
    };
    let (one, two, three) = tokio::join!(start("one"), start("two"), start("three"));
    let stacks = [one, two, three];
    let endpoint = |stack: &servers::LocalStack| [stack.aws_endpoint.clone(), stack.rpc.url().to_owned()];
    let endpoints: std::collections::BTreeSet<_> = stacks.iter().flat_map(endpoint).collect();
    assert_eq!(endpoints.len(), 6, "{endpoints:?}");
    for stack in stacks {
        stack.stop().await;
    }
}
