//! The living city on stderr: one status line and the last happenings, drawn over themselves on a
//! terminal; a plain line now and then when nobody watches.

use std::convert::Infallible;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::time::interval;

use super::city::City;
use super::ledger::{Ledger, Stage};
use super::places::Lang;
use super::report::won;

/// How often a terminal is drawn,
const FRAME: Duration = Duration::from_millis(100);
/// and how often a plain line is written at most.
const LINE: Duration = Duration::from_secs(2);

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Drawn over itself; with colour, unless NO_COLOR says otherwise.
    Live { colour: bool },
    /// One line after the other.
    Plain,
}

/// The view of a city.
#[derive(Debug)]
pub(super) struct Progress {
    mode: Mode,
    /// What is there now.
    shown: Vec<String>,
}

impl Progress {
    /// A view that fits stderr.
    pub(super) fn new() -> Progress {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let mode = match io::stderr().is_terminal() && !dumb {
            true => Mode::Live { colour: !is_set("NO_COLOR") },
            false => Mode::Plain,
        };
        Progress { mode, shown: Vec::new() }
    }

    /// Shows what happens, for as long as it is polled.
    pub(super) async fn follow(&mut self, city: &City) -> Infallible {
        let mut frames = interval(if self.mode == Mode::Plain { LINE } else { FRAME });
        loop {
            frames.tick().await;
            self.draw(city);
        }
    }

    /// Shows how things stand now.
    pub(super) fn draw(&mut self, city: &City) {
        let mut lines = vec![city.note(|ledger| status(ledger, city.lang))];
        if self.mode != Mode::Plain {
            lines.extend(city.note(|ledger| ledger.recent.iter().cloned().collect::<Vec<_>>()));
        }
        if lines != self.shown {
            let text = match self.mode {
                Mode::Plain => format!("{}\n", lines[0]),
                Mode::Live { colour } => frame(self.shown.len(), &lines, colour),
            };
            // Without anybody to see it, the demo goes on.
            io::stderr().lock().write_all(text.as_bytes()).ok();
            self.shown = lines;
        }
    }
}

/// The lines, drawn over so many lines. The terminal does not wrap them, so each is one.
fn frame(over: usize, lines: &[String], colour: bool) -> String {
    const DIM: &str = "\x1b[2m";
    const BOLD: &str = "\x1b[1m";
    const PLAIN: &str = "\x1b[0m";
    let mut text = "\x1b[?7l".to_owned();
    if over > 0 {
        text.push_str(&format!("\x1b[{over}A\r"));
    }
    text.push_str("\x1b[J");
    for (at, line) in lines.iter().enumerate() {
        let indent = if at == 0 { "" } else { "  " };
        let style = match at {
            0 => BOLD,
            // The newest stands out.
            at if at + 1 < lines.len() => DIM,
            _ => "",
        };
        match colour {
            true => text.push_str(&format!("{style}{indent}{line}{PLAIN}\n")),
            false => text.push_str(&format!("{indent}{line}\n")),
        }
    }
    text.push_str("\x1b[?7h");
    text
}

/// How the city stands, on one line.
fn status(ledger: &Ledger, lang: Lang) -> String {
    let say = |en, ko| if lang == Lang::Ko { ko } else { en };
    let mut parts = vec![format!(
        "{}/{} {}",
        ledger.ended(),
        ledger.rides.len(),
        say("rides done", "운행 종료")
    )];
    for (stage, en, ko) in [
        (Stage::Asked, "waiting", "배정 대기"),
        (Stage::Accepted, "accepted", "배정됨"),
        (Stage::Driving, "on board", "운행 중"),
        (Stage::Cancelled, "cancelled", "취소"),
    ] {
        let count = ledger.at(stage);
        if count > 0 {
            parts.push(format!("{count} {}", say(en, ko)));
        }
    }
    parts.push(won(ledger.fares(), lang));
    parts.extend(ledger.fault.clone());
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_names_what_there_is() {
        let mut ledger = Ledger::new(4, 2);
        ledger.reached(0, Stage::Finished);
        ledger.reached(1, Stage::Driving);
        ledger.reached(2, Stage::Asked);
        ledger.rides[0].fare = Some(1_000);
        let expected = "1/4 rides done · 1 waiting · 1 on board · 1,000 KRW";
        assert_eq!(status(&ledger, Lang::En), expected);
        ledger.fault = Some("payment.down=true".to_owned());
        let expected = format!("{expected} · payment.down=true");
        assert_eq!(status(&ledger, Lang::En), expected);
        assert!(status(&ledger, Lang::Ko).starts_with("1/4 운행 종료 · 1 배정 대기"));
    }

    #[test]
    fn a_frame_covers_the_one_before() {
        let lines = ["status", "older", "newest"].map(str::to_owned);
        let first = frame(0, &lines, false);
        assert_eq!(first, "\x1b[?7l\x1b[Jstatus\n  older\n  newest\n\x1b[?7h");
        let second = frame(3, &lines, true);
        assert!(second.starts_with("\x1b[?7l\x1b[3A\r\x1b[J\x1b[1mstatus\x1b[0m\n\x1b[2m  older"));
    }
}
