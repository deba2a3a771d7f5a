//! The inbound adapter for gRPC.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kernel::{
    Actor, Aggregate, AllocationId, Clock, CustomerId, Failure, Recorded, Rejection, Role,
};
use platform::auth::Access;
use platform::call::{Call, consistency_token, reply};
use platform::page::{next_page_token, page_request};
use platform::server::{MAX_MESSAGE_BYTES, Routes};
use platform::status::status;
use platform::store::{resume_token, resumed_after};
use proto::allocation::v1 as wire;
use proto::words;
use tonic::{Request, Response, Status};
use wire::allocation::State as WireState;
use wire::allocation_service_server::{AllocationService, AllocationServiceServer};

use crate::app::Allocations;
use crate::domain::{Allocation, Filter, Language, State, Wish};

const ACCESS: Access = Access(&[
    ("RequestAllocation", &[Role::Customer, Role::Operator]),
    ("GetAllocation", &[Role::Customer, Role::Driver, Role::Operator]),
    ("ListAllocations", &[Role::Customer, Role::Operator]),
    ("CancelAllocation", &[Role::Customer]),
    ("WatchAllocation", &[Role::Customer, Role::Driver, Role::Operator]),
]);

/// How long a cancel waits for driving's decision, at most.
const CANCEL_PATIENCE: Duration = Duration::from_secs(3);
/// What it keeps of the caller's time to answer in.
const ANSWER_TIME: Duration = Duration::from_millis(100);

pub(crate) fn routes(allocations: Arc<Allocations>, clock: Arc<dyn Clock>) -> Routes {
    let service = AllocationServiceServer::new(Grpc { allocations, clock })
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    Routes::new(crate::NAME).service(service, ACCESS)
}

pub(crate) struct Grpc {
    pub(crate) allocations: Arc<Allocations>,
    pub(crate) clock: Arc<dyn Clock>,
}

#[tonic::async_trait]
impl AllocationService for Grpc {
    async fn request_allocation(
        &self,
        request: Request<wire::RequestAllocationRequest>,
    ) -> Result<Response<wire::Allocation>, Status> {
        let call = Call::of(&request)?;
        let mut body = request.into_inner();
        let request_id = std::mem::take(&mut body.request_id);
        let cause =
            call.cause("RequestAllocation", &request_id, &body, &*self.clock).map_err(status)?;
        let wish = parse_wish(&call, body.allocation.unwrap_or_default()).map_err(status)?;
        self.allocations.request(&cause, wish).await.map(answer).map_err(status)
    }

    async fn get_allocation(
        &self,
        request: Request<wire::GetAllocationRequest>,
    ) -> Result<Response<wire::Allocation>, Status> {
        let call = Call::of(&request)?;
        let id = request.get_ref().name.parse::<AllocationId>().map_err(status)?;
        self.allocations.get(&call.actor, id).await.map(answer).map_err(status)
    }

    async fn list_allocations(
        &self,
        request: Request<wire::ListAllocationsRequest>,
    ) -> Result<Response<wire::ListAllocationsResponse>, Status> {
        let call = Call::of(&request)?;
        let body = request.into_inner();
        let query = format!("{:?} {:?}", call.actor, body.states);
        let page = page_request(body.page_size, &body.page_token, &query).map_err(status)?;
        let states = body.states.into_iter().map(parse_state).collect::<Result<_, _>>();
        let filter = Filter { states: states.map_err(status)?, ..Filter::default() };
        let page = self.allocations.list(&call.actor, &filter, &page).await.map_err(status)?;
        Ok(Response::new(wire::ListAllocationsResponse {
            allocations: page.items.iter().map(allocation).collect(),
            next_page_token: next_page_token(page.next, &query),
        }))
    }

    async fn cancel_allocation(
        &self,
        request: Request<wire::CancelAllocationRequest>,
    ) -> Result<Response<wire::Allocation>, Status> {
        let call = Call::of(&request)?;
        let mut body = request.into_inner();
        let request_id = std::mem::take(&mut body.request_id);
        let cause =
            call.cause("CancelAllocation", &request_id, &body, &*self.clock).map_err(status)?;
        let id = body.name.parse::<AllocationId>().map_err(status)?;
        let etag = (!body.etag.is_empty()).then_some(body.etag);
        let patience = call.remaining().map_or(CANCEL_PATIENCE, |remaining| {
            remaining.saturating_sub(ANSWER_TIME).min(CANCEL_PATIENCE)
        });
        self.allocations
            .cancel(&cause, id, body.reason, etag, patience)
            .await
            .map(answer)
            .map_err(status)
    }

    type WatchAllocationStream = BoxStream<'static, Result<wire::WatchAllocationResponse, Status>>;

    async fn watch_allocation(
        &self,
        request: Request<wire::WatchAllocationRequest>,
    ) -> Result<Response<Self::WatchAllocationStream>, Status> {
        let call = Call::of(&request)?;
        let body = request.into_inner();
        let id = body.name.parse::<AllocationId>().map_err(status)?;
        let after = resumed_after(&body.name, &body.resume_token).map_err(status)?;
        // An unknown name is the call's own error, not the stream's first.
        let present = self.allocations.get(&call.actor, id).await.map_err(status)?;
        // Who has seen the end already gets nothing but the end of the stream.
        let over = present.state.is_final() && present.revision <= after;
        let watch = (!over).then(|| self.allocations.watch(&call.actor, id, after));
        let changes = futures::stream::unfold(watch, |watch| async move {
            let mut watch = watch?;
            let change = watch.next().await;
            let ends = change.as_ref().map_or(true, |change| change.state.is_final());
            Some((change, (!ends).then_some(watch)))
        });
        Ok(Response::new(changes.map(watch_response).boxed()))
    }
}

fn watch_response(
    change: Result<Recorded<Allocation>, Failure>,
) -> Result<wire::WatchAllocationResponse, Status> {
    let change = change.map_err(status)?;
    Ok(wire::WatchAllocationResponse {
        resume_token: resume_token(&change.id.to_string(), change.revision),
        allocation: Some(allocation(&change)),
    })
}

/// Whose ride it is: a customer asks for themselves, an operator for somebody.
fn parse_wish(call: &Call, allocation: wire::Allocation) -> Result<Wish, Rejection> {
    let customer = match &call.actor {
        Actor { role: Role::Operator, .. } => {
            let parsed = allocation.customer.parse::<CustomerId>();
            parsed.map_err(|no| Rejection { field: Some("allocation.customer".into()), ..no })?
        }
        actor => CustomerId::from_subject(&actor.subject),
    };
    if !allocation.customer.is_empty() && allocation.customer != customer.to_string() {
        let message = "only an operator may ask for somebody else";
        return Err(Rejection::denied("CUSTOMER_NOT_ALLOWED", message));
    }
    let place = |field: &str, place: &proto::r#type::v1::Place| {
        words::parse_place(&format!("allocation.{field}"), place)
    };
    Ok(Wish {
        customer,
        pickup: allocation.pickup.as_ref().map(|at| place("pickup", at)).transpose()?,
        destination: place("destination", &allocation.destination.unwrap_or_default())?,
        language: spoken(&call.languages),
    })
}

/// The first of the caller's languages that we speak.
fn spoken(accepted: &[String]) -> Language {
    let ours = accepted.iter().find_map(|tag| match tag.as_str() {
        "ko" => Some(Language::Ko),
        "en" => Some(Language::En),
        _ => None,
    });
    ours.unwrap_or_default()
}

fn answer(recorded: Recorded<Allocation>) -> Response<wire::Allocation> {
    let token = consistency_token(Allocation::KIND, recorded.id.0, recorded.version);
    reply(allocation(&recorded), &token)
}

fn allocation(recorded: &Recorded<Allocation>) -> wire::Allocation {
    let this = &recorded.aggregate;
    wire::Allocation {
        name: this.id.to_string(),
        customer: this.customer.to_string(),
        pickup: this.pickup.as_ref().map(words::place),
        destination: Some(words::place(&this.destination)),
        state: state(this.state).into(),
        driving: this.driving.map(|driving| driving.to_string()).unwrap_or_default(),
        driver: this.driver.as_ref().map(ToString::to_string).unwrap_or_default(),
        cancel_reason: this.cancel_reason.clone(),
        create_time: Some(words::time(recorded.create_time)),
        update_time: Some(words::time(recorded.update_time)),
        etag: recorded.etag(),
    }
}

fn state(state: State) -> WireState {
    match state {
        State::Requested => WireState::Requested,
        State::Approved => WireState::Approved,
        State::DrivingStarted => WireState::DrivingStarted,
        State::DrivingFinished => WireState::DrivingFinished,
        State::Cancelling => WireState::Cancelling,
        State::Cancelled => WireState::Cancelled,
        State::Expired => WireState::Expired,
    }
}

fn parse_state(number: i32) -> Result<State, Rejection> {
    Ok(match WireState::try_from(number).unwrap_or_default() {
        WireState::Requested => State::Requested,
        WireState::Approved => State::Approved,
        WireState::DrivingStarted => State::DrivingStarted,
        WireState::DrivingFinished => State::DrivingFinished,
        WireState::Cancelling => State::Cancelling,
        WireState::Cancelled => State::Cancelled,
        WireState::Expired => State::Expired,
        WireState::Unspecified => {
            let message = "must be one of the states of an allocation";
            return Err(Rejection::invalid("states", "INVALID_STATE", message));
        }
    })
}
