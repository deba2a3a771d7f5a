//! How many customers wait, for whoever collects metrics.

use platform::metrics::Figure;
use sea_orm::Statement;

/// The states that are not final.
const OPEN: [&str; 4] = ["APPROVED", "CANCELLING", "DRIVING_STARTED", "REQUESTED"];

/// All of them.
pub(crate) fn figures() -> Vec<Figure> {
    let sql = "SELECT state, count(*) FROM allocation WHERE open_slot IS NOT NULL GROUP BY state";
    vec![Figure::counts(
        ("taxi.allocations.open", "{allocation}"),
        "Allocations that are not final",
        ("state", &OPEN),
        Box::new(move |backend, _| Statement::from_string(backend, sql)),
    )]
}
