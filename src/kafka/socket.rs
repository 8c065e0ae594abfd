//! The TCP stream below a connection, with a check of the first bytes that come back.
//!
//! The messenger takes the first four bytes as a length and allocates that much. A TLS alert or an HTTP response in that
//! place means hundreds of megabytes; here it becomes an error that says what is really there.
//!
//! It also reads and writes a length by itself, each of which would be a system call, and on its way to the broker a packet.
//! So a length to write waits for what it is of, and with a length to read comes what is there behind it, up to
//! [`AHEAD_BYTES`]: most answers whole.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, lookup_host};

/// The first answer on a connection lists the calls that a broker knows: some hundred bytes.
const LARGEST_FIRST_ANSWER: i32 = 1024 * 1024;

/// Bytes of a length in front of a request or an answer.
const LENGTH_BYTES: usize = 4;
/// Most bytes that are read with a length. More would be copied twice for nothing.
const AHEAD_BYTES: usize = 512;

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
    /// Bytes that were read with a length, and how many of them were given.
    ahead: Vec<u8>,
    given: usize,
    /// The length that waits to be written, or what is left of it.
    waiting: Vec<u8>,
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
                Ok(stream) => return Ok(Self::over(stream)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn over(stream: TcpStream) -> Self {
        Self {
            stream,
            first: [0; 4],
            seen: 0,
            ahead: Vec::with_capacity(AHEAD_BYTES),
            given: 0,
            waiting: Vec::with_capacity(LENGTH_BYTES),
        }
    }

    /// Reads what is there, into `ahead`.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ahead.resize(AHEAD_BYTES, 0);
        self.given = 0;
        let mut into = ReadBuf::new(&mut self.ahead);
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut into);
        let filled = into.filled().len();
        self.ahead.truncate(filled);
        read
    }

    /// Writes the length that waits, together with these bytes; how many of them were written.
    fn poll_waiting(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        while !self.waiting.is_empty() {
            let parts = [IoSlice::new(&self.waiting), IoSlice::new(bytes)];
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &parts))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_length = written.min(self.waiting.len());
            self.waiting.drain(..of_length);
            if written > of_length {
                return Poll::Ready(Ok(written - of_length));
            }
        }
        Poll::Ready(Ok(0))
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
        if self.given == self.ahead.len() && into.remaining() == LENGTH_BYTES {
            ready!(self.poll_ahead(cx))?;
        }
        if self.given < self.ahead.len() {
            let end = self.ahead.len().min(self.given + into.remaining());
            into.put_slice(&self.ahead[self.given..end]);
            self.given = end;
        } else if into.remaining() != LENGTH_BYTES {
            ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        }
        if self.seen < self.first.len() {
            self.look(&into.filled()[before..])?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.waiting.is_empty() {
            if bytes.len() == LENGTH_BYTES {
                self.waiting.extend_from_slice(bytes);
                return Poll::Ready(Ok(LENGTH_BYTES));
            }
        } else {
            match ready!(self.poll_waiting(cx, bytes))? {
                0 => {}
                written => return Poll::Ready(Ok(written)),
            }
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(cx, &[]))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Whatever the sizes, what comes back is what was sent: bodies as long as a length, shorter and longer than what is read
    /// ahead, and longer than the buffers of the system.
    #[tokio::test]
    async fn lengths_and_bodies_pass_unchanged() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await
        });
        let sizes = [4, 1, 4, 4, 300, AHEAD_BYTES - 4, AHEAD_BYTES, AHEAD_BYTES + 4, 8 << 20, 4];
        let (mut from, mut to) = tokio::io::split(Socket::connect(&address).await.unwrap());
        let body = |size: usize| (0..size).map(|at| (at * 7 + size) as u8).collect::<Vec<u8>>();
        let writing = async {
            for size in sizes {
                to.write_all(&(size as u32).to_be_bytes()).await.unwrap();
                to.write_all(&body(size)).await.unwrap();
                to.flush().await.unwrap();
            }
        };
        let reading = async {
            for size in sizes {
                assert_eq!(from.read_u32().await.unwrap() as usize, size);
                let mut read = vec![0; size];
                from.read_exact(&mut read).await.unwrap();
                assert_eq!(read, body(size), "{size}");
            }
        };
        tokio::join!(writing, reading);
    }
}
