//! Adapters written once, for every context; not a word of the taxi domain.
//!
//! | module | is |
//! |---|---|
//! | [`store`] | aggregates in a relational database: row, events and cause in one transaction |
//! | [`outbox`] | events on their way out: the table and the relay that publishes it |
//! | [`consumer`] | events on their way in, for policies with an effect |
//! | [`projection`] | events on their way in, for views with a checkpoint |
//! | [`rebuild`] | a view folded once more beside the live one, compared, and put right |
//! | [`server`], [`client`] | the gRPC stacks, each a list you can read |
//! | [`breaker`] | who keeps failing is left alone for a moment |
//! | [`status`] | the one table from kinds of rejection to gRPC and HTTP |
//! | [`auth`], [`issuer`] | who calls; the development identity provider |
//! | [`tls`] | ports and calls that nobody can listen in on, by certificates that are replaced |
//! | [`webhooks`] | plain HTTP from strangers: who signed it |
//! | [`config`], [`telemetry`], [`shutdown`] | start strict, stop clean |
//! | [`metrics`], [`backlog`] | what is counted, and what is measured when somebody collects it |
//! | [`context`] | what the composition root hands to a context |
//! | [`nats_server`], [`leash`] | a broker of our own for development, which never outlives us |

pub mod auth;
pub mod backlog;
pub mod breaker;
pub mod broker;
pub mod call;
pub mod client;
pub mod clock;
pub mod config;
pub mod consumer;
pub mod context;
pub mod db;
pub mod issuer;
pub mod lease;
pub mod leash;
pub mod metrics;
pub mod nats_server;
pub mod outbox;
pub mod page;
pub mod parked;
pub mod projection;
pub mod rebuild;
pub mod server;
pub mod shutdown;
pub mod status;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod webhooks;
