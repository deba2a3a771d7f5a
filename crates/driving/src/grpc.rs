//! The inbound adapter for gRPC.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kernel::{Actor, Aggregate, Clock, DrivingId, Failure, Recorded, Rejection, Role};
use platform::auth::Access;
use platform::call::{Call, consistency_token, reply};
use platform::page::{encode_token, next_page_token, page_request, resume_payload};
use platform::server::{MAX_MESSAGE_BYTES, Routes};
use platform::status::status;
use proto::driving::v1 as wire;
use proto::google::r#type::LatLng;
use proto::words;
use tonic::{Request, Response, Status};
use wire::driving::State as WireState;
use wire::driving_service_server::{DrivingService, DrivingServiceServer};
use wire::watch_open_drivings_response::Change as WireChange;

use crate::app::Drivings;
use crate::domain::{Driving, Filter, State};
use crate::events;
use crate::near::{Near, invalid_radius};
use crate::nearest::{NearestRequest, Spot};
use crate::open::Change;
use crate::ports::Payments;

const ACCESS: Access = Access(&[
    ("ListDrivings", &[Role::Driver, Role::Operator]),
    ("GetDriving", &[Role::Customer, Role::Driver, Role::Operator]),
    ("AcceptDriving", &[Role::Driver]),
    ("DeclineDriving", &[Role::Driver]),
    ("StartDriving", &[Role::Driver]),
    ("FinishDriving", &[Role::Driver]),
    ("WatchOpenDrivings", &[Role::Driver]),
]);

/// What a finish keeps of the caller's time to answer in.
const ANSWER_TIME: Duration = Duration::from_millis(100);

pub(crate) fn routes<P: Payments>(drivings: Arc<Drivings<P>>, clock: Arc<dyn Clock>) -> Routes {
    let service = DrivingServiceServer::new(Grpc { drivings, clock })
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    Routes::new(crate::NAME).service(service, ACCESS)
}

pub(crate) struct Grpc<P> {
    pub(crate) drivings: Arc<Drivings<P>>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Which part of a list is asked for: size, token, and the query it is a part of.
type Part<'a> = (i32, &'a str, &'a str);
/// One part of a list, and the token of the next.
type Listed = Result<(Vec<Recorded<Driving>>, String), Failure>;

impl<P: Payments> Grpc<P> {
    async fn newest(&self, actor: &Actor, filter: &Filter, part: Part<'_>) -> Listed {
        let (size, token, query) = part;
        let page = page_request(size, token, query)?;
        let found = self.drivings.list(actor, filter, &page).await?;
        Ok((found.items, next_page_token(found.next, query)))
    }

    async fn nearest(&self, actor: &Actor, filter: &Filter, near: Near, part: Part<'_>) -> Listed {
        let (size, token, query) = part;
        let size = page_request(size, "", query)?.size as usize;
        let request = NearestRequest { near, size, after: Spot::parse(token, query)? };
        let found = self.drivings.list_nearest(actor, filter, &request).await?;
        Ok((found.items, found.next.map(|next| next.token(query)).unwrap_or_default()))
    }
}

#[tonic::async_trait]
impl<P: Payments> DrivingService for Grpc<P> {
    async fn list_drivings(
        &self,
        request: Request<wire::ListDrivingsRequest>,
    ) -> Result<Response<wire::ListDrivingsResponse>, Status> {
        let call = Call::of(&request)?;
        let body = request.into_inner();
        let query =
            format!("{:?} {:?} {:?} {}", call.actor, body.states, body.near, body.radius_meters);
        let near = parse_near(body.near, body.radius_meters).map_err(status)?;
        let states = body.states.into_iter().map(parse_state).collect::<Result<_, _>>();
        let filter = Filter {
            states: states.map_err(status)?,
            // What was cancelled has left every driver's list.
            without_cancelled: call.actor.role == Role::Driver,
            ..Filter::default()
        };
        let part = (body.page_size, body.page_token.as_str(), query.as_str());
        let listed = match near {
            Some(near) => self.nearest(&call.actor, &filter, near, part).await,
            None => self.newest(&call.actor, &filter, part).await,
        };
        let (items, next_page_token) = listed.map_err(status)?;
        let drivings = items.iter().map(driving).collect();
        Ok(Response::new(wire::ListDrivingsResponse { drivings, next_page_token }))
    }

    async fn get_driving(
        &self,
        request: Request<wire::GetDrivingRequest>,
    ) -> Result<Response<wire::Driving>, Status> {
        let call = Call::of(&request)?;
        let id = request.get_ref().name.parse::<DrivingId>().map_err(status)?;
        self.drivings.get(&call.actor, id).await.map(answer).map_err(status)
    }

    async fn accept_driving(
        &self,
        request: Request<wire::AcceptDrivingRequest>,
    ) -> Result<Response<wire::Driving>, Status> {
        let call = Call::of(&request)?;
        let mut body = request.into_inner();
        let request_id = std::mem::take(&mut body.request_id);
        let cause =
            call.cause("AcceptDriving", &request_id, &body, &*self.clock).map_err(status)?;
        let id = body.name.parse::<DrivingId>().map_err(status)?;
        self.drivings.accept(&cause, id, etag(body.etag)).await.map(answer).map_err(status)
    }

    async fn decline_driving(
        &self,
        request: Request<wire::DeclineDrivingRequest>,
    ) -> Result<Response<wire::Driving>, Status> {
        let call = Call::of(&request)?;
        let mut body = request.into_inner();
        let request_id = std::mem::take(&mut body.request_id);
        let cause =
            call.cause("DeclineDriving", &request_id, &body, &*self.clock).map_err(status)?;
        let id = body.name.parse::<DrivingId>().map_err(status)?;
        self.drivings
            .decline(&cause, id, body.reason, etag(body.etag))
            .await
            .map(answer)
            .map_err(status)
    }

    async fn start_driving(
        &self,
        request: Request<wire::StartDrivingRequest>,
    ) -> Result<Response<wire::Driving>, Status> {
        let call = Call::of(&request)?;
        let mut body = request.into_inner();
        let request_id = std::mem::take(&mut body.request_id);
        let cause = call.cause("StartDriving", &request_id, &body, &*self.clock).map_err(status)?;
        let id = body.name.parse::<DrivingId>().map_err(status)?;
        self.drivings.start(&cause, id, etag(body.etag)).await.map(answer).map_err(status)
    }

    async fn finish_driving(
        &self,
        request: Request<wire::FinishDrivingRequest>,
    ) -> Result<Response<wire::Driving>, Status> {
        let call = Call::of(&request)?;
        let mut body = request.into_inner();
        let request_id = std::mem::take(&mut body.request_id);
        let cause =
            call.cause("FinishDriving", &request_id, &body, &*self.clock).map_err(status)?;
        let id = body.name.parse::<DrivingId>().map_err(status)?;
        let patience = call
            .remaining()
            .map_or(Duration::MAX, |remaining| remaining.saturating_sub(ANSWER_TIME));
        self.drivings
            .finish(&cause, id, etag(body.etag), patience)
            .await
            .map(answer)
            .map_err(status)
    }

    type WatchOpenDrivingsStream =
        BoxStream<'static, Result<wire::WatchOpenDrivingsResponse, Status>>;

    /// A stream that goes on behind a `resume_token` begins with the present list, like any other:
    /// what is open then replaces what the caller knew before.
    async fn watch_open_drivings(
        &self,
        request: Request<wire::WatchOpenDrivingsRequest>,
    ) -> Result<Response<Self::WatchOpenDrivingsStream>, Status> {
        let call = Call::of(&request)?;
        let body = request.into_inner();
        let kind = format!("open to {:?} {:?} {}", call.actor, body.near, body.radius_meters);
        let near = parse_near(body.near, body.radius_meters).map_err(status)?;
        resume_payload(&kind, &body.resume_token).map_err(status)?;
        let open = self.drivings.watch_open(&call.actor, near);
        let changes = futures::stream::unfold(Some(open), |open| async move {
            let mut open = open?;
            let change = open.next().await;
            let goes_on = change.is_ok();
            Some((change, goes_on.then_some(open)))
        });
        Ok(Response::new(changes.map(move |change| watch_response(change, &kind)).boxed()))
    }
}

fn watch_response(
    change: Result<Change, Failure>,
    kind: &str,
) -> Result<wire::WatchOpenDrivingsResponse, Status> {
    let (driving, change) = match change.map_err(status)? {
        Change::Opened(opened) => (driving(&opened), WireChange::Opened),
        Change::Closed(id, state) => {
            let state = events::state(state).into();
            let closed = wire::Driving { name: id.to_string(), state, ..Default::default() };
            (closed, WireChange::Closed)
        }
    };
    Ok(wire::WatchOpenDrivingsResponse {
        resume_token: encode_token(kind, &driving.name),
        driving: Some(driving),
        change: change.into(),
    })
}

fn etag(etag: String) -> Option<String> {
    (!etag.is_empty()).then_some(etag)
}

fn parse_near(near: Option<LatLng>, radius_meters: f64) -> Result<Option<Near>, Rejection> {
    match near {
        Some(near) => Near::parse(words::parse_location("near", &near)?, radius_meters).map(Some),
        None if radius_meters == 0.0 => Ok(None),
        None => Err(invalid_radius("makes sense only together with near")),
    }
}

fn answer(recorded: Recorded<Driving>) -> Response<wire::Driving> {
    let token = consistency_token(Driving::KIND, recorded.id.0, recorded.version);
    reply(driving(&recorded), &token)
}

fn driving(recorded: &Recorded<Driving>) -> wire::Driving {
    let this = &recorded.aggregate;
    wire::Driving {
        name: this.id.to_string(),
        allocation: this.allocation.to_string(),
        customer: this.customer.to_string(),
        driver: this.driver.as_ref().map(ToString::to_string).unwrap_or_default(),
        pickup: this.pickup.as_ref().map(words::place),
        destination: Some(words::place(&this.destination)),
        state: events::state(this.state).into(),
        fare: this.fare.as_ref().map(|fare| words::money(fare.amount)),
        payment: this.payment.map(|payment| payment.to_string()).unwrap_or_default(),
        payment_state: events::payment_state(this.payment_state).into(),
        start_time: this.start_time.map(words::time),
        finish_time: this.finish_time.map(words::time),
        create_time: Some(words::time(recorded.create_time)),
        update_time: Some(words::time(recorded.update_time)),
        etag: recorded.etag(),
        fare_explanation: this.fare.as_ref().map(events::explanation),
        cancel_reason: this.cancel_reason.clone(),
    }
}

fn parse_state(number: i32) -> Result<State, Rejection> {
    Ok(match WireState::try_from(number).unwrap_or_default() {
        WireState::Requested => State::Requested,
        WireState::Approved => State::Approved,
        WireState::Started => State::Started,
        WireState::Finished => State::Finished,
        WireState::Cancelled => State::Cancelled,
        WireState::Unspecified => {
            let message = "must be one of the states of a driving";
            return Err(Rejection::invalid("states", "INVALID_STATE", message));
        }
    })
}
