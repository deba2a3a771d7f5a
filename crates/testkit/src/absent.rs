//! A broker that is not there, for tests of a context on its own.

use platform::broker::{Broker, BrokerConfig};

/// A connection to a port on which nobody listens: events stay in the outbox, where a test reads them.
pub async fn absent_broker(context: &str) -> Broker {
    let config = BrokerConfig {
        url: "nats://127.0.0.1:9".to_owned(),
        stream: "TAXI_EVENTS".to_owned(),
        prefix: "taxi.events".to_owned(),
        shards: 8,
        replicas: 1,
    };
    match Broker::connect(config, context).await {
        Ok(broker) => broker,
        Err(error) => panic!("a connection that need not be made: {error}"),
    }
}
