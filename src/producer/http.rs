//! A small HTTP/1.1 GET over plain TCP: one request per connection, everything bounded.
//!
//! Enough for APIs that answer with JSON: `Content-Length`, chunked, or the end of the connection. Absent on purpose:
//! TLS (another program's work), redirects, compression, keeping connections.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The longest answer that is read.
const MAX_BODY_BYTES: u64 = 4 * 1024 * 1024;
const MAX_LINE_BYTES: u64 = 8 * 1024;
const MAX_HEADERS: usize = 100;
/// The hint for an address that needs TLS.
const HTTPS_SENTENCE: &str = "for https use another program: curl -s https://… | weather producer --source -";

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `host:port` to connect to.
    address: String,
    /// The value of the `Host` header.
    host: String,
    /// Path and query.
    target: String,
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

type ResponseStream = BufReader<TcpStream>;

impl Endpoint {
    /// Splits a checked `http://` URL.
    pub(super) fn new(url: &str) -> Self {
        let rest = url.get("http://".len()..).unwrap_or_default();
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, target) = rest.split_at(end);
        let has_port = host.rsplit(']').next().is_some_and(|tail| tail.contains(':'));
        let address = if has_port { host.to_owned() } else { format!("{host}:80") };
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Self { address, host: host.to_owned(), target }
    }

    /// The URL without its query, which may carry a key.
    pub(super) fn name(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        format!("http://{}{path}", self.host)
    }

    /// The body of the response. Has no time-out.
    ///
    /// # Errors
    /// What went wrong, in words for the log.
    pub(super) async fn get(&self) -> Result<Vec<u8>, String> {
        let stream = TcpStream::connect(&self.address).await.map_err(|e| e.to_string())?;
        let mut reader = BufReader::new(stream);
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: weather/{}\r\nAccept: application/json\r\n\
             Connection: close\r\n\r\n",
            self.target,
            self.host,
            env!("CARGO_PKG_VERSION")
        );
        reader.get_mut().write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
        let framing = head(&mut reader).await?;
        body(&mut reader, framing).await
    }
}

/// Reads status and headers; a response without a usable body is an error.
async fn head(reader: &mut ResponseStream) -> Result<Framing, String> {
    loop {
        let status = line(reader).await?;
        let code = status.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)).map(str::to_owned);
        let code = code.and_then(|code| code.parse::<u16>().ok()).ok_or("the response is not HTTP/1")?;
        let mut framing = Framing::UntilClose;
        let mut location = String::new();
        for count in 0.. {
            let header = line(reader).await?;
            if header.is_empty() {
                break;
            }
            if count == MAX_HEADERS {
                return Err("the response has too many headers".into());
            }
            let Some((name, value)) = header.split_once(':') else { continue };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => framing = Framing::Chunked,
                // Chunked wins over a length, as the standard has it.
                "content-length" if framing != Framing::Chunked => {
                    framing =
                        Framing::Length(value.parse().map_err(|_| "its Content-Length is not a number")?);
                }
                "content-encoding" if !value.eq_ignore_ascii_case("identity") => {
                    return Err("the response is compressed, although that was not requested".into());
                }
                "location" => value.clone_into(&mut location),
                _ => {}
            }
        }
        match code {
            100..=199 => continue,
            200 => return Ok(framing),
            300..=399 if location.starts_with("https:") => {
                return Err(format!("the response redirects to https ({code}); {HTTPS_SENTENCE}"));
            }
            _ => return Err(format!("the response has status {code}")),
        }
    }
}

async fn body(reader: &mut ResponseStream, framing: Framing) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    match framing {
        Framing::Length(length) => exactly(reader, length, &mut body).await?,
        Framing::UntilClose => {
            // One byte beyond the limit distinguishes a body that fits from one that does not.
            let read = reader.take(MAX_BODY_BYTES + 1).read_to_end(&mut body).await;
            let read = read.map_err(|e| e.to_string())?;
            check_length(read as u64)?;
        }
        Framing::Chunked => loop {
            let size = line(reader).await?;
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| "the response's chunks are broken")?;
            if size == 0 {
                break;
            }
            exactly(reader, size, &mut body).await?;
            if !line(reader).await?.is_empty() {
                return Err("the response's chunks are broken".into());
            }
        },
    }
    Ok(body)
}

/// Appends this many bytes to the body.
async fn exactly(reader: &mut ResponseStream, length: u64, body: &mut Vec<u8>) -> Result<(), String> {
    check_length(length.saturating_add(body.len() as u64))?;
    let read = reader.take(length).read_to_end(body).await.map_err(|e| e.to_string())?;
    if (read as u64) < length { Err("the response broke off".into()) } else { Ok(()) }
}

fn check_length(length: u64) -> Result<(), String> {
    if length > MAX_BODY_BYTES {
        return Err(format!("the response is longer than {} MiB", MAX_BODY_BYTES >> 20));
    }
    Ok(())
}

/// A line without its end.
async fn line(reader: &mut ResponseStream) -> Result<String, String> {
    let mut line = Vec::new();
    reader.take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await.map_err(|e| e.to_string())?;
    if line.pop() != Some(b'\n') {
        return Err("the response broke off or has too long a line".into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| "the response is not HTTP/1".into())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A server on loopback that always sends the same response; its URL.
    pub(in crate::producer) async fn serve(answer: impl Into<Vec<u8>>) -> String {
        let answer = answer.into();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(&answer).await;
            }
        });
        format!("http://{address}/weather?key=s3cret")
    }

    async fn get(answer: &str) -> Result<String, String> {
        let body = Endpoint::new(&serve(answer).await).get().await?;
        Ok(String::from_utf8(body).unwrap())
    }

    #[test]
    fn urls_are_split() {
        let cases = [
            ("http://h", "h:80", "/"),
            ("http://h:81/a/b?c=d#e", "h:81", "/a/b?c=d"),
            ("http://h?c=d", "h:80", "/?c=d"),
            ("http://[::1]/x", "[::1]:80", "/x"),
            ("http://[::1]:82", "[::1]:82", "/"),
        ];
        for (url, address, target) in cases {
            let endpoint = Endpoint::new(url);
            assert_eq!((endpoint.address.as_str(), endpoint.target.as_str()), (address, target), "{url}");
        }
        assert_eq!(Endpoint::new("http://h/x?appid=s3cret").name(), "http://h/x");
    }

    #[tokio::test]
    async fn bodies_in_every_framing() {
        let ok = Ok(String::from("{\"a\":1}"));
        assert_eq!(get("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}extra").await, ok);
        assert_eq!(get("HTTP/1.0 200 OK\n\n{\"a\":1}").await, ok);
        let chunked = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\
                       Content-Length: 3\r\n\r\n4;x=y\r\n{\"a\"\r\n3\r\n:1}\r\n0\r\n\r\n";
        assert_eq!(get(chunked).await, ok);
    }

    #[tokio::test]
    async fn answers_that_are_none() {
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(20_000));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(200));
        let cases = [
            ("HTTP/1.1 404 Not Found\r\n\r\n", "status 404"),
            ("HTTP/1.1 301 Moved\r\nLocation: https://x/\r\n\r\n", "curl -s https"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "broke off"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "longer than"),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "not a number"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", "longer than"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "chunks are broken"),
            ("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", "compressed"),
            ("SSH-2.0-OpenSSH\r\n", "not HTTP/1"),
            (endless.as_str(), "too long a line"),
            (many.as_str(), "too many headers"),
            ("", "broke off"),
        ];
        for (answer, expected) in cases {
            let message = get(answer).await.unwrap_err();
            assert!(message.contains(expected), "{answer:.60}: {message}");
        }
        let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(MAX_BODY_BYTES as usize + 1));
        assert!(get(&long).await.unwrap_err().contains("longer than"));
    }
}
