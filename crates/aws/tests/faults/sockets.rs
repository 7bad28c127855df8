//! The errors of the real HTTP client on failing sockets: "did it happen" depends on them.

use std::io::Read as _;
use std::net::TcpListener;

use aws_config::SdkConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use signpost_aws::store::{DynamoStore, TableNames};
use signpost_txmgr::ports::{Happened, PortError, Store as _};

use crate::fixture;
use crate::script::{IMPATIENT, Script};

async fn head_from(endpoint: String) -> PortError {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let sdk: SdkConfig = Script::new([]).sdk().into_builder().http_client(http).endpoint_url(endpoint).build();
    let client = aws_sdk_dynamodb::Client::new(&sdk);
    let tables = TableNames { requests: "requests".to_owned(), accounts: "accounts".to_owned() };
    DynamoStore::with_client(client, tables, IMPATIENT).head(&fixture::head(0).account).await.unwrap_err()
}

#[tokio::test]
async fn refused_connection_did_not_happen() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = head_from(endpoint).await;
    assert_eq!(error.happened, Happened::No);
    assert_eq!(error.source.to_string(), "no connection to the service");
}

#[tokio::test]
async fn name_without_an_address_did_not_happen() {
    let error = head_from("http://signpost.invalid".to_owned()).await;
    assert_eq!(error.happened, Happened::No, "{:?}", error.source);
}

#[tokio::test]
async fn connection_broken_after_the_request_is_unknown() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for _ in 0..IMPATIENT.tries {
            let (mut socket, _) = listener.accept().unwrap();
            let mut buffer = [0; 4_096];
            assert!(socket.read(&mut buffer).unwrap() > 0, "the request arrives before the connection breaks");
        }
    });
    let error = head_from(endpoint).await;
    assert_eq!((error.happened, error.throttled), (Happened::Unknown, false));
    server.join().unwrap();
}
