//! `signpost policy`: checks a request against a policy file before either is deployed.
//!
//! Reads two files and calls no AWS. It asks nodes only for the payment lane, if a configuration is given. It therefore
//! does not know the registered accounts, what is left of a spend limit, or the network's price.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;
use signpost_host::start::policies;
use signpost_txmgr::fees::least_bump;
use signpost_txmgr::policy::{AccountPolicy, NetworkRules, Policies, accept};
use signpost_txmgr::request::{AccountRef, Code, Message, Refused, SigningRequest};
use signpost_txmgr::tx::Intent;
use signpost_txmgr::units::{AccountKey, AccountName, Address, ChainId, Millis, Wei};
use signpost_txmgr::wire::hex_digest;

use super::{CommandError, Session};
use crate::config::Config;
use crate::terminal::say;
use crate::{amount, clock, payment_lane, ports};

const EXAMPLES: &str = "\
Examples:
  signpost policy check --policy policy.toml --request request.json
  signpost policy check --policy policy.toml --request request.json --account hot --sender AIDAEXAMPLE
  echo '{\"requestId\":\"a\",\"account\":\"hot\",\"to\":null,\"data\":\"0x00\",\"gas\":60000}' |
    signpost policy check --policy policy.toml --request - --json
  signpost policy check --policy policy.toml --request request.json --config signpost.toml

Exit code 0: allowed; 1: refused, with code and rule; 2: wrong options, or an invalid policy file. The request is parsed
as the service parses it, so a malformed request is refused too. Only the service knows what is left of a limit per time
window; here a request is checked against the full limit. The policy is identified by the SHA-256 of the file, as in the
service's records and logs. The lane (BEP-703) of an allowed request depends on the chain: with --config the command
asks the nodes of that file and uses nothing else from it.";

/// `signpost policy`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show whether a request would be accepted, and which rule decides
    #[command(after_help = EXAMPLES)]
    Check(Check),
}

/// `signpost policy check`
#[derive(Debug, clap::Args)]
pub struct Check {
    /// Policy file
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Message of the signing queue as JSON; `-` is standard input
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
    /// Name of its account [default: the one in the request, else the only one in the policy]
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Sender id as SQS reports it [default: unknown]
    #[arg(long, value_name = "ID")]
    sender: Option<String>,
    /// Network's gas price, used if neither the request nor the account has one
    #[arg(long, value_name = "WEI")]
    network_price: Option<Wei>,
    /// Lowest gas price that is mined, as in `chain.fee_floor_wei`
    #[arg(long, value_name = "WEI", default_value = "50000000")]
    fee_floor: Wei,
    /// Configuration file with the nodes to ask for the request's lane [default: ask none]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON line
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let Action::Check(asked) = arguments.action;
    let policies = policies(&asked.policy)?;
    let body = read(&asked.request)?;
    let mut verdict = asked.judge(&policies, &body, Millis(clock::now_ms()))?;
    verdict.policy_digest = Some(hex_digest(&policies.digest()));
    if let Some((tx_type, intent)) = &verdict.signs {
        let nodes = match &asked.config {
            Some(file) => Some(ports::chain(&Session::new(Config::load(file)?).await)?),
            None => None,
        };
        verdict.lane = Some(payment_lane::of(nodes.as_ref(), *tx_type, intent.to, intent.value).await);
    }
    say(if asked.json { verdict.as_json() } else { verdict.as_text() });
    Ok(if verdict.refused.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(path: &PathBuf) -> Result<String, CommandError> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map(|_| ())
    } else {
        std::fs::read_to_string(path).map(|found| text = found)
    };
    // Not `File`, whose exit code means that the request is refused.
    read.map_err(|error| CommandError::Input(format!("cannot read {}: {error}", path.display())))?;
    Ok(text)
}

/// The decision of the policy about a request.
#[derive(Debug, Default)]
struct Decision {
    request_id: Option<String>,
    account: Option<String>,
    refused: Option<Refused>,
    /// Gas price of the first attempt, highest gas price of any attempt, and highest cost in wei.
    priced: Option<(Wei, Wei, Wei)>,
    /// The spend limit per time window: wei and seconds.
    window: Option<(Wei, u64)>,
    /// The request limit of a sender per time window: requests and seconds.
    requests: Option<(u64, u64)>,
    /// How long the request may block its lane at its price cap, in seconds; and whether the price of the cancel is
    /// then within `max_gas_price_wei`.
    head: Option<(u64, bool)>,
    /// The transaction that would be signed: its type and its intent.
    signs: Option<(u8, Intent)>,
    lane: Option<payment_lane::LaneText>,
    /// SHA-256 of the file, as in the records.
    policy_digest: Option<String>,
}

/// Whether a sender may cancel: any sender that may send requests, and those in `cancel_senders`.
fn cancel(policy: &AccountPolicy, sender: Option<&str>) -> Result<(), Refused> {
    if policy.takes_cancels_of(sender) || policy.check_sender(sender).is_ok() {
        return Ok(());
    }
    let text = "policy cancel_senders does not list the sender, and allow_senders takes no requests from it";
    Err(Refused::field(Code::CancelNotAllowed, "cancel", text))
}

impl Check {
    fn judge(&self, policies: &Policies, body: &str, now: Millis) -> Result<Decision, CommandError> {
        let sender = self.sender.as_deref();
        let (request, id) = match Message::parse(body) {
            Err(refused) => {
                let request_id = refused.request_id.as_ref().map(ToString::to_string);
                return Ok(Decision { request_id, refused: Some(refused), ..Decision::default() });
            }
            Ok(Message::Sign(request)) => (Some(request.clone()), request.id),
            Ok(Message::Cancel(id)) => (None, id),
        };
        let name = self.account_name(request.as_ref(), policies)?;
        let mut verdict =
            Decision { request_id: Some(id.to_string()), account: Some(name.to_string()), ..Decision::default() };
        let judged = policies.of(&name).and_then(|policy| match &request {
            None => cancel(policy, sender),
            Some(request) => {
                let accepted = self.accept(request, policy, now)?;
                let cost = policy.cost(&accepted.intent, accepted.fee_cap);
                verdict.priced = Some((accepted.fee.price(), accepted.fee_cap, cost));
                verdict.window = policy.spend_limit.map(|limit| (limit.limit, limit.window_ms / 1_000));
                verdict.requests = policy.request_limit.map(|limit| (limit.limit, limit.window_ms / 1_000));
                let has_room = least_bump(accepted.fee_cap).is_some_and(|cancel| cancel <= policy.max_gas_price);
                verdict.head = Some((policy.max_head_ms / 1_000, has_room));
                verdict.signs = Some((payment_lane::tx_type(&accepted.fee), accepted.intent));
                Ok(())
            }
        });
        verdict.refused = judged.err();
        Ok(verdict)
    }

    fn accept(
        &self,
        request: &SigningRequest,
        policy: &AccountPolicy,
        now: Millis,
    ) -> Result<signpost_txmgr::policy::Accepted, Refused> {
        let network = NetworkRules { fee_floor: self.fee_floor };
        accept(request, &account_key(request), policy, &network, self.network_price, self.sender.as_deref(), now)
    }

    /// The name of the account whose rules apply.
    fn account_name(&self, request: Option<&SigningRequest>, policies: &Policies) -> Result<AccountName, CommandError> {
        if let Some(name) = &self.account {
            let wrong = |error| CommandError::Input(format!("{name} is not a valid account name: it {error}"));
            return name.parse().map_err(wrong);
        }
        if let Some(AccountRef::Name(name)) = request.and_then(|request| request.account.as_ref()) {
            return Ok(name.clone());
        }
        let mut named = policies.accounts().map(|(name, _)| name);
        if let (Some(only), None) = (named.next(), named.next()) {
            return Ok(only.clone());
        }
        let text = "the request does not name its account, and the policy has more than one; give --account";
        Err(CommandError::Input(text.to_owned()))
    }
}

/// A possible account of the request: the registered accounts are not known here.
fn account_key(request: &SigningRequest) -> AccountKey {
    let chain_id = request.chain_id.unwrap_or(ChainId(56));
    match &request.account {
        Some(AccountRef::Key(key)) => *key,
        Some(AccountRef::Address(address)) => AccountKey { chain_id, address: *address },
        Some(AccountRef::Name(_) | AccountRef::Pool(_)) | None => AccountKey { chain_id, address: Address([0; 20]) },
    }
}

impl Decision {
    fn as_text(&self) -> String {
        let id = self.request_id.as_deref().unwrap_or("the request");
        let account = self.account.as_deref().map(|name| format!(" with account {name}")).unwrap_or_default();
        let policy = self.policy_digest.as_deref().map(|digest| format!("  policy {digest}"));
        if let Some(refused) = &self.refused {
            let rule = Policies::rule_named(&refused.message).map(|rule| format!(" by {rule}")).unwrap_or_default();
            let refused = format!("refused: {id}{account}\n  {}{rule}: {refused}", refused.code);
            return [refused].into_iter().chain(policy).collect::<Vec<_>>().join("\n");
        }
        let mut lines = vec![format!("allowed: {id}{account}")];
        if let Some((price, cap, cost)) = self.priced {
            let (price, cap) = (amount::price(price), amount::price(cap));
            lines.push(format!("  {price} at first, {cap} at most; it may cost {}", amount::wei(cost)));
        }
        if let Some((limit, window_s)) = self.window {
            let limit = amount::wei(limit);
            lines.push(format!("  if that much is left of the window of {window_s} s: spend_limit_wei is {limit}"));
        }
        if let Some((limit, window_s)) = self.requests {
            lines.push(format!("  if the sender sent fewer in the window of {window_s} s: max_requests is {limit}"));
        }
        if let Some((head_s, has_room)) = self.head {
            let room = if has_room {
                ""
            } else {
                ", but no node would accept the cancel: max_gas_price_wei must be a tenth above its cap"
            };
            lines.push(format!("  cancelled after {head_s} s as the lane's head at its price cap (max_head_s){room}"));
        }
        lines.extend(self.lane.as_ref().map(|lane| format!("  lane: {}", lane.text)));
        lines.extend(policy);
        lines.join("\n")
    }

    fn as_json(&self) -> String {
        let refused = self.refused.as_ref();
        let mut line = json!({
            "verdict": if refused.is_some() { "refused" } else { "allowed" },
            "requestId": self.request_id,
            "account": self.account,
            "code": refused.map(|refused| refused.code).map(Code::as_str),
            "rule": refused.and_then(|refused| Policies::rule_named(&refused.message)),
            "field": refused.and_then(|refused| refused.field.as_deref()),
            "message": refused.map(ToString::to_string),
            "policyDigest": self.policy_digest,
        });
        if let (Some((price, cap, cost)), Some(fields)) = (self.priced, line.as_object_mut()) {
            fields.insert("gasPrice".to_owned(), json!(price.to_string()));
            fields.insert("gasPriceAtMost".to_owned(), json!(cap.to_string()));
            fields.insert("costAtMost".to_owned(), json!(cost.to_string()));
        }
        if let (Some((limit, window_s)), Some(fields)) = (self.requests, line.as_object_mut()) {
            fields.insert("requestsAtMost".to_owned(), json!(limit));
            fields.insert("requestsWindowS".to_owned(), json!(window_s));
        }
        if let (Some((head_s, has_room)), Some(fields)) = (self.head, line.as_object_mut()) {
            fields.insert("headAtCapS".to_owned(), json!(head_s));
            fields.insert("cancelFitsUnderCap".to_owned(), json!(has_room));
        }
        if let (Some(lane), Some(fields)) = (&self.lane, line.as_object_mut()) {
            fields.insert("lane".to_owned(), json!(lane.name));
            fields.insert("laneReason".to_owned(), json!(lane.text));
        }
        line.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_795_348_800_000);
    const POLICY: &str = "[account.hot]\nmax_gas_price_wei = \"3000000000\"\ngas_price_wei = \"100000000\"\n\
        max_value_wei = 10\nspend_limit_wei = \"100000000000000\"\nspend_window_s = 60\nmax_requests = 9\n\
        max_requests_window_s = 30\nmax_head_s = 120\n\
        allow_senders = [\"AIDA1\", \"AROA2:job-*\"]\ncancel_senders = [\"AIDADESK\"]\n";

    fn judged(body: &str, sender: Option<&str>) -> Decision {
        let asked = Check {
            policy: PathBuf::new(),
            request: PathBuf::new(),
            account: None,
            sender: sender.map(str::to_owned),
            network_price: None,
            fee_floor: Wei::from(50_000_000),
            config: None,
            json: false,
        };
        asked.judge(&Policies::from_toml(POLICY).expect("it is a policy"), body, NOW).expect("it names an account")
    }

    fn transfer(value: u64) -> String {
        let to = "0x55d398326f99059fF775485246999027B3197955";
        format!(r#"{{"requestId":"r-1","to":"{to}","value":{value},"gas":21000}}"#)
    }

    #[test]
    fn allowed_request_is_shown_with_price_and_highest_cost() {
        let verdict = judged(&transfer(10), Some("AIDA1"));
        assert_eq!(
            verdict.as_text(),
            "allowed: r-1 with account hot\n  100000000 wei per gas (0.1 gwei) at first, 3000000000 wei per gas \
             (3 gwei) at most; it may cost 63000000000010 wei (0.00006300000000001 BNB)\n  \
             if that much is left of the window of 60 s: spend_limit_wei is 100000000000000 wei (0.0001 BNB)\n  \
             if the sender sent fewer in the window of 30 s: max_requests is 9\n  \
             cancelled after 120 s as the lane's head at its price cap (max_head_s), but no node would accept the \
             cancel: max_gas_price_wei must be a tenth above its cap"
        );
        let line: serde_json::Value = serde_json::from_str(&verdict.as_json()).expect("JSON");
        assert_eq!((&line["verdict"], &line["costAtMost"]), (&json!("allowed"), &json!("63000000000010")));
        assert_eq!((&line["requestsAtMost"], &line["requestsWindowS"]), (&json!(9), &json!(30)));
        assert_eq!((&line["headAtCapS"], &line["cancelFitsUnderCap"]), (&json!(120), &json!(false)));
        let lower = transfer(10).replace("\"gas\"", "\"maxGasPrice\":2000000000,\"gas\"");
        let text = judged(&lower, Some("AIDA1")).as_text();
        assert!(text.ends_with("\n  cancelled after 120 s as the lane's head at its price cap (max_head_s)"), "{text}");
    }

    #[test]
    fn refused_request_is_shown_with_code_and_rule() {
        for (body, sender, code, rule) in [
            (transfer(11), "AIDA1", "valueTooHigh", Some("max_value_wei")),
            (transfer(1), "AIDA2", "senderNotAllowed", Some("allow_senders")),
            (transfer(1).replace("21000", "60000"), "AROA2:job-7", "spendLimitReached", Some("spend_limit_wei")),
            (transfer(1).replace("21000", "1"), "AIDA1", "gasTooLow", None),
            (transfer(1).replace("gas", "gass"), "AIDA1", "unknownField", None),
            ("{\"cancel\":\"r-1\"}".to_owned(), "AROA2:other", "cancelNotAllowed", Some("cancel_senders")),
        ] {
            let line: serde_json::Value = serde_json::from_str(&judged(&body, Some(sender)).as_json()).expect("JSON");
            assert_eq!((&line["verdict"], &line["code"]), (&json!("refused"), &json!(code)), "{body}");
            assert_eq!(line["rule"], json!(rule), "{body}");
        }
        let text = judged(&transfer(11), None).as_text();
        assert!(
            text.starts_with("refused: r-1 with account hot\n  senderNotAllowed by allow_senders: policy"),
            "{text}"
        );
    }

    #[test]
    fn lane_is_shown_for_the_transaction_to_be_signed() {
        let mut verdict = judged(&transfer(10), Some("AIDA1"));
        assert_eq!(verdict.signs.as_ref().map(|(tx_type, intent)| (*tx_type, intent.value)), Some((0, Wei::from(10))));
        verdict.lane = Some(payment_lane::LaneText { name: Some("payment"), text: "payment: it moves BNB".to_owned() });
        assert!(verdict.as_text().ends_with("\n  lane: payment: it moves BNB"), "{}", verdict.as_text());
        let line: serde_json::Value = serde_json::from_str(&verdict.as_json()).expect("JSON");
        assert_eq!((&line["lane"], &line["laneReason"]), (&json!("payment"), &json!("payment: it moves BNB")));
        assert!(judged(&transfer(11), Some("AIDA1")).signs.is_none(), "a refused request has no lane");
    }

    #[test]
    fn cancel_is_checked_against_its_sender_only() {
        for sender in ["AROA2:job-7", "AIDADESK"] {
            assert!(judged("{\"cancel\":\"r-1\"}", Some(sender)).refused.is_none(), "{sender}");
        }
    }
}
