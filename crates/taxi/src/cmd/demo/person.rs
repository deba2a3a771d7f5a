//! Somebody with a token who calls the public API the way a good client does.
//!
//! A command has a request id, which stays the same in each try, a deadline for each try, and
//! patience for all of them; a server that says when to come back is listened to.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kernel::{CustomerId, DriverId, Role};
use platform::status::{reason, retry_after};
use proto::allocation::v1::allocation_service_client::AllocationServiceClient;
use proto::dashboard::v1::dashboard_service_client::DashboardServiceClient;
use proto::driving::v1::driving_service_client::DrivingServiceClient;
use proto::message::v1::message_service_client::MessageServiceClient;
use proto::payment::v1::payment_service_client::PaymentServiceClient;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tonic::body::Body;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Request, Response, Status};
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

use super::ledger::Call;
use super::places::Lang;
use crate::cmd::token;
use crate::exit::Exit;
use crate::ready::Ready;

/// How long one try may take on an idle machine; a cancel alone may wait three seconds for its
/// decision.
const TRY: Duration = Duration::from_secs(5);
/// How long it may take on any machine.
const LONGEST_TRY: Duration = Duration::from_secs(15);
/// For how long a command is tried.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause before the second try; it doubles
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a token is used. It lives longer.
const TOKEN_USE: Duration = Duration::from_secs(30 * 60);

/// How a service is reached.
type Channel = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Status>;

/// The services of the mesh.
#[derive(Clone, Debug)]
pub(super) struct Services {
    /// Asking for cars.
    pub(super) allocation: AllocationServiceClient<Channel>,
    /// Driving.
    pub(super) driving: DrivingServiceClient<Channel>,
    /// Paying.
    pub(super) payment: PaymentServiceClient<Channel>,
    /// Looking.
    pub(super) dashboard: DashboardServiceClient<Channel>,
    /// Being told.
    pub(super) message: MessageServiceClient<Channel>,
}

impl Services {
    /// New connections to a mesh, made when they are first used.
    pub(super) fn of(mesh: &Ready) -> Result<Services, Exit> {
        let to = |context: &str| {
            let address = mesh.grpc.get(context).ok_or_else(|| {
                let all = "a demo needs a whole mesh, such as that of `taxi dev`";
                Exit::unavailable(format!("the ready file does not name {context}: {all}"))
            })?;
            let channel = mesh
                .trust
                .balanced(address)
                .map_err(|error| Exit::config(format!("the address of {context}: {error}")))?;
            Ok::<_, Exit>(Channel::new(channel.map_err(Status::from_error)))
        };
        Ok(Services {
            allocation: AllocationServiceClient::new(to("allocation")?),
            driving: DrivingServiceClient::new(to("driving")?),
            payment: PaymentServiceClient::new(to("payment")?),
            dashboard: DashboardServiceClient::new(to("dashboard")?),
            message: MessageServiceClient::new(to("message")?),
        })
    }
}

/// How people call, and how many calls they have made.
#[derive(Debug)]
pub(super) struct Calls {
    /// How long a try may take.
    one_try: Duration,
    made: AtomicUsize,
    failed: AtomicUsize,
}

impl Calls {
    /// None yet, on a machine that is so many times slower than an idle one.
    pub(super) fn new(slack: u32) -> Calls {
        let one_try = TRY.saturating_mul(slack).min(LONGEST_TRY);
        Calls { one_try, made: AtomicUsize::new(0), failed: AtomicUsize::new(0) }
    }

    /// All of them.
    pub(super) fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    /// Those that had no answer, or one that says to try again.
    pub(super) fn failed(&self) -> usize {
        self.failed.load(Ordering::Relaxed)
    }

    fn note<T>(&self, answer: &Result<T, Status>) {
        self.made.fetch_add(1, Ordering::Relaxed);
        if let Err(status) = answer
            && may_pass(status)
        {
            self.failed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!("a call failed: {}", said(status));
        }
    }
}

/// An answer, what the command wrote, and how long that took.
#[derive(Debug)]
pub(super) struct Answer<T> {
    /// The answer.
    pub(super) body: T,
    /// The consistency token; empty when nothing was written.
    pub(super) wrote: String,
    /// How long it took to get it.
    pub(super) call: Call,
}

/// Somebody.
#[derive(Debug)]
pub(super) struct Person {
    subject: String,
    role: Role,
    language: Lang,
    mesh: Arc<Ready>,
    services: Services,
    calls: Arc<Calls>,
    token: Mutex<Option<(AsciiMetadataValue, Instant)>>,
}

impl Person {
    /// Somebody who will get a token when they need it.
    pub(super) fn new(
        role: Role,
        subject: String,
        language: Lang,
        mesh: Arc<Ready>,
        services: Services,
        calls: Arc<Calls>,
    ) -> Person {
        Person { subject, role, language, mesh, services, calls, token: Mutex::new(None) }
    }

    /// Their resource name, as customers and drivers have one.
    pub(super) fn name(&self) -> String {
        match self.role {
            Role::Customer => CustomerId::from_subject(&*self.subject).to_string(),
            Role::Driver => DriverId::from_subject(&*self.subject).to_string(),
            Role::Operator | Role::Service => self.subject.clone(),
        }
    }

    /// Gets a token, so that the first call is not slower than the others.
    pub(super) async fn arrive(&self) -> Result<(), Exit> {
        self.authorization().await.map(drop)
    }

    /// Asks until there is an answer that another try would not change, or patience is over.
    pub(super) async fn call<M, T, F>(
        &self,
        message: M,
        send: impl Fn(Services, Request<M>) -> F,
    ) -> Result<Answer<T>, Status>
    where
        M: Clone,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut tries = 0;
        loop {
            tries += 1;
            let status = match self.once(message.clone(), &send).await {
                Ok(response) => {
                    return Ok(answer(response, Call { began, took: began.elapsed(), tries }));
                }
                Err(status) => status,
            };
            let wait = retry_after(&status).unwrap_or(pause);
            if !may_pass(&status) || began.elapsed() + wait >= PATIENCE {
                return Err(status);
            }
            sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Asks once, and waits at most for the time of one try.
    pub(super) async fn once<M, T, F>(
        &self,
        message: M,
        send: impl Fn(Services, Request<M>) -> F,
    ) -> Result<Response<T>, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut request = self.request(message).await?;
        let most = self.calls.one_try;
        request.set_timeout(most);
        let late = |_| Err(Status::deadline_exceeded(format!("no answer within {most:?}")));
        let answer = timeout(most, send(self.services.clone(), request)).await.unwrap_or_else(late);
        self.calls.note(&answer);
        answer
    }

    /// Opens a stream, which has no deadline: it lives for as long as it is read.
    pub(super) async fn watch<M, T, F>(
        &self,
        message: M,
        send: impl Fn(Services, Request<M>) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let request = self.request(message).await?;
        send(self.services.clone(), request).await.map(Response::into_inner)
    }

    async fn request<M>(&self, message: M) -> Result<Request<M>, Status> {
        let mut request = Request::new(message);
        let token = self.authorization().await;
        let token = token.map_err(|exit| Status::unavailable(exit.to_string()))?;
        request.metadata_mut().insert("authorization", token);
        let language = AsciiMetadataValue::from_static(self.language.tag());
        request.metadata_mut().insert("accept-language", language);
        Ok(request)
    }

    async fn authorization(&self) -> Result<AsciiMetadataValue, Exit> {
        let mut token = self.token.lock().await;
        if let Some((value, since)) = &*token
            && since.elapsed() < TOKEN_USE
        {
            return Ok(value.clone());
        }
        let granted = token::issue(&self.mesh, self.role.as_str(), &self.subject).await?;
        let value = AsciiMetadataValue::try_from(format!("Bearer {}", granted.access_token));
        let value = value.map_err(|_| Exit::failed("the issuer's token cannot be in a header"))?;
        *token = Some((value.clone(), Instant::now()));
        Ok(value)
    }
}

fn answer<T>(response: Response<T>, call: Call) -> Answer<T> {
    let wrote = response.metadata().get(platform::call::CONSISTENCY_TOKEN_HEADER);
    let wrote = wrote.and_then(|token| token.to_str().ok()).unwrap_or_default().to_owned();
    Answer { body: response.into_inner(), wrote, call }
}

/// Whether another try may fare better. Everything we ask is safe to repeat, so what is known is
/// only that INTERNAL and the refusals of the domain stay what they are.
fn may_pass(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => true,
        Code::ResourceExhausted => retry_after(status).is_some(),
        _ => false,
    }
}

/// A refusal on one line: code, reason, message.
pub(super) fn said(status: &Status) -> String {
    let reason = reason(status).unwrap_or_else(|| "without a reason".to_owned());
    format!("{:?} {reason}: {}", status.code(), status.message())
}

#[cfg(test)]
mod tests {
    use kernel::Rejection;
    use platform::status::status;

    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert!(may_pass(&status(Rejection::unavailable("STORE_UNAVAILABLE", "away"))));
        assert!(may_pass(&status(Rejection::exhausted("OVERLOADED", "busy"))));
        assert!(may_pass(&Status::deadline_exceeded("late")));
        assert!(!may_pass(&Status::resource_exhausted("too large, for ever")));
        assert!(!may_pass(&status(Rejection::precondition("ALREADY_ACCEPTED", "too late"))));
        assert!(!may_pass(&Status::internal("a defect")));
    }

    #[test]
    fn a_refusal_is_one_line() {
        let refused = status(Rejection::precondition("DRIVER_BUSY", "you have a ride"));
        assert_eq!(said(&refused), "FailedPrecondition DRIVER_BUSY: you have a ride");
        assert_eq!(said(&Status::internal("x")), "Internal without a reason: x");
    }
}
