//! What a mesh may have more of: replicas of a context, and a gateway of its own.

use super::{Mesh, orderly};
use crate::process::free_port;

const GATEWAY: &str = "gateway";

/// What a process serves: a context, whose further replicas are called after it, or the gateway.
pub(super) fn part(process: &str) -> &str {
    process.split_once('-').map_or(process, |(part, _)| part)
}

impl Mesh {
    /// Plans a further replica of a context, or a gateway, on a port of its own. Its name, to start,
    /// stop and kill it by, and its address.
    ///
    /// # Panics
    /// When there is no port.
    pub fn plan_replica(&mut self, context: &str) -> (String, String) {
        let port = orderly(free_port()).to_string();
        let name = format!("{context}-{port}");
        self.set(&name, &format!("TAXI_LISTEN__{}", context.to_uppercase()), &port);
        (name, format!("127.0.0.1:{port}"))
    }

    /// Starts a further replica of a context of [`Mesh::serve`]. Its name and its address, as
    /// [`Mesh::plan_replica`] gives them.
    ///
    /// # Panics
    /// When it does not come up; with what it printed.
    pub async fn start_replica(&mut self, context: &str) -> (String, String) {
        let replica = self.plan_replica(context);
        self.start_context(&replica.0).await;
        replica
    }

    /// Starts a gateway in front of a mesh of [`Mesh::serve`], in a process called `gateway`. Its base
    /// address.
    ///
    /// # Panics
    /// When it does not come up; with what it printed.
    pub async fn start_gateway(&mut self) -> String {
        let port = orderly(free_port()).to_string();
        self.set(GATEWAY, "TAXI_LISTEN__GATEWAY", &port);
        self.start_context(GATEWAY).await;
        format!("http://127.0.0.1:{port}")
    }
}
