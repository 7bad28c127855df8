//! The policy file, and each of its rules.

use signpost_txmgr::account::{SenderCounts, Spend};
use signpost_txmgr::policy::{AccountPolicy, Policies, PolicyFacts};
use signpost_txmgr::request::{Code, Refused};
use signpost_txmgr::tx::{Fee, Intent};
use signpost_txmgr::units::{Address, ChainId, Gas, Millis, Wei};

use crate::TO;

const OTHER: &str = "0x9858effd232b4033e47d90003d41ec34ecaeda94";
const CAP: &str = "max_gas_price_wei = 10\n";
const NOW: Millis = Millis(1_780_000_000_000);

/// The policy of an account with a cap of 10 wei and these rules.
fn policy(rules: &str) -> AccountPolicy {
    let file = format!("[account.a]\n{CAP}{rules}");
    let policies = Policies::from_toml(&file).unwrap();
    policies.of(&"a".parse().unwrap()).unwrap().clone()
}

fn problems(file: &str) -> Vec<String> {
    Policies::from_toml(file).unwrap_err().problems
}

/// A call that passes an open policy; each test changes one thing.
struct Call {
    to: Option<&'static str>,
    value: u64,
    data: &'static [u8],
    gas: u64,
    fee: Fee,
    sender: Option<&'static str>,
    deadline: Option<Millis>,
}

const CALL: Call =
    Call { to: Some(TO), value: 1, data: &[], gas: 21_000, fee: legacy(5), sender: None, deadline: None };

const fn legacy(wei: u64) -> Fee {
    Fee::Legacy { gas_price: Wei(signpost_txmgr::units::U256([wei, 0, 0, 0])) }
}

fn check(policy: &AccountPolicy, call: &Call) -> Result<(), Refused> {
    let intent = Intent {
        chain_id: ChainId(97),
        to: call.to.map(|to| to.parse().unwrap()),
        value: Wei::from(call.value),
        data: call.data.into(),
        gas: Gas(call.gas),
    };
    policy.check(&PolicyFacts {
        intent: &intent,
        fee: call.fee,
        fee_cap: Wei::from(10),
        sender: call.sender,
        deadline: call.deadline,
        now: NOW,
    })
}

/// Asserts that the rule allows `good` and refuses `bad` with this code and a message with its name and `value`.
fn rule(rules: &str, good: &Call, bad: &Call, code: Code, value: &str) {
    let policy = policy(rules);
    let name = rules.split([' ', '.', '[', ']']).find(|word| word.contains('_')).unwrap();
    assert_eq!(check(&policy, good), Ok(()), "{rules}");
    let refused = check(&policy, bad).unwrap_err();
    assert_eq!(refused.code, code, "{rules}: {refused}");
    assert!(refused.message.contains(name) && refused.message.contains(value), "{rules}: {refused}");
}

#[test]
fn amounts_above_their_limit_are_refused() {
    let bad = Call { value: 4, ..CALL };
    rule("max_value_wei = \"3\"", &Call { value: 3, ..CALL }, &bad, Code::ValueTooHigh, "3: `value` 4");
    let bad = Call { gas: 30_001, ..CALL };
    rule("max_gas = 30000", &Call { gas: 30_000, ..CALL }, &bad, Code::GasTooHigh, "30001");
    let bad = Call { data: &[1, 2, 3], ..CALL };
    rule("max_data_bytes = 2", &Call { data: &[1, 2], ..CALL }, &bad, Code::DataTooLarge, "3 bytes");
}

#[test]
fn every_limit_applies_when_there_are_several() {
    let policy = policy("max_value_wei = 3\nmax_gas = 30000\nmax_data_bytes = 2");
    for (call, code) in [
        (Call { value: 4, ..CALL }, Code::ValueTooHigh),
        (Call { gas: 30_001, ..CALL }, Code::GasTooHigh),
        (Call { data: &[1, 2, 3], ..CALL }, Code::DataTooLarge),
    ] {
        assert_eq!(check(&policy, &call).unwrap_err().code, code);
    }
}

#[test]
fn price_outside_floor_and_cap_is_refused() {
    rule(
        "min_gas_price_wei = 4",
        &Call { fee: legacy(4), ..CALL },
        &Call { fee: legacy(3), ..CALL },
        Code::FeeTooLow,
        "3",
    );
    let refused = check(&policy(""), &Call { fee: legacy(11), ..CALL }).unwrap_err();
    assert_eq!(refused.code, Code::FeeTooHigh);
    assert!(refused.message.contains("max_gas_price_wei is 10: `gasPrice` 11"), "{refused}");
    let fee = Fee::Dynamic { max_fee_per_gas: Wei::from(11), max_priority_fee_per_gas: Wei::from(1) };
    assert_eq!(check(&policy(""), &Call { fee, ..CALL }).unwrap_err().field.as_deref(), Some("maxFeePerGas"));
}

#[test]
fn recipients_are_allowed_and_denied() {
    let other = Call { to: Some(OTHER), ..CALL };
    let checksummed = OTHER.parse::<Address>().unwrap().to_string();
    rule(&format!("allow_to = [\"{TO}\"]"), &CALL, &other, Code::ToNotAllowed, &checksummed);
    rule(&format!("deny_to = [\"{OTHER}\"]"), &CALL, &other, Code::ToNotAllowed, &checksummed);
    let both = policy(&format!("allow_to = [\"{TO}\"]\ndeny_to = [\"{TO}\"]"));
    assert_eq!(check(&both, &CALL).unwrap_err().code, Code::ToNotAllowed);
    assert_eq!(check(&policy("allow_to = []"), &CALL).unwrap_err().code, Code::ToNotAllowed);
}

#[test]
fn creation_is_forbidden_by_default() {
    let creation = Call { to: None, data: &[0], ..CALL };
    assert_eq!(check(&policy(""), &creation).unwrap_err().code, Code::CreationNotAllowed);
    assert_eq!(check(&policy("allow_creation = true"), &creation), Ok(()));
    assert_eq!(check(&policy("allow_creation = true\nallow_to = []"), &creation), Ok(()));
}

#[test]
fn listed_contract_allows_only_its_listed_functions() {
    let rules = format!("[account.a.allow_selectors]\n\"{TO}\" = [\"0xA9059cbb\"]");
    let transfer = Call { data: &[0xa9, 0x05, 0x9c, 0xbb, 1], ..CALL };
    let approve = Call { data: &[0x09, 0x5e, 0xa7, 0xb3, 1], ..CALL };
    rule(&rules, &transfer, &approve, Code::SelectorNotAllowed, "0x095ea7b3");
    rule(&rules, &Call { to: Some(OTHER), ..approve }, &CALL, Code::SelectorNotAllowed, "without one");
    rule(&rules, &transfer, &Call { data: &[0xa9, 0x05, 0x9c], ..CALL }, Code::SelectorNotAllowed, "without one");
}

#[test]
fn senders_match_exactly_or_by_prefix() {
    let rules = "allow_senders = [\"AIDA1\", \"AROA2:*\"]";
    let sender = |sender| Call { sender, ..CALL };
    rule(rules, &sender(Some("AIDA1")), &sender(Some("AIDA12")), Code::SenderNotAllowed, "AIDA12");
    rule(rules, &sender(Some("AROA2:lambda")), &sender(Some("AROA2")), Code::SenderNotAllowed, "AROA2");
    rule(rules, &sender(Some("AROA2:")), &sender(None), Code::SenderNotAllowed, "not known");
}

#[test]
fn sender_pattern_needs_a_whole_role_id() {
    for valid in ["AIDA1", "AROA2", "AROA2:job-7", "AROA2:*", "AROA2:job-*", "123456789012:bob"] {
        let rules = format!("allow_senders = [\"{valid}\"]\ncancel_senders = [\"{valid}\"]");
        assert!(Policies::from_toml(&format!("[account.a]\n{CAP}{rules}")).is_ok(), "{valid}");
    }
    for wide in ["A*", "AROA*", "AROA2*", "AROA:*", "AIDA1*", "AIDA1:*", ":*", "aroa2:*", "AROA 2:*", "123456789012:*"]
    {
        for rule in ["allow_senders", "cancel_senders"] {
            let problems = problems(&format!("[account.a]\n{CAP}{rule} = [\"{wide}\"]"));
            let expected = format!("account.a.{rule}[0] may have its * only behind a whole role id, as AROA");
            assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{wide}: {problems:?}");
        }
    }
}

#[test]
fn request_window_limits_each_sender_and_ends() {
    let policy = policy("max_requests = 2\nmax_requests_window_s = 60");
    let count = |counts: Option<&SenderCounts>, sender, now| policy.count_request(counts, sender, now);
    let first = count(None, Some("AROA2:job-1"), NOW).unwrap().unwrap();
    let second = count(Some(&first), Some("AROA2:job-2"), NOW.plus(59_999)).unwrap().unwrap();
    assert_eq!(second.window_start, NOW);
    assert_eq!(second.counts, [("AROA2".to_owned(), 2)].into_iter().collect(), "its sessions are one sender");
    for (sender, at) in [("AROA2:job-3", NOW.plus(59_999)), ("AROA2:job-1", Millis(NOW.0 - 1))] {
        let refused = count(Some(&second), Some(sender), at).unwrap_err();
        assert_eq!(refused.code, Code::RequestLimitReached);
        let expected = "policy max_requests is 2 per max_requests_window_s of 60: AROA2 had as many in this window; send it again in a later one, under the same id";
        assert_eq!(refused.message, expected, "it does not depend on the time");
        assert_eq!(Policies::rule_named(&refused.message), Some("max_requests"));
    }
    // Other senders have their own limit; senders that SQS does not name share one.
    let others = count(Some(&second), None, NOW).unwrap().unwrap();
    let others = count(Some(&others), None, NOW).unwrap().unwrap();
    assert!(count(Some(&others), None, NOW).unwrap_err().message.contains("a sender that is not known"));
    assert_eq!(others.counts[SenderCounts::UNKNOWN], 2);
    let next = count(Some(&others), Some("AROA2:job-1"), NOW.plus(60_000)).unwrap().unwrap();
    assert_eq!((next.window_start, next.counts.len()), (NOW.plus(60_000), 1));
    assert_eq!(self::policy("").count_request(Some(&second), Some("AROA2"), NOW), Ok(None), "no rule, no count");
}

#[test]
fn request_window_counts_senders_beyond_its_limit_as_one() {
    let policy = policy("max_requests = 2\nmax_requests_window_s = 60");
    let mut counts = None;
    let mut taken = 0;
    for at in 0..SenderCounts::MAX_SENDERS + 10 {
        if let Ok(next) = policy.count_request(counts.as_ref(), Some(&format!("AIDA{at}")), NOW) {
            (counts, taken) = (next, taken + 1);
        }
    }
    let counts = counts.unwrap();
    assert_eq!((taken, counts.counts.len()), (SenderCounts::MAX_SENDERS + 2, SenderCounts::MAX_SENDERS + 1));
    assert!(policy.count_request(Some(&counts), Some("AIDA0"), NOW).is_ok(), "the first senders keep their own limit");
}

#[test]
fn max_head_s_has_a_default() {
    assert_eq!(policy("").max_head_ms, 600_000);
    assert_eq!(policy("max_head_s = 30").max_head_ms, 30_000);
}

#[test]
fn max_deadline_s_requires_a_deadline() {
    let deadline = |seconds: u64| Call { deadline: Some(NOW.plus(seconds * 1_000)), ..CALL };
    rule("max_deadline_s = 60", &deadline(60), &deadline(61), Code::DeadlineTooFar, "60: `deadline` is further away");
    rule("max_deadline_s = 60", &deadline(1), &CALL, Code::DeadlineTooFar, "has none");
}

#[test]
fn maximum_cost_of_a_request_counts_against_its_window() {
    // 1 wei and 21,000 gas at the cap of 10.
    let rules = "spend_limit_wei = 210001\nspend_window_s = 60";
    rule(rules, &CALL, &Call { value: 2, ..CALL }, Code::SpendLimitReached, "210001 per spend_window_s of 60");
    rule(rules, &CALL, &Call { gas: 21_001, value: 0, ..CALL }, Code::SpendLimitReached, "may cost 210010 wei");
}

#[test]
fn spend_window_allows_no_more_than_its_limit_and_ends() {
    let policy = policy("spend_limit_wei = 500000\nspend_window_s = 60");
    let intent = |value: u64| Intent {
        chain_id: ChainId(97),
        to: Some(TO.parse().unwrap()),
        value: Wei::from(value),
        data: [].into(),
        gas: Gas(21_000),
    };
    let cap = Wei::from(10);
    let first = policy.spend(None, &intent(0), cap, NOW).unwrap().unwrap();
    assert_eq!(first, Spend { window_start: NOW, spent: Wei::from(210_000) });
    // A lower cap of the request does not count, because a cancel may cost as much as the policy's cap.
    let second = policy.spend(Some(first), &intent(0), Wei::from(3), NOW.plus(59_999)).unwrap().unwrap();
    assert_eq!(second, Spend { window_start: NOW, spent: Wei::from(420_000) });
    let refused = policy.spend(Some(second), &intent(0), cap, NOW.plus(59_999)).unwrap_err();
    assert_eq!(refused.code, Code::SpendLimitReached);
    let expected = "policy spend_limit_wei is 500000 per spend_window_s of 60: the request may cost 210000 wei, more than this window";
    assert!(refused.message.starts_with(expected), "{refused}");
    let behind = policy.spend(Some(second), &intent(0), cap, Millis(NOW.0 - 1)).unwrap_err();
    assert_eq!(behind.code, Code::SpendLimitReached, "a clock that is behind opens no new window");
    let next = policy.spend(Some(second), &intent(0), cap, NOW.plus(60_000)).unwrap().unwrap();
    assert_eq!(next, Spend { window_start: NOW.plus(60_000), spent: Wei::from(210_000) });
    let most = Intent { value: Wei(signpost_txmgr::units::U256::MAX), ..intent(0) };
    assert_eq!(policy.spend(None, &most, cap, NOW).unwrap_err().code, Code::SpendLimitReached);
    assert_eq!(self::policy("").spend(Some(second), &most, cap, NOW), Ok(None), "no rule, no count");
}

#[test]
fn account_without_rules_needs_default_rules_to_sign() {
    let name = "b".parse().unwrap();
    let strict = Policies::from_toml(&format!("[account.a]\n{CAP}")).unwrap();
    assert_eq!(strict.of(&name).unwrap_err().code, Code::NoPolicy);
    assert_eq!(strict.accounts().count(), 1);
    let open = Policies::from_toml(&format!("[account.a]\n{CAP}[default]\nmax_gas_price_wei = \"0x20\"")).unwrap();
    assert_eq!(open.of(&name).unwrap().max_gas_price, Wei::from(32));
    assert_eq!(open.of(&"a".parse().unwrap()).unwrap().max_gas_price, Wei::from(10));
    assert_eq!(Policies::from_toml("").unwrap().of(&name).unwrap_err().code, Code::NoPolicy);
}

#[test]
fn pool_lists_its_accounts_in_order() {
    let policies = Policies::from_toml("[pool.hot]\naccounts = [\"b\", \"a\"]").unwrap();
    let names = policies.pool(&"hot".parse().unwrap()).unwrap();
    assert_eq!(names, ["b".parse().unwrap(), "a".parse().unwrap()]);
    let refused = policies.pool(&"cold".parse().unwrap()).unwrap_err();
    assert_eq!((refused.code, refused.field.as_deref()), (Code::UnknownPool, Some("account")));
    assert!(refused.message.contains("[pool.cold]"), "{refused}");
}

#[test]
fn all_problems_of_a_file_are_reported_together() {
    let problems = problems(&format!(
        r#"
        [acount.a]
        [account.a]
        max_gas_prize_wei = 1
        max_gas = -1
        allow_creation = "yes"
        allow_to = ["0x12", 7]
        deny_to = "{TO}"
        allow_senders = ["a*b", "*", "A*"]
        max_requests = 0
        max_requests_windows_s = 1
        max_head_s = 0
        max_value_wei = 1.5
        spend_limit_wei = 1
        spend_windows_s = 60
        [account.a.allow_selectors]
        "{TO}" = ["transfer"]
        [account.b]
        max_gas_price_wei = 10
        min_gas_price_wei = 11
        gas_price_wei = 12
        spend_limit_wei = 1
        spend_window_s = 0
        [account.c]
        max_gas_price_wei = 10
        spend_window_s = 60
        max_requests_window_s = 60
        [account."not a name"]
        {CAP}
        [pool.none]
        accounts = []
        [pool.twice]
        accounts = ["a", "a"]
        member = 1
        [pool."not a name"]
        accounts = ["a b"]"#
    ));
    let expected = [
        "acount is not known; did you mean account?",
        "account.a.max_gas_prize_wei is not known; did you mean max_gas_price_wei?",
        "account.a.spend_windows_s is not known; did you mean spend_window_s?",
        "account.a.spend_window_s is missing beside spend_limit_wei",
        "account.a.max_gas_price_wei is missing",
        "account.a.max_gas must be a whole number",
        "account.a.allow_creation must be true or false",
        "account.a.allow_to[0] must be 20 bytes long, not 1",
        "account.a.allow_to[1] must be a string",
        "account.a.deny_to must be a list",
        "account.a.allow_senders[0] may have one *",
        "account.a.allow_senders[1] is empty or matches everyone",
        "account.a.allow_senders[2] may have its * only behind a whole role id",
        "account.a.max_requests is 0 and takes nothing",
        "account.a.max_requests_windows_s is not known; did you mean max_requests_window_s?",
        "account.a.max_requests_window_s is missing beside max_requests",
        "account.a.max_head_s is 0",
        "account.a.max_value_wei is not a number",
        "account.a.allow_selectors.0x55d398326f99059ff775485246999027b3197955[0] must be a function's selector",
        "account.b.min_gas_price_wei is above max_gas_price_wei",
        "account.b.gas_price_wei is above max_gas_price_wei",
        "account.b.spend_window_s is 0",
        "account.c.spend_limit_wei is missing beside spend_window_s",
        "account.c.max_requests is missing beside max_requests_window_s",
        "account.?.: the name must be 1 to 64 characters",
        "pool.none.accounts is missing or empty",
        "pool.twice.accounts names an account twice",
        "pool.twice.member is not known; there are accounts",
        "pool.?.: the name must be 1 to 64 characters",
    ];
    for expected in expected {
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{expected}\nnot in {problems:#?}");
    }
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
}

#[test]
fn invalid_toml_is_reported_with_its_line() {
    let problems = problems("[account.a]\nmax_gas_price_wei = \n");
    assert!(problems[0].contains("line 2"), "{problems:?}");
}

/// The page about policy, which shows every rule and lists every code.
fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/POLICY.md")).unwrap()
}

#[test]
fn policy_page_shows_every_rule_in_a_valid_policy() {
    let page = page();
    let example = page.split("```toml policy\n").nth(1).unwrap().split("```").next().unwrap();
    Policies::from_toml(example).unwrap();
    for rule in Policies::rules() {
        assert!(example.lines().any(|line| line.starts_with(&format!("{rule} = "))), "{rule} is not shown");
    }
}

#[test]
fn message_page_lists_every_code_with_its_meaning() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/README.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = page.split("<!-- from code: refusal codes -->").nth(1).unwrap().split("<!-- end -->").next().unwrap();
    let listed: Vec<(&str, &str)> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | ")).collect();
    let all: Vec<(&str, &str)> = Code::ALL.iter().map(|code| (code.as_str(), code.meaning())).collect();
    assert_eq!(listed, all);
    assert!(listed.iter().all(|(_, meaning)| meaning.len() > 10), "a code has no meaning");
}
