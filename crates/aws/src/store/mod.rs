//! The store on DynamoDB: the requests table and the accounts table.
//!
//! All reads are strongly consistent. A transaction is used only if two items must change together
//! (registering, unregistering, reserving); every later change is one conditional write of one item.
//!
//! ## Guarantees
//! * A verdict is DynamoDB's answer to a condition, never a guess from an error.
//! * A write whose reply was lost is reported as done if the stored item shows it.
//!
//! ## Does not guarantee
//! * That slots left behind expire: their expiry is set after the head moved, and after a crash between the
//!   two the slot items stay. They cost storage and nothing else.
//!
//! IAM actions, each under `dynamodb:` and on both tables: `GetItem`, `BatchGetItem`, `Query`, `PutItem`,
//! `UpdateItem`. A transaction needs the actions of its parts. [`written`] lists the attributes. An operator's lists
//! are read with `Query` on the index `byAccount`, and with `Scan` only if a whole table is requested. Unregistering
//! an account needs `DeleteItem` on the accounts table, which no stage has.
//!
//! Read in this order: [`reserve`], [`records`], [`lane`], [`accounts`], [`operator`], [`written`], [`crate::kms`].

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use signpost_txmgr::account::{Accounts, Head, Marks, Reservation, SeenFee};
use signpost_txmgr::ports::{
    PortError, RegisterVerdict, RejectVerdict, ReserveVerdict, RetireVerdict, Store, UnregisterVerdict, UpdateVerdict,
};
use signpost_txmgr::record::{Record, Rejected, Stored, Vacancy};
use signpost_txmgr::units::{AccountKey, AccountName, Millis, Nonce, RequestId};
use signpost_txmgr::unusable::Unusable;

use crate::clients;
use crate::fault::AwsError;
use crate::item::{Item, ItemError};
use crate::repeat::Backoff;

pub mod accounts;
pub mod lane;
pub mod operator;
pub mod records;
pub mod reserve;
pub mod written;

/// Names of the two tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableNames {
    /// Key `requestId` (S).
    pub requests: String,
    /// Key `account` (S), sort key `item` (S).
    pub accounts: String,
}

/// The store on DynamoDB. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DynamoStore {
    client: Client,
    tables: TableNames,
    backoff: Backoff,
}

impl DynamoStore {
    /// A store with retries and timeouts of its own; those of `sdk` are not used.
    #[must_use]
    pub fn new(sdk: &SdkConfig, tables: TableNames) -> Self {
        let config = aws_sdk_dynamodb::config::Builder::from(sdk)
            .retry_config(clients::no_retries())
            .timeout_config(clients::timeouts(std::time::Duration::ZERO))
            .build();
        Self::with_client(Client::from_conf(config), tables, Backoff::STANDARD)
    }

    /// A store on a client without retries of its own.
    #[must_use]
    pub fn with_client(client: Client, tables: TableNames, backoff: Backoff) -> Self {
        Self { client, tables, backoff }
    }
}

impl Store for DynamoStore {
    async fn accounts(&self) -> Result<Accounts, PortError> {
        accounts::accounts(self).await
    }

    async fn head(&self, account: &AccountKey) -> Result<Option<Head>, PortError> {
        accounts::head(self, account).await
    }

    async fn register(&self, head: &Head) -> Result<RegisterVerdict, PortError> {
        accounts::register(self, head).await
    }

    async fn set_paused(&self, account: &AccountKey, paused: bool) -> Result<(), PortError> {
        accounts::set_paused(self, account, paused).await
    }

    async fn set_paused_by_node(&self, account: &AccountKey, paused: bool) -> Result<(), PortError> {
        accounts::set_paused_by_node(self, account, paused).await
    }

    async fn set_unfunded(&self, account: &AccountKey, since: Option<Millis>) -> Result<(), PortError> {
        accounts::set_unfunded(self, account, since).await
    }

    async fn set_unusable(&self, account: &AccountKey, unusable: Option<Unusable>) -> Result<(), PortError> {
        accounts::set_unusable(self, account, unusable).await
    }

    async fn observe_fee(&self, account: &AccountKey, fee: &SeenFee) -> Result<(), PortError> {
        accounts::observe_fee(self, account, fee).await
    }

    async fn fast_forward(&self, account: &AccountKey, from: Nonce, to: Nonce) -> Result<bool, PortError> {
        lane::fast_forward(self, account, from, to).await
    }

    async fn set_nonce(&self, account: &AccountKey, from: Nonce, to: Nonce) -> Result<bool, PortError> {
        lane::set_nonce(self, account, from, to).await
    }

    async fn retire(&self, account: &AccountKey, now: Millis) -> Result<RetireVerdict, PortError> {
        operator::retire(self, account, now).await
    }

    async fn unregister(
        &self,
        account: &AccountKey,
        name: &AccountName,
        retired_until: Millis,
    ) -> Result<UnregisterVerdict, PortError> {
        operator::unregister(self, account, name, retired_until).await
    }

    async fn reserve(&self, group: &Reservation) -> Result<ReserveVerdict, PortError> {
        reserve::reserve(self, group).await
    }

    async fn load(&self, ids: &[RequestId], now: Millis) -> Result<Vec<Stored>, PortError> {
        records::load(self, ids, now).await
    }

    async fn reject(&self, rejected: &Rejected, over: &Vacancy) -> Result<RejectVerdict, PortError> {
        records::reject(self, rejected, over).await
    }

    async fn update(&self, record: &Record) -> Result<UpdateVerdict, PortError> {
        records::update(self, record).await
    }

    async fn slots(
        &self,
        account: &AccountKey,
        from: Nonce,
        limit: usize,
    ) -> Result<Vec<(Nonce, RequestId)>, PortError> {
        lane::slots(self, account, from, limit).await
    }

    async fn leave_slots(
        &self,
        account: &AccountKey,
        from: Nonce,
        to: Nonce,
        expires_at: Millis,
    ) -> Result<bool, PortError> {
        lane::leave_slots(self, account, from, to, expires_at).await
    }

    async fn move_marks(
        &self,
        account: &AccountKey,
        before: &Marks,
        after: &Marks,
        expires_at: Millis,
    ) -> Result<bool, PortError> {
        lane::move_marks(self, account, before, after, expires_at).await
    }
}

/// Placeholders for attribute names, `#name` for each: half of our names are reserved words of
/// DynamoDB's expressions.
fn names(attributes: &[&str]) -> HashMap<String, String> {
    attributes.iter().map(|name| (format!("#{name}"), (*name).to_owned())).collect()
}

/// Decodes an item that `operation` returned.
fn read<T>(
    operation: &'static str,
    item: &Item,
    decode: impl Fn(&Item) -> Result<T, ItemError>,
) -> Result<T, PortError> {
    decode(item).map_err(|error| AwsError::Item(error).did_not_happen(operation))
}
