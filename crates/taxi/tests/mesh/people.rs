//! The people of the tests, and what they say to the mesh.

use std::time::Duration;

use proto::allocation::v1::allocation::State;
use proto::allocation::v1::{
    Allocation, CancelAllocationRequest, GetAllocationRequest, RequestAllocationRequest,
};
use proto::dashboard::v1::{DrivingInfo, GetDrivingInfoRequest};
use proto::driving::v1::{
    AcceptDrivingRequest, Driving, FinishDrivingRequest, ListDrivingsRequest, StartDrivingRequest,
};
use proto::message::v1::{ListMessagesRequest, Message};
use proto::payment::v1::{ListPaymentsRequest, Payment};
use proto::r#type::v1::Place;
use testkit::{
    AllocationClient, Backing, DashboardClient, DrivingClient, Mesh, MessageClient, PaymentClient,
    Role, eventually,
};
use tonic::{Code, Request, Response, Status};

/// How long anything may take that has to happen eventually.
pub(crate) const SOON: Duration = Duration::from_secs(15);

pub(crate) async fn dev(backing: Backing) -> Mesh {
    Mesh::start(env!("CARGO_BIN_EXE_taxi"), backing).await
}

/// With settings of its own, as they are written in a configuration file.
pub(crate) async fn dev_with(backing: Backing, settings: &str) -> Mesh {
    let files = tempfile::tempdir().expect("a directory");
    let file = files.path().join("taxi.toml");
    std::fs::write(&file, settings).expect("written");
    let arguments = ["--config", file.to_str().expect("text")];
    Mesh::start_with(env!("CARGO_BIN_EXE_taxi"), backing, &arguments).await
}

pub(crate) async fn serve() -> Mesh {
    Mesh::serve(env!("CARGO_BIN_EXE_taxi")).await
}

/// The stable reason of a refusal.
pub(crate) fn reason(status: &Status) -> String {
    platform::status::reason(status).unwrap_or_else(|| format!("no reason in {status:?}"))
}

/// Code and reason of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.expect_err("refused");
    (status.code(), reason(&status))
}

/// The token that names what a command wrote.
pub(crate) fn consistency_token<T>(answer: &Response<T>) -> String {
    let token = answer.metadata().get("x-taxi-consistency-token").expect("every command has one");
    token.to_str().expect("ascii").to_owned()
}

/// A customer with a phone.
pub(crate) struct Customer {
    pub(crate) name: String,
    pub(crate) allocations: AllocationClient,
    pub(crate) dashboard: DashboardClient,
    pub(crate) messages: MessageClient,
    pub(crate) payments: PaymentClient,
}

impl Customer {
    pub(crate) async fn new(mesh: &Mesh, subject: &str) -> Customer {
        let token = mesh.token(Role::Customer, subject).await;
        Customer {
            name: kernel::CustomerId::from_subject(subject).to_string(),
            allocations: mesh.allocation(&token),
            dashboard: mesh.dashboard(&token),
            messages: mesh.message(&token),
            payments: mesh.payment(&token),
        }
    }

    pub(crate) async fn request(&mut self) -> Allocation {
        self.ask(wish("Misa")).await.expect("a car is asked for").into_inner()
    }

    pub(crate) async fn ask(
        &mut self,
        request: RequestAllocationRequest,
    ) -> Result<Response<Allocation>, Status> {
        self.allocations.request_allocation(request).await
    }

    pub(crate) async fn cancel(&mut self, name: &str) -> Result<Allocation, Status> {
        let request = CancelAllocationRequest {
            name: name.to_owned(),
            reason: "changed my mind".to_owned(),
            ..Default::default()
        };
        self.allocations.cancel_allocation(request).await.map(Response::into_inner)
    }

    pub(crate) async fn allocation(&self, name: &str) -> Allocation {
        let request = GetAllocationRequest { name: name.to_owned() };
        let mut client = self.allocations.clone();
        client.get_allocation(request).await.expect("it is theirs").into_inner()
    }

    pub(crate) async fn sees(&self, name: &str, state: State) -> Allocation {
        eventually(SOON, || async {
            let allocation = self.allocation(name).await;
            if allocation.state() == state { Ok(allocation) } else { Err(allocation.state()) }
        })
        .await
    }

    /// What the dashboard says, at least as new as the token.
    pub(crate) async fn info(&self, allocation: &str, token: &str) -> DrivingInfo {
        let request = GetDrivingInfoRequest {
            name: allocation.replace("allocations/", "drivingInfos/"),
            consistency_token: token.to_owned(),
        };
        let mut client = self.dashboard.clone();
        client.get_driving_info(request).await.expect("the view catches up").into_inner()
    }

    pub(crate) async fn messages(&self) -> Vec<Message> {
        let request = ListMessagesRequest { parent: self.name.clone(), ..Default::default() };
        let mut client = self.messages.clone();
        let answer = client.list_messages(request).await.expect("the inbox answers");
        answer.into_inner().messages
    }

    pub(crate) async fn payments(&self) -> Vec<Payment> {
        let mut client = self.payments.clone();
        let answer = client.list_payments(ListPaymentsRequest::default()).await;
        answer.expect("payments answer").into_inner().payments
    }
}

/// A driver with a phone.
#[derive(Clone)]
pub(crate) struct Driver {
    pub(crate) name: String,
    pub(crate) drivings: DrivingClient,
}

impl Driver {
    pub(crate) async fn new(mesh: &Mesh, subject: &str) -> Driver {
        let token = mesh.token(Role::Driver, subject).await;
        Driver {
            name: kernel::DriverId::from_subject(subject).to_string(),
            drivings: mesh.driving(&token),
        }
    }

    /// The open driving of this allocation, as soon as the driver sees it.
    pub(crate) async fn finds(&self, allocation: &str) -> Driving {
        eventually(SOON, || async {
            let seen = self.list().await;
            let found = seen.iter().find(|driving| driving.allocation == allocation).cloned();
            found.ok_or_else(|| format!("{} others", seen.len()))
        })
        .await
    }

    pub(crate) async fn list(&self) -> Vec<Driving> {
        let mut client = self.drivings.clone();
        let answer = client.list_drivings(ListDrivingsRequest::default()).await;
        answer.expect("drivings answer").into_inner().drivings
    }

    pub(crate) async fn accept(&self, name: &str) -> Result<Response<Driving>, Status> {
        let request = AcceptDrivingRequest { name: name.to_owned(), ..Default::default() };
        self.drivings.clone().accept_driving(request).await
    }

    pub(crate) async fn start(&self, name: &str) -> Result<Response<Driving>, Status> {
        let request = StartDrivingRequest { name: name.to_owned(), ..Default::default() };
        self.drivings.clone().start_driving(request).await
    }

    pub(crate) async fn finish(&self, name: &str) -> Result<Response<Driving>, Status> {
        let request = FinishDrivingRequest { name: name.to_owned(), ..Default::default() };
        self.drivings.clone().finish_driving(request).await
    }
}

/// A request for a car to this address.
pub(crate) fn wish(address: &str) -> RequestAllocationRequest {
    let destination = Some(Place { address: address.to_owned(), location: None });
    RequestAllocationRequest {
        allocation: Some(Allocation { destination, ..Default::default() }),
        request_id: String::new(),
    }
}

/// With metadata, as in an HTTP header.
pub(crate) fn with<T>(message: T, name: &'static str, value: &'static str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(name, value.parse().expect("ascii"));
    request
}
