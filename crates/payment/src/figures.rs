//! What is outstanding, for whoever collects metrics.

use kernel::Timestamp;
use platform::metrics::Figure;
use sea_orm::{DbBackend, Statement};

/// The states in which somebody has to look after a payment; a refund under way leaves it as it is.
const OPEN: [&str; 6] = ["APPROVED", "DEFERRED", "IN_FLIGHT", "REFUNDED", "REQUESTED", "UNKNOWN"];

/// All of them.
pub(crate) fn figures() -> Vec<Figure> {
    let open = |backend, _| {
        let sql = "SELECT state, count(*) FROM payment WHERE due_time IS NOT NULL GROUP BY state";
        Statement::from_string(backend, sql)
    };
    vec![
        Figure::counts(
            ("taxi.payments.open", "{payment}"),
            "Payments and refunds that have not come to an end",
            ("state", &OPEN),
            Box::new(open),
        ),
        Figure::count(
            ("taxi.payments.due", "{payment}"),
            "Payments whose next attempt is due",
            Box::new(|backend, now| due(backend, now, "count(*)")),
        ),
        Figure::age(
            "taxi.payments.due.age",
            "How long the oldest of them has been due",
            Box::new(|backend, now| due(backend, now, "min(due_time)")),
        ),
    ]
}

fn due(backend: DbBackend, now: Timestamp, what: &str) -> Statement {
    let sql = format!("SELECT {what} FROM payment WHERE due_time <= {}", now.micros());
    Statement::from_string(backend, sql)
}
