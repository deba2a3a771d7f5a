//! Times as an operator reads and writes them.

use std::time::Duration;

use kernel::Timestamp;
use platform::config::duration;

/// A time as RFC 3339, in UTC.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    proto::words::time(time).to_string()
}

/// How long ago something was, in the largest unit that fits: `12s`, `5m`, `3h`, `4d`.
pub(crate) fn age(passed: Duration) -> String {
    let seconds = passed.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The beginning of a span of time that lasts until now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// So long ago.
    Ago(Duration),
    /// At this time.
    At(Timestamp),
}

impl Since {
    /// Reads `2h` or `2026-01-31T12:00:00Z`.
    pub(crate) fn parse(text: &str) -> Result<Since, String> {
        if let Some(ago) = duration::parse(text) {
            return Ok(Since::Ago(ago));
        }
        let at = text.parse().map(|at| Since::At(proto::words::parse_time(&at)));
        at.map_err(|_| "it must look like 90s, 30m, 2h or 2026-01-31T12:00:00Z".to_owned())
    }

    /// When that was.
    pub(crate) fn time(self, now: Timestamp) -> Timestamp {
        match self {
            Since::Ago(ago) => now.minus(ago),
            Since::At(time) => time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_769_860_800_000_000);

    #[test]
    fn times_are_written_and_read() {
        assert_eq!(rfc3339(NOW), "2026-01-31T12:00:00Z");
        let since = |text: &str| Since::parse(text).expect(text).time(NOW);
        assert_eq!(since("2026-01-31T12:00:00Z"), NOW);
        assert_eq!(since("2026-01-31T13:00:00+01:00"), NOW);
        assert_eq!(rfc3339(since("2h")), "2026-01-31T10:00:00Z");
        for text in ["", "yesterday", "2 weeks", "-2h"] {
            assert!(Since::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_age_is_short() {
        let ages = [0, 59, 60, 7_199, 86_399, 200_000].map(|s| age(Duration::from_secs(s)));
        assert_eq!(ages, ["0s", "59s", "1m", "1h", "23h", "2d"]);
    }
}
