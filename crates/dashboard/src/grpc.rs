//! The service as callers see it: proto in, query, proto out.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use kernel::{AllocationId, DrivingId, Money, PaymentId, Rejection, Role, Timestamp, Uuid};
use platform::auth::Access;
use platform::call::Call;
use platform::page::{decode_token, encode_token, next_page_token, page_request};
use platform::projection::AsOf;
use platform::status::status;
use prost::Message;
use proto::allocation::v1::allocation::State as Allocation;
use proto::dashboard::v1::dashboard_service_server::DashboardService;
use proto::dashboard::v1::{
    self as wire, GetDrivingInfoRequest, GetSummaryRequest, GetSummaryResponse,
    ListDrivingInfosRequest, ListDrivingInfosResponse, StateCount, TimelineEntry,
    WatchDrivingInfosRequest, WatchDrivingInfosResponse,
};
use proto::driving::v1::driving::State as Driving;
use proto::google::r#type::LatLng;
use proto::payment::v1::payment::State as Payment;
use proto::r#type::v1::Place as WirePlace;
use proto::words::{money, parse_time, time};
use tonic::{Request, Response, Status};

use crate::entity::{Entry, Place};
use crate::query::{Filter, Group, Queries, Seen, Summary};
use crate::view::DrivingInfo;

/// Who may call what. A role that stands first goes first.
pub(crate) const ACCESS: Access = Access(&[
    ("GetDrivingInfo", ANYBODY),
    ("ListDrivingInfos", ANYBODY),
    ("WatchDrivingInfos", ANYBODY),
    ("GetSummary", &[Role::Operator]),
]);

const ANYBODY: &[Role] = &[Role::Operator, Role::Driver, Role::Customer];

/// The inbound adapter.
pub(crate) struct Dashboard {
    queries: Queries,
}

impl Dashboard {
    pub(crate) fn new(queries: Queries) -> Dashboard {
        Dashboard { queries }
    }

    /// How fresh the view is, as an answer says it.
    fn wire_as_of(&self, as_of: AsOf) -> wire::AsOf {
        wire_as_of(&as_of, self.queries.clock.now())
    }
}

#[tonic::async_trait]
impl DashboardService for Dashboard {
    type WatchDrivingInfosStream = BoxStream<'static, Result<WatchDrivingInfosResponse, Status>>;

    async fn get_driving_info(
        &self,
        request: Request<GetDrivingInfoRequest>,
    ) -> Result<Response<wire::DrivingInfo>, Status> {
        let call = Call::of(&request)?;
        let GetDrivingInfoRequest { name, consistency_token } = request.into_inner();
        let id = parse_name(&name).map_err(status)?;
        self.queries
            .reach(&consistency_token, call.remaining().unwrap_or_default())
            .await
            .map_err(status)?;
        let as_of = self.queries.as_of().await.map_err(status)?;
        let ride = self.queries.get(&call.actor, id).await.map_err(status)?;
        Ok(Response::new(wire_driving_info(ride, self.wire_as_of(as_of))))
    }

    async fn list_driving_infos(
        &self,
        request: Request<ListDrivingInfosRequest>,
    ) -> Result<Response<ListDrivingInfosResponse>, Status> {
        let call = Call::of(&request)?;
        let request = request.into_inner();
        let filter = list_filter(&request).map_err(status)?;
        let query = list_query(&request);
        let page = page_request(request.page_size, &request.page_token, &query).map_err(status)?;
        self.queries
            .reach(&request.consistency_token, call.remaining().unwrap_or_default())
            .await
            .map_err(status)?;
        let as_of = self.queries.as_of().await.map_err(status)?;
        let page = self.queries.list(&call.actor, &filter, &page).await.map_err(status)?;
        let as_of = self.wire_as_of(as_of);
        let rides = page.items.into_iter().map(|ride| wire_driving_info(ride, as_of));
        Ok(Response::new(ListDrivingInfosResponse {
            driving_infos: rides.collect(),
            next_page_token: next_page_token(page.next, &query),
            as_of: Some(as_of),
        }))
    }

    async fn watch_driving_infos(
        &self,
        request: Request<WatchDrivingInfosRequest>,
    ) -> Result<Response<Self::WatchDrivingInfosStream>, Status> {
        let call = Call::of(&request)?;
        let request = request.into_inner();
        let filter = watch_filter(&request).map_err(status)?;
        let tokens = watch_tokens(&request);
        let after = parse_resume_token(&tokens, &request.resume_token).map_err(status)?;
        let watch = self.queries.watch(&call.actor, &filter, after).await.map_err(status)?;
        let changes = futures::stream::try_unfold(watch, |mut watch| async move {
            let change = watch.next().await.map_err(status)?;
            Ok::<_, Status>(Some((change, watch)))
        });
        let clock = self.queries.clock.clone();
        let answers = changes.map_ok(move |(ride, as_of, seen)| {
            let resume_token = encode_token(&tokens, &seen.to_string());
            let as_of = wire_as_of(&as_of, clock.now());
            let driving_info = Some(wire_driving_info(ride, as_of));
            WatchDrivingInfosResponse { driving_info, resume_token, as_of: Some(as_of) }
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn get_summary(
        &self,
        request: Request<GetSummaryRequest>,
    ) -> Result<Response<GetSummaryResponse>, Status> {
        let call = Call::of(&request)?;
        let token = request.into_inner().consistency_token;
        self.queries.reach(&token, call.remaining().unwrap_or_default()).await.map_err(status)?;
        let as_of = self.queries.as_of().await.map_err(status)?;
        let summary = self.queries.summary().await.map_err(status)?;
        Ok(Response::new(wire_summary(&summary, self.wire_as_of(as_of))))
    }
}

fn parse_name(name: &str) -> Result<Uuid, Rejection> {
    name.strip_prefix("drivingInfos/")
        .filter(|id| id.len() == 36)
        .and_then(|id| Uuid::try_parse(id).ok())
        .ok_or_else(|| Rejection::invalid("name", "INVALID_NAME", "must be drivingInfos/{uuid}"))
}

/// Parses an optional resource name; empty means not set.
fn parse_optional<T: FromStr<Err = Rejection>>(
    field: &str,
    name: &str,
) -> Result<Option<T>, Rejection> {
    if name.is_empty() {
        return Ok(None);
    }
    let parsed = name.parse();
    parsed.map(Some).map_err(|refused| Rejection { field: Some(field.to_owned()), ..refused })
}

fn parse_state(state: i32) -> Result<Allocation, Rejection> {
    Allocation::try_from(state).ok().filter(|state| *state != Allocation::Unspecified).ok_or_else(
        || Rejection::invalid("states", "INVALID_STATE", "must be states of an allocation"),
    )
}

fn list_filter(request: &ListDrivingInfosRequest) -> Result<Filter, Rejection> {
    Ok(Filter {
        states: request.states.iter().copied().map(parse_state).collect::<Result<_, _>>()?,
        customer: parse_optional("customer", &request.customer)?,
        driver: parse_optional("driver", &request.driver)?,
        from: request.start_time.as_ref().map(parse_time),
        until: request.end_time.as_ref().map(parse_time),
    })
}

/// What decides which rides a list contains: what its page tokens are bound to.
fn list_query(request: &ListDrivingInfosRequest) -> String {
    hex(&ListDrivingInfosRequest {
        page_size: 0,
        page_token: String::new(),
        consistency_token: String::new(),
        ..request.clone()
    })
}

fn watch_filter(request: &WatchDrivingInfosRequest) -> Result<Filter, Rejection> {
    Ok(Filter {
        customer: parse_optional("customer", &request.customer)?,
        driver: parse_optional("driver", &request.driver)?,
        ..Filter::default()
    })
}

/// The kind of resume token that belongs to this watch and to no other.
fn watch_tokens(request: &WatchDrivingInfosRequest) -> String {
    let query = WatchDrivingInfosRequest { resume_token: String::new(), ..request.clone() };
    format!("watch of {}", hex(&query))
}

/// How far the watch had come that handed out this resume token.
fn parse_resume_token(tokens: &str, token: &str) -> Result<Option<Seen>, Rejection> {
    if token.is_empty() {
        return Ok(None);
    }
    let seen = decode_token(tokens, token).and_then(|seen| Seen::parse(&seen));
    seen.map(Some).ok_or_else(|| {
        let message = "must be the resume_token of the same watch, unchanged";
        Rejection::invalid("resume_token", "INVALID_RESUME_TOKEN", message)
    })
}

fn hex(message: &impl Message) -> String {
    message.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A view that was never complete has no age: nobody knows what it lacks.
fn wire_as_of(as_of: &AsOf, now: Timestamp) -> wire::AsOf {
    let was_complete = as_of.complete_at > Timestamp::default();
    let age = was_complete.then(|| now.since(as_of.complete_at));
    wire::AsOf { sequence: as_of.sequence(), age: age.and_then(|age| age.try_into().ok()) }
}

fn wire_driving_info(ride: DrivingInfo, as_of: wire::AsOf) -> wire::DrivingInfo {
    let micros = |micros| time(Timestamp::from_micros(micros));
    wire::DrivingInfo {
        name: format!("drivingInfos/{}", ride.id),
        allocation: AllocationId(ride.id).to_string(),
        customer: ride.customer,
        pickup: ride.pickup.map(wire_place),
        destination: ride.destination.map(wire_place),
        alloc_status: ride.alloc_status,
        driving: name(ride.driving.map(DrivingId)),
        driver: ride.driver,
        driving_status: ride.driving_status,
        start_time: ride.start_time.map(micros),
        finish_time: ride.finish_time.map(micros),
        fee: ride.fee.map(|fee| money(Money::won(fee))),
        payment: name(ride.payment.map(PaymentId)),
        payment_status: ride.payment_status,
        cancel_reason: ride.cancel_reason,
        timeline: ride.timeline.0.into_iter().map(wire_entry).collect(),
        create_time: Some(micros(ride.create_time)),
        update_time: Some(micros(ride.update_time)),
        as_of: Some(as_of),
    }
}

/// A resource name; empty while there is no such resource.
fn name(id: Option<impl Display>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}

fn wire_place(place: Place) -> WirePlace {
    let location = place.location;
    WirePlace {
        address: place.address,
        location: location.map(|at| LatLng { latitude: at.latitude, longitude: at.longitude }),
    }
}

fn wire_entry(entry: Entry) -> TimelineEntry {
    let at = time(Timestamp::from_micros(entry.time));
    TimelineEntry { event: entry.event, time: Some(at), id: entry.id }
}

fn wire_summary(summary: &Summary, as_of: wire::AsOf) -> GetSummaryResponse {
    let Summary { groups, stuck } = summary;
    GetSummaryResponse {
        alloc_states: counts(groups, |group| group.alloc_status, Allocation::as_str_name),
        driving_states: counts(groups, |group| group.driving_status, Driving::as_str_name),
        payment_states: counts(groups, |group| group.payment_status, Payment::as_str_name),
        fees_taken: Some(money(summary.fees_taken())),
        fees_outstanding: Some(money(summary.fees_outstanding())),
        stuck: i64::try_from(*stuck).unwrap_or(i64::MAX),
        as_of: Some(as_of),
    }
}

/// How many rides are in each state; those of which nothing has been told are in none.
fn counts<S: TryFrom<i32>>(
    groups: &[Group],
    state_of: fn(&Group) -> i32,
    name_of: fn(&S) -> &'static str,
) -> Vec<StateCount> {
    let mut counts = BTreeMap::<i32, i64>::new();
    for group in groups.iter().filter(|group| state_of(group) != 0) {
        *counts.entry(state_of(group)).or_default() += group.rides;
    }
    let named = counts.into_iter().filter_map(|(state, count)| {
        let state = S::try_from(state).ok()?;
        Some(StateCount { state: name_of(&state).to_owned(), count })
    });
    named.collect()
}
