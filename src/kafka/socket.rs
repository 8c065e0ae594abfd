//! The TCP stream below a connection, with a check of the first bytes that come back.
//!
//! The messenger takes the first four bytes as a length and allocates that much. A TLS alert or an HTTP response in that
//! place means hundreds of megabytes; here it becomes an error that says what is really there.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, lookup_host};

/// The first answer on a connection lists the calls that a broker knows: some hundred bytes.
const LARGEST_FIRST_ANSWER: i32 = 1024 * 1024;

/// What answers is not Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// A TLS record.
    Tls,
    /// An HTTP server.
    Http,
    /// Neither, and no Kafka frame either.
    Unknown([u8; 4]),
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls => f.write_str(
                "it answers with TLS, which weather does not support: use a plaintext listener, or a tunnel \
                 (stunnel) with --broker-map",
            ),
            Self::Http => f.write_str("it answers with HTTP: this is not a Kafka port"),
            Self::Unknown(bytes) => write!(
                f,
                "its first bytes ({}) are not a Kafka response: is this a plaintext port of Kafka?",
                bytes.escape_ascii()
            ),
        }
    }
}

impl std::error::Error for Foreign {}

/// A stream that checks its first four bytes.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    first: [u8; 4],
    seen: usize,
}

impl Socket {
    /// Connects to the first address of `host:port` that answers.
    pub async fn connect(address: &str) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
        for address in lookup_host(address).await.map_err(unresolved)? {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_keepalive(true)?;
            socket.set_nodelay(true)?;
            match socket.connect(address).await {
                Ok(stream) => return Ok(Self { stream, first: [0; 4], seen: 0 }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Records bytes that came; an error once the first four cannot begin a frame.
    fn look(&mut self, bytes: &[u8]) -> io::Result<()> {
        for byte in bytes.iter().take(self.first.len() - self.seen) {
            self.first[self.seen] = *byte;
            self.seen += 1;
        }
        let foreign = match self.first {
            _ if self.seen < self.first.len() => return Ok(()),
            [0x14..=0x17, 3, 0..=4, _] => Foreign::Tls,
            [b'H', b'T', b'T', b'P'] => Foreign::Http,
            first if (4..=LARGEST_FIRST_ANSWER).contains(&i32::from_be_bytes(first)) => return Ok(()),
            first => Foreign::Unknown(first),
        };
        Err(io::Error::new(io::ErrorKind::InvalidData, foreign))
    }
}

fn unresolved(error: io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("its name cannot be resolved here ({error})"))
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        if self.seen < self.first.len() {
            self.look(&into.filled()[before..])?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
