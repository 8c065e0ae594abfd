//! What a terminal can do: colours, and a live line at its bottom that is shown again each second.
//!
//! There is a live line only while standard output is a terminal that can do it. `output` writes it and keeps it below
//! everything else.

use std::borrow::Cow;
use std::io::IsTerminal;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::telemetry::human::{Grouped, TimeSpan};
use crate::telemetry::output;

/// How often the line is shown.
const PERIOD: Duration = Duration::from_secs(1);
/// Characters of a progress bar.
const BAR: usize = 20;

/// What the terminal can do, looked up once.
static CAN: LazyLock<Can> = LazyLock::new(|| {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let is_dumb = set("TERM").is_none_or(|term| term == "dumb");
    let colours = set("NO_COLOR").is_none() && !is_dumb;
    let (stdout, stderr) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
    Can { live: stdout && !is_dumb, colours: stdout && colours, log_colours: stderr && colours }
});

#[derive(Debug)]
struct Can {
    live: bool,
    colours: bool,
    log_colours: bool,
}

/// Whether there is a terminal for a live line.
pub fn is_live() -> bool {
    CAN.live
}

/// A colour of the terminal's own, or a weight of its letters.
#[derive(Debug, Clone, Copy)]
pub enum Colour {
    /// Something is broken.
    Red,
    /// Needs attention.
    Yellow,
    /// Goes well.
    Green,
    /// Less important.
    Dim,
    /// A heading.
    Bold,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Colour::Red => "31",
            Colour::Yellow => "33",
            Colour::Green => "32",
            Colour::Dim => "2",
            Colour::Bold => "1",
        }
    }

    /// The text in this colour, if standard output takes colours and `NO_COLOR` is not set.
    pub fn paint(self, text: &str) -> Cow<'_, str> {
        self.paint_if(CAN.colours, text)
    }

    /// As [`Self::paint`], for standard error.
    pub fn paint_log(self, text: &str) -> Cow<'_, str> {
        self.paint_if(CAN.log_colours, text)
    }

    fn paint_if(self, colours: bool, text: &str) -> Cow<'_, str> {
        if colours { Cow::Owned(format!("\x1b[{}m{text}\x1b[0m", self.code())) } else { Cow::Borrowed(text) }
    }
}

/// A live line that is shown again each second; it is gone when this is dropped.
#[derive(Debug)]
pub struct Live(JoinHandle<()>);

impl Live {
    /// Shows what `render` gives, one line, each second; None if there is no terminal for it.
    pub fn start(mut render: impl FnMut() -> String + Send + 'static) -> Option<Self> {
        is_live().then(|| {
            Self(tokio::spawn(async move {
                // What comes and goes in the first second is no news.
                let mut ticks = interval_at(Instant::now() + PERIOD, PERIOD);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    output::show_live(render());
                }
            }))
        })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.abort();
        output::show_live(String::new());
    }
}

/// A bar, the share, and how long the rest takes at this rate; `done` from 0 to 1.
pub fn progress_bar(done: f64, elapsed: Duration) -> String {
    let done = done.clamp(0.0, 1.0);
    let full = (done * BAR as f64) as usize;
    let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR - full));
    let left = match done {
        d if d >= 1.0 => String::new(),
        // Too early for an estimate.
        d if d < 0.001 => "  ETA –".to_owned(),
        d => format!("  ETA {}", TimeSpan(elapsed.as_secs_f64() * (1.0 - d) / d)),
    };
    format!("{} {:3.0} %{left}", Colour::Green.paint(&bar), (done * 100.0).floor())
}

/// A number of things a second, short.
pub fn per_second(rate: f64) -> String {
    // Far below any i64.
    if rate > 0.0 && rate < 10.0 {
        format!("{rate:.1}/s")
    } else {
        format!("{}/s", Grouped(rate.round() as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_much_and_how_long() {
        let plain = |done, seconds| {
            progress_bar(done, Duration::from_secs(seconds)).replace("\x1b[32m", "").replace("\x1b[0m", "")
        };
        assert_eq!(plain(0.0, 1), format!("{}   0 %  ETA –", "░".repeat(20)));
        assert_eq!(plain(0.25, 20), format!("{}{}  25 %  ETA 60 s", "█".repeat(5), "░".repeat(15)));
        assert_eq!(plain(0.9999, 20), format!("{}░  99 %  ETA 0.0 s", "█".repeat(19)));
        assert_eq!(plain(2.0, 20), format!("{} 100 %", "█".repeat(20)));
    }

    #[test]
    fn rates_are_short() {
        assert_eq!(
            [0.0, 2.45, 166.6, 1e6].map(per_second),
            ["0/s", "2.5/s", "167/s", "1,000,000/s"].map(String::from)
        );
    }

    #[test]
    fn colours_are_left_out_where_they_are_not_wanted() {
        assert_eq!(Colour::Red.paint_if(false, "x"), "x");
        assert_eq!(Colour::Red.paint_if(true, "x"), "\x1b[31mx\x1b[0m");
    }
}
