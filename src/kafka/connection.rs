//! One connection to one broker: every call under a time-out, every error with the address and the likely cause.
//!
//! A connection that has failed once is not used again: [`Connection::is_broken`]. An address is either one that the
//! user gave or one that a broker advertised, and an error says which: the second kind is wrong in another place.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rskafka::client::{Credentials, SaslConfig};
use rskafka::messenger::{Messenger, RequestError, SaslError, SyncVersionsError};
use rskafka::protocol::frame::{ReadError, WriteError};
use tokio::time::timeout;

use super::error::{ErrorKind, KafkaError};
use super::message::{Call, SentCall};
use super::socket::{Foreign, Socket};
use crate::config::{Sasl, SaslMechanism};

/// Longest wait for a connection with its handshakes.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest wait for an answer that the broker does not hold back on purpose.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer accepted: far above any fetch that is requested, because one batch may exceed the requested size.
const MAX_ANSWER_BYTES: usize = 128 * 1024 * 1024;

/// Where a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The address to connect to, `host:port`.
    pub reachable: String,
    /// The origin of the address.
    pub origin: AddressOrigin,
}

/// Where an address comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressOrigin {
    /// The user.
    Given,
    /// A broker, by its `advertised.listeners`.
    Advertised {
        /// Its number.
        broker: i32,
        /// The address that it advertises; another than the reachable one if `--broker-map` maps it.
        address: String,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            AddressOrigin::Given => write!(f, "{} (given by --brokers)", self.reachable),
            AddressOrigin::Advertised { broker, address } if *address == self.reachable => {
                write!(f, "{address} (which broker {broker} advertises)")
            }
            AddressOrigin::Advertised { broker, address } => {
                write!(
                    f,
                    "{} (by --broker-map for {address}, which broker {broker} advertises)",
                    self.reachable
                )
            }
        }
    }
}

/// A connection to a broker.
#[derive(Debug)]
pub struct Connection {
    messenger: Messenger<Socket>,
    address: Address,
    broken: AtomicBool,
    /// Whether anything was answered after the handshakes.
    proved: AtomicBool,
    authenticated: bool,
}

impl Connection {
    /// Connects, asks what the broker speaks, and logs in.
    pub async fn open(address: Address, sasl: Option<&Sasl>, limit: Duration) -> Result<Self, KafkaError> {
        match timeout(limit, Self::shake_hands(&address, sasl)).await {
            Ok(opened) => opened,
            Err(_) => Err(unreachable_at(&address, format_args!("no answer within {} s", limit.as_secs()))),
        }
    }

    async fn shake_hands(address: &Address, sasl: Option<&Sasl>) -> Result<Self, KafkaError> {
        let socket =
            Socket::connect(&address.reachable).await.map_err(|error| unreachable_at(address, error))?;
        let mut messenger = Messenger::new(socket, MAX_ANSWER_BYTES, Arc::from("weather"));
        messenger.sync_versions().await.map_err(|error| match error {
            SyncVersionsError::RequestError(error) => failed(address, &error, ConnectionStage::Greeting),
            error => KafkaError::new(ErrorKind::Unsupported, format!("{address}: {error}")),
        })?;
        if let Some(sasl) = sasl {
            messenger.do_sasl(credentials(sasl)).await.map_err(|error| refused(address, sasl, error))?;
        }
        Ok(Self {
            messenger,
            address: address.clone(),
            broken: AtomicBool::new(false),
            proved: AtomicBool::new(false),
            authenticated: sasl.is_some(),
        })
    }

    /// Where the broker is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether it is of no more use.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Sends a request and waits for its answer. Giving up the wait leaves the connection usable.
    pub async fn call<C: Call + Send + Sync>(
        &self,
        call: C,
        limit: Duration,
    ) -> Result<C::Answer, KafkaError> {
        let result = match timeout(limit, self.messenger.request(SentCall(call))).await {
            Ok(Ok(received)) => {
                self.proved.store(true, Ordering::Relaxed);
                return Ok(received.0);
            }
            Ok(Err(error)) => {
                let proved = self.proved.load(Ordering::Relaxed) || self.authenticated;
                failed(
                    &self.address,
                    &error,
                    if proved { ConnectionStage::Working } else { ConnectionStage::FirstCall },
                )
            }
            Err(_) => KafkaError::new(
                ErrorKind::Connection,
                format!("{}: no answer within {} s", self.address, limit.as_secs()),
            ),
        };
        if result.kind == ErrorKind::Connection {
            self.broken.store(true, Ordering::Relaxed);
        }
        Err(result)
    }
}

/// How far a connection had come when it failed: what the cause may be depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionStage {
    Greeting,
    FirstCall,
    Working,
}

fn unreachable_at(address: &Address, why: impl fmt::Display) -> KafkaError {
    let hint = match &address.origin {
        AddressOrigin::Given => String::new(),
        AddressOrigin::Advertised { address, .. } => format!(
            "; the broker must advertise an address that is reachable from here (advertised.listeners), or \
             map it with --broker-map {address}=HOST:PORT"
        ),
    };
    KafkaError::new(ErrorKind::Connection, format!("cannot connect to {address}: {why}{hint}"))
}

fn failed(address: &Address, error: &RequestError, stage: ConnectionStage) -> KafkaError {
    let detail = match error {
        RequestError::NoVersionMatch { api_key } => {
            let detail = format!(
                "{address} has no version of {api_key:?} that weather supports; Kafka 1.0 or newer is needed"
            );
            return KafkaError::new(ErrorKind::Unsupported, detail);
        }
        error => match io_error(error) {
            Some(error) => explain(error, stage),
            None if is_unreadable(error) => {
                return KafkaError::new(ErrorKind::Corrupt, format!("{address}: {error}"));
            }
            None => error.to_string(),
        },
    };
    KafkaError::new(ErrorKind::Connection, format!("{address}: {detail}"))
}

fn explain(error: &io::Error, stage: ConnectionStage) -> String {
    if let Some(foreign) = error.get_ref().and_then(|inner| inner.downcast_ref::<Foreign>()) {
        return foreign.to_string();
    }
    let closed = matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    );
    match stage {
        _ if !closed => error.to_string(),
        ConnectionStage::Working => "the broker closed the connection".to_owned(),
        ConnectionStage::Greeting => {
            "the broker closed the connection at the first request; the listener may expect TLS".to_owned()
        }
        ConnectionStage::FirstCall => {
            "the broker closed the connection at the first request; the listener may expect SASL \
                             (--sasl-mechanism, --sasl-username) or TLS"
                .to_owned()
        }
    }
}

/// The error of the stream below, if that is what ended the connection.
fn io_error(error: &RequestError) -> Option<&io::Error> {
    match error {
        RequestError::IO(error)
        | RequestError::ReadFramedMessageError(ReadError::IO(error))
        | RequestError::WriteMessageError(WriteError::IO(error)) => Some(error),
        RequestError::Poisoned(cause) => io_error(cause),
        _ => None,
    }
}

/// Whether an answer came whole and could not be read: the connection itself is fine.
fn is_unreadable(error: &RequestError) -> bool {
    matches!(
        error,
        RequestError::ReadError(_) | RequestError::ReadVersionedError(_) | RequestError::TooMuchData { .. }
    )
}

fn credentials(sasl: &Sasl) -> SaslConfig {
    let credentials = Credentials::new(sasl.username.clone(), sasl.password.expose().to_owned());
    match sasl.mechanism {
        SaslMechanism::Plain => SaslConfig::Plain(credentials),
        SaslMechanism::ScramSha256 => SaslConfig::ScramSha256(credentials),
        SaslMechanism::ScramSha512 => SaslConfig::ScramSha512(credentials),
    }
}

fn refused(address: &Address, sasl: &Sasl, error: SaslError) -> KafkaError {
    match error {
        // A broker that refuses a login says so; one that only goes away is an outage.
        SaslError::RequestError(error @ RequestError::NoVersionMatch { .. }) => {
            let detail = format!("{address} does not use SASL on this listener: remove --sasl-mechanism");
            drop(error);
            KafkaError::new(ErrorKind::Authentication, detail)
        }
        SaslError::RequestError(error) => failed(address, &error, ConnectionStage::Working),
        error => KafkaError::new(
            ErrorKind::Authentication,
            format!(
                "{address}: user {:?} is refused: wrong name, password or --sasl-mechanism ({error})",
                sasl.username
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn given(reachable: impl Into<String>) -> Address {
        Address { reachable: reachable.into(), origin: AddressOrigin::Given }
    }

    /// What opening a connection says of a server that answers the first request with these bytes and closes.
    async fn opened_at(answer: &'static [u8]) -> KafkaError {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 64];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
        });
        Connection::open(given(address), None, CONNECT_TIMEOUT).await.unwrap_err()
    }

    #[tokio::test]
    async fn what_is_not_kafka_is_named() {
        let cases: [(&[u8], &str); 4] = [
            (&[0x15, 3, 3, 0, 2, 2, 0x50], "answers with TLS"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "answers with HTTP"),
            (b"\xff\xff\xff\xffhello", "first bytes (\\xff\\xff\\xff\\xff)"),
            (b"", "may expect TLS"),
        ];
        for (answer, expected) in cases {
            let error = opened_at(answer).await;
            assert_eq!(error.kind, ErrorKind::Connection);
            assert!(
                error.detail.contains(expected) && error.detail.contains("given by --brokers"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn an_address_that_leads_nowhere_is_named_with_its_origin() {
        // Port 1 of loopback: nothing listens there.
        let error = Connection::open(given("127.0.0.1:1"), None, CONNECT_TIMEOUT).await.unwrap_err();
        assert!(error.detail.contains("127.0.0.1:1 (given by --brokers)"), "{error}");
        assert!(error.detail.contains("refused") && error.kind == ErrorKind::Connection, "{error}");
        let origin = AddressOrigin::Advertised { broker: 7, address: "127.0.0.1:1".into() };
        let advertised = Address { reachable: "127.0.0.1:1".into(), origin };
        let error = Connection::open(advertised, None, CONNECT_TIMEOUT).await.unwrap_err();
        assert!(error.detail.contains("which broker 7 advertises"), "{error}");
        assert!(error.detail.contains("--broker-map 127.0.0.1:1=HOST:PORT"), "{error}");
    }
}
