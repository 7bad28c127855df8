"""What each part would want of AWS once it is taken over, and must not get.

A row is a call that infra/template.yaml must deny, whatever the parameters. Rows come from the table of who can do
what in infra/SECURITY.md and from attacks that were tried on the real drivers.
"""

from __future__ import annotations

from rights import Call, call

SIGNED = {"kms__SigningAlgorithm": "ECDSA_SHA_256", "kms__MessageType": "DIGEST"}
# The attributes of a request that are fixed when it is accepted, and its seal.
FIXED = (
    "digest", "messageId", "account", "accountName", "chainId", "from", "nonce", "to", "value", "data", "gas", "gasPrice",
    "maxFeePerGas", "maxPriorityFeePerGas", "feeCap", "deadline", "sender", "seal", "metadata", "trace", "maxHeadMs", "policyDigest", "codeVersion", "asked",
)  # fmt: skip
# Those of an account, by who must not write them: the table says whose key signs, and what was spent.
OF_A_HEAD = ("name", "kmsKeyId", "registeredAt", "retiredAt", "accountKey", "requestId")


def writes(who: str, table: str, attribute: str, why: str, action: str = "dynamodb:UpdateItem") -> Call:
    key = ["requestId", "version"] if table == "RequestsTable" else ["account", "item"]
    return call(who, action, table, why, dynamodb__Attributes=[*key, attribute])


def broadcaster() -> list[Call]:
    me = "broadcaster"
    rows = [writes(me, "RequestsTable", name, "has another request signed, or the same again (forged record)") for name in FIXED]
    rows += [writes(me, "AccountsTable", name, "has a stranger's key or rules used (head renamed)") for name in OF_A_HEAD]
    rows += [
        writes(me, "AccountsTable", "spend", "has more spent than the window allows"),
        writes(me, "AccountsTable", "unusable", "stops every account"),
        call(me, "dynamodb:PutItem", "RequestsTable", "makes or overwrites a request whole"),
        call(me, "dynamodb:UpdateItem", "RequestsTable", "a write that names no attribute"),
        call(me, "dynamodb:UpdateItem", "AccountsTable", "a write that names no attribute"),
        call(me, "dynamodb:BatchWriteItem", "RequestsTable", "makes or deletes requests by the dozen"),
        call(me, "dynamodb:DeleteItem", "RequestsTable", "destroys the trail, and frees an id for a second execution"),
        call(me, "dynamodb:PutItem", "AccountsTable", "puts a head or a slot of its own"),
        call(me, "dynamodb:BatchWriteItem", "AccountsTable", "puts or deletes any head, name or slot"),
        call(me, "dynamodb:DeleteItem", "AccountsTable", "removes an account or a slot"),
        call(me, "dynamodb:PartiQLUpdate", "RequestsTable", "the same by another way"),
        call(me, "dynamodb:PartiQLInsert", "AccountsTable", "the same by another way"),
        call(me, "dynamodb:Scan", "RequestsTable", "reads all requests at once"),
        call(me, "dynamodb:UpdateTable", "RequestsTable", "takes off the deletion protection"),
        call(me, "dynamodb:DeleteTable", "AccountsTable", "destroys every nonce"),
        call(me, "dynamodb:UpdateTimeToLive", "AccountsTable", "has items expire by another attribute"),
        call(me, "dynamodb:GetItem", "OtherTable", "reads what is not ours"),
        call(me, "kms:Sign", "Key", "signs", **SIGNED),
        call(me, "kms:Sign", "SignDirectKey", "signs with the other key", **SIGNED),
        call(me, "kms:GetPublicKey", "Key", "has nothing to do with keys"),
        call(me, "kms:CreateGrant", "Key", "hands a right to sign to somebody"),
        call(me, "secretsmanager:GetSecretValue", "SealSecret", "seals what it forged"),
        call(me, "secretsmanager:GetSecretValue", "OtherSecret", "reads what is not ours"),
        call(me, "secretsmanager:PutSecretValue", "RpcSecretArn", "sends every start to nodes of its own"),
        call(me, "sqs:SendMessage", "SigningQueue", "asks for payments, as a sender"),
        call(me, "sqs:ReceiveMessage", "SigningQueue", "takes requests away", "lambda"),
        call(me, "sqs:ReceiveMessage", "ResignQueue", "takes away what the signer is asked", "lambda"),
        call(me, "sqs:PurgeQueue", "BroadcastQueue", "empties a queue"),
        call(me, "sns:Subscribe", "OutcomeTopic", "has outcomes sent out", sns__Protocol="https", sns__Endpoint="https://evil.example"),
        call(me, "sns:SetTopicAttributes", "OutcomeTopic", "changes who may publish"),
        call(me, "iam:PutRolePolicy", "BroadcasterRole", "gives itself more"),
        call(me, "lambda:UpdateFunctionCode", "SignerFunction", "becomes the signer"),
        call(me, "sts:AssumeRole", "SignerRole", "becomes the signer"),
        call(me, "ec2:DescribeSubnets", "*", "looks around"),
    ]
    return rows


def signer() -> list[Call]:
    me = "signer"
    rows = [writes(me, "RequestsTable", name, "changes what it sealed itself") for name in FIXED if name not in ("metadata", "trace")]
    rows += [writes(me, "AccountsTable", name, "changes an account's name or key") for name in OF_A_HEAD]
    rows += [
        writes(me, "AccountsTable", "lowestOpenNonce", "lets slots be left that are open"),
        writes(me, "AccountsTable", "kmsKeyId", "puts a head", "dynamodb:PutItem"),
        call(me, "dynamodb:DeleteItem", "RequestsTable", "destroys the trail"),
        call(me, "dynamodb:UpdateItem", "RequestsTable", "a write that names no attribute"),
        call(me, "dynamodb:UpdateItem", "AccountsTable", "a write that names no attribute"),
        call(me, "dynamodb:PutItem", "AccountsTable", "a write that names no attribute"),
        call(me, "dynamodb:DeleteItem", "AccountsTable", "frees a nonce that was used"),
        call(me, "dynamodb:BatchWriteItem", "AccountsTable", "the same"),
        call(me, "dynamodb:DeleteTable", "RequestsTable", "destroys the trail"),
        call(me, "dynamodb:Scan", "RequestsTable", "reads all requests at once"),
        call(me, "secretsmanager:GetSecretValue", "RpcSecretArn", "learns how to reach nodes"),
        call(me, "secretsmanager:GetSecretValue", "OtherSecret", "reads what is not ours"),
        call(me, "kms:Sign", "Key", "signs more than a digest", kms__SigningAlgorithm="ECDSA_SHA_256", kms__MessageType="RAW"),
        call(me, "kms:Sign", "Key", "signs by another algorithm", kms__SigningAlgorithm="SM2DSA", kms__MessageType="DIGEST"),
        call(me, "kms:Sign", "SignDirectKey", "signs with the other key", **SIGNED),
        call(me, "kms:Sign", "OtherKey", "signs with a key that is not ours", **SIGNED),
        call(me, "kms:CreateGrant", "Key", "hands its right to somebody"),
        call(me, "kms:ScheduleKeyDeletion", "Key", "destroys the key"),
        call(me, "kms:DisableKey", "Key", "stops an account"),
        call(me, "kms:PutKeyPolicy", "Key", "lets others sign"),
        call(me, "sqs:SendMessage", "SigningQueue", "asks itself"),
        call(me, "sqs:SendMessage", "ResignQueue", "asks itself for another signature"),
        call(me, "sqs:SendMessage", "StrangersQueue", "carries what it knows out of the network"),
        call(me, "sqs:ReceiveMessage", "BroadcastQueue", "takes the pokes away from the broadcaster", "lambda"),
        call(me, "sns:Subscribe", "OutcomeTopic", "has outcomes sent out", sns__Protocol="https", sns__Endpoint="https://evil.example"),
        call(me, "ec2:RunInstances", "Instance", "gets itself a machine", "lambda"),
        call(me, "ec2:CreateNetworkInterface", "Interface", "gets itself a way out"),
        call(me, "ec2:DescribeSubnets", "*", "looks around"),
        call(me, "iam:PutRolePolicy", "SignerRole", "gives itself more"),
    ]
    return rows


def stolen_credentials() -> list[Call]:
    """A role's credentials, used where its function is not."""
    rows = []
    for where in ("laptop", "other function"):
        rows += [
            call("signer", "kms:Sign", "Key", "signs", where, **SIGNED),
            call("signer", "kms:GetPublicKey", "Key", "looks at a key", where),
            call("signer", "dynamodb:PutItem", "RequestsTable", "makes requests", where),
            call("signer", "dynamodb:BatchGetItem", "AccountsTable", "reads accounts", where),
            call("signer", "sns:Publish", "OutcomeTopic", "publishes outcomes", where),
            call("signer", "sqs:SendMessage", "BroadcastQueue", "pokes", where),
            call("signer", "secretsmanager:GetSecretValue", "SealSecret", "gets to seal for ever", where),
            call("sign-direct", "kms:Sign", "SignDirectKey", "signs", where, **SIGNED),
            call("sign-direct", "kms:GetPublicKey", "SignDirectKey", "looks at a key", where),
            call("broadcaster", "dynamodb:UpdateItem", "RequestsTable", "writes statuses", where, dynamodb__Attributes=["requestId", "status"]),
            call("broadcaster", "secretsmanager:GetSecretValue", "RpcSecretArn", "gets the nodes' URLs", where),
            call("broadcaster", "sns:Publish", "OutcomeTopic", "publishes outcomes", where),
            call("broadcaster", "sqs:SendMessage", "ResignQueue", "asks for signatures", where),
        ]
    return rows


def sign_direct() -> list[Call]:
    me = "sign-direct"
    return [
        call(me, "kms:Sign", "Key", "signs for the queue's accounts", **SIGNED),
        call(me, "kms:Sign", "SignDirectKey", "signs more than a digest", kms__SigningAlgorithm="ECDSA_SHA_256", kms__MessageType="RAW"),
        call(me, "kms:CreateGrant", "SignDirectKey", "hands its right to somebody"),
        call(me, "dynamodb:GetItem", "RequestsTable", "reads requests"),
        call(me, "sqs:SendMessage", "SigningQueue", "asks the queue"),
        call(me, "secretsmanager:GetSecretValue", "SealSecret", "seals"),
        call(me, "secretsmanager:GetSecretValue", "RpcSecretArn", "reaches nodes"),
        call(me, "sns:Publish", "OutcomeTopic", "publishes outcomes"),
    ]


def backend() -> list[Call]:
    me = "backend"
    return [
        call(me, "kms:Sign", "Key", "signs", **SIGNED),
        call(me, "sqs:SendMessage", "ResignQueue", "asks for signatures"),
        call(me, "sqs:SendMessage", "BroadcastQueue", "pokes"),
        call(me, "sqs:SendMessage", "SigningDeadLetters", "is redriven as another"),
        call(me, "sqs:ReceiveMessage", "SigningQueue", "reads what others ask, and takes it away"),
        call(me, "sqs:SendMessage", "SigningQueue", "without TLS", aws__SecureTransport="false"),
        call(me, "sns:Publish", "OutcomeTopic", "tells other backends what is not so"),
        call(me, "sns:Subscribe", "OutcomeTopic", "sends all outcomes out", sns__Protocol="https", sns__Endpoint="https://evil.example"),
        call(me, "sns:Subscribe", "OutcomeTopic", "sends all outcomes out", sns__Protocol="email", sns__Endpoint="me@evil.example"),
        call(me, "sns:Subscribe", "OutcomeTopic", "to a queue of a stranger", sns__Protocol="sqs", sns__Endpoint="StrangersQueue"),
        call(me, "sns:Subscribe", "OutcomeTopic", "an address that looks like a queue", sns__Protocol="https",
             sns__Endpoint="BackendQueue"),
        call(me, "sns:Subscribe", "OutcomeTopic", "without TLS", sns__Protocol="sqs", sns__Endpoint="BackendQueue",
             aws__SecureTransport="false"),
        call(me, "sns:Unsubscribe", "OutcomeTopic", "takes outcomes away from others"),
        call(me, "dynamodb:Query", "RequestsTable/index/byAccount", "lists requests"),
        call(me, "dynamodb:Scan", "RequestsTable", "lists requests"),
        call(me, "dynamodb:UpdateItem", "RequestsTable", "writes a status", dynamodb__Attributes=["requestId", "status"]),
        call(me, "dynamodb:GetItem", "AccountsTable", "reads accounts"),
        call(me, "lambda:InvokeFunction", "SignDirectFunction", "asks the direct signer"),
    ]  # fmt: skip


def viewer() -> list[Call]:
    me = "viewer"
    return [
        call(me, "sqs:SendMessage", "SigningQueue", "asks for payments"),
        call(me, "sqs:SendMessage", "ResignQueue", "asks for signatures"),
        call(me, "sqs:ReceiveMessage", "SigningQueue", "takes requests away"),
        call(me, "sqs:ReceiveMessage", "SigningDeadLetters", "hides them"),
        call(me, "sqs:ReceiveMessage", "BackendQueue", "takes a backend's outcomes away"),
        call(me, "sqs:DeleteQueue", "BackendQueue", "removes a backend's queue"),
        call(me, "dynamodb:UpdateItem", "RequestsTable", "cancels", dynamodb__Attributes=["requestId", "cancel"]),
        call(me, "dynamodb:UpdateItem", "AccountsTable", "pauses", dynamodb__Attributes=["account", "item", "paused"]),
        call(me, "sns:Publish", "OutcomeTopic", "publishes outcomes"),
        call(me, "sns:Subscribe", "OutcomeTopic", "sends all outcomes out", sns__Protocol="https", sns__Endpoint="https://evil.example"),
        call(me, "sns:Subscribe", "OutcomeTopic", "an address that looks like a queue", sns__Protocol="https",
             sns__Endpoint="WatchQueue"),
        call(me, "sns:Subscribe", "OutcomeTopic", "to a queue that stays", sns__Protocol="sqs", sns__Endpoint="BackendQueue"),
        call(me, "kms:Sign", "Key", "signs", **SIGNED),
        call(me, "kms:GetPublicKey", "Key", "needs none"),
        call(me, "secretsmanager:GetSecretValue", "RpcSecretArn", "gets the nodes' URLs"),
    ]  # fmt: skip


def operator() -> list[Call]:
    me = "operator"
    rows = [writes(me, "RequestsTable", name, "changes what was accepted") for name in ("digest", "nonce", "to", "value", "seal", "sender")]
    rows += [writes(me, "AccountsTable", name, "moves an account to another key or name") for name in ("kmsKeyId", "name", "spend")]
    rows += [
        call(me, "kms:Sign", "Key", "signs", **SIGNED),
        call(me, "kms:Sign", "SignDirectKey", "signs", **SIGNED),
        call(me, "kms:CreateGrant", "Key", "lets others sign"),
        call(me, "kms:PutKeyPolicy", "Key", "lets others sign"),
        call(me, "kms:ScheduleKeyDeletion", "Key", "destroys the key"),
        call(me, "dynamodb:UpdateItem", "RequestsTable", "a write that names no attribute"),
        call(me, "dynamodb:UpdateItem", "AccountsTable", "a write that names no attribute"),
        call(me, "dynamodb:PutItem", "RequestsTable", "makes a request without a message"),
        call(me, "dynamodb:DeleteItem", "RequestsTable", "destroys the trail"),
        call(me, "dynamodb:DeleteTable", "RequestsTable", "destroys the trail"),
        call(me, "secretsmanager:GetSecretValue", "RpcSecretArn", "gets the nodes' URLs"),
        call(me, "secretsmanager:GetSecretValue", "SealSecret", "seals"),
        call(me, "sqs:ReceiveMessage", "SigningQueue", "takes requests away"),
        call(me, "sqs:PurgeQueue", "SigningQueue", "throws requests away"),
        call(me, "sns:SetTopicAttributes", "OutcomeTopic", "changes who may publish"),
        call(me, "lambda:UpdateFunctionCode", "SignerFunction", "becomes the signer"),
        call(me, "lambda:InvokeFunction", "SignDirectFunction", "asks the direct signer"),
        call(me, "iam:PassRole", "SignerRole", "runs a function of its own in it"),
        call(me, "sts:AssumeRole", "SignerRole", "becomes the signer"),
    ]
    return rows


def others() -> list[Call]:
    """Who may do everything in the AWS account but what resources keep from them; somebody of another account."""
    rows = [
        call("administrator", "kms:Sign", "Key", "signs", **SIGNED),
        call("administrator", "kms:Sign", "SignDirectKey", "signs", **SIGNED),
        call("administrator", "kms:CreateGrant", "Key", "lets others sign"),
        call("administrator", "kms:CreateGrant", "SignDirectKey", "lets others sign"),
        call("administrator", "kms:GetPublicKey", "Key", "needs none"),
        call("administrator", "sqs:SendMessage", "ResignQueue", "asks for signatures"),
        call("administrator", "sqs:SendMessage", "BroadcastQueue", "pokes"),
        call("administrator", "sns:Publish", "OutcomeTopic", "publishes outcomes"),
        call("administrator", "sqs:SendMessage", "SigningQueue", "without TLS", aws__SecureTransport="false"),
        call("administrator", "s3:PutObject", "TrailBucket/object", "without TLS", aws__SecureTransport="false"),
        call("administrator", "sns:Publish", "AlarmTopic", "without TLS", aws__SecureTransport="false"),
        call("administrator", "lambda:InvokeFunction", "SignDirectFunction", "has something signed"),
        call("administrator", "secretsmanager:GetSecretValue", "SealSecret", "seals what it likes"),
        call("administrator", "sts:AssumeRole", "SignerRole", "becomes the signer"),
        call("administrator", "sts:AssumeRole", "BroadcasterRole", "becomes the broadcaster"),
        call("cloudwatch", "sns:Publish", "AlarmTopic", "rings for another account's alarm", aws__SourceAccount="777788889999"),
        call("logs", "sts:AssumeRole", "TrailRole", "for another account's log group", aws__SourceAccount="777788889999"),
        call("firehose", "sts:AssumeRole", "TrailRole", "for another account's stream", aws__SourceAccount="777788889999"),
        call("lambda", "sts:AssumeRole", "SignerRole", "for another account's function", aws__SourceAccount="777788889999"),
        call("lambda", "sts:AssumeRole", "BroadcasterRole", "for another account's function", aws__SourceAccount="777788889999"),
        call("lambda", "sts:AssumeRole", "SignDirectRole", "for another account's function", aws__SourceAccount="777788889999"),
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
        rows.append(call("stranger", action, on, "from another AWS account"))
    rows.append(call("stranger", "kms:Sign", "Key", "from another AWS account", **SIGNED))
    rows += [
        call("administrator", "dynamodb:GetItem", "RequestsTable", "uses the signer's network", "network"),
        call("administrator", "sqs:SendMessage", "SigningQueue", "uses the signer's network", "network"),
        # With credentials of its own, whoever took over the signer carries off what it knows.
        call("stranger", "dynamodb:PutItem", "StrangersTable", "a way out of the network", "network"),
        call("stranger", "sqs:SendMessage", "StrangersQueue", "a way out of the network", "network"),
        call("stranger", "secretsmanager:GetSecretValue", "OtherSecret", "a way out of the network", "network"),
    ]
    return rows


def denied() -> list[Call]:
    parts = (broadcaster, signer, stolen_credentials, sign_direct, backend, viewer, operator, others)
    return [row for part in parts for row in part()]
