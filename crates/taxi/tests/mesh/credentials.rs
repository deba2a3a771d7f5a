//! A broker that asks who is there.

use std::process::Stdio;

use platform::broker::{Broker, BrokerConfig};
use testkit::{eventually, free_port, nats_server_binary};
use tokio::process::Command;

use crate::people::SOON;

async fn connected(url: String) -> Broker {
    let config = BrokerConfig {
        url,
        stream: "TAXI_EVENTS".to_owned(),
        prefix: "taxi.events".to_owned(),
        shards: 8,
        replicas: 1,
    };
    Broker::connect(config, "test").await.expect("a good address")
}

#[tokio::test]
async fn the_address_of_the_broker_says_who_we_are() {
    let port = free_port().expect("a port");
    let binary = nats_server_binary().unwrap_or_else(|| "nats-server".into());
    let _server = Command::new(binary)
        .args(["-a", "127.0.0.1", "-p", &port.to_string(), "--user", "taxi", "--pass", "p@ss/word"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("starts");
    let broker = connected(format!("nats://taxi:p%40ss%2Fword@127.0.0.1:{port}")).await;
    eventually(SOON, || async { if broker.is_connected() { Ok(()) } else { Err("refused") } })
        .await;
}
