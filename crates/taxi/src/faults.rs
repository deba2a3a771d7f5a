//! Faults for development: what can be made to go wrong, by name, and how badly.
//!
//! A [`Knob`] says what there is, a [`Board`] what is set. The simulated provider has one of its own,
//! and `taxi dev` one for our services; both are worked over HTTP in the same way, `/faults` and
//! `/faults/<name>`, and neither outlives its process.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use platform::config::duration;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// One thing that can be made to go wrong.
#[derive(Debug)]
pub(crate) struct Knob {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it is set to.
    pub(crate) takes: Takes,
    /// What it does then.
    pub(crate) about: &'static str,
}

/// What a knob is set to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Takes {
    /// How long.
    Duration,
    /// How often, from never to always.
    Fraction,
    /// How many times.
    Count,
    /// One of these words; `false` is off.
    Word(&'static [&'static str]),
}

/// On or off.
pub(crate) const SWITCH: Takes = Takes::Word(&["true", "false"]);

/// A knob and how it is set, for people and programs.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Row {
    /// Its name.
    pub(crate) name: String,
    /// What it is set to, if it is.
    pub(crate) value: Option<String>,
    /// What it can be set to.
    pub(crate) takes: String,
    /// What it does then.
    pub(crate) about: String,
}

/// All knobs of a board, in the form in which they travel.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Rows {
    /// Each with its value.
    pub(crate) faults: Vec<Row>,
}

/// Why a knob is not turned: a sentence for whoever tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, Json(json!({ "error": self.0 }))).into_response()
    }
}

impl fmt::Display for Takes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Takes::Duration => f.write_str("a duration such as 250ms, 5s or 1m"),
            Takes::Fraction => f.write_str("a fraction from 0 to 1"),
            Takes::Count => f.write_str("a whole number"),
            Takes::Word(words) => f.write_str(&words.join(" or ")),
        }
    }
}

impl Takes {
    fn accepts(self, value: &str) -> bool {
        match self {
            Takes::Duration => duration::parse(value).is_some(),
            Takes::Fraction => value.parse().is_ok_and(|it| (0.0..=1.0).contains(&it)),
            Takes::Count => value.parse::<u32>().is_ok(),
            Takes::Word(words) => words.contains(&value),
        }
    }
}

/// Knobs and how they are set. Clones are the same board.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    knobs: &'static [Knob],
    values: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

impl Board {
    /// Nothing is set.
    pub(crate) fn new(knobs: &'static [Knob]) -> Board {
        Board { knobs, values: Arc::default() }
    }

    /// Whether it has a knob of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.knobs.iter().any(|knob| knob.name == name)
    }

    /// Sets a knob.
    pub(crate) fn set(&self, name: &str, value: &str) -> Result<(), Refused> {
        let (knob, value) = (self.knob(name)?, value.trim());
        if !knob.takes.accepts(value) {
            return Err(Refused(format!("{name} takes {}, not {value:?}", knob.takes)));
        }
        self.values().insert(knob.name, value.to_owned());
        Ok(())
    }

    /// Takes back what was set.
    pub(crate) fn clear(&self, name: &str) -> Result<(), Refused> {
        let knob = self.knob(name)?;
        self.values().remove(knob.name);
        Ok(())
    }

    /// Takes back everything.
    pub(crate) fn clear_all(&self) {
        self.values().clear();
    }

    /// One knob and how it is set.
    pub(crate) fn row(&self, name: &str) -> Result<Row, Refused> {
        self.knob(name).map(|knob| self.row_of(knob))
    }

    /// All knobs and how they are set.
    pub(crate) fn rows(&self) -> Rows {
        Rows { faults: self.knobs.iter().map(|knob| self.row_of(knob)).collect() }
    }

    /// What a knob is set to, if it is.
    pub(crate) fn value(&self, knob: &Knob) -> Option<String> {
        self.values().get(knob.name).cloned()
    }

    /// How long.
    pub(crate) fn duration(&self, knob: &Knob) -> Duration {
        self.value(knob).and_then(|value| duration::parse(&value)).unwrap_or_default()
    }

    /// How often; never, when it is not set.
    pub(crate) fn fraction(&self, knob: &Knob) -> f64 {
        self.value(knob).and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    /// How many times, when it is set.
    pub(crate) fn count(&self, knob: &Knob) -> Option<u32> {
        self.value(knob)?.parse().ok()
    }

    /// Whether it is set to anything but `false`.
    pub(crate) fn is_on(&self, knob: &Knob) -> bool {
        self.value(knob).is_some_and(|value| value != "false")
    }

    fn knob(&self, name: &str) -> Result<&'static Knob, Refused> {
        let found = self.knobs.iter().find(|knob| knob.name == name);
        found.ok_or_else(|| unknown(name, self.knobs))
    }

    fn row_of(&self, knob: &'static Knob) -> Row {
        Row {
            name: knob.name.to_owned(),
            value: self.value(knob),
            takes: knob.takes.to_string(),
            about: knob.about.to_owned(),
        }
    }

    fn values(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        // No code panics while it holds this lock.
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sentence about a fault that there is not.
pub(crate) fn unknown<'a>(name: &str, knobs: impl IntoIterator<Item = &'a Knob>) -> Refused {
    let known: Vec<&str> = knobs.into_iter().map(|knob| knob.name).collect();
    Refused(format!("there is no fault {name:?}: there are {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Knob = Knob { name: "it.slow", takes: Takes::Duration, about: "waits" };
    const OFTEN: Knob = Knob { name: "it.often", takes: Takes::Fraction, about: "fails" };
    const TIMES: Knob = Knob { name: "it.times", takes: Takes::Count, about: "repeats" };
    const DOWN: Knob = Knob { name: "it.down", takes: SWITCH, about: "is away" };
    const KNOBS: [Knob; 4] = [SLOW, OFTEN, TIMES, DOWN];

    #[test]
    fn what_is_set_is_read_until_it_is_cleared() {
        let board = Board::new(&KNOBS);
        for (name, value) in
            [("it.slow", "2s"), ("it.often", "0.25"), ("it.times", "3"), ("it.down", " true\n")]
        {
            board.set(name, value).expect("accepted");
        }
        assert_eq!(board.duration(&SLOW), Duration::from_secs(2));
        assert_eq!((board.fraction(&OFTEN), board.count(&TIMES)), (0.25, Some(3)));
        assert!(board.is_on(&DOWN));
        assert_eq!(board.row("it.down").expect("there").value.as_deref(), Some("true"));

        board.clear("it.down").expect("there");
        board.set("it.slow", "0s").expect("accepted");
        assert_eq!((board.is_on(&DOWN), board.duration(&SLOW)), (false, Duration::ZERO));
        board.clear_all();
        assert!(board.rows().faults.iter().all(|row| row.value.is_none()));
        assert_eq!((board.fraction(&OFTEN), board.count(&TIMES)), (0.0, None));
    }

    #[test]
    fn what_makes_no_sense_is_explained() {
        let board = Board::new(&KNOBS);
        for (name, value, why) in [
            ("it.slow", "fast", "it.slow takes a duration such as 250ms, 5s or 1m, not \"fast\""),
            ("it.often", "1.5", "it.often takes a fraction from 0 to 1, not \"1.5\""),
            ("it.often", "NaN", "it.often takes a fraction from 0 to 1, not \"NaN\""),
            ("it.times", "-1", "it.times takes a whole number, not \"-1\""),
            ("it.down", "", "it.down takes true or false, not \"\""),
            (
                "it.up",
                "1",
                "there is no fault \"it.up\": there are it.slow, it.often, it.times, it.down",
            ),
        ] {
            assert_eq!(board.set(name, value), Err(Refused(why.to_owned())));
        }
        assert!(board.clear("it.up").is_err() && board.row("it.up").is_err());
    }
}
