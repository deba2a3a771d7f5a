//! 현황 (dashboard): which ride stands where. Supporting, CQRS: it decides nothing, it folds.
//!
//! | in | from | makes of the ride |
//! |---|---|---|
//! | `AllocationRequested`, `..CancelRequested`, `..Cancelled`, `..Expired` | allocation | `alloc_status`, who and where |
//! | `DrivingOpened`, `..Approved`, `..Started`, `..Finished`, `..Cancelled`, `..CancelRejected`, `..PaymentSettled` | driving | `driving_status`, and `alloc_status` with it; driver, times, fee |
//! | `PaymentApproved`, `..Deferred`, `..Declined`, `..Refunded` | payment | `payment_status` |
//!
//! Every event is also one entry of the ride's timeline. An event of a kind nobody here knows is
//! passed over, so that a newer neighbour can speak first.
//!
//! Queries: `GetDrivingInfo`, `ListDrivingInfos`, `WatchDrivingInfos`, `GetSummary`. Customers and
//! drivers see their own rides, operators all, and what a caller may not see is not found. All of
//! them answer from this context's own table and nothing else.
//!
//! What holds:
//! - one row a ride, keyed by the allocation's id, which is also the correlation id of its events;
//! - a row never goes backwards: of each aggregate an event counts only when its version is newer;
//! - the order across aggregates does not matter: a stream that was restored may have another one;
//! - view = fold(stream): emptied and folded again from the beginning it is the same;
//! - every answer says how far the view was (`as_of`), and whoever brings the token of what they
//!   wrote waits until the view contains it, or reads `VIEW_BEHIND`.
//!
//! When others are down: without a neighbour, its part of each ride stands still and nothing else
//! happens; without the broker the view answers on, and `as_of.age` grows; without the database it
//! answers UNAVAILABLE and catches up later from its checkpoint. Nobody waits for this context.
//!
//! Files: `view` folds · `projection` feeds it · `rebuild` checks it · `query` reads · `grpc` speaks ·
//! `entity` and `migration` are the table.

mod entity;
mod figures;
mod grpc;
mod migration;
mod projection;
mod query;
mod rebuild;
#[cfg(test)]
mod tests;
mod view;

use std::time::Duration;

use platform::config::duration;
use platform::context::Context;
use platform::metrics::Figure;
use platform::projection::Projection;
use platform::server::{MAX_MESSAGE_BYTES, Routes};
use proto::dashboard::v1::dashboard_service_server::DashboardServiceServer;
use serde::{Deserialize, Serialize};

use self::grpc::Dashboard;
pub use self::migration::Migrations;
use self::projection::DrivingInfos;
use self::query::Queries;
pub use self::rebuild::rebuild;

/// The context's name.
pub const NAME: &str = "dashboard";

/// What can be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A ride that should have moved and has not for this long counts as stuck.
    #[serde(with = "duration")]
    pub stuck_after: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config { stuck_after: Duration::from_secs(300) }
    }
}

/// What stands in its table, for whoever collects metrics.
pub fn figures(config: &Config) -> Vec<Figure> {
    figures::figures(config.stuck_after)
}

/// Starts to fold, and offers the queries.
pub fn start(cx: &Context, config: Config) -> Routes {
    let projection = Projection::new(
        NAME,
        cx.broker.clone(),
        cx.db.clone(),
        cx.clock.clone(),
        cx.shards("projection"),
        DrivingInfos { broker: cx.broker.clone() },
    );
    let queries = Queries {
        db: cx.db.clone(),
        clock: cx.clock.clone(),
        freshness: projection.freshness(),
        tasks: cx.tasks.clone(),
        stuck_after: config.stuck_after,
    };
    cx.tasks.spawn("projection", projection.run(cx.tasks.clone()));
    let service = DashboardServiceServer::new(Dashboard::new(queries))
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    Routes::new(NAME).service(service, grpc::ACCESS)
}
