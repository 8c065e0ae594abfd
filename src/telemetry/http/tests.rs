//! The endpoint as clients of every kind meet it.

use super::*;

/// Some of them are all the answers that may wait for their clients.
const LARGE: usize = MAX_UNSENT_KIB * 1024 / 4;

/// A site with one page, one that takes for ever, and one that is more than the kernel takes of a client that does not read.
struct Example;

impl Site for Example {
    async fn answer(&self, path: &str, query: &str) -> Option<HttpAnswer> {
        match path {
            "/hello" => Some(HttpAnswer::ok("text/plain", "hello".into())),
            "/query" => Some(HttpAnswer::ok("text/plain", query.to_owned())),
            "/never" => std::future::pending().await,
            "/large" => Some(HttpAnswer::ok("text/plain", "x".repeat(LARGE))),
            _ => None,
        }
    }
}

async fn example() -> (Serving, SocketAddr) {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    (Serving(tokio::spawn(serve(listener, Arc::new(Example), true))), address)
}

/// Sends this and reads until the end; what came, also before a reset.
async fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may refuse before it has read all.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

fn status(answer: &str) -> u16 {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).map_or(0, |code| code.parse().unwrap())
}

#[tokio::test]
async fn answers_get_and_head() {
    let (_serving, address) = example().await;
    let answer = ask(address, b"GET /hello?x=1 HTTP/1.1\r\nHost: localhost:1\r\n\r\n").await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello") && answer.contains("Content-Length: 5\r\n"), "{answer}");
    assert!(
        answer.contains("Content-Security-Policy: default-src 'none'") && answer.contains("nosniff"),
        "{answer}"
    );
    let answer = ask(address, b"GET /query?search=a%20b&sort=?#x HTTP/1.1\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\nsearch=a%20b&sort=?"), "{answer}");
    let answer = ask(address, b"HEAD /hello HTTP/1.0\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\n") && answer.contains("Content-Length: 5\r\n"), "{answer}");
    let answer = ask(address, b"GET http://127.0.0.1/hello HTTP/1.1\nHost: 127.0.0.1\n\n").await;
    assert_eq!(status(&answer), 200, "{answer}");
}

#[tokio::test]
async fn refuses_what_is_wrong_by_its_status() {
    let (_serving, address) = example().await;
    let long_header = [b"GET /hello HTTP/1.1\r\nX: ".as_slice(), &vec![b'x'; 9000]].concat();
    let long_line = [b"GET /".as_slice(), &vec![b'x'; 1_000_000], b" HTTP/1.1\r\n\r\n"].concat();
    let cases: [(&[u8], u16); 13] = [
        (b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"DELETE /hello HTTP/1.1\r\n\r\n", 405),
        (b"GET hello HTTP/1.1\r\n\r\n", 400),
        (b"GET /hello\r\n\r\n", 400),
        (b"GET  /hello HTTP/1.1\r\n\r\n", 400),
        (b"\xff\xfe\x00\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (&long_header, 431),
        (&long_line, 431),
    ];
    for (request, expected) in cases {
        let answer = ask(address, request).await;
        let shown = String::from_utf8_lossy(&request[..request.len().min(60)]);
        assert_eq!(status(&answer), expected, "{shown:?}: {answer}");
    }
}

#[tokio::test]
async fn any_name_will_do_on_an_address_that_others_reach() {
    let parse = |head: &'static [u8]| HttpRequest::parse(head, false).map(|r| r.path).map_err(|a| a.status);
    assert_eq!(parse(b"GET /x HTTP/1.1\r\nHost: weather.example\r\n\r\n"), Ok("/x"));
    for (host, fine) in [
        ("127.0.0.1:8080", true),
        ("[::1]:80", true),
        ("LocalHost", true),
        ("a.localhost.", true),
        ("a.b:1", false),
    ] {
        assert_eq!(names_loopback(host), fine, "{host}");
    }
}

#[tokio::test]
async fn idle_clients_keep_nobody_out() {
    let (_serving, address) = example().await;
    let mut idlers = Vec::new();
    for i in 0..3 * MAX_CONNECTIONS {
        let mut idler = TcpStream::connect(address).await.unwrap();
        // Some have begun, some request what takes for ever, some send nothing.
        let said: &[u8] = [b"GET /he".as_slice(), b"GET /never HTTP/1.1\r\n\r\n", b""][i % 3];
        let _ = idler.write_all(said).await;
        idlers.push(idler);
    }
    let asked = Instant::now();
    let answer = ask(address, b"GET /hello HTTP/1.1\r\n\r\n").await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    // The first have been closed to make room.
    let mut first = idlers.swap_remove(0);
    let closed = timeout(Duration::from_secs(2), first.read(&mut [0; 1])).await;
    assert!(matches!(closed, Ok(Ok(0) | Err(_))), "{closed:?}");
}

#[tokio::test]
async fn answers_that_nobody_takes_hold_bounded_memory() {
    let (_serving, address) = example().await;
    let mut unread = Vec::new();
    for _ in 0..40 {
        let stream = TcpSocket::new_v4().unwrap();
        stream.set_recv_buffer_size(4096).unwrap();
        let mut stream = stream.connect(address).await.unwrap();
        stream.write_all(b"GET /large HTTP/1.1\r\n\r\n").await.unwrap();
        unread.push(stream);
    }
    let mut refused = 0;
    for mut stream in unread.split_off(10) {
        let mut answer = [0; 12];
        if timeout(Duration::from_secs(5), stream.read_exact(&mut answer)).await.is_ok() {
            refused += usize::from(answer.ends_with(b"503"));
        }
    }
    assert!(refused > 0, "no answer was refused");
    let answer = ask(address, b"GET /hello HTTP/1.1\r\n\r\n").await;
    assert_eq!(status(&answer), 200, "what is short still comes: {answer}");
}

#[tokio::test]
async fn a_taken_port_means_the_next_one() {
    let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let taken = first.local_addr().unwrap();
    let second = bind(taken).unwrap().local_addr().unwrap();
    assert!(
        second.port() > taken.port() && second.port() - taken.port() <= MORE_PORTS,
        "{second} after {taken}"
    );
    // An address for documentation, which no machine has.
    assert!(bind("192.0.2.1:8080".parse().unwrap()).is_err());
}

#[test]
fn a_burst_is_taken_at_once_and_a_flood_by_and_by() {
    let start = Instant::now();
    let mut bucket = Bucket { left: ACCEPT_BURST, filled: start };
    let mut taken = |at| (0..100_000).filter(|_| bucket.take(at)).count();
    assert_eq!(taken(start), 10_000);
    assert_eq!(taken(start + Duration::from_secs(1)), 5_000);
    assert_eq!(taken(start + Duration::from_secs(60)), 10_000);
}
