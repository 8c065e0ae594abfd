//! The dashboard in a real browser: it shows what `/progress` reports, and nothing in a payload runs.
//!
//! Chromium is driven through its WebDriver, which is plain HTTP and JSON. With `WEATHER_TEST_SCREENSHOTS=FOLDER` the page
//! is also kept as pictures, in the widths of a phone, a tablet and a desk, light and dark.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use simd_json::OwnedValue;
use simd_json::prelude::*;

use crate::support::{Folder, Pipeline, Process, Weather, poll, turn};
use crate::telemetry::spawn_with;

const LIMIT: Duration = Duration::from_secs(60);
const WIDTHS: [u32; 3] = [400, 900, 1600];

/// Payloads that would do something if they were ever taken for markup, script or an address.
const HOSTILE: [&str; 6] = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror=\"window.pwned = 1\">",
    "{\"station\":\"\\\"><svg onload=window.pwned=1>\",\"timestamp\":\"x\"}",
    "';window.pwned=1;//</script></style></textarea><script>window.pwned = 1</script>",
    "<iframe srcdoc=\"<script>parent.pwned = 1</script>\"></iframe><base href=//evil.example>",
    "javascript:window.pwned=1 \u{202e}${window.pwned=1} {{constructor.constructor('window.pwned=1')()}}",
];

/// Names of stations that would do something, or hide something, and what the page shows of each.
fn hostile_stations() -> Vec<(String, String)> {
    let long = "n".repeat(300);
    let as_it_is = |name: &str| (name.to_owned(), name.to_owned());
    vec![
        as_it_is("<img src=x onerror=\"window.pwned = 1\">"),
        as_it_is("</script><script>window.pwned = 1</script>"),
        as_it_is("' OR 1=1 --"),
        as_it_is("%_\\"),
        ("evil\u{202e}gpj.exe".to_owned(), "evil\\u202egpj.exe".to_owned()),
        ("nul\0nul".to_owned(), "nul\u{fffd}nul".to_owned()),
        (long.clone(), long[..256].to_owned()),
    ]
}

/// A browser with one window.
struct Browser {
    driver: Process,
    port: u16,
    session: String,
    _profile: Folder,
}

impl Browser {
    async fn start() -> Self {
        let profile = Folder::new("chromium");
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .expect("as expected")
            .local_addr()
            .expect("as expected")
            .port();
        let mut command = Command::new("chromedriver");
        command
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let driver = Process::spawn(&mut command, "KILL");
        let up = poll(LIMIT, || TcpStream::connect(("127.0.0.1", port)).ok()).await;
        assert!(up.is_some(), "chromedriver does not listen; is it installed?");
        let flags = [
            "headless",
            "no-sandbox",
            "disable-gpu",
            "disable-quic",
            "no-first-run",
            "disable-background-networking",
            "disable-component-update",
            "disable-sync",
            "disable-dev-shm-usage",
            &format!("user-data-dir={}", profile.path().display()),
        ]
        .map(|flag| format!("\"--{flag}\""))
        .join(",");
        let mut browser = Self { driver, port, session: String::new(), _profile: profile };
        let session = browser.post(
            "",
            &format!(
                r#"{{"capabilities":{{"alwaysMatch":{{"goog:loggingPrefs":{{"browser":"ALL"}},
                "goog:chromeOptions":{{"args":[{flags}]}}}}}}}}"#
            ),
        );
        browser.session = format!("/{}", session.get_str("sessionId").expect("a session"));
        browser
    }

    /// A command's answer.
    fn post(&self, command: &str, body: &str) -> OwnedValue {
        let path = format!("/session{}{command}", self.session);
        let answer = request(self.port, "POST", &path, body);
        let mut bytes = body_of(&answer).as_bytes().to_vec();
        let answer =
            simd_json::to_owned_value(&mut bytes).unwrap_or_else(|e| panic!("{path}: {e}: {answer}"));
        let value = answer.get("value").cloned().expect("a value");
        assert!(value.get("error").is_none(), "{path}: {value}");
        value
    }

    /// What a function's body returns.
    fn script(&self, body: &str) -> OwnedValue {
        let body = simd_json::to_string(body).expect("as expected");
        self.post("/execute/sync", &format!(r#"{{"script":{body},"args":[]}}"#))
    }

    fn developer_command(&self, name: &str, parameters: &str) -> OwnedValue {
        self.post("/goog/cdp/execute", &format!(r#"{{"cmd":"{name}","params":{parameters}}}"#))
    }

    fn resize(&self, width: u32, height: u32) {
        let metrics =
            format!(r#"{{"width":{width},"height":{height},"deviceScaleFactor":1,"mobile":false}}"#);
        self.developer_command("Emulation.setDeviceMetricsOverride", &metrics);
    }

    fn screenshot(&self, name: &str) {
        let Some(folder) = std::env::var_os("WEATHER_TEST_SCREENSHOTS") else { return };
        let shot = self.developer_command("Page.captureScreenshot", r#"{"format":"png"}"#);
        let path = std::path::Path::new(&folder).join(name);
        std::fs::write(&path, base64(shot.get_str("data").expect("as expected"))).expect("as expected");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser gracefully; killed, it would leave the browser behind.
        if !self.session.is_empty() {
            request(self.port, "DELETE", &format!("/session{}", self.session), "");
        }
        self.driver.signal("TERM");
    }
}

fn request(port: u16, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("as expected");
    stream.set_read_timeout(Some(LIMIT)).expect("as expected");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).expect("as expected");
    let mut answer = Vec::new();
    // The driver keeps the connection: the length says where the answer ends.
    let mut buffer = [0; 65536];
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length:").map(str::to_owned));
            if length.is_some_and(|length| body.len() >= length.trim().parse().expect("as expected")) {
                break;
            }
        }
        match stream.read(&mut buffer) {
            Ok(n) if n > 0 => answer.extend_from_slice(&buffer[..n]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn base64(text: &str) -> Vec<u8> {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for value in text.bytes().filter_map(|byte| digits.iter().position(|digit| *digit == byte)) {
        (bits, count) = ((bits << 6 | value as u32) & 0xff_ffff, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// `1,234,567`
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).expect("as expected")).collect();
    groups.join(",")
}

/// The processor at work on six hours of readings, some of them bad, then on hostile ones.
async fn start() -> (Pipeline, Weather, Weather, String) {
    let pipeline = Pipeline::new("dashboard").await;
    let hours = ["--backfill", "6h", "--rate", "0", "--count", "20000", "--partitions", "3"];
    pipeline
        .produce(&[hours.as_slice(), &["--late-ratio", "0.01", "--malformed-ratio", "0.01"]].concat())
        .await;
    let live = pipeline.producer(&["--interval", "20ms"]);
    let (processor, address) = spawn_with(&pipeline, &["--by", "station"]).await;
    let url = format!("http://{address}/");
    processor.wait_for_line("write OK", LIMIT).await;
    let lines = Folder::new("hostile");
    let file = lines.path().join("lines");
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("as expected").as_millis();
    let readings = hostile_stations().into_iter().map(|(name, _)| {
        let name = simd_json::to_string(&name).expect("as expected");
        format!("{{\"station\":{name},\"timestamp\":{now},\"temperature\":21.5,\"humidity\":40}}")
    });
    let lines_of_all = HOSTILE.map(str::to_owned).into_iter().chain(readings).collect::<Vec<_>>();
    std::fs::write(&file, lines_of_all.join("\n")).expect("as expected");
    pipeline.produce(&["--source", file.to_str().expect("as expected")]).await;
    (pipeline, live, processor, url)
}

/// The table of stations finds what is typed, sorts, and shows every name as text.
async fn check_stations(browser: &Browser) {
    let names = || -> Vec<String> {
        let cells = browser.script(
            "return [...document.querySelectorAll('#station-rows tr')].map((r) => r.cells[0].textContent)",
        );
        let cells = cells.as_array().expect("as expected").iter();
        cells.map(|c| c.as_str().expect("as expected").to_owned()).collect()
    };
    let search = |text: &str| {
        let text = simd_json::to_string(text).expect("as expected");
        browser.script(&format!(
            "const box = document.getElementById('search'); box.value = {text}; box.dispatchEvent(new Event('input'))"
        ));
    };
    for (name, shown) in hostile_stations() {
        search(&name[..name.len().min(256)]);
        let found = poll(LIMIT, || (names() == [shown.clone()]).then_some(())).await;
        assert!(found.is_some(), "{name:?} is shown as {:?}", names());
    }
    search("STATION-00");
    let found = poll(LIMIT, || {
        let names = names();
        (names.len() == 10 && names.iter().all(|name| name.starts_with("station-00"))).then_some(())
    });
    assert!(found.await.is_some(), "{:?}", names());
    browser.script("document.querySelector('#stations [data-sort=temperature]').click()");
    let sorted = poll(LIMIT, || {
        let cells = browser.script(
            "return [...document.querySelectorAll('#station-rows tr')].map((r) => Number(r.cells[1].textContent))",
        );
        let numbers: Vec<f64> =
            cells.as_array().expect("as expected").iter().filter_map(|c| c.cast_f64()).collect();
        (numbers.len() == 10 && numbers.is_sorted_by(|a, b| a >= b)).then_some(())
    });
    assert!(sorted.await.is_some(), "the greatest temperature comes first");
    let lines = browser.script("return document.querySelectorAll('#station-rows svg polyline').length");
    assert!(lines.as_usize().expect("as expected") >= 10, "{lines}");
    search("");
    assert!(poll(LIMIT, || (names().len() > 100).then_some(())).await.is_some(), "{}", names().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn shows_what_progress_says_and_runs_nothing_that_strangers_send() {
    let _turn = turn::heavy().await;
    let (_pipeline, _live, _processor, url) = start().await;
    let browser = Browser::start().await;
    browser.post("/url", &format!(r#"{{"url":"{url}"}}"#));
    let shown = poll(LIMIT, || {
        let ready = browser.script(
            "if (!window.shown) return false; const weather = JSON.parse(window.shown).weather; \
             return weather.windows.length > 5 && \
             weather.dead_letters.filter((l) => (l.payload || '').includes('pwned')).length === 6 && weather.readmit !== null",
        );
        ready.as_bool().unwrap_or(false).then_some(())
    });
    shown.await.expect("the page shows the readings");

    // The text and what it was made from, at one moment.
    let both = browser.script(
        "const text = (id) => document.getElementById(id).textContent; \
         const cells = (id) => [...document.querySelectorAll(`#${id} tr`)].map((r) => [...r.cells].map((c) => c.textContent)); \
         return { shown: JSON.parse(window.shown), state: text('state'), lag: text('lag'), topic: text('topic'), \
           totals: cells('totals'), partitions: cells('partitions'), windows: cells('windows'), letters: cells('dead-letters'), \
           temp: text('now-temp'), open: document.querySelectorAll('#chart-temp .open-window').length, \
           points: document.querySelector('#chart-wind polyline').getAttribute('points').split(' ').length, \
           band: document.querySelector('#chart-temp polygon').getAttribute('points').split(' ').length, \
           lines: ['line-read', 'line-lag'].map((id) => document.querySelector(`#${id} polyline`) !== null), \
           readmit: text('readmit') }",
    );
    let weather = both.get("shown").expect("as expected").get("weather").expect("as expected");
    let text = |field: &str| both.get_str(field).expect("as expected").to_owned();
    assert_eq!(text("state"), "running");
    assert_eq!(text("lag"), grouped(weather.get_i64("lag").expect("as expected")));
    let rows = |field: &str| -> Vec<Vec<String>> {
        let cells = |row: &OwnedValue| {
            row.as_array()
                .expect("as expected")
                .iter()
                .map(|c| c.as_str().expect("as expected").to_owned())
                .collect()
        };
        both.get_array(field).expect("as expected").iter().map(cells).collect()
    };
    let totals = weather.get("totals").expect("as expected");
    let total = |name: &str| rows("totals").into_iter().find(|row| row[0] == name).map(|row| row[1].clone());
    assert_eq!(total("read"), Some(grouped(totals.get_i64("records").expect("as expected"))));
    assert_eq!(total("aggregated"), Some(grouped(totals.get_i64("aggregated").expect("as expected"))));
    let rejected = totals.get("rejected").expect("as expected");
    for reason in ["late", "malformed", "future"] {
        assert_eq!(total(reason), Some(grouped(rejected.get_i64(reason).expect("as expected"))), "{reason}");
    }
    let partitions = rows("partitions");
    for (row, partition) in
        partitions.iter().skip(1).zip(weather.get_array("partitions").expect("as expected"))
    {
        assert_eq!(row[0], partition.get_i64("partition").expect("as expected").to_string());
        assert_eq!(row[1], grouped(partition.get_i64("next_offset").expect("as expected")));
        assert_eq!(row[2], grouped(partition.get_i64("lag").expect("as expected")));
    }
    assert_eq!(partitions.len(), 4);
    let windows = weather.get_array("windows").expect("as expected");
    let newest = windows.last().expect("as expected");
    assert_eq!(rows("windows").len(), windows.len() + 1);
    assert_eq!(text("temp"), format!("{:.2} °C", newest.get_f64("avg_temp").expect("as expected")));
    let open = windows.iter().filter(|w| !w.get_bool("is_final").expect("as expected")).count();
    assert!(open > 0);
    assert_eq!(both.get_usize("open"), Some(open));
    assert_eq!(both.get_usize("points"), Some(windows.len()));
    assert_eq!(both.get_usize("band"), Some(2 * windows.len()), "minima and maxima");
    let lines = both.get_array("lines").expect("as expected");
    assert!(lines.iter().all(|is_drawn| is_drawn.as_bool() == Some(true)), "{lines:?}");
    assert!(text("readmit").contains("weather readmit --reason late"), "{}", text("readmit"));

    // The payloads are shown as they are, and did nothing.
    let letters: Vec<String> = rows("letters").into_iter().skip(1).map(|row| row[3].clone()).collect();
    for hostile in HOSTILE {
        assert!(letters.iter().any(|letter| letter == hostile), "{hostile} is not in {letters:?}");
    }
    let harm = browser.script(
        "return { pwned: window.pwned === undefined ? '' : 'yes', \
         scripts: document.querySelectorAll('script').length, foreign: document.querySelectorAll('main img, iframe, base').length }",
    );
    assert_eq!(
        (harm.get_str("pwned"), harm.get_usize("scripts"), harm.get_usize("foreign")),
        (Some(""), Some(1), Some(0))
    );

    check_stations(&browser).await;

    // It updates itself, and fits every width.
    let before = browser.script("return window.shown");
    let changed = poll(LIMIT, || (browser.script("return window.shown") != before).then_some(())).await;
    assert!(changed.is_some(), "the page does not change");
    for scheme in ["light", "dark"] {
        let features = format!(r#"{{"features":[{{"name":"prefers-color-scheme","value":"{scheme}"}}]}}"#);
        browser.developer_command("Emulation.setEmulatedMedia", &features);
        for width in WIDTHS {
            browser.resize(width, if width < 600 { 2600 } else { 1700 });
            tokio::time::sleep(Duration::from_millis(1500)).await;
            browser.screenshot(&format!("dashboard-{width}-{scheme}.png"));
            let overflow = browser
                .script("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
            assert_eq!(overflow.as_i64(), Some(0), "at {width} px the page is wider than the window");
        }
    }
    let log = browser.post("/se/log", r#"{"type":"browser"}"#);
    assert_eq!(log.as_array().map(Vec::len), Some(0), "the console says {log}");
}
