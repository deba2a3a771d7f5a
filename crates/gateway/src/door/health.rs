//! `grpc.health.v1` of the door: the overall health is the door's own, a service's is what its
//! upstream says. A service that cannot be reached is not serving.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, stream};
use kernel::Rejection;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tower::service_fn;

use crate::upstream::{Terms, Upstream, Upstreams};

/// How long an upstream is asked.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often somebody is asked on behalf of a watcher.
const PERIOD: Duration = Duration::from_secs(1);

/// Who knows how everybody is.
#[derive(Clone)]
pub(super) struct Doctor {
    upstreams: Upstreams,
    serving: watch::Receiver<bool>,
}

impl Doctor {
    pub(super) fn new(upstreams: Upstreams, serving: watch::Receiver<bool>) -> Doctor {
        Doctor { upstreams, serving }
    }

    /// How a service is; `None` when there is no such.
    async fn look(&self, service: &str) -> Option<ServingStatus> {
        if service.is_empty() {
            return Some(told(*self.serving.borrow()));
        }
        Some(ask(self.upstreams.of(service)?, service).await)
    }

    /// How a service is, for who watches: also that it is unknown.
    async fn see(&self, service: &str) -> ServingStatus {
        self.look(service).await.unwrap_or(ServingStatus::ServiceUnknown)
    }
}

fn told(serving: bool) -> ServingStatus {
    if serving { ServingStatus::Serving } else { ServingStatus::NotServing }
}

async fn ask(upstream: &Upstream, service: &str) -> ServingStatus {
    let channel = service_fn(|request| {
        let by = Instant::now() + PATIENCE;
        let terms = Terms { answer_by: by, end_by: Some(by), draining: None, slot: None };
        upstream.clone().send(request, terms)
    });
    let question = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel).check(question).await;
    answer.map_or(ServingStatus::NotServing, |answer| answer.into_inner().status())
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for Doctor {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = self.look(&request.get_ref().service).await;
        let unknown = || {
            let message = "no such service is behind this door".to_owned();
            let rejection = Rejection::not_found("UNKNOWN_SERVICE", "service");
            platform::status::status(Rejection { message, ..rejection })
        };
        Ok(Response::new(response(status.ok_or_else(unknown)?)))
    }

    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (doctor, service) = (self.clone(), request.into_inner().service);
        let changes =
            stream::unfold((doctor, service, None), |(doctor, service, last)| async move {
                let mut seen = doctor.see(&service).await;
                while last == Some(seen) {
                    sleep(PERIOD).await;
                    seen = doctor.see(&service).await;
                }
                Some((Ok(response(seen)), (doctor, service, Some(seen))))
            });
        Ok(Response::new(Box::pin(changes)))
    }
}
