//! Whether the broker stores anything.
//!
//! A broker whose disk is full answers all the same, and as long as no event comes nobody here would
//! notice. So something is stored now and then, larger than any message; what comes of it is what
//! readiness says.

use std::time::Duration;

use platform::broker::Broker;
use platform::shutdown::Shutdown;

use crate::Config;
use crate::bucket::Bucket;

/// How often something is stored while all is well,
const CALM: Duration = Duration::from_secs(5);
/// and while it is not.
const TROUBLED: Duration = Duration::from_secs(1);
/// More than the longest message has.
const SIZE: usize = 2048;

/// Stores something now and then, until the end.
pub(crate) async fn run(broker: Broker, config: Config, tasks: Shutdown) {
    let bucket = Bucket::new(broker.clone(), format!("{}_PROBE", config.bucket));
    loop {
        // Without a connection there is nothing to find out.
        let stored = match broker.is_connected() {
            true => bucket.put("probe", vec![0; SIZE].into()).await.is_ok(),
            false => false,
        };
        tokio::select! {
            () = tasks.cancelled() => return,
            () = tokio::time::sleep(if stored { CALM } else { TROUBLED }) => {}
        }
    }
}
