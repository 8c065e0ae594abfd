//! The calls: their versions, and what is in the answer to each.

use crate::conformance::form::{Field, Kind, all, since};

/// A kind of call.
pub struct Api {
    pub key: i16,
    pub versions: (i16, i16),
    pub flexible_from: i16,
}

pub const PRODUCE: Api = Api { key: 0, versions: (3, 8), flexible_from: 9 };
pub const FETCH: Api = Api { key: 1, versions: (4, 13), flexible_from: 12 };
pub const LIST_OFFSETS: Api = Api { key: 2, versions: (2, 6), flexible_from: 6 };
pub const METADATA: Api = Api { key: 3, versions: (4, 12), flexible_from: 9 };
pub const OFFSET_COMMIT: Api = Api { key: 8, versions: (2, 7), flexible_from: 8 };
pub const OFFSET_FETCH: Api = Api { key: 9, versions: (1, 5), flexible_from: 6 };
pub const FIND_COORDINATOR: Api = Api { key: 10, versions: (0, 2), flexible_from: 3 };
pub const CREATE_TOPICS: Api = Api { key: 19, versions: (2, 5), flexible_from: 5 };
pub const INIT_PRODUCER_ID: Api = Api { key: 22, versions: (0, 1), flexible_from: 2 };

pub const PRODUCED: &[Field] = &[
    all(
        "topics",
        Kind::Array(&[
            all("name", Kind::Text),
            all(
                "partitions",
                Kind::Array(&[
                    all("partition", Kind::I32),
                    all("error", Kind::I16),
                    all("base_offset", Kind::I64),
                    all("append_time", Kind::I64),
                    since(5, "log_start", Kind::I64),
                    since(8, "record_errors", Kind::Array(&[])),
                    since(8, "message", Kind::Text),
                ]),
            ),
        ]),
    ),
    all("throttle", Kind::I32),
];
const FETCHED_PARTITIONS: Kind = Kind::Array(&[
    all("partition", Kind::I32),
    all("error", Kind::I16),
    all("high_watermark", Kind::I64),
    all("last_stable_offset", Kind::I64),
    since(5, "log_start_offset", Kind::I64),
    all("aborted", Kind::Array(&[all("producer_id", Kind::I64), all("first_offset", Kind::I64)])),
    since(11, "replica", Kind::I32),
    all("records", Kind::Bytes),
]);
pub const FETCHED: &[Field] = &[
    all("throttle", Kind::I32),
    since(7, "error", Kind::I16),
    since(7, "session", Kind::I32),
    all(
        "topics",
        Kind::Array(&[
            Field("name", Kind::Text, 0, 12),
            since(13, "topic_id", Kind::Uuid),
            all("partitions", FETCHED_PARTITIONS),
        ]),
    ),
];
pub const OFFSETS: &[Field] = &[
    all("throttle", Kind::I32),
    all(
        "topics",
        Kind::Array(&[
            all("name", Kind::Text),
            all(
                "partitions",
                Kind::Array(&[
                    all("partition", Kind::I32),
                    all("error", Kind::I16),
                    all("timestamp", Kind::I64),
                    all("offset", Kind::I64),
                    since(4, "epoch", Kind::I32),
                ]),
            ),
        ]),
    ),
];
pub const DESCRIBED: &[Field] = &[
    all("throttle", Kind::I32),
    all(
        "brokers",
        Kind::Array(&[
            all("node", Kind::I32),
            all("host", Kind::Text),
            all("port", Kind::I32),
            all("rack", Kind::Text),
        ]),
    ),
    all("cluster", Kind::Text),
    all("controller", Kind::I32),
    all(
        "topics",
        Kind::Array(&[
            all("error", Kind::I16),
            all("name", Kind::Text),
            since(10, "topic_id", Kind::Uuid),
            all("internal", Kind::I8),
            all(
                "partitions",
                Kind::Array(&[
                    all("error", Kind::I16),
                    all("partition", Kind::I32),
                    all("leader", Kind::I32),
                    since(7, "leader_epoch", Kind::I32),
                    all("replicas", Kind::Brokers),
                    all("in_sync", Kind::Brokers),
                    since(5, "offline", Kind::Brokers),
                ]),
            ),
            since(8, "rights", Kind::I32),
        ]),
    ),
    Field("cluster_rights", Kind::I32, 8, 10),
];
pub const COMMITTED: &[Field] = &[
    since(3, "throttle", Kind::I32),
    all(
        "topics",
        Kind::Array(&[
            all("name", Kind::Text),
            all("partitions", Kind::Array(&[all("partition", Kind::I32), all("error", Kind::I16)])),
        ]),
    ),
];
pub const KEPT: &[Field] = &[
    since(3, "throttle", Kind::I32),
    all(
        "topics",
        Kind::Array(&[
            all("name", Kind::Text),
            all(
                "partitions",
                Kind::Array(&[
                    all("partition", Kind::I32),
                    all("offset", Kind::I64),
                    since(5, "leader_epoch", Kind::I32),
                    all("note", Kind::Text),
                    all("error", Kind::I16),
                ]),
            ),
        ]),
    ),
    since(2, "error", Kind::I16),
];
pub const COORDINATOR: &[Field] = &[
    since(1, "throttle", Kind::I32),
    all("error", Kind::I16),
    since(1, "message", Kind::Text),
    all("node", Kind::I32),
    all("host", Kind::Text),
    all("port", Kind::I32),
];
pub const CREATED: &[Field] = &[
    all("throttle", Kind::I32),
    all(
        "topics",
        Kind::Array(&[
            all("name", Kind::Text),
            all("error", Kind::I16),
            all("message", Kind::Text),
            since(5, "partitions", Kind::I32),
            since(5, "replicas", Kind::I16),
            since(5, "configuration", Kind::Array(CONFIGURATION)),
        ]),
    ),
];
const CONFIGURATION: &[Field] = &[
    all("name", Kind::Text),
    all("value", Kind::Text),
    all("read_only", Kind::I8),
    all("source", Kind::I8),
    all("sensitive", Kind::I8),
];
pub const NAMED: &[Field] = &[
    all("throttle", Kind::I32),
    all("error", Kind::I16),
    all("producer_id", Kind::I64),
    all("producer_epoch", Kind::I16),
];
