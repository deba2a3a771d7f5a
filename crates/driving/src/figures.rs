//! How many drivings wait for a driver or are under way, for whoever collects metrics.

use platform::metrics::Figure;
use sea_orm::Statement;

/// The states that are not final.
const OPEN: [&str; 3] = ["APPROVED", "REQUESTED", "STARTED"];

/// All of them.
pub(crate) fn figures() -> Vec<Figure> {
    let sql = "SELECT state, count(*) FROM driving \
               WHERE state = 'REQUESTED' OR active_driver IS NOT NULL GROUP BY state";
    vec![Figure::counts(
        ("taxi.drivings.open", "{driving}"),
        "Drivings that are not final",
        ("state", &OPEN),
        Box::new(move |backend, _| Statement::from_string(backend, sql)),
    )]
}
