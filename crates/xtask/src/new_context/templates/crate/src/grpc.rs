//! The inbound adapter for gRPC.

use std::sync::Arc;

use kernel::{Aggregate, Clock, CustomerId, Recorded, Rejection, Role};
use platform::auth::Access;
use platform::call::{Call, consistency_token, reply};
use platform::page::{next_page_token, page_request};
use platform::server::{MAX_MESSAGE_BYTES, Routes};
use platform::status::status;
use proto::__name__::v1 as wire;
use proto::words;
use tonic::{Request, Response, Status};
use wire::__name___service_server::{__Name__Service, __Name__ServiceServer};

use crate::app::__Names__;
use crate::domain::{Draft, __Name__, __Name__Id};

const ACCESS: Access = Access(&[
    ("Create__Name__", &[Role::Customer]),
    ("Get__Name__", &[Role::Customer, Role::Operator]),
    ("List__Names__", &[Role::Customer, Role::Operator]),
]);

pub(crate) fn routes(__names__: Arc<__Names__>, clock: Arc<dyn Clock>) -> Routes {
    let service = __Name__ServiceServer::new(Grpc { __names__, clock })
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    Routes::new(crate::NAME).service(service, ACCESS)
}

pub(crate) struct Grpc {
    pub(crate) __names__: Arc<__Names__>,
    pub(crate) clock: Arc<dyn Clock>,
}

#[tonic::async_trait]
impl __Name__Service for Grpc {
    async fn create___name__(
        &self,
        request: Request<wire::Create__Name__Request>,
    ) -> Result<Response<wire::__Name__>, Status> {
        let call = Call::of(&request)?;
        let mut body = request.into_inner();
        let request_id = std::mem::take(&mut body.request_id);
        let cause = call.cause("Create__Name__", &request_id, &body, &*self.clock).map_err(status)?;
        let draft = parse_draft(&call, body.__name__.unwrap_or_default()).map_err(status)?;
        self.__names__.create(&cause, draft).await.map(answer).map_err(status)
    }

    async fn get___name__(
        &self,
        request: Request<wire::Get__Name__Request>,
    ) -> Result<Response<wire::__Name__>, Status> {
        let call = Call::of(&request)?;
        let id = request.get_ref().name.parse::<__Name__Id>().map_err(status)?;
        self.__names__.get(&call.actor, id).await.map(answer).map_err(status)
    }

    async fn list___names__(
        &self,
        request: Request<wire::List__Names__Request>,
    ) -> Result<Response<wire::List__Names__Response>, Status> {
        let call = Call::of(&request)?;
        let body = request.into_inner();
        let query = format!("{:?}", call.actor);
        let page = page_request(body.page_size, &body.page_token, &query).map_err(status)?;
        let page = self.__names__.list(&call.actor, &page).await.map_err(status)?;
        Ok(Response::new(wire::List__Names__Response {
            __names__: page.items.iter().map(__name__).collect(),
            next_page_token: next_page_token(page.next, &query),
        }))
    }
}

/// Customers write their own.
fn parse_draft(call: &Call, __name__: wire::__Name__) -> Result<Draft, Rejection> {
    let allocation = Some(__name__.allocation).filter(|name| !name.is_empty());
    let allocation = allocation.map(|name| name.parse()).transpose();
    let at_fault = |no| Rejection { field: Some("__name__.allocation".into()), ..no };
    Ok(Draft {
        customer: CustomerId::from_subject(&call.actor.subject),
        allocation: allocation.map_err(at_fault)?,
        note: __name__.note,
    })
}

fn answer(recorded: Recorded<__Name__>) -> Response<wire::__Name__> {
    let token = consistency_token(__Name__::KIND, recorded.id.0, recorded.version);
    reply(__name__(&recorded), &token)
}

fn __name__(recorded: &Recorded<__Name__>) -> wire::__Name__ {
    let this = &recorded.aggregate;
    wire::__Name__ {
        name: this.id.to_string(),
        customer: this.customer.to_string(),
        allocation: this.allocation.map(|it| it.to_string()).unwrap_or_default(),
        note: this.note.clone(),
        create_time: Some(words::time(recorded.create_time)),
    }
}
