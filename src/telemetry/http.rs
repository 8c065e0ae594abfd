//! The HTTP endpoint: a few read-only answers over HTTP/1.1, one per connection.
//!
//! No client may harm the work of the process, so everything has a limit: the request's head
//! (`MAX_HEAD_BYTES`, `HEAD_TIME`), the answer's time (`ANSWER_TIME`), the connections (`MAX_CONNECTIONS`; one
//! more closes the oldest, so that idle clients never keep others out) and how many are accepted per second
//! (`ACCEPTS_PER_SECOND`; more wait in the kernel's queue), and the bytes of answers that clients have not read yet
//! (`MAX_UNSENT_KIB`; above it, only short answers). Nothing here changes anything.
//!
//! An endpoint on loopback serves only requests that name it by address or as localhost: else a web page could have
//! its own name point here and read everything. Absent on purpose: TLS, keep-alive, compression, request bodies.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep, timeout};

use crate::error::{Error, Result};
use crate::telemetry::health::Health;

/// The longest request line and headers together.
const MAX_HEAD_BYTES: usize = 8 * 1024;
/// Longest wait for them.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Longest wait for the answer to be made and taken.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// After a refusal, how long and how much is still read, so that the client sees the answer and not a reset.
const DRAIN_TIME: Duration = Duration::from_millis(500);
const DRAIN_BYTES: usize = 256 * 1024;
/// Connections at once.
const MAX_CONNECTIONS: usize = 64;
/// Connections accepted per second in the long run: at 20 µs each, a tenth of a core.
const ACCEPTS_PER_SECOND: f64 = 5_000.0;
/// Accepted at once after a quiet time, so that a burst keeps no other client waiting in the kernel's queue.
const ACCEPT_BURST: f64 = 10_000.0;
/// The pause when there were too many, or no more could be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Answers on their way to all clients together. A client that does not read holds its answer for `ANSWER_TIME`.
const MAX_UNSENT_KIB: usize = 2 * 1024;
/// What the kernel holds of the answer to one client.
const SEND_BUFFER_BYTES: u32 = 64 * 1024;
/// Connections that wait in the kernel.
const BACKLOG: u32 = 1024;
/// How many ports are tried after one that is taken.
const MORE_PORTS: u16 = 100;

/// What is served: an answer for each path.
pub trait Site: Send + Sync + 'static {
    /// The answer to a GET of this path with this query, which may be empty; None = there is no such page.
    fn answer(&self, path: &str, query: &str) -> impl Future<Output = Option<HttpAnswer>> + Send;
}

/// An answer.
#[derive(Debug)]
pub struct HttpAnswer {
    status: u16,
    content_type: &'static str,
    policy: String,
    body: String,
}

impl HttpAnswer {
    /// 200 with a body of this type.
    pub fn ok(content_type: &'static str, body: String) -> Self {
        Self { status: 200, content_type, policy: NO_CONTENT_ALLOWED.to_owned(), body }
    }

    /// 200 with a page and the content security policy that it needs.
    pub fn page(body: String, policy: String) -> Self {
        Self { policy, ..Self::ok("text/html; charset=utf-8", body) }
    }

    /// 200 `ok`, or 503 with the reasons, a line each.
    pub fn health(health: &Health) -> Self {
        let status = if health.is_ok() { 200 } else { 503 };
        Self::text(status, &health.to_string())
    }

    /// A line of text with this status.
    pub fn text(status: u16, line: &str) -> Self {
        Self { status, ..Self::ok("text/plain; charset=utf-8", format!("{line}\n")) }
    }

    /// What it counts of [`MAX_UNSENT_KIB`]; what always has room counts nothing.
    fn kib(&self) -> u32 {
        u32::try_from(self.body.len() / 1024).unwrap_or(u32::MAX)
    }

    /// The bytes to send. To HEAD, only what comes before the body.
    fn encode(self, head_only: bool) -> Vec<u8> {
        let mut bytes = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n\
             Content-Security-Policy: {}\r\n{}\r\n",
            self.status,
            phrase(self.status),
            self.content_type,
            self.body.len(),
            self.policy,
            if self.status == 405 { "Allow: GET, HEAD\r\n" } else { "" },
        )
        .into_bytes();
        if !head_only {
            bytes.extend_from_slice(self.body.as_bytes());
        }
        bytes
    }
}

/// For what is no page: a browser that shows it runs and loads nothing.
const NO_CONTENT_ALLOWED: &str = "default-src 'none'; frame-ancestors 'none'";

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "HTTP Version Not Supported",
    }
}

/// Ends the endpoint when dropped.
#[derive(Debug)]
pub struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves a site at this address, if there is one, or at the next free port; returns where.
///
/// # Errors
/// A usage error if the address is not one of this machine, or may not be used.
pub fn start<S: Site>(address: Option<SocketAddr>, site: &Arc<S>) -> Result<Option<Serving>> {
    let Some(asked) = address else { return Ok(None) };
    let refuse = |e: io::Error| {
        Error::usage(format!(
            "cannot listen on {asked}: {e}; choose another address with --listen, or \"\" to turn the endpoint off"
        ))
    };
    let listener = bind(asked).map_err(refuse)?;
    let address = listener.local_addr().map_err(refuse)?;
    if address.port() == asked.port() || asked.port() == 0 {
        crate::info!("listening", "url" => format_args!("http://{address}/"));
    } else {
        crate::warn!("the requested port is in use; listening on the next free one",
            "url" => format_args!("http://{address}/"), "in_use" => asked);
    }
    let site = Arc::clone(site);
    Ok(Some(Serving(tokio::spawn(serve(listener, site, address.ip().is_loopback())))))
}

fn bind(asked: SocketAddr) -> io::Result<TcpListener> {
    let mut address = asked;
    loop {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // Or a restart would have to wait for the connections of the run before to be forgotten.
        socket.set_reuseaddr(true)?;
        // Connections inherit it: what clients do not take must not fill the kernel's memory either.
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(e) if e.kind() != io::ErrorKind::AddrInUse || address.port() - asked.port() == MORE_PORTS => {
                return Err(e);
            }
            Err(e) => address.set_port(address.port().checked_add(1).ok_or(e)?),
        }
    }
}

/// Takes connections for ever.
async fn serve<S: Site>(listener: TcpListener, site: Arc<S>, loopback: bool) {
    let mut open: Vec<AbortHandle> = Vec::new();
    let unsent = Arc::new(Semaphore::new(MAX_UNSENT_KIB));
    let mut bucket = Bucket { left: ACCEPT_BURST, filled: Instant::now() };
    loop {
        while !bucket.take(Instant::now()) {
            sleep(ACCEPT_PAUSE).await;
        }
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, or the client has gone already.
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= MAX_CONNECTIONS {
            open.remove(0).abort();
        }
        let (site, unsent) = (Arc::clone(&site), Arc::clone(&unsent));
        let conversation = async move { converse(stream, &*site, &unsent, loopback).await };
        open.push(tokio::spawn(conversation).abort_handle());
    }
}

/// How many connections may still be taken.
struct Bucket {
    left: f64,
    filled: Instant,
}

impl Bucket {
    /// Takes one out, if there is one.
    fn take(&mut self, now: Instant) -> bool {
        let earned = now.duration_since(self.filled).as_secs_f64() * ACCEPTS_PER_SECOND;
        self.left = (self.left + earned).min(ACCEPT_BURST);
        self.filled = now;
        let is_there = self.left >= 1.0;
        self.left -= f64::from(u8::from(is_there));
        is_there
    }
}

/// One request and its answer.
async fn converse<S: Site>(mut stream: TcpStream, site: &S, unsent: &Semaphore, loopback: bool) {
    let mut head = Vec::with_capacity(1024);
    let request = match timeout(HEAD_TIME, read_head(&mut stream, &mut head)).await {
        Err(_) => Err(HttpAnswer::text(408, "request timed out")),
        // The client is gone.
        Ok(Err(_)) | Ok(Ok(RequestHead::Ended)) => return,
        Ok(Ok(RequestHead::TooLong)) => Err(HttpAnswer::text(431, "request headers are longer than 8 KiB")),
        Ok(Ok(RequestHead::Complete)) => HttpRequest::parse(&head, loopback),
    };
    let answering = async {
        let (mut answer, head_only) = match request {
            Err(refusal) => (refusal, false),
            Ok(HttpRequest { path, query, head_only }) => match site.answer(path, query).await {
                Some(answer) => (answer, head_only),
                None => (HttpAnswer::text(404, "page not found"), head_only),
            },
        };
        let room = unsent.try_acquire_many(answer.kib());
        if room.is_err() {
            answer = HttpAnswer::text(503, "too many large answers are being sent; try again");
        }
        let sent = stream.write_all(&answer.encode(head_only)).await;
        sent.and(stream.shutdown().await)
    };
    if matches!(timeout(ANSWER_TIME, answering).await, Ok(Ok(()))) {
        let _ = timeout(DRAIN_TIME, drain(&mut stream)).await;
    }
}

enum RequestHead {
    Complete,
    TooLong,
    /// The client has closed before the end.
    Ended,
}

async fn read_head(stream: &mut TcpStream, head: &mut Vec<u8>) -> io::Result<RequestHead> {
    loop {
        if stream.read_buf(head).await? == 0 {
            return Ok(RequestHead::Ended);
        }
        // Searched from its start each time: it is short, and usually comes in one piece.
        if head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n") {
            return Ok(RequestHead::Complete);
        }
        if head.len() >= MAX_HEAD_BYTES {
            return Ok(RequestHead::TooLong);
        }
    }
}

/// Reads what the client still sends, within limits.
async fn drain(stream: &mut TcpStream) {
    let mut rest = [0; 4096];
    let mut left = DRAIN_BYTES;
    while left > 0 {
        match stream.read(&mut rest).await {
            Ok(n) if n > 0 => left = left.saturating_sub(n),
            _ => return,
        }
    }
}

#[derive(Debug)]
struct HttpRequest<'a> {
    path: &'a str,
    query: &'a str,
    head_only: bool,
}

impl<'a> HttpRequest<'a> {
    /// Reads a complete head; the refusal if there is something wrong with it.
    fn parse(head: &'a [u8], loopback: bool) -> std::result::Result<Self, HttpAnswer> {
        let malformed = || HttpAnswer::text(400, "malformed request");
        let head = std::str::from_utf8(head).map_err(|_| malformed())?;
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(malformed());
        };
        if !version.starts_with("HTTP/1.") {
            let status = if version.starts_with("HTTP/") { 505 } else { 400 };
            return Err(HttpAnswer::text(status, "unsupported protocol; use HTTP/1.1"));
        }
        let mut host = None;
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or_else(malformed)?;
            if name.eq_ignore_ascii_case("host") {
                host = Some(value.trim());
            }
        }
        let head_only = match method {
            "GET" => false,
            "HEAD" => true,
            _ => {
                return Err(HttpAnswer::text(
                    405,
                    "method not allowed; this endpoint is read-only (GET and HEAD)",
                ));
            }
        };
        let target = match target.strip_prefix("http://") {
            Some(rest) => rest.find('/').map_or("/", |path| &rest[path..]),
            None => target,
        };
        if !target.starts_with('/') {
            return Err(malformed());
        }
        if loopback && host.is_some_and(|host| !names_loopback(host)) {
            return Err(HttpAnswer::text(
                421,
                "unexpected host name; this address serves requests to localhost only (use --listen 0.0.0.0:PORT for others)",
            ));
        }
        let target = target.split('#').next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Ok(Self { path, query, head_only })
    }
}

/// Whether a `Host` header is an address, or a name that always means this machine.
fn names_loopback(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().is_some_and(|address| address.parse::<IpAddr>().is_ok());
    }
    let name = host.split(':').next().unwrap_or_default();
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests;
