//! The inbound adapter for gRPC: customers read and follow what they have been told.

use std::future::ready;

use futures::StreamExt;
use futures::stream::{BoxStream, once};
use kernel::{Actor, CustomerId, Failure, Rejection, Role, Uuid};
use platform::auth::Access;
use platform::call::Call;
use platform::page::{
    encode_token, invalid_resume_token, next_page_token, page_request, resume_payload,
};
use platform::server::{MAX_MESSAGE_BYTES, Routes};
use platform::shutdown::Shutdown;
use platform::status::status;
use proto::message::v1::message_service_server::{MessageService, MessageServiceServer};
use proto::message::v1::{
    GetMessageRequest, ListMessagesRequest, ListMessagesResponse, Message, WatchMessagesRequest,
    WatchMessagesResponse,
};
use tonic::{Request, Response, Status};

use crate::inbox::{Inbox, Revised};

const ACCESS: Access = Access(&[
    ("ListMessages", &[Role::Customer, Role::Operator]),
    ("GetMessage", &[Role::Customer, Role::Operator]),
    ("WatchMessages", &[Role::Customer, Role::Operator]),
]);

/// The context's service.
pub(crate) fn routes(inbox: Inbox, tasks: Shutdown) -> Routes {
    let service = MessageServiceServer::new(Grpc { inbox, tasks })
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    Routes::new(crate::NAME).service(service, ACCESS)
}

struct Grpc {
    inbox: Inbox,
    tasks: Shutdown,
}

#[tonic::async_trait]
impl MessageService for Grpc {
    async fn list_messages(
        &self,
        request: Request<ListMessagesRequest>,
    ) -> Result<Response<ListMessagesResponse>, Status> {
        let actor = Call::of(&request)?.actor;
        let body = request.into_inner();
        let customer = visible(&actor, &body.parent).map_err(status)?;
        let page = page_request(body.page_size, &body.page_token, &body.parent).map_err(status)?;
        let page = self.inbox.list(&customer, &page).await.map_err(status)?;
        let next_page_token = next_page_token(page.next, &body.parent);
        Ok(Response::new(ListMessagesResponse { messages: page.items, next_page_token }))
    }

    async fn get_message(
        &self,
        request: Request<GetMessageRequest>,
    ) -> Result<Response<Message>, Status> {
        let actor = Call::of(&request)?.actor;
        let name = request.into_inner().name;
        let id = parse_name(&name).map_err(status)?;
        // Whose a message is stands in its key: what is another's is not found.
        let own = CustomerId::from_subject(actor.subject);
        let of = (actor.role != Role::Operator).then_some(&own);
        let found = self.inbox.get(of, id).await.map_err(status)?;
        let missing = || status(Rejection::not_found("MESSAGE_NOT_FOUND", name));
        found.map(Response::new).ok_or_else(missing)
    }

    type WatchMessagesStream = BoxStream<'static, Result<WatchMessagesResponse, Status>>;

    async fn watch_messages(
        &self,
        request: Request<WatchMessagesRequest>,
    ) -> Result<Response<Self::WatchMessagesStream>, Status> {
        let actor = Call::of(&request)?.actor;
        let WatchMessagesRequest { parent, resume_token } = request.into_inner();
        let customer = visible(&actor, &parent).map_err(status)?;
        let after = resumed_after(&parent, &resume_token).map_err(status)?;
        let messages = self.inbox.watch(&customer, after).await.map_err(status)?;
        let tasks = self.tasks.clone();
        let responses = messages
            .take_until(async move { tasks.cancelled().await })
            .chain(once(ready(Err(elsewhere()))))
            .map(move |message| message.map(|it| response(&parent, it)).map_err(status));
        Ok(Response::new(responses.boxed()))
    }
}

/// The customer with this name, when the caller may see what they were told.
fn visible(actor: &Actor, parent: &str) -> Result<CustomerId, Rejection> {
    let customer: CustomerId =
        parent.parse().map_err(|no| Rejection { field: Some("parent".to_owned()), ..no })?;
    match actor.role {
        Role::Operator => Ok(customer),
        Role::Customer if actor.subject == customer.subject() => Ok(customer),
        _ => Err(Rejection::not_found("CUSTOMER_NOT_FOUND", customer)),
    }
}

/// The id in `messages/{message}`.
fn parse_name(name: &str) -> Result<Uuid, Rejection> {
    name.strip_prefix("messages/")
        .filter(|id| id.len() == 36)
        .and_then(|id| Uuid::try_parse(id).ok())
        .ok_or_else(|| Rejection::invalid("name", "INVALID_NAME", "must be messages/{uuid}"))
}

/// The revision in a resume token; 0 without one.
fn resumed_after(parent: &str, token: &str) -> Result<u64, Rejection> {
    match resume_payload(parent, token)? {
        None => Ok(0),
        Some(revision) => revision.parse().map_err(|_| invalid_resume_token()),
    }
}

fn response(parent: &str, (revision, message): Revised) -> WatchMessagesResponse {
    let resume_token = encode_token(parent, &revision.to_string());
    WatchMessagesResponse { message: Some(message), resume_token }
}

/// How a watch ends: there is more to come, but not from this process.
fn elsewhere() -> Failure {
    let message = "this process is about to stop: go on with the resume_token elsewhere";
    Rejection::unavailable("SHUTTING_DOWN", message).into()
}

#[cfg(test)]
mod tests {
    use platform::page::invalid_resume_token;
    use platform::status::{reason, retry_after};
    use tonic::Code;

    use super::*;
    use crate::testing::Nats;

    const C1: &str = "customers/auth0%7Ca.b%2A%3E";

    fn of<T>(role: Role, subject: &str, body: T) -> Request<T> {
        let mut request = Request::new(body);
        request.extensions_mut().insert(Actor { role, subject: subject.to_owned() });
        request
    }

    fn own<T>(body: T) -> Request<T> {
        of(Role::Customer, "auth0|a.b*>", body)
    }

    fn name(id: u128) -> String {
        format!("messages/{}", Uuid::from_u128(id))
    }

    fn get(id: u128) -> GetMessageRequest {
        GetMessageRequest { name: name(id) }
    }

    fn list(page_size: i32, page_token: &str) -> ListMessagesRequest {
        ListMessagesRequest { parent: C1.to_owned(), page_size, page_token: page_token.to_owned() }
    }

    fn watch(resume_token: &str) -> WatchMessagesRequest {
        WatchMessagesRequest { parent: C1.to_owned(), resume_token: resume_token.to_owned() }
    }

    fn seen<T>(outcome: Result<Response<T>, Status>) -> (Code, String) {
        let status = outcome.err().expect("a refusal");
        (status.code(), reason(&status).expect("always there"))
    }

    async fn grpc(nats: &Nats, messages: u128) -> Grpc {
        let (inbox, customer) = (nats.inbox(), C1.parse().expect("a customer"));
        for id in 1..=messages {
            let message = Message { name: name(id), ..Default::default() };
            inbox.create(&customer, Uuid::from_u128(id), &message).await.expect("stored");
        }
        Grpc { inbox, tasks: Shutdown::new() }
    }

    #[tokio::test]
    async fn a_customer_reads_their_own_and_an_operator_reads_all() {
        let nats = Nats::start().await;
        let grpc = grpc(&nats, 1).await;
        let readers = [own(get(1)), of(Role::Operator, "O1", get(1))];
        for reader in readers {
            assert_eq!(grpc.get_message(reader).await.expect("found").get_ref().name, name(1));
        }
        let missing = (Code::NotFound, "MESSAGE_NOT_FOUND".to_owned());
        assert_eq!(seen(grpc.get_message(of(Role::Customer, "C2", get(1))).await), missing);
        assert_eq!(seen(grpc.get_message(of(Role::Operator, "O1", get(2))).await), missing);
        let malformed = GetMessageRequest { name: "messages/*".to_owned() };
        assert_eq!(seen(grpc.get_message(own(malformed)).await).0, Code::InvalidArgument);

        let listed = grpc.list_messages(of(Role::Operator, "O1", list(0, ""))).await;
        assert_eq!(listed.expect("a list").get_ref().messages.len(), 1);
        let hidden = (Code::NotFound, "CUSTOMER_NOT_FOUND".to_owned());
        assert_eq!(seen(grpc.list_messages(of(Role::Customer, "C2", list(0, ""))).await), hidden);
        assert_eq!(seen(grpc.watch_messages(of(Role::Customer, "C2", watch(""))).await), hidden);
    }

    #[tokio::test]
    async fn a_list_comes_in_pages() {
        let nats = Nats::start().await;
        let grpc = grpc(&nats, 3).await;
        let first = grpc.list_messages(own(list(2, ""))).await.expect("a page").into_inner();
        let names = |page: &ListMessagesResponse| {
            page.messages.iter().map(|message| message.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&first), [name(3), name(2)]);
        let rest = grpc.list_messages(own(list(2, &first.next_page_token))).await;
        let rest = rest.expect("a page").into_inner();
        assert_eq!((names(&rest), rest.next_page_token.as_str()), (vec![name(1)], ""));

        let parent = "customers/C2".to_owned();
        let others = ListMessagesRequest { parent, ..list(2, &first.next_page_token) };
        let refused = seen(grpc.list_messages(of(Role::Operator, "O1", others)).await);
        assert_eq!(refused.0, Code::InvalidArgument);
    }

    #[tokio::test]
    async fn a_watch_goes_on_after_its_token_and_ends_with_the_process() {
        let nats = Nats::start().await;
        let grpc = grpc(&nats, 2).await;
        let mut all = grpc.watch_messages(own(watch(""))).await.expect("a watch").into_inner();
        let first = all.next().await.expect("the oldest").expect("a message");
        assert_eq!(first.message.expect("always there").name, name(1));

        let resumed = grpc.watch_messages(own(watch(&first.resume_token))).await;
        let mut resumed = resumed.expect("a watch").into_inner();
        let next = resumed.next().await.expect("the next").expect("a message");
        assert_eq!(next.message.expect("always there").name, name(2));

        let refused = seen(grpc.watch_messages(own(watch("x"))).await);
        assert_eq!(refused, (Code::InvalidArgument, invalid_resume_token().reason.to_owned()));

        grpc.tasks.trigger();
        let end = resumed.next().await.expect("a farewell").expect_err("not a message");
        assert_eq!(
            (end.code(), reason(&end).as_deref()),
            (Code::Unavailable, Some("SHUTTING_DOWN"))
        );
        assert!(resumed.next().await.is_none());
    }

    #[tokio::test]
    async fn without_the_broker_callers_are_told_to_come_back() {
        let mut nats = Nats::start().await;
        let grpc = grpc(&nats, 0).await;
        nats.stop().await;
        let refused = grpc.list_messages(own(list(0, ""))).await.expect_err("unavailable");
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(retry_after(&refused).is_some());
    }
}
